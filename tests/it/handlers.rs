//! Handlers and what is around them: middleware, words about failures, retry
//! policies, job types that nobody knows.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, RedisServer, within};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::{
    Job, JobContext, JobError, JobId, JobOptions, JobQueue, JobQueueFairing, JobState, MAX_RESULT,
    Managed, Progress, QueueName, RetryPolicy, UndecodableJobs, UnknownJobs,
    handler::{AfterCancel, HandlerEntry, JobHandler, JobResult, Next, Transition},
    inspect::{Cancelled, JobInfo},
};
use rstest::rstest;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Work {
    word: String,
}

impl Job for Work {
    const TYPE: &'static str = "test:work";

    fn options() -> JobOptions {
        JobOptions::new().retention(Duration::from_secs(60))
    }
}

fn work(word: &str) -> Work {
    Work { word: word.to_owned() }
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

async fn do_work(job: Work, context: JobContext, diary: Managed<Diary>) -> JobResult {
    diary.write(format!("handler {}", job.word));
    let later = || rocket_jobqueue::Timestamp::from(std::time::SystemTime::now());
    match job.word.as_str() {
        // Until it is dropped, which it writes down.
        "wait" | "wait here" => {
            struct Dropped(Diary, JobContext);
            impl Drop for Dropped {
                fn drop(&mut self) {
                    self.0.write(format!("dropped: {:?}", self.1.cancel_reason()));
                }
            }
            let _dropped = Dropped(diary.into_inner(), context);
            std::future::pending().await
        }
        "keep the thread" => {
            let end = Instant::now() + PATIENCE;
            while !context.cancelled().is_cancelled() {
                assert!(Instant::now() < end, "nobody said that the time is up");
                std::thread::sleep(Duration::from_millis(5));
            }
            let reason = context.cancel_reason();
            std::thread::sleep(Duration::from_millis(500));
            diary.write(format!("thread given back: {reason:?}"));
            Ok(None)
        }
        "say and end" => {
            for n in 1..=50 {
                context.progress((n, 50));
                tokio::task::yield_now().await;
            }
            Ok(None)
        }
        "fail when cancelled" => {
            context.cancelled().cancelled().await;
            Err(JobError::give_up("as you wish"))
        }
        "report" => {
            context.progress((1, 4));
            for n in 0..1000 {
                context.progress(Progress::new(3, 4).message(format!("{n}")));
            }
            context.write_result(&["half"]).await?;
            context.write_result_bytes(&vec![b'x'; MAX_RESULT + 1]).await.unwrap_err();
            context.cancelled().cancelled().await;
            let late = context.write_result(&["late"]).await;
            diary.write(format!("late: {:?}", late.map_err(|error| error.is_lease_lost())));
            Err(JobError::give_up("enough"))
        }
        "fail" => Err(JobError::failed("no luck")),
        "busy" if context.attempt() == 1 && context.last_error().is_none() => {
            Err(JobError::retry_in(Duration::ZERO, "the printer is busy").uncounted())
        }
        "at" => Err(JobError::retry_at(later() + Duration::from_secs(3600), "later")),
        "until" => Err(JobError::snooze_until(later() + Duration::from_secs(3600))),
        "revoke" => Err(JobError::revoke()),
        "panic" => panic!("boom"),
        word => Ok(Some(format!("\"{word}\"").into_bytes())),
    }
}

fn memory() -> JobQueueFairing {
    JobQueue::fairing().memory()
}

/// The queue of an application that runs it, with its diary.
struct App {
    client: Client,
    queue: JobQueue,
    diary: Diary,
}

impl App {
    async fn launch(queue: JobQueueFairing) -> App {
        let diary = Diary::default();
        let figment = rocket::Config::figment().merge(("log_level", "off"));
        let rocket = rocket::custom(figment).manage(diary.clone()).attach(queue);
        let client = Client::untracked(rocket).await.expect("the application launches");
        let queue = client.rocket().state::<JobQueue>().expect("it manages the handle").clone();
        App { client, queue, diary }
    }

    async fn put(&self, job: Work) -> JobId {
        self.queue.enqueue(job).await.unwrap().id
    }

    async fn cancel(&self, id: &JobId, after: AfterCancel) -> Cancelled {
        let queue = QueueName::new("default").unwrap();
        self.queue.inspector().cancel(&queue, id, after).await.unwrap()
    }

    async fn until_written(&self, line: &str) {
        until(|| async { self.diary.read().iter().any(|one| one == line).then_some(()) }).await;
    }

    async fn until_gone(&self, id: &JobId) {
        until(|| async { self.queue.job("default", id).await.unwrap().is_none().then_some(()) })
            .await;
    }

    async fn until(&self, id: &JobId, state: JobState) -> JobInfo {
        until(|| async {
            let found = self.queue.job("default", id).await.unwrap();
            found.filter(|info| info.state == state)
        })
        .await
    }
}

/// Waits until the question has an answer.
async fn until<T, F: Future<Output = Option<T>>>(mut question: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(Instant::now() < end, "it did not happen within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A middleware that writes down when it is entered and left.
fn noting(
    name: &'static str,
) -> impl Fn(JobContext, Next, Managed<Diary>) -> rocket::futures::future::BoxFuture<'static, JobResult>
+ Send
+ Sync
+ 'static {
    move |_, next, diary| {
        Box::pin(async move {
            diary.write(format!("{name} in"));
            let result = next.run().await;
            diary.write(format!("{name} out {}", if result.is_ok() { "ok" } else { "error" }));
            result
        })
    }
}

#[rocket::async_test]
async fn middleware_runs_outermost_first_around_all_handlers_and_then_around_one() {
    let handler = do_work.middleware(noting("own one")).middleware(noting("own two"));
    let queue = memory().middleware(noting("all one")).middleware(noting("all two"));
    let app = App::launch(queue.handle(handler)).await;

    let id = app.put(work("x")).await;

    app.until(&id, JobState::Completed).await;
    let into = ["all one in", "all two in", "own one in", "own two in", "handler x"];
    let out = ["own two out ok", "own one out ok", "all two out ok", "all one out ok"];
    assert_eq!(app.diary.read(), [&into[..], &out[..]].concat());
}

#[rocket::async_test]
async fn middleware_sees_the_failure_of_a_payload_that_cannot_be_read() {
    let fails = memory().undecodable_jobs(UndecodableJobs::Fail);
    let app = App::launch(fails.middleware(noting("all")).handle(do_work)).await;

    let receipt = app.queue.enqueue_raw(Work::TYPE, Some(b"[]".to_vec())).max_retry(0).await;

    app.until(&receipt.unwrap().id, JobState::Archived).await;
    assert_eq!(app.diary.read(), ["all in", "all out error"]);
}

#[rocket::async_test]
async fn middleware_can_answer_in_place_of_the_handler() {
    let instead = async |_: JobContext, _: Next| Ok::<_, JobError>(Some(b"7".to_vec()));
    let app = App::launch(memory().handle(do_work.middleware(instead))).await;

    let id = app.put(work("x")).await;

    assert_eq!(app.until(&id, JobState::Completed).await.result.as_deref(), Some(&b"7"[..]));
    assert!(app.diary.read().is_empty(), "the handler did not run");
}

#[rocket::async_test]
async fn middleware_can_say_something_else_about_a_failure() {
    async fn hopeless(context: JobContext, next: Next) -> JobResult {
        next.run().await.map_err(|error| {
            let text = error.text().unwrap_or_default();
            JobError::give_up(format!("{} at attempt {}", text, context.attempt()))
        })
    }
    let app = App::launch(memory().middleware(hopeless).handle(do_work)).await;

    let id = app.put(work("fail")).await;

    let info = app.until(&id, JobState::Archived).await;
    assert_eq!(info.record.last_error, "no luck at attempt 1");
}

#[rocket::async_test]
async fn a_panic_in_middleware_is_the_attempts_panic() {
    async fn faulty(_: JobContext, next: Next) -> JobResult {
        let _ = next.run().await;
        panic!("in the middleware");
    }
    let app = App::launch(memory().handle(do_work.middleware(faulty))).await;

    let id = app.queue.enqueue(work("x")).max_retry(0).await.unwrap().id;

    let info = app.until(&id, JobState::Archived).await;
    assert_eq!(info.record.last_error, "panic: in the middleware");
}

#[rocket::async_test]
async fn state_that_middleware_names_and_nobody_manages_stops_the_launch() {
    async fn needy(_: JobContext, next: Next, _: Managed<Arc<u128>>) -> JobResult {
        next.run().await
    }
    for queue in [memory().middleware(needy), memory().handle(do_work.middleware(needy))] {
        let figment = rocket::Config::figment().merge(("log_level", "off"));
        let rocket = rocket::custom(figment).manage(Diary::default()).attach(queue);
        // Rocket's error panics when it is dropped unread.
        assert!(rocket.ignite().await.err().map(|error| error.to_string()).is_some());
    }
}

#[rocket::async_test]
async fn a_job_that_names_its_next_attempts_instant_waits_for_it() {
    let app = App::launch(memory().handle(do_work)).await;
    for (word, retried, text) in [("at", 1, "later"), ("until", 0, "")] {
        let id = app.put(work(word)).await;

        let info = app.until(&id, JobState::Retry).await;

        assert_eq!(
            (info.record.retried, info.record.last_error.as_str()),
            (retried, text),
            "{word}"
        );
        let wait = info.due.unwrap().since(std::time::SystemTime::now().into());
        assert!(wait > Duration::from_secs(3500) && wait <= Duration::from_secs(3600), "{wait:?}");
    }
}

#[rocket::async_test]
async fn an_uncounted_failure_leaves_its_text_and_every_retry() {
    let app = App::launch(memory().handle(do_work)).await;

    let id = app.queue.enqueue(work("busy")).max_retry(0).await.unwrap().id;

    let info = app.until(&id, JobState::Completed).await;
    assert_eq!((info.record.retried, info.record.last_error.as_str()), (0, "the printer is busy"));
    assert_eq!(app.diary.read().len(), 2);
}

#[derive(Serialize, Deserialize)]
struct Thumbnail(String);

impl Job for Thumbnail {
    const TYPE: &'static str = "image:thumbnail";

    fn options() -> JobOptions {
        JobOptions::new().retention(Duration::from_secs(60)).max_retry(0)
    }
}

/// Not async: it keeps its thread, until it is cancelled for one of its jobs.
fn thumbnail(job: Thumbnail, context: JobContext, diary: Managed<Diary>) -> JobResult {
    diary.write(format!("{:?}", std::thread::current().id()));
    match job.0.as_str() {
        "panic" => panic!("boom"),
        "wait" => {
            while !context.cancelled().is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            diary.write("cancelled");
        }
        _ => {}
    }
    Ok(None)
}

/// The runtime of this test has one thread.
#[tokio::test]
async fn a_handler_that_blocks_has_another_thread_and_learns_that_it_is_cancelled() {
    let app = App::launch(memory().handle(thumbnail.blocking())).await;
    let put = async |word: &str, timeout| {
        let job = app.queue.enqueue(Thumbnail(word.to_owned()));
        job.timeout(Duration::from_secs(timeout)).await.unwrap().id
    };
    app.until(&put("x", 60).await, JobState::Completed).await;
    let ours = format!("{:?}", std::thread::current().id());
    assert!(app.diary.read().len() == 1 && app.diary.read()[0] != ours);

    let panicked = app.until(&put("panic", 60).await, JobState::Archived).await;
    assert_eq!(panicked.record.last_error, "panic: boom");
    app.until(&put("wait", 1).await, JobState::Archived).await;
    app.until_written("cancelled").await;
}

#[rocket::async_test]
async fn a_job_types_own_retry_policy_is_stronger_than_the_applications() {
    let hour = Duration::from_secs(3600);
    let raw = HandlerEntry::raw("raw", async |_: Vec<u8>, _: JobContext| {
        Err::<Option<Vec<u8>>, _>(JobError::failed("no"))
    });
    let queue = memory()
        .retry_policy(RetryPolicy::fixed(2 * hour))
        .handle(do_work.retry_policy(RetryPolicy::fixed(hour)))
        .handle(raw);
    let app = App::launch(queue).await;

    let typed = app.put(work("fail")).await;
    let raw = app.queue.enqueue_raw("raw", None).await.unwrap().id;

    for (id, expected) in [(typed, hour), (raw, 2 * hour)] {
        let info = app.until(&id, JobState::Retry).await;
        let wait = info.due.unwrap().since(std::time::SystemTime::now().into());
        assert!(wait <= expected && wait > expected - Duration::from_secs(100), "{wait:?}");
    }
}

#[rocket::async_test]
async fn the_application_is_told_what_became_of_each_attempt_also_where_a_hook_panics() {
    let told = Diary::default();
    let tell = told.clone();
    let queue = memory()
        .on_settled(|_, _| panic!("in a hook"))
        .on_settled(move |context: &JobContext, what: &Transition| {
            let (word, attempt) = (context.job_type(), context.attempt());
            tell.write(format!("{word} {attempt} {}", what.error().unwrap_or("-")));
        })
        .handle(do_work);
    let app = App::launch(queue).await;

    for word in ["x", "panic", "revoke"] {
        let known = told.read().len();
        app.queue.enqueue(work(word)).max_retry(0).await.unwrap();
        until(|| async { (told.read().len() > known).then_some(()) }).await;
    }

    assert_eq!(told.read(), ["test:work 1 -", "test:work 1 panic: boom", "test:work 1 -"]);
}

#[rocket::async_test]
async fn a_job_type_nobody_knows_is_archived_where_that_is_asked_for() {
    let app = App::launch(memory().unknown_jobs(UnknownJobs::Archive)).await;

    let id = app.put(work("x")).await;

    let info = app.until(&id, JobState::Archived).await;
    assert!(info.record.last_error.contains("no handler for job type \"test:work\""));
}

#[rocket::async_test]
async fn in_a_fleet_of_which_one_process_knows_the_type_no_attempt_is_burnt() {
    let redis = RedisServer::start::<&str>(&[]);
    let on_redis = || JobQueue::fairing().set("databases.jobqueue.addr", redis.addr());
    let old = App::launch(on_redis().set("jobqueue.concurrency", 2)).await;
    let parked = old.queue.enqueue(work("parked")).max_retry(0).await.unwrap().id;
    let info = old.until(&parked, JobState::Retry).await;
    assert_eq!(info.record.retried, 0);
    let new = App::launch(on_redis().handle(do_work).set("jobqueue.concurrency", 20)).await;
    let mut ids = vec![parked];
    for n in 0..20 {
        ids.push(new.queue.enqueue(work(&n.to_string())).max_retry(0).await.unwrap().id);
    }

    // Each time the old process takes a job, it is parked: an operator's hand stands
    // for the 15 s.
    let inspector = new.queue.inspector();
    let queue = QueueName::new("default").unwrap();
    let parked = std::cell::Cell::new(0);
    for id in &ids {
        until(|| async {
            let info = new.queue.job("default", id).await.unwrap().expect("it is kept");
            assert_eq!(info.record.retried, 0);
            assert_ne!(info.state, JobState::Archived, "{}", info.record.last_error);
            if info.state == JobState::Retry && inspector.run(&queue, id).await.is_ok() {
                parked.set(parked.get() + 1);
            }
            (info.state == JobState::Completed).then_some(())
        })
        .await;
    }
    assert!(parked.get() > 0, "the old process took one at least");
    drop((old.client, new.client));
}

/// The stores in which jobs are cancelled.
#[derive(Clone, Copy, Debug)]
enum Store {
    Memory,
    Redis,
}

impl Store {
    fn open(self) -> (JobQueueFairing, Option<RedisServer>) {
        match self {
            Store::Memory => (memory(), None),
            Store::Redis => {
                let redis = RedisServer::start::<&str>(&[]);
                let address = redis.addr();
                (JobQueue::fairing().set("databases.jobqueue.addr", address), Some(redis))
            }
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_cancelled_at_once_and_becomes_what_was_wanted(
    #[values(Store::Memory, Store::Redis)] store: Store,
    #[values(AfterCancel::Retry, AfterCancel::Archive, AfterCancel::Delete)] after: AfterCancel,
    #[values("wait", "fail when cancelled")] word: &str,
) {
    let (queue, _redis) = store.open();
    let app = App::launch(queue.handle(do_work)).await;
    let id = app.put(work(word)).await;
    app.until_written(&format!("handler {word}")).await;

    assert_eq!(app.cancel(&id, after).await, Cancelled::Requested);

    match after {
        // The handler's own word counts where nothing else is wanted.
        AfterCancel::Retry if word == "fail when cancelled" => {
            let info = app.until(&id, JobState::Archived).await;
            assert_eq!(info.record.last_error, "as you wish");
        }
        AfterCancel::Retry => {
            let info = app.until(&id, JobState::Retry).await;
            let told = (info.record.retried, info.record.last_error.as_str(), info.cancelling);
            assert_eq!(told, (1, "context canceled", None));
        }
        AfterCancel::Archive => {
            let info = app.until(&id, JobState::Archived).await;
            assert_eq!(
                (info.record.last_error.as_str(), info.cancelling),
                ("context canceled", None)
            );
        }
        _ => app.until_gone(&id).await,
    }
    let dropped = app.diary.read().iter().any(|line| line == "dropped: Some(Operator)");
    assert_eq!(dropped, word == "wait");
    app.client.terminate().await;
}

#[rocket::async_test]
async fn a_cancelled_jobs_place_is_free_when_its_handler_is_gone_and_not_before() {
    let app = App::launch(memory().set("jobqueue.concurrency", 1).handle(do_work)).await;
    let first = app.put(work("wait")).await;
    app.until_written("handler wait").await;
    let second = app.put(work("x")).await;

    app.cancel(&first, AfterCancel::Delete).await;

    app.until(&second, JobState::Completed).await;
    assert_eq!(app.diary.read(), ["handler wait", "dropped: Some(Operator)", "handler x"]);
}

#[rocket::async_test]
async fn a_handler_that_keeps_its_thread_learns_that_its_time_is_up_and_keeps_its_place() {
    let app = App::launch(memory().set("jobqueue.concurrency", 1).handle(do_work)).await;
    let limit = Duration::from_secs(1);
    app.queue.enqueue(work("keep the thread")).timeout(limit).await.unwrap();
    app.until_written("handler keep the thread").await;

    let second = app.put(work("x")).await;

    app.until(&second, JobState::Completed).await;
    let kept = "thread given back: Some(TimedOut)";
    assert_eq!(app.diary.read(), ["handler keep the thread", kept, "handler x"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_is_archived_or_deleted_at_once_and_otherwise_left_alone(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let (queue, _redis) = store.open();
    let app = App::launch(queue.set("jobqueue.worker", false)).await;
    let soon = app.put(work("x")).await;
    let later = app.queue.enqueue(work("y")).delay(Duration::from_secs(60)).await.unwrap().id;

    let left = app.cancel(&later, AfterCancel::Retry).await;
    assert_eq!(left, Cancelled::NotRunning(JobState::Scheduled));
    assert_eq!(app.cancel(&later, AfterCancel::Archive).await, Cancelled::Done);
    app.until(&later, JobState::Archived).await;
    let ended = app.cancel(&later, AfterCancel::Delete).await;
    assert_eq!(ended, Cancelled::NotRunning(JobState::Archived));
    assert_eq!(app.cancel(&soon, AfterCancel::Delete).await, Cancelled::Done);
    app.until_gone(&soon).await;

    let queue = QueueName::new("default").unwrap();
    let error = app.queue.inspector().cancel(&queue, &soon, AfterCancel::Delete).await;
    assert!(error.unwrap_err().is_not_found());
}

#[rocket::async_test]
async fn an_id_that_asynqs_tools_call_out_is_a_failed_attempt_in_every_queue() {
    let redis = RedisServer::start::<&str>(&[]);
    let queue = JobQueue::fairing()
        .set("databases.jobqueue.addr", redis.addr())
        .set("jobqueue.queues.other", 1);
    let app = App::launch(queue.handle(do_work)).await;
    for queue in ["default", "other"] {
        app.queue.enqueue(work("wait")).queue(queue).id("one").await.unwrap();
    }
    let spared = app.queue.enqueue(work("wait here")).id("two").await.unwrap().id;
    until(|| async { (app.diary.read().len() == 3).then_some(()) }).await;

    // Until the worker listens, nobody hears.
    until(|| async { (redis.cli(&["PUBLISH", "asynq:cancel", "one"]) == "1").then_some(()) }).await;

    let one = JobId::new("one").unwrap();
    for queue in ["default", "other"] {
        let job = until(|| async {
            let info = app.queue.job(queue, &one).await.unwrap();
            info.filter(|info| info.state == JobState::Retry)
        });
        let job = job.await.record;
        assert_eq!((job.retried, job.last_error.as_str()), (1, "context canceled"), "{queue}");
    }
    app.until(&spared, JobState::Active).await;
    app.client.terminate().await;
}

#[rocket::async_test]
async fn a_wish_whose_message_was_lost_is_carried_out_with_the_next_heartbeat() {
    let redis = RedisServer::start::<&str>(&[]);
    let queue = JobQueue::fairing().set("databases.jobqueue.addr", redis.addr());
    let app = App::launch(queue.handle(do_work)).await;
    let id = app.put(work("wait")).await;
    app.until_written("handler wait").await;
    let task = format!("asynq:{{default}}:t:{id}");

    // What the script writes, without what it publishes.
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    redis.cli(&["HSET", &task, "x_cancel", "archive"]);

    // 5 s, and what a busy machine takes.
    within(Duration::from_secs(20), app.until(&id, JobState::Archived)).await;
    app.client.terminate().await;
}

#[rocket::async_test]
async fn a_cancelled_job_that_a_go_worker_put_back_in_line_ends_without_running() {
    use rocket_jobqueue::internals::{Broker, PoolSettings, RedisPool, Topology};
    let redis = RedisServer::start::<&str>(&[]);
    let topology = Topology::Single(redis.addr());
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    let clock = rocket_jobqueue::Clock::system();
    let other = rocket_jobqueue::internals::redis::RedisBroker::new(pool, clock);
    let fairing = || JobQueue::fairing().set("databases.jobqueue.addr", redis.addr());
    let app = App::launch(fairing().set("jobqueue.worker", false)).await;
    let id = app.put(work("x")).await;
    let queues = [QueueName::new("default").unwrap()];
    other.dequeue(&queues, 1).await.unwrap();
    assert_eq!(app.cancel(&id, AfterCancel::Archive).await, Cancelled::Requested);
    // As a Go worker does at its shutdown, which knows nothing of the cancel request.
    let (key, id_text) = (format!("asynq:{{default}}:t:{id}"), id.as_str());
    redis.cli(&["LREM", "asynq:{default}:active", "0", id_text]);
    redis.cli(&["ZREM", "asynq:{default}:lease", id_text]);
    redis.cli(&["RPUSH", "asynq:{default}:pending", id_text]);
    redis.cli(&["HSET", &key, "state", "pending"]);

    let worker = App::launch(fairing().handle(do_work)).await;

    assert_eq!(worker.until(&id, JobState::Archived).await.record.last_error, "context canceled");
    assert!(worker.diary.read().is_empty(), "the handler did not run");
    worker.client.terminate().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_last_word_of_progress_is_stored_when_the_job_ends(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let (queue, _redis) = store.open();
    let app = App::launch(queue.handle(do_work)).await;
    let id = app.put(work("say and end")).await;

    let info = app.until(&id, JobState::Completed).await;

    assert_eq!(info.progress, Some(Progress::new(50, 50)));
    app.client.terminate().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn progress_and_result_are_seen_while_the_job_runs_and_kept_when_it_failed(
    #[values(Store::Memory, Store::Redis)] store: Store,
) {
    let (queue, _redis) = store.open();
    let app = App::launch(queue.handle(do_work)).await;
    let id = app.put(work("report")).await;

    let wanted = Progress::new(3, 4).message("999");
    let seen = until(|| async {
        let info = app.queue.job("default", &id).await.unwrap()?;
        (info.progress.as_ref() == Some(&wanted) && info.result.is_some()).then_some(info)
    });
    let seen = seen.await;

    assert_eq!(seen.state, JobState::Active);
    assert_eq!(seen.result.as_deref(), Some(&b"[\"half\"]"[..]));
    app.cancel(&id, AfterCancel::Archive).await;
    let info = app.until(&id, JobState::Archived).await;
    assert_eq!((info.progress, info.result), (seen.progress, seen.result));
    assert!(app.diary.read().contains(&"late: Err(true)".to_owned()), "{:?}", app.diary.read());
    app.client.terminate().await;
}
