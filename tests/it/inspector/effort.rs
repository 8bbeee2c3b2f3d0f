//! What the inspector's questions cost a server with very many jobs, groups or queues.

use super::*;
use crate::support::effort::{quick, quick_in_parts};

/// On a server that notes slow commands.
fn watched() -> Harness {
    Harness::on(RedisServer::start(&["--slowlog-log-slower-than", "30000"]), |_| {})
}

#[tokio::test]
async fn no_question_about_a_million_jobs_blocks_redis() {
    let on = watched();
    let inspector = on.inspector();
    on.eval_with_messages("redis.call('SADD', 'asynq:queues', 'default')");
    // Jobs only where the questions look: a million of them take their time.
    for part in 0..10 {
        on.eval_with_messages(&format!(
            "for some = {part} * 100, {part} * 100 + 99 do
                 local ids, scored = {{}}, {{}}
                 for n = some * 1000, some * 1000 + 999 do
                     local id = string.format('%07d', n)
                     ids[#ids + 1] = id
                     scored[#scored + 1] = 5000000000
                     scored[#scored + 1] = id
                     if n < 11000 or n >= 499000 and n < 502000 or n >= 999000 then
                         redis.call('HSET', Q .. 't:' .. id, 'msg', M(id), 'state', 'pending')
                     end
                 end
                 redis.call('LPUSH', Q .. 'pending', unpack(ids))
                 redis.call('ZADD', Q .. 'scheduled', unpack(scored))
             end"
        ));
    }
    let (server, queue) = (&on.server, &on.queue);
    let list = async |state, page: Page| inspector.jobs(queue, state, &page).await.unwrap();
    let hundred = || Page::default().size(100).unwrap();

    for state in [JobState::Pending, JobState::Scheduled] {
        let first = quick(server, "the first page", || list(state, hundred())).await;
        assert_eq!((first.total, first.rows[0].id().as_str()), (1_000_000, "0000000"));
        let last = Page::number(101).unwrap().size(100).unwrap();
        let last = quick(server, "the last numbered page", || list(state, last.clone())).await;
        assert_eq!(last.rows[99].id().as_str(), "0010099");
        let next = Page::after(last.next.unwrap()).size(100).unwrap();
        let next = quick(server, "by cursor", || list(state, next.clone())).await;
        assert_eq!(next.rows[0].id().as_str(), "0010100");
    }
    // Far inside, at the rows of other cursors: at their position, moved away a little,
    // and gone.
    let far = |place: u64, id: &str| {
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let cursor = format!("l~{place}~{}~{}", hex(id), hex("none"));
        Page::after(cursor.parse().unwrap()).size(100).unwrap()
    };
    for (place, id, first) in [
        (500_000, "0500000", "0500001"),
        (500_500, "0500000", "0500001"),
        (499_100, "0500000", "0500001"),
        (500_000, "gone", "0500001"),
        (20_000, "gone", "0000000"),
        (999_998, "0999998", "0999999"),
    ] {
        let page = quick(server, id, || list(JobState::Pending, far(place, id))).await;
        assert_eq!(page.rows[0].id().as_str(), first, "{place} {id}");
    }
    let score = |id: &str| {
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let cursor = format!("z~{}~{}", hex("5000000000"), hex(id));
        Page::after(cursor.parse().unwrap()).size(100).unwrap()
    };
    for (id, first) in [("0500000", "0500001"), ("0500000x", "0500001"), ("0999998", "0999999")] {
        let page = quick(server, id, || list(JobState::Scheduled, score(id))).await;
        assert_eq!(page.rows[0].id().as_str(), first, "{id}");
    }
    let info = quick(server, "sizes", || inspector.queue(queue)).await.unwrap();
    assert_eq!(info.size, 2_000_000);
    let memory = quick(server, "memory", || inspector.memory(queue)).await.unwrap();
    assert!(memory.sampled <= 140 && memory.bytes > 100_000_000, "{memory:?}");
    quick(server, "history", || inspector.history(queue, 90)).await.unwrap();
    let page = hundred();
    let rare = || inspector.jobs_of_type(queue, JobState::Pending, "rare", &page);
    assert!(quick(server, "by type", rare).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn no_question_about_ten_thousand_groups_blocks_redis() {
    let on = watched();
    let inspector = on.inspector();
    on.eval_with_messages(
        "redis.call('SADD', 'asynq:queues', 'default')
         for n = 1, 10000 do
             redis.call('SADD', Q .. 'groups', 'g' .. n)
             redis.call('ZADD', Q .. 'g:g' .. n, 5, 'j' .. n, 6, 'k' .. n)
         end",
    );
    let server = &on.server;

    let info = quick(server, "sizes", || inspector.queue(&on.queue)).await.unwrap();
    assert_eq!((info.groups, info.sizes["aggregating"], info.size), (10_000, 20_000, 20_000));
    quick(server, "memory", || inspector.memory(&on.queue)).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut page = Page::default().size(100).unwrap();
    loop {
        let some = quick(server, "groups", || inspector.groups(&on.queue, &page)).await.unwrap();
        assert_eq!(some.total, 10_000);
        assert!(some.groups.len() <= 200, "{}", some.groups.len());
        seen.extend(some.groups.into_iter().map(|group| (group.group, group.size)));
        let Some(next) = some.next else { break };
        page = Page::after(next).size(100).unwrap();
    }
    assert_eq!(seen.len(), 10_000);
    assert!(seen.iter().all(|(_, size)| *size == 2));
}

#[tokio::test]
async fn of_very_many_groups_some_stand_for_the_others() {
    let on = Harness::start();
    on.eval_with_messages(
        "redis.call('SADD', 'asynq:queues', 'default')
         for n = 1, 40000 do
             redis.call('SADD', Q .. 'groups', 'g' .. n)
             redis.call('ZADD', Q .. 'g:g' .. n, 5, 'j' .. n, 6, 'k' .. n)
         end",
    );
    let info = on.inspector().queue(&on.queue).await.unwrap();
    assert_eq!((info.groups, info.sizes["aggregating"]), (40_000, 80_000));
}

#[tokio::test]
async fn no_question_about_ten_thousand_queues_blocks_redis() {
    let on = watched();
    let inspector = on.inspector();
    on.eval_with_messages(
        "for n = 1, 10000 do
             redis.call('SADD', 'asynq:queues', 'q' .. n)
             redis.call('LPUSH', 'asynq:{q' .. n .. '}:pending', 'ghost')
         end",
    );

    let all = quick_in_parts(&on.server, "all queues", || inspector.all_queues()).await.unwrap();
    assert_eq!(all.len(), 10_000);
    assert!(all.iter().all(|one| one.info.as_ref().is_some_and(|info| info.size == 1)));
    let ghost = JobId::new("ghost").unwrap();
    assert!(
        quick_in_parts(&on.server, "find", || inspector.find(&ghost)).await.unwrap().is_empty()
    );
}
