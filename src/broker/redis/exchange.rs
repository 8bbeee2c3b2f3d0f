//! Handing back and taking jobs: one script for both, so that a worker needs one
//! round trip where Asynq's needs two for each job.

use std::time::Instant;

use super::enqueue::lease_args;
use super::inspect::nanos;
use super::reply::{self, Reply};
use super::scripts::SCRIPTS;
use super::settle_args::SettleArgs;
use super::{BATCH, DEQUEUE_VALID_FOR, PATIENCE, RedisBroker, by_queue, micros};
use crate::broker::{Delivery, Dequeued, ExchangeReply, Lease, Settled};
use crate::error::Error;
use crate::job::{AfterCancel, Charge, QueueName, Transition};
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

/// Most queues of one script call: each costs the server a look.
const MOST_QUEUES: usize = 200;

/// How many of the queues are looked at first: where jobs are many, these have some.
const FIRST_QUEUES: usize = 16;

/// What one script call does for a queue.
pub(super) struct Part<'a> {
    pub queue: &'a QueueName,
    /// The places of its settlements among all, and what is to be done.
    pub ended: Vec<(usize, SettleArgs)>,
    /// Whether jobs are taken from it.
    pub gives: bool,
}

impl Part<'_> {
    /// The places of the settlements as `settle.lua` has them: simply done jobs first.
    fn in_order(&self) -> impl Iterator<Item = &(usize, SettleArgs)> {
        self.done().chain(self.others())
    }

    fn done(&self) -> impl Iterator<Item = &(usize, SettleArgs)> + Clone {
        self.ended.iter().filter(|(_, step)| step.is_simple())
    }

    fn others(&self) -> impl Iterator<Item = &(usize, SettleArgs)> + Clone {
        self.ended.iter().filter(|(_, step)| !step.is_simple())
    }

    /// The jobs that are done: those whose leases end one microsecond after another go as
    /// a run, of which only the two ends are told.
    fn add_done_to(&self, call: ScriptCall) -> ScriptCall {
        let leases: Vec<&Lease> = self.done().map(|(_, step)| &step.lease).collect();
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

    fn add_to(&self, call: ScriptCall) -> ScriptCall {
        let call = self.add_done_to(call).arg(self.others().count());
        self.others().fold(call, |call, (_, step)| {
            lease_args(call, &step.lease)
                .arg(step.kind)
                .arg(step.msg.as_slice())
                .arg(micros(step.time))
                .arg(u32::from(step.result.is_some()))
                .arg(step.result.as_deref().unwrap_or_default())
                .arg(step.lock.as_str())
                .arg(step.failure.as_slice())
        })
    }
}

/// Jobs that are simply done in the order of their leases; where anything else becomes
/// of some, the order in which they ended is theirs.
fn in_runs(mut ended: Vec<(usize, SettleArgs)>) -> Vec<(usize, SettleArgs)> {
    if ended.iter().all(|(_, step)| step.is_simple()) {
        ended.sort_by_key(|(_, step)| step.lease.ends);
    }
    ended
}

/// The end of a lease as its score is written.
fn seconds(ends: i64) -> String {
    format!("{}.{:06}", ends.div_euclid(1_000_000), ends.rem_euclid(1_000_000))
}

/// What one script call took.
#[derive(Default)]
pub(super) struct Call {
    dequeued: Dequeued,
    /// Queues that had broken entries or unreadable jobs: they may have more.
    gaps: bool,
}

impl RedisBroker {
    /// Settles in one go with taking jobs. Where one queue refuses, each is asked by
    /// itself, so that it stops no other.
    pub(super) async fn exchange_all(
        &self,
        ended: &[(Delivery, Transition)],
        queues: &[QueueName],
        most: usize,
    ) -> ExchangeReply {
        let mut settled: Vec<_> = ended.iter().map(|_| Err(reply::unexpected())).collect();
        let mut dequeued = Dequeued::default();
        let (began, mut served, mut failed) = (Instant::now(), false, None);
        let mut unsettled = ended.len();
        let queues = if most > 0 { queues } else { &[] };
        let (first, others) = queues.split_at(queues.len().min(FIRST_QUEUES));
        let mut parts = self.parts(ended, first);
        let mut others = others.chunks(MOST_QUEUES);
        let together = !self.pool.is_cluster() && self.failing.is_empty();
        if !together {
            // One after another: what is handed back makes room for all that follow.
            parts.sort_by_key(|part| part.gives);
        }
        // Those behind the first are looked at where the first have nothing to give.
        let first = parts.iter().rposition(|part| !part.ended.is_empty()).map_or(0, |at| at + 1);
        let mut at_once = if together { first.clamp(FIRST_QUEUES, MOST_QUEUES) } else { 1 };
        loop {
            if parts.is_empty() && dequeued.deliveries.len() + unsettled < most {
                let look = |queue| Part { queue, ended: Vec::new(), gives: true };
                parts.extend(others.next().unwrap_or_default().iter().map(look));
            }
            if parts.is_empty() {
                break;
            }
            let next: Vec<Part> = parts.drain(..at_once.min(parts.len())).collect();
            if together && at_once > 1 {
                at_once = MOST_QUEUES;
            }
            // What could not be settled makes no room.
            let own: usize = next.iter().map(|part| part.ended.len()).sum();
            let used = dequeued.deliveries.len() + unsettled - own;
            let room = most.saturating_sub(used).min(BATCH);
            let gave_up = failed.is_some() && began.elapsed() > PATIENCE;
            let mut call: Vec<Part> = Vec::new();
            for mut part in next {
                // A server that does not answer is waited for once.
                part.gives &= room > 0 && !gave_up;
                if part.gives || !part.ended.is_empty() {
                    call.push(part);
                }
            }
            // The script wants those that give in front.
            call.sort_by_key(|part| !part.gives);
            if call.is_empty() {
                continue;
            }
            match self.exchange_some(&call, room, &mut settled).await {
                Ok(Call { dequeued: some, gaps }) => {
                    served = true;
                    unsettled -= own;
                    let full = some.deliveries.len() == room;
                    dequeued.deliveries.extend(some.deliveries);
                    dequeued.paused.extend(some.paused);
                    for part in &call {
                        self.failing.over(part.queue);
                    }
                    // A full batch, or one with gaps, may not have been all.
                    if full && dequeued.deliveries.len() < most || gaps {
                        let again = call.into_iter().filter(|part| part.gives);
                        let again = again.map(|part| Part { ended: Vec::new(), ..part });
                        parts.splice(..0, again);
                    }
                }
                Err(error) if call.len() > 1 && error.is_refused() => {
                    at_once = 1;
                    parts.splice(..0, call);
                }
                Err(error) => {
                    // The others do not wait for it, and what was taken before must
                    // reach its worker.
                    for part in call {
                        for (at, _) in part.ended {
                            settled[at] = Err(error.clone());
                        }
                        if part.gives {
                            self.failing.note(part.queue, &error);
                            dequeued.paused.push(part.queue.clone());
                        }
                    }
                    failed = Some(error);
                }
            }
        }
        let dequeued = match failed {
            Some(error) if !served => Err(error),
            _ => Ok(dequeued),
        };
        ExchangeReply { settled, dequeued }
    }

    /// The queues to take from, each with its settlements; then the other settlements.
    /// At most [`BATCH`] settlements in one part.
    fn parts<'a>(
        &self,
        ended: &'a [(Delivery, Transition)],
        queues: &'a [QueueName],
    ) -> Vec<Part<'a>> {
        let now = self.clock.now();
        let release = self.archive.release_lock;
        let mut steps = by_queue(ended.iter().map(|(delivery, _)| &delivery.lease.queue));
        let mut parts = Vec::with_capacity(queues.len());
        let mut step = |at: usize| (at, SettleArgs::new(&ended[at].0, &ended[at].1, now, release));
        for queue in queues {
            let own = steps.iter().position(|(name, _)| *name == queue);
            let mut places = own.map(|own| steps.remove(own).1).unwrap_or_default();
            let more = places.split_off(places.len().min(BATCH));
            let ended = in_runs(places.into_iter().map(&mut step).collect());
            parts.push(Part { queue, ended, gives: true });
            if !more.is_empty() {
                steps.push((queue, more));
            }
        }
        for (queue, places) in steps {
            for places in places.chunks(BATCH) {
                let ended = in_runs(places.iter().copied().map(&mut step).collect());
                parts.push(Part { queue, ended, gives: false });
            }
        }
        parts
    }

    /// One script call.
    pub(super) async fn exchange_some(
        &self,
        parts: &[Part<'_>],
        room: usize,
        settled: &mut [Result<Settled, Error>],
    ) -> Result<Call, Error> {
        let gives = parts.iter().filter(|part| part.gives);
        let (owner, asked) = (self.process.next_owner(), Instant::now());
        let until = self.clock.told().map(|now| (now + DEQUEUE_VALID_FOR).as_micros().to_string());
        let until = until.filter(|_| gives.clone().next().is_some()).unwrap_or_default();
        let unconfirmed: Vec<String> = parts
            .iter()
            .map(|part| {
                if part.gives {
                    self.unconfirmed_dequeues.earlier(part.queue)
                } else {
                    String::new()
                }
            })
            .collect();
        // Never repeated as it is where it takes jobs: the next call asks for those of
        // a lost answer, also where the server runs this one late.
        let taking = gives.clone().count();
        let repeat = if taking > 0 { Repeat::Never } else { Repeat::Safe };
        // The ordinary case has a script that does nothing else.
        let swaps = taking > 0
            && unconfirmed.iter().all(String::is_empty)
            && parts.iter().all(|part| part.others().next().is_none());
        let queues = parts.iter().map(|part| part.queue);
        let answer = if swaps {
            let add = |_, call: ScriptCall| {
                let call = call.arg(room).arg(until.as_str()).arg(owner).arg(taking);
                parts.iter().fold(call, |call, part| part.add_done_to(call))
            };
            self.ask_all(&SCRIPTS.finish_and_dequeue, queues, repeat, add).await
        } else {
            let add = |sent, call: ScriptCall| {
                let call = call.arg(sent).arg(room).arg(until.as_str()).arg(owner).arg(taking);
                parts.iter().zip(&unconfirmed).fold(call, |call, (part, unconfirmed)| {
                    let keep = self.archive.of(part.queue);
                    let call = call
                        .arg(unconfirmed.as_str())
                        .arg(keep.max)
                        .arg(self.archive_age(part.queue));
                    part.add_to(call)
                })
            };
            self.ask_all(&SCRIPTS.settle_and_dequeue, queues, repeat, add).await
        };
        let mut reply = match answer {
            Ok(reply) => reply,
            Err(error) => {
                if error.is_outcome_unknown() {
                    gives.for_each(|part| self.unconfirmed_dequeues.add(part.queue, owner));
                    let ended = parts.iter().flat_map(|part| &part.ended);
                    let leases = ended.map(|(_, step)| &step.lease);
                    self.unconfirmed_settles.add(leases, self.clock.now());
                }
                return Err(error);
            }
        };
        // Too late, and yet here we are: the clock is wrong.
        let late = reply.int()? == 1;
        if late {
            self.clock.forget();
        }
        if swaps {
            let lost = (0..reply.size()?).map(|_| reply.size()).collect::<Result<Vec<_>, _>>()?;
            let ended = parts.iter().flat_map(|part| part.done().map(|ended| (part.queue, ended)));
            for (nth, (queue, (at, step))) in (1..).zip(ended) {
                let code = i64::from(!lost.contains(&nth));
                settled[*at] = Ok(self.settled(queue, step, code));
            }
        } else {
            for part in parts {
                for (at, step) in part.in_order() {
                    settled[*at] = Ok(self.settled(part.queue, step, reply.int()?));
                }
            }
        }
        let mut call = Call { gaps: late, ..Call::default() };
        let mut short = !late;
        for _ in 0..reply.size()? {
            let nth = reply.size()? as usize;
            let part = nth.checked_sub(1).and_then(|nth| parts.get(nth));
            let queue = part.ok_or_else(reply::unexpected)?.queue;
            if reply.int()? == 1 {
                call.dequeued.paused.push(queue.clone());
            }
            let broken = reply.size()?;
            if broken > 0 {
                crate::log::warn!(
                    %queue,
                    broken,
                    "dropped pending entries without a job; those of an Asynq before 0.18 are archived"
                );
                call.gaps = true;
            }
            let found = given(queue, owner, &mut reply)?;
            let number = found.len();
            let readable = self.readable(queue, found).await;
            call.gaps |= readable.len() < number;
            call.dequeued.deliveries.extend(readable);
        }
        short &= call.dequeued.deliveries.len() < room;
        for (part, unconfirmed) in parts.iter().zip(&unconfirmed) {
            if short && !unconfirmed.is_empty() {
                self.unconfirmed_dequeues.answered(part.queue, asked);
            }
        }
        Ok(call)
    }

    /// What a script's word says about a settlement.
    fn settled(&self, queue: &QueueName, step: &SettleArgs, code: i64) -> Settled {
        // An earlier attempt to settle this job went unanswered and probably succeeded. If
        // the process was stopped for longer than the lease, another worker may have run
        // the job instead. Report it as settled: the hook may then fire twice, but is never
        // skipped.
        let before = self.unconfirmed_settles.remove(&step.lease);
        let settled = match code {
            1 => Settled::Done,
            2 => Settled::Cancelled(AfterCancel::Archive),
            3 => Settled::Cancelled(AfterCancel::Delete),
            _ if before => Settled::Done,
            _ => Settled::Lost,
        };
        if let (Settled::Done, Some(after)) = (settled, step.waits()) {
            self.wake.due_at(queue, self.clock.now() + after);
        }
        settled
    }
}

/// A job as a script found it.
pub(super) struct Found {
    pub lease: Lease,
    pub message: Vec<u8>,
    /// Since when it was pending, where that is known.
    pub ready: Option<Timestamp>,
    pub losses: u32,
    pub charge: Charge,
    pub cancel: Option<AfterCancel>,
    /// Of a lease that has run out: who had it, and whether it was started as a suspect.
    pub owner: Option<u64>,
    pub started: bool,
}

impl Found {
    pub fn new(lease: Lease, message: Vec<u8>) -> Self {
        Self {
            lease,
            message,
            ready: None,
            losses: 0,
            charge: Charge::default(),
            cancel: None,
            owner: None,
            started: false,
        }
    }
}

/// Reads what `dequeue.lua` says about the jobs of a queue.
fn given(queue: &QueueName, owner: u64, reply: &mut Reply) -> Result<Vec<Found>, Error> {
    let number = reply.size()?;
    if number == 0 {
        return Ok(Vec::new());
    }
    let mut ends = reply.int()?;
    let mut found = Vec::with_capacity(number as usize);
    for _ in 0..number {
        // A whole second would be a Go worker's.
        ends += i64::from(ends % 1_000_000 == 0);
        let lease = Lease { queue: queue.clone(), id: reply.id()?, owner: Some(owner), ends };
        let (message, ready) = (reply.bytes()?, nanos(&reply.text()?));
        found.push(Found { ready, ..Found::new(lease, message) });
        ends += 1;
    }
    for _ in 0..reply.size()? {
        let nth = reply.size()? as usize;
        let one = nth.checked_sub(1).and_then(|nth| found.get_mut(nth));
        let one = one.ok_or_else(reply::unexpected)?;
        one.losses = u32::try_from(reply.int()?).unwrap_or(0);
        one.cancel = AfterCancel::parse(&reply.text()?);
    }
    Ok(found)
}
