//! An export of Redis, page by page.
//!
//! A queue is read in [`Step`]s, each of which yields pages and puts the step for its next page in
//! front of the others. So the export holds one page in memory, and its position is the list of
//! steps that are left. Active jobs come first: they arrive as pending, and belong before those
//! that wait. Locks, idempotency keys and counters are separate keys, found by a scan.
//!
//! What may surprise. A part that cannot be read (a key of another type) is reported as an
//! unreadable entry, and the export goes on: the rest of the store should not be lost for it.
//! Nothing is locked, so what workers change during an export may be missed or seen twice; that is
//! why a move expects them to be stopped.

use std::collections::{BTreeSet, VecDeque};

use super::super::reply::{self, Reply};
use super::super::{RedisBroker, keys};
use super::values::Search;
use super::{Value, bytes_of, instant, read_entry, text_of, words};
use crate::broker::{
    Answer, CounterSnapshot, Entry, Export, Inspect, MAX_PERIODIC_RUNS, PeriodicStore,
    TRANSFER_PAGE, TRANSFER_PAGE_BYTES,
};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName};
use crate::time::Timestamp;

/// Waiting jobs whose turns are asked for at a time.
const TURNS: usize = 500;

/// How an entry begins that an Asynq before 0.18 wrote: the message instead of the id.
const OLD_ENTRY: &[u8] = br#"{"Type":"#;

/// An export under way.
pub(super) struct RedisExport {
    pub(super) broker: RedisBroker,
    /// The names of queues were read.
    begun: bool,
    /// Queues that are still to come.
    queues: VecDeque<QueueName>,
    /// The current queue, and what is still to be read of it.
    current: Option<(QueueName, VecDeque<Step>)>,
    /// Its jobs that wait for a limit: those that are still to come, in order, and all of them.
    waiting: (VecDeque<JobId>, BTreeSet<JobId>),
    /// Servers that are still to be searched for plain values, once all queues were read.
    searches: VecDeque<Search>,
    /// Periodic jobs whose histories come last.
    pub(super) periodic: BTreeSet<String>,
}

/// A part of a queue.
enum Step {
    /// The queue itself.
    Info,
    /// Jobs that wait for a limit, in the order of their turns: the first page of them, or a
    /// further one. For Asynq they are scheduled, in no particular order.
    Waiting { begun: bool },
    /// A list or sorted set of jobs, by its whole key, from this entry on.
    Jobs { key: Vec<u8>, state: JobState, from: usize },
    /// The names of groups, from this cursor on.
    Groups(Vec<u8>),
    /// The aggregation sets.
    Sets,
    /// The counters of the last minutes.
    Minutes,
}

impl Step {
    /// What it reads, for people.
    fn part(&self) -> String {
        match self {
            Self::Info => "(pause and counters)".to_owned(),
            Self::Waiting { .. } => "(jobs that wait for a limit)".to_owned(),
            Self::Jobs { state, .. } => format!("(list of {state} jobs)"),
            Self::Groups(_) => "(names of groups)".to_owned(),
            Self::Sets => "(aggregation sets)".to_owned(),
            Self::Minutes => "(counters of minutes)".to_owned(),
        }
    }
}

impl Export for RedisExport {
    fn next_page(&mut self) -> Answer<'_, Option<Vec<Entry>>> {
        Box::pin(async move {
            loop {
                if let Some((queue, steps)) = &mut self.current {
                    let queue = queue.clone();
                    match steps.pop_front() {
                        None => self.current = None,
                        Some(step) => {
                            let part = step.part();
                            let page = match self.read(&queue, step).await {
                                // Reported, and the rest of the store is moved.
                                Err(error) if error.is_damaged() => {
                                    vec![Entry::Unreadable { queue, id: JobId::stored(part) }]
                                }
                                page => page?,
                            };
                            if !page.is_empty() {
                                return Ok(Some(page));
                            }
                        }
                    }
                    continue;
                }
                if !self.begun {
                    self.begun = true;
                    let queues = self.broker.queues().await?;
                    self.searches = self.broker.searches(&queues).into();
                    self.queues = queues.into();
                    let announced = self.broker.periodic_jobs().await?;
                    self.periodic.extend(announced.into_iter().map(|job| job.id));
                }
                if let Some(queue) = self.queues.pop_front() {
                    self.current = Some((queue.clone(), steps(&queue)));
                } else if let Some(search) = self.searches.pop_front() {
                    let (page, rest) = self.search(search).await?;
                    self.searches.extend(rest);
                    if !page.is_empty() {
                        return Ok(Some(page));
                    }
                } else if let Some(id) = self.periodic.pop_first() {
                    let mut runs = self.broker.periodic_history(&id, 0, MAX_PERIODIC_RUNS).await?;
                    runs.reverse();
                    if !runs.is_empty() {
                        return Ok(Some(vec![Entry::Runs { periodic_id: id, runs }]));
                    }
                } else {
                    return Ok(None);
                }
            }
        })
    }
}

/// All parts of a queue, in order. Active jobs come first: they become pending again, before
/// those that wait.
fn steps(queue: &QueueName) -> VecDeque<Step> {
    let jobs = |state: JobState| Step::Jobs {
        key: format!("{}{}", keys::prefix(queue), state.as_str()).into_bytes(),
        state,
        from: 0,
    };
    let due = [JobState::Active, JobState::Pending].map(jobs);
    let others =
        [JobState::Scheduled, JobState::Retry, JobState::Archived, JobState::Completed].map(jobs);
    let rest = [Step::Groups(b"0".to_vec()), Step::Sets, Step::Minutes];
    let waiting = [Step::Waiting { begun: false }];
    [Step::Info].into_iter().chain(due).chain(waiting).chain(others).chain(rest).collect()
}

impl RedisExport {
    pub(super) fn new(broker: RedisBroker) -> Self {
        let (queues, searches, periodic, waiting) = Default::default();
        Self { broker, begun: false, queues, current: None, waiting, searches, periodic }
    }

    /// Makes this the next step: the following page of a list, or a list that was just found.
    fn next(&mut self, step: Step) {
        if let Some((_, steps)) = &mut self.current {
            steps.push_front(step);
        }
    }

    /// Reads one page of a step. An empty page does not end the export.
    async fn read(&mut self, queue: &QueueName, step: Step) -> Result<Vec<Entry>, Error> {
        match step {
            Step::Info => self.info(queue).await,
            Step::Waiting { begun } => self.waiting(queue, begun).await,
            Step::Jobs { key, state, from } => self.jobs(queue, key, state, from).await,
            Step::Groups(cursor) => self.groups(queue, cursor).await,
            Step::Sets => self.sets(queue).await,
            Step::Minutes => self.minutes(queue).await,
        }
    }

    /// Whether the queue is paused and since when, and its two counters.
    async fn info(&mut self, queue: &QueueName) -> Result<Vec<Entry>, Error> {
        let prefix = keys::prefix(queue);
        let get = |name: &str| words([b"GET", format!("{prefix}{name}").as_bytes()]);
        let found = self.broker.reads(&["paused", "processed", "failed"].map(get)).await?;
        let mut found = found.into_iter().map(text_of);
        let mut next = || found.next().flatten();
        let paused = next().map(|since| Timestamp::from_secs(since.parse().unwrap_or(0)));
        let mut counter = || next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let (processed, failed) = (counter(), counter());
        Ok(vec![Entry::Queue { queue: queue.clone(), paused, processed, failed }])
    }

    /// A page of a list or sorted set.
    async fn jobs(
        &mut self,
        queue: &QueueName,
        key: Vec<u8>,
        state: JobState,
        from: usize,
    ) -> Result<Vec<Entry>, Error> {
        let in_list = matches!(state, JobState::Active | JobState::Pending);
        let last = from + TRANSFER_PAGE;
        let range = if in_list {
            // The tail is next.
            let (first, last) = (format!("-{last}"), format!("-{}", from + 1));
            words([b"LRANGE", &key, first.as_bytes(), last.as_bytes()])
        } else {
            let (first, last) = (from.to_string(), (last - 1).to_string());
            words([b"ZRANGE", &key, first.as_bytes(), last.as_bytes(), b"WITHSCORES"])
        };
        let mut ids = Vec::new();
        let Some(Value::Array(found)) = self.broker.commands(&[range]).await?.pop() else {
            return Err(reply::unexpected());
        };
        let mut found = found.into_iter().map(bytes_of);
        while let Some(id) = found.next() {
            let id = JobId::stored(id.ok_or_else(reply::unexpected)?);
            let score = if in_list { None } else { found.next().flatten() };
            let score = score.and_then(|score| instant(&String::from_utf8_lossy(&score)));
            ids.push((id, score));
        }
        if in_list {
            ids.reverse();
        }
        let (whole, read) = (ids.len(), self.fitting(queue, &mut ids).await?);
        if whole > 0 {
            self.next(Step::Jobs { key, state, from: from + read });
        }
        if state == JobState::Scheduled {
            ids.retain(|(id, _)| !self.waiting.1.contains(id));
        }
        self.entries(queue, state, ids).await
    }

    /// A page of jobs that wait for a limit.
    async fn waiting(&mut self, queue: &QueueName, begun: bool) -> Result<Vec<Entry>, Error> {
        if !begun {
            self.waiting = Default::default();
            let waiting = self.turns(queue).await?;
            self.waiting = (waiting.iter().cloned().collect(), waiting.into_iter().collect());
        }
        let first = self.waiting.0.iter().take(TRANSFER_PAGE);
        let mut ids: Vec<_> = first.map(|id| (id.clone(), None)).collect();
        let read = self.fitting(queue, &mut ids).await?;
        self.waiting.0.drain(..read);
        if !self.waiting.0.is_empty() {
            self.next(Step::Waiting { begun: true });
        }
        self.entries(queue, JobState::Scheduled, ids).await
    }

    /// All jobs that wait for a limit, in the order of their turns.
    async fn turns(&self, queue: &QueueName) -> Result<Vec<JobId>, Error> {
        let prefix = keys::prefix(queue);
        let (held, scheduled) = (format!("{prefix}x:held"), format!("{prefix}scheduled"));
        let (mut turns, mut from) = (Vec::new(), 0);
        loop {
            let (first, last) = (from.to_string(), (from + TURNS - 1).to_string());
            let range = words([b"ZRANGE", held.as_bytes(), first.as_bytes(), last.as_bytes()]);
            let Some(Value::Array(found)) = self.broker.commands(&[range]).await?.pop() else {
                return Err(reply::unexpected());
            };
            let ids: Vec<JobId> =
                found.into_iter().filter_map(bytes_of).map(JobId::stored).collect();
            if ids.is_empty() {
                break;
            }
            from += ids.len();
            let asked = ids.iter().flat_map(|id| {
                let task = keys::task(queue, id);
                [
                    words([b"ZSCORE", held.as_bytes(), id.as_bytes()]),
                    words([b"ZSCORE", scheduled.as_bytes(), id.as_bytes()]),
                    words([b"HGET", &task, b"x_wait"]),
                ]
            });
            let told = self.broker.reads(&asked.collect::<Vec<_>>()).await?;
            let mut told = told.into_iter().map(text_of);
            for id in ids {
                let mut next = || told.next().flatten();
                let (held, scheduled, wait) = (next(), next(), next().unwrap_or_default());
                let turn = wait.split_once(':').and_then(|(turn, _)| turn.parse::<i64>().ok());
                // Otherwise it does not wait any more.
                turns.extend(turn.filter(|_| held == scheduled).map(|turn| (turn, id)));
            }
        }
        turns.sort_unstable();
        Ok(turns.into_iter().map(|(_, id)| id).collect())
    }

    /// Cuts the page where its messages and results are enough bytes; returns its length.
    async fn fitting(
        &self,
        queue: &QueueName,
        ids: &mut Vec<(JobId, Option<Timestamp>)>,
    ) -> Result<usize, Error> {
        let sizes: Vec<_> = ids
            .iter()
            .flat_map(|(id, _)| {
                let size = |field: &[u8]| words([b"HSTRLEN", &keys::task(queue, id), field]);
                [size(b"msg"), size(b"result")]
            })
            .collect();
        let sizes = self.broker.reads(&sizes).await?;
        let mut bytes = 0;
        let fits = sizes.chunks(2).take_while(|sizes| {
            let fits = bytes < TRANSFER_PAGE_BYTES;
            for size in *sizes {
                let Value::Int(size) = size else { continue };
                bytes += usize::try_from(*size).unwrap_or(0);
            }
            fits
        });
        let fits = fits.count();
        ids.truncate(fits);
        Ok(fits)
    }

    /// These jobs of a list.
    async fn entries(
        &self,
        queue: &QueueName,
        state: JobState,
        ids: Vec<(JobId, Option<Timestamp>)>,
    ) -> Result<Vec<Entry>, Error> {
        let due: Vec<_> = match state {
            JobState::Scheduled | JobState::Retry => {
                let due = keys::due(queue);
                let score = |id: &JobId| words([b"ZSCORE", due.as_bytes(), id.as_bytes()]);
                ids.iter().map(|(id, _)| score(id)).collect()
            }
            _ => Vec::new(),
        };
        let mut due = self.broker.reads(&due).await?.into_iter().map(text_of);
        let only: Vec<&JobId> = ids.iter().map(|(id, _)| id).collect();
        let fields = self.broker.read_fields(queue, &only).await?;
        let mut page = Vec::with_capacity(ids.len());
        for ((id, score), fields) in ids.iter().zip(fields) {
            let due = due.next().flatten().and_then(|due| due.parse().ok());
            let due = due.map(Timestamp::from_micros);
            let exists = fields.iter().any(Option::is_some);
            match read_entry(queue, id, state, fields, *score, due) {
                Some(entry) => page.push(Entry::Job(Box::new(entry))),
                // An id whose job is gone is nothing.
                None if !exists && !id.as_bytes().starts_with(OLD_ENTRY) => {}
                None => page.push(Entry::Unreadable { queue: queue.clone(), id: id.clone() }),
            }
        }
        Ok(page)
    }

    /// Finds the names of groups, and puts the jobs of each before the other steps. It yields no
    /// entries itself: a group exists as long as it has jobs.
    async fn groups(&mut self, queue: &QueueName, cursor: Vec<u8>) -> Result<Vec<Entry>, Error> {
        let scan = words([b"SSCAN", keys::groups(queue).as_bytes(), &cursor, b"COUNT", b"100"]);
        let Some(page) = self.broker.commands(&[scan]).await?.pop() else {
            return Err(reply::unexpected());
        };
        let mut page = Reply::new(page)?;
        let next = page.bytes()?;
        let mut groups = page.array()?;
        if next != b"0" {
            self.next(Step::Groups(next));
        }
        while !groups.is_empty() {
            let key = [keys::prefix(queue).as_bytes(), b"g:", &groups.bytes()?].concat();
            self.next(Step::Jobs { key, state: JobState::Aggregating, from: 0 });
        }
        Ok(Vec::new())
    }

    /// Jobs that an aggregator has claimed belong to their group again.
    async fn sets(&mut self, queue: &QueueName) -> Result<Vec<Entry>, Error> {
        let sets = words([b"ZRANGE", keys::aggregation_sets(queue).as_bytes(), b"0", b"-1"]);
        let Some(sets) = self.broker.commands(&[sets]).await?.pop() else {
            return Err(reply::unexpected());
        };
        let mut sets = Reply::new(sets)?;
        let own = keys::prefix(queue).into_bytes();
        while !sets.is_empty() {
            let key = sets.bytes()?;
            if key.starts_with(&own) {
                self.next(Step::Jobs { key, state: JobState::Aggregating, from: 0 });
            }
        }
        Ok(Vec::new())
    }

    /// The counters of the last minutes, which are one small hash. A row that cannot be read is
    /// left out.
    async fn minutes(&mut self, queue: &QueueName) -> Result<Vec<Entry>, Error> {
        let read = words([b"HVALS", keys::minutes(queue).as_bytes()]);
        let Some(found) = self.broker.commands(&[read]).await?.pop() else {
            return Err(reply::unexpected());
        };
        let (mut found, mut page) = (Reply::new(found)?, Vec::new());
        while !found.is_empty() {
            let Some((minute, one)) = CounterSnapshot::parse(&found.text()?) else { continue };
            page.push(Entry::Minute {
                queue: queue.clone(),
                minute,
                processed: one.processed,
                failed: one.failed,
                pending: one.waiting,
            });
        }
        Ok(page)
    }
}
