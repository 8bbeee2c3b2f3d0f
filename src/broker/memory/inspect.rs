//! The read side of the store in memory: queues, jobs and announced processes.
//!
//! A queue exists for readers once it was used; the map also holds empty entries of
//! queues that were only asked about. An unknown queue gives "not found", as in
//! Redis. What one queue answers about its lists, sizes and history is in `list`;
//! here the answers of several queues are put together, and the process that runs
//! an active job is added from the announcements.

use super::queue::Queue;
use super::{MemoryBroker, StoreState};
use crate::broker::disk::Level;
use crate::broker::{
    AggregationSet, Announcement, Answer, Broker, ClusterPlace, DayStats, FoundJobs, GroupPage,
    Inspect, JobInfo, JobList, JobPage, JobRow, JobWorker, MAX_PAGE_BYTES, MinuteStats, Page,
    QueueInfo, QueueMemory, QueueSummaries, QueueSummary, Running, ServerInfo, Servers, Standing,
    StoreInfo, StoreKind, WorkerChangeInfo, WorkerInfo,
};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName};
use crate::time::Timestamp;

impl MemoryBroker {
    /// Reads a queue, or answers "not found".
    fn known<T>(
        &self,
        name: &QueueName,
        look: impl FnOnce(&Queue, Timestamp) -> T,
    ) -> Result<T, Error> {
        let missing = || Error::not_found(format!("queue {name:?} does not exist"));
        self.look(name, look).ok_or_else(missing)
    }
}

impl Inspect for MemoryBroker {
    /// Queues that were used; others exist only as empty entries of the map.
    fn queues(&self) -> Answer<'_, Vec<QueueName>> {
        Box::pin(async move {
            let state = self.state();
            let used = state.queues.iter().filter(|(_, queue)| queue.used());
            Ok(used.map(|(name, _)| name.clone()).collect())
        })
    }

    fn queue<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueInfo> {
        Box::pin(async move { self.known(queue, Queue::info) })
    }

    /// The queues after a name, in order. None of them can be unreadable.
    fn summaries<'a>(
        &'a self,
        after: Option<&'a QueueName>,
        most: usize,
    ) -> Answer<'a, QueueSummaries> {
        Box::pin(async move {
            let (state, now) = (self.state(), self.clock.now());
            let used = state.queues.iter().filter(|(_, queue)| queue.used());
            let used = used.filter(|(name, _)| after.is_none_or(|after| *name > after));
            let summary = |(name, queue): (&QueueName, &Queue)| QueueSummary {
                queue: name.clone(),
                info: Some(queue.info(now)),
                problem: None,
            };
            let queues = used.take(most).map(summary).collect();
            // Queues of this process have names.
            Ok(QueueSummaries { queues, unnamable: Vec::new() })
        })
    }

    /// An estimate by the sample that Redis measures, see [`Queue::memory`].
    fn memory<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueMemory> {
        Box::pin(async move { self.known(queue, |queue, _| queue.memory()) })
    }

    /// Days without attempts are listed with zeros.
    fn history<'a>(&'a self, queue: &'a QueueName, days: u32) -> Answer<'a, Vec<DayStats>> {
        Box::pin(async move { self.known(queue, |queue, now| queue.history(days, now)) })
    }

    /// From the snapshots that the janitor takes when it deletes expired jobs.
    fn minutes<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<MinuteStats>> {
        Box::pin(async move { self.known(queue, Queue::minutes) })
    }

    /// Whole seconds, as in Redis.
    fn upcoming<'a>(&'a self, queue: &'a QueueName, ends: &'a [Timestamp]) -> Answer<'a, Vec<u64>> {
        Box::pin(async move { self.known(queue, |queue, _| queue.upcoming(ends)) })
    }

    /// With the process that announced to run it.
    fn job<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Option<JobInfo>> {
        Box::pin(async move {
            let found = self.look(queue, |queue, now| queue.job(id, now)).flatten();
            Ok(found.map(|mut info| {
                add_worker(&self.state(), &mut info, self.clock.now());
                info
            }))
        })
    }

    fn states<'a>(
        &'a self,
        queue: &'a QueueName,
        ids: &'a [JobId],
    ) -> Answer<'a, Vec<Option<JobState>>> {
        Box::pin(async move {
            let found = self.look(queue, |queue, _| ids.iter().map(|id| queue.state(id)).collect());
            Ok(found.unwrap_or_else(|| vec![None; ids.len()]))
        })
    }

    /// With the process that announced to run each active job.
    fn jobs<'a>(
        &'a self,
        queue: &'a QueueName,
        list: JobList<'a>,
        page: &'a Page,
    ) -> Answer<'a, JobPage> {
        Box::pin(async move {
            let mut page = self.known(queue, |queue, now| queue.page(list, page, now))??;
            let (state, now) = (self.state(), self.clock.now());
            for row in &mut page.rows {
                if let JobRow::Job(info) = row {
                    add_worker(&state, info, now);
                }
            }
            Ok(page)
        })
    }

    /// In the order of their names; Redis has no order.
    fn groups<'a>(&'a self, queue: &'a QueueName, page: &'a Page) -> Answer<'a, GroupPage> {
        Box::pin(async move { self.known(queue, |queue, _| queue.groups(page))? })
    }

    fn aggregations<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<AggregationSet>> {
        Box::pin(async move { self.known(queue, |queue, _| queue.aggregations()) })
    }

    /// Bounded as in Redis, so that pages of results look alike.
    fn find_in<'a>(&'a self, id: &'a JobId, queues: &'a [QueueName]) -> Answer<'a, FoundJobs> {
        Box::pin(async move {
            let (mut jobs, mut bytes) = (Vec::new(), 0);
            for name in queues {
                let Some(info) = self.job(name, id).await? else { continue };
                bytes += info.large_bytes();
                jobs.push(info);
                if bytes >= MAX_PAGE_BYTES {
                    return Ok(FoundJobs { jobs, next: Some(name.clone()) });
                }
            }
            Ok(FoundJobs { jobs, next: None })
        })
    }

    /// Processes that announced themselves to this store, in practice this one.
    fn servers(&self) -> Answer<'_, Servers> {
        Box::pin(async move {
            let (state, now) = (self.state(), self.clock.now());
            let asked = |who: &Announcement| state.asked.shown(who, now);
            let servers = state.announced.values(now).map(|who| server(who, asked(who))).collect();
            let mut all = Servers { servers, unreadable: 0 };
            all.sort();
            Ok(all)
        })
    }

    fn standing<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Standing> {
        Box::pin(async move {
            Ok(self.look(queue, |queue, now| queue.standing(id, now)).unwrap_or_default())
        })
    }

    fn available<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<u64>> {
        Box::pin(async move {
            let available = |queue: &Queue, _| queue.available() as u64;
            Ok(queues.iter().map(|name| self.look(name, available).unwrap_or(0)).collect())
        })
    }

    /// There is no Cluster.
    fn place<'a>(&'a self, _: &'a QueueName) -> Answer<'a, Option<ClusterPlace>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Described without servers.
    fn store(&self) -> Answer<'_, StoreInfo> {
        let kind = if self.journal.is_some() { StoreKind::Disk } else { StoreKind::Memory };
        let description = self.describe();
        let store = StoreInfo { kind, description, cluster: false, nodes: Vec::new() };
        Box::pin(std::future::ready(Ok(store)))
    }

    /// Pausing an unknown queue makes it exist, as in Redis.
    fn pause<'a>(&'a self, queue: &'a QueueName, paused: bool) -> Answer<'a, bool> {
        Box::pin(async move {
            self.accepts(Level::Durable)?;
            let changed = self.act(queue, |queue, now| queue.pause(paused, now));
            self.saved(Level::Durable).await?;
            Ok(changed)
        })
    }
}

/// The announcement of a process, as readers see it.
fn server(who: &Announcement, changes: Vec<WorkerChangeInfo>) -> ServerInfo {
    let running = who.running.iter().map(|one| WorkerInfo {
        queue: one.job.queue.clone(),
        id: one.job.id.clone(),
        job_type: one.job.job_type.clone(),
        payload: one.job.payload_bytes().to_vec(),
        started: Some(one.started),
        deadline: Some(one.deadline),
    });
    ServerInfo {
        host: who.host.clone(),
        pid: i64::from(who.pid),
        server_id: who.server_id.clone(),
        concurrency: i64::from(who.concurrency),
        queues: who
            .queues
            .iter()
            .map(|(name, &priority)| (name.clone(), priority.into()))
            .collect(),
        strict_priority: who.strict_priority,
        status: who.status.to_owned(),
        started: Some(who.started),
        running: running.collect(),
        more_running: 0,
        details: Some(who.details.clone()),
        changes,
    }
}

/// Adds the process that announced to run this job.
fn add_worker(state: &StoreState, info: &mut JobInfo, now: Timestamp) {
    if info.state != JobState::Active {
        return;
    }
    info.worker = state.announced.values(now).find_map(|who| {
        let runs =
            |one: &&Running| one.job.id == info.record.id && one.job.queue == info.record.queue;
        who.running.iter().find(runs).map(|one| JobWorker {
            host: who.host.clone(),
            pid: i64::from(who.pid),
            server_id: who.server_id.clone(),
            started: Some(one.started),
            deadline: Some(one.deadline),
        })
    });
}
