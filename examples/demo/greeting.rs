//! Registers one job through the application's own REST route, as any client
//! would, and tells how it went.

use std::time::{Duration, Instant};

use rocket::serde::json::{Value, json};
use rocket::{Orbit, Rocket, tokio};
use rocket_jobqueue::{JobId, JobQueue, JobState};

use crate::{origin, say};

const DELAY: Duration = Duration::from_secs(3);

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

async fn greet(
    queue: &JobQueue,
    url: &str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let body = json!({ "message": "Hello from the job queue", "delay_seconds": DELAY.as_secs() });
    let began = Instant::now();
    let response = reqwest::Client::new().post(url).json(&body).send().await?;
    let status = response.status();
    let answer: Value = response.json().await?;
    let Some(id) = answer["job_id"].as_str() else {
        return Err(format!("POST {url} answered {status}: {}", answer["detail"]).into());
    };
    say(&format!("greeting     registered job {id}, which prints a line in {DELAY:?}"));
    let id = JobId::new(id)?;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // The reference job is not retained: success leaves nothing behind.
        match queue.job("default", &id).await? {
            None => break,
            Some(job) if job.state == JobState::Archived => {
                return Err(format!("job {id} failed: {}", job.job.last_error).into());
            }
            Some(_) => {}
        }
    }
    say(&format!("greeting     job {id} done {:.2?} after it was registered", began.elapsed()));
    Ok(())
}
