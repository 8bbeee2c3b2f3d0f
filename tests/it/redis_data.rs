//! What lies in Redis after each operation, read as any other client would, and
//! what happens if that is not what the protocol says.

mod leases;
mod lost_replies;
mod refusals;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::support::harness::{Harness, START, broker};
use crate::support::{PATIENCE, RedisServer, eventually, within};
use rocket_jobqueue::internals::redis::{RedisBroker, keys, wire};
use rocket_jobqueue::internals::{
    Actions, Announcement, Broker, CancelAnswer, Control, Delivery, Enqueued, Extended, Firing,
    Inspect, Lease, Output, PeriodicStore, PoolSettings, RedisPool, Running, Settled, Topology,
    WorkerDetails,
};
use rocket_jobqueue::{
    Clock, Idempotency, JobId, JobRecord, JobState, Placement, Progress, QueueName, Timestamp,
    Until,
    handler::{AfterCancel, Transition},
};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn done() -> Transition {
    Transition::Complete { result: Some(b"42".to_vec()) }
}

fn retry(after: Duration) -> Transition {
    Transition::Retry { after, error: "boom".to_owned(), counted: true }
}

fn archive() -> Transition {
    Transition::Archive { error: "boom".to_owned() }
}

fn reclaim() -> Transition {
    Transition::Reclaim { error: "gone".to_owned() }
}

/// Asserts that this key was set to expire after this time, a few seconds ago at most.
fn assert_lasts(on: &Harness, key: &str, seconds: i64) {
    let left: i64 = on.cli(&format!("TTL {key}")).parse().unwrap();
    assert!((seconds - 5..=seconds).contains(&left), "{key}: {left} of {seconds} s are left");
}

impl Harness {
    async fn extend(&self, delivery: &Delivery) -> Option<Lease> {
        let leases = std::slice::from_ref(&delivery.lease);
        match self.broker.extend(leases).await.unwrap().remove(0) {
            Extended::Renewed(lease) => Some(lease),
            Extended::Cancelled(..) => panic!("nobody cancelled it"),
            Extended::Lost => None,
            Extended::Unknown | Extended::Moving => panic!("it answered"),
        }
    }

    fn cli(&self, command: &str) -> String {
        self.server.cli(&command.split(' ').collect::<Vec<_>>())
    }

    /// A tick that is due, whose job has this id.
    fn firing(&self, name: &str) -> Firing {
        let tick = self.clock.now();
        Firing {
            entry: "e".to_owned(),
            queue: self.queue.clone(),
            known: Some(Timestamp::from_secs(0)),
            keep: secs(60),
            ticks: vec![(tick, self.job(name))],
        }
    }

    fn message(&self, name: &str) -> JobRecord {
        wire::decode(&self.queue, &JobId::new(name).unwrap(), &self.bytes(name)).unwrap()
    }

    /// The message as it is stored.
    fn bytes(&self, name: &str) -> Vec<u8> {
        let path = format!("asynq:{{default}}:t:{name}");
        let hex = self.server.cli(&[
            "EVAL",
            "return (string.gsub(redis.call('HGET', KEYS[1], 'msg'), '.', function(c) \
             return string.format('%02x', string.byte(c)) end))",
            "1",
            &path,
        ]);
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn an_enqueued_job_lies_where_asynq_looks_for_it() {
    let on = Harness::start();

    on.put(on.job("a")).await;
    on.put(on.job("b")).await;

    assert_eq!(on.cli("SMEMBERS asynq:queues"), "default");
    assert_eq!(on.q("LRANGE Q:pending 0 -1"), "b\na", "the tail is next");
    assert_eq!(on.q("HGET Q:t:a state"), "pending");
    assert_eq!(on.q("HGET Q:t:a pending_since"), format!("{START}000000000"));
    assert_eq!(on.q("HKEYS Q:t:a"), "msg\nstate\npending_since");
    assert_eq!(on.q("TTL Q:t:a"), "-1");
    assert_eq!(on.message("a"), on.job("a").record);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_take_several_calls_keep_their_order() {
    let on = Harness::start();
    let jobs: Vec<_> = (0..2_500).map(|n| on.job(&format!("job-{n:04}"))).collect();
    let sent: Vec<_> = jobs.iter().map(|job| job.record.id.as_str()).collect();
    for trouble in ["PING", "SCRIPT FLUSH"] {
        on.cli(trouble);

        on.broker.enqueue(&jobs).await.unwrap();

        let stored = on.q("LRANGE Q:pending 0 -1");
        let mut names: Vec<_> = stored.lines().collect();
        names.reverse();
        assert_eq!(names, sent, "after {trouble}");
        on.cli("FLUSHALL");
    }
}

#[tokio::test]
async fn a_scheduled_job_has_a_whole_second_for_asynq_and_the_instant_for_us() {
    let on = Harness::start();

    on.put(on.job("a").placed(Placement::After(Duration::from_micros(1_500_000)))).await;

    assert_eq!(on.q("HKEYS Q:t:a"), "msg\nstate");
    assert_eq!(on.q("HGET Q:t:a state"), "scheduled");
    assert_eq!(on.q("ZSCORE Q:scheduled a"), format!("{}", START + 2));
    assert_eq!(on.q("ZSCORE Q:x:due a"), format!("{}", START * 1_000_000 + 1_500_000));
    assert_eq!(on.q("EXISTS Q:pending"), "0");
}

#[tokio::test]
async fn a_lock_names_its_holder_and_lasts_from_the_due_time() {
    let on = Harness::start();
    let mut job = on.job("a").placed(Placement::After(secs(100)));
    job.unique_for = Some(secs(60));

    on.put(job).await;

    let key = keys::unique(&on.queue, "mail", Some(b"{}"));
    assert_eq!(on.cli(&format!("GET {key}")), "a");
    assert_lasts(&on, &key, 160);
    assert_eq!(on.q("HGET Q:t:a unique_key"), key);
    assert_eq!(on.message("a").unique_key, key);
}

#[tokio::test]
async fn a_lock_that_ends_with_its_time_is_named_by_nothing_that_releases_locks() {
    let on = Harness::start();
    let mut job = on.job("a").placed(Placement::After(secs(100)));
    (job.unique_for, job.until) = (Some(secs(60)), Until::Expiry);

    on.put(job).await;

    let key = keys::unique(&on.queue, "mail", Some(b"{}"));
    assert_eq!(on.cli(&format!("GET {key}")), "x:expiry:a");
    assert_lasts(&on, &key, 160);
    assert_eq!(on.q("HKEYS Q:t:a"), "msg\nstate\nx_lock");
    assert_eq!(on.message("a").unique_key, "");
}

#[tokio::test]
async fn a_lock_that_ends_at_the_start_is_named_as_asynq_does_until_then() {
    let on = Harness::start();
    let mut job = on.job("a");
    (job.unique_for, job.until) = (Some(secs(60)), Until::Start);
    job.unique_key = Some("0c".repeat(32));
    on.put(job).await;

    let key = keys::unique_by_key(&on.queue, "mail", &"0c".repeat(32));
    assert_eq!(on.cli(&format!("GET {key}")), "a");
    assert_eq!(on.q("HMGET Q:t:a unique_key x_unlock"), format!("{key}\n{key}"));
    assert_eq!(on.message("a").unique_key, key, "a Go worker releases it when it settles the job");

    on.take().await;

    assert_eq!(on.cli(&format!("EXISTS {key}")), "0");
    assert_eq!(on.q("HEXISTS Q:t:a x_unlock"), "0");
}

#[tokio::test]
async fn a_taken_job_is_active_under_a_fractional_lease() {
    let on = Harness::start();
    on.put(on.job("a")).await;

    let delivery = on.take().await;

    assert_eq!(on.q("LRANGE Q:active 0 -1"), "a");
    assert_eq!(on.q("EXISTS Q:pending"), "0");
    assert_eq!(on.q("HKEYS Q:t:a"), "msg\nstate\nx_owner", "pending_since is gone");
    assert_eq!(on.q("HGET Q:t:a state"), "active");
    assert_eq!(on.q("HGET Q:t:a x_owner"), delivery.lease.owner.unwrap().to_string());
    assert_eq!(delivery.lease.ends, (START + 30) * 1_000_000 + 1);
    let score: f64 = on.q("ZSCORE Q:lease a").parse().unwrap();
    assert!((score - (START + 30) as f64 - 1e-6).abs() < 5e-7 && score.fract() > 0.0, "{score}");
}

#[tokio::test]
async fn a_done_job_leaves_nothing_but_counters() {
    let on = Harness::start();
    on.put(on.job("a")).await;
    let delivery = on.take().await;

    assert_eq!(on.settle(&delivery, done()).await, Settled::Done);

    let day = "2096-10-02";
    assert_eq!(
        on.cli("KEYS asynq:{*").lines().collect::<std::collections::BTreeSet<_>>(),
        ["asynq:{default}:processed".to_owned(), format!("asynq:{{default}}:processed:{day}")]
            .iter()
            .map(String::as_str)
            .collect()
    );
    assert_eq!(on.q("GET Q:processed"), "1");
    // Redis 6.2 has no EXPIRETIME.
    let left: i64 = on.q(&format!("TTL Q:processed:{day}")).parse().unwrap();
    let ends = Timestamp::from(SystemTime::now()).as_secs() + left;
    assert!((ends - (START + 90 * 86_400)).abs() <= 5, "{ends}");
}

#[tokio::test]
async fn a_retained_job_is_completed_with_its_result() {
    let on = Harness::start();
    let mut job = on.job("a");
    job.record.retention = secs(60);
    job.unique_for = Some(secs(600));
    on.put(job).await;
    let delivery = on.take().await;

    on.settle(&delivery, done()).await;

    assert_eq!(on.q("ZSCORE Q:completed a"), (START + 60).to_string());
    assert_eq!(on.q("HGET Q:t:a state"), "completed");
    assert_eq!(on.q("HGET Q:t:a result"), "42");
    assert_eq!(on.message("a").completed_at, Some(Timestamp::from_secs(START)));
    assert_eq!(on.cli(&format!("EXISTS {}", keys::unique(&on.queue, "mail", Some(b"{}")))), "0");
    assert_eq!(on.q("EXISTS Q:active"), "0");
    assert_eq!(on.q("EXISTS Q:lease"), "0");
}

#[tokio::test]
async fn a_failed_job_waits_in_retry_and_is_counted_twice() {
    let on = Harness::start();
    on.put(on.job("a")).await;
    let delivery = on.take().await;

    on.settle(&delivery, retry(Duration::from_micros(1_000_001))).await;

    assert_eq!(on.q("ZSCORE Q:retry a"), (START + 2).to_string());
    assert_eq!(on.q("HGET Q:t:a state"), "retry");
    let message = on.message("a");
    assert_eq!((message.retried, message.last_error.as_str()), (1, "boom"));
    assert_eq!(message.last_failed_at, Some(Timestamp::from_secs(START)));
    assert_eq!(on.q("MGET Q:processed Q:failed"), "1\n1");
}

#[tokio::test]
async fn an_archived_job_has_the_second_it_was_archived() {
    let on = Harness::start();
    on.put(on.job("a")).await;
    let delivery = on.take().await;
    on.clock.advance(Duration::from_millis(2_900));

    on.settle(&delivery, archive()).await;

    assert_eq!(on.q("ZSCORE Q:archived a"), (START + 2).to_string());
    assert_eq!(on.q("HGET Q:t:a state"), "archived");
    assert_eq!(on.message("a").retried, 0);
    assert_eq!(on.q("MGET Q:processed Q:failed"), "1\n1");
}

#[tokio::test]
async fn a_requeued_job_is_at_the_tail_with_its_time() {
    let on = Harness::start();
    on.put(on.job("a")).await;
    on.put(on.job("b")).await;
    let delivery = on.take().await;

    on.settle(&delivery, Transition::Requeue).await;

    assert_eq!(on.q("LRANGE Q:pending 0 -1"), "b\na");
    assert_eq!(on.q("HGET Q:t:a pending_since"), format!("{START}000000000"));
}

#[tokio::test]
async fn without_a_manual_clock_the_servers_time_rules() {
    let on = Harness::by(Clock::system());
    on.put(on.job("a").placed(Placement::After(Duration::from_millis(60)))).await;
    let begin = Instant::now();
    loop {
        let found = on.broker.forward(&on.queue, 10).await.unwrap();
        if found.moved == 1 {
            break;
        }
        let next = found.next.expect("it waits");
        assert!(next <= Duration::from_millis(60), "{next:?}");
        tokio::time::sleep(next).await;
    }
    assert!(begin.elapsed() >= Duration::from_millis(50), "{:?}", begin.elapsed());
    let delivery = on.take().await;
    assert_eq!(on.settle(&delivery, done()).await, Settled::Done);
}

#[tokio::test]
async fn ghosts_are_removed_where_they_are_met() {
    let on = Harness::start();
    on.put(on.job("real")).await;
    on.q("RPUSH Q:pending ghost");
    on.q("ZADD Q:scheduled 1 ghost2");
    on.q("ZADD Q:retry 1 ghost3");
    on.q("ZADD Q:lease 1 ghost4 2.5 real");
    on.q("LPUSH Q:active ghost5");
    on.q("HSET Q:t:ghost5 state active");
    on.q("ZADD Q:lease 3.5 ghost5");

    let moved = on.broker.forward(&on.queue, 10).await.unwrap();
    let lapsed = on.broker.first_expired_leases(&on.queue, 10).await.unwrap();
    let delivery = on.take().await;

    assert_eq!((moved.moved, lapsed.len(), delivery.job.id.as_str()), (0, 0, "real"));
    assert_eq!(on.q("EXISTS Q:scheduled Q:retry Q:t:ghost Q:t:ghost2 Q:t:ghost5"), "0");
    assert_eq!(on.q("ZRANGE Q:lease 0 -1"), "real");
    assert_eq!(on.q("LRANGE Q:active 0 -1"), "real");
}

#[tokio::test]
async fn an_unreadable_message_is_archived_as_it_is() {
    let on = Harness::start();
    on.put(on.job("good")).await;
    on.q("HSET Q:t:bad msg garbage! state pending");
    on.q("RPUSH Q:pending bad");

    let queues = [on.queue.clone()];
    let taken = on.broker.dequeue(&queues, 5).await.unwrap();

    assert_eq!(taken.deliveries.len(), 1);
    assert_eq!(on.q("ZSCORE Q:archived bad"), START.to_string());
    assert_eq!(on.q("HMGET Q:t:bad msg state"), "garbage!\narchived");
    assert_eq!(on.q("LRANGE Q:active 0 -1"), "good");
}

#[tokio::test]
async fn what_a_go_forwarder_or_a_tool_did_first_is_not_done_again() {
    let on = Harness::start();
    on.put(on.job("a").placed(Placement::After(secs(5)))).await;
    on.put(on.job("b").placed(Placement::After(secs(5)))).await;
    // Run at once, by a tool; and put off, by a tool.
    on.q("ZREM Q:scheduled a");
    on.q("LPUSH Q:pending a");
    on.q("HSET Q:t:a state pending");
    on.q(&format!("ZADD Q:scheduled {} b", START + 50));
    on.clock.advance(secs(5));

    assert_eq!(on.broker.forward(&on.queue, 10).await.unwrap().moved, 0);
    assert_eq!(on.q("LRANGE Q:pending 0 -1"), "a");
    assert_eq!(on.q("EXISTS Q:x:due"), "0");
    let info = on.broker.queue(&on.queue).await.unwrap();
    assert_eq!(info.sizes["scheduled"], 1);
    on.clock.advance(secs(45));
    assert_eq!(on.broker.forward(&on.queue, 10).await.unwrap().moved, 1);
}

#[tokio::test]
async fn what_go_scheduled_is_forwarded_into_pending_or_its_group() {
    let on = Harness::start();
    on.put(on.job("a").placed(Placement::After(secs(5)))).await;
    on.put(on.job("b").placed(Placement::After(secs(5)))).await;
    on.q("DEL Q:x:due");
    on.q("HSET Q:t:b group digest");
    assert_eq!(on.broker.forward(&on.queue, 9).await.unwrap().next, Some(secs(5)));
    on.clock.advance(secs(5));

    assert_eq!(on.broker.forward(&on.queue, 9).await.unwrap().moved, 1);

    assert_eq!(on.q("ZSCORE Q:g:digest b"), (START + 5).to_string());
    assert_eq!(on.q("SMEMBERS Q:groups"), "digest");
    assert_eq!(on.q("HGET Q:t:b state"), "aggregating");
    let info = on.broker.job(&on.queue, &JobId::new("b").unwrap()).await.unwrap().unwrap();
    assert_eq!(info.state, JobState::Aggregating);
}

/// A message of a newer peer: fields that this version does not know, of every
/// wire type, before, between and after those that it does.
const NEWER: &[(&str, bool)] = &[
    ("8001ac02", true),             // 16, varint 300
    ("0a046d61696c", false),        // type "mail"
    ("8d0101020304", true),         // 17, 32 bits
    ("12027b7d", false),            // payload "{}"
    ("91010102030405060708", true), // 18, 64 bits
    ("1a0161", false),              // id "a"
    ("9a0103ff00fe", true),         // 19, three bytes that are no text
    ("220764656661756c74", false),  // queue "default"
    ("a301280ba401", true),         // 20, a group with a field 5 in it
    ("2805", false),                // retry 5
    ("800107", true),               // 16 once more
    ("603c", false),                // retention 60
    ("faffffff0f0178", true),       // 536870911, the highest number
];

#[tokio::test]
async fn what_a_newer_peer_wrote_is_kept_byte_for_byte_by_every_rewrite() {
    let snooze = || Transition::Retry { after: secs(1), error: "busy".to_owned(), counted: false };
    let ways = [
        ("retry", retry(secs(1))),
        ("snooze", snooze()),
        ("archive", archive()),
        ("reclaim", reclaim()),
        ("complete", done()),
    ];
    let whole: String = NEWER.iter().map(|(hex, _)| *hex).collect();
    let unknown: String =
        NEWER.iter().filter(|(_, unknown)| *unknown).map(|(hex, _)| *hex).collect();
    for (name, way) in ways {
        let on = Harness::start();
        // Three digits each: `\8` before a digit would be another byte.
        let escaped: String = (0..whole.len())
            .step_by(2)
            .map(|at| format!("\\{:03}", u8::from_str_radix(&whole[at..at + 2], 16).unwrap()))
            .collect();
        let script = format!(
            "redis.call('HSET', KEYS[1], 'msg', \"{escaped}\", 'state', 'pending') \
             return redis.call('LPUSH', KEYS[2], 'a')"
        );
        let keys = ["asynq:{default}:t:a", "asynq:{default}:pending"];
        assert_eq!(on.server.cli(&["EVAL", &script, "2", keys[0], keys[1]]), "1");
        let delivery = on.take().await;
        on.broker
            .write_output(&delivery.lease, Output::Progress(&Progress::new(1, 2)))
            .await
            .unwrap();
        assert_eq!(hex(&on.bytes("a")), whole, "taking it and writing beside it changes nothing");

        assert_eq!(on.settle(&delivery, way).await, Settled::Done, "{name}");

        let written = hex(&on.bytes("a"));
        assert_ne!(written, whole, "{name}");
        assert!(written.ends_with(&unknown), "{name}: {written}");
        let job = on.message("a");
        assert_eq!((job.job_type.as_str(), job.payload_bytes()), ("mail", &b"{}"[..]), "{name}");
        assert_eq!((job.max_retry, job.retention), (5, secs(60)), "{name}");
        assert_eq!(job.retried, u32::from(name == "retry"), "{name}");
        assert_eq!(job.completed_at.is_some(), name == "complete", "{name}");
        if name == "archive" {
            let id = JobId::new("a").unwrap();
            on.broker.edit(&on.queue, &id, b"[7]").await.unwrap();
            assert!(hex(&on.bytes("a")).contains(&unknown), "after an edit");
            assert_eq!(on.message("a").payload_bytes(), b"[7]");
        }
        // And once more, by a reader of what was written.
        if ["retry", "snooze", "reclaim"].contains(&name) {
            on.clock.advance(secs(2));
            on.broker.forward(&on.queue, 9).await.unwrap();
            on.settle(&on.take().await, archive()).await;
            assert!(hex(&on.bytes("a")).ends_with(&unknown), "{name}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let on = Harness::start();
    on.put(on.job("a")).await;
    for _ in 0..3 {
        on.cli("SCRIPT FLUSH");
        let delivery = on.take().await;
        on.cli("SCRIPT FLUSH");
        on.settle(&delivery, Transition::Requeue).await;
    }
    assert_eq!(on.q("LLEN Q:pending"), "1");
}

#[tokio::test]
async fn a_repeated_request_is_remembered_beside_the_queue() {
    let on = Harness::start();
    let mut job = on.job("a");
    job.idempotency = Some(Idempotency::new("/jobs", "k", b"body"));
    on.put(job).await;

    let key = on.cli("KEYS asynq:{default}:x:idem:*");
    assert!(on.cli(&format!("GET {key}")).ends_with(":a"));
    assert_lasts(&on, &key, 86_400);
}

#[tokio::test]
async fn a_wait_ends_at_a_push_by_anybody_and_takes_nothing() {
    let on = Harness::by(Clock::system());
    let queues = [QueueName::new("other").unwrap(), on.queue.clone()];
    let begin = Instant::now();
    on.broker.wait(&queues, Duration::from_millis(100)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(90));

    for round in 0..5 {
        let waiting = on.broker.clone();
        let names = queues.clone();
        let wait = tokio::spawn(async move { waiting.wait(&names, 2 * PATIENCE).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let waits = || async { on.cli("INFO clients").contains("blocked_clients:2\r") };
        assert!(eventually(PATIENCE, waits).await, "round {round}: {}", on.cli("CLIENT LIST"));
        on.put(on.job("a")).await;
        // One look blocks for 5 s.
        within(secs(4), wait).await.unwrap().unwrap();
        let delivery = on.take().await;
        on.settle(&delivery, done()).await;
        // A look that was parked may end once more, for the job that is gone.
        on.broker.wait(&queues, Duration::from_millis(50)).await.unwrap();
    }
    assert!(on.cli("CLIENT LIST").lines().count() < 8, "one connection for each queue");
}

#[tokio::test]
async fn an_earlier_due_time_is_told_to_every_process() {
    let on = Harness::by(Clock::system());
    let other = broker(&on.server, &on.clock);
    let listening = tokio::spawn(async move { other.due_changed().await });
    let subscribed = || async { on.cli("PUBSUB NUMSUB asynq:x:wake").ends_with('1') };
    assert!(eventually(PATIENCE, subscribed).await);

    on.put(on.job("a").placed(Placement::After(secs(60)))).await;

    within(PATIENCE, listening).await.unwrap().unwrap();
    within(PATIENCE, on.broker.due_changed()).await.unwrap();
    let gone = || async { on.cli("PUBSUB NUMSUB asynq:x:wake").ends_with('1') };
    assert!(eventually(PATIENCE, gone).await, "who is dropped listens no more");
}

#[tokio::test]
async fn an_announcement_is_where_asynqs_tools_look_and_goes_when_taken_back() {
    let on = Harness::start();
    let mut who = Announcement {
        host: "web-1".to_owned(),
        pid: 42,
        server_id: "id".to_owned(),
        concurrency: 10,
        queues: [(on.queue.clone(), 3)].into(),
        strict_priority: false,
        status: "active",
        started: Timestamp::from_secs(START),
        running: vec![Running {
            job: on.job("a").record.into(),
            started: Timestamp::from_secs(START),
            deadline: Timestamp::from_secs(START + 60),
        }],
        details: WorkerDetails::default(),
    };
    on.cli("ZADD asynq:servers 5 vanished");

    on.broker.announce(&who).await.unwrap();

    let (server, workers) = (keys::server(&who), keys::workers(&who));
    assert_eq!(server, "asynq:servers:{web-1:42:id}");
    assert_eq!(on.cli("ZRANGE asynq:servers 0 -1 WITHSCORES"), format!("{server}\n{}", START + 10));
    assert_eq!(on.cli("ZRANGE asynq:workers 0 -1"), workers);
    assert_lasts(&on, &server, 10);
    assert_lasts(&on, &workers, 10);
    assert_eq!(on.cli(&format!("HKEYS {workers}")), "a");
    assert_eq!(on.cli("SMEMBERS asynq:queues"), "default");

    who.running.clear();
    on.broker.announce(&who).await.unwrap();
    assert_eq!(on.cli(&format!("EXISTS {workers}")), "0");
    on.broker.retire(&who).await.unwrap();
    assert_eq!(on.cli(&format!("EXISTS {server} asynq:servers asynq:workers")), "0");
}

#[tokio::test]
async fn every_operation_stays_in_one_slot_of_a_cluster() {
    let server =
        RedisServer::start(&["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"]);
    server.own_all_slots();
    let ready = || async { server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") };
    assert!(eventually(PATIENCE, ready).await);
    let clock = Clock::manual(Timestamp::from_secs(START));
    let topology = Topology::Cluster(vec![server.addr()]);
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    let broker = Arc::new(RedisBroker::new(pool, clock.clone()));
    let queue = QueueName::new("critical").unwrap();
    let on = Harness { server, broker, clock, queue };
    let other = QueueName::new("low").unwrap();

    for transition in
        [done(), retry(secs(1)), archive(), Transition::Requeue, reclaim(), Transition::Revoke]
    {
        let mut job = on.job("a");
        job.record.id = JobId::random();
        job.record.payload = Some(format!("{transition:?}").into_bytes());
        job.unique_for = Some(secs(60));
        job.idempotency = Some(Idempotency::new("/jobs", &format!("{transition:?}"), b""));
        let mut elsewhere = on.job("a").placed(Placement::After(secs(1)));
        elsewhere.record.id = JobId::random();
        elsewhere.record.queue = other.clone();
        on.broker.enqueue(&[job, elsewhere]).await.unwrap();
        on.clock.advance(secs(2));
        for queue in [&on.queue, &other] {
            on.broker.forward(queue, 9).await.unwrap();
            on.broker.first_expired_leases(queue, 9).await.unwrap();
            on.broker.delete_expired(queue, 9).await.unwrap();
            on.broker.queue(queue).await.unwrap();
            let fired = Firing { queue: queue.clone(), ticks: vec![], ..on.firing("none") };
            on.broker.fire(&fired).await.unwrap();
        }
        let queues = [on.queue.clone(), other.clone()];
        on.broker.wait(&queues, secs(1)).await.unwrap();
        for delivery in on.broker.dequeue(&queues, 9).await.unwrap().deliveries {
            let lease = on.extend(&delivery).await.expect("the lease holds");
            let delivery = Delivery { lease, ..delivery };
            let written = on.broker.write_output(&delivery.lease, Output::Result(b"half")).await;
            assert_eq!(written.unwrap(), Settled::Done);
            let (queue, id) = (&delivery.lease.queue, &delivery.lease.id);
            let asked = on.broker.cancel(queue, id, AfterCancel::Retry).await;
            assert_eq!(asked.unwrap(), CancelAnswer::Requested);
            assert_eq!(on.settle(&delivery, transition.clone()).await, Settled::Done);
        }
    }
    assert!(on.broker.queue(&other).await.unwrap().processed > 4);
}
