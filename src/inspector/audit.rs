//! The audit log: what operators did by REST and pages.

use super::Inspector;
use crate::broker::{AuditEntry, Begin, Cursor, Page};
use crate::error::Error;

impl Inspector {
    /// A page of what operators did by REST and pages, the newest first; at most 1,000 entries are kept,
    /// so pages go by number. An application with a namespace has a log of its own. What the
    /// application's own code does is not in it. One command.
    ///
    /// ```
    /// # use rocket_jobqueue::inspect::Page;
    /// # use rocket_jobqueue::{Error, Inspector};
    /// async fn who_paused(inspector: &Inspector) -> Result<Vec<String>, Error> {
    ///     let newest = inspector.audit(&Page::default()).await?;
    ///     let pauses = newest.into_iter().filter(|entry| entry.action == "queue paused");
    ///     Ok(pauses.filter_map(|entry| entry.actor).collect())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a page by cursor; errors of the store.
    pub async fn audit(&self, page: &Page) -> Result<Vec<AuditEntry>, Error> {
        let Begin::At(skip) = page.begin()? else { return Err(Cursor::foreign()) };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.broker.audit("", skip, page.rows()).await
    }
}
