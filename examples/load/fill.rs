//! Fills the queue as fast as possible.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rocket_jobqueue::{Draft, JobQueue};

use crate::Outcome;
use crate::app::{Noop, bar};

/// Jobs of one call.
pub const BATCH: u64 = 1000;

/// Enqueues jobs by their numbers in batches, a few at a time, and returns how long it took.
pub async fn bulk(
    queue: &JobQueue,
    jobs: u64,
    batch: u64,
    producers: usize,
    draft: fn(u64) -> Draft,
) -> Outcome<Duration> {
    let next = Arc::new(AtomicU64::new(0));
    let bar = bar(jobs, "enqueue");
    let began = Instant::now();
    let producers = (0..producers).map(|_| {
        let (queue, next, bar) = (queue.clone(), Arc::clone(&next), bar.clone());
        tokio::spawn(async move {
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= jobs {
                    return Ok(());
                }
                let some = first..(first + batch).min(jobs);
                bar.inc(some.end - some.start);
                for stored in queue.enqueue_all(some.map(draft)).await {
                    stored?;
                }
            }
        })
    });
    let outcome = all(producers.collect()).await;
    bar.finish_and_clear();
    outcome.map(|()| began.elapsed())
}

/// Enqueues jobs one by one from this many callers, and returns how long it took.
pub async fn single(queue: &JobQueue, jobs: u64, callers: usize) -> Outcome<Duration> {
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let callers = (0..callers).map(|_| {
        let (queue, next) = (queue.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= jobs {
                    return Ok(());
                }
                queue.enqueue(Noop::new(n)).await?;
            }
        })
    });
    all(callers.collect()).await.map(|()| began.elapsed())
}

/// Waits for all tasks.
async fn all(
    tasks: Vec<tokio::task::JoinHandle<Result<(), rocket_jobqueue::Error>>>,
) -> Outcome<()> {
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// A job that is due now.
pub fn due_now(n: u64) -> Draft {
    Draft::new(Noop::new(n))
}

/// A job that is due tomorrow.
pub fn due_tomorrow(n: u64) -> Draft {
    Draft::new(Noop::new(n)).delay(Duration::from_secs(86_400))
}
