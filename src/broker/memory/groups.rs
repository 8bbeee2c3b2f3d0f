//! Groups of jobs that are aggregated into one, in this process' memory.
//!
//! A group orders its jobs by the second they joined. It is ready when it holds
//! enough jobs, when no job has joined for the grace period, or when its oldest job
//! has waited for the maximum delay. An aggregator then claims its jobs, up to a
//! maximum, as a set with an expiry. The set is replaced by the aggregated job in
//! one step, or its jobs return to the group when the set expires or is given up.
//!
//! Times are whole seconds, as in Redis, because the scores of Asynq's sorted sets are
//! whole seconds. A claimed job still has the state "aggregating", but it is in no
//! group and cannot be acted upon.

use std::collections::BTreeMap;

use super::MemoryBroker;
use super::changes::Changes;
use super::queue::{Queue, StoredJob, Timeline, whole_second};
use crate::broker::disk::Level;
use crate::broker::{
    AggregationSet, Answer, Enqueued, GroupLimits, GroupSet, Groups, ReadyGroups, RepairedGroups,
    SET_EXPIRY,
};
use crate::job::{JobId, JobRecord, JobState, NewJob, QueueName};
use crate::time::Timestamp;

/// Maximum aggregations returned to the inspector.
const MAX_AGGREGATIONS: usize = 100;

/// The groups of one queue.
#[derive(Default)]
pub(super) struct Grouping {
    /// Groups with waiting jobs, by name; jobs by the second they joined.
    pub(super) waiting: BTreeMap<String, Timeline>,
    /// Claimed sets that are being aggregated, by id.
    pub(super) claimed: BTreeMap<String, ClaimedSet>,
    /// Sets that came, went or expire at another time.
    pub(super) changed: Changes<String>,
}

/// Jobs that an aggregator has claimed from their group.
pub(super) struct ClaimedSet {
    /// The group they came from.
    pub(super) group: String,
    /// Its jobs, by the second they joined the group.
    pub(super) jobs: Timeline,
    /// When the jobs return to the group.
    pub(super) expires: Timestamp,
}

impl Grouping {
    /// How many jobs wait in groups.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(Timeline::len).sum()
    }

    /// All jobs of groups and of sets.
    pub(super) fn all(&self) -> impl Iterator<Item = &JobId> {
        let sets = self.claimed.values().flat_map(|set| &set.jobs);
        self.waiting.values().flatten().chain(sets).map(|(_, id)| id)
    }

    /// Whether the job waits in its group and is not claimed.
    pub(super) fn holds(&self, job: &JobRecord) -> bool {
        let line = self.waiting.get(&job.group);
        line.is_some_and(|line| line.iter().any(|(_, id)| *id == job.id))
    }

    /// The set that claimed the job.
    pub(super) fn set_of(&self, job: &JobRecord) -> Option<&ClaimedSet> {
        let has = |set: &&ClaimedSet| {
            set.group == job.group && set.jobs.iter().any(|(_, id)| *id == job.id)
        };
        self.claimed.values().find(has)
    }

    /// Returns the jobs of expired sets to their groups; returns how many sets.
    fn return_stale(&mut self, limit: usize, now: Timestamp) -> usize {
        let stale = self.claimed.iter().filter(|(_, set)| set.expires <= whole_second(now));
        let stale: Vec<String> = stale.map(|(id, _)| id.clone()).take(limit).collect();
        for id in &stale {
            let Some(set) = self.claimed.remove(id) else { continue };
            self.changed.note(|| id.clone());
            self.waiting.entry(set.group).or_default().extend(set.jobs);
        }
        stale.len()
    }
}

/// The instant from which the group is ready to be aggregated.
fn ready_at(jobs: &Timeline, limits: &GroupLimits, now: Timestamp) -> Option<Timestamp> {
    let ((oldest, _), (newest, _)) = (jobs.first()?, jobs.last()?);
    Some(limits.ready_at(jobs.len(), (*oldest, *newest), now))
}

impl Queue {
    /// Adds a job to its group.
    pub(super) fn join_group(&mut self, mut stored: Box<StoredJob>, now: Timestamp) {
        let id = stored.job.id.clone();
        stored.entered = whole_second(now);
        let group = self.grouping.waiting.entry(stored.job.group.clone()).or_default();
        group.insert((stored.entered, id.clone()));
        stored.state = JobState::Aggregating;
        stored.due = None;
        self.jobs.insert(id, stored);
    }

    /// The ready groups, and how long until the next one is ready.
    fn ready_groups(&self, limits: &GroupLimits, now: Timestamp) -> ReadyGroups {
        let mut seen = ReadyGroups::default();
        for (name, jobs) in &self.grouping.waiting {
            match ready_at(jobs, limits, now) {
                Some(at) if at <= now => seen.ready.push(name.clone()),
                Some(at) => {
                    let wait = at.since(now);
                    seen.next = Some(seen.next.map_or(wait, |next| next.min(wait)));
                }
                None => {}
            }
        }
        seen
    }

    /// The aggregations in progress, those that expire first.
    pub(super) fn aggregations(&self) -> Vec<AggregationSet> {
        let set = |(id, set): (&String, &ClaimedSet)| AggregationSet {
            group: set.group.clone(),
            id: id.clone(),
            size: set.jobs.len() as u64,
            expires: set.expires,
        };
        let mut sets: Vec<_> = self.grouping.claimed.iter().map(set).collect();
        sets.sort_by_key(|set| (set.expires, format!("{}:{}", set.group, set.id)));
        sets.truncate(MAX_AGGREGATIONS);
        sets
    }

    /// Claims a ready group's jobs as a set; the oldest, if there are too many.
    fn claim_group(
        &mut self,
        queue: &QueueName,
        group: &str,
        limits: &GroupLimits,
        now: Timestamp,
    ) -> Option<GroupSet> {
        let waiting = self.grouping.waiting.get_mut(group)?;
        ready_at(waiting, limits, now).filter(|at| *at <= now)?;
        let mut jobs = std::mem::take(waiting);
        if let Some(rest) = jobs.iter().nth(limits.max_claimed()).cloned() {
            *waiting = jobs.split_off(&rest);
        } else {
            self.grouping.waiting.remove(group);
        }
        let set = GroupSet {
            queue: queue.clone(),
            group: group.to_owned(),
            id: JobId::random().to_string(),
            expires: whole_second(now) + SET_EXPIRY,
            jobs: jobs.iter().filter_map(|(_, id)| Some(self.jobs.get(id)?.job.clone())).collect(),
        };
        let claimed = ClaimedSet { group: set.group.clone(), jobs, expires: set.expires };
        self.grouping.changed.note(|| set.id.clone());
        self.grouping.claimed.insert(set.id.clone(), claimed);
        Some(set)
    }

    /// Replaces the set's jobs by the aggregated job. If it is not created, the set
    /// stays claimed.
    fn aggregate(&mut self, set: &GroupSet, job: &NewJob, now: Timestamp) -> Option<Enqueued> {
        self.grouping.claimed.get(&set.id)?;
        let outcome = self.enqueue(job, now);
        if let Enqueued::Created { .. } = outcome {
            self.grouping.changed.note(|| set.id.clone());
            let jobs =
                self.grouping.claimed.remove(&set.id).map(|set| set.jobs).unwrap_or_default();
            for stored in jobs.iter().filter_map(|(_, id)| self.jobs.remove(id)).collect::<Vec<_>>()
            {
                self.unlock(&stored.job, now);
            }
        }
        Some(outcome)
    }

    /// Ends a set now, so that its jobs return to their group.
    fn return_set(&mut self, id: &str, now: Timestamp) {
        if let Some(set) = self.grouping.claimed.get_mut(id) {
            set.expires = whole_second(now);
            self.grouping.changed.note(|| id.to_owned());
        }
        // Other expired sets are returned too, even if this one is gone.
        self.grouping.return_stale(usize::MAX, now);
    }
}

impl Groups for MemoryBroker {
    /// All groups are checked at once, so the cursor is unused.
    fn ready_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limits: &'a GroupLimits,
        _: u64,
    ) -> Answer<'a, ReadyGroups> {
        Box::pin(async move {
            Ok(self.look(queue, |q, now| q.ready_groups(limits, now)).unwrap_or_default())
        })
    }

    /// The set's id is random, as in Redis, and names it in lists.
    fn claim_group<'a>(
        &'a self,
        queue: &'a QueueName,
        group: &'a str,
        limits: &'a GroupLimits,
    ) -> Answer<'a, Option<GroupSet>> {
        Box::pin(async move {
            self.accepts(Level::Written)?;
            let set = self.act(queue, |q, now| q.claim_group(queue, group, limits, now));
            if set.is_some() {
                self.saved(Level::Written).await?;
            }
            Ok(set)
        })
    }

    /// The aggregated job is enqueued under the same rules as any other.
    fn aggregate<'a>(&'a self, set: &'a GroupSet, job: &'a NewJob) -> Answer<'a, Option<Enqueued>> {
        Box::pin(async move {
            self.accepts(Level::Durable)?;
            let enqueued = self.act(&set.queue, |q, now| {
                let outcome = q.aggregate(set, job, now);
                outcome.inspect(|enqueued| self.note(job, enqueued, now))
            });
            self.saved(Level::Durable).await?;
            Ok(enqueued)
        })
    }

    /// Other expired sets return with it.
    fn return_set<'a>(&'a self, set: &'a GroupSet) -> Answer<'a, ()> {
        Box::pin(async move {
            self.act(&set.queue, |q, now| q.return_set(&set.id, now));
            Ok(())
        })
    }

    /// Only expired sets: no other program fills groups here.
    fn repair_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
    ) -> Answer<'a, RepairedGroups> {
        Box::pin(async move {
            let returned = self.act(queue, |q, now| q.grouping.return_stale(limit, now));
            Ok(RepairedGroups { returned, more: returned == limit })
        })
    }
}
