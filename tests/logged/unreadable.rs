//! Jobs that nobody can read, with ids that are not text, as another program or a fault
//! leaves them: they end in the archive, can be looked at and acted upon, and keep no
//! other job waiting, however many they are.

mod foreign_names;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::anybody::Anybody;
use crate::support::harness::{Harness, START};
use crate::support::log::Log;
use crate::support::{RedisServer, eventually};
use rocket::http::{Accept, ContentType, Header};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{
    Broker, CancelAnswer, Control, Extended, Inspect, PoolSettings, RedisPool, SettleRequest,
    Settled, Topology,
};
use rocket_jobqueue::{
    Clock, Job, JobId, JobQueue, JobRecord, JobState, NewJob, Placement, QueueName,
    handler::{AfterCancel, Transition},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const BASE: &str = "/api/dm-jobqueue";

#[derive(Serialize, Deserialize)]
struct Chore;

impl Job for Chore {
    const TYPE: &'static str = "unreadable:chore";
}

async fn application(server: &RedisServer, worker: bool, runs: Arc<AtomicUsize>) -> Client {
    serving(server, worker, runs, &[QueueName::new("default").unwrap()]).await
}

async fn serving(
    server: &RedisServer,
    worker: bool,
    runs: Arc<AtomicUsize>,
    queues: &[QueueName],
) -> Client {
    let weights: serde_json::Map<_, _> =
        queues.iter().map(|queue| (queue.to_string(), 1.into())).collect();
    let chore = move |_: Chore| {
        let runs = runs.clone();
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(())
        }
    };
    let queue = JobQueue::fairing()
        .admin_guard::<Anybody>()
        .set("databases.jobqueue.url", format!("redis://{}", server.addr()))
        .set("jobqueue.worker", worker)
        .set("jobqueue.queues", Value::Object(weights))
        .set("jobqueue.log_to_stderr", false)
        .handle(chore);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    Client::untracked(rocket::custom(figment).attach(queue)).await.expect("it launches")
}

/// This many running jobs whose leases ended long ago, and a good one whose lease ended
/// after theirs.
async fn abandon(server: &RedisServer, entry: &str, number: usize) {
    let client = application(server, false, Arc::default()).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    queue.enqueue(Chore).id("good").await.unwrap();
    client.terminate().await;
    let script = format!(
        "local Q = 'asynq:{{default}}:'
         for n = 1, {number} do
             local id = '\\255\\254-' .. n
             redis.call('LPUSH', Q .. 'active', id)
             redis.call('ZADD', Q .. 'lease', n % 2 == 0 and 1000 + n or 1000.5 + n, id)
             {entry}
         end
         redis.call('DEL', Q .. 'pending')
         redis.call('LPUSH', Q .. 'active', 'good')
         redis.call('ZADD', Q .. 'lease', '100000.5', 'good')
         redis.call('HSET', Q .. 't:good', 'state', 'active', 'x_owner', '7')
         return 'ok'"
    );
    assert_eq!(server.cli(&["EVAL", &script, "0"]), "ok");
}

/// An id with all that makes an id hard: no UTF-8, a line break, a percent sign, a
/// slash, a space at its end.
const ODD: &[u8] = b"\xff\n50%41/x ";
const SHOWN: &str = "%FF%0A50%2541/x%20";
/// In a URL.
const PATH: &str = "%25FF%250A50%252541%2Fx%2520";

/// The same id as the text of a Lua literal.
const IN_LUA: &str = "'\\255\\n50%41/x '";

#[tokio::test]
async fn unreadable_jobs_keep_no_other_from_recovery() {
    let log = Log::of_this_process();
    let server = RedisServer::start::<&str>(&[]);
    abandon(&server, "redis.call('HSET', Q .. 't:' .. id, 'msg', '\\255', 'state', 'active')", 765)
        .await;
    let runs = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let client = application(&server, true, Arc::clone(&runs)).await;

    let recovered = eventually(PATIENCE, || async { runs.load(Ordering::SeqCst) == 1 }).await;
    println!("recovered behind 765 unreadable jobs after {:.1?}", began.elapsed());
    assert!(recovered, "{}", server.cli(&["ZCARD", "asynq:{default}:lease"]));

    let left = || async {
        server.cli(&["EXISTS", "asynq:{default}:active", "asynq:{default}:lease"]) == "0"
    };
    assert!(eventually(PATIENCE, left).await);
    assert_eq!(server.cli(&["ZCARD", "asynq:{default}:archived"]), "765");
    // Each was archived once, and said so once.
    let told = log.lines(&["archived jobs whose messages are unreadable", "%FF%FE-"]);
    let jobs = |line: &String| {
        let number = line.split("jobs=").nth(1)?.split(' ').next()?;
        number.parse::<usize>().ok()
    };
    assert_eq!(told.iter().filter_map(jobs).sum::<usize>(), 765, "{told:#?}");
    assert!(log.lines(&["could not archive", "%FF%FE-"]).is_empty());
    client.terminate().await;
}

#[tokio::test]
async fn entries_without_a_job_keep_no_other_from_recovery() {
    let server = RedisServer::start::<&str>(&[]);
    // Half of them have remains without a message, the others belong to another program.
    let entry = "if n % 2 == 0 then redis.call('HSET', Q .. 't:' .. id, 'state', 'active')
                 else redis.call('SET', Q .. 't:' .. id, 'text') end";
    abandon(&server, entry, 1500).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let client = application(&server, true, Arc::clone(&runs)).await;

    let recovered = eventually(PATIENCE, || async { runs.load(Ordering::SeqCst) == 1 }).await;
    println!("recovered behind 1500 entries of no job after {:.1?}", began.elapsed());
    assert!(recovered, "{}", server.cli(&["ZCARD", "asynq:{default}:lease"]));
    // The first round comes at once; page by page with a pause it would take minutes.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    client.terminate().await;
}

fn done() -> Transition {
    Transition::Complete { result: None }
}

#[tokio::test]
async fn a_job_in_line_behind_unreadable_ones_comes_with_the_same_call() {
    let on = Harness::start();
    on.eval(
        "for n = 1, 250 do
             redis.call('HSET', Q .. 't:\\255' .. n, 'msg', '\\255', 'state', 'pending')
             redis.call('LPUSH', Q .. 'pending', '\\255' .. n)
         end",
    );
    on.broker.enqueue(&[on.job("good")]).await.unwrap();

    let taken = on.take_many(10).await;

    let ids: Vec<&str> = taken.iter().map(|one| one.job.id.as_str()).collect();
    assert_eq!(ids, ["good"]);
    assert_eq!(on.eval("return redis.call('ZCARD', Q .. 'archived')"), "250");
    assert_eq!(on.eval("return redis.call('LLEN', Q .. 'active')"), "1");
}

/// Of another type: its hash, and what its message names as its unique lock.
#[tokio::test]
async fn a_running_job_that_was_damaged_holds_no_other_up() {
    let on = Harness::start();
    let names = ["hash", "lock", "good", "kept"];
    let mut jobs: Vec<NewJob> = names.map(|name| on.job(name)).into();
    jobs[1].record.unique_key = "asynq:{default}:active".to_owned();
    jobs[3].record.retention = Duration::from_secs(60);
    on.broker.enqueue(&jobs).await.unwrap();
    let taken = on.take_many(9).await;
    assert_eq!(taken.len(), 4);
    on.eval("redis.call('SET', Q .. 't:hash', 'text')");

    let leases: Vec<_> = taken.iter().map(|one| one.lease.clone()).collect();
    let extended = on.broker.extend(&leases).await.unwrap();
    assert!(matches!(extended[0], Extended::Lost), "{extended:?}");
    assert!(extended[1..].iter().all(|one| matches!(one, Extended::Renewed(_))), "{extended:?}");
    let ended: Vec<_> = taken.into_iter().map(|one| SettleRequest::from((one, done()))).collect();
    let settled = on.broker.settle(&ended).await.unwrap();

    // The lease is still its worker's, whatever has become of the hash.
    assert_eq!(settled, [Settled::Done; 4]);
    assert_eq!(on.eval("return redis.call('GET', Q .. 'processed')"), "4");
}

#[tokio::test]
async fn an_entry_of_another_type_holds_no_due_job_up() {
    let on = Harness::start();
    let later = |name| on.job(name).placed(Placement::After(Duration::from_secs(1)));
    on.broker.enqueue(&[later("odd"), later("good")]).await.unwrap();
    on.eval("redis.call('DEL', Q .. 't:odd') redis.call('SET', Q .. 't:odd', 'text')");
    on.clock.advance(Duration::from_secs(2));

    let forwarded = on.broker.forward(&on.queue, 10).await.unwrap();

    assert_eq!((forwarded.moved, forwarded.next), (1, None));
    assert_eq!(on.eval("return redis.call('LRANGE', Q .. 'pending', 0, -1)"), "good");
    assert_eq!(on.eval("return redis.call('GET', Q .. 't:odd')"), "text", "somebody else's");
}

/// What cannot be counted stops nothing, and is not written over, whichever script it is.
#[tokio::test]
async fn a_counter_that_is_none_stops_no_job_from_ending() {
    for (spoil, left) in [
        ("redis.call('RPUSH', Q .. 'processed', 'x')", "list"),
        ("redis.call('SET', Q .. 'processed', 'many')", "many"),
        ("redis.call('SET', Q .. 'processed', '9223372036854775807')", "1"),
    ] {
        for together in [false, true] {
            let on = Harness::start();
            on.broker.enqueue(&[on.job("a")]).await.unwrap();
            let ended: Vec<_> = on
                .take_many(1)
                .await
                .into_iter()
                .map(|one| SettleRequest::from((one, done())))
                .collect();
            on.eval(spoil);

            // The fast script removes and takes; the general one also only removes.
            let queues = [on.queue.clone()];
            let settled = match together {
                true => {
                    on.broker.exchange(&[&ended[0]], &queues, 1).await.settled.remove(0).unwrap()
                }
                false => on.broker.settle(&ended).await.unwrap()[0],
            };

            assert_eq!(settled, Settled::Done, "{spoil} {together}");
            let found = on.eval(
                "local kind = redis.call('TYPE', Q .. 'processed').ok
                 return kind == 'string' and redis.call('GET', Q .. 'processed') or kind",
            );
            assert_eq!(found, left, "{spoil} {together}");
            assert_eq!(on.eval("return redis.call('EXISTS', Q .. 't:a', Q .. 'active')"), "0");
        }
    }
}

/// From pending to its end, with all that is asked meanwhile.
#[tokio::test]
async fn a_job_whose_id_is_not_text_runs_as_any_other() {
    let Harness { server, broker, clock, queue } = Harness::start();
    let id: JobId = SHOWN.parse().unwrap();
    // The message has no id, or another one: the id in the key counts.
    let script = format!(
        "local Q, id = 'asynq:{{default}}:', {IN_LUA}
         redis.call('HSET', Q .. 't:' .. id, 'msg', '\\10\\4mail\\26\\1x\\64\\226\\255\\255\\255\\255\\255\\255\\255\\255\\1',
             'state', 'pending')
         redis.call('LPUSH', Q .. 'pending', id)
         return 'ok'"
    );
    assert_eq!(server.cli(&["EVAL", &script, "0"]), "ok");
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let other = broker.detached();
    let hearing = tokio::spawn(async move {
        let heard = move |id: &str| heard.send(id.to_owned()).unwrap_or_default();
        other.hear_cancels(Arc::new(heard)).await;
    });
    let subscribed = || async { server.cli(&["PUBSUB", "NUMSUB", "asynq:cancel"]).ends_with('1') };
    assert!(eventually(PATIENCE, subscribed).await);

    for retried in 0..3 {
        let queues = [queue.clone()];
        let delivery = broker.dequeue(&queues, 9).await.unwrap().deliveries.pop().unwrap();
        assert_eq!((&delivery.job.id, delivery.job.retried), (&id, retried));
        let error = "smtp is down".to_owned();
        let after = Duration::from_secs(1);
        let retry = Transition::Retry { after, error, counted: true };
        broker.settle(&[(delivery, retry).into()]).await.unwrap();
        clock.advance(Duration::from_secs(2));
        assert_eq!(broker.forward(&queue, 9).await.unwrap().moved, 1);
    }
    // `timeout` -30, as it came.
    let hex = format!(
        "return (string.gsub(redis.call('HGET', 'asynq:{{default}}:t:' .. {IN_LUA}, 'msg'), '.', \
         function(c) return string.format('%02x', string.byte(c)) end))"
    );
    let message = server.cli(&["EVAL", &hex, "0"]);
    assert!(message.contains("40e2ffffffffffffffff01"), "{message}");
    assert!(message.contains("1a0aff0a35302534312f7820"), "its id: {message}");

    let queues = [queue.clone()];
    let delivery = broker.dequeue(&queues, 9).await.unwrap().deliveries.pop().unwrap();
    let asked = broker.cancel(&queue, &id, AfterCancel::Archive).await.unwrap();
    assert_eq!(asked, CancelAnswer::Requested);
    assert_eq!(hears.recv().await.as_deref(), Some(SHOWN));
    let extended = broker.extend(std::slice::from_ref(&delivery.lease)).await.unwrap();
    assert!(matches!(extended[..], [Extended::Cancelled(_, AfterCancel::Archive)]));
    assert!(broker.job(&queue, &id).await.unwrap().unwrap().cancelling.is_some());
    hearing.abort();
}

/// Asynq 0.17 wrote the message, as JSON, where later versions have the id.
#[tokio::test]
async fn an_entry_of_asynq_0_17_is_archived_with_its_payload_and_a_line() {
    let log = Log::of_this_process();
    let Harness { server, broker, queue, .. } = Harness::start();
    let message = |id: &str| {
        format!(
            r#"{{"Type":"mail:old","Payload":{{"user":12345678901234567890123,"a":1e2}},"ID":"{id}","Queue":"default","Retry":25,"Retried":2,"ErrorMsg":"smtp","Timeout":60,"Deadline":0,"UniqueKey":""}}"#
        )
    };
    let ids = ["0a1b2c3d-0000-4000-8000-000000000001", "0a1b2c3d-0000-4000-8000-000000000002"];
    server.cli(&["ZADD", "asynq:{default}:scheduled", "1000", &message(ids[0])]);
    server.cli(&["ZADD", "asynq:{default}:retry", "1000", &message(ids[1])]);
    server.cli(&["ZADD", "asynq:{default}:retry", "1000", "no-such-job"]);
    assert_eq!(broker.forward(&queue, 9).await.unwrap().moved, 0);

    for (id, error) in ids.iter().zip(["smtp", "smtp"]) {
        let info = broker.job(&queue, &id.parse().unwrap()).await.unwrap().expect("it is kept");
        assert_eq!((info.state, info.record.job_type.as_str()), (JobState::Archived, "mail:old"));
        let payload = String::from_utf8(info.record.payload.unwrap()).unwrap();
        assert_eq!(payload, r#"{"user":12345678901234567890123,"a":1e2}"#);
        assert_eq!((info.record.max_retry, info.record.retried), (25, 2));
        assert_eq!((info.record.last_error.as_str(), info.record.timeout.as_secs()), (error, 60));
    }
    assert_eq!(log.lines(&["archived jobs that an Asynq before 0.18 wrote", "jobs=2"]).len(), 1);

    // Active: its worker is gone, and it has no lease.
    server.cli(&["LPUSH", "asynq:{default}:active", &message("active")]);
    assert_eq!(broker.expired_leases(&queue, 9, 0).await.unwrap().jobs, []);
    let info = broker.job(&queue, &"active".parse().unwrap()).await.unwrap().expect("it is kept");
    assert_eq!((info.state, info.record.max_retry), (JobState::Archived, 25));
    assert_eq!(server.cli(&["LLEN", "asynq:{default}:active"]), "0");
    assert_eq!(log.lines(&["archived jobs that an Asynq before 0.18 wrote", "jobs=1"]).len(), 1);

    // Pending, by the fast script and by the general one.
    for (together, name) in [(false, "fast"), (true, "general")] {
        server.cli(&["LPUSH", "asynq:{default}:pending", &message(name), "gone"]);
        let before: usize = server.cli(&["ZCARD", "asynq:{default}:archived"]).parse().unwrap();
        if together {
            broker.enqueue(&[NewJob::now(JobRecord::new("x", None, queue.clone()))]).await.unwrap();
            let one = broker.dequeue(std::slice::from_ref(&queue), 1).await.unwrap().deliveries;
            let retry = Transition::Archive { error: "x".to_owned() };
            let ended: Vec<_> =
                one.into_iter().map(|one| SettleRequest::from((one, retry.clone()))).collect();
            broker.exchange(&[&ended[0]], std::slice::from_ref(&queue), 9).await.dequeued.unwrap();
        } else {
            let taken = broker.dequeue(std::slice::from_ref(&queue), 9).await.unwrap();
            assert!(taken.deliveries.is_empty());
        }
        let after: usize = server.cli(&["ZCARD", "asynq:{default}:archived"]).parse().unwrap();
        assert!(after > before, "{name}: {before}, {after}");
        let kept: JobId = name.parse().unwrap();
        let info = broker.job(&queue, &kept).await.unwrap().expect("it is kept");
        assert_eq!(info.record.job_type, "mail:old");
        // A line for each fate.
        let first = format!("first={name}");
        let archived = log.lines(&["archived jobs that an Asynq before 0.18 wrote", &first]);
        assert_eq!(archived.len(), 1, "{name}: {archived:?}");
        let dropped = log.lines(&["dropped pending entries that have no job", "entries=1"]);
        assert_eq!(dropped.len(), if together { 2 } else { 1 }, "{name}: {dropped:?}");
    }
}
