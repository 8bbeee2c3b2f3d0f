//! Three processes of the demo, on ports of their own, share one Redis: a job that
//! any of them registered runs once on some, also when one is killed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::program::{Program, curl, post_json};
use crate::support::{RedisServer, eventually};

/// A lost lease is noticed within 45 s; a loaded machine takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

struct Fleet {
    redis: RedisServer,
    programs: Vec<Program>,
    origins: Vec<String>,
    /// Message → how often a line with it was printed.
    printed: BTreeMap<String, usize>,
}

fn launch() -> Fleet {
    let redis = RedisServer::start::<&str>(&[]);
    let addr = redis.addr();
    let arguments = ["--no-greeting", "--redis", &addr];
    let programs: Vec<_> = (0..3).map(|_| Program::start("demo", &arguments, &[])).collect();
    let origins: Vec<String> = programs.iter().map(Program::origin).collect();
    let mut ports: Vec<&String> = origins.iter().collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3, "{origins:?}");
    Fleet { redis, programs, origins, printed: BTreeMap::new() }
}

impl Fleet {
    /// Registers a job with each process in turn that prints its message.
    fn register(&self, name: &str, jobs: usize) -> Vec<String> {
        let messages: Vec<String> = (0..jobs).map(|n| format!("{name}-{n:03}")).collect();
        for (message, origin) in messages.iter().zip(self.origins.iter().cycle()) {
            let body = format!(r#"{{"message":"{message}","delay_seconds":1}}"#);
            let url = format!("{origin}/api/dm-jobqueue/register");
            assert_eq!(post_json(&url, &body, &[]).0, 201);
        }
        messages
    }

    fn counter(&self, name: &str) -> usize {
        self.redis.cli(&["get", &format!("asynq:{{default}}:{name}")]).parse().unwrap_or(0)
    }

    /// Waits until this many runs have completed.
    async fn completed(&self, runs: usize) {
        let all = eventually(PATIENCE, || async { self.counter("processed") >= runs }).await;
        assert!(all, "{} of {runs} runs have completed", self.counter("processed"));
        // One run too many would come at once.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((self.counter("processed"), self.counter("failed")), (runs, 0));
        assert_eq!(self.redis.cli(&["keys", "asynq:{default}:t:*"]), "", "jobs are left");
    }

    fn read(&mut self) -> &BTreeMap<String, usize> {
        for program in &self.programs {
            for line in program.printed_so_far("] ") {
                let message = line.split_once("] ").unwrap().1.to_owned();
                *self.printed.entry(message).or_default() += 1;
            }
        }
        &self.printed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_registered_on_any_of_three_processes_runs_once_on_some() {
    let mut fleet = launch();
    let messages = fleet.register("once", 60);
    fleet.completed(60).await;
    let printed = fleet.read();
    for message in &messages {
        assert_eq!(printed.get(message), Some(&1), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_completes_once_though_a_process_is_killed_at_its_work() {
    let mut fleet = launch();
    for n in 0..12 {
        let url = format!("{}/naps/3", fleet.origins[n % 3]);
        assert_eq!(curl(&["-X", "POST", &url]).0, 200);
    }
    let before = fleet.register("before", 30);
    let napping = || {
        let begun =
            |program: &Program| program.err.try_iter().any(|line| line.contains("nap begins"));
        fleet.programs.iter().position(begun)
    };
    let mut victim = None;
    let found = eventually(PATIENCE, || {
        victim = victim.or_else(napping);
        let found = victim.is_some();
        async move { found }
    });
    assert!(found.await, "nobody took a nap");
    let victim = victim.unwrap();
    fleet.programs[victim].signal("KILL");
    fleet.origins.remove(victim);
    let after = fleet.register("after", 30);
    fleet.completed(72).await;
    let printed = fleet.read();
    for message in before.iter().chain(&after) {
        assert!(printed.contains_key(message), "{message} was never printed");
    }
}
