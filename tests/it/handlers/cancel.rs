//! Jobs that are cancelled: while they run, while they wait, and by Asynq's own tools.

use super::*;

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
