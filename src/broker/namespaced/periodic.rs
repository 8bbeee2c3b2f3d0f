//! Periodic jobs in a namespace. Their ids carry it, because announcements and histories lie
//! outside of queues. The claim of a tick lies in the data of a queue, so the name in it needs
//! none.
//!
//! What may surprise. A Go scheduler whose jobs go to `shop:default` belongs to `shop` too, and its
//! ids are random UUIDs without a namespace. They are shown as they are. Our own ids are
//! digests and no random UUIDs, which is how the two are told apart on the way down; the
//! history of a Go scheduler's id is given only while an announcement shows that it is of
//! this namespace.

use std::time::Duration;

use uuid::Uuid;

use super::NamespacedBroker;
use crate::broker::{
    AnnouncedPeriodicJob, Answer, Fired, Firing, PeriodicJobInfo, PeriodicRun, PeriodicStore,
    option_text,
};
use crate::error::Error;

/// Whether an id is a Go scheduler's: a random UUID.
fn is_go_id(id: &str) -> bool {
    Uuid::parse_str(id).is_ok_and(|id| id.get_version_num() == 4)
}

impl NamespacedBroker {
    /// The id of a periodic job as the store has it.
    fn stored_id(&self, id: &str) -> String {
        if is_go_id(id) { id.to_owned() } else { self.namespace.stored_text(id) }
    }

    /// A periodic job as this application sees it; `None` for one of another application. Its
    /// options may name the queue as text, which is corrected too.
    fn shown_periodic(&self, job: PeriodicJobInfo) -> Option<PeriodicJobInfo> {
        let queue = self.namespace.shown(&job.queue)?;
        let id = match self.namespace.shown_text(&job.id) {
            Some(id) => id.to_owned(),
            None => job.id,
        };
        let options = option_text::with_queue(job.options, &queue);
        Some(PeriodicJobInfo { id, queue, options, ..job })
    }

    /// All periodic jobs of this namespace, as announced by its own processes and by Go schedulers.
    async fn all_periodic(&self) -> Result<Vec<PeriodicJobInfo>, Error> {
        let stored = self.answer(self.inner.periodic_jobs()).await?;
        Ok(stored.into_iter().filter_map(|job| self.shown_periodic(job)).collect())
    }
}

impl PeriodicStore for NamespacedBroker {
    fn fire<'a>(&'a self, what: &'a Firing) -> Answer<'a, Fired> {
        Box::pin(async move {
            self.namespace.check(&what.queue)?;
            let ticks = what.ticks.iter().map(|(tick, job)| (*tick, self.stored_job(job)));
            let stored = Firing {
                entry: what.entry.clone(),
                queue: self.stored(&what.queue),
                ticks: ticks.collect(),
                ..*what
            };
            self.answer(self.inner.fire(&stored)).await
        })
    }

    fn record_run<'a>(
        &'a self,
        periodic_id: &'a str,
        run: &'a PeriodicRun,
        keep: Duration,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let id = self.stored_id(periodic_id);
            self.answer(self.inner.record_run(&id, run, keep)).await
        })
    }

    fn announce_periodic_jobs<'a>(
        &'a self,
        scheduler: &'a str,
        entries: &'a [AnnouncedPeriodicJob],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let stored = entries.iter().map(|entry| AnnouncedPeriodicJob {
                id: self.stored_id(&entry.id),
                spec: entry.spec.clone(),
                job: self.stored_job(&entry.job),
                ..*entry
            });
            let stored: Vec<AnnouncedPeriodicJob> = stored.collect();
            self.answer(self.inner.announce_periodic_jobs(scheduler, &stored)).await
        })
    }

    /// A scheduler is a process, and its id is unique among all applications.
    fn retire_periodic_jobs<'a>(&'a self, scheduler: &'a str) -> Answer<'a, ()> {
        self.inner.retire_periodic_jobs(scheduler)
    }

    fn periodic_jobs(&self) -> Answer<'_, Vec<PeriodicJobInfo>> {
        Box::pin(self.all_periodic())
    }

    fn periodic_history<'a>(
        &'a self,
        periodic_id: &'a str,
        skip: usize,
        most: usize,
    ) -> Answer<'a, Vec<PeriodicRun>> {
        Box::pin(async move {
            let is_announced =
                |jobs: Vec<PeriodicJobInfo>| jobs.iter().any(|job| job.id == periodic_id);
            if is_go_id(periodic_id) && !is_announced(self.all_periodic().await?) {
                return Ok(Vec::new());
            }
            let id = self.stored_id(periodic_id);
            self.answer(self.inner.periodic_history(&id, skip, most)).await
        })
    }
}
