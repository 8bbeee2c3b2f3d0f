//! Extends the leases of all jobs in job, announces the worker and minds that jobs
//! start, on a thread of its own: handlers that keep every runtime thread busy lose no
//! lease.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::Shared;
use crate::broker::{Announcement, Broker, Extended, host_name};

/// How often a stopping worker looks whether its last job has ended.
const LOOK: Duration = Duration::from_millis(50);

/// How soon a failed extension is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// Starts the thread. Without one (the system is out of threads) the beat runs
/// as a task instead.
pub(super) fn start(shared: Arc<Shared>) -> Option<JoinHandle<()>> {
    let (for_thread, runtime) = (Arc::clone(&shared), Handle::current());
    let of_thread = runtime.clone();
    let spawned = std::thread::Builder::new().name("jobqueue-heartbeat".into()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(own) => own.block_on(beat(for_thread, of_thread)),
            Err(error) => crate::log::error!("the heartbeat has no runtime: {error}"),
        }
    });
    match spawned {
        Ok(thread) => Some(thread),
        Err(error) => {
            crate::log::warn!("no thread for the heartbeat, it shares the runtime: {error}");
            let tasks = shared.tasks.clone();
            tasks.spawn(beat(shared, runtime));
            None
        }
    }
}

async fn beat(shared: Arc<Shared>, runtime: Handle) {
    let broker = shared.broker.detached();
    let called = Arc::new(Notify::new());
    let (hears, calls) = (Arc::clone(&shared), Arc::clone(&called));
    let hearing = broker.hear_cancels(Arc::new(move |id| {
        if hears.in_flight.request_cancel(id) {
            calls.notify_one();
        }
    }));
    tokio::select! {
        () = beat_on(&shared, &*broker, &called) => {}
        () = async { hearing.await; std::future::pending().await } => {}
        () = shared.launcher.mind(&shared, &runtime) => {}
        () = shared.stall.watch(&shared, &broker, &runtime) => {}
    }
}

/// Until the worker has stopped. What is wanted of jobs that were called out comes
/// with the extension of their leases.
async fn beat_on(shared: &Shared, broker: &dyn Broker, called: &Notify) {
    let settings = &shared.settings;
    let mut who = Announcement {
        host: host_name(),
        pid: std::process::id(),
        server_id: uuid::Uuid::new_v4().to_string(),
        concurrency: u32::try_from(settings.concurrency).unwrap_or(u32::MAX),
        queues: settings.queues.clone(),
        strict_priority: settings.strict_priority,
        status: "active",
        started: broker.now(),
        running: Vec::new(),
    };
    let mut was_stopping = false;
    let mut next_beat = Instant::now();
    loop {
        shared.pulse.beat();
        // It comes round for this, and so shows that it can.
        shared.outbox.call();
        let stopping = shared.stop.is_cancelled();
        if stopping && (shared.in_flight.len() == 0 || shared.give_up.is_cancelled()) {
            break;
        }
        if next_beat <= Instant::now() || stopping != was_stopping {
            was_stopping = stopping;
            who.status = if stopping { "stopped" } else { "active" };
            shared.in_flight.end_overdue();
            who.running = shared.in_flight.running();
            let extended = extend(shared, broker).await;
            if extended != Renewal::None
                && let Err(error) = broker.announce(&who).await
            {
                crate::log::debug!("announcing the worker failed: {error:?}");
            }
            // Leases do not wait: a failed extension is tried again soon.
            let all = extended == Renewal::All;
            next_beat = Instant::now() + if all { settings.heartbeat } else { AGAIN };
        }
        // A stopping worker is waited for: look often whether the last job ended.
        let pause = if stopping { LOOK } else { next_beat.duration_since(Instant::now()) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.stop.cancelled(), if !stopping => {}
            () = called.notified() => next_beat = Instant::now(),
        }
    }
    who.status = "closed";
    who.running.clear();
    if tokio::time::timeout(FAREWELL, broker.retire(&who)).await.is_err() {
        crate::log::debug!("the announcement was left to expire");
    }
}

/// How many of the leases the store said something about.
#[derive(Clone, Copy, PartialEq)]
enum Renewal {
    All,
    /// One of the servers of a Cluster hangs, or a queue is being moved.
    Some,
    None,
}

async fn extend(shared: &Shared, broker: &dyn Broker) -> Renewal {
    let extension = shared.in_flight.begin_extending();
    if extension.leases.is_empty() {
        return Renewal::All;
    }
    match broker.extend(&extension.leases).await {
        Ok(extended) => {
            let open = |one: &Extended| matches!(one, Extended::Unknown | Extended::Moving);
            let open = extended.iter().any(open);
            extension.end(extended);
            if open { Renewal::Some } else { Renewal::All }
        }
        Err(error) => {
            crate::log::debug!("extending leases failed: {error:?}");
            Renewal::None
        }
    }
}
