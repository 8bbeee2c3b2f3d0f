//! The job queue's Redis as a database of `rocket_db_pools`, for applications
//! that want to send it commands of their own. It parses; the pool connects.

use rocket::figment::value::{Dict, Map};
use rocket::figment::{self, Figment, Metadata, Profile, Provider};
use rocket_db_pools::Pool;

use crate::config::{Config, process_env};
use crate::error::Error;
use crate::pool::{Connection as JobQueueConnection, RedisPool};

/// The job queue's Redis as a pool of [`rocket_db_pools`].
///
/// It is configured as the queue is: `databases.jobqueue` with the layers above
/// and below it, but for what the fairing's builder sets. Nothing is dialled
/// before the first command, so an unreachable Redis stops no launch, and a
/// route that names `Connection<Db>` is always reached: its commands fail
/// instead, at once, until Redis is back.
///
/// Commands are those of the `redis` crate, version 1. They share one
/// connection with each other, so blocking ones do not belong here.
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
        // A clone, so that every value still knows which file it came from.
        let whole = figment.clone().merge(Unfocused(figment));
        let config = Config::load(&whole, &Figment::new(), &process_env, &cwd)?;
        RedisPool::new(config.redis).map(Self)
    }

    async fn get(&self) -> Result<JobQueueConnection, Error> {
        Ok(self.0.connection())
    }

    async fn close(&self) {
        // The connection ends with the last clone.
    }
}

/// `rocket_db_pools` hands out what is below `databases.jobqueue`; the
/// configuration is read from the whole.
struct Unfocused<'a>(&'a Figment);

impl Provider for Unfocused<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named("databases.jobqueue")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let below = |(profile, mut dict): (Profile, Dict)| {
            // Defaults that `rocket_db_pools` adds for pools of other makes.
            dict.retain(|key, _| key != "max_connections" && key != "connect_timeout");
            let databases = Dict::from([("jobqueue".to_owned(), dict.into())]);
            (profile, Dict::from([("databases".to_owned(), databases.into())]))
        };
        Ok(self.0.data()?.into_iter().map(below).collect())
    }
}
