//! Groups in an application: the aggregate function, its configuration, and
//! several processes at once. Grace periods are real seconds here.

use crate::support;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{PATIENCE, eventually, within};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::{
    Draft, Error, Idempotency, Job, JobId, JobQueue, JobQueueFairing, JobRecord, JobState, Managed,
    QueueName, testing,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Notify {
    text: String,
}

impl Job for Notify {
    const TYPE: &'static str = "mail:notify";
}

fn notify(text: &str) -> Draft {
    Draft::new(Notify { text: text.to_owned() })
}

#[derive(Serialize, Deserialize)]
struct Digest {
    group: String,
    texts: Vec<String>,
}

impl Job for Digest {
    const TYPE: &'static str = "mail:digest";
}

async fn digest(group: String, jobs: Vec<JobRecord>) -> Result<Draft, Error> {
    assert_ne!(group, "panic");
    if group == "fail" {
        return Err(jobs[0].decode::<Digest>().err().expect("it is another type"));
    }
    let texts = jobs.iter().map(|job| Ok(job.decode::<Notify>()?.text));
    let texts = texts.collect::<Result<_, Error>>()?;
    Ok(Draft::new(Digest { group, texts }).queue("not-this-one").max_retry(7))
}

/// What was sent: group → texts of each digest.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<BTreeMap<String, Vec<Vec<String>>>>>);

impl Sent {
    fn of(&self, group: &str) -> Vec<Vec<String>> {
        self.0.lock().unwrap().get(group).cloned().unwrap_or_default()
    }

    async fn eventually(&self, group: &str, texts: &[&[&str]]) {
        assert!(
            eventually(PATIENCE, || async { self.of(group) == texts }).await,
            "{:?}",
            self.of(group)
        );
    }
}

async fn send(job: Digest, sent: Managed<Sent>) -> Result<(), Error> {
    sent.0.lock().unwrap().entry(job.group).or_default().push(job.texts);
    Ok(())
}

async fn app(queue: JobQueueFairing, sent: &Sent) -> (Client, JobQueue) {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).manage(sent.clone()).attach(queue.handle(send));
    let client = Client::untracked(rocket).await.expect("the application launches");
    let queue = client.rocket().state::<JobQueue>().unwrap().clone();
    (client, queue)
}

fn memory() -> JobQueueFairing {
    JobQueue::fairing().memory().set("jobqueue.group_grace", "1s")
}

async fn put(queue: &JobQueue, jobs: impl IntoIterator<Item = Draft>) {
    for outcome in queue.enqueue_all(jobs).await {
        outcome.expect("it is stored");
    }
}

async fn aggregating(queue: &JobQueue) -> u64 {
    let name = QueueName::new("default").unwrap();
    queue.inspector().queue(&name).await.unwrap().sizes["aggregating"]
}

#[rocket::async_test]
async fn jobs_of_a_group_become_one_job_in_their_own_queue() {
    let sent = Sent::default();
    let (app, queue) = app(memory().aggregate(digest), &sent).await;

    put(
        &queue,
        [
            notify("a").group("ann").id("1"),
            notify("b").group("ann").id("2"),
            notify("c").group("bob"),
            notify("d").group("ann").id("3").delay(Duration::from_millis(100)),
        ],
    )
    .await;

    sent.eventually("ann", &[&["a", "b", "d"]]).await;
    sent.eventually("bob", &[&["c"]]).await;
    assert_eq!(aggregating(&queue).await, 0);
    assert!(queue.job("default", &JobId::new("1").unwrap()).await.unwrap().is_none());
    let names = queue.inspector().queues().await.unwrap();
    assert_eq!(names.iter().map(QueueName::as_str).collect::<Vec<_>>(), ["default"]);
    app.terminate().await;
}

#[rocket::async_test]
async fn a_function_that_fails_or_panics_changes_nothing_and_stops_no_other_group() {
    let sent = Sent::default();
    let (app, queue) = app(memory().aggregate(digest), &sent).await;

    put(
        &queue,
        ["fail", "panic", "fail2", "good"].map(|group| {
            notify("a").id(group).group(if group == "fail2" { "fail" } else { group })
        }),
    )
    .await;

    sent.eventually("good", &[&["a"]]).await;
    for name in ["fail", "panic", "fail2"] {
        let job = queue.job("default", &JobId::new(name).unwrap()).await.unwrap().unwrap();
        assert_eq!((job.state, job.record.retried), (JobState::Aggregating, 0), "{name}");
    }
    // The three permits for functions are free again.
    put(&queue, (0..9).map(|n| notify("x").group(format!("group {n}")))).await;
    for n in 0..9 {
        sent.eventually(&format!("group {n}"), &[&["x"]]).await;
    }
    app.terminate().await;
}

#[rocket::async_test]
async fn a_full_group_does_not_wait_for_peace() {
    let sent = Sent::default();
    let queue = JobQueue::fairing()
        .memory()
        .set("jobqueue.group_grace", "1h")
        .set("jobqueue.group_max_size", 2);
    let (app, queue) = app(queue.aggregate(digest), &sent).await;

    put(&queue, ["a", "b", "c"].map(|text| notify(text).id(text).group("ann"))).await;

    sent.eventually("ann", &[&["a", "b"]]).await;
    assert_eq!(aggregating(&queue).await, 1);
    app.terminate().await;
}

#[rocket::async_test]
async fn no_job_waits_longer_than_the_greatest_delay() {
    let sent = Sent::default();
    let queue = JobQueue::fairing()
        .memory()
        .set("jobqueue.group_grace", "1h")
        .set("jobqueue.group_max_delay", "500ms");
    let (app, queue) = app(queue.aggregate(digest), &sent).await;

    put(&queue, [notify("a").group("ann")]).await;

    sent.eventually("ann", &[&["a"]]).await;
    app.terminate().await;
}

#[rocket::async_test]
async fn no_more_than_three_functions_run_at_a_time() {
    let sent = Sent::default();
    let running = Arc::new(Mutex::new((0, 0)));
    let count = Arc::clone(&running);
    let fairing = memory().aggregate(move |group, jobs: Vec<JobRecord>| {
        let count = Arc::clone(&count);
        async move {
            {
                let (now, most) = &mut *count.lock().unwrap();
                *now += 1;
                *most = (*now).max(*most);
            }
            rocket::tokio::time::sleep(Duration::from_millis(50)).await;
            count.lock().unwrap().0 -= 1;
            digest(group, jobs).await
        }
    });
    let (app, queue) = app(fairing, &sent).await;

    put(&queue, (0..10).map(|n| notify("x").group(format!("group {n}")))).await;

    for n in 0..10 {
        sent.eventually(&format!("group {n}"), &[&["x"]]).await;
    }
    assert_eq!(running.lock().unwrap().1, 3);
    app.terminate().await;
}

#[test]
fn a_test_that_moves_the_clock_aggregates_too() {
    let sent = Sent::default();
    let fairing = JobQueue::fairing().set("jobqueue.group_grace", "60s").aggregate(digest);
    let (jobs, tests) = testing::queue(fairing.handle(send));
    let rocket = rocket::custom(rocket::Config::figment().merge(("log_level", "off")));
    let client =
        rocket::local::blocking::Client::untracked(rocket.manage(sent.clone()).attach(jobs));
    let client = client.expect("the application launches");
    let queue = client.rocket().state::<JobQueue>().unwrap();
    rocket::execute(put(
        queue,
        [
            notify("a").group("ann"),
            notify("b").group("ann").delay(Duration::from_secs(30)),
            notify("c").group("fail"),
        ],
    ));

    assert!(tests.blocking_advance(Duration::from_secs(89)).is_empty());
    let report = tests.blocking_advance(Duration::from_secs(1));

    assert_eq!(report.len(), 1);
    assert_eq!(sent.of("ann"), [["a", "b"]]);
    let made = tests.assert_enqueued::<Digest>(|job| job.group == "ann");
    assert!(made.id.as_str().ends_with("000000000004"), "{}", made.id);
    // The function fails again and again, each time after two minutes.
    assert!(tests.blocking_advance(Duration::from_secs(3600)).is_empty());
}

#[rocket::async_test]
async fn without_a_function_groups_are_left_alone() {
    let sent = Sent::default();
    let (app, queue) = app(memory(), &sent).await;
    put(&queue, [notify("a").group("ann")]).await;

    rocket::tokio::time::sleep(Duration::from_millis(2500)).await;

    assert_eq!(aggregating(&queue).await, 1);
    app.terminate().await;
}

#[rocket::async_test]
async fn a_function_that_is_running_at_shutdown_ends_or_its_jobs_go_back() {
    for (patience, ends) in [("20s", true), ("50ms", false)] {
        let sent = Sent::default();
        let began = Arc::new(rocket::tokio::sync::Notify::new());
        let tell = Arc::clone(&began);
        let fairing = memory().set("jobqueue.shutdown_timeout", patience).aggregate(
            move |group, jobs: Vec<JobRecord>| {
                tell.notify_one();
                async move {
                    rocket::tokio::time::sleep(Duration::from_millis(700)).await;
                    digest(group, jobs).await
                }
            },
        );
        let (_app, queue) = app(fairing, &sent).await;
        put(&queue, [notify("a").id("a").group("ann")]).await;
        began.notified().await;

        queue.shutdown().await;

        let job = queue.job("default", &JobId::new("a").unwrap()).await.unwrap();
        assert_eq!(job.is_none(), ends, "{patience}");
        assert_eq!(aggregating(&queue).await, u64::from(!ends), "{patience}");
        queue.close().await;
    }
}

#[rocket::async_test]
async fn two_processes_aggregate_each_job_once() {
    let server = support::RedisServer::start::<&str>(&[]);
    let sent = Sent::default();
    let process = || {
        let fairing = JobQueue::fairing()
            .set("databases.jobqueue.addr", server.addr())
            .set("jobqueue.group_grace", "1s")
            .set("jobqueue.group_max_size", 7)
            .aggregate(digest);
        app(fairing, &sent)
    };
    let ((one, queue), (two, _)) = (process().await, process().await);
    let groups = 20;
    let texts: Vec<_> = (0..300).map(|n| n.to_string()).collect();

    put(
        &queue,
        texts
            .iter()
            .enumerate()
            .map(|(n, text)| notify(text).group(format!("group {}", n % groups))),
    )
    .await;

    let all = || {
        let sent = sent.0.lock().unwrap();
        let mut all: Vec<_> = sent.values().flatten().flatten().cloned().collect();
        all.sort_by_key(|text| text.parse::<u32>().unwrap());
        all
    };
    assert!(eventually(PATIENCE, || async { all().len() >= texts.len() }).await, "{:?}", all());
    assert!(all() == texts, "each text once: {:?}", all());
    let sizes = sent.0.lock().unwrap().values().flatten().map(Vec::len).collect::<Vec<_>>();
    assert!(sizes.iter().all(|size| *size <= 7), "{sizes:?}");
    assert_eq!(server.cli(&["EXISTS", "asynq:{default}:aggregation_sets"]), "0");
    one.terminate().await;
    two.terminate().await;
}

#[rocket::async_test]
async fn a_redis_that_hangs_makes_no_shutdown_longer() {
    let server = support::RedisServer::start::<&str>(&[]);
    let began = Arc::new(rocket::tokio::sync::Notify::new());
    let tell = Arc::clone(&began);
    let fairing = JobQueue::fairing()
        .set("databases.jobqueue.addr", server.addr())
        .set("jobqueue.group_grace", "1s")
        .set("jobqueue.shutdown_timeout", "1s")
        .aggregate(move |_, _: Vec<JobRecord>| {
            tell.notify_one();
            std::future::pending::<Result<Draft, Error>>()
        });
    let (app, queue) = app(fairing, &Sent::default()).await;
    put(&queue, [notify("a").group("ann")]).await;
    began.notified().await;

    server.freeze();
    // 1 s of its own; an answer is waited for 3 s, and the function has no end.
    within(Duration::from_millis(2_900), queue.shutdown()).await;
    server.thaw();

    drop(app);
}

#[rocket::async_test]
async fn a_job_with_an_idempotency_key_is_not_made_of_a_group() {
    let sent = Sent::default();
    let fairing = memory().aggregate(|group, jobs| async move {
        let key = Idempotency::new("/digest", "key", b"");
        let keyed = group == "keyed";
        let draft = digest(group, jobs).await?;
        Ok::<_, Error>(if keyed { draft.idempotency(key) } else { draft })
    });
    let (app, queue) = app(fairing, &sent).await;

    put(&queue, ["keyed", "plain"].map(|group| notify("a").id(group).group(group))).await;

    sent.eventually("plain", &[&["a"]]).await;
    assert!(queue.job("default", &JobId::new("keyed").unwrap()).await.unwrap().is_some());
    assert!(sent.of("keyed").is_empty());
    app.terminate().await;
}
