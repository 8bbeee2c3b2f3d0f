//! The job queue's Redis as a database of the application's own.

use crate::support::{RedisServer, eventually};
use rocket::figment::Figment;
use rocket::http::Status;
use rocket::local::asynchronous::Client;
use rocket::{get, routes};
use rocket_db_pools::{Connection, Database};
use rocket_jobqueue::{Job, JobError, JobQueue, JobQueuePool, Managed};
use std::time::Duration;

/// `Clone`, so that handlers share it.
#[derive(Clone, Database)]
#[database("jobqueue")]
struct Db(JobQueuePool);

#[derive(serde::Serialize, serde::Deserialize)]
struct CountVisit;

impl Job for CountVisit {
    const TYPE: &'static str = "site:count_visit";
}

async fn count_visit(_: CountVisit, db: Managed<Db>) -> Result<u64, JobError> {
    let mut connection = rocket_db_pools::Pool::get(&**db).await?;
    Ok(redis::cmd("INCR").arg("visits").query_async(&mut connection).await?)
}

#[get("/visits")]
async fn visits(mut db: Connection<Db>) -> Result<String, Status> {
    let visits: Result<u64, _> = redis::cmd("INCR").arg("visits").query_async(&mut *db).await;
    visits.map(|visits| visits.to_string()).map_err(|_| Status::BadGateway)
}

async fn launch(settings: &[(&str, &str)]) -> Result<Client, String> {
    let mut figment = rocket::Config::figment().merge(("log_level", "off"));
    for setting in settings {
        figment = figment.merge(*setting);
    }
    let rocket = rocket::custom(figment)
        .attach(JobQueue::fairing().memory().handle(count_visit))
        .attach(Db::init())
        .mount("/", routes![visits]);
    Client::untracked(rocket).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn an_application_reaches_the_queues_redis_by_its_own_commands() {
    let redis = RedisServer::start::<&str>(&[]);
    let url = format!("redis://{}", redis.addr());
    let client = launch(&[("databases.jobqueue.url", &url)]).await.unwrap();
    for expected in ["1", "2"] {
        let answer = client.get("/visits").dispatch().await;
        assert_eq!(answer.into_string().await.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_handler_shares_the_applications_database() {
    let redis = RedisServer::start::<&str>(&[]);
    let url = format!("redis://{}", redis.addr());
    let client = launch(&[("databases.jobqueue.url", &url)]).await.unwrap();
    let queue = client.rocket().state::<JobQueue>().unwrap();
    queue.enqueue(CountVisit).await.unwrap();
    let counted = || async { redis.cli(&["get", "visits"]).trim() == "1" };
    assert!(eventually(Duration::from_secs(20), counted).await);
}

#[tokio::test]
async fn a_client_by_configuration_alone_enqueues() {
    let redis = RedisServer::start::<&str>(&[]);
    let figment =
        Figment::new().merge(("databases.jobqueue.url", format!("redis://{}", redis.addr())));
    let receipt =
        rocket_jobqueue::Client::from_figment(&figment).unwrap().enqueue(CountVisit).await;
    let stored = redis.cli(&["lrange", "asynq:{default}:pending", "0", "-1"]);
    assert_eq!(stored.trim(), receipt.unwrap().id.as_str());

    let memory = Figment::new()
        .merge(("jobqueue.store", "memory"))
        .merge(("jobqueue.allow_memory_in_release", true));
    let error = rocket_jobqueue::Client::from_figment(&memory).unwrap_err();
    assert!(error.is_config() && error.to_string().contains("found \"memory\""), "{error}");
}

#[tokio::test]
async fn a_client_of_a_url_or_a_folder_lists_and_acts() {
    let redis = RedisServer::start::<&str>(&[]);
    let url = format!("redis://{}", redis.addr());
    let client = rocket_jobqueue::Client::redis(&url).unwrap();
    let receipt = client.enqueue(CountVisit).await.unwrap();
    let page = rocket_jobqueue::inspect::Page::default();
    let found = client.inspector().search("state:pending queue:default", &page).await.unwrap();
    assert_eq!(found.rows.len(), 1);
    client.inspector().archive(&receipt.queue, &receipt.id).await.unwrap();
    let figment = Figment::new().merge(("databases.jobqueue.url", &url));
    let same = rocket_jobqueue::Client::open(&figment).await.unwrap();
    let info = same.inspector().job(&receipt.queue, &receipt.id).await.unwrap().unwrap();
    assert_eq!(info.state, rocket_jobqueue::JobState::Archived);
    assert!(rocket_jobqueue::Client::redis("http://x").unwrap_err().is_config());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs");
    let error = rocket_jobqueue::Client::disk(&path).await.unwrap_err();
    assert!(error.is_not_found() && !path.exists(), "{error}");
    let figment = Figment::new().merge(("jobqueue.store", "disk")).merge(("jobqueue.path", &path));
    assert!(rocket_jobqueue::Client::open(&figment).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn an_unreachable_redis_stops_neither_the_launch_nor_the_route() {
    let client = launch(&[("databases.jobqueue.addr", "127.0.0.1:1")]).await.unwrap();
    // The route's own word: a pool that fails in the guard would answer 503.
    assert_eq!(client.get("/visits").dispatch().await.status(), Status::BadGateway);
}

#[tokio::test]
async fn a_wrong_setting_stops_the_launch() {
    assert!(launch(&[("databases.jobqueue.read_timeout", "soon")]).await.is_err());
}
