//! The audit log: a list of JSON texts, the newest first, cut to its maximum with each entry. Each
//! application has a key of its own, so a namespace sees no other's.

use super::reply::Reply;
use super::{RedisBroker, keys};
use crate::broker::{Answer, Audit, AuditEntry, MAX_AUDIT_ENTRIES};
use crate::pool::Repeat;

impl Audit for RedisBroker {
    fn add_audit<'a>(&'a self, namespace: &'a str, entry: &'a AuditEntry) -> Answer<'a, ()> {
        Box::pin(async move {
            let key = Vec::from(keys::audit(namespace));
            self.command(Repeat::Never, "LPUSH", &[key.clone(), entry.encode()]).await?;
            let last = (MAX_AUDIT_ENTRIES - 1).to_string();
            self.command(Repeat::Safe, "LTRIM", &[key, b"0".into(), last.into()]).await?;
            Ok(())
        })
    }

    fn audit<'a>(
        &'a self,
        namespace: &'a str,
        skip: usize,
        most: usize,
    ) -> Answer<'a, Vec<AuditEntry>> {
        Box::pin(async move {
            if most == 0 || skip >= MAX_AUDIT_ENTRIES {
                return Ok(Vec::new());
            }
            let last = skip.saturating_add(most - 1).min(MAX_AUDIT_ENTRIES - 1);
            let range = [
                Vec::from(keys::audit(namespace)),
                skip.to_string().into(),
                last.to_string().into(),
            ];
            let mut found = Reply::new(self.command(Repeat::Safe, "LRANGE", &range).await?)?;
            let mut entries = Vec::new();
            while !found.is_empty() {
                // Another program may have written there.
                entries.extend(AuditEntry::decode(&found.bytes()?));
            }
            Ok(entries)
        })
    }
}
