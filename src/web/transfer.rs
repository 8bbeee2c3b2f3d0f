//! The stores of a move, by configuration, URL or folder.

use std::path::Path;
use std::time::Duration;

use rocket::figment::Figment;

use super::fairing::{open_store, redis_store};
use crate::broker::ArchiveSettings;
use crate::broker::disk::{self, DiskSettings, Durability};
use crate::config::{Config, Store, process_env};
use crate::error::Error;
use crate::time::Clock;
use crate::transfer::Transfer;

/// How long to wait for a process that still has the folder.
const PATIENCE: Duration = Duration::from_secs(5);

impl Transfer {
    /// The Redis at this URL, such as `redis://localhost:6379/1`. A Cluster and Sentinels are
    /// named by configuration: [`from_figment`](Self::from_figment).
    ///
    /// # Errors
    /// [`Error::is_config`] for a wrong URL. Nothing is connected yet.
    pub fn redis(url: &str) -> Result<Self, Error> {
        let code = Figment::new().merge(("databases.jobqueue.url", url));
        let code = code.merge(("jobqueue.store", "redis"));
        // No files and no variables: the URL says it all.
        let config = Config::load(&Figment::new(), &code, &|_: &str| None, Path::new("/"))?;
        Ok(Self::new(redis_store(&config)?))
    }

    /// The store in a folder on disk, which is made if it does not exist. Needs the feature
    /// `disk`.
    ///
    /// # Errors
    /// As when an application opens it: another process has the folder, or its files cannot be
    /// read.
    pub async fn disk(path: impl AsRef<Path>) -> Result<Self, Error> {
        let settings = DiskSettings {
            path: path.as_ref().to_owned(),
            durability: Durability::Always,
            patience: PATIENCE,
        };
        let store = disk::open(&settings, Clock::system(), ArchiveSettings::default()).await?;
        Ok(Self::new(std::sync::Arc::new(store)))
    }

    /// The store that an application with this configuration uses: what
    /// [`Client::from_figment`](crate::Client::from_figment) reads.
    ///
    /// # Errors
    /// [`Error::is_config`] for a wrong value, and for a store in memory; as of
    /// [`disk`](Self::disk).
    pub async fn from_figment(figment: &Figment) -> Result<Self, Error> {
        let cwd = std::env::current_dir().map_err(|error| {
            Error::config(format!("the current folder cannot be read: {error}"))
        })?;
        let config = Config::load(figment, &Figment::new(), &process_env, &cwd)?;
        if config.jobqueue.store == Store::Memory {
            return Err(Error::config(
                "jobqueue.store: expected redis or disk, found memory, which belongs to one \
                 process alone",
            ));
        }
        Ok(Self::new(open_store(&config).await?))
    }
}
