//! apalis-redis 1.0.0. Its fetch unpacks all due jobs at once and fails from 8,000 on, so
//! a drain has at most 7,000; its fetch batch is set to the concurrency, its best.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};
use serde::{Deserialize, Serialize};

use crate::common::{Measured, Meter, Options, Outcome, Scenario};

#[derive(Debug, Serialize, Deserialize)]
struct Noop {
    n: usize,
}

pub async fn run(options: &Options) -> Outcome<(Meter, Measured)> {
    let connection = apalis_redis::connect(options.redis.as_str()).await?;
    let config =
        Config::default().batch_size(options.concurrency).persist_results(false).emit_events(false);
    let mut storage = RedisStorage::new(connection).with_config(config);
    match options.scenario {
        Scenario::EnqueueOne => {
            let meter = Meter::begin(&options.redis)?;
            for n in 0..options.jobs {
                storage.push(Noop { n }).await.map_err(|error| error.to_string())?;
            }
            let took = meter.elapsed();
            Ok((meter, Measured::Took(took)))
        }
        Scenario::EnqueueBulk => {
            let meter = Meter::begin(&options.redis)?;
            fill(&mut storage, options.jobs, options.batch).await?;
            let took = meter.elapsed();
            Ok((meter, Measured::Took(took)))
        }
        Scenario::Drain => {
            if options.jobs > 7_000 {
                return Err("--jobs: apalis-redis drains at most 7000".into());
            }
            fill(&mut storage, options.jobs, options.batch).await?;
            let ended = Arc::new(AtomicUsize::new(0));
            let first = Arc::new(std::sync::OnceLock::new());
            let (count, began) = (Arc::clone(&ended), Arc::clone(&first));
            let meter = Meter::begin(&options.redis)?;
            let worker = WorkerBuilder::new("peer")
                .backend(storage.poll_with_interval(Duration::from_millis(100)))
                .concurrency(options.concurrency)
                .build(move |_job: Noop| {
                    began.get_or_init(Instant::now);
                    count.fetch_add(1, Ordering::Relaxed);
                    async { Ok::<(), BoxDynError>(()) }
                });
            tokio::spawn(worker.run());
            while ended.load(Ordering::Relaxed) < options.jobs {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let took = first.get().ok_or("no job began")?.elapsed();
            Ok((meter, Measured::Took(took)))
        }
        Scenario::EnqueueConcurrent | Scenario::Latency | Scenario::Delay => {
            Err("apalis-redis: not one of its lines".into())
        }
    }
}

async fn fill(storage: &mut RedisStorage<Noop>, jobs: usize, batch: usize) -> Outcome<()> {
    for first in (0..jobs).step_by(batch) {
        let some = (first..jobs.min(first + batch)).map(|n| Noop { n }).collect();
        storage.push_bulk(some).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
