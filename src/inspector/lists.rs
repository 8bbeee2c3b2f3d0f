//! Lists of jobs, page by page, with filters; and the search for a job in all queues.
//!
//! A page is bounded twice, by rows and by bytes (8 MiB of messages and results), so that no list,
//! however long, costs the store or this process more than that. A filter is applied here and not
//! in the store: a filtered page reads up to ten pages of the list, may therefore come out short or
//! empty, and still has a next page.
//!
//! What may surprise. Lists change while they are read. A cursor continues after the last row that
//! was shown, even if that row has moved; but in the lists of pending and active jobs, which have
//! no order of their own besides the position, a row may come twice.

use super::Inspector;
use crate::broker::{
    AggregationSet, Coverage, Cursor, DayStats, FoundJobs, GroupPage, JobInfo, JobList, JobPage,
    JobRow, MAX_PAGE_BYTES, MinuteStats, Page, QueueInfo, QueueMemory, QueueSummaries,
    QueueSummary,
};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName};
use crate::time::Timestamp;

/// Days that daily counters are kept.
const MAX_DAYS: u32 = 90;

/// Maximum pages of the whole list that are read for one filtered page.
const MAX_PAGES: usize = 10;

/// A filter of rows: a row has to match all fields. Text matches case-insensitively.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The job type.
    pub job_type: Option<String>,
    /// Text in the id.
    pub id: Option<String>,
    /// Text in the last error.
    pub error: Option<String>,
    /// The application's version that made the last attempt.
    pub version: Option<String>,
    /// Text in id, type, payload, group or last error.
    pub text: Option<String>,
    /// The job's own time (see `JobInfo::moment`) is this or later. One without it never matches.
    pub since: Option<Timestamp>,
    /// The job's own time is before this.
    pub until: Option<Timestamp>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Corrupt rows never match.
    fn lets_pass(&self, row: &JobRow) -> bool {
        let Some(info) = row.job() else { return false };
        let (job, moment) = (&info.record, info.moment());
        if self.since.is_some_and(|since| moment.is_none_or(|at| at < since))
            || self.until.is_some_and(|until| moment.is_none_or(|at| at >= until))
        {
            return false;
        }
        let within = |wanted: &Option<String>, places: &[&str]| {
            let has = |text: &String| {
                let text = text.to_lowercase();
                places.iter().any(|place| place.to_lowercase().contains(&text))
            };
            wanted.as_ref().is_none_or(has)
        };
        let payload = String::from_utf8_lossy(job.payload_bytes());
        let all = [job.id.as_str(), &job.job_type, &payload, &job.group, &job.last_error];
        self.job_type.as_ref().is_none_or(|wanted| *wanted == job.job_type)
            && (self.version.is_none() || self.version == info.version)
            && within(&self.id, &[job.id.as_str()])
            && within(&self.error, &[&job.last_error])
            && within(&self.text, &all)
    }
}

/// The bytes of a row's payload and result.
pub(crate) fn bytes_of(row: &JobRow) -> usize {
    row.job().map_or(0, JobInfo::large_bytes)
}

impl Inspector {
    /// Sizes and counters of all queues, in order of their names. One command per
    /// 1,000 queues, and one script per queue (one more per 1,000 of its groups),
    /// 100 of them concurrently.
    ///
    /// A queue whose keys have unexpected types has its error in its own row.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn all_queues(&self) -> Result<Vec<QueueSummary>, Error> {
        Ok(self.broker.summaries(None, usize::MAX).await?.queues)
    }

    /// Like [`Inspector::all_queues`] of at most `most`, the first in order after this one. Also
    /// gives the names that no other method accepts.
    pub(crate) async fn some_queues(
        &self,
        after: Option<&QueueName>,
        most: usize,
    ) -> Result<QueueSummaries, Error> {
        self.broker.summaries(after, most).await
    }

    /// An estimate of a queue's memory: at most 20 jobs of each state are measured, and the
    /// result is extrapolated. One script of at most 150 measurements
    /// (in Redis, `MEMORY USAGE`), and one more per 1,000 groups; not for a page
    /// that is loaded often.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue, [`Error::is_refused`]
    /// if Redis does not permit `MEMORY`, and errors of the store.
    pub async fn memory(&self, queue: &QueueName) -> Result<QueueMemory, Error> {
        self.broker.memory(queue).await
    }

    /// The attempts of a queue on the last 1 to 90 UTC days, today first. One script,
    /// O(days).
    ///
    /// ```
    /// # use rocket_jobqueue::{Error, Inspector, QueueName};
    /// async fn failed_this_week(inspector: &Inspector) -> Result<u64, Error> {
    ///     let days = inspector.history(&QueueName::new("mail")?, 7).await?;
    ///     Ok(days.iter().map(|day| day.failed).sum())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] for another number of days, [`Error::is_not_found`]
    /// if there is no such queue, and errors of the store.
    pub async fn history(&self, queue: &QueueName, days: u32) -> Result<Vec<DayStats>, Error> {
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(Error::invalid(format!(
                "history: expected 1 to {MAX_DAYS} days, found {days}"
            )));
        }
        self.broker.history(queue, days).await
    }

    /// The attempts of a queue in the last hour by minute, the oldest first; the last minute
    /// is the current one. Workers of this crate record the counters of their queues once a minute,
    /// and processes with a web interface those of the others, such as queues with Go workers only.
    /// Minutes before the first record are missing: they are unknown, and not zero. One script.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue, and errors of the store.
    pub async fn last_hour(&self, queue: &QueueName) -> Result<Vec<MinuteStats>, Error> {
        self.broker.minutes(queue).await
    }

    /// The last hour of a queue, and how much of it was counted.
    pub(crate) async fn covered_hour(
        &self,
        queue: &QueueName,
        info: &QueueInfo,
    ) -> Result<(Vec<MinuteStats>, Coverage), Error> {
        let minutes = self.broker.minutes(queue).await?;
        let coverage = Coverage::of(&minutes, info, self.broker.now());
        Ok((minutes, coverage))
    }

    /// How many scheduled and retried jobs of a queue are due until each of these whole
    /// seconds, from the one before on.
    #[cfg(feature = "dashboard")]
    pub(crate) async fn upcoming(
        &self,
        queue: &QueueName,
        ends: &[Timestamp],
    ) -> Result<Vec<u64>, Error> {
        self.broker.upcoming(queue, ends).await
    }

    /// A page of the jobs in one state, in Asynq's order: pending and active jobs in the order
    /// of their dequeue, the others by the time when they are due, were archived or will be
    /// deleted (by whole seconds, then by id). No entry is left out: a corrupt entry is a row
    /// that says what is wrong.
    ///
    /// A page from [`JobPage::next`] begins after the last row of the page before, even if
    /// that row has moved. In the changing lists of pending and active jobs a row may come
    /// twice, and beyond 50,000 rows some may be skipped.
    ///
    /// One script, O(rows · log n); another one if rows have unique locks; for
    /// active jobs one more command and one per worker process. If the jobs of
    /// a page have more than 1 MiB together, one script for each of the rest; with
    /// 8 MiB the page ends, and has fewer rows than requested.
    ///
    /// ```
    /// # use rocket_jobqueue::inspect::Page;
    /// # use rocket_jobqueue::{Error, Inspector, JobState, QueueName};
    /// async fn archived_errors(inspector: &Inspector) -> Result<Vec<String>, Error> {
    ///     let (queue, mut page) = (QueueName::new("mail")?, Page::default());
    ///     let mut errors = Vec::new();
    ///     loop {
    ///         let found = inspector.jobs(&queue, JobState::Archived, &page).await?;
    ///         errors.extend(found.rows.iter().filter_map(|row| Some(row.job()?.record.last_error.clone())));
    ///         let Some(next) = found.next else { return Ok(errors) };
    ///         page = Page::after(next).size(100)?;
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a page too far and for aggregating jobs, which
    /// are listed by [`Inspector::group_jobs`]; [`Error::is_not_found`] if there
    /// is no such queue; and errors of the store.
    pub async fn jobs(
        &self,
        queue: &QueueName,
        state: JobState,
        page: &Page,
    ) -> Result<JobPage, Error> {
        if state == JobState::Aggregating {
            return Err(Error::invalid(
                "state: expected one with a list of its own, found aggregating; its jobs are \
                 listed by group",
            ));
        }
        Ok(self.viewer.page(self.broker.jobs(queue, JobList::State(state), page).await?))
    }

    /// Like [`Inspector::jobs`], but only jobs of one type. A page reads up to ten times its
    /// size of the list, so it may have fewer rows than requested, or none, and still a next
    /// page. Corrupt entries are left out; `total` counts the whole list.
    ///
    /// Up to ten times the cost of [`Inspector::jobs`].
    ///
    /// # Errors
    /// As [`Inspector::jobs`].
    pub async fn jobs_of_type(
        &self,
        queue: &QueueName,
        state: JobState,
        job_type: &str,
        page: &Page,
    ) -> Result<JobPage, Error> {
        let filter = Filter { job_type: Some(job_type.to_owned()), ..Filter::default() };
        self.jobs_where(queue, state, &filter, page).await
    }

    /// Like [`Inspector::jobs`], but only jobs that match the filter.
    pub(crate) async fn jobs_where(
        &self,
        queue: &QueueName,
        state: JobState,
        filter: &Filter,
        page: &Page,
    ) -> Result<JobPage, Error> {
        if state == JobState::Aggregating {
            return self.jobs(queue, state, page).await;
        }
        self.filtered(queue, JobList::State(state), filter, page).await
    }

    /// Like [`Inspector::group_jobs`], but only jobs that match the filter.
    pub(crate) async fn group_jobs_where(
        &self,
        queue: &QueueName,
        group: &str,
        filter: &Filter,
        page: &Page,
    ) -> Result<JobPage, Error> {
        self.filtered(queue, JobList::Group(group), filter, page).await
    }

    /// A page of the rows that pass the filter. The store knows no filters, so pages are read
    /// and filtered here, at most [`MAX_PAGES`] of them: a rare match may need several calls.
    async fn filtered(
        &self,
        queue: &QueueName,
        list: JobList<'_>,
        filter: &Filter,
        page: &Page,
    ) -> Result<JobPage, Error> {
        if filter.is_empty() {
            return Ok(self.viewer.page(self.broker.jobs(queue, list, page).await?));
        }
        let wanted = page.rows();
        let mut rows = Vec::new();
        let (mut next, mut looked): (Option<Cursor>, usize) = (None, 0);
        for look in 0..MAX_PAGES {
            let page = match &next {
                None => page.clone(),
                Some(cursor) => {
                    // Never more than still fit, so that the cursor is right.
                    let rest = Page::after(cursor.clone()).size((wanted - rows.len()) as u32)?;
                    if page.is_backward() { rest.backward() } else { rest }
                }
            };
            // Hidden text cannot be searched either.
            let found = self.viewer.page(self.broker.jobs(queue, list, &page).await?);
            looked += found.rows.iter().map(bytes_of).sum::<usize>();
            rows.extend(found.rows.into_iter().filter(|row| filter.lets_pass(row)));
            let is_full = rows.len() >= wanted || look + 1 == MAX_PAGES || looked >= MAX_PAGE_BYTES;
            if found.next.is_none() || is_full {
                return Ok(JobPage { rows, total: found.total, next: found.next });
            }
            next = found.next;
        }
        unreachable!("the last look returns")
    }

    /// A page of the jobs that wait in a group, by when they joined it. Cost and
    /// errors as [`Inspector::jobs`]; an unknown group has no jobs.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue, and errors of the store.
    pub async fn group_jobs(
        &self,
        queue: &QueueName,
        group: &str,
        page: &Page,
    ) -> Result<JobPage, Error> {
        Ok(self.viewer.page(self.broker.jobs(queue, JobList::Group(group), page).await?))
    }

    /// Some groups of a queue, about as many as the page asks for, in no order.
    /// The next ones come by the cursor alone; numbers other than 1 are refused.
    /// One script, O(rows).
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a numbered page, [`Error::is_not_found`] if
    /// there is no such queue, and errors of the store.
    pub async fn groups(&self, queue: &QueueName, page: &Page) -> Result<GroupPage, Error> {
        self.broker.groups(queue, page).await
    }

    /// The aggregations in progress, in the order in which they expire, at most 100. One
    /// script.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such queue, and errors of the store.
    pub async fn aggregations(&self, queue: &QueueName) -> Result<Vec<AggregationSet>, Error> {
        self.broker.aggregations(queue).await
    }

    /// The jobs with this id in all queues, usually one. One command per queue, 100 of
    /// them concurrently, and one script per job found. A job that cannot be read is left
    /// out.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn find(&self, id: &JobId) -> Result<Vec<JobInfo>, Error> {
        let (mut jobs, mut after) = (Vec::new(), None);
        loop {
            let found = self.find_after(id, after.as_ref()).await?;
            jobs.extend(found.jobs);
            match found.next {
                Some(next) => after = Some(next),
                None => return Ok(jobs),
            }
        }
    }

    /// Like [`Inspector::find`] in at most 10,000 queues, the first in order after this one, and
    /// no more than 8 MiB and one job.
    pub(crate) async fn find_after(
        &self,
        id: &JobId,
        after: Option<&QueueName>,
    ) -> Result<FoundJobs, Error> {
        let FoundJobs { jobs, next } = self.broker.find(id, after).await?;
        Ok(FoundJobs { jobs: jobs.into_iter().map(|info| self.viewer.job(info)).collect(), next })
    }

    /// At most `most` names of queues, the first in order after this one, and whether there are
    /// more.
    #[cfg(feature = "dashboard")]
    pub(crate) async fn queues_after(
        &self,
        after: Option<&QueueName>,
        most: usize,
    ) -> Result<(Vec<QueueName>, bool), Error> {
        self.broker.queues_after(after, most).await
    }

    /// Those of these queues that may have groups or aggregations.
    #[cfg(feature = "dashboard")]
    pub(crate) async fn with_groups(&self, queues: &[QueueName]) -> Result<Vec<QueueName>, Error> {
        let may = self.broker.may_have_groups(queues).await?;
        Ok(queues.iter().zip(may).filter(|(_, may)| *may).map(|(name, _)| name.clone()).collect())
    }
}
