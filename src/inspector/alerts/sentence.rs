//! An alert as an English sentence, for REST, the terminal and English pages.

use std::fmt;
#[cfg(any(feature = "dashboard", test))]
use std::time::Duration;

#[cfg(any(feature = "dashboard", test))]
use super::Alert;
use super::{Found, Window};
use crate::broker::FindingKind;
use crate::inspector::{At, Short};
#[cfg(any(feature = "dashboard", test))]
use crate::time::Timestamp;

#[cfg(any(feature = "dashboard", test))]
impl Alert {
    /// How long it has held, at this instant.
    pub(crate) fn lasted(&self, now: Timestamp) -> Duration {
        now.since(self.since)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { failed, processed, window } => {
                let percent = percent(*failed, *processed);
                write!(f, "{failed} of {processed} attempts failed ({percent} %) {window}")
            }
            Self::Paused { pending: 0 } => write!(f, "the queue is paused"),
            Self::Paused { pending } => {
                write!(f, "the queue is paused; {} pending", jobs(*pending))
            }
            Self::Running { jobs: 1, oldest, job_type } => {
                write!(f, "job {} ({}) is still running", Short(oldest.as_str()), Short(job_type))
            }
            Self::Running { jobs, oldest, job_type } => {
                let (oldest, job_type) = (Short(oldest.as_str()), Short(job_type));
                write!(f, "{jobs} jobs are still running, the longest is {oldest} ({job_type})")
            }
            Self::Missed { name, tick, last } => {
                let (name, tick) = (Short(name), At(*tick));
                write!(f, "periodic job {name} was not enqueued for {tick}")?;
                match last {
                    Some(last) => write!(f, "; its last run was at {}", At(*last)),
                    None => write!(f, "; no run is known"),
                }
            }
            Self::Vanished { name, last_seen } => {
                let (name, at) = (Short(name), At(*last_seen));
                write!(f, "no process has periodic job {name} any more, which was there at {at}")
            }
            Self::NoWorker { pending } => {
                write!(f, "no worker serves this queue; {} pending", jobs(*pending))
            }
            Self::Waiting { pending } => {
                write!(f, "the oldest pending job has waited too long; {} pending", jobs(*pending))
            }
            Self::Archived { jobs: 1 } => write!(f, "1 job was archived in the last hour"),
            Self::Archived { jobs: archived } => {
                write!(f, "{archived} jobs were archived in the last hour")
            }
            Self::Memory { used, max } => {
                let percent = percent(*used, *max);
                write!(f, "{used} of {max} bytes of memory are in use ({percent} %)")
            }
            Self::Evicted { keys } => {
                write!(
                    f,
                    "Redis evicted {keys} keys within the last hour, because its memory is full"
                )
            }
            Self::Setting { kind: FindingKind::WrongType, place } => {
                write!(f, "key {} has another type than the protocol's", Short(place))
            }
            Self::Setting { kind, .. } => f.write_str(setting(*kind)),
            Self::WorkersFull { slots, pending } => {
                let pending = jobs(*pending);
                write!(f, "all {slots} slots of this queue's workers are in use; {pending} pending")
            }
            Self::LimitFull { limit, waiting } => {
                write!(f, "{} waiting for limit {}", jobs(*waiting), Short(limit))
            }
            Self::Unreadable { problem } => {
                write!(f, "the queue cannot be read: {}", Short(problem))
            }
            Self::Unnamable { is_empty: true } => {
                write!(
                    f,
                    "an empty name belongs to no queue; remove the empty member from Redis' set of queue \
                     names"
                )
            }
            Self::Unnamable { is_empty: false } => {
                write!(
                    f,
                    "the name of this queue is not UTF-8, so it cannot be viewed or served here; drain or \
                     delete it with the program that created it"
                )
            }
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour => write!(f, "in the last hour"),
            Self::Since(at) => write!(f, "since {}, when counting by minute began", At(*at)),
            Self::Today => write!(f, "today (UTC)"),
        }
    }
}

/// A share in whole percent; 100 is never said of less than all.
fn percent(part: u64, all: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(all.max(1))).unwrap_or(u64::MAX)
}

/// What is wrong with the settings of the store.
fn setting(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::EvictionPolicy => {
            "Redis evicts jobs when its memory is full: set maxmemory-policy to noeviction"
        }
        FindingKind::LockEviction => {
            "Redis evicts unique locks and idempotency keys when its memory is full: set \
             maxmemory-policy to noeviction"
        }
        FindingKind::NoPersistence => {
            "Redis loses all jobs when it restarts: turn on the append-only file"
        }
        FindingKind::OldServer => "the server is older than Redis 6.2",
        FindingKind::ClockSkew => "the clocks of Redis and this host differ by more than a second",
        FindingKind::ForeignQueueName => "the store has queue names that other tools cannot handle",
        _ => "the doctor found something in the store",
    }
}

fn jobs(count: u64) -> String {
    match count {
        1 => "1 job is".to_owned(),
        _ => format!("{count} jobs are"),
    }
}
