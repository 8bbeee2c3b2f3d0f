//! Random sequences of operations by three actors (who enqueues and operates, and
//! two workers, each of which may be stale) through both stores under one clock.
//! Whatever can be seen has to be alike after every operation, and the data in
//! Redis has to keep its invariants. Each sequence has a seed; one that fails is
//! made as short as it gets and printed.
//!
//! The same with the store on disk, which is opened again from its rows between any two
//! operations: after an orderly end, and after one that wrote nothing more.
//!
//! `MODEL_SEQUENCES` (default 2,000, and 150 on disk) says how many, `MODEL_SEED` (default 0)
//! which is the first.

mod actors;
mod operation;
mod raw;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use self::actors::{Actors, connect};
use self::operation::Operation;
use crate::support::RedisServer;
use rocket_jobqueue::internals::RedisPool;

/// Operations of one sequence.
const LENGTH: usize = 40;

/// Sequences at a time.
const SIDE_BY_SIDE: usize = 4;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

/// What is compared with Redis.
#[derive(Clone, Copy)]
enum Other {
    Memory,
    /// Opened again and again.
    Disk,
}

impl Other {
    fn operations(self, seed: u64) -> Vec<Operation> {
        match self {
            Other::Memory => Operation::sequence(seed, LENGTH),
            Other::Disk => Operation::sequence_with_restarts(seed, LENGTH),
        }
    }

    /// Plays a sequence from an empty queue to its drain; how many looks that took.
    async fn play(
        self,
        server: &RedisServer,
        pool: &RedisPool,
        operations: &[Operation],
    ) -> Result<usize, String> {
        let mut actors = Actors::new(server, pool.clone(), matches!(self, Other::Disk));
        for (at, operation) in operations.iter().enumerate() {
            let told = |difference| format!("after operation {at}, {operation:?}: {difference}");
            actors.act(operation).await.map_err(told)?;
        }
        actors.drain().await.map_err(|difference| format!("while draining: {difference}"))?;
        Ok(actors.looks)
    }

    /// Leaves out whatever the difference does not need.
    async fn shortest(
        self,
        server: &RedisServer,
        mut operations: Vec<Operation>,
    ) -> Vec<Operation> {
        let pool = connect(server);
        let mut size = operations.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at < operations.len() {
                let mut fewer = operations.clone();
                fewer.drain(at..(at + size).min(operations.len()));
                match self.play(server, &pool, &fewer).await {
                    Err(_) => operations = fewer,
                    Ok(_) => at += size,
                }
            }
            size /= 2;
        }
        operations
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_are_alike_after_every_operation_of_random_sequences() {
    compare(Other::Memory, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_disk_is_like_redis_though_it_restarts_between_any_two_operations() {
    compare(Other::Disk, 150).await;
}

/// Plays that many sequences, unless the environment says otherwise.
async fn compare(other: Other, sequences: u64) {
    let (sequences, first) = (number("MODEL_SEQUENCES", sequences), number("MODEL_SEED", 0));
    let server = Arc::new(RedisServer::start::<&str>(&[]));
    let (next, looks) = (Arc::new(AtomicU64::new(first)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let players = (0..SIDE_BY_SIDE).map(|_| {
        let (server, next, looks) = (Arc::clone(&server), Arc::clone(&next), Arc::clone(&looks));
        tokio::spawn(async move {
            let pool = connect(&server);
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + sequences {
                    return None;
                }
                let operations = other.operations(seed);
                match other.play(&server, &pool, &operations).await {
                    Ok(count) => looks.fetch_add(count as u64, Ordering::Relaxed),
                    Err(difference) => return Some((seed, operations, difference)),
                };
            }
        })
    });
    let players: Vec<_> = players.collect();
    let mut found = None;
    for player in players {
        if let Some(difference) = player.await.expect("no player panics") {
            next.store(first + sequences, Ordering::Relaxed);
            found = Some(difference);
        }
    }
    if let Some((seed, operations, difference)) = found {
        let short = other.shortest(&server, operations).await;
        let again = other.play(&server, &connect(&server), &short).await.err();
        let lines: Vec<_> = short.iter().map(|operation| format!("  {operation:?}\n")).collect();
        panic!(
            "seed {seed}: {difference}\n\nin short:\n{}{}",
            lines.concat(),
            again.unwrap_or_else(|| "which passed this time".to_owned())
        );
    }
    let (operations, looks) = (sequences * LENGTH as u64, looks.load(Ordering::Relaxed));
    println!(
        "model test: {sequences} sequences of {LENGTH} operations from seed {first}, {operations} \
         operations, {looks} comparisons of all that can be seen, 0 differences, {:.0?}",
        began.elapsed()
    );
}
