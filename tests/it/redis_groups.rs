//! What lies in Redis of jobs that are collected in groups, read as any other
//! client would.

use std::time::Duration;

use crate::support::harness::{Harness, START};
use rocket_jobqueue::internals::{Broker, Doctor, GroupLimits, GroupSet, Groups, RepairScope};
use rocket_jobqueue::{Placement, handler::Transition};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[tokio::test]
async fn a_grouped_job_lies_where_asynq_looks_for_it() {
    let on = Harness::start();
    on.clock.advance(Duration::from_millis(900));
    let mut job = on.grouped("a", "digest");
    job.unique_for = Some(secs(60));
    on.put(job).await;

    assert_eq!(on.q("HGET Q:t:a state"), "aggregating");
    assert_eq!(on.q("HGET Q:t:a group"), "digest");
    assert_eq!(on.q("HEXISTS Q:t:a pending_since"), "0");
    let lock = "asynq:{default}:unique:mail:99914b932bd37a50b983c5e7c90ae93b";
    assert_eq!(on.q("HGET Q:t:a unique_key"), lock, "so that whoever deletes it releases it");
    assert_eq!(on.q(&format!("GET {lock}")), "a");
    assert_eq!(on.q("ZRANGE Q:g:digest 0 -1 WITHSCORES"), format!("a\n{START}"));
    assert_eq!(on.q("SMEMBERS Q:groups"), "digest");
    assert_eq!(on.q("EXISTS Q:pending Q:scheduled Q:x:grouped"), "0");
    assert_eq!(on.q("SMEMBERS asynq:queues"), "default");
}

#[tokio::test]
async fn a_scheduled_job_tells_every_forwarder_of_its_group() {
    let on = Harness::start();
    on.put(on.grouped("a", "digest").placed(Placement::After(Duration::from_millis(1500)))).await;

    assert_eq!(on.q("HGET Q:t:a state"), "scheduled");
    assert_eq!(on.q("HGET Q:t:a group"), "digest");
    assert_eq!(on.q("ZSCORE Q:scheduled a"), (START + 2).to_string());
    assert_eq!(on.q("ZRANGE Q:x:grouped 0 -1 WITHSCORES"), format!("a\n{}", START + 2));
    assert_eq!(on.q("EXISTS Q:groups"), "0", "an empty group disturbs Asynq's memory figure");

    on.clock.advance(secs(2));
    on.broker.forward(&on.queue, 9).await.unwrap();
    assert_eq!(on.q("ZRANGE Q:g:digest 0 -1 WITHSCORES"), format!("a\n{}", START + 2));
    assert_eq!(on.q("SMEMBERS Q:groups"), "digest");
    assert_eq!(on.q("EXISTS Q:scheduled Q:x:due Q:x:grouped Q:pending"), "0");
}

#[tokio::test]
async fn a_retried_job_that_still_has_its_group_goes_back_to_it() {
    let on = Harness::start();
    on.put(on.grouped("a", "")).await;
    on.q("HSET Q:t:a group digest");
    let queues = [on.queue.clone()];
    let delivery = on.broker.dequeue(&queues, 1).await.unwrap().deliveries.remove(0);
    let retry = Transition::Retry { after: secs(5), error: "boom".to_owned(), counted: true };
    on.broker.settle(&[(delivery, retry).into()]).await.unwrap();
    assert_eq!(on.q("ZSCORE Q:x:grouped a"), (START + 5).to_string());

    on.clock.advance(secs(5));
    on.broker.forward(&on.queue, 9).await.unwrap();

    assert_eq!(on.q("HGET Q:t:a state"), "aggregating");
    assert_eq!(on.q("SMEMBERS Q:groups"), "digest");
    assert_eq!(on.q("EXISTS Q:x:grouped Q:retry"), "0");
}

#[tokio::test]
async fn a_group_key_of_another_type_is_refused_and_nothing_is_changed() {
    let on = Harness::start();
    let jobs = [
        on.grouped("first", ""),
        on.grouped("now", "digest"),
        on.grouped("later", "digest").placed(Placement::After(secs(5))),
    ];
    for key in ["groups", "g:digest", "x:grouped", "t:now", "t:later"] {
        on.q("FLUSHALL");
        on.q(&format!("SET Q:{key} text"));
        // The name of the queue is written by itself.
        on.q("SADD asynq:queues default");
        let before = on.q("DEBUG DIGEST");
        let error = on.broker.enqueue(&jobs).await.unwrap_err();
        assert!(error.is_refused(), "{key}: {error:?}");
        assert_eq!(on.q("DEBUG DIGEST"), before, "{key}: not even the first job is stored");
    }
}

const LIMITS: GroupLimits =
    GroupLimits { grace: Duration::from_secs(10), max_delay: Duration::ZERO, max_size: 0 };

impl Harness {
    /// Takes the group `digest` when it is ready.
    async fn take_digest(&self) -> Option<GroupSet> {
        self.clock.advance(secs(10));
        self.broker.claim_group(&self.queue, "digest", &LIMITS).await.unwrap()
    }

    async fn ready(&self) -> Vec<String> {
        self.broker.ready_groups(&self.queue, &LIMITS, 0).await.unwrap().ready
    }

    async fn repair(&self) -> usize {
        self.broker.repair_groups(&self.queue, 100).await.unwrap().returned
    }
}

#[tokio::test]
async fn a_taken_group_and_the_job_made_of_it_lie_where_asynq_has_them() {
    let on = Harness::start();
    let mut job = on.grouped("a", "digest");
    job.unique_for = Some(secs(600));
    on.put(job).await;
    on.clock.advance(secs(1));
    on.put(on.grouped("b", "digest")).await;

    let set = on.take_digest().await.unwrap();

    let key = format!("asynq:{{default}}:g:digest:{}", set.id);
    assert_eq!(
        on.q(&format!("ZRANGE {key} 0 -1 WITHSCORES")),
        format!("a\n{START}\nb\n{}", START + 1)
    );
    let ends = START + 11 + 120;
    assert_eq!(on.q("ZRANGE Q:aggregation_sets 0 -1 WITHSCORES"), format!("{key}\n{ends}"));
    assert_eq!(on.q("EXISTS Q:g:digest Q:groups"), "0");
    assert_eq!(on.q("HGET Q:t:a state"), "aggregating");

    on.broker.aggregate(&set, &on.grouped("one", "")).await.unwrap().unwrap();

    assert_eq!(on.q("LRANGE Q:pending 0 -1"), "one");
    let left = on.q("KEYS Q:*");
    let mut left: Vec<_> = left.lines().map(|key| key.replace("asynq:{default}:", "")).collect();
    left.sort();
    assert_eq!(left, ["pending", "t:one", "x:ends"], "x:ends is the manual clock's");
}

#[tokio::test]
async fn an_unreadable_job_is_archived_and_a_missing_one_left_out() {
    let on = Harness::start();
    for name in ["broken", "gone", "good"] {
        on.put(on.grouped(name, "digest")).await;
    }
    on.q("HSET Q:t:broken msg \u{1}not-protobuf");
    on.q("DEL Q:t:gone");

    let set = on.take_digest().await.unwrap();

    let jobs: Vec<_> = set.jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(jobs, ["good"]);
    assert_eq!(on.q("ZRANGE Q:archived 0 -1"), "broken");
    assert_eq!(on.q("HGET Q:t:broken state"), "archived");
    assert_eq!(on.q("HGET Q:t:broken msg"), "\u{1}not-protobuf");
    on.broker.aggregate(&set, &on.grouped("one", "")).await.unwrap().unwrap();
    assert_eq!(on.q("EXISTS Q:t:broken Q:t:good Q:t:gone"), "1");
}

#[tokio::test]
async fn a_group_without_a_single_readable_job_leaves_no_set() {
    let on = Harness::start();
    on.put(on.grouped("gone", "digest")).await;
    on.put(on.grouped("broken", "digest")).await;
    on.q("DEL Q:t:gone");
    on.q("HSET Q:t:broken msg \u{1}not-protobuf");

    assert_eq!(on.take_digest().await, None);

    assert_eq!(on.q("EXISTS Q:aggregation_sets Q:x:sets Q:groups Q:g:digest Q:t:gone"), "0");
    assert_eq!(on.q("ZCARD Q:archived"), "1");
}

#[tokio::test]
async fn a_group_that_a_go_forwarder_filled_is_found() {
    let on = Harness::start();
    on.put(on.grouped("a", "digest").placed(Placement::After(secs(5)))).await;
    assert_eq!(on.repair().await, 0);
    assert_eq!(on.q("ZCARD Q:x:grouped"), "1", "not due yet");
    on.clock.advance(secs(5));
    // What Go does: everything but Q:groups.
    on.q(&format!("ZADD Q:g:digest {} a", START + 5));
    on.q("ZREM Q:scheduled a");
    on.q("HSET Q:t:a state aggregating");
    assert!(on.ready().await.is_empty());

    on.repair().await;

    assert_eq!(on.q("SMEMBERS Q:groups"), "digest");
    assert_eq!(on.q("EXISTS Q:x:grouped"), "0");
    on.clock.advance(secs(10));
    assert_eq!(on.ready().await, ["digest"]);
}

#[tokio::test]
async fn a_job_that_is_late_is_followed_until_it_is_in_its_group_and_a_deleted_one_is_not() {
    let on = Harness::start();
    for name in ["late", "deleted", "run"] {
        on.put(on.grouped(name, "digest").placed(Placement::After(secs(5)))).await;
    }
    on.q("ZREM Q:scheduled deleted run");
    on.q("DEL Q:t:deleted");
    on.q("HSET Q:t:run state pending");
    on.clock.advance(secs(6));

    on.repair().await;

    assert_eq!(on.q("ZRANGE Q:x:grouped 0 -1"), "late");
    assert_eq!(on.q("EXISTS Q:groups"), "0");
}

#[tokio::test]
async fn a_group_whose_set_a_go_server_brought_back_is_found() {
    for by_go in [false, true] {
        let on = Harness::start();
        on.put(on.grouped("a", "digest")).await;
        let set = on.take_digest().await.unwrap();
        if by_go {
            // A set of a Go server's own, seen while it lasted.
            on.q("DEL Q:x:sets");
            on.repair().await;
        }
        // What Go does: everything but Q:groups.
        on.clock.advance(secs(120));
        on.q(&format!("RENAME Q:g:digest:{} Q:g:digest", set.id));
        on.q("DEL Q:aggregation_sets");
        assert!(on.ready().await.is_empty());

        on.repair().await;

        assert_eq!(on.ready().await, ["digest"], "taken by Go: {by_go}");
        assert_eq!(on.q("EXISTS Q:x:sets"), "0");
    }
}

#[tokio::test]
async fn the_lock_that_go_names_in_the_message_only_is_released_too() {
    let on = Harness::start();
    let mut job = on.grouped("a", "digest");
    job.unique_for = Some(secs(600));
    on.put(job).await;
    let lock = "Q:unique:mail:99914b932bd37a50b983c5e7c90ae93b";
    on.q("HDEL Q:t:a unique_key");
    let set = on.take_digest().await.unwrap();

    on.broker.aggregate(&set, &on.grouped("one", "")).await.unwrap().unwrap();

    assert_eq!(on.q(&format!("EXISTS {lock}")), "0");
}

#[tokio::test]
async fn a_lock_that_passed_to_another_job_stays() {
    let on = Harness::start();
    let mut job = on.grouped("a", "digest");
    job.unique_for = Some(secs(600));
    on.put(job).await;
    let lock = "Q:unique:mail:99914b932bd37a50b983c5e7c90ae93b";
    on.q(&format!("SET {lock} another"));
    let set = on.take_digest().await.unwrap();

    on.broker.aggregate(&set, &on.grouped("one", "")).await.unwrap().unwrap();

    assert_eq!(on.q(&format!("GET {lock}")), "another");
}

#[tokio::test]
async fn a_name_without_a_group_is_forgotten_and_a_wrong_group_keeps_no_other_waiting() {
    let on = Harness::start();
    on.put(on.grouped("a", "digest")).await;
    on.q("SADD Q:groups empty wrong");
    on.q("SET Q:g:wrong text");
    on.q("ZADD Q:aggregation_sets 1 Q:g:wrong:set 1 nonsense");
    on.q("ZADD Q:g:wrong:set 1 x");
    on.clock.advance(secs(10));

    assert_eq!(on.ready().await, ["digest"]);
    assert_eq!(on.repair().await, 0);

    assert_eq!(on.q("SISMEMBER Q:groups empty"), "0");
    assert!(on.take_digest().await.is_some());
}

/// A set and everything beside it, then one key of another type.
#[tokio::test]
async fn no_operation_on_groups_leaves_half_of_it_where_a_key_has_another_type() {
    let on = Harness::start();
    let mut refused = 0;
    let keys = [
        "groups",
        "g:digest",
        "g:digest:SET",
        "aggregation_sets",
        "x:sets",
        "x:grouped",
        "x:gone",
        "pending",
        "scheduled",
        "x:due",
        "archived",
        "t:one",
        "t:b",
    ];
    for key in keys {
        for operation in 0..5 {
            on.q("FLUSHALL");
            on.q("SADD asynq:queues default");
            on.put(on.grouped("a", "digest")).await;
            on.put(on.grouped("b", "digest")).await;
            on.put(on.grouped("due", "digest").placed(Placement::After(secs(1)))).await;
            let set = on.take_digest().await.unwrap();
            on.put(on.grouped("c", "digest")).await;
            if operation == 2 {
                on.q("HSET Q:t:b msg \u{1}not-protobuf");
            }
            on.clock.advance(secs(120));
            let key = format!("Q:{}", key.replace("SET", &set.id));
            on.q(&format!("DEL {key}"));
            on.q(&format!("SETRANGE {key} 0 text"));
            let before = on.q("DEBUG DIGEST");

            let error = match operation {
                0 => on.broker.ready_groups(&on.queue, &LIMITS, 0).await.err(),
                1 | 2 => on.broker.claim_group(&on.queue, "digest", &LIMITS).await.err(),
                3 => on.broker.aggregate(&set, &on.grouped("one", "")).await.err(),
                _ => on.broker.repair_groups(&on.queue, 100).await.err(),
            };
            if let Some(error) = error {
                refused += 1;
                assert!(error.is_refused(), "{key}, operation {operation}: {error:?}");
                assert_eq!(on.q("DEBUG DIGEST"), before, "{key}, operation {operation}");
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

#[tokio::test]
async fn a_full_server_still_lets_groups_be_aggregated() {
    let on = Harness::start();
    for name in ["a", "b"] {
        on.put(on.grouped(name, "digest")).await;
    }
    on.q("CONFIG SET maxmemory 1");

    let set = on.take_digest().await.expect("it is ready");
    assert!(on.broker.aggregate(&set, &on.grouped("one", "")).await.unwrap().is_some());

    assert!(
        on.broker.enqueue(&[on.grouped("new", "")]).await.is_err_and(|error| error.is_refused())
    );
}

#[tokio::test]
async fn what_is_left_of_a_large_set_is_not_taken_for_lost_jobs() {
    let on = Harness::start();
    let jobs: Vec<_> = (0..1500).map(|n| on.grouped(&format!("{n:04}"), "digest")).collect();
    on.broker.enqueue(&jobs).await.unwrap();
    let set = on.take_digest().await.unwrap();
    on.broker.aggregate(&set, &on.grouped("one", "")).await.unwrap().unwrap();
    assert_eq!(on.q("EXISTS Q:t:0999 Q:t:1000"), "1", "the first thousand went at once");

    let mut page = None;
    loop {
        let checked = on.broker.check_queue(&on.queue, page, RepairScope::All).await.unwrap();
        assert_eq!(checked.findings, []);
        page = checked.next;
        if page.is_none() {
            break;
        }
    }

    assert_eq!(on.q("EXISTS Q:g:digest Q:groups"), "0");
    assert_eq!(on.q("HGET Q:t:1499 state"), "aggregating");
    while on.broker.repair_groups(&on.queue, 100).await.unwrap().more {}
    assert_eq!(on.q("EXISTS Q:t:1000 Q:t:1499 Q:x:gone"), "0");
}

#[tokio::test]
async fn one_call_brings_back_so_many_jobs_and_no_more() {
    let on = Harness::start();
    let names = |prefix: &str, count: usize| -> Vec<_> {
        (0..count).map(|n| on.grouped(&format!("{prefix}{n}"), "digest")).collect()
    };
    for jobs in [names("a", 700), names("b", 700)] {
        on.broker.enqueue(&jobs).await.unwrap();
        on.take_digest().await.unwrap();
    }
    on.broker.enqueue(&names("c", 1000)).await.unwrap();
    on.clock.advance(secs(120));

    let mut waiting = 1000;
    let mut calls = 0;
    loop {
        let repaired = on.broker.repair_groups(&on.queue, 100).await.unwrap();
        let now: i64 = on.q("ZCARD Q:g:digest").parse().unwrap();
        assert!((now - waiting).abs() <= 500, "{waiting} became {now}");
        waiting = now;
        calls += 1;
        if !repaired.more {
            break;
        }
    }

    assert_eq!((waiting, calls), (2400, 3));
    assert_eq!(on.q("EXISTS Q:aggregation_sets"), "0");
    on.repair().await;
    assert_eq!(on.q("EXISTS Q:x:sets"), "0");
}

/// A script as it is sent, called once more.
macro_rules! eval {
    ($on:expr, [$($file:literal),+], $args:expr) => {{
        let text = concat!($(include_str!(concat!("../../src/broker/redis/lua/", $file, ".lua"))),+);
        let now = $on.clock.now().as_micros().to_string();
        let mut all = vec!["EVAL", text, "1", "asynq:{default}:pending", now.as_str()];
        all.extend($args);
        $on.server.cli(&all)
    }};
}

#[tokio::test]
async fn a_repetition_says_stored_only_where_the_job_is() {
    let on = Harness::start();
    on.put(on.grouped("a", "digest")).await;
    let set = on.take_digest().await.unwrap();
    let again = || {
        let job = ["one", "m", "now", "0", "", "0", "", "", "0", ""];
        let args = ["1", "digest", set.id.as_str()].into_iter().chain(job);
        let answer =
            eval!(on, ["lib/common", "lib/store_job", "lib/group", "groups/aggregate_set"], args);
        answer.lines().nth(1).unwrap_or_default().to_owned()
    };
    on.clock.advance(secs(120));
    on.repair().await;

    assert_eq!(again(), "6", "the first sending never ran, and the set went back");
    on.q("HSET Q:t:one msg another state pending");
    assert_eq!(again(), "6", "it is another job");
    on.q("HSET Q:t:one msg m");
    assert_eq!(again(), "1");
    assert_eq!(on.q("ZCARD Q:g:digest"), "1");
}

#[tokio::test]
async fn locks_that_only_messages_name_are_released_in_a_set_of_thousands_too() {
    let on = Harness::start();
    let jobs: Vec<_> = (0..1300)
        .map(|n| {
            let mut job = on.grouped(&format!("{n:04}"), "digest");
            job.record.payload = Some(n.to_string().into_bytes());
            job.unique_for = Some(secs(600));
            job
        })
        .collect();
    on.broker.enqueue(&jobs).await.unwrap();
    let forget = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do \
                  redis.call('HDEL', key, 'unique_key') end";
    on.server.cli(&["EVAL", forget, "0", "asynq:{default}:t:*"]);
    let set = on.take_digest().await.unwrap();

    on.broker.aggregate(&set, &on.grouped("one", "")).await.unwrap().unwrap();
    while on.broker.repair_groups(&on.queue, 100).await.unwrap().more {}

    assert_eq!(on.q("KEYS Q:unique:*"), "");
    assert_eq!(on.q("KEYS Q:t:*"), "asynq:{default}:t:one");
}

#[tokio::test]
async fn one_answer_holds_about_a_mebibyte_of_a_set_or_one_job() {
    let on = Harness::start();
    for (name, size) in [("a", 400_000), ("b", 400_000), ("c", 400_000), ("d", 3_000_000)] {
        let mut job = on.grouped(name, "digest");
        job.record.payload = Some(vec![b'x'; size]);
        on.put(job).await;
    }
    let set = on.take_digest().await.unwrap();
    let page = |from: &str| {
        let args = ["digest", set.id.as_str(), from, "100"];
        let answer = eval!(on, ["lib/common", "lib/group", "groups/read_set"], args);
        answer.lines().filter(|line| line.len() == 1).map(str::to_owned).collect::<Vec<_>>()
    };

    assert_eq!(page("0"), ["a", "b"]);
    assert_eq!(page("2"), ["c"]);
    assert_eq!(page("3"), ["d"]);
}
