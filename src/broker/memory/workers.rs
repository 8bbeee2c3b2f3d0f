//! What operators ask of the worker processes of this store: in practice of this process.
//!
//! It is not kept across a restart. A process that starts again is another one, and a request to
//! all processes, which would hold for it too, is only as durable as the announcements.

use std::collections::BTreeMap;

use super::MemoryBroker;
use crate::broker::{
    Announcement, Answer, Broker, WorkerChange, WorkerChangeInfo, WorkerName, WorkerRequests,
    WorkerSetting, Workers, hint_for, hint_for_all,
};
use crate::job::JobId;
use crate::time::Timestamp;

/// The newest request of each setting.
type BySetting = BTreeMap<WorkerSetting, WorkerChange>;

/// What operators ask of worker processes.
#[derive(Default)]
pub(super) struct AskedChanges {
    /// By the id of the process.
    of_one: BTreeMap<String, BySetting>,
    /// Of all processes, by their namespace.
    of_all: BTreeMap<String, BySetting>,
}

impl AskedChanges {
    /// What a process reads with its heartbeat.
    pub(super) fn of(&self, who: &Announcement, now: Timestamp) -> WorkerRequests {
        let own = self.of_one.get(&who.server_id);
        WorkerRequests {
            own: own.into_iter().flat_map(BTreeMap::values).cloned().collect(),
            all: Some(self.stored_for_all(&who.details.namespace, now)),
        }
    }

    /// What a viewer sees of it.
    pub(super) fn shown(&self, who: &Announcement, now: Timestamp) -> Vec<WorkerChangeInfo> {
        let WorkerRequests { own, all } = self.of(who, now);
        who.details.changes(&own, &all.unwrap_or_default(), now)
    }

    /// The process has ended.
    pub(super) fn forget(&mut self, server_id: &str) {
        self.of_one.remove(server_id);
    }

    /// The requests of all processes that have not ended.
    fn stored_for_all(&self, namespace: &str, now: Timestamp) -> Vec<WorkerChange> {
        let stored = self.of_all.get(namespace).into_iter().flat_map(BTreeMap::values);
        stored.filter(|change| change.holds(now)).cloned().collect()
    }
}

impl MemoryBroker {
    /// Tells listeners; nobody may be listening.
    fn hint(&self, message: String) {
        let _ = self.shared.cancelled.send(JobId::stored(message.into_bytes()));
    }
}

impl Workers for MemoryBroker {
    fn request_of_one<'a>(
        &'a self,
        who: WorkerName<'a>,
        changes: &'a [WorkerChange],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let now = self.clock.now();
            let mut state = self.state();
            let stored = state.asked.of_one.entry(who.server_id.to_owned()).or_default();
            for change in changes {
                let change = WorkerChange { at: now, for_all: false, ..change.clone() };
                stored.insert(change.setting.clone(), change);
            }
            drop(state);
            self.hint(hint_for(who.server_id));
            Ok(())
        })
    }

    fn request_of_all<'a>(
        &'a self,
        namespace: &'a str,
        changes: &'a [WorkerChange],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let now = self.clock.now();
            let mut state = self.state();
            let stored = state.asked.of_all.entry(namespace.to_owned()).or_default();
            for change in changes {
                let change = WorkerChange { at: now, for_all: true, ..change.clone() };
                match change.until {
                    Some(_) => stored.insert(change.setting.clone(), change),
                    None => stored.remove(&change.setting),
                };
            }
            drop(state);
            self.hint(hint_for_all());
            Ok(())
        })
    }

    fn requests_of_all<'a>(&'a self, namespace: &'a str) -> Answer<'a, Vec<WorkerChange>> {
        Box::pin(async move { Ok(self.state().asked.stored_for_all(namespace, self.now())) })
    }
}
