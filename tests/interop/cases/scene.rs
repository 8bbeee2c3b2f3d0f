//! A queue with jobs in every state, all written by one side, for the other side's
//! tools to look at and to act on.

use std::time::Duration;

use rocket_jobqueue::{
    JobState, QueueName,
    inspect::{Page, QueueInfo},
};
use serde_json::json;

use crate::bench::{Bench, Side, Worker};
use crate::settings::Order;

/// Ids of the jobs, by state. The worker is at its only job for ten minutes.
pub struct Scene {
    pub bench: Bench,
    worker: Worker,
}

pub const ACTIVE: &str = "active-1";
pub const PENDING: [&str; 3] = ["pending-1", "pending-2", "pending-3"];
pub const SCHEDULED: [&str; 3] = ["scheduled-1", "scheduled-2", "scheduled-3"];
pub const RETRY: [&str; 3] = ["retry-1", "retry-2", "retry-3"];
pub const ARCHIVED: [&str; 3] = ["archived-1", "archived-2", "archived-3"];
pub const COMPLETED: [&str; 3] = ["completed-1", "completed-2", "completed-3"];
pub const MEMBERS: [&str; 3] = ["member-1", "member-2", "member-3"];
pub const GROUP: &str = "g";

/// States with their jobs, but for the active one.
pub const STATES: [(&str, [&str; 3]); 6] = [
    ("pending", PENDING),
    ("scheduled", SCHEDULED),
    ("retry", RETRY),
    ("archived", ARCHIVED),
    ("completed", COMPLETED),
    ("aggregating", MEMBERS),
];

impl Scene {
    /// The jobs, and a worker that has told what it is at.
    pub async fn set(bench: Bench) -> Self {
        let scene = Self::quick(bench).await;
        // It tells with its next heartbeat.
        let told = async || {
            let servers = scene.bench.ask(json!({"call": "Servers"})).await.unwrap();
            servers[0]["ActiveWorkers"].as_array().is_some_and(|all| all.len() == 1)
        };
        scene.bench.within(Duration::from_secs(20), "the worker tells of its job", told).await;
        scene
    }

    /// The jobs; what the worker says of itself may still be to come.
    pub async fn quick(bench: Bench) -> Self {
        Self::by(Side::Rust, bench).await
    }

    /// The same, written and worked on by this side.
    pub async fn by(writer: Side, bench: Bench) -> Self {
        let mut setup = bench.setup().retry_delay(3_600_000);
        setup.concurrency = 1;
        let worker = bench.worker(writer, &setup).await;
        let put = async |order: Order, id: &str| {
            assert_eq!(bench.put(writer, &order.id(id)).await, id);
        };
        for n in 0..3 {
            put(Order::that(r#"{"do":"fail","times":9}"#), RETRY[n]).await;
            put(Order::that(r#"{"do":"skip"}"#), ARCHIVED[n]).await;
            let result = Order { retention: 3600, ..Order::that(r#"{"result":"42"}"#) };
            put(result, COMPLETED[n]).await;
        }
        for (state, ids) in [("retry", RETRY), ("archived", ARCHIVED), ("completed", COMPLETED)] {
            for id in ids {
                bench.reached("default", id, state).await;
            }
        }
        put(Order::that(r#"{"do":"sleep","ms":600000}"#), ACTIVE).await;
        bench.noted(ACTIVE, "start", 1).await;
        for n in 0..3 {
            put(Order::plain(), PENDING[n]).await;
            let hours = 3600 * (n as u64 + 1);
            put(Order { r#in: hours, ..Order::plain() }, SCHEDULED[n]).await;
            put(Order { group: GROUP.into(), ..Order::plain() }, MEMBERS[n]).await;
        }
        Self { bench, worker }
    }

    /// The worker is killed with its job.
    pub async fn kill(self) -> Bench {
        match self.worker {
            Worker::Go(process) => process.kill().await,
            Worker::Rust(_) => panic!("this process is no worker to kill"),
        }
        self.bench
    }

    /// The ids of a state's jobs as both inspectors list them, in order.
    pub async fn ids(&self, state: &str) -> Vec<String> {
        let call = match state {
            "pending" => "ListPendingTasks",
            "active" => "ListActiveTasks",
            "scheduled" => "ListScheduledTasks",
            "retry" => "ListRetryTasks",
            "archived" => "ListArchivedTasks",
            "completed" => "ListCompletedTasks",
            _ => "ListAggregatingTasks",
        };
        let question = json!({"call": call, "queue": "default", "group": GROUP});
        let theirs = self.bench.ask(question).await.expect("a list");
        let theirs = theirs.as_array().unwrap().iter();
        let theirs: Vec<String> =
            theirs.map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        let (name, page) = (QueueName::new("default").unwrap(), Page::default());
        let inspector = self.bench.rust.inspector();
        let ours = match state {
            "aggregating" => inspector.group_jobs(&name, GROUP, &page).await,
            state => {
                let state = JobState::parse(state).expect("a state");
                inspector.jobs(&name, state, &page).await
            }
        };
        let ours: Vec<String> = ours.unwrap().rows.iter().map(|row| row.id().to_string()).collect();
        assert_eq!(theirs, ours, "Asynq's list of {state} jobs and ours differ");
        theirs
    }

    /// The worker has given up its job at an operator's word: a failed attempt, as
    /// in Asynq, and the worker is free for the next one.
    pub async fn cancelled(&self) {
        let job = self.bench.reached("default", ACTIVE, "retry").await;
        assert_eq!(job["last_error"], "context canceled");
        assert_eq!(job["retried"], 1);
        self.bench.noted(PENDING[0], "end", 1).await;
    }

    /// What our own inspector says of the queue.
    pub async fn info(&self) -> QueueInfo {
        let name = QueueName::new("default").unwrap();
        self.bench.rust.inspector().queue(&name).await.unwrap()
    }

    /// How many jobs of this state our own inspector counts.
    pub async fn count(&self, state: &str) -> usize {
        usize::try_from(self.info().await.sizes[state]).unwrap()
    }
}
