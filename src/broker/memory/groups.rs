//! Groups: jobs that wait to become one.

use std::collections::BTreeMap;

use super::MemoryBroker;
use super::queue::{Queue, Stored, Timeline, whole_second};
use crate::broker::groups::ceil_secs;
use crate::broker::{
    AggregationSet, Answer, Enqueued, GroupLimits, GroupSet, Groups, GroupsSeen, RepairedGroups,
    SET_EXPIRY,
};
use crate::job::{JobId, JobRecord, JobState, NewJob, QueueName};
use crate::time::Timestamp;

/// As many as the inspector shows.
const MOST_AGGREGATIONS: usize = 100;

/// The groups of one queue.
#[derive(Default)]
pub(super) struct Grouping {
    /// Those that have a job, by name; jobs by the second they joined.
    pub(super) waiting: BTreeMap<String, Timeline>,
    /// Jobs that are being aggregated, by the id of their set.
    taken: BTreeMap<String, ClaimedSet>,
}

struct ClaimedSet {
    group: String,
    jobs: Timeline,
    expires: Timestamp,
}

impl Grouping {
    /// How many jobs wait in groups.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(Timeline::len).sum()
    }

    /// All jobs of groups and of sets.
    pub(super) fn all(&self) -> impl Iterator<Item = &JobId> {
        let sets = self.taken.values().flat_map(|set| &set.jobs);
        self.waiting.values().flatten().chain(sets).map(|(_, id)| id)
    }

    /// Whether the job waits in its group, and is not being aggregated.
    pub(super) fn holds(&self, job: &JobRecord) -> bool {
        let line = self.waiting.get(&job.group);
        line.is_some_and(|line| line.iter().any(|(_, id)| *id == job.id))
    }

    /// The jobs of sets whose time is over wait in their groups again.
    fn return_stale(&mut self, limit: usize, now: Timestamp) -> usize {
        let stale = self.taken.iter().filter(|(_, set)| set.expires <= whole_second(now));
        let stale: Vec<String> = stale.map(|(id, _)| id.clone()).take(limit).collect();
        for set in stale.iter().filter_map(|id| self.taken.remove(id)) {
            self.waiting.entry(set.group).or_default().extend(set.jobs);
        }
        stale.len()
    }
}

/// The instant from which on the group is to be aggregated, now included.
fn ready_at(jobs: &Timeline, limits: &GroupLimits, now: Timestamp) -> Option<Timestamp> {
    let limits = limits.bounded();
    let ((oldest, _), (newest, _)) = (jobs.first()?, jobs.last()?);
    if limits.max_size > 0 && jobs.len() >= limits.max_size {
        return Some(now);
    }
    let secs = std::time::Duration::from_secs;
    let calm = *newest + secs(ceil_secs(limits.grace).max(1));
    match ceil_secs(limits.max_delay) {
        0 => Some(calm),
        delay => Some(calm.min(*oldest + secs(delay))),
    }
}

impl Queue {
    /// The job waits in its group from now on.
    pub(super) fn join_group(&mut self, mut stored: Stored, now: Timestamp) {
        let id = stored.job.id.clone();
        let group = self.grouping.waiting.entry(stored.job.group.clone()).or_default();
        group.insert((whole_second(now), id.clone()));
        stored.state = JobState::Aggregating;
        stored.due = None;
        self.jobs.insert(id, stored);
    }

    fn ready_groups(&self, limits: &GroupLimits, now: Timestamp) -> GroupsSeen {
        let mut seen = GroupsSeen::default();
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

    /// The aggregations in progress that end first.
    pub(super) fn aggregations(&self) -> Vec<AggregationSet> {
        let set = |(id, set): (&String, &ClaimedSet)| AggregationSet {
            group: set.group.clone(),
            id: id.clone(),
            size: set.jobs.len() as u64,
            expires: set.expires,
        };
        let mut sets: Vec<_> = self.grouping.taken.iter().map(set).collect();
        sets.sort_by_key(|set| (set.expires, format!("{}:{}", set.group, set.id)));
        sets.truncate(MOST_AGGREGATIONS);
        sets
    }

    fn take_group(
        &mut self,
        queue: &QueueName,
        group: &str,
        limits: &GroupLimits,
        now: Timestamp,
    ) -> Option<GroupSet> {
        let waiting = self.grouping.waiting.get_mut(group)?;
        ready_at(waiting, limits, now).filter(|at| *at <= now)?;
        let mut jobs = std::mem::take(waiting);
        if let Some(rest) = jobs.iter().nth(limits.most()).cloned() {
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
        let taken = ClaimedSet { group: set.group.clone(), jobs, expires: set.expires };
        self.grouping.taken.insert(set.id.clone(), taken);
        Some(set)
    }

    fn aggregate(&mut self, set: &GroupSet, job: &NewJob, now: Timestamp) -> Option<Enqueued> {
        self.grouping.taken.get(&set.id)?;
        let outcome = self.enqueue(job, now);
        if let Enqueued::Created { .. } = outcome {
            let jobs = self.grouping.taken.remove(&set.id).map(|set| set.jobs).unwrap_or_default();
            for stored in jobs.iter().filter_map(|(_, id)| self.jobs.remove(id)).collect::<Vec<_>>()
            {
                self.unlock(&stored.job, now);
            }
        }
        Some(outcome)
    }

    fn return_set(&mut self, id: &str, now: Timestamp) {
        if let Some(set) = self.grouping.taken.get_mut(id) {
            set.expires = whole_second(now);
        }
        // With it come those whose time is over, also where it has ended itself.
        self.grouping.return_stale(usize::MAX, now);
    }
}

impl Groups for MemoryBroker {
    fn ready_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limits: &'a GroupLimits,
        _: u64,
    ) -> Answer<'a, GroupsSeen> {
        Box::pin(async move {
            Ok(self.look(queue, |q, now| q.ready_groups(limits, now)).unwrap_or_default())
        })
    }

    fn take_group<'a>(
        &'a self,
        queue: &'a QueueName,
        group: &'a str,
        limits: &'a GroupLimits,
    ) -> Answer<'a, Option<GroupSet>> {
        Box::pin(
            async move { Ok(self.act(queue, |q, now| q.take_group(queue, group, limits, now))) },
        )
    }

    fn aggregate<'a>(&'a self, set: &'a GroupSet, job: &'a NewJob) -> Answer<'a, Option<Enqueued>> {
        Box::pin(async move {
            Ok(self.act(&set.queue, |q, now| {
                let outcome = q.aggregate(set, job, now);
                outcome.inspect(|enqueued| self.note(job, enqueued, now))
            }))
        })
    }

    fn return_set<'a>(&'a self, set: &'a GroupSet) -> Answer<'a, ()> {
        Box::pin(async move {
            self.act(&set.queue, |q, now| q.return_set(&set.id, now));
            Ok(())
        })
    }

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
