//! Enqueueing as an application does it: every option, one by one and in bulk,
//! and what stands in the way of a job.

use crate::support;
use std::time::Duration;

use rocket::local::asynchronous::Client;
use rocket_jobqueue::{
    Draft, Error, Idempotency, Job, JobOptions, JobQueue, JobQueueFairing, JobState, QueueName,
    Receipt, Timestamp,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Welcome {
    user: u64,
}

impl Job for Welcome {
    const TYPE: &'static str = "mail:welcome";

    fn options() -> JobOptions {
        JobOptions::new().queue("mail").max_retry(3)
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// An application that only enqueues, so that what it stored stays as it was.
async fn app(queue: JobQueueFairing) -> (Client, JobQueue) {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).attach(queue.set("jobqueue.worker", false));
    let client = Client::untracked(rocket).await.expect("the application launches");
    let queue = client.rocket().state::<JobQueue>().unwrap().clone();
    (client, queue)
}

async fn sizes(queue: &JobQueue, name: &str) -> (u64, u64, u64) {
    let info = queue.inspector().queue(&QueueName::new(name).unwrap()).await.unwrap();
    (info.sizes["pending"], info.sizes["scheduled"], info.sizes["aggregating"])
}

fn id(outcome: &Result<Receipt, Error>) -> &str {
    outcome.as_ref().expect("it is stored").id.as_str()
}

#[rocket::async_test]
async fn each_job_of_a_bulk_has_its_own_options_and_its_own_outcome() {
    let (_app, queue) = app(JobQueue::fairing().memory().set("jobqueue.max_payload", 1000)).await;
    let key = || Idempotency::new("/sign-up", "key", b"{}");

    let outcomes = queue
        .enqueue_all([
            Draft::new(Welcome { user: 1 }).id("one"),
            Draft::new(Welcome { user: 2 }).delay(secs(60)).header("trace", "00-ff"),
            Draft::new(Welcome { user: 3 }).id("one"),
            Draft::new(Welcome { user: 4 }).queue("no spaces"),
            Draft::new(Welcome { user: 5 }).group("digest").unique_for(secs(60)).id("five"),
            Draft::new(Welcome { user: 5 }).unique_for(secs(60)),
            Draft::raw("big", Some(vec![b'x'; 1001])),
            Draft::raw("elsewhere", None).queue("other").retention(Duration::from_millis(1)),
            Draft::new(Welcome { user: 6 }).idempotency(key()).id("six"),
            Draft::new(Welcome { user: 6 }).idempotency(key()),
            Draft::new(Welcome { user: 5 }).unique_for(secs(60)).or_existing(),
        ])
        .await;

    assert_eq!(outcomes.len(), 11);
    assert_eq!(id(&outcomes[0]), "one");
    assert_eq!(outcomes[1].as_ref().unwrap().state, JobState::Scheduled);
    assert!(outcomes[2].as_ref().unwrap_err().is_id_conflict());
    assert!(outcomes[3].as_ref().unwrap_err().is_invalid());
    assert_eq!(outcomes[4].as_ref().unwrap().state, JobState::Aggregating);
    let duplicate = outcomes[5].as_ref().unwrap_err();
    assert!(duplicate.is_duplicate());
    assert_eq!(duplicate.holder().map(|id| id.as_str()), Some("five"));
    let too_big = outcomes[6].as_ref().unwrap_err();
    assert!(too_big.is_invalid(), "{too_big}");
    assert_eq!(too_big.to_string(), "payload of \"big\": expected at most 1000 bytes, found 1001");
    let elsewhere = outcomes[7].as_ref().unwrap();
    assert_eq!(elsewhere.queue.as_str(), "other");
    assert_eq!(id(&outcomes[9]), "six");
    assert!(outcomes[9].as_ref().unwrap().replayed);
    let existing = outcomes[10].as_ref().unwrap();
    assert_eq!((existing.id.as_str(), existing.existing), ("five", true));

    assert_eq!(sizes(&queue, "mail").await, (2, 1, 1));
    assert_eq!(sizes(&queue, "other").await, (1, 0, 0));
    let other = queue.job("other", &elsewhere.id).await.unwrap().unwrap().record;
    assert_eq!(other.retention, secs(1), "rounded up");
    let traced = &outcomes[1].as_ref().unwrap().id;
    let traced = queue.job("mail", traced).await.unwrap().unwrap().record;
    assert_eq!((traced.headers["trace"].as_str(), traced.max_retry), ("00-ff", 3));
}

#[rocket::async_test]
async fn every_option_of_a_single_job_is_stored() {
    let (_app, queue) = app(JobQueue::fairing().memory()).await;
    let deadline = Timestamp::from_secs(5_000_000_000);
    let at = Timestamp::from_secs(4_900_000_000);

    let receipt = queue
        .enqueue(Welcome { user: 1 })
        .queue("slow")
        .at(at)
        .max_retry(0)
        .timeout(Duration::from_millis(1500))
        .deadline(deadline)
        .retention(Duration::from_millis(500))
        .id("own")
        .header("trace", "1")
        .unique_for(secs(60))
        .group("digest")
        .await
        .unwrap();

    assert_eq!((receipt.state, receipt.due), (JobState::Scheduled, at));
    let job = queue.job("slow", &receipt.id).await.unwrap().unwrap().record;
    assert_eq!(job.id.as_str(), "own");
    assert_eq!((job.max_retry, job.timeout, job.retention), (0, secs(2), secs(1)));
    assert_eq!((job.deadline, job.group.as_str()), (Some(deadline), "digest"));
    assert_eq!(job.headers["trace"], "1");
    assert!(!job.unique_key.is_empty());
}

#[rocket::async_test]
async fn a_job_type_may_name_its_group_and_its_instant() {
    struct Digested;
    impl Serialize for Digested {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_unit()
        }
    }
    impl<'de> Deserialize<'de> for Digested {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Digested)
        }
    }
    impl Job for Digested {
        const TYPE: &'static str = "digested";
        fn options() -> JobOptions {
            JobOptions::new().group("all").at(Timestamp::from_secs(1))
        }
    }
    let (_app, queue) = app(JobQueue::fairing().memory()).await;

    let receipt = queue.enqueue(Digested).await.unwrap();

    assert_eq!(receipt.state, JobState::Aggregating, "the instant has passed");
    assert_eq!(queue.job("default", &receipt.id).await.unwrap().unwrap().record.group, "all");
}

#[rocket::async_test]
async fn a_group_whose_name_cannot_be_is_refused_before_anything_is_stored() {
    let (_app, queue) = app(JobQueue::fairing().memory()).await;
    for name in ["", " ", "a\nb"] {
        let error = queue.enqueue(Welcome { user: 1 }).group(name).await.unwrap_err();
        assert!(error.is_invalid() && error.to_string().starts_with("group: "), "{error}");
    }
    assert!(queue.inspector().queues().await.unwrap().is_empty());
}

#[rocket::async_test]
async fn a_duplicate_names_the_holder_or_is_answered_with_it() {
    let (_app, queue) = app(JobQueue::fairing().memory()).await;
    let welcome = || queue.enqueue(Welcome { user: 1 }).unique_for(secs(60));
    let first = welcome().or_existing().await.unwrap();
    assert!(!first.existing);

    let error = welcome().await.unwrap_err();
    assert_eq!(error.holder(), Some(&first.id));
    let second = welcome().or_existing().await.unwrap();
    assert_eq!((second.id, second.existing), (first.id, true));

    let conflict = queue.enqueue(Welcome { user: 2 }).id(second.queue.as_str());
    assert!(conflict.await.unwrap().id.as_str() == "mail");
    let conflict = queue.enqueue(Welcome { user: 3 }).id("mail").or_existing().await.unwrap_err();
    assert!(conflict.is_id_conflict() && conflict.holder().is_none());
}

#[rocket::async_test]
async fn a_closed_queue_says_so_for_each_job() {
    let (_app, queue) = app(JobQueue::fairing().memory()).await;
    queue.close().await;
    let outcomes = queue.enqueue_all((0..3).map(|user| Draft::new(Welcome { user }))).await;
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(Error::is_closed)));
}

#[rocket::async_test]
async fn a_bulk_of_nothing_is_answered_with_nothing() {
    let (_app, queue) = app(JobQueue::fairing().memory()).await;
    assert!(queue.enqueue_all(Vec::<Draft>::new()).await.is_empty());
}

#[rocket::async_test]
async fn of_jobs_that_a_frozen_redis_was_sent_the_outcome_is_unknown_and_none_is_doubled() {
    let server = support::RedisServer::start::<&str>(&[]);
    let (_app, queue) =
        app(JobQueue::fairing().set("databases.jobqueue.addr", server.addr())).await;
    queue.enqueue(Welcome { user: 0 }).await.unwrap();
    server.freeze();
    let jobs = || {
        (0..1_850)
            .map(|user| Draft::new(Welcome { user }).id(format!("job-{user}")))
            .chain([Draft::new(Welcome { user: 1 }).queue("no spaces")])
    };

    let outcomes = queue.enqueue_all(jobs()).await;

    server.thaw();
    assert_eq!(outcomes.len(), 1_851);
    let unknown =
        |outcome: &Result<_, Error>| outcome.as_ref().is_err_and(Error::is_outcome_unknown);
    // Sixteen scripts of a hundred jobs were on their way; the others were not even sent.
    assert!(outcomes[..1_600].iter().all(unknown));
    let unavailable = |outcome: &Result<_, Error>| {
        outcome.as_ref().is_err_and(|error| error.is_unavailable() && !error.is_outcome_unknown())
    };
    assert!(outcomes[1_600..1_850].iter().all(unavailable));
    assert!(outcomes[1_850].as_ref().is_err_and(Error::is_invalid));
    let again = support::eventually(support::PATIENCE, || async {
        let again = queue.enqueue_all(jobs()).await;
        again[..1_850].iter().all(|one| match one {
            Ok(_) => true,
            Err(error) => error.is_id_conflict(),
        })
    });
    assert!(again.await);
    assert_eq!(sizes(&queue, "mail").await, (1_851, 0, 0));
}
