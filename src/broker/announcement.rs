//! What a worker process announces about itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::WorkerDetails;
use crate::job::{JobRecord, QueueName};
use crate::time::Timestamp;

/// What a worker process announces about itself; Asynq's tools read it, and so does the page of
/// servers. The heartbeat sends it every 5 s.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// A random id, new with each start.
    pub server_id: String,
    /// Maximum concurrent jobs.
    pub concurrency: u32,
    /// Queue → priority as configured.
    pub queues: BTreeMap<QueueName, u32>,
    /// Whether priorities are strict.
    pub strict_priority: bool,
    /// `active`, `stopped` or `closed`.
    pub status: &'static str,
    /// When the worker started.
    pub started: Timestamp,
    /// The jobs in flight.
    pub running: Vec<Running>,
    /// What only this crate's tools read.
    pub details: WorkerDetails,
}

/// One job in flight, as announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// The job.
    pub job: Arc<JobRecord>,
    /// When its attempt began.
    pub started: Timestamp,
    /// When the attempt is cancelled as timed out.
    pub deadline: Timestamp,
}

/// The name of this host, as announcements show it; `unknown-host` if the system does not tell
/// it. In a container it is the container's id, unless a host name was set.
pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown-host".to_owned())
}
