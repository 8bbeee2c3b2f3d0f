//! Renews the leases of all jobs in flight and announces the worker.
//!
//! The heartbeat has a thread with a single-threaded Tokio runtime of its own, and its own
//! connections to the store. Handlers that block every thread of the application therefore
//! lose no lease. Four things run on that thread:
//!
//! - the beat itself: at each interval it renews the leases in one batch and announces the
//!   worker with its running jobs, in Asynq's format. The reply to the announcement has what
//!   operators ask of this worker ([`live`](super::live));
//! - the subscription to cancel requests. A request makes the next beat come at once; the
//!   answer to the renewal says what is to happen to the job;
//! - the [watch over starts](super::launcher::Launcher::watch);
//! - the [stall watch](super::stall), which gives back and settles jobs while the
//!   application's runtime stands still.
//!
//! A beat that fails is repeated after [`RETRY_INTERVAL`], not after a whole interval: leases go on
//! expiring. With a lease of 30 s and a beat every 5 s, every lease survives an outage of 25 s. The
//! thread ends when the worker stops and nothing is in flight, or when the worker gives up on
//! settling.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::WorkerShared;
use super::live::Requests;
use crate::broker::{
    Announcement, Broker, Extended, WorkerDetails, WorkerState, hint_for, hint_for_all, host_name,
};

/// How often a stopping worker checks whether its last job has ended.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Pause after a beat in which a lease could not be renewed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long withdrawing the announcement may take at shutdown. It expires anyway.
const RETIRE_TIMEOUT: Duration = Duration::from_millis(500);

/// Starts the heartbeat's thread. If the system has no thread to give, the heartbeat runs
/// as a task of the application's runtime.
pub(super) fn start(shared: Arc<WorkerShared>) -> Option<JoinHandle<()>> {
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

/// Runs everything that belongs on the heartbeat's thread until the worker has stopped.
async fn beat(shared: Arc<WorkerShared>, runtime: Handle) {
    let broker = shared.broker.detached();
    let cancelled = Arc::new(Notify::new());
    let (hears, notifies) = (Arc::clone(&shared), Arc::clone(&cancelled));
    let server_id = crate::chance::server_id();
    let hints = [hint_for(&server_id), hint_for_all()];
    let needs_request = broker.cancel_needs_request();
    let hearing = broker.hear_cancels(Arc::new(move |id| {
        let is_heard = match needs_request {
            // The renewal of the lease brings the request, if it is for this job.
            true => hears.in_flight.has_id(id),
            false => hears.in_flight.request_cancel(id),
        };
        // The reply to the announcement brings the request.
        if is_heard || hints.iter().any(|hint| hint == id) {
            notifies.notify_one();
        }
    }));
    tokio::select! {
        () = beat_on(&shared, &*broker, server_id, &cancelled) => {}
        () = async { hearing.await; std::future::pending().await } => {}
        () = shared.launcher.watch(&shared, &runtime) => {}
        () = shared.stall.watch(&shared, &broker, &runtime) => {}
    }
}

/// Beats until the worker has stopped. `hint` is notified when a job in flight gets a cancel
/// request, or the worker another one.
///
/// The announcement follows the renewal: leases matter more than display, and if the store does
/// not answer the renewal, the announcement is not tried.
async fn beat_on(shared: &WorkerShared, broker: &dyn Broker, server_id: String, hint: &Notify) {
    let settings = &shared.settings;
    let mut who = Announcement {
        host: host_name(),
        pid: std::process::id(),
        server_id,
        concurrency: u32::try_from(settings.concurrency).unwrap_or(u32::MAX),
        queues: settings.queues.clone(),
        strict_priority: settings.strict_priority,
        status: "active",
        started: broker.now(),
        running: Vec::new(),
        details: configured(shared),
    };
    let mut requests = Requests::default();
    let mut was_stopping = false;
    let mut next_beat = Instant::now();
    loop {
        shared.pulse.beat();
        // The dispatcher begins a round for this and so proves that it still runs.
        shared.outbox.wake_dispatcher();
        let stopping = shared.stop.is_cancelled();
        if stopping && (shared.in_flight.len() == 0 || shared.give_up.is_cancelled()) {
            break;
        }
        if next_beat <= Instant::now() || stopping != was_stopping {
            was_stopping = stopping;
            shared.in_flight.end_overdue();
            describe(shared, &mut who, &mut requests, stopping);
            let extended = extend(shared, broker).await;
            if extended != Renewal::None {
                match broker.announce(&who).await {
                    Ok(stored) => requests.learn(stored),
                    Err(error) => {
                        crate::log::debug!("the worker could not be announced: {error:?}");
                    }
                }
            }
            // Also without an answer: a change may have ended.
            let (live, slots) = (&shared.live, &shared.slots);
            if requests.apply(live, settings, slots, broker.now()) {
                crate::log::info!(
                    quiet = live.is_quiet(),
                    concurrency = slots.wanted(),
                    "an operator changed this worker"
                );
                shared.outbox.wake_dispatcher();
            }
            live.set_ready();
            let all = extended == Renewal::All;
            next_beat = Instant::now() + if all { settings.heartbeat } else { RETRY_INTERVAL };
        }
        let pause =
            if stopping { STOP_CHECK_INTERVAL } else { next_beat.duration_since(Instant::now()) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.stop.cancelled(), if !stopping => {}
            () = hint.notified() => next_beat = Instant::now(),
            // Announced at once, so that a viewer sees what was applied, and that it has drained.
            () = shared.live.has_news() => next_beat = Instant::now(),
        }
    }
    who.status = "closed";
    who.running.clear();
    if tokio::time::timeout(RETIRE_TIMEOUT, broker.retire(&who)).await.is_err() {
        crate::log::debug!("the worker's announcement was left to expire");
    }
}

/// What a worker tells besides that never changes.
fn configured(shared: &WorkerShared) -> WorkerDetails {
    let settings = &shared.settings;
    WorkerDetails {
        configured_concurrency: u32::try_from(settings.concurrency).unwrap_or(u32::MAX),
        concurrency_max: u32::try_from(settings.concurrency_max).unwrap_or(u32::MAX),
        configured_queues: settings.queues.clone(),
        version: settings.version.as_ref().map(|version| version.as_str().to_owned()),
        ..WorkerDetails::default()
    }
}

/// Brings the announcement up to date. As in Asynq, a worker that dequeues nothing is `stopped`.
fn describe(
    shared: &WorkerShared,
    who: &mut Announcement,
    requests: &mut Requests,
    stopping: bool,
) {
    let live = &shared.live;
    let quiet = live.is_quiet();
    who.running = shared.in_flight.running();
    who.concurrency = u32::try_from(shared.slots.wanted()).unwrap_or(u32::MAX);
    who.queues = live.queues().as_ref().clone();
    who.status = if stopping || quiet { "stopped" } else { "active" };
    let details = &mut who.details;
    details.applied = requests.applied(live);
    details.in_use = u32::try_from(shared.in_flight.len()).unwrap_or(u32::MAX);
    details.memory = resident_memory();
    // A round trip that has left may still bring jobs.
    let drains = details.in_use > 0 || !live.is_acknowledged();
    details.state = match (stopping, quiet) {
        (true, _) => WorkerState::Stopping,
        (false, false) => WorkerState::Running,
        (false, true) if drains => WorkerState::Draining,
        (false, true) => WorkerState::Quiet,
    };
}

/// The memory of this process in bytes, if the system tells it.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// How many of the leases the store answered for.
#[derive(Clone, Copy, PartialEq)]
enum Renewal {
    /// The next beat comes after a whole interval.
    All,
    /// One server of a Cluster does not answer, or a queue is being moved.
    Some,
    /// The store does not answer.
    None,
}

/// Renews all leases in one call. Settlements that use a lease keep it.
async fn extend(shared: &WorkerShared, broker: &dyn Broker) -> Renewal {
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
            crate::log::debug!("leases could not be renewed: {error:?}");
            Renewal::None
        }
    }
}
