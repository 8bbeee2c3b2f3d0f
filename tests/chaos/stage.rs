//! One scenario's folder, processes and notes; starts peers, drains queues and has
//! everything checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::checker::{Allowed, Figures, check};
use crate::contents::Contents;
use crate::ledger::Story;
use crate::peer::settings::{Load, Role, Settings};
use crate::process::{Launch, Notes, Peer};
use crate::report::Report;
use crate::support::{eventually, free_port};

/// A job whose worker died waits for its lease, and a busy machine takes its time.
const DRAIN: Duration = Duration::from_secs(180);

/// What a scenario works with.
pub struct Stage {
    dir: TempDir,
    notes: Notes,
    started: u32,
    /// Configuration of all peers: full key and value.
    pub set: BTreeMap<String, Value>,
    /// How peers are started.
    pub launch: Launch,
    /// Threads of a worker's runtime.
    pub threads: usize,
    /// Queues of workers and producers.
    pub queues: Vec<String>,
}

impl Stage {
    pub fn new() -> Self {
        Self {
            dir: TempDir::new().expect("a temporary folder"),
            notes: Arc::default(),
            started: 0,
            set: BTreeMap::new(),
            launch: Launch::this_version(),
            threads: 2,
            queues: vec!["default".into()],
        }
    }

    /// All peers started from now on are configured so.
    pub fn configure(&mut self, key: &str, value: impl Into<Value>) {
        self.set.insert(key.to_owned(), value.into());
    }

    /// Peers use this single server.
    pub fn on_single(&mut self, addr: &str) {
        self.configure("databases.jobqueue.addr", addr);
    }

    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Leaves the folder with ledgers and logs behind, and says where.
    pub fn keep(&mut self, name: &str) {
        self.dir.disable_cleanup(true);
        eprintln!("{name}: ledgers and logs are in {}", self.dir.path().display());
    }

    fn settings(&mut self, role: Role) -> Settings {
        self.started += 1;
        Settings {
            role,
            ledger: self.dir.path().join(format!("{}.ledger", self.started)),
            threads: self.threads,
            port: free_port(),
            set: self.set.clone(),
            ..Settings::default()
        }
    }

    fn spawn(&self, settings: Settings) -> Peer {
        Peer::spawn(self.started, settings, &self.launch, Arc::clone(&self.notes))
    }

    /// Starts a worker with this many slots; it need not be up yet.
    pub fn worker(&mut self, slots: usize) -> Peer {
        let queues: BTreeMap<_, _> = self.queues.iter().map(|queue| (queue, 1)).collect();
        let queues = serde_json::to_value(queues).expect("a table");
        let mut settings = self.settings(Role::Worker);
        settings.set.insert("jobqueue.queues".into(), queues);
        settings.set.insert("jobqueue.concurrency".into(), slots.into());
        self.spawn(settings)
    }

    /// Starts several and waits until all are up.
    pub async fn workers(&mut self, count: usize, slots: usize) -> Vec<Peer> {
        let workers: Vec<_> = (0..count).map(|_| self.worker(slots)).collect();
        for worker in &workers {
            worker.is_up().await;
        }
        workers
    }

    /// Starts a producer; its queues are the stage's if it names none.
    pub fn producer(&mut self, load: Load) -> Peer {
        let mut settings = self.settings(Role::Producer);
        settings.load = load;
        if settings.load.queues == ["default"] {
            settings.load.queues = self.queues.clone();
        }
        self.spawn(settings)
    }

    /// Starts an operator.
    pub fn operator(&mut self) -> Peer {
        let mut settings = self.settings(Role::Operator);
        settings.load.queues = self.queues.clone();
        self.spawn(settings)
    }

    /// What the ledgers say now.
    pub fn story(&self) -> Story {
        Story::read(self.dir.path())
    }

    /// Waits until the ledgers fulfil a condition.
    pub async fn until(&self, within: Duration, condition: impl Fn(&Story) -> bool) -> bool {
        eventually(within, || async { condition(&self.story()) }).await
    }

    /// Ends the producers' input, waits for them, then until nothing is left to be
    /// run on these masters.
    pub async fn drain(&self, producers: &mut [Peer], masters: &[String], report: &mut Report) {
        for producer in producers.iter_mut() {
            producer.end_input();
        }
        for producer in producers.iter_mut() {
            if !producer.ended(DRAIN).await {
                report.fail(format!("producer {} does not end", producer.number));
            }
        }
        let busy = ["pending", "active", "scheduled", "retry", "aggregating"];
        let mut left = 0;
        let drained = eventually(DRAIN, || {
            left = Contents::read(masters).map_or(usize::MAX, |contents| contents.count(&busy));
            let drained = left == 0;
            async move { drained }
        });
        if !drained.await {
            report.fail(format!("{left} jobs are left"));
        }
    }

    /// Compares everything. Call it while the workers still run, so that what they
    /// keep by mistake is seen.
    pub fn check(&self, masters: &[String], allowed: Allowed) -> Figures {
        let notes = self.notes.lock().expect("no panic under the lock").clone();
        let contents = match Contents::read(masters) {
            Ok(contents) => contents,
            Err(error) => {
                let violations = vec![format!("Redis cannot be read: {error}")];
                return Figures { violations, ..Figures::default() };
            }
        };
        check(&self.story(), &notes, &contents, allowed)
    }

    /// [`Stage::drain`], then [`Stage::check`], into the report.
    pub async fn conclude(
        &self,
        producers: &mut [Peer],
        masters: &[String],
        allowed: Allowed,
        report: &mut Report,
    ) {
        self.drain(producers, masters, report).await;
        report.take(self.check(masters, allowed), &self.story());
    }
}
