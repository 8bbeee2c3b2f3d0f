//! The doctor of the store in memory.
//!
//! It checks one invariant: each job is in exactly the collection that its state
//! names, and each collection holds only such jobs; and the same of the places of limits
//! and of those who wait for one. Only a bug of this crate can break it, so there is
//! nothing to repair, and a repair would hide the bug. The
//! contract suite and the model test run the doctor after their operations, which
//! makes it the check that no operation leaves a job behind.

use std::collections::HashSet;

use super::MemoryBroker;
use super::limits::{Limited, Pair};
use super::queue::{Queue, Timeline};
use crate::broker::Answer;
use crate::broker::doctor::{
    CheckedPage, Checkpoint, Doctor, Finding, FindingKind, FindingStatus, Findings, RepairScope,
};
use crate::job::{JobId, JobState, QueueName};

impl Doctor for MemoryBroker {
    /// A store in memory has no server whose settings could be wrong.
    fn check_store(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// One page has the whole queue.
    fn check_queue<'a>(
        &'a self,
        queue: &'a QueueName,
        _: Option<Checkpoint>,
        _: RepairScope,
    ) -> Answer<'a, CheckedPage> {
        Box::pin(async move {
            let mut findings = Findings::default();
            let (entries_checked, broken) =
                self.look(queue, |queue, _| queue.check()).unwrap_or_default();
            for (kind, place, id) in broken {
                let found = Finding::new(
                    kind,
                    Some(queue),
                    place.as_str(),
                    id.as_str(),
                    FindingStatus::Reported,
                );
                findings.add(found);
            }
            Ok(CheckedPage { findings: findings.into_vec(), entries_checked, next: None })
        })
    }

    /// Nothing to repair: a broken invariant is a bug, which a repair would hide.
    fn repair_provable<'a>(&'a self, _: &'a QueueName) -> Answer<'a, Vec<Finding>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

impl Queue {
    /// The number of entries, and those that break the invariant: each job is in exactly the
    /// collection that its state names, and each collection holds only such jobs.
    pub(super) fn check(&self) -> (u64, Vec<(FindingKind, JobState, JobId)>) {
        let line = |line: &Timeline| line.iter().map(|(_, id)| id.clone()).collect();
        let containers: [(JobState, Vec<JobId>); 7] = [
            (JobState::Pending, self.pending.iter().cloned().collect()),
            (JobState::Active, self.leases.values().cloned().collect()),
            (JobState::Scheduled, line(&self.scheduled)),
            (JobState::Retry, line(&self.retry)),
            (JobState::Archived, line(&self.archived)),
            (JobState::Completed, line(&self.completed)),
            (JobState::Aggregating, self.grouping.all().cloned().collect()),
        ];
        let mut broken = Vec::new();
        let mut seen = HashSet::new();
        for (state, ids) in containers {
            for id in ids {
                let kind = match self.jobs.get(&id) {
                    None => Some(FindingKind::Ghost),
                    Some(job) if job.state != state => Some(FindingKind::Stray),
                    Some(_) => (!seen.insert(id.clone())).then_some(FindingKind::Duplicate),
                };
                broken.extend(kind.map(|kind| (kind, state, id)));
            }
        }
        for (id, job) in self.jobs.iter() {
            if !seen.contains(id) {
                broken.push((FindingKind::Orphan, job.state, id.clone()));
            }
        }
        broken.extend(self.check_limits());
        (self.jobs.len() as u64, broken)
    }

    /// Places that are not their jobs', and jobs that are not where they wait.
    fn check_limits(&self) -> Vec<(FindingKind, JobState, JobId)> {
        let mut broken = Vec::new();
        let limited = |id: &JobId| self.jobs.get(id).and_then(|job| job.limited.as_deref());
        for (pair, id) in self.gates.holders() {
            let is_active = self.jobs.get(id).is_some_and(|job| job.state == JobState::Active);
            if !is_active || limited(id).is_none_or(|limited| !limited.pairs.contains(pair)) {
                broken.push((FindingKind::LeakedPlace, JobState::Active, id.clone()));
            }
        }
        for (pair, id) in self.gates.waiting() {
            let waits = self.jobs.get(id).is_some_and(|job| job.waits_for_limit());
            if !waits || limited(id).and_then(Limited::next) != Some(pair) {
                broken.push((FindingKind::StaleWait, JobState::Scheduled, id.clone()));
            }
        }
        for (id, job) in self.jobs.iter() {
            let Some(limited) = &job.limited else { continue };
            let lost = |pair: &Pair| !self.gates.has_holder(pair, limited.taken, id);
            if job.state == JobState::Active && limited.pairs.iter().any(lost) {
                broken.push((FindingKind::LostPlace, job.state, id.clone()));
            }
            let is_lost = |pair: &Pair| !self.gates.has_waiting(pair, limited.turn, id);
            if job.waits_for_limit() && limited.next().is_none_or(is_lost) {
                broken.push((FindingKind::LostWait, job.state, id.clone()));
            }
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobRecord, NewJob};
    use crate::time::Timestamp;

    #[test]
    fn a_broken_invariant_is_told() {
        let id = JobId::stored;
        let mut queue = Queue::default();
        for name in ["sound", "nowhere", "twice", "elsewhere"] {
            let mut job = JobRecord::new("t", None, QueueName::stored("q"));
            job.id = id(name);
            queue.enqueue(&NewJob::now(job), Timestamp::from_secs(1));
        }
        assert_eq!(queue.check().1, []);
        queue.pending.retain(|of| of.as_str() != "nowhere");
        queue.pending.push_back(id("twice"));
        queue.pending.push_back(id("ghost"));
        queue.archived.insert((Timestamp::from_secs(1), id("elsewhere")));

        let (entries_checked, broken) = queue.check();

        let expected = [
            (FindingKind::Duplicate, JobState::Pending, id("twice")),
            (FindingKind::Ghost, JobState::Pending, id("ghost")),
            (FindingKind::Stray, JobState::Archived, id("elsewhere")),
            (FindingKind::Orphan, JobState::Pending, id("nowhere")),
        ];
        assert_eq!((entries_checked, broken), (4, expected.into()));
    }
}
