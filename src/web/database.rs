//! The job queue's Redis as a database of `rocket_db_pools`, for applications that send it
//! commands of their own. This file reads the configuration; the pool connects.
//!
//! `rocket_db_pools` finds a pool's settings by the name of the database, `jobqueue`, and so
//! looks at `databases.jobqueue` only. The queue's settings may stand in other places too, so
//! the whole configuration is loaded again here. The values that the fairing's builder sets are
//! not known to it.

use rocket::figment::value::{Dict, Map};
use rocket::figment::{self, Figment, Metadata, Profile, Provider};
use rocket_db_pools::Pool;

use crate::config::{Config, Section, process_env};
use crate::error::Error;
use crate::pool::{Connection as JobQueueConnection, RedisPool};

/// The job queue's Redis as a pool of [`rocket_db_pools`].
///
/// It has the configuration of the queue: `databases.jobqueue` with the layers above and below
/// it, except for values set in the fairing's builder. It connects at the first command, so an
/// unreachable Redis does not stop the launch. A route with `Connection<Db>` is always reached;
/// its commands fail at once until Redis is back.
///
/// Commands come from the `redis` crate, version 1. They share one connection, so blocking
/// commands do not belong here.
///
/// ```no_run
/// use rocket::{get, launch, routes};
/// use rocket_db_pools::{Connection, Database};
/// use rocket_jobqueue::JobQueuePool;
///
/// #[derive(Database)]
/// #[database("jobqueue")]
/// struct Db(JobQueuePool);
///
/// #[get("/visits")]
/// async fn visits(mut db: Connection<Db>) -> Result<String, rocket::http::Status> {
///     let visits: Result<u64, _> = redis::cmd("INCR").arg("visits").query_async(&mut *db).await;
///     visits.map(|n| n.to_string()).map_err(|_| rocket::http::Status::ServiceUnavailable)
/// }
///
/// #[launch]
/// fn rocket() -> _ {
///     rocket::build().attach(Db::init()).mount("/", routes![visits])
/// }
/// ```
#[derive(Clone, Debug)]
pub struct JobQueuePool(RedisPool);

#[rocket::async_trait]
impl Pool for JobQueuePool {
    type Connection = JobQueueConnection;
    type Error = Error;

    async fn init(figment: &Figment) -> Result<Self, Error> {
        let cwd = std::env::current_dir().map_err(|error| {
            Error::config(format!("the current folder cannot be read: {error}"))
        })?;
        // A clone keeps the source file of every value, for error messages.
        let whole = figment.clone().merge(Unfocused(figment));
        let config = Config::load_sections(
            &[Section::Connection],
            &whole,
            &Figment::new(),
            &process_env,
            &cwd,
        )?;
        RedisPool::new(config.redis).map(Self)
    }

    async fn get(&self) -> Result<JobQueueConnection, Error> {
        Ok(self.0.connection())
    }

    async fn close(&self) {
        // The connection ends with the last clone.
    }
}

/// `rocket_db_pools` passes the values below `databases.jobqueue`; the configuration is read
/// from the root.
struct Unfocused<'a>(&'a Figment);

impl Provider for Unfocused<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named("databases.jobqueue")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let below = |(profile, mut dict): (Profile, Dict)| {
            // Defaults that `rocket_db_pools` adds for its own pools.
            dict.retain(|key, _| key != "max_connections" && key != "connect_timeout");
            let databases = Dict::from([("jobqueue".to_owned(), dict.into())]);
            (profile, Dict::from([("databases".to_owned(), databases.into())]))
        };
        Ok(self.0.data()?.into_iter().map(below).collect())
    }
}
