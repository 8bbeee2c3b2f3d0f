//! Moving the contents of a namespace, under the names that its application uses.
//!
//! So a move takes only what belongs to the application, and may end in another namespace or in
//! none: the export removes the prefix, and the import on the other side adds its own.
//!
//! What may surprise. An export reads the whole store, whatever the share of this application in
//! it; entries of others are dropped page by page. A name that does not fit behind the new
//! namespace is a conflict of that entry and stops no other.

use super::NamespacedBroker;
use crate::broker::{Answer, Entry, Export, Imported, Transfer};
use crate::job::{Namespace, QueueName};

/// The entry under other names. `None` if one of its names cannot be mapped: it belongs to another
/// application, or does not fit.
fn renamed(
    mut entry: Entry,
    queue_name: impl Fn(&QueueName) -> Option<QueueName>,
    text: impl Fn(&str) -> Option<String>,
) -> Option<Entry> {
    match &mut entry {
        Entry::Job(job) => job.record.queue = queue_name(&job.record.queue)?,
        Entry::Queue { queue, .. }
        | Entry::Unreadable { queue, .. }
        | Entry::Lock { queue, .. }
        | Entry::Claim { queue, .. }
        | Entry::Day { queue, .. }
        | Entry::Minute { queue, .. } => *queue = queue_name(queue)?,
        Entry::Request { queue, key, .. } | Entry::KeyQueue { queue, key, .. } => {
            *queue = queue_name(queue)?;
            *key = text(key)?;
        }
        Entry::Runs { periodic_id, .. } => *periodic_id = text(periodic_id)?,
    }
    Some(entry)
}

/// An export of the whole store, reduced to one namespace. Pages without anything of it are
/// skipped.
struct NamespacedExport {
    inner: Box<dyn Export>,
    namespace: Namespace,
}

impl Export for NamespacedExport {
    fn next_page(&mut self) -> Answer<'_, Option<Vec<Entry>>> {
        Box::pin(async move {
            while let Some(page) = self.inner.next_page().await? {
                let shown = |entry| {
                    renamed(
                        entry,
                        |queue| self.namespace.shown(queue),
                        |text| self.namespace.shown_text(text).map(str::to_owned),
                    )
                };
                let own: Vec<_> = page.into_iter().filter_map(shown).collect();
                if !own.is_empty() {
                    return Ok(Some(own));
                }
            }
            Ok(None)
        })
    }
}

impl Transfer for NamespacedBroker {
    fn foreign_format(&self) -> Answer<'_, Option<String>> {
        self.inner.foreign_format()
    }

    /// Reads the whole store, and leaves out what belongs to other applications.
    fn export(&self) -> Box<dyn Export> {
        let (inner, namespace) = (self.inner.export(), self.namespace.clone());
        Box::new(NamespacedExport { inner, namespace })
    }

    /// An entry whose queue name is too long together with the namespace is a conflict. The results
    /// keep the order of the entries.
    fn import<'a>(&'a self, entries: &'a [Entry], dry_run: bool) -> Answer<'a, Vec<Imported>> {
        Box::pin(async move {
            let stored = |entry: &Entry| {
                let queue = |queue: &QueueName| {
                    self.namespace.check(queue).ok().map(|()| self.stored(queue))
                };
                renamed(entry.clone(), queue, |text| Some(self.namespace.stored_text(text)))
            };
            let stored: Vec<_> = entries.iter().map(stored).collect();
            let fitting: Vec<_> = stored.iter().flatten().cloned().collect();
            let mut results = self.answer(self.inner.import(&fitting, dry_run)).await?.into_iter();
            let each = entries.iter().zip(&stored).map(|(entry, stored)| match stored {
                Some(_) => results.next().unwrap_or(Imported::AlreadyThere),
                None => self.too_long(entry),
            });
            Ok(each.collect())
        })
    }
}

impl NamespacedBroker {
    /// What an entry of a queue becomes whose name is too long here.
    fn too_long(&self, entry: &Entry) -> Imported {
        let Some(queue) = entry.queue() else { return Imported::AlreadyThere };
        match self.namespace.check(queue) {
            Ok(()) => Imported::AlreadyThere,
            Err(error) => Imported::Conflict(format!("queue \"{queue}\": {error}")),
        }
    }
}
