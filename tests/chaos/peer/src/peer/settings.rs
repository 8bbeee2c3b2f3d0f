//! What a process is told. Unknown fields are ignored and absent ones have a
//! default, so that harness and peer may be of different versions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The job type whose payload says what its handler does.
pub const WORK: &str = "chaos:work";
/// The job type that a group becomes.
pub const BATCH: &str = "chaos:batch";

/// What a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs jobs.
    #[default]
    Worker,
    /// Enqueues jobs.
    Producer,
    /// Lists, pauses, resumes, repairs.
    Operator,
}

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub role: Role,
    pub ledger: PathBuf,
    /// Threads of the runtime.
    pub threads: usize,
    /// Where its routes are served.
    pub port: u16,
    /// Configuration: full key and value.
    pub set: BTreeMap<String, Value>,
    /// For a producer.
    pub load: Load,
    /// For a worker: pause before a failed attempt is repeated.
    pub retry_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            role: Role::Worker,
            ledger: PathBuf::new(),
            threads: 2,
            port: 0,
            set: BTreeMap::new(),
            load: Load::default(),
            retry_ms: 500,
        }
    }
}

/// How a producer tries an enqueue again whose outcome is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Again {
    /// Not at all.
    #[default]
    No,
    /// With the same id.
    Id,
    /// With the same idempotency key.
    Key,
}

/// What a producer enqueues. Ids are `<name>-<number>`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    pub name: String,
    /// Used in turn.
    pub queues: Vec<String>,
    /// How many; 0: until standard input ends.
    pub count: u64,
    /// How many a second; 0: as fast as answers come.
    pub rate: u64,
    /// How many calls may wait for their answer.
    pub in_flight: usize,
    /// What the jobs do, used in turn.
    pub works: Vec<Work>,
    pub again: Again,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            name: "job".into(),
            queues: vec!["default".into()],
            count: 0,
            rate: 100,
            in_flight: 64,
            works: vec![Work::default()],
            again: Again::No,
        }
    }
}

/// One job: its options, and what its handler does. It is the payload as well.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// Waits this long.
    #[serde(skip_serializing_if = "is_default")]
    pub ms: u64,
    /// Blocks its thread this long.
    #[serde(skip_serializing_if = "is_default")]
    pub block_ms: u64,
    /// Fails in its first attempts.
    #[serde(skip_serializing_if = "is_default")]
    pub fail: u32,
    /// Panics in its first attempts.
    #[serde(skip_serializing_if = "is_default")]
    pub panic: u32,
    /// Ends the process: `abort`, `stack`, `exit` or `memory`.
    #[serde(skip_serializing_if = "is_default")]
    pub death: String,
    /// Due this much later.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_ms: u64,
    /// Seconds of a unique lock; of jobs with the same `key` one is let in.
    #[serde(skip_serializing_if = "is_default")]
    pub unique_s: u64,
    /// Seconds a completed job is kept.
    #[serde(skip_serializing_if = "is_default")]
    pub retention_s: u64,
    /// Seconds an attempt may take; 0: the default.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout_s: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub group: String,
    /// Makes payloads alike or different: `*` becomes the job's number modulo 50.
    #[serde(skip_serializing_if = "is_default")]
    pub key: String,
    pub max_retry: u32,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            ms: 2,
            block_ms: 0,
            fail: 0,
            panic: 0,
            death: String::new(),
            delay_ms: 0,
            unique_s: 0,
            retention_s: 0,
            timeout_s: 0,
            group: String::new(),
            key: String::new(),
            max_retry: 25,
        }
    }
}

impl Work {
    /// A job that takes this long.
    pub fn ms(ms: u64) -> Self {
        Self { ms, ..Self::default() }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
