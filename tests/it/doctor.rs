//! What the doctor finds in Redis after each fault it knows, what it repairs, and
//! that no other client waits for it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::RedisServer;
use crate::support::effort::quick_in_parts;
use crate::support::harness::Harness;
use rocket_jobqueue::internals::redis::keys;
use rocket_jobqueue::internals::{Broker, Doctor, Groups, Limits, RepairScope, Settled};
use rocket_jobqueue::limits::Limit;
use rocket_jobqueue::{
    NewJob, Placement,
    doctor::{Finding, FindingKind, FindingStatus},
    handler::Transition,
};
use rstest::rstest;

fn open(args: &[&str]) -> Harness {
    let server = RedisServer::start(&[args, &["--enable-debug-command", "yes"]].concat());
    Harness::on(server, |_| {})
}

impl Harness {
    /// A job that is kept when it has completed, with a payload of its own.
    fn retained(&self, name: &str) -> NewJob {
        let mut job = self.job(name);
        job.record.payload = Some(name.into());
        job.record.retention = Duration::from_secs(600);
        job
    }

    /// A job in each state, named after it.
    async fn store_one_of_each(&self) {
        for name in ["completed", "archived", "retry", "active"] {
            let mut job = self.retained(name);
            job.unique_for = Some(Duration::from_secs(6_000));
            self.broker.enqueue(&[job]).await.unwrap();
            let delivery = self.take().await;
            let transition = match name {
                "completed" => Transition::Complete { result: None },
                "archived" => Transition::Archive { error: "bad".to_owned() },
                "retry" => Transition::Retry {
                    after: Duration::from_secs(60),
                    error: "down".to_owned(),
                    counted: true,
                },
                _ => continue,
            };
            let settled = self.broker.settle(&[(delivery, transition).into()]).await.unwrap();
            assert_eq!(settled, [Settled::Done]);
        }
        let later = self.retained("scheduled").placed(Placement::After(Duration::from_secs(60)));
        self.broker.enqueue(&[self.retained("pending"), later]).await.unwrap();
        // As a Go client adds it.
        self.q("HSET Q:t:aggregating msg x state aggregating group g");
        self.server.cli(&[
            "COPY",
            "asynq:{default}:t:pending",
            "asynq:{default}:t:aggregating",
            "REPLACE",
        ]);
        self.q("HSET Q:t:aggregating state aggregating group digest");
        self.q("HDEL Q:t:aggregating pending_since");
        self.q("ZADD Q:g:digest 1 aggregating");
        self.q("SADD Q:groups digest");
    }

    async fn check(&self, repair: RepairScope) -> Vec<Finding> {
        let (mut findings, mut page) = (Vec::new(), None);
        loop {
            let checked = self.broker.check_queue(&self.queue, page.take(), repair).await.unwrap();
            findings.extend(checked.findings);
            page = checked.next;
            if page.is_none() {
                return findings;
            }
        }
    }
}

fn kinds(findings: &[Finding]) -> BTreeSet<FindingKind> {
    findings.iter().map(|finding| finding.kind).collect()
}

/// The fault, what is found, what has to be true when it is repaired (a command and
/// its answer), and whether the workers repair it by themselves.
#[rstest]
#[case::ghost_active(
    "LPUSH Q:active ghost",
    FindingKind::Ghost,
    "LRANGE Q:active 0 -1",
    "active",
    true
)]
#[case::ghost_pending(
    "LPUSH Q:pending ghost",
    FindingKind::Ghost,
    "LRANGE Q:pending 0 -1",
    "pending",
    true
)]
#[case::ghost_scheduled(
    "ZADD Q:scheduled 5000000000 ghost",
    FindingKind::Ghost,
    "ZRANGE Q:scheduled 0 -1",
    "scheduled",
    true
)]
#[case::ghost_retry(
    "ZADD Q:retry 5000000000 ghost",
    FindingKind::Ghost,
    "ZRANGE Q:retry 0 -1",
    "retry",
    true
)]
#[case::ghost_archived(
    "ZADD Q:archived 5000000000 ghost",
    FindingKind::Ghost,
    "ZRANGE Q:archived 0 -1",
    "archived",
    true
)]
#[case::ghost_completed(
    "ZADD Q:completed 5000000000 ghost",
    FindingKind::Ghost,
    "ZRANGE Q:completed 0 -1",
    "completed",
    true
)]
#[case::old_scheduled(
    r#"ZADD Q:scheduled 5000000000 {"Type":"old","Payload":{"user":1},"ID":"old"}"#,
    FindingKind::OldEntry,
    "HGET Q:t:old state",
    "archived",
    true
)]
#[case::old_retry(
    r#"ZADD Q:retry 5000000000 {"Type":"old","Payload":{"user":1},"ID":"old"}"#,
    FindingKind::OldEntry,
    "HGET Q:t:old state",
    "archived",
    true
)]
#[case::old_archived(
    r#"ZADD Q:archived 5000000000 {"Type":"old","Payload":{"user":1},"ID":"old"}"#,
    FindingKind::OldEntry,
    "HGET Q:t:old state",
    "archived",
    true
)]
#[case::old_active(
    r#"LPUSH Q:active {"Type":"old","Payload":{"user":1},"ID":"old"}"#,
    FindingKind::OldEntry,
    "HGET Q:t:old state",
    "archived",
    true
)]
#[case::ghost_lease(
    "ZADD Q:lease 5000000000 ghost",
    FindingKind::Ghost,
    "ZRANGE Q:lease 0 -1",
    "active",
    true
)]
#[case::ghost_group(
    "ZADD Q:g:digest 0 ghost",
    FindingKind::Ghost,
    "ZRANGE Q:g:digest 0 -1",
    "aggregating",
    true
)]
#[case::in_two_places(
    "LPUSH Q:pending retry",
    FindingKind::Stray,
    "LRANGE Q:pending 0 -1",
    "pending",
    true
)]
#[case::in_two_sets(
    "ZADD Q:archived 9 scheduled",
    FindingKind::Stray,
    "ZRANGE Q:archived 0 -1",
    "archived",
    true
)]
#[case::runs_and_waits(
    "LPUSH Q:pending active",
    FindingKind::Stray,
    "LRANGE Q:pending 0 -1",
    "pending",
    true
)]
#[case::wrong_state(
    "HSET Q:t:retry state pending",
    FindingKind::WrongState,
    "HGET Q:t:retry state",
    "retry",
    true
)]
#[case::unknown_state(
    "HSET Q:t:archived state gone",
    FindingKind::WrongState,
    "HGET Q:t:archived state",
    "archived",
    true
)]
#[case::twice_active(
    "LPUSH Q:active active",
    FindingKind::Duplicate,
    "LRANGE Q:active 0 -1",
    "active",
    true
)]
#[case::twice_pending(
    "RPUSH Q:pending pending",
    FindingKind::Duplicate,
    "LRANGE Q:pending 0 -1",
    "pending",
    true
)]
#[case::no_lease(
    "DEL Q:lease",
    FindingKind::ActiveWithoutLease,
    "ZRANGE Q:lease 0 -1",
    "active",
    true
)]
#[case::lease_left(
    "ZADD Q:lease 5000000000 pending",
    FindingKind::LeaseWithoutActive,
    "ZRANGE Q:lease 0 -1",
    "active",
    true
)]
#[case::not_among_the_active(
    "DEL Q:active",
    FindingKind::LeaseWithoutActive,
    "LRANGE Q:active 0 -1",
    "active",
    true
)]
#[case::due_time_left(
    "ZADD Q:x:due 5000000000000000 pending",
    FindingKind::StaleDueTime,
    "ZSCORE Q:x:due pending",
    "",
    true
)]
#[case::stub("HSET Q:t:gone result 42", FindingKind::Stub, "EXISTS Q:t:gone", "0", true)]
#[case::unlisted_group(
    "DEL Q:groups",
    FindingKind::UnlistedGroup,
    "SMEMBERS Q:groups",
    "digest",
    true
)]
#[case::unlisted_set(
    "RENAME Q:g:digest Q:g:digest:set-1",
    FindingKind::UnlistedSet,
    "ZRANGE Q:aggregation_sets 0 -1",
    "asynq:{default}:g:digest:set-1",
    true
)]
#[case::dead_set(
    "ZADD Q:aggregation_sets 5000000000 Q:g:digest:set-2",
    FindingKind::DeadSet,
    "EXISTS Q:aggregation_sets",
    "0",
    true
)]
#[case::orphan_pending(
    "DEL Q:pending",
    FindingKind::Orphan,
    "LRANGE Q:pending 0 -1",
    "pending",
    false
)]
#[case::orphan_retry(
    "DEL Q:retry",
    FindingKind::Orphan,
    "LRANGE Q:pending 0 -1",
    "pending\nretry",
    false
)]
#[case::orphan_scheduled(
    "DEL Q:scheduled",
    FindingKind::Orphan,
    "LRANGE Q:pending 0 -1",
    "pending\nscheduled",
    false
)]
#[case::orphan_archived(
    "DEL Q:archived",
    FindingKind::Orphan,
    "ZRANGE Q:archived 0 -1",
    "archived",
    false
)]
#[case::orphan_completed(
    "DEL Q:completed",
    FindingKind::Orphan,
    "ZRANGE Q:completed 0 -1",
    "completed",
    false
)]
#[case::orphan_aggregating(
    "DEL Q:g:digest",
    FindingKind::Orphan,
    "ZRANGE Q:g:digest 0 -1",
    "aggregating",
    false
)]
#[tokio::test]
async fn a_fault_is_found_told_and_mended(
    #[case] fault: &str,
    #[case] kind: FindingKind,
    #[case] question: &str,
    #[case] repaired: &str,
    #[case] by_itself: bool,
) {
    let on = open(&[]);
    on.store_one_of_each().await;
    // With its last due time gone the companion set holds a stale one, and so on:
    // the fault alone is looked for.
    assert_eq!(on.check(RepairScope::All).await, [], "sound before");
    on.q(fault);
    let broken = on.digest();

    let found = on.check(RepairScope::Nothing).await;
    assert!(kinds(&found).contains(&kind), "{found:?}");
    assert!(!format!("{found:?}").contains("Payload"), "{found:?}");
    assert!(found.iter().all(|finding| finding.status == FindingStatus::Repairable), "{found:?}");
    assert_eq!(on.digest(), broken, "a look changes nothing");

    let provable = on.check(RepairScope::Provable).await;
    let is_mended = on.q(question) == repaired;
    assert_eq!(is_mended, by_itself, "{provable:?}: {}", on.q(question));
    on.check(RepairScope::All).await;
    assert_eq!(on.q(question), repaired);
    assert_eq!(on.check(RepairScope::All).await, [], "sound after");
}

#[tokio::test]
async fn what_a_go_worker_left_half_done_is_in_line_again() {
    let on = open(&[]);
    on.store_one_of_each().await;
    // Asynq's done, with the lease missing: off the active list, and the script fails.
    on.q("DEL Q:lease");
    on.q("LREM Q:active 0 active");

    let found = on.check(RepairScope::All).await;

    assert_eq!(kinds(&found), [FindingKind::Orphan].into());
    assert_eq!(found[0].samples, ["active"]);
    assert_eq!(on.q("HGET Q:t:active state"), "pending");
    assert_eq!(on.take().await.job.id.as_str(), "active", "it is next");
}

#[tokio::test]
async fn a_lock_is_released_when_its_job_is_gone_or_has_ended_and_kept_otherwise() {
    let on = open(&[]);
    on.store_one_of_each().await;
    let lock = |payload: &str| keys::unique(&on.queue, "mail", Some(payload.as_bytes()));
    for name in ["active", "archived", "retry"] {
        assert_eq!(on.q(&format!("GET {}", lock(name))), name);
    }
    on.q(&format!("SET {} completed EX 600", lock("completed")));
    on.q(&format!("SET {} vanished EX 600", lock("vanished")));
    on.q(&format!("SET {} retry EX 600", lock("of another payload")));

    let found = on.check(RepairScope::Provable).await;

    assert_eq!(kinds(&found), [FindingKind::LockWithoutHolder].into());
    assert_eq!(found[0].count, 3, "{found:?}");
    let left = on.q("KEYS Q:unique:*");
    assert_eq!(left.lines().count(), 3, "{left}");
    assert_eq!(on.check(RepairScope::Nothing).await, []);
}

#[tokio::test]
async fn a_key_of_another_type_is_told_and_nothing_of_the_queue_is_touched() {
    let on = open(&[]);
    on.store_one_of_each().await;
    on.q("LPUSH Q:active ghost");
    on.q("DEL Q:retry");
    on.q("SET Q:retry x");
    on.q("SET Q:processed many");
    on.q("SET Q:else x");
    on.q("SET Q:t:odd x");
    let before = on.digest();

    let found = on.check(RepairScope::All).await;

    assert_eq!(on.digest(), before);
    let kinds = kinds(&found);
    for kind in [
        FindingKind::WrongType,
        FindingKind::BadCounter,
        FindingKind::UnknownKey,
        FindingKind::Ghost,
    ] {
        assert!(kinds.contains(&kind), "{kind:?} in {found:?}");
    }
    on.q("DEL Q:retry Q:t:odd Q:t:retry");
    on.check(RepairScope::All).await;
    assert_eq!(on.q("LRANGE Q:active 0 -1"), "active", "repaired once the type is right");
}

#[tokio::test]
async fn an_unreadable_message_is_told_where_it_is_and_archived_when_it_is_taken_or_lapses() {
    let on = open(&[]);
    on.store_one_of_each().await;
    on.q("HSET Q:t:scheduled msg garbage!");
    on.q("HSET Q:t:active msg garbage!");

    let found = on.check(RepairScope::All).await;

    let places: BTreeSet<_> = found.iter().map(|finding| finding.place.as_str()).collect();
    assert_eq!(kinds(&found), [FindingKind::UnreadableMessage].into());
    assert_eq!(places, ["active", "scheduled"].into());
    on.clock.advance(Duration::from_secs(61));
    on.broker.forward(&on.queue, 9).await.unwrap();
    assert!(on.broker.first_expired_leases(&on.queue, 9).await.unwrap().is_empty());
    let queues = [on.queue.clone()];
    let rest = on.broker.dequeue(&queues, 9).await.unwrap().deliveries;
    assert_eq!(rest.len(), 2, "{rest:?}");
    for name in ["active", "scheduled"] {
        assert_eq!(on.q(&format!("HMGET Q:t:{name} msg state")), "garbage!\narchived");
    }
    assert_eq!(on.check(RepairScope::All).await, []);
}

#[tokio::test]
async fn a_turn_mends_the_provable_and_is_one_processs_at_a_time() {
    let on = open(&[]);
    on.store_one_of_each().await;
    on.q("LPUSH Q:active ghost");

    let found = on.broker.repair_provable(&on.queue).await.unwrap();

    assert_eq!(kinds(&found), [FindingKind::Ghost].into());
    assert_eq!(on.q("LRANGE Q:active 0 -1"), "active");
    on.q("LPUSH Q:active ghost");
    assert_eq!(on.broker.repair_provable(&on.queue).await.unwrap(), [], "somebody had the turn");
    let left: i64 = on.q("TTL Q:x:reconciling").parse().unwrap();
    assert!((1..=50).contains(&left), "{left}");
    on.q("DEL Q:x:reconciling");
    assert_eq!(on.broker.repair_provable(&on.queue).await.unwrap().len(), 1);
    assert_eq!(on.q("EXISTS Q:x:reconciled"), "0", "it came to the end");
}

#[tokio::test]
async fn the_server_is_examined_for_what_loses_jobs() {
    let on = open(&["--maxmemory-policy", "allkeys-lru"]);
    on.q("SADD asynq:queues default a}b");

    let found = on.broker.check_store().await.unwrap();

    let expected =
        [FindingKind::EvictionPolicy, FindingKind::NoPersistence, FindingKind::ForeignQueueName];
    assert_eq!(kinds(&found), expected.into());
    on.q("CONFIG SET maxmemory-policy noeviction");
    on.q("CONFIG SET appendonly yes");
    on.q("SREM asynq:queues a}b");
    assert_eq!(on.broker.check_store().await.unwrap(), []);
}

#[tokio::test]
async fn pages_of_a_long_queue_are_all_looked_at_and_none_takes_long() {
    let on = open(&[]);
    let script = "for n = 1, 100000 do \
        redis.call('HSET', 'asynq:{default}:t:' .. n, 'msg', '', 'state', 'pending', 'pending_since', n) \
        redis.call('LPUSH', 'asynq:{default}:pending', n) end \
        for n = 1, 20000 do \
        redis.call('HSET', 'asynq:{default}:t:a' .. n, 'msg', '', 'state', 'archived') \
        redis.call('ZADD', 'asynq:{default}:archived', n, 'a' .. n) end return 'ok'";
    assert_eq!(on.server.cli(&["EVAL", script, "0"]), "ok");
    on.q("LPUSH Q:pending ghost-front");
    on.q("RPUSH Q:pending ghost-back");
    on.q("LSET Q:pending 50000 ghost-middle");
    on.q("CONFIG SET slowlog-log-slower-than 20000");
    on.q("SLOWLOG RESET");

    let found = on.check(RepairScope::Provable).await;

    let ghosts = found.iter().filter(|finding| finding.kind == FindingKind::Ghost);
    let ids: BTreeSet<_> = ghosts.flat_map(|finding| finding.samples.clone()).collect();
    let expected = ["ghost-back", "ghost-front", "ghost-middle"].map(str::to_owned);
    assert_eq!(ids, expected.into());
    assert_eq!(on.q("LLEN Q:pending"), "99999", "{found:?}");
    // None takes 10 ms on a machine of its own. This one is shared, and some of 1500 calls may
    // have been interrupted.
    if on.q("SLOWLOG LEN") != "0" {
        quick_in_parts(&on.server, "a check", async || on.check(RepairScope::Provable).await).await;
    }
}

#[tokio::test]
async fn the_rest_of_a_large_aggregated_set_is_no_finding_and_is_not_put_back() {
    let on = open(&[]);
    // As `aggregate` leaves a set of 1500: the hashes go in parts.
    let script = "for n = 1, 500 do \
        redis.call('HSET', 'asynq:{default}:t:' .. n, 'msg', '', 'state', 'aggregating', 'group', 'digest') \
        redis.call('ZADD', 'asynq:{default}:x:gone:set', n, n) end \
        redis.call('ZADD', 'asynq:{default}:x:gone', 1, 'asynq:{default}:x:gone:set') return 'ok'";
    assert_eq!(on.server.cli(&["EVAL", script, "0"]), "ok");
    let before = on.digest();

    assert_eq!(on.check(RepairScope::All).await, []);

    assert_eq!(on.digest(), before);
    on.broker.repair_groups(&on.queue, 100).await.unwrap();
    on.broker.repair_groups(&on.queue, 100).await.unwrap();
    assert_eq!(on.q("KEYS Q:*"), "");
}

#[tokio::test]
async fn nothing_is_put_back_into_a_queue_that_is_being_removed() {
    let on = open(&[]);
    on.store_one_of_each().await;
    // As the removal begins: the containers first, the hashes in parts.
    on.q("SET Q:x:removing 1");
    on.q("UNLINK Q:pending Q:scheduled Q:retry Q:archived Q:completed Q:lease Q:active");
    let before = on.digest();

    let found = on.check(RepairScope::All).await;

    assert_eq!(on.digest(), before, "{found:?}");
}

#[tokio::test]
async fn a_page_with_many_full_groups_is_looked_at_in_parts() {
    let on = open(&[]);
    // 100 groups of 100, each with an id that has no job.
    let script = "for g = 1, 100 do for n = 1, 99 do \
        local id = g .. '-' .. n \
        redis.call('HSET', 'asynq:{default}:t:' .. id, 'msg', '', 'state', 'aggregating', 'group', g) \
        redis.call('ZADD', 'asynq:{default}:g:' .. g, n, id) end \
        redis.call('ZADD', 'asynq:{default}:g:' .. g, 99, 'ghost' .. g) \
        redis.call('SADD', 'asynq:{default}:groups', g) end return 'ok'";
    assert_eq!(on.server.cli(&["EVAL", script, "0"]), "ok");

    let (mut looked, mut ghosts, mut page) = (0, 0, None);
    loop {
        let checked =
            on.broker.check_queue(&on.queue, page.take(), RepairScope::Provable).await.unwrap();
        assert!(checked.entries_checked <= 600, "{}", checked.entries_checked);
        looked += checked.entries_checked;
        for finding in checked.findings {
            assert_eq!((finding.kind, finding.place.as_str()), (FindingKind::Ghost, "g"));
            assert!(finding.samples[0].starts_with("ghost"), "{finding:?}");
            ghosts += finding.count;
        }
        page = checked.next;
        if page.is_none() {
            break;
        }
    }

    assert_eq!(ghosts, 100);
    assert!((20_000..21_000).contains(&looked), "{looked}");
}

#[tokio::test]
async fn a_line_that_grows_faster_than_it_is_walked_keeps_nothing_else_from_the_check_up() {
    let on = open(&[]);
    let grow = |part: u32| {
        let script = format!(
            "for n = {part} * 200, {part} * 200 + 199 do \
             redis.call('HSET', 'asynq:{{default}}:t:' .. n, 'msg', '', 'state', 'pending') \
             redis.call('LPUSH', 'asynq:{{default}}:pending', n) end return 'ok'"
        );
        assert_eq!(on.server.cli(&["EVAL", &script, "0"]), "ok");
    };
    grow(0);
    on.q("RPUSH Q:pending ghost");
    let (mut found, mut page) = (BTreeSet::new(), None);

    // By twice a page with each page.
    for part in 1..=25 {
        let checked =
            on.broker.check_queue(&on.queue, page.take(), RepairScope::Provable).await.unwrap();
        found.extend(kinds(&checked.findings));
        page = checked.next;
        if format!("{page:?}").contains("keys") {
            break;
        }
        grow(part);
    }

    assert!(format!("{page:?}").contains("keys"), "it is still at {page:?}");
    assert_eq!(found, [FindingKind::Ghost].into());
    assert_eq!(on.q("LINDEX Q:pending -1"), "0");
}

/// What is spoilt of a limit, what is found, and what a repair makes of it. One job runs, `a`, and
/// one waits for it, `b`.
#[rstest]
#[case::a_place_of_nobody(
    "ZADD Q:x:lim:use:one: 1 ghost",
    FindingKind::LeakedPlace,
    "ZRANGE Q:x:lim:use:one: 0 -1",
    "a"
)]
#[case::a_lost_place(
    "DEL Q:x:lim:use:one:",
    FindingKind::LostPlace,
    "ZRANGE Q:x:lim:use:one: 0 -1",
    "a"
)]
#[case::places_of_another_type(
    "SET Q:x:lim:use:one: text",
    FindingKind::LostPlace,
    "ZRANGE Q:x:lim:use:one: 0 -1",
    "a"
)]
#[case::nobody_waits(
    "ZADD Q:x:lim:wait:one: 1 ghost",
    FindingKind::StaleWait,
    "ZRANGE Q:x:lim:wait:one: 0 -1",
    "b"
)]
#[case::a_lost_turn(
    "DEL Q:x:lim:wait:one:",
    FindingKind::LostWait,
    "ZRANGE Q:x:lim:wait:one: 0 -1",
    "b"
)]
#[case::nobody_looks(
    "DEL Q:x:lim:keys",
    FindingKind::UnwatchedLimitKey,
    "ZRANGE Q:x:lim:keys 0 -1",
    "one:"
)]
#[case::starts_of_another_type(
    "SET Q:x:lim:starts:one: text",
    FindingKind::WrongType,
    "EXISTS Q:x:lim:starts:one:",
    "0"
)]
#[tokio::test]
async fn a_spoilt_limit_is_found_and_repaired(
    #[case] fault: &str,
    #[case] kind: FindingKind,
    #[case] question: &str,
    #[case] answer: &str,
) {
    let ward = open(&[]);
    let limit = Limit::new("one").concurrency(1);
    ward.broker.set_limit(&ward.queue, &limit).await.unwrap();
    ward.broker.enqueue(&[ward.job("a"), ward.job("b")]).await.unwrap();
    let running = ward.take_many(9).await.remove(0);
    assert_eq!(ward.check(RepairScope::Nothing).await, []);

    ward.q(fault);
    let found = ward.check(RepairScope::Nothing).await;
    assert!(kinds(&found).contains(&kind), "{found:?}");
    assert!(found.iter().all(|one| one.status == FindingStatus::Repairable), "{found:?}");
    ward.check(RepairScope::Provable).await;

    assert_eq!(ward.q(question), answer);
    assert_eq!(ward.check(RepairScope::Nothing).await, []);
    let settled = Transition::Complete { result: None };
    ward.broker.settle(&[(running, settled).into()]).await.unwrap();
    assert_eq!(ward.take().await.job.id.as_str(), "b");
}
