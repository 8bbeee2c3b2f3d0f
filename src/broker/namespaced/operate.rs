//! Changing things in a namespace: what operators, aggregators, the doctor and public endpoints do.
//!
//! Nearly every method takes the same three steps: store the name, call the store, correct the name
//! in an error. The others reach what lies outside of queues: cancel requests are heard for all
//! applications, and the doctor checks the store itself, which concerns everybody.

use std::pin::Pin;

use super::NamespacedBroker;
use crate::broker::{
    Acted, Action, Actions, Answer, BulkStep, BulkStepResult, CancelAnswer, CancelListener,
    CheckedPage, Checkpoint, Control, Doctor, Enqueued, Finding, FindingKind, FindingStatus,
    Findings, GroupLimits, GroupSet, Groups, Inspect, Lease, Output, ReadyGroups, Removal,
    RepairScope, RepairedGroups, Settled,
};
use crate::job::{AfterCancel, JobId, NewJob, QueueName};

impl NamespacedBroker {
    /// Findings about one queue, with the name that the application knows.
    fn shown_findings(&self, findings: Vec<Finding>) -> Vec<Finding> {
        let shown = findings.into_iter().map(|finding| {
            let queue = finding.queue.as_ref().map(|queue| self.shown(queue));
            Finding { queue, ..finding }
        });
        shown.collect()
    }

    /// A claimed set with its jobs: the store needs their ids and unique locks when the set is
    /// settled.
    fn stored_set(&self, set: &GroupSet) -> GroupSet {
        let jobs = set.jobs.iter().map(|job| self.stored_record(job)).collect();
        GroupSet {
            queue: self.stored(&set.queue),
            group: set.group.clone(),
            id: set.id.clone(),
            expires: set.expires,
            jobs,
        }
    }
}

impl Control for NamespacedBroker {
    fn write_output<'a>(&'a self, lease: &'a Lease, output: Output<'a>) -> Answer<'a, Settled> {
        Box::pin(async move {
            let lease = self.stored_lease(lease);
            self.answer(self.inner.write_output(&lease, output)).await
        })
    }

    fn cancel<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        after: AfterCancel,
    ) -> Answer<'a, CancelAnswer> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.cancel(&queue, id, after)).await
        })
    }

    /// Hears the ids that any application cancels, as the channel has no queue: see
    /// [`cancel_needs_request`](Control::cancel_needs_request).
    fn hear_cancels(
        &self,
        listener: CancelListener,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.inner.hear_cancels(listener)
    }

    /// An id that was heard may belong to another application, so only a stored request counts.
    fn cancel_needs_request(&self) -> bool {
        true
    }
}

impl Actions for NamespacedBroker {
    fn act<'a>(&'a self, queue: &'a QueueName, id: &'a JobId, action: Action) -> Answer<'a, Acted> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.act(&queue, id, action)).await
        })
    }

    fn edit<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        payload: &'a [u8],
    ) -> Answer<'a, Acted> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.edit(&queue, id, payload)).await
        })
    }

    fn step<'a>(&'a self, step: &'a BulkStep<'a>) -> Answer<'a, BulkStepResult> {
        Box::pin(async move {
            let queue = self.stored(step.queue);
            let stored = BulkStep { queue: &queue, ..step.clone() };
            self.answer(self.inner.step(&stored)).await
        })
    }

    fn waiting_groups<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.waiting_groups(&queue)).await
        })
    }

    fn remove_queue<'a>(&'a self, queue: &'a QueueName, force: bool) -> Answer<'a, Removal> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.remove_queue(&queue, force)).await
        })
    }

    fn trim<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.trim(&queue, limit)).await
        })
    }
}

impl Doctor for NamespacedBroker {
    /// Findings about settings and servers are shown to every application. Names that the crate
    /// would not accept are searched among the queues of this one, because the store reports those
    /// of all.
    fn check_store(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async move {
            let mut found = Findings::default();
            for finding in self.answer(self.inner.check_store()).await? {
                if finding.kind != FindingKind::ForeignQueueName {
                    found.add(finding);
                }
            }
            for queue in self.queues().await? {
                if QueueName::new(queue.as_str()).is_err() || self.namespace.check(&queue).is_err()
                {
                    let (kind, status) = (FindingKind::ForeignQueueName, FindingStatus::Reported);
                    found.add(Finding::new(kind, None, "queues", queue.to_string(), status));
                }
            }
            Ok(found.into_vec())
        })
    }

    fn check_queue<'a>(
        &'a self,
        queue: &'a QueueName,
        page: Option<Checkpoint>,
        repair: RepairScope,
    ) -> Answer<'a, CheckedPage> {
        Box::pin(async move {
            let queue = self.stored(queue);
            let checked = self.answer(self.inner.check_queue(&queue, page, repair)).await?;
            Ok(CheckedPage { findings: self.shown_findings(checked.findings), ..checked })
        })
    }

    fn repair_provable<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<Finding>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            let findings = self.answer(self.inner.repair_provable(&queue)).await?;
            Ok(self.shown_findings(findings))
        })
    }
}

impl Groups for NamespacedBroker {
    fn ready_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limits: &'a GroupLimits,
        cursor: u64,
    ) -> Answer<'a, ReadyGroups> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.ready_groups(&queue, limits, cursor)).await
        })
    }

    fn claim_group<'a>(
        &'a self,
        queue: &'a QueueName,
        group: &'a str,
        limits: &'a GroupLimits,
    ) -> Answer<'a, Option<GroupSet>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            let set = self.answer(self.inner.claim_group(&queue, group, limits)).await?;
            Ok(set.map(|mut set| {
                set.queue = self.shown(&set.queue);
                set.jobs.iter_mut().for_each(|job| self.shown_record(job));
                set
            }))
        })
    }

    fn aggregate<'a>(&'a self, set: &'a GroupSet, job: &'a NewJob) -> Answer<'a, Option<Enqueued>> {
        Box::pin(async move {
            self.namespace.check(&job.record.queue)?;
            let (set, job) = (self.stored_set(set), self.stored_job(job));
            self.answer(self.inner.aggregate(&set, &job)).await
        })
    }

    fn return_set<'a>(&'a self, set: &'a GroupSet) -> Answer<'a, ()> {
        Box::pin(async move {
            let set = self.stored_set(set);
            self.answer(self.inner.return_set(&set)).await
        })
    }

    fn repair_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
    ) -> Answer<'a, RepairedGroups> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.repair_groups(&queue, limit)).await
        })
    }
}
