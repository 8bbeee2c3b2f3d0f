//! A Go worker and a Rust worker on one queue, killed and killed again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Cases;
use crate::bench::{Bench, Process, Side};
use crate::settings::{Order, Setup};

const AREA: &str = "A fleet of both";

pub fn add(cases: &mut Cases) {
    cases.slow(AREA, "kill -9 of the Rust worker, again and again, loses no job", |bench| {
        under_kills(bench, &[Side::Rust])
    });
    cases.slow(AREA, "kill -9 of the Go worker, again and again, loses no job", |bench| {
        under_kills(bench, &[Side::Go])
    });
    cases.slow(AREA, "kill -9 of either in turn loses no job", |bench| {
        under_kills(bench, &[Side::Go, Side::Rust])
    });
    cases.slow(AREA, "a job of a killed Rust worker is recovered by a Go server alone", |bench| {
        recovered(bench, Side::Rust)
    });
    cases.slow(AREA, "a job of a killed Go worker runs again on Rust within 70 s", |bench| {
        recovered(bench, Side::Go)
    });
}

const JOBS: usize = 240;
const KILLS: usize = 6;

/// A worker finds its killer at any moment: between dequeuing and starting, while
/// running, between ending and saying so.
async fn under_kills(bench: Bench, victims: &'static [Side]) {
    let setup = bench.setup().retry_delay(1000);
    let mut fleet = Fleet::start(&bench, &setup).await;
    let mut ids = Vec::new();
    let mut kills = 0;
    for n in 0..JOBS {
        let side = if n % 2 == 0 { Side::Go } else { Side::Rust };
        ids.push(bench.put(side, &Order::that(r#"{"do":"sleep","ms":60}"#)).await);
        if n % (JOBS / KILLS) == JOBS / KILLS - 1 {
            fleet.replace(&bench, &setup, victims[kills % victims.len()]).await;
            kills += 1;
        }
    }
    let done = || {
        let mut done: BTreeMap<String, usize> = BTreeMap::new();
        for line in bench.ledger().into_iter().filter(|line| line.word == "done") {
            *done.entry(line.id).or_default() += 1;
        }
        done
    };
    // A lease, Go's margin and Go's interval, and then the retry.
    bench
        .within(Duration::from_secs(180), "every job has ended", async || {
            let done = done();
            ids.iter().all(|id| done.contains_key(id))
        })
        .await;
    for id in &ids {
        bench.gone("default", id).await;
    }
    let done = done();
    let doubles: usize = done.values().map(|times| times - 1).sum();
    let most = kills * setup.concurrency;
    println!("        {JOBS} jobs, {kills} kills of {victims:?}: none lost, {doubles} ran twice");
    assert!(doubles <= most, "{doubles} jobs ran twice, though only {most} could run at a kill");
    for list in ["pending", "active"] {
        assert_eq!(bench.redis.cli(&["llen", &format!("asynq:{{default}}:{list}")]), "0");
    }
    for set in ["lease", "scheduled", "retry", "archived"] {
        assert_eq!(bench.redis.cli(&["zcard", &format!("asynq:{{default}}:{set}")]), "0", "{set}");
    }
}

struct Fleet {
    go: Option<Process>,
    rust: Option<Process>,
}

impl Fleet {
    async fn start(bench: &Bench, setup: &Setup) -> Self {
        let go = Some(bench.process(Side::Go, setup).await);
        Self { go, rust: Some(bench.process(Side::Rust, setup).await) }
    }

    async fn replace(&mut self, bench: &Bench, setup: &Setup, victim: Side) {
        let slot = match victim {
            Side::Go => &mut self.go,
            Side::Rust => &mut self.rust,
        };
        if let Some(process) = slot.take() {
            process.kill().await;
        }
        *slot = Some(bench.process(victim, setup).await);
    }
}

/// The other side alone finds what the killed one was at.
async fn recovered(bench: Bench, victim: Side) {
    let setup = bench.setup();
    // Long enough to be killed in, short enough for the next process.
    let id = bench.put(victim, &Order::that(r#"{"do":"sleep","ms":2000}"#)).await;
    let process = bench.process(victim, &setup).await;
    bench.noted(&id, "start", 1).await;
    process.kill().await;
    let killed = std::time::Instant::now();
    let worker = bench.worker(victim.other(), &setup).await;
    let patience = Duration::from_secs(if victim == Side::Go { 70 } else { 130 });
    let again = async || bench.ledger().iter().filter(|line| line.event == "start").count() == 2;
    bench.within(patience, "it runs again", again).await;
    println!("        killed {victim:?}: runs again after {:.1} s", killed.elapsed().as_secs_f64());
    let line = bench.noted(&id, "end", 1).await;
    assert_eq!(line.word, "done");
    // Asynq counts a retry for a lost worker, we do not.
    assert_eq!(line.retried, if victim == Side::Go { 0 } else { 1 });
    bench.gone("default", &id).await;
    worker.stop().await;
}
