//! Our log lines in an application without a `tracing` subscriber: they go to standard error,
//! without waiting for a reader. Standard output belongs to the application.
//!
//! An application with a subscriber of its own gets our lines there, at the level and in the
//! form it wants, and nothing is printed here. `jobqueue.log_to_stderr = false` switches it
//! off. Only lines with the target `rocket_jobqueue` are printed: other crates log as they did
//! before.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt};

use super::stderr;

/// Prints our lines from level info on, unless the application has a subscriber.
pub(super) fn to_stderr_unless_taken() {
    if tracing::dispatcher::has_been_set() {
        return;
    }
    let lines = fmt::layer()
        .with_writer(stderr::writer())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_filter(Targets::new().with_target("rocket_jobqueue", LevelFilter::INFO));
    let subscriber = tracing_subscriber::registry().with(lines);
    // Fails only if a subscriber was set in the meantime, which serves as well.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
