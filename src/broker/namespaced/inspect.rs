//! Reading in a namespace: its queues and jobs, and the processes that work on them.
//!
//! Stored names are in alphabetical order and those of a namespace share a prefix, so they stand
//! next to each other: a page of them is a page of the store that begins at the prefix and stops at
//! the first name without it. Nothing of another application is read on the way, except of
//! processes: their registry is common to all, and is filtered.

use super::NamespacedBroker;
use crate::broker::{
    AggregationSet, Answer, ClusterPlace, DayStats, FoundJobs, GroupPage, Inspect, JobInfo,
    JobList, JobPage, JobRow, MinuteStats, Page, QueueInfo, QueueMemory, QueueSummaries,
    ServerInfo, Servers, Standing, StoreInfo,
};
use crate::job::{JobId, JobState, QueueName};
use crate::time::Timestamp;

impl NamespacedBroker {
    /// The stored name after which a page begins: that of the last queue shown, or the prefix,
    /// which sorts before all names with it.
    fn begin(&self, after: Option<&QueueName>) -> QueueName {
        let prefix = || QueueName::stored(self.namespace.prefix());
        after.map_or_else(prefix, |after| self.stored(after))
    }

    /// A job with all that a viewer may read of it, on its way up.
    fn shown_info(&self, mut info: JobInfo) -> JobInfo {
        self.shown_record(&mut info.record);
        info
    }

    /// A process, reduced to what it does for this namespace; `None` if it serves only others. A Go
    /// process may serve several.
    fn shown_server(&self, server: ServerInfo) -> Option<ServerInfo> {
        let (all_queues, all_running) = (server.queues.len(), server.running.len());
        let queues = server.queues.iter();
        let queues =
            queues.filter_map(|(name, weight)| Some((self.namespace.shown(name)?, *weight)));
        let running = server.running.into_iter().filter_map(|mut job| {
            job.queue = self.namespace.shown(&job.queue)?;
            Some(job)
        });
        let mut shown =
            ServerInfo { queues: queues.collect(), running: running.collect(), ..server };
        self.show_details(&mut shown);
        if shown.queues.len() < all_queues || shown.running.len() < all_running {
            // The announcement only counts these jobs. They may belong to another application.
            shown.more_running = 0;
        }
        (!shown.queues.is_empty()).then_some(shown)
    }
}

impl Inspect for NamespacedBroker {
    fn queues(&self) -> Answer<'_, Vec<QueueName>> {
        Box::pin(async move {
            let stored = self.answer(self.inner.queues()).await?;
            Ok(stored.iter().filter_map(|name| self.namespace.shown(name)).collect())
        })
    }

    fn queues_after<'a>(
        &'a self,
        after: Option<&'a QueueName>,
        most: usize,
    ) -> Answer<'a, (Vec<QueueName>, bool)> {
        Box::pin(async move {
            let begin = self.begin(after);
            let (stored, more) = self.answer(self.inner.queues_after(Some(&begin), most)).await?;
            let own: Vec<_> = stored.iter().map_while(|name| self.namespace.shown(name)).collect();
            let may_go_on = own.len() == stored.len();
            Ok((own, more && may_go_on))
        })
    }

    fn may_have_groups<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<bool>> {
        Box::pin(async move {
            let queues = self.all_stored(queues);
            self.answer(self.inner.may_have_groups(&queues)).await
        })
    }

    fn queue<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueInfo> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.queue(&queue)).await
        })
    }

    /// The names are read first. Their number bounds the second read, so that no queue of another
    /// application is read.
    fn summaries<'a>(
        &'a self,
        after: Option<&'a QueueName>,
        most: usize,
    ) -> Answer<'a, QueueSummaries> {
        Box::pin(async move {
            let (begin, own) = (self.begin(after), self.queues_after(after, most).await?.0.len());
            let found = self.answer(self.inner.summaries(Some(&begin), own)).await?;
            let queues = found.queues.into_iter().filter_map(|mut summary| {
                summary.queue = self.namespace.shown(&summary.queue)?;
                Some(summary)
            });
            let unnamable = found.unnamable.iter();
            let unnamable = unnamable.filter_map(|name| self.namespace.shown_text(name));
            Ok(QueueSummaries {
                queues: queues.collect(),
                unnamable: unnamable.map(str::to_owned).collect(),
            })
        })
    }

    fn memory<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueMemory> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.memory(&queue)).await
        })
    }

    fn history<'a>(&'a self, queue: &'a QueueName, days: u32) -> Answer<'a, Vec<DayStats>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.history(&queue, days)).await
        })
    }

    fn minutes<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<MinuteStats>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.minutes(&queue)).await
        })
    }

    fn upcoming<'a>(&'a self, queue: &'a QueueName, ends: &'a [Timestamp]) -> Answer<'a, Vec<u64>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.upcoming(&queue, ends)).await
        })
    }

    fn job<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Option<JobInfo>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            let found = self.answer(self.inner.job(&queue, id)).await?;
            Ok(found.map(|info| self.shown_info(info)))
        })
    }

    fn states<'a>(
        &'a self,
        queue: &'a QueueName,
        ids: &'a [JobId],
    ) -> Answer<'a, Vec<Option<JobState>>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.states(&queue, ids)).await
        })
    }

    fn find_in<'a>(&'a self, id: &'a JobId, queues: &'a [QueueName]) -> Answer<'a, FoundJobs> {
        Box::pin(async move {
            let queues = self.all_stored(queues);
            let found = self.answer(self.inner.find_in(id, &queues)).await?;
            let jobs = found.jobs.into_iter().map(|info| self.shown_info(info)).collect();
            Ok(FoundJobs { jobs, next: found.next.map(|queue| self.shown(&queue)) })
        })
    }

    fn jobs<'a>(
        &'a self,
        queue: &'a QueueName,
        list: JobList<'a>,
        page: &'a Page,
    ) -> Answer<'a, JobPage> {
        Box::pin(async move {
            let queue = self.stored(queue);
            let mut page = self.answer(self.inner.jobs(&queue, list, page)).await?;
            for row in &mut page.rows {
                match row {
                    JobRow::Job(info) => self.shown_record(&mut info.record),
                    JobRow::Corrupt(entry) => entry.queue = self.shown(&entry.queue),
                }
            }
            Ok(page)
        })
    }

    fn groups<'a>(&'a self, queue: &'a QueueName, page: &'a Page) -> Answer<'a, GroupPage> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.groups(&queue, page)).await
        })
    }

    fn aggregations<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<AggregationSet>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.aggregations(&queue)).await
        })
    }

    /// An announcement that cannot be read does not tell whose it is, so those are not counted.
    fn servers(&self) -> Answer<'_, Servers> {
        Box::pin(async move {
            let all = self.answer(self.inner.servers()).await?;
            let servers = all.servers.into_iter().filter_map(|server| self.shown_server(server));
            Ok(Servers { servers: servers.collect(), unreadable: 0 })
        })
    }

    fn standing<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Standing> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.standing(&queue, id)).await
        })
    }

    /// Here `more_running` counts the slots in use. An occupied slot is not free for this
    /// application, whichever application the job in it belongs to.
    fn serving(&self) -> Answer<'_, Servers> {
        Box::pin(async move {
            let all = self.answer(self.inner.serving()).await?;
            let servers = all.servers.into_iter().filter_map(|server| {
                let in_use = server.more_running;
                Some(ServerInfo { more_running: in_use, ..self.shown_server(server)? })
            });
            Ok(Servers { servers: servers.collect(), unreadable: 0 })
        })
    }

    fn available<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<u64>> {
        Box::pin(async move {
            let queues = self.all_stored(queues);
            self.answer(self.inner.available(&queues)).await
        })
    }

    fn place<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Option<ClusterPlace>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.place(&queue)).await
        })
    }

    /// The servers belong to all applications. Only the description names the namespace.
    fn store(&self) -> Answer<'_, StoreInfo> {
        Box::pin(async move {
            let store = self.answer(self.inner.store()).await?;
            let description = format!("{}, namespace {}", store.description, self.namespace);
            Ok(StoreInfo { description, ..store })
        })
    }

    fn pause<'a>(&'a self, queue: &'a QueueName, paused: bool) -> Answer<'a, bool> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.pause(&queue, paused)).await
        })
    }
}
