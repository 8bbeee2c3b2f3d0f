//! Expired leases, and jobs whose message cannot be decoded.
//!
//! [`find_expired`](RedisBroker::find_expired) reads one page of expired leases,
//! decides what the loss of the worker says about each job (see `suspects`), and
//! returns them to the recoverer, which settles them like any other job.
//!
//! A message that cannot be decoded would stop every reader of its queue, so the
//! job is *quarantined*: archived with its bytes untouched. This happens wherever
//! such a job turns up, in a dequeue as in a recovery, in one script call per
//! page. If the store refuses to archive it, or another process was first, the job
//! keeps its lease and is counted as stuck, so that the recoverer skips it and
//! continues with the jobs behind it.

use super::due::warn_of_old_jobs;
use super::exchange_call::{FoundJob, QueuePart, Settle};
use super::reply::Reply;
use super::scripts::SCRIPTS;
use super::settle_args::SettleArgs;
use super::{MAX_BATCH_JOBS, RedisBroker, wire};
use crate::broker::{Delivery, ExpiredLeases, Lease, Settled};
use crate::error::Error;
use crate::job::{AfterCancel, QueueName};
use crate::pool::{Repeat, ScriptCall};

/// Maximum ids in a log line. A damaged queue may have thousands of such jobs; the archive
/// lists all.
const MAX_NAMED_IDS: usize = 3;

/// The jobs of one reply: decoded, or archived because they cannot be.
#[derive(Default)]
pub(super) struct DecodedJobs {
    /// Decoded jobs.
    pub readable: Vec<Delivery>,
    /// Undecodable jobs that were archived.
    archived: usize,
    /// Undecodable jobs that keep their lease.
    stuck: usize,
    /// The last error of archiving.
    refusal: Option<Error>,
}

impl RedisBroker {
    /// Finds expired leases, see [`Broker::expired_leases`](crate::broker::Broker).
    pub(super) async fn find_expired(
        &self,
        queue: &QueueName,
        limit: usize,
        skip: usize,
    ) -> Result<ExpiredLeases, Error> {
        let add = |_, call: ScriptCall| call.arg(limit.clamp(1, 1000)).arg(skip);
        let mut reply = self.ask(&SCRIPTS.list_expired_leases, queue, Repeat::Safe, add).await?;
        let (more, removed) = (reply.int()? == 1, reply.size()? as usize);
        let (old, first) = (reply.size()? as usize, reply.id()?);
        warn_of_old_jobs(queue, old, &first);
        let at = self.clock.moves_by_itself().then(|| reply.now());
        let mut found = found(queue, &mut reply)?;
        self.charge(&mut found).await;
        let DecodedJobs { readable: jobs, archived, stuck, refusal } =
            self.decode_or_archive(queue, found).await;
        Ok(ExpiredLeases { jobs, removed: removed + archived, stuck, refusal, more, at })
    }

    /// Decodes jobs that were just dequeued, and archives those that cannot be decoded.
    pub(super) async fn readable(&self, queue: &QueueName, found: Vec<FoundJob>) -> Vec<Delivery> {
        let sorted = self.decode_or_archive(queue, found).await;
        if let Some(error) = sorted.refusal {
            crate::log::warn!(
                %queue, jobs = sorted.stuck, ?error,
                "could not archive jobs whose messages are unreadable; their leases will run out"
            );
        }
        sorted.readable
    }

    /// Decodes the jobs, and archives those that cannot be decoded.
    async fn decode_or_archive(&self, queue: &QueueName, found: Vec<FoundJob>) -> DecodedJobs {
        let mut sorted =
            DecodedJobs { readable: Vec::with_capacity(found.len()), ..DecodedJobs::default() };
        let mut unreadable = Vec::new();
        for FoundJob { lease, message, ready, losses, charge, on_cancel, limited, .. } in found {
            match wire::decode(queue, &lease.id, &message) {
                Some(job) => {
                    let delivery =
                        Delivery { job, lease, ready, losses, charge, on_cancel, limited };
                    sorted.readable.push(delivery);
                }
                None => unreadable.push(lease),
            }
        }
        for some in unreadable.chunks(MAX_BATCH_JOBS) {
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

    /// Archives jobs with their bytes as they are; returns how many. The others belong to
    /// another process by now.
    async fn quarantine(&self, queue: &QueueName, leases: &[Lease]) -> Result<usize, Error> {
        let archive = |(index, lease): (usize, &Lease)| Settle {
            index,
            args: SettleArgs::quarantine(lease.clone()),
        };
        let settles = leases.iter().enumerate().map(archive).collect();
        let part = QueuePart { queue, settles, dequeues: false };
        let mut settled: Vec<_> = leases.iter().map(|_| Ok(Settled::Lost)).collect();
        Box::pin(self.exchange_some(&[part], 0, &mut settled)).await?;
        let is_done = |one: &Result<Settled, Error>| matches!(one, Ok(Settled::Done));
        let archived = leases.iter().zip(&settled).filter(|(_, one)| is_done(one));
        let archived: Vec<&str> = archived.map(|(lease, _)| lease.id.as_str()).collect();
        if !archived.is_empty() {
            let (jobs, more) =
                (archived.len(), if archived.len() > MAX_NAMED_IDS { ", …" } else { "" });
            let ids = archived[..jobs.min(MAX_NAMED_IDS)].join(", ");
            crate::log::warn!(
                %queue, jobs,
                "archived jobs whose messages are unreadable, with their bytes kept: {ids}{more}"
            );
        }
        Ok(archived.len())
    }
}

/// Reads the jobs of `list_expired_leases`. Their leases have no owner for the recoverer: they
/// are valid as long as they end exactly as they were found.
fn found(queue: &QueueName, reply: &mut Reply) -> Result<Vec<FoundJob>, Error> {
    let mut found = Vec::new();
    while !reply.is_empty() {
        let (id, message) = (reply.id()?, reply.bytes()?);
        let losses = u32::try_from(reply.int()?).unwrap_or(0);
        let lease = Lease { queue: queue.clone(), id, owner: None, ends: reply.int()? };
        let on_cancel = AfterCancel::parse(&reply.text()?);
        let (owner, started) = (reply.text()?, reply.text()?);
        let (owner, started) = (owner.parse().ok(), !owner.is_empty() && started == owner);
        found.push(FoundJob { losses, on_cancel, owner, started, ..FoundJob::new(lease, message) });
    }
    Ok(found)
}
