//! The audit log in this process' memory. On disk each entry has one of as many rows as entries are
//! kept, so that a new one replaces the oldest.

use std::collections::{BTreeMap, VecDeque};

use super::{MemoryBroker, persist};
use crate::broker::disk::Level;
use crate::broker::{Answer, Audit, AuditEntry, MAX_AUDIT_ENTRIES};

/// The entries of each application by their number, the oldest first.
#[derive(Default)]
pub(super) struct AuditState {
    pub(super) logs: BTreeMap<String, VecDeque<(u64, AuditEntry)>>,
}

impl Audit for MemoryBroker {
    fn add_audit<'a>(&'a self, namespace: &'a str, entry: &'a AuditEntry) -> Answer<'a, ()> {
        Box::pin(async move {
            self.accepts(Level::Durable)?;
            {
                let mut state = self.state();
                let log = state.audit.logs.entry(namespace.to_owned()).or_default();
                let number = log.back().map_or(0, |(number, _)| number + 1);
                log.push_back((number, entry.clone()));
                if log.len() > MAX_AUDIT_ENTRIES {
                    log.pop_front();
                }
                self.keep(|rows| persist::write_audit(namespace, number, entry, rows));
            }
            self.saved(Level::Durable).await
        })
    }

    fn audit<'a>(
        &'a self,
        namespace: &'a str,
        skip: usize,
        most: usize,
    ) -> Answer<'a, Vec<AuditEntry>> {
        Box::pin(async move {
            let state = self.state();
            let log = state.audit.logs.get(namespace).into_iter().flatten().rev();
            Ok(log.skip(skip).take(most).map(|(_, entry)| entry.clone()).collect())
        })
    }
}
