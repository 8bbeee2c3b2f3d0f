//! Requests to the worker processes of one application: queue names in them are its own, and *all*
//! means the processes with its namespace.

use super::NamespacedBroker;
use crate::broker::{
    Answer, ServerInfo, WorkerChange, WorkerDetails, WorkerName, WorkerSetting, Workers,
};
use crate::job::QueueName;

impl NamespacedBroker {
    /// A change with another name of its queue; `None` for a queue of others.
    fn renamed(
        change: WorkerChange,
        name: impl Fn(&QueueName) -> Option<QueueName>,
    ) -> Option<WorkerChange> {
        let setting = match change.setting {
            WorkerSetting::Weight(queue) => WorkerSetting::Weight(name(&queue)?),
            other => other,
        };
        Some(WorkerChange { setting, ..change })
    }

    /// Changes on their way down.
    fn stored_changes(&self, changes: &[WorkerChange]) -> Vec<WorkerChange> {
        let stored =
            |change: &WorkerChange| Self::renamed(change.clone(), |queue| Some(self.stored(queue)));
        changes.iter().filter_map(stored).collect()
    }

    /// Changes on their way up.
    pub(super) fn shown_changes(&self, changes: Vec<WorkerChange>) -> Vec<WorkerChange> {
        let shown = |change| Self::renamed(change, |queue| self.namespace.shown(queue));
        changes.into_iter().filter_map(shown).collect()
    }

    /// What a process of this application tells besides.
    pub(super) fn stored_details(&self, details: &WorkerDetails) -> WorkerDetails {
        let queues = details.configured_queues.iter();
        WorkerDetails {
            configured_queues: queues.map(|(name, one)| (self.stored(name), *one)).collect(),
            namespace: self.namespace.prefix().to_owned(),
            applied: self.stored_changes(&details.applied),
            ..details.clone()
        }
    }

    /// The names in what a process tells besides, as this application knows them.
    pub(super) fn show_details(&self, server: &mut ServerInfo) {
        if let Some(details) = &mut server.details {
            let queues = std::mem::take(&mut details.configured_queues).into_iter();
            let shown = queues.filter_map(|(name, one)| Some((self.namespace.shown(&name)?, one)));
            details.configured_queues = shown.collect();
            details.applied = self.shown_changes(std::mem::take(&mut details.applied));
        }
        server.changes.retain_mut(|change| match &change.queue {
            None => true,
            Some(queue) => {
                change.queue = self.namespace.shown(queue);
                change.queue.is_some()
            }
        });
    }
}

impl Workers for NamespacedBroker {
    fn request_of_one<'a>(
        &'a self,
        who: WorkerName<'a>,
        changes: &'a [WorkerChange],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let changes = self.stored_changes(changes);
            self.answer(self.inner.request_of_one(who, &changes)).await
        })
    }

    /// All processes with this namespace, whatever the caller names.
    fn request_of_all<'a>(&'a self, _: &'a str, changes: &'a [WorkerChange]) -> Answer<'a, ()> {
        Box::pin(async move {
            let changes = self.stored_changes(changes);
            self.answer(self.inner.request_of_all(self.namespace.prefix(), &changes)).await
        })
    }

    fn requests_of_all<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<WorkerChange>> {
        Box::pin(async move {
            let stored = self.inner.requests_of_all(self.namespace.prefix());
            Ok(self.shown_changes(self.answer(stored).await?))
        })
    }
}
