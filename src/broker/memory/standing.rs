//! Where a job stands in a queue in memory.

use super::queue::Queue;
use crate::broker::{MAX_SEARCHED, Standing};
use crate::job::{JobId, JobState};
use crate::time::Timestamp;

impl Queue {
    /// The place of a job in its queue: the same answer as that of `read_standing.lua`.
    pub(super) fn standing(&self, id: &JobId, now: Timestamp) -> Standing {
        let stored = self.jobs.get(id);
        let state = stored.map(|stored| stored.state);
        let ahead = || {
            let place = self.pending.iter().take(MAX_SEARCHED as usize).position(|next| next == id);
            place.map(|place| place as u64)
        };
        let waits = stored.filter(|stored| stored.state == JobState::Aggregating);
        let group = waits.and_then(|stored| self.grouping.waiting.get(&stored.job.group));
        let sets = waits.and_then(|stored| self.grouping.set_of(&stored.job));
        Standing {
            state,
            is_paused: self.paused(),
            paused_since: self.paused,
            pending: self.pending.len() as u64,
            ahead: ahead().filter(|_| state == Some(JobState::Pending)),
            served: self
                .snapshots
                .last_key_value()
                .map(|(minute, _)| Timestamp::from_secs(minute * 60)),
            has_started: stored.is_some_and(|stored| stored.started),
            // Only this process uses the store.
            has_foreign_lease: false,
            group_size: group.map_or(0, |line| line.len() as u64),
            group_oldest: group.and_then(|line| line.first()).map(|(at, _)| *at),
            group_newest: group.and_then(|line| line.last()).map(|(at, _)| *at),
            set_expires: sets.map(|set| set.expires),
            has_more_sets: false,
            follows: stored
                .and_then(|stored| stored.follows.as_ref())
                .map(|follows| follows.holder.clone()),
            waits_for: stored.and_then(|stored| self.waits_for(stored, now)),
        }
    }
}
