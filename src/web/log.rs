//! Where our log lines go in an application that has no subscriber: to standard
//! error, without waiting for whoever reads it. Rocket itself writes everything to standard
//! output.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt};

use super::stderr;

/// Our lines from level info on, where nobody else takes them.
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
    // Lost only to somebody who set one meanwhile, which is as good.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
