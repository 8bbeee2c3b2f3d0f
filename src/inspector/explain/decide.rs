//! Which reasons hold: a pure function of what the store answered.

use std::collections::BTreeSet;
use std::time::Duration;

use super::reason::Reason;
use crate::broker::{
    FOREIGN_LEASE_MARGIN, GroupLimits, JobInfo, LEASE, MAX_SEARCHED, ServerInfo, Standing,
};
use crate::job::{JobState, Parked, QueueName, is_suspect, parked};
use crate::time::Timestamp;

/// A worker renews its leases every 5 s. One that was not renewed for twice as long, and whose job
/// no announced process runs, is a dead worker's.
const MAX_UNRENEWED: Duration = Duration::from_secs(10);

/// Maximum queues of higher priority that are asked for their pending jobs.
const MAX_HIGHER: usize = 100;

/// What the store answered about one job.
pub(super) struct Facts<'a> {
    /// The job as it is stored: hidden texts would hide which error it is.
    pub(super) stored: &'a JobInfo,
    /// The job as the viewer may see it: texts come from here.
    pub(super) shown: &'a JobInfo,
    pub(super) standing: &'a Standing,
    pub(super) servers: &'a [ServerInfo],
    /// Pending jobs of the queues that [`higher_queues`] named, if they are not paused.
    pub(super) higher: &'a [(QueueName, u64)],
    /// When this process aggregates a group, if it does.
    pub(super) group_limits: Option<&'a GroupLimits>,
    pub(super) now: Timestamp,
}

/// Whether the answer depends on who serves the queue.
pub(super) fn needs_servers(job: &JobInfo) -> bool {
    match job.state {
        JobState::Pending | JobState::Scheduled | JobState::Retry | JobState::Aggregating => true,
        JobState::Active => job.worker.is_none() || job.orphaned,
        JobState::Archived | JobState::Completed => false,
    }
}

/// The queues that some worker with strict priorities asks before this one.
pub(super) fn higher_queues(queue: &QueueName, servers: &[ServerInfo]) -> Vec<QueueName> {
    let all: BTreeSet<&QueueName> =
        dequeuing(queue, servers).flat_map(|server| higher_in(queue, server)).collect();
    all.into_iter().take(MAX_HIGHER).cloned().collect()
}

/// The queues that this worker asks before this one.
fn higher_in<'a>(queue: &QueueName, server: &'a ServerInfo) -> Vec<&'a QueueName> {
    let own = server.queues.get(queue).copied().unwrap_or_default();
    let is_higher = |(_, priority): &(&QueueName, &i64)| **priority > own;
    let all = server.queues.iter().filter(|_| server.strict_priority);
    all.filter(is_higher).map(|(name, _)| name).collect()
}

/// The workers that serve a queue.
fn serving<'a>(
    queue: &'a QueueName,
    servers: &'a [ServerInfo],
) -> impl Iterator<Item = &'a ServerInfo> {
    servers.iter().filter(move |server| server.queues.get(queue).is_some_and(|weight| *weight > 0))
}

/// The workers that dequeue from a queue: not those that drain.
fn dequeuing<'a>(
    queue: &'a QueueName,
    servers: &'a [ServerInfo],
) -> impl Iterator<Item = &'a ServerInfo> {
    serving(queue, servers).filter(|server| !matches!(server.status.as_str(), "stopped" | "closed"))
}

/// The reasons, the decisive one first.
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

    fn wait(&self, at: Timestamp) -> Duration {
        at.since(self.now)
    }

    /// What keeps every job of the queue from being dequeued.
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

    /// The queues that keep every worker busy before it asks this one; `None` if some worker does
    /// ask it.
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

    fn suspect(&self) -> Option<Reason> {
        let losses = self.stored.losses;
        is_suspect(losses).then_some(Reason::Suspect { losses })
    }

    fn waiting(&self) -> Vec<Reason> {
        let (stored, job) = (self.stored, &self.stored.record);
        let Some(at) = stored.due else {
            return vec![Reason::NotListed { state: stored.state }];
        };
        let wait = self.wait(at);
        if wait.is_zero() {
            // Who serves the queue also makes its due jobs pending, if it is paused too.
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
                // A hidden error is hidden as a whole.
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
            // The workers of the queue recover its jobs, if it is paused too.
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

    fn aggregating(&self) -> Vec<Reason> {
        let (group, standing) = (self.stored.record.group.clone(), self.standing);
        if let Some(until) = standing.set_expires {
            return vec![Reason::BeingAggregated { group, until: Some(until) }];
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
