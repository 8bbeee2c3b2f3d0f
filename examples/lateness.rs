//! The lateness of delayed jobs: 200 jobs due at random instants 1 to 4 seconds ahead, measured from
//! due to started.
//!
//! ```sh
//! cargo run --release --example lateness                         # in memory
//! cargo run --release --example lateness -- localhost:6379       # in Redis
//! ```

use std::time::{Duration, SystemTime};

use rocket::local::asynchronous::Client;
use rocket_jobqueue::{Job, JobError, JobQueue, Managed, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

const JOBS: usize = 200;

#[derive(Serialize, Deserialize)]
struct Due {
    at_micros: i64,
}

impl Job for Due {
    const TYPE: &'static str = "lateness:due";
}

type Started = mpsc::UnboundedSender<i64>;

async fn note(job: Due, started: Managed<Started>) -> Result<(), JobError> {
    let now = Timestamp::from(SystemTime::now()).as_micros();
    started.send(now - job.at_micros)?;
    Ok(())
}

#[rocket::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (started, mut lateness) = mpsc::unbounded_channel::<i64>();
    let mut queue = JobQueue::fairing().handle(note).set("jobqueue.concurrency", 50);
    queue = match std::env::args().nth(1) {
        Some(address) => queue.set("databases.jobqueue.url", format!("redis://{address}")),
        None => queue.memory().set("jobqueue.allow_memory_in_release", true),
    };
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket =
        rocket::custom(figment).manage(started).attach(queue.set("jobqueue.log_to_stderr", false));
    let client = Client::untracked(rocket).await.map_err(|error| error.to_string())?;
    let queue = client.rocket().state::<JobQueue>().ok_or("the fairing is attached")?;

    for n in 0..JOBS as u64 {
        // Spread over three seconds, no two at the same instant.
        let ahead = Duration::from_micros(1_000_000 + (n * 7_919_013 + 13) % 3_000_000);
        let due = Timestamp::from(SystemTime::now()) + ahead;
        queue.enqueue(Due { at_micros: due.as_micros() }).at(due).await?;
    }
    let mut late = Vec::with_capacity(JOBS);
    while late.len() < JOBS {
        late.push(lateness.recv().await.ok_or("the worker has gone")?);
    }
    late.sort_unstable();
    let ms = |at: usize| late[at] as f64 / 1000.0;
    println!(
        "{JOBS} delayed jobs, started - due: min {:.3} ms, p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
        ms(0),
        ms(JOBS / 2),
        ms(JOBS * 99 / 100),
        ms(JOBS - 1)
    );
    client.terminate().await;
    Ok(())
}
