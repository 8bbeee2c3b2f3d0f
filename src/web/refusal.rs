//! Why a fairing cannot start, logged once. The job queue and the rate limit read the same
//! configuration, so both find the same wrong value.

use std::sync::Mutex;

use rocket::{Build, Rocket};

use super::{log, stderr};
use crate::error::Error;
use crate::sync::lock;

/// Errors of the configuration that have been logged while this instance ignites.
#[derive(Default)]
struct Logged(Mutex<Vec<String>>);

/// Logs that `what` cannot start, unless another fairing has logged the same wrong value.
/// Returns the instance, which a fairing gives back to Rocket as its error.
pub(super) fn refuse(mut rocket: Rocket<Build>, what: &str, error: &Error) -> Rocket<Build> {
    if rocket.state::<Logged>().is_none() {
        rocket = rocket.manage(Logged::default());
    }
    let is_new = rocket.state::<Logged>().is_none_or(|logged| {
        let (mut logged, text) = (lock(&logged.0), error.to_string());
        let is_new = !error.is_config() || !logged.contains(&text);
        logged.push(text);
        is_new
    });
    log::to_stderr_unless_taken();
    if is_new {
        crate::log::error!("{what} cannot start: {error}");
    }
    stderr::flush();
    rocket
}
