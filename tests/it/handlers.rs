//! Handlers and what is around them: middleware, words about failures, retry
//! policies, job types that nobody knows.

mod cancel;
mod middleware;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, RedisServer, until, within};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::settings::{UndecodableJobs, UnknownJobs};
use rocket_jobqueue::{
    Job, JobContext, JobError, JobId, JobOptions, JobQueue, JobQueueFairing, JobState, MAX_RESULT,
    Managed, Progress, QueueName, RetryPolicy,
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
