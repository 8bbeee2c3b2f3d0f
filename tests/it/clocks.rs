//! The clock of Redis is set while jobs run: no living worker loses one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::wall_clock::WallClock;
use crate::support::{PATIENCE, RedisServer, eventually};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::{Job, JobQueue};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const JOBS: usize = 120;

#[derive(Serialize, Deserialize)]
struct Long {
    nth: usize,
}

impl Job for Long {
    const TYPE: &'static str = "clocks:long";
}

/// A Redis whose wall clock a test sets.
struct Clocked {
    redis: RedisServer,
    clock: WallClock,
    _dir: TempDir,
}

impl Clocked {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let clock = WallClock::new(dir.path());
        let redis = RedisServer::prepare::<&str>(&[]).with_variables(&clock.variables()).started();
        Self { redis, clock, _dir: dir }
    }

    /// Its clock shows this many seconds more than this host's.
    fn set(&self, ahead: i64) {
        self.clock.set(ahead);
        let told: i64 = self.redis.cli(&["TIME"]).lines().next().unwrap().parse().unwrap();
        let here = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        assert!((told - here - ahead).abs() < 30, "{told}, {here}, {ahead}");
    }
}

type Runs = Arc<Mutex<HashMap<usize, usize>>>;

async fn application(redis: &RedisServer, runs: Runs, takes: Duration) -> Client {
    let long = move |long: Long| {
        *runs.lock().unwrap().entry(long.nth).or_default() += 1;
        async move {
            tokio::time::sleep(takes).await;
            Ok::<_, std::io::Error>(())
        }
    };
    let queue = JobQueue::fairing()
        .set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
        .set("jobqueue.log_to_stderr", false)
        .set("jobqueue.concurrency", JOBS / 3)
        .handle(long);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    Client::untracked(rocket::custom(figment).attach(queue)).await.expect("it launches")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_job_is_taken_from_a_living_worker_when_redis_clock_is_set() {
    let clocked = Clocked::start();
    let (redis, runs, takes) = (&clocked.redis, Runs::default(), Duration::from_secs(34));
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(application(redis, Arc::clone(&runs), takes).await);
    }
    let queue = clients[0].rocket().state::<JobQueue>().unwrap();
    let began = Instant::now();
    for nth in 0..JOBS {
        queue.enqueue(Long { nth }).await.unwrap();
    }
    let all_run = || async { runs.lock().unwrap().len() == JOBS };
    assert!(eventually(PATIENCE, all_run).await);

    // Three times, each after the clock was steady for longer than a second look takes.
    for ahead in [60, 7_260, -60] {
        tokio::time::sleep(Duration::from_secs(10)).await;
        clocked.set(ahead);
    }

    let processed = || async {
        let number = redis.cli(&["GET", "asynq:{default}:processed"]);
        number.parse::<usize>().is_ok_and(|number| number >= JOBS)
    };
    assert!(eventually(PATIENCE, processed).await);
    assert!(began.elapsed() > takes, "{:?}", began.elapsed());
    let twice = runs.lock().unwrap().values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "of {JOBS} jobs of living workers");
    assert_eq!(redis.cli(&["GET", "asynq:{default}:processed"]), JOBS.to_string());
    assert_eq!(redis.cli(&["EXISTS", "asynq:{default}:active", "asynq:{default}:lease"]), "0");
    for client in clients {
        client.terminate().await;
    }
}
