//! The audit log of an application with a namespace: its own, with the names that it knows.

use super::NamespacedBroker;
use crate::broker::{Answer, Audit, AuditEntry};

impl Audit for NamespacedBroker {
    fn add_audit<'a>(&'a self, _: &'a str, entry: &'a AuditEntry) -> Answer<'a, ()> {
        self.inner.add_audit(self.namespace.as_str(), entry)
    }

    fn audit<'a>(&'a self, _: &'a str, skip: usize, most: usize) -> Answer<'a, Vec<AuditEntry>> {
        self.inner.audit(self.namespace.as_str(), skip, most)
    }
}
