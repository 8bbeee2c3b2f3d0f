//! Groups: jobs that wait to become one, as plain data.

use std::collections::BTreeMap;

use super::queue::{Queue, Stored, Timeline, whole_second};
use crate::job::JobState;
use crate::time::Timestamp;

/// The groups of one queue. Only those that have a job.
#[derive(Default)]
pub(super) struct Grouping {
    /// By the second they joined.
    pub(super) waiting: BTreeMap<String, Timeline>,
}

impl Grouping {
    /// How many jobs wait in groups.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(Timeline::len).sum()
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
}
