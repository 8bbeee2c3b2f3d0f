//! How soon the jobs of killed workers run again: 20 worker processes are killed with SIGKILL in the
//! middle of a job, and another worker takes over. Runs for about a minute.
//!
//! ```sh
//! cargo run --example recovery -- localhost:6379 20
//! ```
//!
//! Uses a queue of its own, `recovery-<process id>`, and leaves nothing behind.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rocket::local::asynchronous::Client;
use rocket_jobqueue::{Job, JobContext, JobError, JobQueue, Managed};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// The default number of killed workers.
const VICTIMS: usize = 20;

/// The second argument of a victim, instead of a number; the third is its queue.
const VICTIM: &str = "victim";

/// The victims die at different times after their last heartbeat, which is sent every 5 s.
const BETWEEN_KILLS: Duration = Duration::from_millis(500);

#[derive(Serialize, Deserialize)]
struct Work;

impl Job for Work {
    const TYPE: &'static str = "recovery:work";
}

/// A victim prints the job it has and never ends it; the rescuer reports when it started.
#[derive(Clone)]
enum Role {
    Victim,
    Rescuer(mpsc::UnboundedSender<(String, Instant)>),
}

async fn work(_: Work, job: JobContext, role: Managed<Role>) -> Result<(), JobError> {
    match &*role {
        Role::Victim => {
            println!("{}", job.id());
            std::io::stdout().flush()?;
            std::future::pending().await
        }
        Role::Rescuer(began) => {
            began.send((job.id().to_string(), Instant::now())).map_err(JobError::from)
        }
    }
}

async fn start(
    role: Role,
    address: &str,
    queue: &str,
    concurrency: usize,
) -> Result<Client, String> {
    let fairing = JobQueue::fairing()
        .handle(work)
        .set("databases.jobqueue.url", format!("redis://{address}"))
        .set("jobqueue.queues", HashMap::from([(queue, 1)]))
        .set("jobqueue.concurrency", concurrency)
        .set("jobqueue.log_to_stderr", false);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).manage(role).attach(fairing);
    Client::untracked(rocket).await.map_err(|error| error.to_string())
}

/// A process that is killed when this is dropped.
struct Victim(Child);

impl Victim {
    /// Starts a victim and waits until it has a job.
    fn start(address: &str, queue: &str) -> Result<(Self, String), Box<dyn std::error::Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([address, VICTIM, queue]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut victim = Self(command.spawn()?);
        let out = victim.0.stdout.take().ok_or("its output")?;
        let job = BufReader::new(out).lines().next().ok_or("it ended before it had a job")??;
        Ok((victim, job))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // SIGKILL; an error means that it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[rocket::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = arguments.first().cloned().unwrap_or_else(|| "localhost:6379".to_owned());
    let count = match arguments.get(1).map(String::as_str) {
        Some(VICTIM) => {
            let queue = arguments.get(2).ok_or("a victim is told its queue")?;
            let _client = start(Role::Victim, &address, queue, 1).await?;
            return std::future::pending().await;
        }
        Some(number) => number.parse()?,
        None => VICTIMS,
    };

    let queue = format!("recovery-{}", std::process::id());
    let (began, mut reruns) = mpsc::unbounded_channel();
    let mut victims = Vec::new();
    {
        let producer = JobQueue::fairing()
            .set("databases.jobqueue.url", format!("redis://{address}"))
            .set("jobqueue.worker", false)
            .set("jobqueue.log_to_stderr", false);
        let figment = rocket::Config::figment().merge(("log_level", "off"));
        let client = Client::untracked(rocket::custom(figment).attach(producer)).await?;
        let jobs = client.rocket().state::<JobQueue>().ok_or("the fairing is attached")?;
        for _ in 0..count {
            jobs.enqueue(Work).queue(queue.clone()).await?;
        }
        client.terminate().await;
    }
    for _ in 0..count {
        victims.push(Victim::start(&address, &queue)?);
    }
    println!("{count} workers, each in the middle of a job, are killed with SIGKILL …");
    let rescuer = start(Role::Rescuer(began), &address, &queue, count).await?;
    let mut killed = HashMap::new();
    for (victim, job) in victims {
        tokio::time::sleep(BETWEEN_KILLS).await;
        drop(victim);
        killed.insert(job, Instant::now());
    }
    let mut took = Vec::new();
    while took.len() < count {
        let (job, began) = reruns.recv().await.ok_or("the rescuer has gone")?;
        let killed = killed.get(&job).ok_or("a job ran that nobody had")?;
        took.push(began.duration_since(*killed).as_secs_f64());
    }
    took.sort_unstable_by(f64::total_cmp);
    println!(
        "kill -9 to rerun, {count} of {count} jobs: min {:.1} s, p50 {:.1} s, max {:.1} s",
        took[0],
        took[count / 2],
        took[count - 1]
    );
    rescuer.terminate().await;
    Ok(())
}
