//! Periodic jobs: which processes have them, their histories, and a run by hand.

use std::time::Duration;

use super::Inspector;
use super::actions::MAX_REQUEST_TIME;
use crate::broker::{Begin, Cursor, Enqueued, Page, PeriodicJobInfo, PeriodicRun};
use crate::error::Error;
use crate::job::printable::printable;
use crate::job::{Idempotency, JobId};

/// Minimum lifetime of a history after its last run.
const MIN_RUN_RETENTION: Duration = Duration::from_secs(90 * 86_400);

impl Inspector {
    /// All announced periodic jobs, each once, with the next and the last run and the
    /// processes that have it, Go schedulers included. The jobs of a process that was killed
    /// stay for up to 20 s. O(jobs of all processes). Unreadable announcements are left out.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn periodic_jobs(&self) -> Result<Vec<PeriodicJobInfo>, Error> {
        Ok(self.viewer.periodic_jobs(self.broker.periodic_jobs().await?))
    }

    /// A page of the runs of a periodic job, the newest first. At most 1,000 runs are kept, so
    /// pages go by number. One command, O(log n + rows).
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

    /// Enqueues the job of a periodic job now, with a random id, whether or not a tick is due.
    /// The run appears in the history, and no tick is claimed.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if no process announces such a periodic job;
    /// [`Error::is_duplicate`] if a job holds its unique lock; errors of the store. After an
    /// [unknown outcome](Error::is_outcome_unknown) the job may exist; a second call makes
    /// another one.
    pub async fn fire(&self, periodic_id: &str) -> Result<JobId, Error> {
        let entries = self.broker.periodic_jobs().await?;
        let missing = || Error::not_found(format!("no process has a periodic job {periodic_id:?}"));
        // Pages name it in its printable form.
        let is_named = |entry: &PeriodicJobInfo| {
            entry.id == periodic_id
                || printable(entry.id.as_bytes()).as_deref() == Some(periodic_id)
        };
        let entry = entries.into_iter().find(is_named).ok_or_else(missing)?;
        let mut job = entry.job()?;
        // So that the call can be repeated if a reply is lost.
        job.idempotency = Some(Idempotency::of_one_call(MAX_REQUEST_TIME));
        let id = job.record.id.clone();
        match self.broker.enqueue(&[job]).await?.pop() {
            Some(Enqueued::Created { .. } | Enqueued::Replayed { .. }) => {}
            Some(Enqueued::Duplicate { holder }) => {
                return Err(Error::duplicate(format!(
                    "a job of this periodic job is already waiting or running: {holder}"
                ))
                .held_by(holder));
            }
            _ => return Err(Error::id_conflict(format!("there is a job {id} already"))),
        }
        let run = PeriodicRun::new(id.clone(), self.broker.now());
        if let Err(error) = self.broker.record_run(&entry.id, &run, MIN_RUN_RETENTION).await {
            crate::log::warn!("the history of periodic job {periodic_id} lacks a run: {error:?}");
        }
        Ok(id)
    }
}
