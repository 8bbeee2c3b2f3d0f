//! Limits of a queue: seen, set and removed while jobs run.

use super::Inspector;
use crate::broker::{LimitInfo, LimitKeyPage, LimitUses, MAX_LISTED_KEYS, Page};
use crate::error::Error;
use crate::job::{Limit, QueueName};

impl Inspector {
    /// The limits of a queue by name, each with the jobs that run and wait. A queue without
    /// limits, or one that does not exist, has none. One command without limits; else a script
    /// that looks at 1,000 keys at most.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn limits(&self, queue: &QueueName) -> Result<Vec<LimitInfo>, Error> {
        self.broker.limits(queue).await
    }

    /// The keys of a limit with jobs that run or wait, those with the most waiting jobs first: at
    /// most `most` of them. At most 1,000 keys are looked at, and `more` says whether there are
    /// others. A limit that does not exist has no keys.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn limit_uses(
        &self,
        queue: &QueueName,
        name: &str,
        most: usize,
    ) -> Result<LimitUses, Error> {
        let uses = self.broker.limit_uses(queue, name, most.min(MAX_LISTED_KEYS)).await?;
        Ok(self.viewer.limit_uses(uses))
    }

    /// All keys of a limit with jobs that run or wait, or whose rate is in use, page by page and in
    /// no particular order. In Redis a page costs the same however many keys there are; in memory
    /// and on disk it passes over all of them. While no key comes or goes, each is on exactly one
    /// page. A limit that does not exist has no keys.
    ///
    /// ```
    /// use rocket_jobqueue::inspect::Page;
    /// use rocket_jobqueue::{Error, Inspector, QueueName};
    ///
    /// async fn waiting_accounts(inspector: &Inspector, mail: &QueueName) -> Result<u64, Error> {
    ///     let (mut page, mut waiting) = (Page::default().size(100)?, 0);
    ///     loop {
    ///         let found = inspector.limit_keys(mail, "account", &page).await?;
    ///         waiting += found.keys.iter().filter(|key| key.waiting > 0).count() as u64;
    ///         let Some(next) = found.next else { return Ok(waiting) };
    ///         page = Page::after(next).size(100)?;
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a page by number, except the first, or by the cursor of another
    /// list; errors of the store.
    pub async fn limit_keys(
        &self,
        queue: &QueueName,
        name: &str,
        page: &Page,
    ) -> Result<LimitKeyPage, Error> {
        let mut found = self.broker.limit_keys(queue, name, page).await?;
        self.viewer.limit_keys(&mut found.keys);
        Ok(found)
    }

    /// Sets a limit of a queue, or replaces the one of its name. It holds from the next dequeue of
    /// every process on: jobs that run go on, and a larger limit lets waiting jobs start at once.
    /// One script. In memory and on disk it decides about all pending and waiting jobs of the queue
    /// in one step.
    ///
    /// A limit that the application [declares](crate::JobQueueFairing::limit) is set again at its
    /// next launch.
    ///
    /// ```
    /// use rocket_jobqueue::limits::Limit;
    /// use rocket_jobqueue::{Error, Inspector, QueueName};
    ///
    /// async fn slow_down(inspector: &Inspector, mail: &QueueName) -> Result<(), Error> {
    ///     let limit = Limit::new("smtp").concurrency(2);
    ///     inspector.set_limit(mail, &limit).await
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a limit that [`Limit::check`] refuses, or for more limits than a
    /// queue may have; errors of the store.
    pub async fn set_limit(&self, queue: &QueueName, limit: &Limit) -> Result<(), Error> {
        limit.check()?;
        self.broker.set_limit(queue, limit).await
    }

    /// Removes a limit of a queue; false if there is none of this name. Jobs that waited for it
    /// become pending.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn remove_limit(&self, queue: &QueueName, name: &str) -> Result<bool, Error> {
        self.broker.remove_limit(queue, name).await
    }
}
