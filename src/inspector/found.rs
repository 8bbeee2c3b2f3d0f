//! A search through all lists, page by page to its end: for REST, programs and the terminal.
//!
//! `search` has the terms. The dashboard's page orders what it finds by time and counts it
//! (`results`); here the lists are walked one after the other, so that the walk ends however many
//! jobs there are, and the cursor says where it goes on.

use std::time::Instant;

use chrono_tz::Tz;
use serde::Serialize;

use super::Inspector;
use super::lists::bytes_of;
use super::search::{MAX_LISTS, Query, SEARCH_TIMEOUT, lists};
use crate::broker::{Begin, Cursor, JobRow, MAX_PAGE_BYTES, Mark, Page};
use crate::error::Error;
use crate::job::{JobState, QueueName};

/// Jobs that a search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueFoundRows"))]
#[non_exhaustive]
pub struct FoundRows {
    /// The jobs, list by list: archived ones first, then retry, active, pending, scheduled and
    /// completed; within a state by queue.
    pub rows: Vec<JobRow>,
    /// Where the search continues; `None` if it is complete. A page may be short, or empty, and
    /// still have a next one.
    pub next: Option<Cursor>,
    /// Queues whose jobs cannot be listed, because they are damaged: the search is incomplete.
    pub unreadable: Vec<QueueName>,
}

impl Inspector {
    /// Some of the jobs of all queues that match these terms, at most as many as the page has rows:
    /// `state:archived type:mail:send error:"timed out" since:1h`. Jobs that wait in groups are
    /// listed [by group](Self::group_jobs) and are not found here.
    ///
    /// The terms are those of the dashboard's job list. `queue:` and `state:` may be given several
    /// times and widen the search; `type:` and `version:` (the whole type, or version of the
    /// application that made the last attempt), `id:` and `error:` (a part, case-insensitive),
    /// `since:` and `until:` (a duration, or a moment of UTC) are given once each and narrow it. Other
    /// text is searched in id, type, payload, group and error. Text with spaces or colons stands in
    /// double quotes. No term at all finds every job.
    ///
    /// A page ends early after 200 lists (one for each queue and state), 8 MiB of jobs or two
    /// seconds; [`FoundRows::next`] continues. Each list costs as much as
    /// [`jobs_of_type`](Self::jobs_of_type).
    ///
    /// ```
    /// # use rocket_jobqueue::inspect::Page;
    /// # use rocket_jobqueue::{Error, Inspector};
    /// async fn timed_out(inspector: &Inspector) -> Result<usize, Error> {
    ///     let terms = "state:archived error:\"timed out\"";
    ///     let (mut count, mut page) = (0, Page::default().size(100)?);
    ///     loop {
    ///         let found = inspector.search(terms, &page).await?;
    ///         count += found.rows.len();
    ///         let Some(next) = found.next else { return Ok(count) };
    ///         page = Page::after(next).size(100)?;
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a term that means nothing, since it must not widen a search; for a
    /// queue that does not exist, a page by number other than the first, and a cursor of another
    /// list. Errors of the store.
    pub async fn search(&self, terms: &str, page: &Page) -> Result<FoundRows, Error> {
        let began = Instant::now();
        let query = Query::parse(terms, self.broker.now(), Tz::UTC)?;
        let lists = lists(self, &query).await?;
        let (mut at, mut within) = page.found_from()?.map_or((0, None), |from| from.place(&lists));
        let mut found = FoundRows { rows: Vec::new(), next: None, unreadable: Vec::new() };
        let (mut bytes, mut looked) = (0, 0);
        while let Some((name, state)) = lists.get(at) {
            let room = page.rows() - found.rows.len();
            let is_full = room == 0 || bytes >= MAX_PAGE_BYTES;
            if is_full || looked >= MAX_LISTS || began.elapsed() > SEARCH_TIMEOUT {
                found.next = Some(Cursor::new(Mark::found(*state, name, within)));
                return Ok(found);
            }
            let from = within.take().map_or_else(Page::default, Page::after);
            let from = from.size(u32::try_from(room).unwrap_or(1))?;
            looked += 1;
            match self.jobs_where(name, *state, &query.filter, &from).await {
                Ok(page) => {
                    bytes += page.rows.iter().map(bytes_of).sum::<usize>();
                    found.rows.extend(page.rows);
                    within = page.next;
                    at += usize::from(within.is_none());
                }
                Err(error) if error.is_unavailable() || error.is_invalid() => return Err(error),
                Err(error) => {
                    crate::log::warn!(queue = %name, ?error, "cannot list the jobs of a queue");
                    if !found.unreadable.contains(name) {
                        found.unreadable.push(name.clone());
                    }
                    at += 1;
                }
            }
        }
        Ok(found)
    }
}

/// Where a search continues.
struct FoundFrom<'a> {
    state: JobState,
    queue: &'a [u8],
    within: Option<Cursor>,
}

impl FoundFrom<'_> {
    /// The position of that list among these, and the position in it; if its queue is gone, the list
    /// after it.
    fn place(self, lists: &[(QueueName, JobState)]) -> (usize, Option<Cursor>) {
        let is_here = |(name, state): &(QueueName, JobState)| {
            *state == self.state && name.as_str().as_bytes() == self.queue
        };
        if let Some(at) = lists.iter().position(is_here) {
            return (at, self.within);
        }
        let is_later = |(name, state): &(QueueName, JobState)| {
            *state == self.state && name.as_str().as_bytes() > self.queue
        };
        let after_state =
            || lists.iter().rposition(|(_, state)| *state == self.state).map(|last| last + 1);
        (lists.iter().position(is_later).or_else(after_state).unwrap_or(lists.len()), None)
    }
}

impl Page {
    /// Where a search continues; `None` at its beginning.
    fn found_from(&self) -> Result<Option<FoundFrom<'_>>, Error> {
        match self.begin()? {
            Begin::At(0) => Ok(None),
            Begin::At(_) => Err(Error::invalid(
                "page: expected the first one or one by its cursor, found a number",
            )),
            Begin::After(Mark::Found { state, queue, within }) => Ok(Some(FoundFrom {
                state: *state,
                queue,
                within: within.as_ref().map(|mark| Cursor::new(mark.as_ref().clone())),
            })),
            Begin::After(_) => Err(Cursor::foreign()),
        }
    }
}
