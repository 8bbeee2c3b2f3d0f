//! Periodic entries: who has them, what became of them, and one more run.

use std::time::Duration;

use super::Inspector;
use super::actions::MAX_REQUEST_TIME;
use crate::broker::{Begin, Cursor, Enqueued, Page, PeriodicJobInfo, PeriodicRun};
use crate::error::Error;
use crate::job::printable::printable;
use crate::job::{Idempotency, JobId};

/// How long a history lives at least.
const KEPT: Duration = Duration::from_secs(90 * 86_400);

impl Inspector {
    /// The periodic entries that processes tell of, each once, with their next and
    /// last run and the processes that have them; those of Go schedulers too. An
    /// entry of a process that was killed is shown for up to 20 s more. O(entries
    /// of all processes); what cannot be read is left out.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn periodic_jobs(&self) -> Result<Vec<PeriodicJobInfo>, Error> {
        Ok(self.viewer.periodic_jobs(self.broker.periodic_jobs().await?))
    }

    /// A page of the runs of a periodic entry, the newest first. Up to 1000 runs are
    /// kept, so pages go by number. One command, O(log n + rows).
    ///
    /// ```
    /// # use rocket_jobqueue::inspect::Page;
    /// # use rocket_jobqueue::{Error, Inspector};
    /// async fn last_run_of_each(inspector: &Inspector) -> Result<(), Error> {
    ///     let newest = Page::default().size(1)?;
    ///     for entry in inspector.periodic_jobs().await? {
    ///         let runs = inspector.periodic_history(&entry.id, &newest).await?;
    ///         println!("{} {}: {:?}", entry.spec, entry.job_type, runs.first());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a page by cursor; errors of the store.
    pub async fn periodic_history(
        &self,
        periodic_id: &str,
        page: &Page,
    ) -> Result<Vec<PeriodicRun>, Error> {
        let Begin::At(skip) = page.begin()? else { return Err(Cursor::foreign()) };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.broker.periodic_history(periodic_id, skip, page.rows()).await
    }

    /// Enqueues the job of a periodic entry now, whether a tick is due or not, with
    /// a random id; the run appears in the entry's history. No tick is claimed.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if no process has such an entry;
    /// [`Error::is_duplicate`] if a job holds its unique lock; errors of the store. After an
    /// [unknown outcome](Error::is_outcome_unknown) there may be such a job; asked again, it
    /// makes another one.
    pub async fn fire(&self, periodic_id: &str) -> Result<JobId, Error> {
        let entries = self.broker.periodic_jobs().await?;
        let missing =
            || Error::not_found(format!("no process has a periodic entry {periodic_id:?}"));
        // Pages name it in its printable form.
        let is_named = |entry: &PeriodicJobInfo| {
            entry.id == periodic_id
                || printable(entry.id.as_bytes()).as_deref() == Some(periodic_id)
        };
        let entry = entries.into_iter().find(is_named).ok_or_else(missing)?;
        let mut job = entry.job()?;
        // So that the store may be asked again where an answer is lost.
        job.idempotency = Some(Idempotency::of_one_call(MAX_REQUEST_TIME));
        let id = job.record.id.clone();
        match self.broker.enqueue(&[job]).await?.pop() {
            Some(Enqueued::Created { .. } | Enqueued::Replayed { .. }) => {}
            Some(Enqueued::Duplicate { holder }) => {
                return Err(Error::duplicate(format!(
                    "a job of this periodic entry waits or runs already: {holder}"
                ))
                .held_by(holder));
            }
            _ => return Err(Error::id_conflict(format!("there is a job {id} already"))),
        }
        let run = PeriodicRun::new(id.clone(), self.broker.now());
        if let Err(error) = self.broker.record_run(&entry.id, &run, KEPT).await {
            crate::log::warn!("the history of periodic entry {periodic_id} lacks a run: {error:?}");
        }
        Ok(id)
    }
}
