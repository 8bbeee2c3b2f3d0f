//! One script call of an exchange: its arguments, and what its reply means.
//!
//! A call serves several queues, the ones to dequeue from in front. For each queue it has
//! the jobs that are only deleted, as runs of leases, and then all other settlements with
//! their arguments. The reply has the settlements in the same order, then the dequeued jobs
//! by queue. Two scripts read such calls: `finish_and_dequeue`, the fast path for calls
//! whose jobs are only deleted, and `settle_and_dequeue`, which can do everything.
//!
//! What may surprise. The reply begins with a flag that says whether Redis ran the call
//! after its deadline, and then dequeued nothing. If the reply of such a call arrives all
//! the same, the estimate of Redis' clock is wrong and is dropped. A settlement whose lease
//! is gone counts as done if an earlier attempt to settle it got no reply.

use std::time::Instant;

use super::due::warn_of_old_jobs;
use super::inspect::nanos;
use super::leases::lease_args;
use super::limits::LimitedQueues;
use super::reply::{self, Reply};
use super::scripts::SCRIPTS;
use super::settle_args::SettleArgs;
use super::unconfirmed::DEQUEUE_VALID_FOR;
use super::{RedisBroker, micros};
use crate::broker::{Dequeued, Lease, Settled};
use crate::error::Error;
use crate::job::{AfterCancel, Charge, JobId, QueueName};
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

/// One settlement of a script call.
pub(super) struct Settle {
    /// Its position among the requests of the whole exchange.
    pub index: usize,
    pub args: SettleArgs,
}

/// What one script call does for a queue.
pub(super) struct QueuePart<'a> {
    /// The queue, whose keys the script derives from its name.
    pub queue: &'a QueueName,
    /// The settlements of its jobs; empty if it is only dequeued from.
    pub settles: Vec<Settle>,
    /// Whether jobs are dequeued from it.
    pub dequeues: bool,
}

impl QueuePart<'_> {
    /// The settlements in the script's order: plain deletions first.
    fn in_script_order(&self) -> impl Iterator<Item = &Settle> {
        self.deletions().chain(self.others())
    }

    /// Settlements that only delete the job.
    fn deletions(&self) -> impl Iterator<Item = &Settle> + Clone {
        self.settles.iter().filter(|settle| settle.args.is_deletion())
    }

    /// Settlements that change or keep the job.
    fn others(&self) -> impl Iterator<Item = &Settle> + Clone {
        self.settles.iter().filter(|settle| !settle.args.is_deletion())
    }

    /// Adds the plain deletions. Leases of one owner whose ends follow each other by one
    /// microsecond, as one dequeue makes them, go as a run: only its two ends are sent.
    fn add_deletions_to(&self, call: ScriptCall) -> ScriptCall {
        let leases: Vec<&Lease> = self.deletions().map(|settle| &settle.args.lease).collect();
        let follows = |before: &&Lease, after: &&Lease| {
            before.owner == after.owner && before.ends + 1 == after.ends
        };
        let runs = leases.chunk_by(follows);
        let call = call.arg(leases.len());
        let call = leases.iter().fold(call, |call, lease| call.arg(lease.id.as_bytes()));
        let call = call.arg(runs.clone().count());
        runs.fold(call, |call, run| {
            let [first, .., last] = run else {
                let [only] = run else { return call };
                let ends = seconds(only.ends);
                return call.arg(1).arg(only.owner).arg(ends.as_str()).arg(ends.as_str());
            };
            call.arg(run.len()).arg(first.owner).arg(seconds(first.ends)).arg(seconds(last.ends))
        })
    }

    /// Adds all settlements, as the `settle_and_dequeue` script reads them.
    fn add_to(&self, call: ScriptCall) -> ScriptCall {
        let call = self.add_deletions_to(call).arg(self.others().count());
        self.others().fold(call, |call, Settle { args, .. }| {
            lease_args(call, &args.lease)
                .arg(args.kind)
                .arg(args.msg.as_slice())
                .arg(micros(args.time))
                .arg(u32::from(args.result.is_some()))
                .arg(args.result.as_deref().unwrap_or_default())
                .arg(args.lock.as_str())
                .arg(args.failure.as_slice())
                .arg(args.version.as_str())
        })
    }
}

/// The end of a lease as its score is written: seconds with six decimals.
fn seconds(ends: i64) -> String {
    format!("{}.{:06}", ends.div_euclid(1_000_000), ends.rem_euclid(1_000_000))
}

/// What one script call dequeued.
#[derive(Default)]
pub(super) struct CallReply {
    /// The jobs, and the queues that gave none although they may hold some.
    pub dequeued: Dequeued,
    /// Some entries gave no job (no hash, unreadable): the queue may have more.
    pub gaps: bool,
}

/// The numbers of one script call.
struct CallPlan {
    /// The owner of the leases that it makes.
    owner: u64,
    /// When the call was made, by the monotonic clock.
    asked: Instant,
    /// Maximum jobs to dequeue.
    room: usize,
    /// The queues to dequeue from; they are in front.
    dequeues: usize,
    /// The store time in microseconds after which the script must not dequeue any more;
    /// empty if nothing is dequeued or the store's time is unknown.
    valid_until: String,
    /// For each part the owners of its unconfirmed dequeues, between spaces.
    unconfirmed: Vec<String>,
}

impl CallPlan {
    /// Numbers the call. Every call has an owner of its own, so that its leases differ from
    /// all others if the reply is lost.
    fn of(broker: &RedisBroker, parts: &[QueuePart<'_>], room: usize) -> Self {
        let dequeues = parts.iter().filter(|part| part.dequeues).count();
        let until = broker.clock.estimate().filter(|_| dequeues > 0);
        let until = until.map(|now| (now + DEQUEUE_VALID_FOR).as_micros().to_string());
        let earlier = |part: &QueuePart<'_>| match part.dequeues {
            true => broker.unconfirmed_dequeues.earlier(part.queue),
            false => String::new(),
        };
        Self {
            owner: broker.process.next_owner(),
            asked: Instant::now(),
            room,
            dequeues,
            valid_until: until.unwrap_or_default(),
            unconfirmed: parts.iter().map(earlier).collect(),
        }
    }

    /// Whether the `finish_and_dequeue` script can do it, which costs about half.
    fn is_fast(&self, parts: &[QueuePart<'_>], limited: &LimitedQueues) -> bool {
        self.dequeues > 0
            && !parts.iter().any(|part| limited.contains(part.queue))
            && self.unconfirmed.iter().all(String::is_empty)
            && parts.iter().all(|part| part.others().next().is_none())
    }

    /// A call that dequeues is never repeated as it is: the next one asks for the jobs of a
    /// lost reply, even if Redis runs this one late.
    fn repeat(&self) -> Repeat {
        if self.dequeues > 0 { Repeat::Never } else { Repeat::Safe }
    }
}

impl RedisBroker {
    /// Makes one script call and writes the results of its settlements into `settled`.
    pub(super) async fn exchange_some(
        &self,
        parts: &[QueuePart<'_>],
        room: usize,
        settled: &mut [Result<Settled, Error>],
    ) -> Result<CallReply, Error> {
        let plan = CallPlan::of(self, parts, room);
        let is_fast = plan.is_fast(parts, &self.limited);
        let answer = match is_fast {
            true => self.call_fast(parts, &plan).await,
            false => self.call_general(parts, &plan).await,
        };
        let mut reply = answer.inspect_err(|error| self.note_unconfirmed(parts, &plan, error))?;
        // The script ran too late by our clock, and yet the reply is here: the estimate of
        // the store's time is wrong.
        let late = reply.int()? == 1;
        if late {
            self.clock.forget();
        }
        match is_fast {
            true => self.read_fast(parts, &mut reply, settled)?,
            false => self.read_settled(parts, &mut reply, settled)?,
        }
        let mut call = CallReply { gaps: late, ..CallReply::default() };
        for _ in 0..reply.size()? {
            let limited = self.read_deliveries(parts, plan.owner, &mut reply, &mut call).await?;
            // The general script has to be asked.
            call.gaps |= is_fast && limited;
        }
        if !late && call.dequeued.deliveries.len() < room {
            // Nothing is left of the unconfirmed dequeues that were named.
            for (part, unconfirmed) in parts.iter().zip(&plan.unconfirmed) {
                if !unconfirmed.is_empty() {
                    self.unconfirmed_dequeues.answered(part.queue, plan.asked);
                }
            }
        }
        Ok(call)
    }

    /// Calls `finish_and_dequeue`. Jobs that need anything but deletion never come here; see
    /// [`CallPlan::is_fast`].
    async fn call_fast(&self, parts: &[QueuePart<'_>], plan: &CallPlan) -> Result<Reply, Error> {
        let add = |_, call: ScriptCall| {
            let call = call.arg(plan.room).arg(plan.valid_until.as_str());
            let call = call.arg(plan.owner).arg(plan.dequeues);
            parts.iter().fold(call, |call, part| part.add_deletions_to(call))
        };
        let queues = parts.iter().map(|part| part.queue);
        self.ask_all(&SCRIPTS.finish_and_dequeue, queues, plan.repeat(), add).await
    }

    /// Calls `settle_and_dequeue`, with the archive limits of each queue.
    async fn call_general(&self, parts: &[QueuePart<'_>], plan: &CallPlan) -> Result<Reply, Error> {
        let add = |sent, call: ScriptCall| {
            let call = call.arg(sent).arg(plan.room).arg(plan.valid_until.as_str());
            let call = call.arg(plan.owner).arg(plan.dequeues);
            parts.iter().zip(&plan.unconfirmed).fold(call, |call, (part, unconfirmed)| {
                let keep = self.archive.of(part.queue);
                let call = call.arg(unconfirmed.as_str()).arg(keep.max);
                part.add_to(call.arg(self.archive_age(part.queue)))
            })
        };
        let queues = parts.iter().map(|part| part.queue);
        self.ask_all(&SCRIPTS.settle_and_dequeue, queues, plan.repeat(), add).await
    }

    /// Remembers what a call without a reply may have done.
    fn note_unconfirmed(&self, parts: &[QueuePart<'_>], plan: &CallPlan, error: &Error) {
        if !error.is_outcome_unknown() {
            return;
        }
        for part in parts.iter().filter(|part| part.dequeues) {
            self.unconfirmed_dequeues.add(part.queue, plan.owner);
        }
        let settles = parts.iter().flat_map(|part| &part.settles);
        self.unconfirmed_settles.add(settles.map(|one| &one.args.lease), self.clock.now());
    }

    /// Reads the settlements of `finish_and_dequeue`, which names those whose lease was lost.
    fn read_fast(
        &self,
        parts: &[QueuePart<'_>],
        reply: &mut Reply,
        settled: &mut [Result<Settled, Error>],
    ) -> Result<(), Error> {
        let lost = (0..reply.size()?).map(|_| reply.size()).collect::<Result<Vec<_>, _>>()?;
        let settles =
            parts.iter().flat_map(|part| part.deletions().map(|settle| (part.queue, settle)));
        for (nth, (queue, settle)) in (1..).zip(settles) {
            let code = i64::from(!lost.contains(&nth));
            settled[settle.index] = Ok(self.settled(queue, &settle.args, code));
        }
        Ok(())
    }

    /// Reads the settlements of `settle_and_dequeue`, which has a code for each.
    fn read_settled(
        &self,
        parts: &[QueuePart<'_>],
        reply: &mut Reply,
        settled: &mut [Result<Settled, Error>],
    ) -> Result<(), Error> {
        for part in parts {
            for settle in part.in_script_order() {
                settled[settle.index] = Ok(self.settled(part.queue, &settle.args, reply.int()?));
            }
        }
        Ok(())
    }

    /// Reads what was dequeued from one queue. A job whose message cannot be decoded is
    /// archived here and leaves a gap: its slot stays free, and the queue is asked again. Returns
    /// whether the queue has limits.
    async fn read_deliveries(
        &self,
        parts: &[QueuePart<'_>],
        owner: u64,
        reply: &mut Reply,
        call: &mut CallReply,
    ) -> Result<bool, Error> {
        let nth = reply.size()? as usize;
        let part = nth.checked_sub(1).and_then(|nth| parts.get(nth));
        let queue = part.ok_or_else(reply::unexpected)?.queue;
        let flags = reply.int()?;
        let (paused, limited) = (flags & 1 == 1, flags & 2 == 2);
        self.limited.note(queue, limited);
        if paused {
            call.dequeued.paused.push(queue.clone());
        }
        call.gaps |= read_gaps(queue, reply)?;
        let mut found = found_jobs(queue, owner, reply)?;
        found.iter_mut().for_each(|job| job.limited = limited);
        let number = found.len();
        let readable = self.readable(queue, found).await;
        call.gaps |= readable.len() < number;
        call.dequeued.deliveries.extend(readable);
        Ok(limited)
    }

    /// The result of a settlement, from the script's code.
    fn settled(&self, queue: &QueueName, args: &SettleArgs, code: i64) -> Settled {
        // An earlier attempt to settle this job got no reply and probably succeeded. If the
        // process was stopped for longer than the lease, another worker may have run the
        // job instead. Report it as settled: the hook may then fire twice, but is never
        // skipped.
        let was_unconfirmed = self.unconfirmed_settles.remove(&args.lease);
        let settled = match code {
            1 => Settled::Done,
            2 => Settled::Cancelled(AfterCancel::Archive),
            3 => Settled::Cancelled(AfterCancel::Delete),
            _ if was_unconfirmed => Settled::Done,
            _ => Settled::Lost,
        };
        if let (Settled::Done, Some(after)) = (settled, args.waits()) {
            self.wake.due_at(queue, self.clock.now() + after);
        }
        settled
    }
}

/// A job as a script returned it, before its message is decoded.
pub(super) struct FoundJob {
    /// The lease that the script made or found.
    pub lease: Lease,
    /// The stored message.
    pub message: Vec<u8>,
    /// When it became pending, if that is known.
    pub ready: Option<Timestamp>,
    /// How often a worker vanished while it ran the job.
    pub losses: u32,
    /// What the loss of its worker says about the job; set by recovery.
    pub charge: Charge,
    pub on_cancel: Option<AfterCancel>,
    /// The owner of an expired lease, and whether it had started the job as a suspect.
    pub owner: Option<u64>,
    pub started: bool,
    /// Whether it counts for limits.
    pub limited: bool,
}

impl FoundJob {
    /// A job without losses, cancel request or owner.
    pub(super) fn new(lease: Lease, message: Vec<u8>) -> Self {
        Self {
            lease,
            message,
            ready: None,
            losses: 0,
            charge: Charge::default(),
            on_cancel: None,
            owner: None,
            started: false,
            limited: false,
        }
    }
}

/// Reads how many pending entries gave no job to run, and says what happened to them: most are
/// dropped; late jobs and those of an old Asynq are archived. True if there were some.
fn read_gaps(queue: &QueueName, reply: &mut Reply) -> Result<bool, Error> {
    // Archived entries are rare, so a plain number means that there are none.
    let (dropped, late, mut old) = match reply.peek() {
        Some(_) => (reply.size()?, 0, None),
        None => {
            let mut all = reply.array()?;
            (all.size()?, all.size()?, Some(all))
        }
    };
    if late > 0 {
        crate::log::info!(%queue, jobs = late, "archived jobs that did not start in time");
    }
    if dropped > 0 {
        crate::log::warn!(%queue, entries = dropped, "dropped pending entries that have no job");
    }
    let mut archived: Vec<JobId> = Vec::new();
    while let Some(old) = old.as_mut().filter(|old| !old.is_empty()) {
        archived.push(old.id()?);
    }
    if let Some(first) = archived.first() {
        warn_of_old_jobs(queue, archived.len(), first);
    }
    Ok(dropped + late > 0 || !archived.is_empty())
}

/// Reads the jobs that were dequeued from a queue. The leases of one call end one microsecond
/// after another, so only the first end is sent. No lease of ours ends on a whole second: that
/// is how a script knows a Go worker's lease.
fn found_jobs(queue: &QueueName, owner: u64, reply: &mut Reply) -> Result<Vec<FoundJob>, Error> {
    let number = reply.size()?;
    if number == 0 {
        return Ok(Vec::new());
    }
    let mut ends = reply.int()?;
    let mut found = Vec::with_capacity(number as usize);
    for _ in 0..number {
        // Whole seconds are left to the leases of Go workers.
        ends += i64::from(ends % 1_000_000 == 0);
        let lease = Lease { queue: queue.clone(), id: reply.id()?, owner: Some(owner), ends };
        let (message, ready) = (reply.bytes()?, nanos(&reply.text()?));
        found.push(FoundJob { ready, ..FoundJob::new(lease, message) });
        ends += 1;
    }
    // Few jobs have losses or a cancel request: those are named by their position.
    for _ in 0..reply.size()? {
        let nth = reply.size()? as usize;
        let one = nth.checked_sub(1).and_then(|nth| found.get_mut(nth));
        let one = one.ok_or_else(reply::unexpected)?;
        one.losses = u32::try_from(reply.int()?).unwrap_or(0);
        one.on_cancel = AfterCancel::parse(&reply.text()?);
    }
    Ok(found)
}
