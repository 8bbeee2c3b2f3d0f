//! A producer without a Rocket application: for scripts, other frameworks and tests.

use rocket::figment::Figment;

use super::fairing::redis_store;
use crate::client::Client;
use crate::config::{Config, Store, process_env};
use crate::error::Error;

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
        let cwd = std::env::current_dir().map_err(|error| {
            Error::config(format!("the current folder cannot be read: {error}"))
        })?;
        let config = Config::load(figment, &Figment::new(), &process_env, &cwd)?;
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
}
