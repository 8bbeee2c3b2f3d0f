//! The stores of a move, by configuration, URL or folder.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rocket::figment::Figment;

use super::fairing::{open_store, redis_store};
use crate::broker::disk::{self, DiskSettings, Durability};
use crate::broker::memory::MemoryBroker;
use crate::broker::{ArchiveSettings, Broker, in_namespace};
use crate::config::{Config, Store, process_env};
use crate::error::Error;
use crate::time::Clock;
use crate::transfer::{Opening, Transfer};

/// How long to wait for a process that still has the folder.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

impl Transfer {
    /// The Redis at this URL, such as `redis://localhost:6379/1`. A Cluster and Sentinels are
    /// named by configuration: [`from_figment`](Self::from_figment).
    ///
    /// # Errors
    /// [`Error::is_config`] for a wrong URL. Nothing is connected yet.
    pub fn redis(url: &str) -> Result<Self, Error> {
        Ok(Self::new(redis_store(&redis_at(url)?)?))
    }

    /// The store in a folder on disk. If there is none, it is made once something is stored in it,
    /// and is empty until then. Needs the feature `disk`.
    ///
    /// # Errors
    /// As when an application opens it: another process has the folder, or its files cannot be
    /// read. If it is not there yet, the first import has these errors.
    pub async fn disk(path: impl AsRef<Path>) -> Result<Self, Error> {
        let settings = DiskSettings {
            path: path.as_ref().to_owned(),
            durability: Durability::Always,
            patience: PATIENCE,
        };
        let path = settings.path.clone();
        let open = move || -> Opening {
            let settings = settings.clone();
            Box::pin(async move {
                let store = disk::open(&settings, Clock::system(), ArchiveSettings::default());
                Ok(Arc::new(store.await?) as Arc<dyn Broker>)
            })
        };
        in_folder(&path, memory(), open).await
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
        if config.jobqueue.store != Store::Disk {
            return Ok(Self::new(open_store(&config).await?));
        }
        let none = in_namespace(memory(), config.jobqueue.namespace.as_ref());
        let config = Arc::new(config);
        let path = config.jobqueue.path.clone();
        let open = move || -> Opening {
            let config = Arc::clone(&config);
            Box::pin(async move { open_store(&config).await })
        };
        in_folder(&path, none, open).await
    }
}

/// The configuration of the Redis at this URL.
///
/// # Errors
/// [`Error::is_config`] for a wrong URL.
pub(super) fn redis_at(url: &str) -> Result<Config, Error> {
    let code = Figment::new().merge(("databases.jobqueue.url", url));
    let code = code.merge(("jobqueue.store", "redis"));
    // No files and no variables: the URL says it all.
    let config = Config::load(&Figment::new(), &code, &|_: &str| None, Path::new("/"));
    config.map_err(|error| error.reworded(about_url))
}

/// A store in a folder: opened now if there is one.
async fn in_folder(
    path: &Path,
    none: Arc<dyn Broker>,
    open: impl Fn() -> Opening + Send + Sync + 'static,
) -> Result<Transfer, Error> {
    match disk::exists(path) {
        true => Ok(Transfer::new(open().await?)),
        false => Ok(Transfer::not_made(format!("on disk in {}", path.display()), none, open)),
    }
}

/// A store without anything.
fn memory() -> Arc<dyn Broker> {
    Arc::new(MemoryBroker::new(Clock::system()))
}

/// An error about a URL without the place in this crate and the key that it was given by.
fn about_url(words: &str) -> String {
    let expected = words.find("expected ").map_or(words, |at| &words[at..]);
    format!("URL of a Redis: {expected}")
}
