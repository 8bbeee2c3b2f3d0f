//! Why a job is not running: one case for each reason.

use std::sync::LazyLock;

use rocket_jobqueue::handler::AfterCancel;
use rocket_jobqueue::inspect::{Explanation, Reason};
use rocket_jobqueue::internals::{Running, inspector};
use rocket_jobqueue::limits::{Limit, LimitKey, Rate};
use tokio::sync::Mutex;

use crate::broker_contract::bench::*;

/// A process that serves the queue of a case with ten slots.
fn worker(on: &OpenStore, name: &str) -> Announcement {
    Announcement {
        host: "host".to_owned(),
        pid: 42,
        server_id: format!("{}-{name}", on.queue),
        concurrency: 10,
        queues: [(on.queue.clone(), 1)].into(),
        strict_priority: false,
        status: "active",
        started: START,
        running: Vec::new(),
        details: rocket_jobqueue::inspect::WorkerDetails::default(),
    }
}

/// The processes of each case. The registry in Redis is everybody's: a case whose clock is later
/// removes what has expired by that clock. So a case announces its processes again just before
/// it asks, and no other one announces or asks meanwhile.
static ANNOUNCED: LazyLock<Mutex<Vec<(QueueName, Announcement)>>> = LazyLock::new(Mutex::default);

impl OpenStore {
    async fn announced(&self, who: Announcement) {
        let mut all = ANNOUNCED.lock().await;
        all.retain(|(_, one)| one.server_id != who.server_id);
        self.broker.announce(&who).await.unwrap();
        all.push((self.queue.clone(), who));
    }

    async fn retired(&self, who: Announcement) {
        let mut all = ANNOUNCED.lock().await;
        all.retain(|(_, one)| one.server_id != who.server_id);
        self.broker.retire(&who).await.unwrap();
    }

    async fn why(&self, name: &str) -> Explanation {
        let all = ANNOUNCED.lock().await;
        for (_, who) in all.iter().filter(|(queue, _)| *queue == self.queue) {
            self.broker.announce(who).await.unwrap();
        }
        let why = inspector(self.broker.clone()).explain(&self.queue, &id(name)).await.unwrap();
        drop(all);
        for reason in &why.reasons {
            assert_eq!(serde_json::to_value(reason).unwrap()["kind"], reason.kind());
        }
        assert_eq!((&why.queue, &why.id, why.at), (&self.queue, &id(name), self.clock.now()));
        why
    }

    /// The words of all reasons.
    async fn kinds(&self, name: &str) -> Vec<&'static str> {
        self.why(name).await.reasons.iter().map(Reason::kind).collect()
    }

    /// The sentence, in which `QUEUE` stands for the name of the queue.
    async fn sentence(&self, name: &str) -> String {
        self.why(name).await.to_string().replace(self.queue.as_str(), "QUEUE")
    }
}

/// A transition that is not counted, with this error.
fn parked(error: &str) -> Transition {
    Transition::Retry { after: secs(15), error: error.to_owned(), counted: false }
}

#[rstest]
#[tokio::test]
async fn a_pending_job_says_that_its_queue_is_paused(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.announced(worker(&on, "w")).await;
    on.fill(&["a"]).await;
    on.pause(true).await;
    on.clock.advance(secs(3));

    assert_eq!(on.sentence("a").await, "queue QUEUE is paused since 2096-10-02 08:00:00 UTC");
    assert_eq!(on.why("a").await.state, Some(JobState::Pending));
    on.pause(false).await;
    assert_eq!(on.kinds("a").await, ["in_line"]);
}

#[rstest]
#[tokio::test]
async fn a_pending_job_says_that_no_worker_serves_its_queue(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    other.announced(worker(&other, "w")).await;
    on.announced(Announcement { queues: [(on.queue.clone(), 0)].into(), ..worker(&on, "w") }).await;
    on.fill(&["a"]).await;
    assert_eq!(on.sentence("a").await, "no worker serves queue QUEUE");

    // What a worker does once a minute.
    on.delete_expired().await;
    on.clock.advance(secs(300));
    let seen = "no worker serves queue QUEUE; the last one was seen at 2096-10-02 08:00:00 UTC";
    assert_eq!(on.sentence("a").await, seen);
}

#[rstest]
#[tokio::test]
async fn a_pending_job_says_that_its_workers_are_stopping(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.announced(Announcement { status: "stopped", ..worker(&on, "1") }).await;
    on.fill(&["a"]).await;
    let only = "the only worker that serves queue QUEUE is quiet or stopping";
    assert_eq!(on.sentence("a").await, only);

    on.announced(Announcement { status: "closed", ..worker(&on, "2") }).await;
    assert_eq!(on.kinds("a").await, ["workers_stopping"]);
    on.announced(worker(&on, "3")).await;
    assert_eq!(on.kinds("a").await, ["in_line"]);
}

#[rstest]
#[tokio::test]
async fn a_pending_job_says_which_queues_go_first(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let (first, idle) = (on.beside(), on.beside());
    let queues = [(on.queue.clone(), 1), (first.queue.clone(), 5), (idle.queue.clone(), 3)];
    let strict = Announcement { strict_priority: true, queues: queues.into(), ..worker(&on, "1") };
    on.announced(strict.clone()).await;
    on.fill(&["a"]).await;
    assert_eq!(on.kinds("a").await, ["in_line"]);

    first.fill(&["b", "c"]).await;
    let why = on.why("a").await;
    let Reason::HigherPriority { higher, pending: 2, .. } = why.reason() else { panic!("{why}") };
    assert_eq!(higher.iter().collect::<Vec<_>>(), [&first.queue]);
    let begin = "workers serve queue QUEUE with strict priority, after 2 pending jobs of ";
    assert!(on.sentence("a").await.starts_with(begin), "{why}");

    first.pause(true).await;
    assert_eq!(on.kinds("a").await, ["in_line"], "a paused queue holds nobody up");
    first.pause(false).await;
    on.announced(Announcement { strict_priority: false, ..strict }).await;
    assert_eq!(on.kinds("a").await, ["in_line"], "priorities are not strict any more");
}

#[rstest]
#[tokio::test]
async fn a_pending_job_says_how_many_are_before_it_and_how_busy_workers_are(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["r", "a", "b", "c"]).await;
    let job = Arc::new(on.take().await.job);
    let running = Running { job, started: START, deadline: START + secs(60) };
    on.announced(Announcement { concurrency: 1, running: vec![running], ..worker(&on, "1") }).await;

    let next = "it is next in queue QUEUE; 1 worker with 1 of 1 slot in use";
    assert_eq!(on.sentence("a").await, next);
    on.announced(worker(&on, "2")).await;
    let later = "2 jobs are before it in queue QUEUE; 2 workers with 1 of 11 slots in use";
    assert_eq!(on.sentence("c").await, later);
}

#[rstest]
#[tokio::test]
async fn a_job_far_back_says_that_at_least_so_many_are_before_it(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let names: Vec<String> = (0..10_001).map(|number| number.to_string()).collect();
    for some in names.chunks(1000) {
        on.fill(&some.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    on.announced(worker(&on, "w")).await;

    let begin = "9999 jobs are before it in queue QUEUE";
    assert!(on.sentence("9999").await.starts_with(begin));
    let begin = "at least 10000 jobs are before it in queue QUEUE";
    assert!(on.sentence("10000").await.starts_with(begin));
}

#[rstest]
#[tokio::test]
async fn a_scheduled_job_says_when_it_is_due_and_what_else_keeps_it(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.announced(worker(&on, "w")).await;
    on.put(on.job("a").placed(Placement::After(secs(123)))).await;
    assert_eq!(on.sentence("a").await, "due in 2 min 3 s (at 2096-10-02 08:02:03 UTC)");
    on.pause(true).await;
    assert_eq!(on.kinds("a").await, ["due", "queue_paused"]);
    on.pause(false).await;

    on.clock.advance(secs(124));
    on.announced(worker(&on, "w")).await;
    on.fill(&["p"]).await;
    let overdue =
        "due since 2096-10-02 08:02:03 UTC; it becomes pending soon, behind 1 pending job";
    assert_eq!(on.sentence("a").await, overdue);
    on.retired(worker(&on, "w")).await;
    assert_eq!(on.kinds("a").await, ["no_worker", "overdue"]);
}

#[rstest]
#[tokio::test]
async fn a_successor_says_whose_end_it_waits_for(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.announced(worker(&on, "w")).await;
    let rebuild = |name: &str| NewJob {
        on_conflict: rocket_jobqueue::OnConflict::Replace,
        ..unique(on.job(name), secs(600))
    };
    on.put(rebuild("runs")).await;
    on.take().await;
    on.put(rebuild("next")).await;
    let waits = "waits for the end of job runs, which runs and holds its unique lock";
    assert_eq!(on.sentence("next").await, waits);
    assert_eq!(on.kinds("next").await, ["follows_job"]);
}

#[rstest]
#[tokio::test]
async fn a_job_over_its_limit_says_what_it_waits_for(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk)] store: Store,
) {
    let on = store.open().await;
    on.announced(worker(&on, "w")).await;
    let limit = Limit::new("stripe").key(LimitKey::parse("header.account").unwrap());
    let limit = limit.concurrency(2).rate(Rate::parse("6/1m").unwrap().burst(6));
    on.broker.set_limit(&on.queue, &limit).await.unwrap();
    for name in ["a", "b", "c", "d"] {
        let mut job = on.job(name);
        job.record.headers.insert("account".to_owned(), "acct_7".to_owned());
        on.put(job).await;
    }
    assert_eq!(on.take_many(10).await.len(), 2);
    on.clock.advance(secs(3));

    let waits = "waits for limit stripe, key acct_7: 2 of 2 in use since 3 s, 1 before it";
    assert_eq!(on.sentence("d").await, waits);
    assert_eq!(on.kinds("d").await, ["waits_for_limit"]);
    on.pause(true).await;
    assert_eq!(on.kinds("d").await, ["waits_for_limit", "queue_paused"]);

    // Without keys, and with nothing but a rate.
    on.broker.remove_limit(&on.queue, "stripe").await.unwrap();
    let limit = Limit::new("slow").rate(Rate::parse("1/1m").unwrap());
    on.broker.set_limit(&on.queue, &limit).await.unwrap();
    on.pause(false).await;
    assert_eq!(on.take_many(10).await.len(), 1);
    let sentence = on.sentence("d").await;
    let waits = "waits for limit slow: the next may start at 2096-10-02 08:0";
    assert!(sentence.starts_with(waits) && sentence.ends_with(", 0 before it"), "{sentence}");
}

#[rstest]
#[tokio::test]
async fn a_failed_job_says_when_it_is_tried_again_and_after_what(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.announced(worker(&on, "w")).await;
    on.fill(&["a"]).await;
    on.run(Transition::Retry { after: secs(90), error: "no\nway".to_owned(), counted: true }).await;

    let waits = "waits for its retry in 1 min 30 s (at 2096-10-02 08:01:30 UTC), 1 of 10 counted, \
                 after: no\\nway";
    assert_eq!(on.sentence("a").await, waits);
}

#[rstest]
#[tokio::test]
async fn a_job_that_its_handler_put_off_says_so(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.announced(worker(&on, "w")).await;
    on.fill(&["a"]).await;
    on.run(parked("")).await;

    let off = "put off by its handler: due in 15 s (at 2096-10-02 08:00:15 UTC)";
    assert_eq!(on.sentence("a").await, off);
}

#[rstest]
#[tokio::test]
async fn a_parked_job_says_what_its_worker_lacks(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.announced(worker(&on, "w")).await;
    on.fill(&["a", "b"]).await;
    on.run(parked("no handler for job type \"mail\" in this worker")).await;
    on.run(parked("undecodable since 2096-10-02T07:59:00.000000Z: field `to` is missing")).await;

    let handler = "parked: the worker that dequeued it has no handler for job type \"mail\"; \
                   offered again in 15 s (at 2096-10-02 08:00:15 UTC)";
    assert_eq!(on.sentence("a").await, handler);
    let payload = "parked since 2096-10-02 07:59:00 UTC: its payload cannot be decoded; offered \
                   again in 15 s (at 2096-10-02 08:00:15 UTC), and archived after an hour: field \
                   `to` is missing";
    assert_eq!(on.sentence("b").await, payload);
    assert_eq!(on.kinds("b").await, ["undecodable"]);
}

#[rstest]
#[tokio::test]
async fn a_suspect_says_that_it_runs_alone(#[values(Store::Memory, Store::Redis)] store: Store) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.run(reclaim()).await;
    on.announced(worker(&on, "w")).await;
    assert_eq!(on.kinds("a").await, ["in_line"]);
    on.run(reclaim()).await;

    assert_eq!(on.kinds("a").await, ["in_line", "suspect"]);
    let taken = on.take().await;
    let begin = "2 workers vanished while it ran; a process runs one such job at a time; it runs; ";
    assert!(on.sentence("a").await.starts_with(begin));
    assert!(on.broker.begin_suspect(&taken.lease, 1).await.unwrap());
    assert_eq!(on.kinds("a").await, ["running"]);
}

#[rstest]
#[tokio::test]
async fn a_running_job_says_where_and_until_when_its_lease_runs(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let taken = on.take().await;
    let unannounced = "it runs; its worker has not announced it yet; the lease runs until \
                       2096-10-02 08:00:30 UTC";
    assert_eq!(on.sentence("a").await, unannounced);

    let job = Arc::new(taken.job.clone());
    let running = vec![Running { job, started: START, deadline: START + secs(60) }];
    on.announced(Announcement { running, ..worker(&on, "w") }).await;
    let running = "it runs in host:42 since 2096-10-02 08:00:00 UTC; the lease runs until \
                   2096-10-02 08:00:30 UTC";
    assert_eq!(on.sentence("a").await, running);
}

#[rstest]
#[tokio::test]
async fn an_active_job_says_that_its_worker_is_gone_and_when_it_is_recovered(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.take().await;
    on.clock.advance(secs(21));

    assert_eq!(on.kinds("a").await, ["worker_gone", "no_worker"]);
    on.announced(worker(&on, "w")).await;
    let gone = "its worker is gone; its lease ends at 2096-10-02 08:00:30 UTC, and it is recovered \
                from 2096-10-02 08:00:30 UTC";
    assert_eq!(on.sentence("a").await, gone);
    on.clock.advance(secs(30));
    on.announced(worker(&on, "w")).await;
    on.pause(true).await;
    assert_eq!(on.kinds("a").await, ["worker_gone"], "a paused queue's jobs are recovered too");
}

#[tokio::test]
async fn a_job_of_a_go_worker_is_recovered_half_a_minute_later() {
    let on = Store::Redis.open().await;
    on.announced(worker(&on, "w")).await;
    on.fill(&["a"]).await;
    on.take().await;
    let lease = format!("asynq:{{{}}}:lease", on.queue);
    on.server.as_ref().unwrap().cli(&["ZADD", &lease, "4000003230", "a"]);
    on.clock.advance(secs(31));
    on.announced(worker(&on, "w")).await;

    let gone = "its worker is gone; its lease ends at 2096-10-02 08:00:30 UTC, and it is recovered \
                from 2096-10-02 08:01:00 UTC";
    assert_eq!(on.sentence("a").await, gone);
}

#[rstest]
#[tokio::test]
async fn a_job_says_that_its_cancellation_is_requested(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.take().await;
    on.broker.cancel(&on.queue, &id("a"), AfterCancel::Delete).await.unwrap();

    let why = on.why("a").await;
    assert_eq!(on.kinds("a").await, ["running", "cancel_requested"]);
    assert!(why.to_string().ends_with("; cancellation is requested; then it is deleted"), "{why}");
}

#[rstest]
#[tokio::test]
async fn a_job_says_that_its_deadline_has_passed(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let mut job = on.job("a");
    job.record.deadline = Some(START + secs(60));
    on.put(job).await;
    assert_eq!(on.kinds("a").await, ["no_worker"]);
    on.clock.advance(secs(60));

    let end = "; its deadline passed at 2096-10-02 08:01:00 UTC: the next attempt archives it";
    assert!(on.sentence("a").await.ends_with(end));
}

#[rstest]
#[tokio::test]
async fn a_job_of_a_group_says_what_the_group_waits_for(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.announced(worker(&on, "w")).await;
    on.put(grouped(on.job("a"), "digest")).await;
    on.clock.advance(secs(2));
    on.put(grouped(on.job("b"), "digest")).await;

    let waits =
        "group \"digest\" has 2 jobs, the first from 2096-10-02 08:00:00 UTC; it waits for more";
    assert_eq!(on.sentence("a").await, waits);

    let limits = GroupLimits { grace: secs(60), max_delay: Duration::ZERO, max_size: 2 };
    on.broker.claim_group(&on.queue, "digest", &limits).await.unwrap().expect("it is full");
    let aggregated =
        "group \"digest\" is being aggregated, at the latest until 2096-10-02 08:02:02 UTC";
    assert_eq!(on.sentence("b").await, aggregated);
}

/// Of so many sets not all are searched for a job.
#[rstest]
#[tokio::test]
async fn a_job_is_being_aggregated_in_whichever_of_many_sets(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.announced(worker(&on, "w")).await;
    let limits = GroupLimits { grace: secs(60), max_delay: Duration::ZERO, max_size: 1 };
    let groups: Vec<String> = (0..102).map(|n| format!("g{n:03}")).collect();
    for group in &groups {
        on.put(grouped(on.job(group), group)).await;
        on.broker.claim_group(&on.queue, group, &limits).await.unwrap().expect("it is full");
    }
    for group in &groups {
        assert_eq!(on.kinds(group).await, ["being_aggregated"], "{group}");
    }
}

#[rstest]
#[tokio::test]
async fn a_job_that_has_ended_says_how(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    on.run(archive()).await;
    on.put(on.kept("c", secs(3600))).await;
    on.run(done()).await;

    let archived = "archived at 2096-10-02 08:00:00 UTC after: bad address";
    assert_eq!(on.sentence("a").await, archived);
    let completed = "completed at 2096-10-02 08:00:00 UTC, kept until 2096-10-02 09:00:00 UTC";
    assert_eq!(on.sentence("c").await, completed);
}

#[rstest]
#[tokio::test]
async fn a_job_that_is_not_there_is_a_reason_too(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    assert_eq!(on.sentence("a").await, "queue QUEUE does not exist");

    on.fill(&["a"]).await;
    on.run(done()).await;

    let why = on.why("a").await;
    assert_eq!((why.state, on.kinds("a").await), (None, vec!["no_such_job"]));
    assert!(why.to_string().contains("has succeeded without retention"), "{why}");
}

#[tokio::test]
async fn a_damaged_job_says_what_is_wrong_with_it() {
    let on = Store::Redis.open().await;
    on.announced(worker(&on, "w")).await;
    on.fill(&["a", "b", "c"]).await;
    on.put(on.job("d").placed(Placement::After(secs(60)))).await;
    let cli = |args: &[&str]| on.server.as_ref().unwrap().cli(args);
    let key = |name: &str| format!("asynq:{{{}}}:{name}", on.queue);
    cli(&["HSET", &key("t:a"), "msg", "\u{ff}"]);
    cli(&["LREM", &key("pending"), "0", "b"]);
    cli(&["DEL", &key("t:c")]);
    cli(&["SET", &key("t:c"), "text"]);
    cli(&["ZREM", &key("scheduled"), "d"]);

    let unreadable = "job \"a\": its message is unreadable; the doctor says more";
    assert_eq!(on.sentence("a").await, unreadable);
    assert_eq!(
        on.sentence("b").await,
        "it is pending, but missing from that list; the doctor repairs it"
    );
    assert_eq!(on.kinds("c").await, ["unreadable"]);
    assert_eq!(on.kinds("d").await, ["not_listed"]);
}
