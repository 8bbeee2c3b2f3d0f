//! Jobs whose lease has ended, and jobs that cannot be read, wherever they turn up.
//!
//! A message that nobody can read would stop every reader of its queue, so the job is
//! archived with its bytes as they are: it is *quarantined*. All of one answer go in
//! one script. What cannot be archived, because the store refuses it or another
//! process was first, keeps its lease and is counted, so that the recoverer can look
//! behind it.

use super::exchange::{Found, Part};
use super::reply::Reply;
use super::scripts::SCRIPTS;
use super::settle_args::SettleArgs;
use super::{BATCH, RedisBroker, wire};
use crate::broker::{Delivery, ExpiredLeases, Lease, Settled};
use crate::error::Error;
use crate::job::{AfterCancel, QueueName};
use crate::pool::{Repeat, ScriptCall};

/// How many ids a log line names.
const NAMED: usize = 3;

/// Jobs of one answer.
#[derive(Default)]
pub(super) struct Sorted {
    pub readable: Vec<Delivery>,
    archived: usize,
    stuck: usize,
    refusal: Option<Error>,
}

impl RedisBroker {
    pub(super) async fn find_expired(
        &self,
        queue: &QueueName,
        limit: usize,
        skip: usize,
    ) -> Result<ExpiredLeases, Error> {
        let add = |_, call: ScriptCall| call.arg(limit.clamp(1, 1000)).arg(skip);
        let mut reply = self.ask(&SCRIPTS.list_expired_leases, queue, Repeat::Safe, add).await?;
        let (more, removed) = (reply.int()? == 1, reply.size()? as usize);
        let at = self.clock.moves_by_itself().then(|| reply.now());
        let mut found = found(queue, &mut reply)?;
        self.charge(&mut found).await;
        let Sorted { readable: jobs, archived, stuck, refusal } = self.sort(queue, found).await;
        Ok(ExpiredLeases { jobs, removed: removed + archived, stuck, refusal, more, at })
    }

    /// The jobs that were just taken, without those that cannot be read.
    pub(super) async fn readable(&self, queue: &QueueName, found: Vec<Found>) -> Vec<Delivery> {
        let sorted = self.sort(queue, found).await;
        if let Some(error) = sorted.refusal {
            crate::log::warn!(
                %queue, jobs = sorted.stuck, ?error,
                "could not archive jobs whose messages are unreadable; their leases will run out"
            );
        }
        sorted.readable
    }

    /// Archives what cannot be read.
    async fn sort(&self, queue: &QueueName, found: Vec<Found>) -> Sorted {
        let mut sorted = Sorted { readable: Vec::with_capacity(found.len()), ..Sorted::default() };
        let mut unreadable = Vec::new();
        for Found { lease, message, ready, losses, charge, cancel, .. } in found {
            match wire::decode(queue, &lease.id, &message) {
                Some(job) => {
                    let delivery = Delivery { job, lease, ready, losses, charge, cancel };
                    sorted.readable.push(delivery);
                }
                None => unreadable.push(lease),
            }
        }
        for some in unreadable.chunks(BATCH) {
            match self.quarantine(queue, some).await {
                Ok(archived) => {
                    sorted.archived += archived;
                    sorted.stuck += some.len() - archived;
                }
                Err(error) => {
                    sorted.stuck += some.len();
                    sorted.refusal = Some(error);
                }
            }
        }
        sorted
    }

    /// How many were archived. The others are another process's by now.
    async fn quarantine(&self, queue: &QueueName, leases: &[Lease]) -> Result<usize, Error> {
        let steps = leases.iter().cloned().map(SettleArgs::quarantine).enumerate().collect();
        let part = Part { queue, ended: steps, gives: false };
        let mut settled: Vec<_> = leases.iter().map(|_| Ok(Settled::Lost)).collect();
        Box::pin(self.exchange_some(&[part], 0, &mut settled)).await?;
        let is_done = |one: &Result<Settled, Error>| matches!(one, Ok(Settled::Done));
        let archived = leases.iter().zip(&settled).filter(|(_, one)| is_done(one));
        let archived: Vec<&str> = archived.map(|(lease, _)| lease.id.as_str()).collect();
        if !archived.is_empty() {
            let (jobs, more) = (archived.len(), if archived.len() > NAMED { ", …" } else { "" });
            let ids = archived[..jobs.min(NAMED)].join(", ");
            crate::log::warn!(
                %queue, jobs,
                "archived jobs whose messages are unreadable, with their bytes kept: {ids}{more}"
            );
        }
        Ok(archived.len())
    }
}

/// Reads what `list_expired_leases.lua` says about jobs of a queue.
fn found(queue: &QueueName, reply: &mut Reply) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    while !reply.is_empty() {
        let (id, message) = (reply.id()?, reply.bytes()?);
        let losses = u32::try_from(reply.int()?).unwrap_or(0);
        let lease = Lease { queue: queue.clone(), id, owner: None, ends: reply.int()? };
        let cancel = AfterCancel::parse(&reply.text()?);
        let (owner, started) = (reply.text()?, reply.text()?);
        let (owner, started) = (owner.parse().ok(), !owner.is_empty() && started == owner);
        found.push(Found { losses, cancel, owner, started, ..Found::new(lease, message) });
    }
    Ok(found)
}
