//! The numbers that the navigation carries: jobs, failures, what is scheduled, what waits in
//! groups.
//!
//! They are read for the page that is made, at most once in two seconds for all readers together:
//! one script per queue. With more than [`MAX_QUEUES`] queues there are none, because a page must
//! not cost that much, and a part of them would be taken for the whole.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::inspector::Inspector;
use crate::job::JobState;
use crate::sync::lock;

/// Maximum queues that are counted.
const MAX_QUEUES: usize = 50;

/// How old the numbers of a page may be.
const MAX_AGE: Duration = Duration::from_secs(2);

/// How long a page waits for them. Without an answer it has none.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Jobs by what the pages of the navigation show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct NavCounts {
    /// In all states.
    pub jobs: u64,
    /// Archived or waiting for a retry.
    pub failures: u64,
    /// With a due time, retries not among them.
    pub scheduled: u64,
    /// Waiting in a group.
    pub groups: u64,
}

/// The last numbers of a process, and when they were read.
#[derive(Default)]
pub(crate) struct LastCounts(Mutex<Option<(Instant, Option<NavCounts>)>>);

impl LastCounts {
    /// The numbers, read again if they are too old; `None` if they are unknown.
    pub(crate) async fn read(&self, inspector: &Inspector) -> Option<NavCounts> {
        if let Some((at, counts)) = *lock(&self.0)
            && at.elapsed() < MAX_AGE
        {
            return counts;
        }
        let counted = tokio::time::timeout(TIMEOUT, count(inspector)).await.ok().flatten();
        *lock(&self.0) = Some((Instant::now(), counted));
        counted
    }
}

/// Sums the sizes of all queues; `None` if one cannot be read or if there are too many.
async fn count(inspector: &Inspector) -> Option<NavCounts> {
    // Names first: no queue is asked if there are too many.
    if inspector.queues().await.ok()?.len() > MAX_QUEUES {
        return None;
    }
    let all = inspector.some_queues(None, MAX_QUEUES).await.ok()?;
    let mut counts = NavCounts::default();
    for summary in &all.queues {
        let info = summary.info.as_ref()?;
        let size = |state: JobState| info.sizes.get(state.as_str()).copied().unwrap_or_default();
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut counts.jobs, info.size);
        add(&mut counts.failures, size(JobState::Archived).saturating_add(size(JobState::Retry)));
        add(&mut counts.scheduled, size(JobState::Scheduled));
        add(&mut counts.groups, size(JobState::Aggregating));
    }
    Some(counts)
}
