//! A client without a Rocket application: for scripts, other frameworks, tests and the terminal.

use std::path::Path;
use std::sync::Arc;

use rocket::figment::Figment;

use super::fairing::{open_store, redis_store};
use super::transfer::{PATIENCE, redis_at};
use crate::broker::ArchiveSettings;
use crate::broker::disk::{self, DiskSettings, Durability};
use crate::client::{Client, MAX_PAYLOAD};
use crate::config::{Config, JobQueueConfig, Store, process_env};
use crate::error::Error;
use crate::inspector::Inspector;
use crate::time::Clock;

impl Client {
    /// A producer by configuration alone. It reads what the fairing reads: the values of this
    /// figment, the files of `APP_ENV` and `REDIS_JOBQUEUE_ADDR`. It runs no jobs, and connects
    /// with its first call, for which it needs a Tokio runtime.
    ///
    /// ```no_run
    /// use rocket::figment::Figment;
    /// use rocket_jobqueue::{Client, Error};
    ///
    /// # async fn enqueue() -> Result<(), Error> {
    /// // As an application beside this program has it: `Rocket.toml` and `ROCKET_…`.
    /// let client = Client::from_figment(&rocket::Config::figment())?;
    /// // Or without any file.
    /// let figment = Figment::new().merge(("databases.jobqueue.url", "redis://localhost:6379"));
    /// let client = Client::from_figment(&figment)?;
    /// client.enqueue_raw("mail:welcome", Some(br#"{"user":7}"#.to_vec())).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_config`] for a wrong value, and for a store in this process's memory or on its
    /// disk, in which no worker would ever find a job.
    pub fn from_figment(figment: &Figment) -> Result<Self, Error> {
        let config = configured(figment)?;
        let found = match config.jobqueue.store {
            Store::Redis => None,
            Store::Memory => Some("\"memory\", which belongs to this process alone"),
            Store::Disk => Some("\"disk\", which belongs to one process at a time"),
        };
        if let Some(found) = found {
            return Err(Error::config(format!(
                "jobqueue.store: expected a store that a worker can reach, found {found}"
            )));
        }
        Ok(Self::new(redis_store(&config)?, config.jobqueue.max_payload))
    }

    /// The Redis at this URL, such as `redis://localhost:6379/1`, and nothing else: no file and no
    /// variable is read. A Cluster and Sentinels are named by configuration: [`open`](Self::open).
    /// It connects with its first call.
    ///
    /// # Errors
    /// [`Error::is_config`] for a wrong URL.
    pub fn redis(url: &str) -> Result<Self, Error> {
        Ok(Self::new(redis_store(&redis_at(url)?)?, MAX_PAYLOAD))
    }

    /// The store in this folder on disk, for a program that looks and acts while the application is
    /// stopped: the folder belongs to this process until all clones and
    /// [inspectors](Self::inspector) of the client are dropped. Needs the feature `disk`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if the folder has no store: one that is misspelt is not made.
    /// [`Error::is_config`] if another process has it for more than 5 s, or its files cannot be
    /// read.
    pub async fn disk(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        expect_store(&path)?;
        let settings = DiskSettings { path, durability: Durability::Always, patience: PATIENCE };
        let store = disk::open(&settings, Clock::system(), ArchiveSettings::default()).await?;
        Ok(Self::new(Arc::new(store), MAX_PAYLOAD))
    }

    /// The store that an application with this configuration uses, the one on disk included: for
    /// programs that list and act, with an [`inspector`](Self::inspector). It reads what
    /// [`from_figment`](Self::from_figment) reads.
    ///
    /// ```no_run
    /// # use rocket_jobqueue::{Client, Error};
    /// # async fn list() -> Result<(), Error> {
    /// let client = Client::open(&rocket::Config::figment()).await?;
    /// for queue in client.inspector().all_queues().await? {
    ///     println!("{}: {:?}", queue.queue, queue.info.map(|info| info.size));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_config`] for a wrong value, for a store in memory, which belongs to one process
    /// alone, and for a folder that another process has; [`Error::is_not_found`] for a folder
    /// without a store.
    pub async fn open(figment: &Figment) -> Result<Self, Error> {
        let config = configured(figment)?;
        match config.jobqueue.store {
            Store::Redis => {}
            Store::Disk => expect_store(&config.jobqueue.path)?,
            Store::Memory => {
                return Err(Error::config(
                    "jobqueue.store: expected redis or disk, found memory, which belongs to one \
                     process alone",
                ));
            }
        }
        let client = Self::new(open_store(&config).await?, config.jobqueue.max_payload);
        Ok(client.with_max_waiting(config.jobqueue.max_waiting))
    }

    /// An inspector of this client's store, which hides nothing.
    pub fn inspector(&self) -> Inspector {
        Inspector::new(self.broker()).with_max_payload(self.max_payload())
    }

    /// The client's store in one line without credentials, such as `Redis at localhost:6379`.
    pub fn describe(&self) -> String {
        self.broker().describe()
    }
}

impl JobQueueConfig {
    /// The settings that an application with this configuration has, for programs beside it: what
    /// [`Client::open`] reads.
    ///
    /// # Errors
    /// [`Error::is_config`] for a wrong value.
    pub fn from_figment(figment: &Figment) -> Result<Self, Error> {
        Ok(configured(figment)?.jobqueue)
    }
}

/// The configuration of this process: the figment, the files of `APP_ENV`, and variables.
fn configured(figment: &Figment) -> Result<Config, Error> {
    let cwd = std::env::current_dir()
        .map_err(|error| Error::config(format!("the current folder cannot be read: {error}")))?;
    Config::load(figment, &Figment::new(), &process_env, &cwd)
}

/// # Errors
/// [`Error::is_not_found`] if there is no store in this folder.
fn expect_store(path: &Path) -> Result<(), Error> {
    match disk::exists(path) {
        true => Ok(()),
        false => Err(Error::not_found(format!(
            "{}: expected the folder of a store on disk, found none",
            path.display()
        ))),
    }
}
