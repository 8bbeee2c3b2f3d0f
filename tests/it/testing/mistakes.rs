//! What a test is told that asks for something impossible or never ends.

use super::*;

#[rocket::async_test]
async fn assertions_on_what_was_enqueued_say_what_there_was() {
    let (tests, _) = plain();
    let seven = |job: &Welcome| job.user == 7;
    let nothing = message(|| drop(tests.assert_enqueued(seven)));
    tests.enqueue(Countdown(1)).await.unwrap();
    let others = message(|| drop(tests.assert_enqueued(seven)));
    tests.enqueue(Welcome { user: 8 }).delay(secs(5)).await.unwrap();
    let other = message(|| drop(tests.assert_enqueued(seven)));
    tests.assert_not_enqueued(seven);
    tests.enqueue(Welcome { user: 7 }).await.unwrap();
    let found = message(|| tests.assert_not_enqueued(seven));

    assert_eq!(tests.assert_enqueued(seven).user, 7);

    assert_eq!(nothing, r#"no such "mail:welcome" was enqueued; there was nothing at all"#);
    assert!(others.ends_with("there was none of this type, but of countdown"), "{others}");
    assert!(other.contains(r#"{"user":8} in queue default, due 5s after"#), "{other}");
    assert!(other.ends_with("now scheduled"), "{other}");
    assert!(found.starts_with(r#"such a "mail:welcome" was enqueued"#), "{found}");
}

/// Enqueues itself without a delay.
#[derive(Serialize, Deserialize)]
struct Runaway;

impl Job for Runaway {
    const TYPE: &'static str = "runaway";
}

async fn run_away(_: Runaway, queue: Managed<JobQueue>) -> Result<(), JobError> {
    queue.enqueue(Runaway).await?;
    Ok(())
}

#[test]
fn jobs_that_enqueue_themselves_without_end_fail_the_test() {
    let tests = TestQueue::new().handle(run_away);
    let runtime = rocket::tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { tests.enqueue(Runaway).await }).unwrap();

    let text = message(|| drop(tests.blocking_run_due()));

    assert!(text.contains("10000 attempts") && text.contains("\"runaway\""), "{text}");
}

#[test]
fn mistakes_of_a_test_are_told_by_name() {
    let (_, tests) = testing::queue(fairing());
    let text = message(|| drop(tests.blocking_run_due()));
    assert!(text.contains("launch with a local client"), "{text}");
    let text = message(|| drop(tests.clone().handle(run_away)));
    assert!(text.contains("the application's fairing has the handlers"), "{text}");

    let tests = TestQueue::new().handle(send_welcome);
    let text = message(|| drop(tests.queue()));
    assert!(text.contains("Journal") && text.contains(".manage("), "{text}");
    let text = message(|| drop(TestQueue::new().handle(run_away).handle(run_away)));
    assert!(text.contains("two handlers"), "{text}");

    let runtime = rocket::tokio::runtime::Runtime::new().unwrap();
    let tests = TestQueue::new();
    let text = message(|| drop(runtime.block_on(async { tests.blocking_run_due() })));
    assert!(text.contains("this test is async"), "{text}");
}

#[rocket::async_test]
async fn a_queue_that_the_application_does_not_serve_is_named() {
    let (jobs, tests) = testing::queue(fairing());
    let client = asynchronous::Client::tracked(app(jobs)).await.unwrap();
    tests.enqueue(Countdown(0)).await.unwrap();

    let report = tests.advance(secs(60)).await;

    assert!(report.is_empty());
    assert_eq!(report.unserved.len(), 1);
    assert!(report.to_string().contains("queue slow, which this application does not serve"));
    drop(client);
    let (jobs, tests) = testing::queue(fairing().set("jobqueue.queues.slow", 1));
    let _client = asynchronous::Client::tracked(app(jobs)).await.unwrap();
    tests.enqueue(Countdown(0)).await.unwrap();
    assert_eq!(tests.advance(secs(60)).await.len(), 1);
}
