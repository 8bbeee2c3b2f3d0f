//! azums under the same load as `cargo run --example load`, on Redis, in memory or on SQLite: one
//! JSON line on standard output. See ../README.md.

#[path = "../../rust/src/common.rs"]
mod common;
#[path = "../../rust/src/scenarios.rs"]
mod scenarios;

use std::sync::Arc;
use std::time::Duration;

use azums::{Client, Job};
use clap::Parser;

use common::{Options, Outcome};
use scenarios::{Noop, Notes, Queue};

#[derive(Parser)]
#[command(args_override_self = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// `memory` or `sqlite://FILE` instead of Redis.
    #[arg(long)]
    store: Option<String>,
}

#[derive(Clone)]
struct Azums(Client);

impl Queue for Azums {
    async fn enqueue(&self, job: Noop, after: Duration) -> Outcome<()> {
        let mut new = Job::new("noop", serde_json::to_value(&job)?);
        if !after.is_zero() {
            new = new.run_at((std::time::SystemTime::now() + after).into());
        }
        self.0.enqueue(new).await?;
        Ok(())
    }

    async fn enqueue_all(&self, jobs: Vec<Noop>) -> Outcome<()> {
        let mut new = Vec::with_capacity(jobs.len());
        for job in jobs {
            new.push(Job::new("noop", serde_json::to_value(&job)?));
        }
        self.0.enqueue_batch(new).await?;
        Ok(())
    }

    /// A worker fetches 32 jobs and runs one after the other: so many workers are so many slots.
    async fn work(&self, concurrency: usize, notes: Arc<Notes>) -> Outcome<()> {
        self.0
            .register_handler("noop", move |job| {
                let notes = Arc::clone(&notes);
                async move {
                    notes.run(serde_json::from_value(job.payload)?).await;
                    Ok(())
                }
            })
            .await;
        for nth in 0..concurrency {
            let worker = self.0.clone().with_worker_id(format!("worker-{nth}"));
            tokio::spawn(async move {
                // It ends with its first error: another one takes its place, as a supervisor would.
                while let Err(error) = worker.run().await {
                    eprintln!("azums: {error}");
                }
            });
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let Cli { options, store } = Cli::parse();
    let store = store.unwrap_or_else(|| options.redis.clone());
    let queue = Azums(azums::quickstart(&store).await?);
    scenarios::run(&options, &store, queue).await?;
    // Workers know no end.
    std::process::exit(0)
}
