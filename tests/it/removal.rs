//! What the removal of a queue takes along, and what arrives meanwhile: whole or gone.

use std::time::Duration;

use crate::actions::{open, secs};
use crate::support::harness::START;
use rocket_jobqueue::internals::{Actions, Broker, Inspect, Removal};
use rocket_jobqueue::{Placement, QueueName};
use rstest::rstest;

#[tokio::test]
async fn a_removed_queue_takes_along_what_asynq_leaves_behind_and_nothing_else() {
    let on = open();
    let mut beside = on.job("a");
    beside.record.queue = QueueName::new("default2").unwrap();
    beside.unique_for = Some(secs(600));
    on.put(beside).await;
    on.eval("redis.call('SET', 'asynq:{default', 1) redis.call('SET', 'other:{default}:t:a', 1)");
    on.q("ZADD asynq:servers 5000000000 asynq:servers:{h:1:u}");
    let before = on.keys();
    let mut unique = on.job("u");
    unique.unique_for = Some(secs(600));
    on.put(unique).await;
    on.put(on.grouped("g", "digest")).await;
    on.put(on.grouped("h", "other")).await;
    on.eval(
        "for _, id in ipairs({'orphan', 'completed', 'taken', 'stranded'}) do
             redis.call('HSET', Q .. 't:' .. id, 'msg', M('mail', id), 'state', id)
         end
         redis.call('HSET', Q .. 't:orphan', 'state', 'archived')
         redis.call('ZADD', Q .. 'completed', 5000000000, 'completed')
         redis.call('ZADD', Q .. 'g:digest:9b1d', 1, 'taken')
         redis.call('ZADD', Q .. 'aggregation_sets', 1, Q .. 'g:digest:9b1d')
         redis.call('ZADD', Q .. 'g:nobody', 1, 'stranded')
         redis.call('SET', Q .. 'unique:mail:0123', 'gone', 'EX', 600)
         redis.call('SET', Q .. 'unique:mail:list', 'gone', 'EX', 600)
         redis.call('SET', Q .. 'processed', 5)
         redis.call('SET', Q .. 'failed:2026-01-01', 5)
         redis.call('SET', Q .. 'paused', 1)
         redis.call('SET', Q .. 'x:other', 1)
         redis.call('RPUSH', Q .. 'x:list', 1)",
    );

    assert_eq!(on.broker.remove_queue(&on.queue, true).await.unwrap(), Removal::Gone);

    assert_eq!(on.keys(), before);
    assert_eq!(on.q("SMEMBERS asynq:queues"), "default2");
}

/// With more groups than one call looks at, it takes several.
#[rstest]
#[tokio::test]
async fn a_job_that_arrives_between_the_calls_of_a_removal_stays(
    #[values(false, true)] force: bool,
    #[values(false, true)] paused: bool,
) {
    let on = open();
    on.eval(
        "redis.call('SADD', 'asynq:queues', 'default')
         for n = 1, 1000 do redis.call('SADD', Q .. 'groups', 'group-' .. n) end",
    );
    if paused {
        assert!(on.broker.pause(&on.queue, true).await.unwrap());
    }
    let client = redis::Client::open(format!("redis://{}", on.server.addr())).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut groups =
        || redis::cmd("SCARD").arg("asynq:{default}:groups").query::<u32>(&mut connection).unwrap();
    let arrivals = async {
        while groups() == 1000 {
            tokio::task::yield_now().await;
        }
        let jobs = [on.job("p"), on.grouped("g", "group-7"), on.grouped("h", "new")];
        on.broker.enqueue(&jobs).await.unwrap();
    };

    let (removal, ()) = tokio::join!(on.broker.remove_queue(&on.queue, force), arrivals);

    assert_eq!(removal.unwrap(), Removal::Gone);
    assert_eq!(on.q("LRANGE Q:pending 0 -1"), "p");
    assert_eq!(on.q("ZRANGE Q:g:group-7 0 -1"), "g");
    assert_eq!(on.q("ZRANGE Q:g:new 0 -1"), "h");
    assert_eq!(on.q("SCARD Q:groups"), "2");
    assert_eq!(on.q("EXISTS Q:t:p Q:t:g Q:t:h"), "3");
    assert_eq!(on.q("EXISTS Q:paused"), u32::from(paused).to_string(), "as the operator left it");
    assert_eq!(on.q("EXISTS Q:x:removing"), "0");
}

#[tokio::test]
async fn a_removal_is_to_be_seen_while_it_lasts() {
    let on = open();
    on.put(on.job("a")).await;
    for (script, arguments) in
        [("operate/begin_removal", vec!["1"]), ("operate/delete_leftovers", vec!["0", "100"])]
    {
        on.q("DEL Q:x:removing");
        on.script(script, &arguments);
        let ends: i64 = on.q("TTL Q:x:removing").parse().unwrap();
        assert!((1..=60).contains(&ends), "{script}: {ends}");
    }
    on.script("operate/end_removal", &[]);
    assert_eq!(on.q("KEYS Q:*"), "");
}

#[rstest]
#[case::one(0)]
#[case::too_many_to_look_at(200)]
#[tokio::test]
async fn what_an_aggregator_took_while_a_queue_is_removed_stays(#[case] others: u32) {
    let on = open();
    for n in 0..others {
        on.q(&format!("ZADD Q:aggregation_sets 1 Q:g:other:{n}"));
    }
    on.put(on.grouped("a", "digest")).await;
    on.put(on.grouped("b", "digest")).await;
    on.q("HSET Q:t:old msg m state aggregating group lost");
    on.q("RENAME Q:g:digest Q:g:digest:9b1d");
    on.q("SREM Q:groups digest");
    on.q(&format!("ZADD Q:aggregation_sets {} Q:g:digest:9b1d", START + 120));

    on.script("operate/delete_leftovers", &["0", "10000"]);

    assert_eq!(on.q("ZRANGE Q:g:digest:9b1d 0 -1"), "a\nb");
    assert_eq!(on.q("EXISTS Q:t:a Q:t:b"), "2");
    assert_eq!(on.q("EXISTS Q:t:old"), u32::from(others > 0).to_string());
}

#[tokio::test]
async fn what_arrives_while_a_queue_is_removed_is_whole_or_gone() {
    let on = open();
    // Enough for hundreds of calls.
    on.eval(
        "redis.call('SADD', 'asynq:queues', 'default')
         for n = 1, 40000 do
             redis.call('HSET', Q .. 't:' .. n, 'msg', M('mail', tostring(n)), 'state', 'archived')
             redis.call('ZADD', Q .. 'archived', 5000000000, n)
             redis.call('SET', Q .. 'unique:mail:' .. n, n)
         end",
    );
    let removal = async {
        assert_eq!(on.broker.remove_queue(&on.queue, true).await.unwrap(), Removal::Gone);
        true
    };
    let arrivals = async {
        for n in 0.. {
            let name = |state: &str| format!("{state}-{n}");
            let mut unique = on.job(&name("unique"));
            unique.record.payload = Some(n.to_string().into_bytes());
            unique.unique_for = Some(secs(600));
            let jobs = [
                on.job(&name("pending")),
                on.job(&name("later")).placed(Placement::After(secs(60))),
                on.grouped(&name("grouped"), &name("group")),
                unique,
            ];
            on.broker.enqueue(&jobs).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        false
    };
    let removed = tokio::select! {
        removed = removal => removed,
        arrived = arrivals => arrived,
    };
    assert!(removed);

    // Every hash is in its container, and the reverse.
    let broken = on.eval(
        "local broken, hashes, held = {}, 0, 0
         local function check(ids, state)
             for _, id in ipairs(ids) do
                 held = held + 1
                 if redis.call('HGET', Q .. 't:' .. id, 'state') ~= state then
                     broken[#broken + 1] = id .. ' in ' .. state
                 end
             end
         end
         check(redis.call('LRANGE', Q .. 'pending', 0, -1), 'pending')
         check(redis.call('ZRANGE', Q .. 'scheduled', 0, -1), 'scheduled')
         for _, group in ipairs(redis.call('SMEMBERS', Q .. 'groups')) do
             check(redis.call('ZRANGE', Q .. 'g:' .. group, 0, -1), 'aggregating')
         end
         for _, key in ipairs(redis.call('KEYS', Q .. 't:*')) do
             hashes = hashes + 1
             local lock = redis.call('HGET', key, 'unique_key')
             if lock and redis.call('EXISTS', lock) == 0 then broken[#broken + 1] = lock end
         end
         for _, key in ipairs(redis.call('KEYS', Q .. 'unique:*')) do
             local holder = redis.call('GET', key)
             if redis.call('EXISTS', Q .. 't:' .. holder) == 0 then broken[#broken + 1] = key end
         end
         if hashes ~= held then broken[#broken + 1] = hashes .. ' of ' .. held end
         return table.concat(broken, ', ')",
    );
    assert_eq!(broken, "");
    assert_eq!(on.q("EXISTS Q:archived Q:paused Q:t:1 Q:t:40000 Q:unique:mail:1"), "0");
    let arrived = on.broker.queue(&on.queue).await;
    if on.q("EXISTS Q:pending") == "1" {
        assert!(arrived.is_ok(), "a queue with jobs can be seen");
    }
}
