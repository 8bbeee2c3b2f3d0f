//! What lies in Redis of jobs that are collected in groups, read as any other
//! client would.

mod support;

use std::sync::Arc;
use std::time::Duration;

use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{Broker, Enqueued, PoolSettings, RedisPool, Topology};
use rocket_jobqueue::{
    Clock, JobId, JobRecord, NewJob, Placement, QueueName, Timestamp, Transition,
};
use support::RedisServer;

/// Ahead of the server's clock, so that nothing that expires is gone at once.
const START: i64 = 4_000_000_000;

struct Bench {
    server: RedisServer,
    broker: Arc<RedisBroker>,
    clock: Clock,
    queue: QueueName,
}

fn open() -> Bench {
    let server = RedisServer::start(&["--enable-debug-command", "yes"]);
    let clock = Clock::manual(Timestamp::from_secs(START));
    let settings =
        PoolSettings { topology: Topology::Single(server.addr()), ..PoolSettings::default() };
    let broker = Arc::new(RedisBroker::new(RedisPool::new(settings).unwrap(), clock.clone()));
    Bench { server, broker, clock, queue: QueueName::new("default").unwrap() }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

impl Bench {
    fn job(&self, name: &str, group: &str) -> NewJob {
        let mut record = JobRecord::new("mail", Some(b"{}".to_vec()), self.queue.clone());
        record.id = JobId::new(name).unwrap();
        record.max_retry = 5;
        record.group = group.to_owned();
        NewJob::now(record)
    }

    async fn put(&self, job: NewJob) -> Enqueued {
        self.broker.enqueue(&[job]).await.unwrap().remove(0)
    }

    /// The command with `Q:` for the queue's prefix.
    fn q(&self, command: &str) -> String {
        let command = command.replace("Q:", "asynq:{default}:");
        self.server.cli(&command.split(' ').collect::<Vec<_>>())
    }
}

#[tokio::test]
async fn a_grouped_job_lies_where_asynq_looks_for_it() {
    let on = open();
    on.clock.advance(Duration::from_millis(900));
    let mut job = on.job("a", "digest");
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
    let on = open();
    on.put(on.job("a", "digest").placed(Placement::After(Duration::from_millis(1500)))).await;

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
    let on = open();
    on.put(on.job("a", "")).await;
    on.q("HSET Q:t:a group digest");
    let queues = [on.queue.clone()];
    let delivery = on.broker.dequeue(&queues, 1).await.unwrap().deliveries.remove(0);
    let retry = Transition::Retry { after: secs(5), error: "boom".to_owned(), counted: true };
    on.broker.settle(&[(delivery, retry)]).await.unwrap();
    assert_eq!(on.q("ZSCORE Q:x:grouped a"), (START + 5).to_string());

    on.clock.advance(secs(5));
    on.broker.forward(&on.queue, 9).await.unwrap();

    assert_eq!(on.q("HGET Q:t:a state"), "aggregating");
    assert_eq!(on.q("SMEMBERS Q:groups"), "digest");
    assert_eq!(on.q("EXISTS Q:x:grouped Q:retry"), "0");
}

#[tokio::test]
async fn a_group_key_of_another_type_is_refused_and_nothing_is_changed() {
    let on = open();
    let jobs = [
        on.job("first", ""),
        on.job("now", "digest"),
        on.job("later", "digest").placed(Placement::After(secs(5))),
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
