//! Middleware: its order, what it sees, and what it may answer.

use super::*;

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
