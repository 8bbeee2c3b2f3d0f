//! Jobs that leave only with a successful answer, whatever changes its status.

use rocket::fairing::AdHoc;
use rocket::http::{Header, Status};
use rocket::local::asynchronous::Client;
use rocket::response::Redirect;
use rocket::{Build, Rocket, catch, catchers, post, routes};
use rocket_jobqueue::{Draft, Error, Job, JobQueue, JobQueueFairing, OnSuccess, QueueName};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
struct Welcome {
    user: u64,
}

impl Job for Welcome {
    const TYPE: &'static str = "mail:welcome";
}

/// Holds two jobs back, one of them unique, and answers with this status.
#[post("/<status>")]
async fn sign_up(status: u16, jobs: OnSuccess<'_>) -> Result<(Status, Redirect), Status> {
    let unique = Draft::new(Welcome { user: 1 }).unique_for(std::time::Duration::from_secs(60));
    jobs.enqueue(unique).unwrap();
    jobs.enqueue(Draft::new(Welcome { user: 2 })).unwrap();
    match status {
        400.. => Err(Status::new(status)),
        _ => Ok((Status::new(status), Redirect::to("/home"))),
    }
}

#[post("/invalid")]
async fn invalid(jobs: OnSuccess<'_>) -> Result<(), Error> {
    jobs.enqueue(Draft::new(Welcome { user: 1 }).queue("no spaces")).map(drop)
}

#[catch(418)]
fn teapot() -> (Status, &'static str) {
    (Status::Accepted, "it is tea after all")
}

/// A fairing that changes the status to the one of this header.
fn changing(name: &'static str) -> AdHoc {
    AdHoc::on_response(name, move |request, response| {
        Box::pin(async move {
            if let Some(status) = request.headers().get_one(name) {
                response.set_status(Status::new(status.parse().unwrap()));
            }
            response.set_header(Header::new("X-Fairing", "was here"));
        })
    })
}

fn app(jobs: JobQueueFairing) -> Rocket<Build> {
    let later = AdHoc::on_ignite("later", |rocket| async { rocket.attach(changing("Latest")) });
    rocket::custom(rocket::Config::figment().merge(("log_level", "off")))
        .attach(changing("First"))
        .attach(jobs.set("jobqueue.worker", false))
        .attach(later)
        .attach(changing("Last"))
        .mount("/", routes![sign_up, invalid])
        .register("/", catchers![teapot])
}

async fn client(jobs: JobQueueFairing) -> Client {
    Client::untracked(app(jobs)).await.expect("the application launches")
}

/// The status of the answer, and how many jobs are pending then.
async fn ask(client: &Client, status: u16, change: Option<(&'static str, &str)>) -> (u16, usize) {
    let mut request = client.post(format!("/{status}"));
    if let Some((fairing, status)) = change {
        request.add_header(Header::new(fairing, status.to_owned()));
    }
    let status = request.dispatch().await.status().code;
    let inspector = client.rocket().state::<JobQueue>().unwrap().inspector();
    let queue = QueueName::new("default").unwrap();
    let pending = match inspector.queue(&queue).await {
        Ok(info) => info.sizes["pending"] as usize,
        Err(error) => {
            assert!(error.is_not_found(), "{error}");
            0
        }
    };
    (status, pending)
}

#[rocket::async_test]
async fn jobs_leave_with_a_success_and_vanish_otherwise() {
    let client = client(JobQueue::fairing().memory()).await;
    for failed in [400, 404, 500] {
        assert_eq!(ask(&client, failed, None).await, (failed, 0));
    }
    assert_eq!(ask(&client, 303, None).await, (303, 2), "a form's answer is a success");
    // The unique one is there already, which is no failure.
    assert_eq!(ask(&client, 200, None).await, (200, 3));
    assert_eq!(client.post("/invalid").dispatch().await.status().code, 422);
}

#[rocket::async_test]
async fn the_final_status_counts_whoever_changes_it() {
    let client = client(JobQueue::fairing().memory()).await;
    let mut pending = 0;
    for fairing in ["First", "Last", "Latest"] {
        assert_eq!(ask(&client, 200, Some((fairing, "500"))).await, (500, pending), "{fairing}");
        let (status, now) = ask(&client, 500, Some((fairing, "201"))).await;
        assert!(status == 201 && now > pending, "{fairing}: {status}, {now} after {pending}");
        pending = now;
    }
    let (status, now) = ask(&client, 418, None).await;
    assert!(status == 202 && now > pending, "a catcher's answer is a success: {status}");
}

#[rocket::async_test]
async fn the_first_status_that_is_no_success_is_configurable() {
    let jobs = JobQueue::fairing().memory().set("jobqueue.on_success_below", 300);
    let client = client(jobs).await;
    assert_eq!(ask(&client, 303, None).await, (303, 0));
    assert_eq!(ask(&client, 204, None).await, (204, 2));
}

#[rocket::async_test]
async fn an_answer_whose_jobs_the_store_does_not_take_is_503_or_is_logged_and_counted() {
    // Nobody listens at port 1.
    let away = || JobQueue::fairing().set("databases.jobqueue.url", "redis://127.0.0.1:1");
    let refusing = client(away()).await;
    let answer = refusing.post("/303").dispatch().await;
    let headers = answer.headers();
    assert_eq!(answer.status(), Status::ServiceUnavailable);
    assert_eq!(headers.get_one("X-Fairing"), Some("was here"));
    assert!(headers.contains("Retry-After") && !headers.contains("Location"));
    let problem: serde_json::Value = answer.into_json().await.unwrap();
    assert_eq!(problem["status"], json!(503));
    assert_eq!(refusing.post("/500").dispatch().await.status().code, 500, "nothing was asked");

    let logging = client(away().set("jobqueue.on_success_failure", "log")).await;
    let answer = logging.post("/303").dispatch().await;
    assert_eq!(answer.status(), Status::SeeOther);
    assert_eq!(answer.headers().get_one("Location"), Some("/home"));
}
