//! Questions about queues: sizes, counters, memory and groups; pausing a queue.
//!
//! Each question is one read-only script with a bound on the entries it touches;
//! the trait [`Inspect`] states the cost. Whether the queue exists is asked in
//! parallel, so that an unknown name gives "not found" instead of an empty queue.
//! Lists of jobs are in `rows`, processes and servers in `servers`.
//!
//! Nothing here is a snapshot of the whole store. The lists of one queue are counted in one
//! script, its groups and the other queues in other scripts, up to [`CONCURRENT_QUEUES`] at
//! a time. So totals may be off by the jobs that moved meanwhile.
//!
//! What may surprise. Jobs in groups are counted group by group: with more than 12,000
//! groups the number is an estimate. If the set of queue names is damaged, the names this
//! process has used and the names that workers announce replace it. Names that are not
//! UTF-8 are listed separately, in printable form.

use std::collections::BTreeMap;
use std::time::Duration;

use ::redis::Value;
use futures_util::future::{join, join_all};

use super::scripts::SCRIPTS;
use super::{RedisBroker, keys};
use crate::broker::{
    AggregationSet, Answer, Begin, Broker, ClusterPlace, CounterSnapshot, Cursor, DayStats,
    EMPTY_QUEUE_NAME, FoundJobs, GroupInfo, GroupPage, Inspect, JobInfo, JobList, JobPage,
    MAX_PAGE_BYTES, Mark, MinuteStats, Page, QueueInfo, QueueMemory, QueueSummaries, QueueSummary,
    Servers, Standing, StoreInfo,
};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName};
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

/// Maximum queues read concurrently.
const CONCURRENT_QUEUES: usize = 100;

/// Maximum queues that one call asks for groups.
const MAX_EXISTS: usize = 100;

/// Maximum calls that count the jobs of groups, 1,000 groups each. With more groups the
/// total is extrapolated.
const MAX_COUNT_CALLS: usize = 12;

/// Maximum names returned that are not UTF-8.
const MAX_UNNAMABLE: usize = 100;

/// Maximum aggregations returned.
const MAX_AGGREGATIONS: usize = 100;

impl Inspect for RedisBroker {
    /// Read by `SSCAN`, so that many names do not block Redis; sorted here.
    fn queues(&self) -> Answer<'_, Vec<QueueName>> {
        Box::pin(async move { Ok(self.names().await?.names.clone()) })
    }

    fn queues_after<'a>(
        &'a self,
        after: Option<&'a QueueName>,
        most: usize,
    ) -> Answer<'a, (Vec<QueueName>, bool)> {
        Box::pin(async move { Ok(self.names().await?.after(after, most)) })
    }

    /// One `EXISTS` a queue, many of them in one call except on a Cluster.
    fn may_have_groups<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<bool>> {
        Box::pin(async move {
            let keys_of = |queue| [keys::groups(queue), keys::aggregation_sets(queue)];
            let mut answers = Vec::with_capacity(queues.len());
            if self.pool.is_cluster() {
                let one = |queue| {
                    let keys = keys_of(queue).map(String::into_bytes);
                    async move { self.command(Repeat::Safe, "EXISTS", &keys).await }
                };
                for answer in join_all(queues.iter().map(one)).await {
                    answers.push(answer?);
                }
            } else {
                for some in queues.chunks(MAX_EXISTS) {
                    let build = |_| {
                        let mut pipeline = ::redis::pipe();
                        some.iter()
                            .for_each(|queue| _ = pipeline.cmd("EXISTS").arg(&keys_of(queue)));
                        pipeline
                    };
                    answers.extend(self.pool.run_pipeline(Repeat::Safe, build).await?);
                }
            }
            Ok(answers.into_iter().map(|answer| answer != Value::Int(0)).collect())
        })
    }

    fn queue<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueInfo> {
        Box::pin(self.known(queue, self.sizes(queue)))
    }

    /// Reads all names, since a set has no order, and then only the queues of the page.
    fn summaries<'a>(
        &'a self,
        after: Option<&'a QueueName>,
        most: usize,
    ) -> Answer<'a, QueueSummaries> {
        Box::pin(async move {
            let known = self.names().await?;
            let mut summaries = QueueSummaries::default();
            let printable = |name: &Vec<u8>| match name.is_empty() {
                true => EMPTY_QUEUE_NAME.to_owned(),
                false => JobId::stored(name).to_string(),
            };
            summaries.unnamable = known.others.iter().take(MAX_UNNAMABLE).map(printable).collect();
            let (names, _) = known.after(after, most);
            for names in names.chunks(CONCURRENT_QUEUES) {
                let answers = join_all(names.iter().map(|name| self.sizes(name))).await;
                for (queue, answer) in names.iter().zip(answers) {
                    let (info, problem) = match answer {
                        Ok(info) => (Some(info), None),
                        // On a Cluster the other queues' nodes may serve.
                        Err(error) if error.is_unavailable() && !self.pool.is_cluster() => {
                            return Err(error);
                        }
                        Err(error) => (None, Some(error.to_string())),
                    };
                    summaries.queues.push(QueueSummary { queue: queue.clone(), info, problem });
                }
            }
            Ok(summaries)
        })
    }

    /// `MEMORY USAGE` of a sample in one script; the jobs of groups are counted first.
    fn memory<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueMemory> {
        let measure = async move {
            let grouped = self.grouped(queue).await?;
            let mut found = self
                .ask(&SCRIPTS.estimate_memory, queue, Repeat::Safe, |_, call| call.arg(grouped))
                .await?;
            let (bytes, sampled) = (found.size()?, found.size()?);
            Ok(QueueMemory { bytes, sampled, jobs: found.size()? })
        };
        Box::pin(self.known(queue, measure))
    }

    /// One counter pair per day; days without attempts are listed with zeros.
    fn history<'a>(&'a self, queue: &'a QueueName, days: u32) -> Answer<'a, Vec<DayStats>> {
        let read = async move {
            let mut found = self
                .ask(&SCRIPTS.read_history, queue, Repeat::Safe, |_, call| call.arg(days))
                .await?;
            let mut history = Vec::new();
            while !found.is_empty() {
                let date = found.text()?;
                let (processed, failed) = (found.counter()?, found.counter()?);
                history.push(DayStats { date, processed, failed });
            }
            Ok(history)
        };
        Box::pin(self.known(queue, read))
    }

    /// Reads the stored snapshots and the current counters; the differences are taken here.
    fn minutes<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<MinuteStats>> {
        let read = async move {
            let mut found =
                self.ask(&SCRIPTS.read_minutes, queue, Repeat::Safe, |_, call| call).await?;
            let now = found.now();
            let latest = CounterSnapshot {
                processed: found.counter()?,
                failed: found.counter()?,
                waiting: found.size()?,
            };
            let mut snapshots = BTreeMap::new();
            while !found.is_empty() {
                snapshots.extend(CounterSnapshot::parse(&found.text()?));
            }
            Ok(MinuteStats::between(&snapshots, latest, now))
        };
        Box::pin(self.known(queue, read))
    }

    fn upcoming<'a>(&'a self, queue: &'a QueueName, ends: &'a [Timestamp]) -> Answer<'a, Vec<u64>> {
        let read = async move {
            let add =
                |call| ends.iter().fold(call, |call: ScriptCall, end| call.arg(end.as_secs()));
            let mut found =
                self.ask(&SCRIPTS.count_upcoming, queue, Repeat::Safe, |_, call| add(call)).await?;
            ends.iter().map(|_| found.size()).collect()
        };
        Box::pin(self.known(queue, read))
    }

    /// Whether the queue exists is not asked: an unknown queue has no job, which is the same
    /// answer.
    fn job<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Option<JobInfo>> {
        Box::pin(self.one_job(queue, id))
    }

    fn states<'a>(
        &'a self,
        queue: &'a QueueName,
        ids: &'a [JobId],
    ) -> Answer<'a, Vec<Option<JobState>>> {
        Box::pin(async move {
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let build = |_| {
                let mut pipeline = ::redis::pipe();
                for id in ids {
                    pipeline.cmd("HGET").arg(keys::task(queue, id)).arg("state");
                }
                pipeline
            };
            let answers = self.pool.run_pipeline(Repeat::Safe, build).await?;
            let state = |answer| match answer {
                Value::BulkString(state) => {
                    std::str::from_utf8(&state).ok().and_then(JobState::parse)
                }
                _ => None,
            };
            Ok(answers.into_iter().map(state).collect())
        })
    }

    fn jobs<'a>(
        &'a self,
        queue: &'a QueueName,
        list: JobList<'a>,
        page: &'a Page,
    ) -> Answer<'a, JobPage> {
        Box::pin(self.known(queue, self.page_of(queue, list, page)))
    }

    /// Paged by `SSCAN` cursors, so there are no page numbers, and a changing set may repeat
    /// names.
    fn groups<'a>(&'a self, queue: &'a QueueName, page: &'a Page) -> Answer<'a, GroupPage> {
        let read = async move {
            let from = scanned_to(page)?;
            let mut found = self
                .ask(&SCRIPTS.list_groups, queue, Repeat::Safe, |_, call| {
                    call.arg(page.rows()).arg(from)
                })
                .await?;
            let total = found.size()?;
            let cursor = found.bytes()?;
            let next = (cursor != b"0").then(|| Cursor::new(Mark::Scanned(cursor)));
            let mut groups = Vec::new();
            while !found.is_empty() {
                let (group, size) = (found.text()?, found.size()?);
                let (oldest, newest) = (found.instant()?, found.instant()?);
                groups.push(GroupInfo { group, size, oldest, newest });
            }
            Ok(GroupPage { groups, total, next })
        };
        Box::pin(self.known(queue, read))
    }

    /// The name of a set is `<group>:<id>`.
    fn aggregations<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<AggregationSet>> {
        let read = async move {
            let mut found = self
                .ask(&SCRIPTS.list_aggregations, queue, Repeat::Safe, |_, call| {
                    call.arg(MAX_AGGREGATIONS)
                })
                .await?;
            let mut sets = Vec::new();
            while !found.is_empty() {
                let name = found.text()?;
                let (size, expires) = (found.size()?, Timestamp::from_micros(found.int()?));
                // A group's name may have colons, a set's id has none.
                let (group, id) = name.rsplit_once(':').unwrap_or((&name, ""));
                let (group, id) = (group.to_owned(), id.to_owned());
                sets.push(AggregationSet { group, id, size, expires });
            }
            Ok(sets)
        };
        Box::pin(self.known(queue, read))
    }

    /// Asks each queue for the job's key, and reads only the jobs that exist.
    fn find_in<'a>(&'a self, id: &'a JobId, queues: &'a [QueueName]) -> Answer<'a, FoundJobs> {
        Box::pin(async move {
            let (mut jobs, mut bytes) = (Vec::new(), 0);
            for names in queues.chunks(CONCURRENT_QUEUES) {
                let exists = names.iter().map(|name| self.exists(name, id));
                for (name, exists) in names.iter().zip(join_all(exists).await) {
                    let found = match exists {
                        Ok(true) => self.one_job(name, id).await,
                        Ok(false) => Ok(None),
                        Err(error) => Err(error),
                    };
                    match found {
                        Ok(Some(info)) => {
                            bytes += info.large_bytes();
                            jobs.push(info);
                        }
                        Ok(None) => {}
                        Err(error) if error.is_unavailable() => return Err(error),
                        // One damaged queue must not hide what another has.
                        Err(_) => {}
                    }
                    if bytes >= MAX_PAGE_BYTES {
                        return Ok(FoundJobs { jobs, next: Some(name.clone()) });
                    }
                }
            }
            Ok(FoundJobs { jobs, next: None })
        })
    }

    fn servers(&self) -> Answer<'_, Servers> {
        Box::pin(self.all_servers())
    }

    fn standing<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Standing> {
        Box::pin(self.standing_of(queue, id))
    }

    fn serving(&self) -> Answer<'_, Servers> {
        Box::pin(self.serving_processes())
    }

    fn available<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<u64>> {
        Box::pin(async move {
            let counts = join_all(queues.iter().map(|queue| self.available_in(queue))).await;
            counts.into_iter().collect()
        })
    }

    fn place<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Option<ClusterPlace>> {
        Box::pin(self.place_of(queue))
    }

    fn store(&self) -> Answer<'_, StoreInfo> {
        Box::pin(self.store_info())
    }

    /// Asynq's key, with the time of the pause as its value. True if this call changed
    /// anything.
    fn pause<'a>(&'a self, queue: &'a QueueName, paused: bool) -> Answer<'a, bool> {
        Box::pin(async move {
            let key: Vec<u8> = keys::paused(queue).into();
            let answer = if paused {
                let since = self.now().as_secs().to_string();
                self.command(Repeat::Safe, "SETNX", &[key, since.into()]).await?
            } else {
                self.command(Repeat::Safe, "DEL", &[key]).await?
            };
            Ok(answer == Value::Int(1))
        })
    }
}

impl RedisBroker {
    /// Whether something is stored as this job.
    async fn exists(&self, queue: &QueueName, id: &JobId) -> Result<bool, Error> {
        let answer = self.command(Repeat::Safe, "EXISTS", &[keys::task(queue, id)]).await?;
        Ok(answer == Value::Int(1))
    }

    /// The result of `read`, or "not found" if the queue does not exist. Both run
    /// concurrently.
    async fn known<T>(
        &self,
        queue: &QueueName,
        read: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let (known, answer) = join(self.is_known(queue), read).await;
        if !known? {
            return Err(Error::not_found(format!("queue \"{queue}\" does not exist")));
        }
        answer
    }

    /// Whether the queue exists. If the set of names is damaged, any queue may exist.
    pub(super) async fn is_known(&self, queue: &QueueName) -> Result<bool, Error> {
        let member: [Vec<u8>; 2] = [keys::QUEUES.into(), queue.as_str().into()];
        match self.command(Repeat::Safe, "SISMEMBER", &member).await {
            Ok(answer) => Ok(answer == Value::Int(1)),
            Err(error) if error.is_damaged() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The sizes and counters of a queue.
    async fn sizes(&self, queue: &QueueName) -> Result<QueueInfo, Error> {
        let mut found = self.ask(&SCRIPTS.read_queue, queue, Repeat::Safe, |_, call| call).await?;
        let mut sizes = BTreeMap::new();
        for state in [
            JobState::Pending,
            JobState::Active,
            JobState::Scheduled,
            JobState::Retry,
            JobState::Archived,
            JobState::Completed,
        ] {
            sizes.insert(state.as_str(), found.size()?);
        }
        let groups = found.size()?;
        let grouped = if groups > 0 { self.grouped(queue).await? } else { 0 };
        sizes.insert(JobState::Aggregating.as_str(), grouped);
        let pending_since = nanos(&found.text()?);
        let now = self.now();
        let paused = found.int()? == 1;
        let paused_since = found.text()?.parse().ok().map(Timestamp::from_secs);
        Ok(QueueInfo {
            size: sizes.values().sum(),
            sizes,
            groups,
            pending_since,
            latency: pending_since.map_or(Duration::ZERO, |since| now.since(since)),
            paused,
            paused_since: paused_since.filter(|_| paused),
            processed: found.counter()?,
            failed: found.counter()?,
            processed_today: found.counter()?,
            failed_today: found.counter()?,
            next_due: found.instant()?,
            archived_last_hour: found.size()?,
        })
    }

    /// How many jobs wait in groups. With more groups than [`MAX_COUNT_CALLS`] calls can count,
    /// the total is extrapolated from the groups that were counted.
    async fn grouped(&self, queue: &QueueName) -> Result<u64, Error> {
        let (mut jobs, mut counted, mut groups) = (0_u64, 0_u64, 0_u64);
        let mut cursor: Vec<u8> = b"0".into();
        for _ in 0..MAX_COUNT_CALLS {
            let mut found = self
                .ask(&SCRIPTS.count_grouped, queue, Repeat::Safe, |_, call| {
                    call.arg(cursor.as_slice())
                })
                .await?;
            jobs += found.size()?;
            cursor = found.bytes()?;
            (counted, groups) = (counted + found.size()?, found.size()?);
            if cursor == b"0" {
                return Ok(jobs);
            }
        }
        let all = u128::from(jobs) * u128::from(groups) / u128::from(counted.max(1));
        Ok(u64::try_from(all).unwrap_or(u64::MAX))
    }
}

/// Reads Asynq's `pending_since`, in nanoseconds.
pub(super) fn nanos(text: &str) -> Option<Timestamp> {
    text.parse::<i64>().ok().map(|nanos| Timestamp::from_micros(nanos.div_euclid(1000)))
}

/// The cursor of Redis with which a page of a scanned set begins.
pub(super) fn scanned_to(page: &Page) -> Result<&[u8], Error> {
    match page.begin()? {
        Begin::At(0) => Ok(b"0"),
        Begin::At(_) => Err(Cursor::by_cursor()),
        Begin::After(Mark::Scanned(cursor)) if is_number(cursor) => Ok(cursor),
        Begin::After(_) => Err(Cursor::foreign()),
    }
}

/// Whether a cursor is a number of `SSCAN`: one that was forged must not reach Redis.
fn is_number(cursor: &[u8]) -> bool {
    (1..=20).contains(&cursor.len()) && cursor.iter().all(u8::is_ascii_digit)
}
