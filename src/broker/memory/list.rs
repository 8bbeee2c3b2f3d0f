//! The sizes, counters and lists of one queue, in Asynq's order.
//!
//! Two kinds of lists differ in how a page continues. The lists of pending and
//! active jobs move while they are read: a page begins after a row, wherever that
//! row is by now, and if the row is gone, after the first row of the page before.
//! All other lists are ordered by whole seconds, then by id, whatever the exact
//! instants are, because that is the order that Asynq's tools see in Redis: a
//! cursor names the second and the id, and stays right when jobs come and go.
//!
//! Jobs are returned until their payloads and results reach [`MAX_PAGE_BYTES`], but
//! always at least one. Memory is an estimate from the same sample that Redis
//! measures, so that both stores report the same kind of number.

use std::collections::BTreeMap;
use std::time::Duration;

use super::queue::{Queue, StoredJob, Timeline, day};
use crate::broker::{
    Begin, Cursor, DayStats, GroupInfo, GroupPage, JobInfo, JobList, JobPage, JobRow,
    MAX_PAGE_BYTES, Mark, MinuteStats, Page, QueueInfo, QueueMemory,
};
use crate::error::Error;
use crate::job::{JobId, JobState};
use crate::time::Timestamp;

/// Jobs whose memory is measured at either end of a list, as in Redis.
const SAMPLED_AT_ENDS: usize = 10;

/// Groups whose jobs are measured.
const SAMPLED_GROUPS: usize = 5;

/// Jobs measured per group.
const SAMPLED_PER_GROUP: usize = 4;

/// Some ids of a list, and the begin of the next page.
struct ListSlice {
    /// The ids of the page, in order.
    ids: Vec<JobId>,
    /// The length of the whole list.
    total: usize,
    /// The begin of the next page.
    next: Option<Cursor>,
}

impl Queue {
    /// The sizes and counters of the queue.
    pub(super) fn info(&self, now: Timestamp) -> QueueInfo {
        let sizes: BTreeMap<_, _> =
            JobState::ALL.map(|state| (state.as_str(), self.size(state) as u64)).into();
        let next = self.pending.front().and_then(|id| self.jobs.get(id));
        let pending_since = next.and_then(|stored| stored.pending_since);
        let today = self.days.get(&day(now)).copied().unwrap_or_default();
        QueueInfo {
            size: sizes.values().sum(),
            sizes,
            groups: self.grouping.waiting.len() as u64,
            pending_since,
            latency: pending_since.map_or(Duration::ZERO, |since| now.since(since)),
            paused: self.paused(),
            paused_since: self.paused,
            processed: self.total.processed,
            failed: self.total.failed,
            processed_today: today.processed,
            failed_today: today.failed,
            next_due: self.next_due(),
            archived_last_hour: self.archived_since(now - Duration::from_secs(3600)),
        }
    }

    /// How many archived jobs were archived at this second or later.
    fn archived_since(&self, begin: Timestamp) -> u64 {
        let begin = Timestamp::from_secs(begin.as_secs());
        self.archived.iter().rev().take_while(|(at, _)| *at >= begin).count() as u64
    }

    /// The number of jobs in a state.
    fn size(&self, state: JobState) -> usize {
        match state {
            JobState::Pending => self.pending.len(),
            JobState::Active => self.leases.len(),
            JobState::Scheduled => self.scheduled.len(),
            JobState::Retry => self.retry.len(),
            JobState::Archived => self.archived.len(),
            JobState::Completed => self.completed.len(),
            JobState::Aggregating => self.grouping.len(),
        }
    }

    /// Attempts of the last days, today first.
    pub(super) fn history(&self, days: u32, now: Timestamp) -> Vec<DayStats> {
        let today = day(now);
        let of = |ago: u32| {
            let day = today - i64::from(ago);
            let tally = self.days.get(&day).copied().unwrap_or_default();
            let date = Timestamp::from_secs(day * 86_400).date();
            DayStats { date, processed: tally.processed, failed: tally.failed }
        };
        (0..days).map(of).collect()
    }

    /// Attempts of the last hour by minute.
    pub(super) fn minutes(&self, now: Timestamp) -> Vec<MinuteStats> {
        MinuteStats::between(&self.snapshots, self.snapshot(), now)
    }

    /// How many jobs are due before each of these instants, from the one before.
    pub(super) fn upcoming(&self, ends: &[Timestamp]) -> Vec<u64> {
        let mut counts = vec![0; ends.len()];
        for line in [&self.scheduled, &self.retry] {
            let mut at = 0;
            for (due, _) in line {
                while ends.get(at).is_some_and(|end| due > end) {
                    at += 1;
                }
                let Some(count) = counts.get_mut(at) else { break };
                *count += 1;
            }
        }
        counts
    }

    /// Estimates memory as for Redis: a sample of each list represents all of it.
    pub(super) fn memory(&self) -> QueueMemory {
        let mut memory = QueueMemory::default();
        let mut sample = |ids: Vec<&JobId>, jobs: usize| {
            let sizes: Vec<u64> =
                ids.iter().filter_map(|id| self.jobs.get(id)).map(StoredJob::bytes).collect();
            let some = sizes.len().max(1) as u64;
            memory.bytes += sizes.iter().sum::<u64>() * jobs as u64 / some;
            memory.sampled += sizes.len() as u64;
            memory.jobs += jobs as u64;
        };
        fn both_ends<'a>(
            ids: impl DoubleEndedIterator<Item = &'a JobId> + Clone,
            jobs: usize,
        ) -> Vec<&'a JobId> {
            let rest = jobs.saturating_sub(SAMPLED_AT_ENDS).min(SAMPLED_AT_ENDS);
            ids.clone().take(SAMPLED_AT_ENDS).chain(ids.rev().take(rest)).collect()
        }
        sample(both_ends(self.pending.iter(), self.pending.len()), self.pending.len());
        sample(both_ends(self.leases.values(), self.leases.len()), self.leases.len());
        for line in [&self.scheduled, &self.retry, &self.archived, &self.completed] {
            sample(both_ends(line.iter().map(|(_, id)| id), line.len()), line.len());
        }
        let groups = self.grouping.waiting.values().take(SAMPLED_GROUPS);
        let grouped = groups.flat_map(|line| line.iter().take(SAMPLED_PER_GROUP).map(|(_, id)| id));
        sample(grouped.collect(), self.grouping.len());
        memory
    }

    /// The state of a job.
    pub(super) fn state(&self, id: &JobId) -> Option<JobState> {
        self.jobs.get(id).map(|stored| stored.state)
    }

    /// One job with all that is known about it.
    pub(super) fn job(&self, id: &JobId, now: Timestamp) -> Option<JobInfo> {
        let stored = self.jobs.get(id)?;
        let mut info = JobInfo::new(stored.job.clone(), stored.state);
        match stored.state {
            JobState::Pending => info.pending_since = stored.pending_since,
            JobState::Active => {
                let ends = Timestamp::from_micros(stored.held.ends);
                info.lease_ends = Some(ends);
                info.orphaned = ends <= now;
            }
            JobState::Scheduled | JobState::Retry => {
                info.due = stored.due;
                info.waiting_for = self.waiting_for(stored);
            }
            JobState::Archived => {
                let entry = self.archived.iter().find(|(_, archived)| archived == id);
                info.archived_at = entry.map(|(at, _)| *at);
            }
            JobState::Completed => {
                info.expires = stored.job.completed_at.map(|at| at + stored.job.retention);
            }
            JobState::Aggregating => {
                let group = self.grouping.waiting.get(&stored.job.group);
                let entry = group.and_then(|line| line.iter().find(|(_, grouped)| grouped == id));
                info.grouped_since = entry.map(|(at, _)| *at);
            }
        }
        info.locked =
            self.locks.get(&stored.job.unique_key, now).is_some_and(|holder| holder.id == *id);
        info.result.clone_from(&stored.result);
        info.start_by = stored.start_by.filter(|_| stored.state.may_expire());
        info.losses = stored.losses;
        info.version.clone_from(&stored.version);
        info.first_failed_version.clone_from(&stored.first_failed_version);
        info.failures.clone_from(&stored.failures);
        info.progress = stored.progress.clone();
        info.cancelling = stored.on_cancel;
        Some(info)
    }

    /// A page of a list.
    pub(super) fn page(
        &self,
        list: JobList<'_>,
        page: &Page,
        now: Timestamp,
    ) -> Result<JobPage, Error> {
        let slice = self.slice(list, page, page.rows())?;
        let fitting = self.fitting(&slice.ids);
        let slice = match fitting < slice.ids.len() {
            true => self.slice(list, page, fitting)?,
            false => slice,
        };
        let row = |id: &JobId| {
            let info = self.job(id, now)?;
            Some(JobRow::Job(Box::new(JobInfo { failures: Vec::new(), ..info })))
        };
        let rows = slice.ids.iter().filter_map(row).collect();
        Ok(JobPage { rows, total: slice.total as u64, next: slice.next })
    }

    /// How many of these jobs fit into one page; at least one.
    fn fitting(&self, ids: &[JobId]) -> usize {
        let mut bytes = 0;
        let is_within = |id: &&JobId| {
            let fits = bytes < MAX_PAGE_BYTES;
            bytes += self.jobs.get(id).map_or(0, |stored| {
                stored.job.payload_bytes().len() + stored.result.as_ref().map_or(0, Vec::len)
            });
            fits
        };
        ids.iter().take_while(is_within).count()
    }

    /// The ids of a page, at most `most`.
    fn slice(&self, list: JobList<'_>, page: &Page, most: usize) -> Result<ListSlice, Error> {
        let begin = page.begin()?;
        let by_second = |line: &Timeline, begin: Begin<'_>, most| match page.is_backward() {
            true => by_second_backward(line, begin, most),
            false => by_second(line, begin, most),
        };
        Ok(match list {
            JobList::State(JobState::Pending) if page.is_backward() => {
                in_line(&self.pending.iter().rev(), begin, most)?
            }
            JobList::State(JobState::Pending) => in_line(&self.pending.iter(), begin, most)?,
            JobList::State(JobState::Active) => {
                let mut active: Vec<&JobId> = self.leases.values().collect();
                active.sort_by_key(|id| self.jobs.get(id).map(|stored| stored.held.owner));
                if page.is_backward() {
                    active.reverse();
                }
                in_line(&active.into_iter(), begin, most)?
            }
            JobList::State(JobState::Scheduled) => by_second(&self.scheduled, begin, most)?,
            JobList::State(JobState::Retry) => by_second(&self.retry, begin, most)?,
            JobList::State(JobState::Archived) => by_second(&self.archived, begin, most)?,
            JobList::State(JobState::Completed) => by_second(&self.completed, begin, most)?,
            JobList::Group(group) => match self.grouping.waiting.get(group) {
                Some(line) => by_second(line, begin, most)?,
                None => by_second(&Timeline::new(), begin, most)?,
            },
            JobList::State(JobState::Aggregating) => by_second(&Timeline::new(), begin, most)?,
        })
    }
}

impl Queue {
    /// Groups in the order of their names; Redis has no order.
    pub(super) fn groups(&self, page: &Page) -> Result<GroupPage, Error> {
        let after = match page.begin()? {
            Begin::At(0) => None,
            Begin::At(_) => return Err(Cursor::by_cursor()),
            Begin::After(Mark::Scanned(name)) => Some(name.as_slice()),
            Begin::After(_) => return Err(Cursor::foreign()),
        };
        let is_later = |name: &String| after.is_none_or(|after| name.as_bytes() > after);
        let mut rest = self.grouping.waiting.iter().filter(|(name, _)| is_later(name)).peekable();
        let mut groups = Vec::new();
        while groups.len() < page.rows()
            && let Some((name, line)) = rest.next()
        {
            groups.push(GroupInfo {
                group: name.clone(),
                size: line.len() as u64,
                oldest: line.first().map(|(at, _)| *at),
                newest: line.last().map(|(at, _)| *at),
            });
        }
        let next = groups.last().filter(|_| rest.peek().is_some());
        let next = next.map(|last| Cursor::new(Mark::Scanned(last.group.as_bytes().to_vec())));
        Ok(GroupPage { groups, total: self.grouping.waiting.len() as u64, next })
    }
}

/// A page of a moving list. It begins after a row, wherever that is by now; if that row and
/// the first one of its page are gone, at the front.
fn in_line<'a>(
    ids: &(impl ExactSizeIterator<Item = &'a JobId> + Clone),
    begin: Begin<'_>,
    most: usize,
) -> Result<ListSlice, Error> {
    let total = ids.len();
    let place_of = |wanted: &[u8]| ids.clone().position(|id| id.as_bytes() == wanted);
    let skip = match begin {
        Begin::At(skip) => skip as usize,
        Begin::After(Mark::Listed { last, first, .. }) => {
            place_of(last).or_else(|| place_of(first)).map_or(0, |place| place + 1)
        }
        Begin::After(_) => return Err(Cursor::foreign()),
    };
    let ids: Vec<JobId> = ids.clone().skip(skip).take(most).cloned().collect();
    let end = skip + ids.len();
    let next = match (ids.first(), ids.last()) {
        (Some(first), Some(last)) if end < total => Some(Cursor::new(Mark::Listed {
            place: end as u64 - 1,
            last: last.as_str().into(),
            first: first.as_str().into(),
        })),
        _ => None,
    };
    Ok(ListSlice { ids, total, next })
}

/// A page in the order of whole seconds and ids.
fn by_second(line: &Timeline, begin: Begin<'_>, most: usize) -> Result<ListSlice, Error> {
    let (mut skip, after) = match begin {
        Begin::At(skip) => (skip, None),
        Begin::After(Mark::Scored { score, id }) => {
            let second = score.parse::<f64>().map_err(|_| Cursor::foreign())? as i64;
            (0, Some((second, id.as_slice())))
        }
        Begin::After(_) => return Err(Cursor::foreign()),
    };
    // The first instant that rounds to this second.
    let first = after.map_or(i64::MIN, |(second, _)| {
        second.saturating_sub(1).saturating_mul(1_000_000).saturating_add(1)
    });
    let mut rest = line.range((Timestamp::from_micros(first), JobId::stored(""))..).peekable();
    // One more than requested shows whether there are more.
    let mut found: Vec<(i64, &JobId)> = Vec::new();
    while found.len() <= most
        && let Some((at, _)) = rest.peek()
    {
        let second = at.as_secs_ceil();
        let mut same = Vec::new();
        while let Some((_, id)) = rest.next_if(|(at, _)| at.as_secs_ceil() == second) {
            same.push(id);
        }
        same.sort();
        for id in same {
            if after.is_some_and(|after| (second, id.as_bytes()) <= after) {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            found.push((second, id));
        }
    }
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|(second, id)| {
        Cursor::new(Mark::Scored { score: second.to_string(), id: id.as_bytes().into() })
    });
    let ids = found.into_iter().map(|(_, id)| id.clone()).collect();
    Ok(ListSlice { ids, total: line.len(), next })
}

/// The same from the end.
fn by_second_backward(line: &Timeline, begin: Begin<'_>, most: usize) -> Result<ListSlice, Error> {
    let (mut skip, before) = match begin {
        Begin::At(skip) => (skip, None),
        Begin::After(Mark::Scored { score, id }) => {
            let second = score.parse::<f64>().map_err(|_| Cursor::foreign())? as i64;
            (0, Some((second, id.as_slice())))
        }
        Begin::After(_) => return Err(Cursor::foreign()),
    };
    let mut rest = line.iter().rev().peekable();
    let mut found: Vec<(i64, &JobId)> = Vec::new();
    while found.len() <= most
        && let Some((at, _)) = rest.peek()
    {
        let second = at.as_secs_ceil();
        let mut same = Vec::new();
        while let Some((_, id)) = rest.next_if(|(at, _)| at.as_secs_ceil() == second) {
            same.push(id);
        }
        same.sort();
        for id in same.into_iter().rev() {
            if before.is_some_and(|before| (second, id.as_bytes()) >= before) {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            found.push((second, id));
        }
    }
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|(second, id)| {
        Cursor::new(Mark::Scored { score: second.to_string(), id: id.as_bytes().into() })
    });
    let ids = found.into_iter().map(|(_, id)| id.clone()).collect();
    Ok(ListSlice { ids, total: line.len(), next })
}

impl StoredJob {
    /// The approximate memory of the job in bytes.
    fn bytes(&self) -> u64 {
        let headers: usize =
            self.job.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let texts = [
            self.job.job_type.len(),
            self.job.last_error.len(),
            self.job.unique_key.len(),
            // Once in the map and once in its list.
            self.job.id.as_bytes().len() * 2,
            self.job.payload_bytes().len(),
            self.result.as_ref().map_or(0, Vec::len),
            headers,
        ];
        (size_of::<Self>() + texts.iter().sum::<usize>()) as u64
    }
}
