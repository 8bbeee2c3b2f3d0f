//! The end of ignition: the queue becomes a part of the Rocket instance.

use std::any::Any;

use rocket::fairing::{self, Fairing, Info, Kind};
use rocket::{Build, Rocket};

use crate::config::Config;
use crate::registry::Need;
use crate::web::guards::Hooks;
use crate::web::login::Login;
use crate::web::on_success::Departure;
use crate::web::schemas::Schemas;
use crate::web::{JobQueue, log, routes, stderr};

/// What ignition has made, to be attached.
pub(super) struct Ignited {
    pub(super) queue: JobQueue,
    pub(super) hooks: Hooks,
    /// The login with a token, if the application is developed and has no guard.
    pub(super) login: Option<Login>,
    pub(super) schemas: Schemas,
    pub(super) config: Config,
    /// Only the health routes are mounted, on a port of their own.
    pub(super) worker_only: bool,
}

impl Ignited {
    /// Mounts the routes and manages the state.
    pub(super) fn attach_to(self, mut rocket: Rocket<Build>) -> Rocket<Build> {
        // Rocket counts its grace period from the signal, so the drain is part of it: with a
        // short one, a connection open after a long drain would fail the shutdown.
        let drain = self.config.jobqueue.shutdown_timeout.as_secs().saturating_add(2);
        let drain = u32::try_from(drain).unwrap_or(u32::MAX);
        let grace = rocket.figment().extract_inner::<u32>("shutdown.grace").unwrap_or(2);
        if self.config.jobqueue.worker && grace < drain {
            let figment = rocket.figment().clone().merge(("shutdown.grace", drain));
            rocket = rocket.configure(figment);
        }
        if self.worker_only {
            let port = self.config.jobqueue.port;
            let figment = rocket.figment().clone().merge(("port", port));
            rocket = rocket.configure(figment);
        }
        let needs = self.queue.runtime().registry().needs();
        let registry = self.queue.runtime().registry().clone();
        if let Some(login) = self.login {
            rocket = rocket.manage(login);
        }
        routes::mount(rocket, &self.config.jobqueue, &registry, self.worker_only)
            .manage(self.schemas)
            .manage(StopOnDrop(self.queue.clone()))
            .manage(self.queue)
            .manage(self.hooks)
            .attach(StateCheck(needs))
    }
}

/// Stops the worker when the application is dropped without a shutdown, for which Rocket runs
/// no fairing: otherwise tests would leave workers behind.
struct StopOnDrop(JobQueue);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.runtime().abandon();
    }
}

/// Runs after the fairings that manage state, and stops the launch if a handler names state that
/// the application does not manage.
struct StateCheck(Vec<Need>);

#[rocket::async_trait]
impl Fairing for StateCheck {
    fn info(&self) -> Info {
        Info { name: "Job queue: state of handlers", kind: Kind::Ignite | Kind::Singleton }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> fairing::Result {
        let missing = self.0.iter().find(|need| (need.load)(&rocket as &dyn Any).is_none());
        // All other fairings are attached by now, so this one is the last to see a response.
        let Some(need) = missing else { return Ok(rocket.attach(Departure)) };
        log::to_stderr_unless_taken();
        crate::log::error!(
            "the job queue cannot start: a handler names `Managed<{name}>`, but the application \
             does not manage a `{name}`: add `.manage(…)` with one",
            name = need.name
        );
        stderr::flush();
        Err(rocket)
    }
}
