//! The store as one application with a namespace sees it: its own queues and jobs, and nothing
//! else.
//!
//! [`NamespacedBroker`] stands between everything above and the store below. It is the one place
//! that adds the [`Namespace`] to names on their way down, and removes it on their way up. So
//! client, worker, services and inspector know short names (`default`), and the store below, with
//! whatever Go worker reads it, knows whole ones (`shop:default`). A name that another
//! application has stored never comes up.
//!
//! It holds no state. It implements every method of the contract, so that a method without a
//! mapping does not compile; only methods that are made of others keep their default. The
//! contract's cases run on it too, above a store that another application uses at the same time
//! under the same names (`Store::MemoryNamespace` in `tests/it/broker_contract/bench.rs`).
//!
//! What a store keeps outside of queues has a name of the namespace as well: idempotency keys, and
//! the ids of periodic jobs. What stays common to all: the servers themselves, the registries of
//! processes (of which others are filtered out), the version of the format, and the channel of
//! cancel requests. A message there is an id without a queue. Another application may run a job
//! of that id (`periodic:nightly:1767409445`), so here such a message says no more than that it
//! is time to look at the stored requests
//! ([`cancel_needs_request`](super::Control::cancel_needs_request)).
//!
//! Without a namespace there is no `NamespacedBroker`, and nothing is different.

mod audit;
mod inspect;
mod limits;
mod operate;
mod periodic;
mod transfer;
mod type_stats;
mod workers;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Announcement, Answer, ArchiveSettings, Broker, Delivery, Dequeued, Each, Enqueued,
    ExchangeReply, ExpiredLeases, Extended, Forwarded, KeyBinding, Lease, Running, Sealed,
    SettleRequest, Settled, WorkerRequests,
};
use crate::error::Error;
use crate::job::{Idempotency, JobRecord, Namespace, NewJob, QueueName};
use crate::time::Timestamp;

/// A [`Broker`] that maps names between one application and the store below.
///
/// Methods of two families do the work: `stored…` adds the namespace to a value on its way down,
/// `shown…` removes it on the way up. Payloads, ids of jobs and groups are not touched.
pub struct NamespacedBroker {
    /// The store with the queues of all applications.
    inner: Arc<dyn Broker>,
    namespace: Namespace,
}

impl std::fmt::Debug for NamespacedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NamespacedBroker({})", self.describe())
    }
}

/// The store as an application with this namespace sees it; without one, the store itself.
pub fn in_namespace(inner: Arc<dyn Broker>, namespace: Option<&Namespace>) -> Arc<dyn Broker> {
    match namespace.cloned() {
        Some(namespace) => Arc::new(NamespacedBroker { inner, namespace }),
        None => inner,
    }
}

impl ArchiveSettings {
    /// The settings with which a store is opened: single queues under their stored names.
    ///
    /// Hidden, because only an application's launch and the tests of namespaces need it.
    #[doc(hidden)]
    pub fn stored_in(mut self, namespace: Option<&Namespace>) -> Self {
        if let Some(namespace) = namespace {
            let queues = self.queues.into_iter();
            self.queues = queues.map(|(queue, limit)| (namespace.stored(&queue), limit)).collect();
        }
        self
    }
}

impl NamespacedBroker {
    /// A name of this application as the store has it.
    fn stored(&self, queue: &QueueName) -> QueueName {
        self.namespace.stored(queue)
    }

    /// The same for a list of names, in its order: answers that have a row per queue need no
    /// mapping.
    fn all_stored(&self, queues: &[QueueName]) -> Vec<QueueName> {
        queues.iter().map(|queue| self.stored(queue)).collect()
    }

    /// A queue name in the answer to a question about this application. Any other name here is a
    /// fault of the store: tests fail, and a release shows the stored name.
    fn shown(&self, stored: &QueueName) -> QueueName {
        let shown = self.namespace.shown(stored);
        debug_assert!(shown.is_some(), "the store was asked for a queue of {}", self.namespace);
        shown.unwrap_or_else(|| stored.clone())
    }

    /// A job on its way down. Its queue is the only name in it.
    fn stored_record(&self, job: &JobRecord) -> JobRecord {
        JobRecord { queue: self.stored(&job.queue), ..job.clone() }
    }

    /// A job on its way up.
    fn shown_record(&self, job: &mut JobRecord) {
        job.queue = self.shown(&job.queue);
    }

    /// An idempotency key carries the namespace itself, because the store keeps it outside of
    /// queues.
    fn stored_key(&self, guard: &Idempotency) -> Idempotency {
        Idempotency { key: self.namespace.stored_text(&guard.key), ..guard.clone() }
    }

    /// A new job. Its unique key needs no namespace: locks belong to a queue.
    fn stored_job(&self, job: &NewJob) -> NewJob {
        NewJob {
            record: self.stored_record(&job.record),
            placement: job.placement,
            unique_for: job.unique_for,
            until: job.until,
            unique_key: job.unique_key.clone(),
            on_conflict: job.on_conflict,
            expires_in: job.expires_in,
            max_waiting: job.max_waiting,
            idempotency: job.idempotency.as_ref().map(|guard| self.stored_key(guard)),
        }
    }

    fn stored_lease(&self, lease: &Lease) -> Lease {
        Lease { queue: self.stored(&lease.queue), ..lease.clone() }
    }

    fn shown_lease(&self, lease: Lease) -> Lease {
        Lease { queue: self.shown(&lease.queue), ..lease }
    }

    fn shown_delivery(&self, mut delivery: Delivery) -> Delivery {
        self.shown_record(&mut delivery.job);
        delivery.lease = self.shown_lease(delivery.lease);
        delivery
    }

    /// What is to be settled. The transition names no queue.
    fn stored_request(&self, request: &SettleRequest) -> SettleRequest {
        let SettleRequest { delivery, transition, note } = request;
        let delivery = Delivery {
            job: self.stored_record(&delivery.job),
            lease: self.stored_lease(&delivery.lease),
            ..*delivery
        };
        SettleRequest { delivery, transition: transition.clone(), note: note.clone() }
    }

    /// The deliveries, and the queues that were found paused.
    fn shown_dequeued(&self, dequeued: Dequeued) -> Dequeued {
        let deliveries =
            dequeued.deliveries.into_iter().map(|delivery| self.shown_delivery(delivery));
        let paused = dequeued.paused.iter().map(|queue| self.shown(queue)).collect();
        Dequeued { deliveries: deliveries.collect(), paused }
    }

    /// The process as other applications and Go tools read it: with stored names, of its queues and
    /// of the jobs that it runs.
    fn stored_announcement(&self, who: &Announcement) -> Announcement {
        let running = who
            .running
            .iter()
            .map(|one| Running { job: Arc::new(self.stored_record(&one.job)), ..one.clone() });
        let queues = who.queues.iter().map(|(queue, weight)| (self.stored(queue), *weight));
        let details = self.stored_details(&who.details);
        Announcement {
            running: running.collect(),
            queues: queues.collect(),
            details,
            ..who.clone()
        }
    }

    /// The error of the store with the queue name that the application knows. Only a name written
    /// as `queue "…"` is corrected.
    fn error(&self, error: Error) -> Error {
        let stored = format!("queue \"{}", self.namespace.prefix());
        error.reworded(|message| message.replace(&stored, "queue \""))
    }

    /// Awaits an answer of the store, and corrects the name in its error.
    async fn answer<T>(&self, answer: Answer<'_, T>) -> Result<T, Error> {
        answer.await.map_err(|error| self.error(error))
    }

    /// The same namespace on another handle to the store.
    fn of(&self, inner: Arc<dyn Broker>) -> Arc<dyn Broker> {
        Arc::new(Self { inner, namespace: self.namespace.clone() })
    }
}

impl Sealed for NamespacedBroker {}

impl Broker for NamespacedBroker {
    /// A job whose queue name is too long together with the namespace is refused. The others of the
    /// call go on, and every answer stays in the place of its job.
    fn enqueue_each<'a>(&'a self, jobs: &'a [NewJob]) -> Each<'a, Enqueued> {
        Box::pin(async move {
            let checked = jobs.iter().map(|job| self.namespace.check(&job.record.queue));
            let checked: Vec<Result<(), Error>> = checked.collect();
            let good = jobs.iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
            let stored: Vec<NewJob> = good.map(|(job, _)| self.stored_job(job)).collect();
            let mut answers = self.inner.enqueue_each(&stored).await.into_iter();
            let missing = || Err(Error::outcome_unknown("the store gave no answer for this job"));
            let each = checked.into_iter().map(|checked| match checked {
                Ok(()) => answers.next().unwrap_or_else(missing).map_err(|err| self.error(err)),
                Err(error) => Err(error),
            });
            each.collect()
        })
    }

    fn dequeue<'a>(&'a self, queues: &'a [QueueName], at_most: usize) -> Answer<'a, Dequeued> {
        Box::pin(async move {
            let queues = self.all_stored(queues);
            let dequeued = self.answer(self.inner.dequeue(&queues, at_most)).await?;
            Ok(self.shown_dequeued(dequeued))
        })
    }

    fn exchange<'a>(
        &'a self,
        requests: &'a [&'a SettleRequest],
        queues: &'a [QueueName],
        at_most: usize,
    ) -> Pin<Box<dyn Future<Output = ExchangeReply> + Send + 'a>> {
        Box::pin(async move {
            let requests: Vec<SettleRequest> =
                requests.iter().map(|request| self.stored_request(request)).collect();
            let requests: Vec<&SettleRequest> = requests.iter().collect();
            let queues = self.all_stored(queues);
            let ExchangeReply { settled, dequeued } =
                self.inner.exchange(&requests, &queues, at_most).await;
            let named = |settled: Result<Settled, Error>| settled.map_err(|err| self.error(err));
            let settled = settled.into_iter().map(named).collect();
            let dequeued = dequeued.map_err(|error| self.error(error));
            ExchangeReply { settled, dequeued: dequeued.map(|some| self.shown_dequeued(some)) }
        })
    }

    fn extend<'a>(&'a self, leases: &'a [Lease]) -> Answer<'a, Vec<Extended>> {
        Box::pin(async move {
            let leases: Vec<Lease> = leases.iter().map(|lease| self.stored_lease(lease)).collect();
            let extended = self.answer(self.inner.extend(&leases)).await?.into_iter();
            let shown = extended.map(|extended| match extended {
                Extended::Renewed(lease) => Extended::Renewed(self.shown_lease(lease)),
                Extended::Cancelled(lease, after) => {
                    Extended::Cancelled(self.shown_lease(lease), after)
                }
                Extended::Lost => Extended::Lost,
                Extended::Unknown => Extended::Unknown,
                Extended::Moving => Extended::Moving,
            });
            Ok(shown.collect())
        })
    }

    fn next_due<'a>(&'a self, queues: &'a [QueueName]) -> Answer<'a, Vec<Option<Duration>>> {
        Box::pin(async move {
            let queues = self.all_stored(queues);
            self.answer(self.inner.next_due(&queues)).await
        })
    }

    fn forward<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, Forwarded> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.forward(&queue, limit)).await
        })
    }

    fn expired_leases<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
        skip: usize,
    ) -> Answer<'a, ExpiredLeases> {
        Box::pin(async move {
            let queue = self.stored(queue);
            let found = self.answer(self.inner.expired_leases(&queue, limit, skip)).await?;
            let jobs = found.jobs.into_iter().map(|delivery| self.shown_delivery(delivery));
            let refusal = found.refusal.map(|error| self.error(error));
            Ok(ExpiredLeases { jobs: jobs.collect(), refusal, ..found })
        })
    }

    fn begin_suspect<'a>(&'a self, lease: &'a Lease, running: usize) -> Answer<'a, bool> {
        Box::pin(async move {
            let lease = self.stored_lease(lease);
            self.answer(self.inner.begin_suspect(&lease, running)).await
        })
    }

    /// The count belongs to the process, so no name is involved.
    fn end_suspect(&self, running: usize) -> Answer<'_, ()> {
        self.inner.end_suspect(running)
    }

    fn record_minute<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, ()> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.record_minute(&queue)).await
        })
    }

    fn delete_expired<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.delete_expired(&queue, limit)).await
        })
    }

    fn wait<'a>(&'a self, queues: &'a [QueueName], at_most: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            let queues = self.all_stored(queues);
            self.answer(self.inner.wait(&queues, at_most)).await
        })
    }

    /// The store reports queues of all applications. A report without a queue of this one is
    /// skipped: passed on as an empty list, it would mean "any queue".
    fn due_changed(&self) -> Answer<'_, Vec<QueueName>> {
        Box::pin(async move {
            loop {
                let stored = self.inner.due_changed().await?;
                let own: Vec<_> =
                    stored.iter().filter_map(|queue| self.namespace.shown(queue)).collect();
                if stored.is_empty() || !own.is_empty() {
                    return Ok(own);
                }
            }
        })
    }

    fn announce<'a>(&'a self, who: &'a Announcement) -> Answer<'a, WorkerRequests> {
        Box::pin(async move {
            let who = self.stored_announcement(who);
            let WorkerRequests { own, all } = self.inner.announce(&who).await?;
            let all = all.map(|all| self.shown_changes(all));
            Ok(WorkerRequests { own: self.shown_changes(own), all })
        })
    }

    fn retire<'a>(&'a self, who: &'a Announcement) -> Answer<'a, ()> {
        Box::pin(async move {
            let who = self.stored_announcement(who);
            self.inner.retire(&who).await
        })
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.inner.ping()
    }

    fn bind_key<'a>(
        &'a self,
        key: &'a str,
        queue: &'a QueueName,
        kept: Duration,
    ) -> Answer<'a, KeyBinding> {
        Box::pin(async move {
            self.namespace.check(queue)?;
            let (key, queue) = (self.namespace.stored_text(key), self.stored(queue));
            let bound = self.answer(self.inner.bind_key(&key, &queue, kept)).await?;
            Ok(KeyBinding { queue: self.shown(&bound.queue), is_new: bound.is_new })
        })
    }

    fn release_key<'a>(&'a self, key: &'a str, queue: &'a QueueName) -> Answer<'a, ()> {
        Box::pin(async move {
            let (key, queue) = (self.namespace.stored_text(key), self.stored(queue));
            self.answer(self.inner.release_key(&key, &queue)).await
        })
    }

    /// All applications share one format of the stored data.
    fn unknown_format(&self) -> Answer<'_, Option<String>> {
        self.inner.unknown_format()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn detached(&self) -> Arc<dyn Broker> {
        self.of(self.inner.detached())
    }

    fn aside(&self) -> Arc<dyn Broker> {
        self.of(self.inner.aside())
    }

    fn prompt(&self) -> Arc<dyn Broker> {
        self.of(self.inner.prompt())
    }

    fn all_namespaces(&self) -> Option<Arc<dyn Broker>> {
        Some(Arc::clone(&self.inner))
    }

    fn describe(&self) -> String {
        format!("{}, namespace {}", self.inner.describe(), self.namespace)
    }
}
