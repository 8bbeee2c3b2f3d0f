//! Which process runs a job, and what the death of that process says about it.
//!
//! A *suspect* is a job whose worker vanished twice or more: it may be the cause.
//! Before a suspect starts, two things are written: the number of suspects that run
//! in its process (`asynq:x:suspects:<process>`, read for the jobs of all queues),
//! and `x_started` in its own hash. When a process dies, the recoverer compares
//! them: a suspect that had started alone is the proven cause, one that had not
//! started is cleared, and ordinary jobs beside a running suspect are cleared too.
//!
//! The owner number of a lease names the process, so ordinary jobs need neither
//! write nor read: only the recoverer asks, once for each process that vanished.
//!
//! What may surprise. Owner numbers of versions before this scheme are random.
//! Twelve check bits distinguish them from current ones. One random number in 4,096
//! passes the check by chance and is then treated like an unknown process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use ::redis::Value;

use super::exchange_call::FoundJob;
use super::leases::lease_args;
use super::scripts::SCRIPTS;
use super::{RedisBroker, keys};
use crate::broker::Lease;
use crate::chance::process_number;
use crate::error::Error;
use crate::job::{Charge, is_suspect};
use crate::pool::{Repeat, ScriptCall};

/// How long the number of suspects of a process is kept, in seconds. Jobs that are
/// recovered later count as possible causes.
const SUSPECTS_TTL_SECS: u64 = 86_400;

/// An owner is, from the top: process number (30 bits), call number (22), check bits (12). The
/// call number starts again after four million calls. A lease is identified by owner and job
/// together.
const CALL_BITS: u32 = 22;
const CHECK_BITS: u32 = 12;

/// Numbers the leases of this process.
pub(super) struct Process {
    /// Random for each start of the process.
    number: u64,
    /// Counts dequeue calls from a random start.
    calls: AtomicU64,
}

impl Default for Process {
    fn default() -> Self {
        let number = process_number(1 << (u64::BITS - CALL_BITS - CHECK_BITS));
        Self { number, calls: AtomicU64::new(process_number(u64::MAX)) }
    }
}

impl Process {
    /// The owner number of the next dequeue; no other call has it.
    pub(super) fn next_owner(&self) -> u64 {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) & ((1 << CALL_BITS) - 1);
        let number = self.number << CALL_BITS | call;
        number << CHECK_BITS | check(number)
    }
}

/// Check bits: the upper bits of a multiplicative hash (Fibonacci hashing). Owners of earlier
/// versions are random numbers and have other ones.
fn check(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - CHECK_BITS)
}

/// The process of an owner; `None` if the owner is of an earlier version.
fn process_of(owner: u64) -> Option<u64> {
    let number = owner >> CHECK_BITS;
    let ours = owner & ((1 << CHECK_BITS) - 1) == check(number);
    ours.then_some(number >> CALL_BITS)
}

impl RedisBroker {
    /// Records that a suspect starts; false if the lease is lost.
    pub(super) async fn note_suspect(&self, lease: &Lease, running: usize) -> Result<bool, Error> {
        // First the number: a reader that finds `x_started` must find the number too.
        self.note_suspects(running).await?;
        let add = |_, call: ScriptCall| lease_args(call, lease);
        let mut reply = self.ask(&SCRIPTS.mark_suspect, &lease.queue, Repeat::Safe, add).await?;
        Ok(reply.int()? == 1)
    }

    /// Writes the number of suspects that run in this process.
    pub(super) async fn note_suspects(&self, running: usize) -> Result<(), Error> {
        let key = keys::suspects(self.process.number).into_bytes();
        let (running, ttl) = (running.to_string(), SUSPECTS_TTL_SECS.to_string());
        match running.as_str() {
            "0" => self.command(Repeat::Safe, "DEL", &[key]).await?,
            _ => {
                let args = [key, running.into(), "EX".into(), ttl.into()];
                self.command(Repeat::Safe, "SET", &args).await?
            }
        };
        Ok(())
    }

    /// Decides for each job with an expired lease what the loss of its worker says about it.
    pub(super) async fn charge(&self, found: &mut [FoundJob]) {
        let mut processes = HashMap::new();
        for one in found {
            let process = one.owner.and_then(process_of);
            let suspects = match process {
                None => 0,
                Some(process) => match processes.get(&process) {
                    Some(&suspects) => suspects,
                    None => {
                        let suspects = self.suspects_of(process).await;
                        processes.insert(process, suspects);
                        suspects
                    }
                },
            };
            one.charge = match process {
                None => Charge::Possible,
                Some(_) if is_suspect(one.losses) => match (one.started, suspects) {
                    (false, _) => Charge::Cleared,
                    (true, 0 | 1) => Charge::Proven,
                    // One of several suspects; another loss will show which.
                    (true, _) => Charge::Possible,
                },
                Some(_) if suspects > 0 => Charge::Cleared,
                Some(_) => Charge::Possible,
            };
        }
    }

    /// How many suspects a process ran last.
    async fn suspects_of(&self, process: u64) -> u64 {
        let key = keys::suspects(process).into_bytes();
        match self.command(Repeat::Safe, "GET", &[key]).await {
            Ok(Value::BulkString(text)) => {
                std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
            }
            Ok(_) => 0,
            // Recovery does not wait for this answer.
            Err(error) => {
                crate::log::debug!("could not ask for a process's suspects: {error:?}");
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_tells_its_process_and_no_other_call() {
        let (one, other) = (Process::default(), Process::default());
        let owners: Vec<u64> = (0..1_000).map(|_| one.next_owner()).collect();
        assert!(owners.iter().all(|owner| process_of(*owner) == Some(one.number)));
        assert_eq!(owners.iter().collect::<std::collections::HashSet<_>>().len(), owners.len());
        assert_ne!(process_of(owners[0]), process_of(other.next_owner()));
        assert_eq!(process_of(owners[0] ^ 1), None);
    }

    #[test]
    fn owners_of_earlier_versions_are_hardly_ever_taken_for_ours() {
        let random = (0..100_000).filter(|_| process_of(process_number(u64::MAX)).is_some());
        assert!(random.count() < 100);
    }
}
