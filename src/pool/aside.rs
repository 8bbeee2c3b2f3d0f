//! Connections for viewers: a thread of low priority holds them, and a [`Pace`] bounds what goes
//! over them.
//!
//! The thread has a Tokio runtime of its own. It dials, writes, and above all parses the replies,
//! which may have several MB: on the application's runtime a job or a request would wait for
//! that.

use std::future::Future;
use std::sync::Arc;

use redis::Value;
use tokio::runtime::Handle as RuntimeHandle;
use tokio::sync::SemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::pace::Pace;

/// The thread and the pace of a pool for viewers.
pub(super) struct Aside {
    /// `None` if the system has no thread to give: then the caller's runtime does the work.
    runtime: Option<RuntimeHandle>,
    pace: Pace,
    /// Ends the thread.
    _stop: DropGuard,
}

impl Aside {
    pub(super) fn start() -> Arc<Self> {
        let stop = CancellationToken::new();
        let runtime = start_thread(stop.clone())
            .inspect_err(|error| crate::log::warn!("no thread for viewers: {error}"))
            .ok();
        Arc::new(Self { runtime, pace: Pace::new(), _stop: stop.drop_guard() })
    }

    /// Waits until a call may be made; it is on the way until the permit is dropped.
    pub(super) async fn admit(&self) -> Option<SemaphorePermit<'_>> {
        self.pace.admit().await
    }

    /// Pays for the replies to the commands of a call.
    pub(super) fn pay(&self, replies: &[Value]) {
        self.pace.pay(replies);
    }

    /// Runs the work on the thread. Dropping the result aborts it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let Some(runtime) = &self.runtime else { return Some(work.await) };
        let task = tokio_util::task::AbortOnDropHandle::new(runtime.spawn(work));
        task.await.ok()
    }
}

/// Starts the thread; it runs what is spawned on its runtime until `stop`.
fn start_thread(stop: CancellationToken) -> std::io::Result<RuntimeHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name("jobqueue-viewers".into());
    thread.spawn(move || {
        lower_priority();
        runtime.block_on(stop.cancelled());
    })?;
    Ok(handle)
}

/// Lowers the priority of this thread permanently, unless it is lower already. Only on Linux: elsewhere the call would lower
/// the priority of the process.
#[cfg(target_os = "linux")]
pub(crate) fn lower_priority() {
    // Not the lowest: a thread that holds a lock must come to its end beside busy ones.
    const NICE: i32 = 10;
    if rustix::process::getpriority_process(None).is_ok_and(|nice| nice < NICE) {
        // If refused, the work runs at normal priority.
        let _ = rustix::process::setpriority_process(None, NICE);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower_priority() {}
