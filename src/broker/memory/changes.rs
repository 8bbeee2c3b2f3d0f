//! What changed in a queue since its rows were written: nothing is noted, and nothing is
//! spent, unless the store is kept on disk.

use std::collections::HashMap;

use super::queue::StoredJob;
use crate::job::JobId;

/// Keys of entries that changed; `None` while nobody wants to know.
pub(super) struct Changes<K>(Option<Vec<K>>);

impl<K> Default for Changes<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K> Changes<K> {
    /// Notes changes from now on.
    pub(super) fn watch(&mut self) {
        self.0.get_or_insert_default();
    }

    /// Whether changes are noted.
    pub(super) fn watched(&self) -> bool {
        self.0.is_some()
    }

    /// Notes a change.
    pub(super) fn note(&mut self, key: impl FnOnce() -> K) {
        if let Some(changed) = &mut self.0 {
            changed.push(key());
        }
    }

    /// The changes noted since the last call.
    pub(super) fn take(&mut self) -> Vec<K> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// The rows that a job has on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// The whole job, as it was enqueued or edited.
    pub(super) job: bool,
    /// What changed since then.
    pub(super) state: bool,
    /// Whether the job is noted as changed already.
    pub(super) noted: bool,
}

/// The jobs of a queue by id. Each way to change one notes it.
#[derive(Default)]
pub(super) struct Jobs {
    /// A job is large, and the map moves its entries when it grows.
    by_id: HashMap<JobId, Box<StoredJob>>,
    /// Changed jobs, and the rows that those had which were taken out.
    pub(super) changed: Changes<(JobId, Saved)>,
}

impl Jobs {
    pub(super) fn get(&self, id: &JobId) -> Option<&StoredJob> {
        self.by_id.get(id).map(Box::as_ref)
    }

    /// The job, to be changed.
    pub(super) fn get_mut(&mut self, id: &JobId) -> Option<&mut StoredJob> {
        let stored = self.by_id.get_mut(id)?;
        note(&mut self.changed, id, stored);
        Some(stored)
    }

    /// The job, to change what is not kept on disk: the end of its lease, and what `Saved` says.
    pub(super) fn get_unnoted(&mut self, id: &JobId) -> Option<&mut StoredJob> {
        self.by_id.get_mut(id).map(Box::as_mut)
    }

    pub(super) fn insert(&mut self, id: JobId, mut stored: Box<StoredJob>) {
        note(&mut self.changed, &id, &mut stored);
        self.by_id.insert(id, stored);
    }

    pub(super) fn remove(&mut self, id: &JobId) -> Option<Box<StoredJob>> {
        let mut stored = self.by_id.remove(id)?;
        if self.changed.watched() {
            let saved = stored.saved;
            self.changed.note(|| (id.clone(), saved));
            stored.saved.noted = true;
        }
        Some(stored)
    }

    pub(super) fn contains_key(&self, id: &JobId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&JobId, &StoredJob)> {
        self.by_id.iter().map(|(id, stored)| (id, stored.as_ref()))
    }
}

/// Notes a job as changed, once.
fn note(changed: &mut Changes<(JobId, Saved)>, id: &JobId, stored: &mut StoredJob) {
    if changed.watched() && !stored.saved.noted {
        stored.saved.noted = true;
        changed.note(|| (id.clone(), Saved::default()));
    }
}
