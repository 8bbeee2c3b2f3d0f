//! What a search finds: rows in the order of their time, and counts by state, queue, type and
//! error.
//!
//! Lists of the past (archived, active, pending, completed) are merged, the newest job first;
//! behind them come the jobs that are due, the soonest first. *Oldest first* turns each around.
//! Each list is read from the end that the order needs, a piece at a time, and only while it may
//! have a row of this page. Empty lists are not read at all: the sizes of all queues, which the
//! page needs anyway, tell which these are.
//!
//! Counts by state and queue are exact if nothing but states and queues is asked for, because they
//! are the sizes of lists. All others are counted among the jobs that were read, and the page says
//! among how many. A page reads at most [`MAX_SAMPLE`] matching jobs behind its own rows, at most
//! 200 lists, 8 MiB, and two seconds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};

use crate::broker::{Cursor, JobRow, MAX_PAGE_BYTES, Page, QueueInfo};
use crate::error::Error;
use crate::inspector::{Filter, Inspector, bytes_of};
use crate::job::{JobState, QueueName, without_backtrace};
use crate::time::Timestamp;

use crate::inspector::search::{MAX_LISTS, MAX_ROWS, Query, SEARCH_TIMEOUT, STATES, is_named};

/// Maximum jobs that are read for the counts by type and error, together with the page's own.
const MAX_SAMPLE: usize = 200;

/// How long a page goes on reading only to count.
const SAMPLE_TIMEOUT: Duration = Duration::from_millis(30);

/// Lists that are read at the same time.
const MAX_CONCURRENT: usize = 16;

/// Fewest rows that are read of a list at a time.
const MIN_PIECE: usize = 10;

/// Maximum queues whose sizes are asked for, one script each; with more, all counts are of a
/// sample.
const MAX_SIZED: usize = 100;

/// The last page that is made this way; deeper pages are on the queue's own page.
pub(crate) const MAX_PAGES: usize = 10;

/// The order of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// What happened last, then what is due next.
    #[default]
    Newest,
    /// The other way round.
    Oldest,
}

impl Order {
    /// The order with this name; without one, newest first.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for another name.
    pub(crate) fn parse(name: Option<&str>) -> Result<Self, Error> {
        match name {
            None | Some("" | "newest") => Ok(Self::Newest),
            Some("oldest") => Ok(Self::Oldest),
            Some(found) => {
                Err(Error::invalid(format!("sort: expected newest or oldest, found {found:?}")))
            }
        }
    }
}

/// How many jobs there are of each value, the most frequent first.
#[derive(Debug, Default)]
pub(crate) struct Facets {
    /// By state.
    pub states: Vec<(JobState, u64)>,
    /// By queue.
    pub queues: Vec<(QueueName, u64)>,
    /// Whether the two above are exact.
    pub exact: bool,
    /// By job type, among `sample` jobs.
    pub types: Vec<(String, u64)>,
    /// By the part of the error that all of them have, among `sample` jobs.
    pub errors: Vec<(String, u64)>,
    /// The number of jobs that were counted one by one.
    pub sample: usize,
    /// Whether these are all that match.
    pub all: bool,
}

/// The result of a search.
pub(crate) struct SearchResult {
    /// At most [`MAX_ROWS`] jobs.
    pub rows: Vec<JobRow>,
    /// Whether a next page may have more.
    pub has_next: bool,
    /// Lists that may have more.
    pub more: Vec<(QueueName, JobState)>,
    /// The counts.
    pub facets: Facets,
}

/// One list, how far it was read, and what is not handed on yet.
struct Source {
    queue: QueueName,
    state: JobState,
    rows: std::collections::VecDeque<JobRow>,
    next: Option<Cursor>,
    begun: bool,
}

impl Source {
    fn has_more(&self) -> bool {
        !self.begun || self.next.is_some()
    }

    fn is_unread(&self) -> bool {
        self.rows.is_empty() && self.has_more()
    }
}

/// Whether jobs of this state have a time to come.
fn is_ahead(state: JobState) -> bool {
    matches!(state, JobState::Scheduled | JobState::Retry)
}

/// The place of a row in the order: jobs of the past before those to come. A job without a known
/// time is the last of its kind.
fn rank(row: &JobRow, order: Order) -> (bool, i64) {
    let Some(info) = row.job() else { return (false, i64::MAX) };
    let ahead = is_ahead(info.state);
    let Some(at) = info.moment().map(Timestamp::as_micros) else { return (ahead, i64::MAX) };
    match ahead == (order == Order::Newest) {
        true => (ahead, at),
        false => (ahead, -at),
    }
}

/// Reads the rows of a page, counted from 1, and counts.
///
/// # Errors
/// [`Error::is_invalid`] for a queue that does not exist; errors of the store. A damaged queue is
/// logged and left out.
pub(crate) async fn search(
    inspector: &Inspector,
    query: &Query,
    order: Order,
    page: usize,
) -> Result<SearchResult, Error> {
    let began = Instant::now();
    let sized = sizes(inspector).await?;
    expect_queues(query, &sized)?;
    let mut sources = sources(query, &sized);
    let (first, end) = ((page - 1) * MAX_ROWS, page * MAX_ROWS);
    let lists = sources.len();
    sources.truncate(MAX_LISTS);
    let cut = lists > sources.len();
    let piece = match query.filter == Filter::default() {
        true => (2 * MAX_ROWS / sources.len().max(1)).clamp(MIN_PIECE, MAX_ROWS),
        // Most rows of a piece do not match.
        false => MAX_ROWS,
    };
    let (mut found, mut bytes) = (Vec::new(), 0);
    loop {
        let spent = began.elapsed();
        let is_full = found.len() >= end
            && (found.len() >= end + MAX_SAMPLE - MAX_ROWS || spent > SAMPLE_TIMEOUT);
        if is_full {
            break;
        }
        // What was read is shown, also if one job is larger than all a page may read.
        let may_read = spent <= SEARCH_TIMEOUT && bytes < MAX_PAGE_BYTES;
        // A list without rows may have the next one: it is read before any row is handed on.
        if let Some(ahead) = unread(&sources).filter(|_| may_read) {
            let empty =
                sources.iter_mut().filter(|it| is_ahead(it.state) == ahead && it.is_unread());
            let reads: Vec<_> =
                empty.map(|source| read(inspector, &query.filter, order, piece, source)).collect();
            let mut reads = stream::iter(reads).buffer_unordered(MAX_CONCURRENT);
            while let Some(read) = reads.next().await {
                bytes += read?;
            }
            continue;
        }
        let Some(row) = next_row(&mut sources, order) else { break };
        found.push(row);
    }
    let left: usize = sources.iter().map(|source| source.rows.len()).sum();
    let more: Vec<_> = sources.iter().filter(|source| source.has_more()).collect();
    let all = more.is_empty() && !cut && left == 0;
    let more = more.iter().map(|source| (source.queue.clone(), source.state)).collect();
    let facets = facets(query, &sized, &found, all);
    let has_next = found.len() > end || found.len() == end && !all;
    let rows = found.into_iter().skip(first).take(MAX_ROWS).collect();
    Ok(SearchResult { rows, has_next, more, facets })
}

/// The queues, with their sizes if there are not too many and if they can be read.
async fn sizes(inspector: &Inspector) -> Result<Vec<(QueueName, Option<QueueInfo>)>, Error> {
    // Names first: no queue is asked if there are too many.
    let names = inspector.queues().await?;
    if names.len() > MAX_SIZED {
        return Ok(names.into_iter().map(|name| (name, None)).collect());
    }
    let all = inspector.some_queues(None, MAX_SIZED).await?;
    Ok(all.queues.into_iter().map(|summary| (summary.queue, summary.info)).collect())
}

/// # Errors
/// For a queue that the search names and that does not exist.
fn expect_queues(query: &Query, sized: &[(QueueName, Option<QueueInfo>)]) -> Result<(), Error> {
    for wanted in &query.queues {
        if !sized.iter().any(|(name, _)| is_named(name, wanted)) {
            let found: String = wanted.chars().take(128).collect();
            return Err(Error::invalid(format!(
                "queue: expected an existing queue, found {found:?}"
            )));
        }
    }
    Ok(())
}

/// The lists to read: those that have jobs.
fn sources(query: &Query, sized: &[(QueueName, Option<QueueInfo>)]) -> Vec<Source> {
    let mut sources = Vec::new();
    for state in STATES.into_iter().filter(|state| query.wants_state(*state)) {
        for (queue, info) in sized.iter().filter(|(queue, _)| query.wants_queue(queue)) {
            // A queue that could not be read may still have this list.
            if info.as_ref().is_none_or(|info| size(info, state) > 0) {
                let rows = Default::default();
                sources.push(Source {
                    queue: queue.clone(),
                    state,
                    rows,
                    next: None,
                    begun: false,
                });
            }
        }
    }
    sources
}

impl Query {
    fn wants_state(&self, state: JobState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    fn wants_queue(&self, queue: &QueueName) -> bool {
        self.queues.is_empty() || self.queues.iter().any(|wanted| is_named(queue, wanted))
    }
}

/// The number of jobs in a state.
fn size(info: &QueueInfo, state: JobState) -> u64 {
    info.sizes.get(state.as_str()).copied().unwrap_or_default()
}

/// Whether lists have to be read before the next row is known, and of which kind: what is due is
/// read only when the lists of the past have ended.
fn unread(sources: &[Source]) -> Option<bool> {
    for ahead in [false, true] {
        let of_kind = || sources.iter().filter(|it| is_ahead(it.state) == ahead);
        if of_kind().any(Source::is_unread) {
            return Some(ahead);
        }
        if of_kind().any(|it| !it.rows.is_empty()) {
            return None;
        }
    }
    None
}

/// Takes the first row of all lists.
fn next_row(sources: &mut [Source], order: Order) -> Option<JobRow> {
    let filled = sources.iter_mut().filter(|source| !source.rows.is_empty());
    filled.min_by_key(|source| source.rows.front().map(|row| rank(row, order)))?.rows.pop_front()
}

/// Reads the next piece of a list; the bytes of its payloads.
async fn read(
    inspector: &Inspector,
    filter: &Filter,
    order: Order,
    piece: usize,
    source: &mut Source,
) -> Result<usize, Error> {
    let page = match source.next.take() {
        Some(next) => Page::after(next),
        None => Page::default(),
    };
    let page = page.size(u32::try_from(piece).unwrap_or(1))?;
    // A list of the past begins with its oldest job, one of what is due with the next.
    let page = match is_ahead(source.state) == (order == Order::Oldest) {
        true => page.backward(),
        false => page,
    };
    source.begun = true;
    match inspector.jobs_where(&source.queue, source.state, filter, &page).await {
        Ok(page) => {
            source.next = page.next;
            let bytes = page.rows.iter().map(bytes_of).sum();
            source.rows.extend(page.rows);
            Ok(bytes)
        }
        Err(error) if error.is_unavailable() => Err(error),
        // One damaged queue must not hide the others.
        Err(error) => {
            crate::log::warn!(queue = %source.queue, ?error, "cannot list the jobs of a queue");
            Ok(0)
        }
    }
}

/// Counts sizes where they are the answer, and the rows that were read otherwise.
fn facets(
    query: &Query,
    sized: &[(QueueName, Option<QueueInfo>)],
    found: &[JobRow],
    all: bool,
) -> Facets {
    let is_sized = sized.iter().all(|(_, info)| info.is_some());
    let exact = query.filter == Filter::default() && is_sized;
    let mut facets = Facets { exact, sample: found.len(), all, ..Facets::default() };
    let mut states: BTreeMap<usize, u64> = BTreeMap::new();
    let mut queues: BTreeMap<&QueueName, u64> = BTreeMap::new();
    let (mut types, mut errors) = (BTreeMap::new(), BTreeMap::new());
    let infos = || sized.iter().filter_map(|(queue, info)| Some((queue, info.as_ref()?)));
    for (nth, state) in STATES.into_iter().enumerate().filter(|_| exact) {
        for (queue, info) in infos() {
            let jobs = size(info, state);
            // Counts of the other states say where else one could look.
            if query.wants_queue(queue) {
                *states.entry(nth).or_default() += jobs;
            }
            if query.wants_state(state) {
                *queues.entry(queue).or_default() += jobs;
            }
        }
    }
    for info in found.iter().filter_map(JobRow::job) {
        let job = &info.record;
        if !exact {
            let nth = STATES.iter().position(|state| *state == info.state).unwrap_or_default();
            *states.entry(nth).or_default() += 1;
            *queues.entry(&job.queue).or_default() += 1;
        }
        *types.entry(job.job_type.as_str()).or_insert(0) += 1;
        let error = without_backtrace(&job.last_error);
        let common = super::failure::common(&super::failure::fingerprint(error));
        if !common.is_empty() {
            *errors.entry(common).or_insert(0) += 1;
        }
    }
    facets.states = states
        .into_iter()
        .filter(|(_, jobs)| *jobs > 0)
        .map(|(nth, jobs)| (STATES[nth], jobs))
        .collect();
    facets.queues = queues
        .into_iter()
        .filter(|(_, jobs)| *jobs > 0)
        .map(|(queue, jobs)| (queue.clone(), jobs))
        .collect();
    facets.types = types.into_iter().map(|(name, jobs)| (name.to_owned(), jobs)).collect();
    facets.errors = errors.into_iter().collect();
    facets.queues.sort_by_key(|(_, jobs)| std::cmp::Reverse(*jobs));
    facets.types.sort_by_key(|(_, jobs)| std::cmp::Reverse(*jobs));
    facets.errors.sort_by_key(|(_, jobs)| std::cmp::Reverse(*jobs));
    facets
}
