//! Decides which reasons hold: a pure function of what the store answered.
//!
//! [`reasons`] goes by the job's state. The first reason is the decisive one. The others hold as
//! well: what would keep the job back once the first is gone, a passed deadline, a cancel request.
//! Each state has a method of [`Facts`]:
//!
//! * Pending and due jobs wait for a worker: is the queue paused, does a worker serve it, does one
//!   still dequeue ([`Facts::of_queue`])? Only if nothing there holds the job back, its place in
//!   the queue counts.
//! * Active jobs run, or their worker is gone. The lease shows which: it is renewed every 5 s for
//!   30 s, so one with less than 20 s left was missed twice.
//! * Aggregating jobs wait for their group, by the limits of this process.
//! * Archived and completed jobs have ended: one reason, and no other.
//!
//! What may surprise. A pause stops only dequeuing: due jobs of a paused queue become pending, and
//! lost jobs are recovered, so it is no reason for those. And there are two kinds of workers of a
//! queue: all that announced it ([`serving`]), and those of them that are not shutting down
//! ([`dequeuing`]).

use std::collections::BTreeSet;
use std::time::Duration;

use super::reason::Reason;
use crate::broker::{
    FOREIGN_LEASE_MARGIN, GroupLimits, JobInfo, LEASE, LimitStanding, MAX_SEARCHED, ServerInfo,
    Standing,
};
use crate::job::{JobState, Parked, QueueName, is_suspect, parked};
use crate::time::Timestamp;

/// A lease that was not renewed for this long belongs to a dead worker, unless an announced process
/// runs the job. Renewals come every 5 s, so two were missed.
const MAX_UNRENEWED: Duration = Duration::from_secs(10);

/// Maximum queues of higher priority whose pending jobs are counted: two commands each.
const MAX_HIGHER: usize = 100;

/// What the store answered about one job: all that the decision depends on.
pub(super) struct Facts<'a> {
    /// The job as it is stored. It decides, because a redacted error no longer tells a parked job
    /// from a failed one.
    pub(super) stored: &'a JobInfo,
    /// The job as the viewer may see it. Every text in a reason comes from here.
    pub(super) shown: &'a JobInfo,
    /// Its place: the queue, the pending jobs before it, its group.
    pub(super) standing: &'a Standing,
    /// The workers that announced themselves; empty unless [`needs_servers`].
    pub(super) servers: &'a [ServerInfo],
    /// The queues of [`higher_queues`] and how many pending jobs each has. A paused one counts as
    /// empty.
    pub(super) higher: &'a [(QueueName, u64)],
    /// The limits by which this process aggregates groups, if it does.
    pub(super) group_limits: Option<&'a GroupLimits>,
    /// Store time.
    pub(super) now: Timestamp,
}

/// Whether the answer depends on who serves the queue: then the announced workers have to be read.
/// An active job whose worker announced it needs no others.
pub(super) fn needs_servers(job: &JobInfo) -> bool {
    match job.state {
        JobState::Pending | JobState::Scheduled | JobState::Retry | JobState::Aggregating => true,
        JobState::Active => job.worker.is_none() || job.orphaned,
        JobState::Archived | JobState::Completed => false,
    }
}

/// The queues that some worker with strict priorities asks before this one, by name, at most
/// [`MAX_HIGHER`].
pub(super) fn higher_queues(queue: &QueueName, servers: &[ServerInfo]) -> Vec<QueueName> {
    let all: BTreeSet<&QueueName> =
        dequeuing(queue, servers).flat_map(|server| higher_in(queue, server)).collect();
    all.into_iter().take(MAX_HIGHER).cloned().collect()
}

/// The queues that this worker asks before this one; none without strict priorities.
fn higher_in<'a>(queue: &QueueName, server: &'a ServerInfo) -> Vec<&'a QueueName> {
    let own = server.queues.get(queue).copied().unwrap_or_default();
    let is_higher = |(_, priority): &(&QueueName, &i64)| **priority > own;
    let all = server.queues.iter().filter(|_| server.strict_priority);
    all.filter(is_higher).map(|(name, _)| name).collect()
}

/// The workers that announced this queue, including those that are shutting down.
fn serving<'a>(
    queue: &'a QueueName,
    servers: &'a [ServerInfo],
) -> impl Iterator<Item = &'a ServerInfo> {
    servers.iter().filter(move |server| server.queues.get(queue).is_some_and(|weight| *weight > 0))
}

/// The workers that still dequeue from a queue.
fn dequeuing<'a>(
    queue: &'a QueueName,
    servers: &'a [ServerInfo],
) -> impl Iterator<Item = &'a ServerInfo> {
    serving(queue, servers).filter(|server| !matches!(server.status.as_str(), "stopped" | "closed"))
}

/// The reasons, the decisive one first; at least one.
pub(super) fn reasons(facts: &Facts<'_>) -> Vec<Reason> {
    let mut reasons = match facts.stored.state {
        JobState::Pending => facts.pending(),
        JobState::Active => facts.active(),
        JobState::Scheduled | JobState::Retry => facts.waiting(),
        JobState::Aggregating => facts.aggregating(),
        JobState::Archived => return vec![facts.archived()],
        JobState::Completed => return vec![facts.completed()],
    };
    if let Some(deadline) = facts.stored.record.deadline.filter(|at| *at <= facts.now) {
        reasons.push(Reason::DeadlinePassed { deadline });
    }
    if let Some(then) = facts.stored.cancelling {
        reasons.push(Reason::CancelRequested { then });
    }
    reasons
}

impl Facts<'_> {
    fn queue(&self) -> &QueueName {
        &self.stored.record.queue
    }

    /// How long it is until then; zero if that is over.
    fn wait(&self, at: Timestamp) -> Duration {
        at.since(self.now)
    }

    /// What keeps every job of this queue from being dequeued: a pause, no worker, or only workers
    /// that drain.
    fn of_queue(&self) -> Vec<Reason> {
        let queue = self.queue();
        let mut reasons = Vec::new();
        if self.standing.is_paused {
            let since = self.standing.paused_since;
            reasons.push(Reason::QueuePaused { queue: queue.clone(), since });
        }
        let workers = serving(queue, self.servers).count() as u64;
        if workers == 0 {
            let last_seen = self.standing.served;
            reasons.push(Reason::NoWorker { queue: queue.clone(), last_seen });
        } else if dequeuing(queue, self.servers).next().is_none() {
            reasons.push(Reason::WorkersStopping { queue: queue.clone(), workers });
        }
        reasons
    }

    /// A pending job that was searched for in the whole list and not found is missing from it,
    /// which only the doctor repairs. Otherwise the queue decides, and if nothing is wrong with it,
    /// the place in it.
    fn pending(&self) -> Vec<Reason> {
        let mut reasons = self.of_queue();
        let is_searched = self.standing.pending <= MAX_SEARCHED;
        if self.standing.ahead.is_none() && is_searched {
            reasons.insert(0, Reason::NotListed { state: JobState::Pending });
            return reasons;
        }
        if reasons.is_empty() {
            reasons.extend(self.higher_priority());
            reasons.push(self.in_line());
        }
        reasons.extend(self.suspect());
        reasons
    }

    /// The queues that are served before this one by every worker. `None` if at least one worker
    /// asks this queue, because nothing is pending in the queues above it.
    fn higher_priority(&self) -> Option<Reason> {
        let queue = self.queue();
        let mut full = BTreeSet::new();
        for server in dequeuing(queue, self.servers) {
            let asked_first = higher_in(queue, server);
            let is_full =
                |(name, pending): &&(QueueName, u64)| *pending > 0 && asked_first.contains(&name);
            let some: Vec<_> = self.higher.iter().filter(is_full).collect();
            if some.is_empty() {
                return None;
            }
            full.extend(some);
        }
        let pending = full.iter().map(|(_, pending)| pending).sum();
        let higher = full.into_iter().map(|(name, _)| name.clone()).collect();
        Some(Reason::HigherPriority { queue: queue.clone(), higher, pending })
    }

    /// Its turn has not come: how many jobs are before it, and how busy the workers are.
    fn in_line(&self) -> Reason {
        let queue = self.queue();
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let all = || dequeuing(queue, self.servers);
        Reason::InLine {
            queue: queue.clone(),
            ahead: self.standing.ahead.unwrap_or(MAX_SEARCHED),
            at_least: self.standing.ahead.is_none(),
            workers: all().count() as u64,
            slots: all().map(|server| count(server.concurrency)).sum(),
            in_use: all().map(|server| server.more_running).sum(),
        }
    }

    /// It is suspected of killing processes, so it may wait for its turn among such jobs.
    fn suspect(&self) -> Option<Reason> {
        let losses = self.stored.losses;
        is_suspect(losses).then_some(Reason::Suspect { losses })
    }

    /// A scheduled or retry job. If it is due, a worker of the queue should have made it pending;
    /// if not, its last error says why it waits. What would hold it back afterwards follows.
    fn waiting(&self) -> Vec<Reason> {
        let (stored, job) = (self.stored, &self.stored.record);
        let Some(at) = stored.due else {
            return vec![Reason::NotListed { state: stored.state }];
        };
        if let Some(limit) = &self.standing.waits_for {
            // The due time is only what Asynq's tools see.
            let mut reasons = vec![self.limited(limit)];
            reasons.extend(self.suspect());
            reasons.extend(self.of_queue());
            return reasons;
        }
        if let Some(holder) = self.standing.follows.clone() {
            let mut reasons = vec![Reason::FollowsJob { holder }];
            reasons.extend(self.of_queue());
            return reasons;
        }
        let wait = self.wait(at);
        if wait.is_zero() {
            // The workers of the queue make its due jobs pending, even if it is paused. So with a
            // worker this is over soon; without one, that is the decisive reason.
            let mut reasons = self.of_queue();
            let overdue = Reason::Overdue { since: at, pending: self.standing.pending };
            let is_served = serving(self.queue(), self.servers).next().is_some();
            reasons.insert(if is_served { 0 } else { reasons.len() }, overdue);
            return reasons;
        }
        let error = self.shown.record.last_error.clone();
        let first = match (stored.state, parked(job, &job.last_error)) {
            (JobState::Retry, Some(Parked::NoHandler)) => {
                Reason::NoHandler { job_type: job.job_type.clone(), at, wait }
            }
            (JobState::Retry, Some(Parked::Undecodable { since, text })) => {
                // If redaction changed the error, the part behind the parking mark is not shown
                // either.
                let is_shown = error == job.last_error;
                let error = if is_shown { text.to_owned() } else { error };
                Reason::Undecodable { since, at, wait, error }
            }
            (JobState::Retry, None) if job.last_error.is_empty() => Reason::Snoozed { at, wait },
            (JobState::Retry, None) => Reason::WaitsForRetry {
                at,
                wait,
                retried: job.retried,
                max_retry: job.max_retry,
                error,
            },
            _ => Reason::Due { at, wait },
        };
        let mut reasons = vec![first];
        reasons.extend(self.suspect());
        reasons.extend(self.of_queue());
        reasons
    }

    /// What it waits for, if a limit has no place for it.
    fn limited(&self, standing: &LimitStanding) -> Reason {
        let LimitStanding { limit, in_use, max, since, ahead, next_at, .. } = standing.clone();
        // It may quote the payload.
        let key = self.shown.waiting_for.as_ref().map(|wait| wait.key.clone()).unwrap_or_default();
        let since = since.map(|since| self.now.since(since));
        Reason::WaitsForLimit { limit, key, in_use, max, since, ahead, next_at }
    }

    /// An active job runs, unless its lease shows that its worker is gone. Without a lease nobody
    /// will ever recover it: that is for the doctor.
    fn active(&self) -> Vec<Reason> {
        let stored = self.stored;
        let Some(lease_ends) = stored.lease_ends else {
            return vec![Reason::WorkerGone { lease_ends: None, recovered: None }];
        };
        let lease = self.wait(lease_ends);
        let is_renewed = lease + MAX_UNRENEWED >= LEASE;
        if stored.orphaned || (stored.worker.is_none() && !is_renewed) {
            let is_foreign = self.standing.has_foreign_lease;
            let margin = if is_foreign { FOREIGN_LEASE_MARGIN } else { Duration::ZERO };
            let gone = Reason::WorkerGone {
                lease_ends: Some(lease_ends),
                recovered: Some(lease_ends + margin),
            };
            // The workers of the queue recover its jobs, even if it is paused.
            let mut reasons = vec![gone];
            reasons.extend(
                self.of_queue()
                    .into_iter()
                    .filter(|reason| !matches!(reason, Reason::QueuePaused { .. })),
            );
            return reasons;
        }
        let suspect = self.suspect().filter(|_| !self.standing.has_started);
        let running = Reason::Running { worker: stored.worker.clone(), lease_ends, lease };
        suspect.into_iter().chain([running]).collect()
    }

    /// A job in a group waits until the group is large or old enough, or is being aggregated just
    /// now. The limits are settings of this process: one that does not aggregate cannot say when.
    fn aggregating(&self) -> Vec<Reason> {
        let (group, standing) = (self.stored.record.group.clone(), self.standing);
        if let Some(until) = standing.set_expires {
            return vec![Reason::BeingAggregated { group, until: Some(until) }];
        }
        if self.stored.grouped_since.is_none() && standing.has_more_sets {
            // Most likely in one that was not searched.
            return vec![Reason::BeingAggregated { group, until: None }];
        }
        if self.stored.grouped_since.is_none() {
            return vec![Reason::NotListed { state: JobState::Aggregating }];
        }
        let size = standing.group_size;
        let ends = standing.group_oldest.zip(standing.group_newest);
        let limits = self.group_limits.map(GroupLimits::bounded);
        let missing = limits
            .filter(|limits| limits.max_size > 0)
            .map(|limits| (limits.max_size as u64).saturating_sub(size));
        let ready_at = limits.zip(ends).map(|(limits, ends)| {
            limits.ready_at(usize::try_from(size).unwrap_or(usize::MAX), ends, self.now)
        });
        let oldest = standing.group_oldest;
        let mut reasons = vec![Reason::GroupWaits { group, size, oldest, missing, ready_at }];
        reasons.extend(self.of_queue());
        reasons
    }

    fn archived(&self) -> Reason {
        let error = self.shown.record.last_error.clone();
        Reason::Archived { at: self.stored.archived_at, error }
    }

    fn completed(&self) -> Reason {
        let stored = self.stored;
        Reason::Completed { at: stored.record.completed_at, kept_until: stored.expires }
    }
}
