//! Registers one job through the application's own REST route, as any client would, or through the
//! queue's client if that route is turned off, and prints the result.

use std::time::{Duration, Instant};

use rocket::serde::json::{Value, json};
use rocket::{Build, Orbit, Rocket, tokio};
use rocket_jobqueue::demo::DelayPrint;
use rocket_jobqueue::inspect::{JobRow, Page};
use rocket_jobqueue::{JobId, JobQueue, JobState, QueueName};

use crate::{origin, say};

const DELAY: Duration = Duration::from_secs(3);

const MESSAGE: &str = "Hello from the job queue";

type Anything = Box<dyn std::error::Error + Send + Sync>;

/// Removes greetings that an earlier process left in the store: each process prints its own.
pub async fn forget_old(rocket: Rocket<Build>) -> Rocket<Build> {
    if let Some(queue) = rocket.state::<JobQueue>() {
        // A store that does not answer is told when the job is registered.
        let _ = remove_greetings(queue).await;
    }
    rocket
}

async fn remove_greetings(queue: &JobQueue) -> Result<(), Anything> {
    let name = QueueName::new("default")?;
    for state in [JobState::Scheduled, JobState::Pending] {
        let page = queue.inspector().jobs(&name, state, &Page::default().size(100)?).await?;
        for job in page.rows.iter().filter_map(JobRow::job) {
            let greets = |job: DelayPrint| job.message.as_deref() == Some(MESSAGE);
            if job.record.decode::<DelayPrint>().is_ok_and(greets) {
                queue.inspector().delete(&name, &job.record.id).await?;
            }
        }
    }
    Ok(())
}

pub fn spawn(rocket: &Rocket<Orbit>) {
    let Some(queue) = rocket.state::<JobQueue>().cloned() else { return };
    let url = format!("{}{}/register", origin(rocket), queue.config().base);
    let mut shutdown = rocket.shutdown();
    tokio::spawn(async move {
        tokio::select! {
            () = &mut shutdown => {}
            said = greet(&queue, &url) => if let Err(error) = said {
                say(&format!("greeting: {error}"));
            }
        }
    });
}

async fn greet(queue: &JobQueue, url: &str) -> Result<(), Anything> {
    let began = Instant::now();
    let (id, how) = match queue.config().register_route {
        true => (by_route(url).await?, "registered job"),
        false => {
            let job = queue.enqueue(DelayPrint::new(MESSAGE)).delay(DELAY);
            (job.await?.id, "register_route is off, so the client enqueued job")
        }
    };
    say(&format!("greeting     {how} {id}, which prints a line in {DELAY:?}"));
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // The reference job has no retention, so it is removed when it succeeds.
        match queue.job("default", &id).await? {
            None => break,
            Some(job) if job.state == JobState::Archived => {
                return Err(format!("job {id} failed: {}", job.record.last_error).into());
            }
            Some(_) => {}
        }
    }
    say(&format!("greeting     job {id} done {:.2?} after it was registered", began.elapsed()));
    Ok(())
}

async fn by_route(url: &str) -> Result<JobId, Anything> {
    let body = json!({ "message": MESSAGE, "delay_seconds": DELAY.as_secs() });
    let response = reqwest::Client::new().post(url).json(&body).send().await?;
    let status = response.status();
    let answer: Value = response.json().await?;
    match answer["job_id"].as_str() {
        Some(id) => Ok(JobId::new(id)?),
        None => Err(format!("POST {url} answered {status}: {}", answer["detail"]).into()),
    }
}
