//! What both peers are told and what they write down: the same words as the Go
//! program's, so that a case can name either.

use std::collections::BTreeMap;

use rocket_jobqueue::Until;
use serde::{Deserialize, Serialize};

/// A job to enqueue, with every option that both clients have. Times are whole
/// seconds; absent and zero mean "not given", as in Go.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Order {
    pub r#type: String,
    /// `None` is Go's nil, which has a unique key of its own.
    pub payload: Option<String>,
    /// The payload in hexadecimal digits, if it is not text.
    pub hex: String,
    pub headers: Option<BTreeMap<String, String>>,
    pub queue: String,
    pub id: String,
    pub max_retry: Option<u32>,
    pub timeout: u64,
    pub deadline: i64,
    pub retention: u64,
    pub unique: u64,
    /// When that lock ends: only our client says.
    #[serde(skip)]
    pub until: Option<Until>,
    /// Seconds within which it must start: only our client says.
    #[serde(skip)]
    pub expires_in: u64,
    pub group: String,
    pub r#in: u64,
    pub at: i64,
}

/// The job type that both workers handle by what its payload asks for.
pub const WORK: &str = "interop:work";

/// The type of what a group became.
pub const BATCH: &str = "interop:batch";

impl Order {
    /// A job whose handler does what this JSON says; see [`Behaviour`].
    pub fn that(behaviour: &str) -> Self {
        Self { r#type: WORK.into(), payload: Some(behaviour.into()), ..Self::default() }
    }

    /// A job whose handler succeeds at once.
    pub fn plain() -> Self {
        Self::that("{}")
    }

    pub fn id(mut self, id: &str) -> Self {
        self.id = id.into();
        self
    }

    pub fn queue(mut self, queue: &str) -> Self {
        self.queue = queue.into();
        self
    }

    pub fn bytes(&self) -> Option<Vec<u8>> {
        if self.hex.is_empty() {
            return self.payload.clone().map(String::into_bytes);
        }
        Some(unhex(&self.hex))
    }
}

/// What a payload asks of its handler. Any other payload succeeds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Behaviour {
    /// `fail`, `skip`, `revoke`, `panic`, `sleep`, `report` (writes the result, then
    /// sleeps), `child` (of ours: enqueues another into `children`); anything else succeeds.
    pub r#do: String,
    /// How many attempts fail.
    pub times: u32,
    /// How long it runs.
    pub ms: u64,
    pub result: String,
}

/// How a worker is set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    pub queues: BTreeMap<String, u32>,
    pub strict: bool,
    pub concurrency: usize,
    pub ledger: String,
    /// Milliseconds from a failure to the next attempt.
    pub retry_delay: u64,
    pub aggregate: bool,
    /// Seconds, as the next two.
    pub group_grace: u64,
    pub group_max_delay: u64,
    pub group_max_size: usize,
}

impl Setup {
    pub fn of(ledger: &std::path::Path) -> Self {
        Self {
            queues: BTreeMap::from([("default".to_owned(), 1)]),
            strict: false,
            concurrency: 4,
            ledger: ledger.to_string_lossy().into_owned(),
            retry_delay: 1000,
            aggregate: false,
            group_grace: 60,
            group_max_delay: 0,
            group_max_size: 0,
        }
    }

    /// Makes one job of a group's jobs, after this many seconds without a new one
    /// or when there are `size` of them, if that is not zero.
    pub fn aggregate(mut self, grace: u64, size: usize) -> Self {
        (self.aggregate, self.group_grace, self.group_max_size) = (true, grace, size);
        self
    }

    pub fn queues(mut self, queues: &[(&str, u32)]) -> Self {
        self.queues = queues.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        self
    }

    pub fn retry_delay(mut self, millis: u64) -> Self {
        self.retry_delay = millis;
        self
    }
}

/// One line of the ledger, written whole by one call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub peer: String,
    pub event: String,
    pub id: String,
    pub r#type: String,
    pub queue: String,
    pub retried: u32,
    pub max_retry: u32,
    pub hex: String,
    pub headers: Option<BTreeMap<String, String>>,
    pub deadline: i64,
    /// Unix milliseconds.
    pub at: i64,
    pub word: String,
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")).collect()
}
