//! Checks that the store keeps jobs and that its data has a format that this version knows.
//!
//! At launch, a store that may evict jobs or that holds a newer format stops the launch. From
//! then on the check is repeated every few seconds, because settings change and servers are
//! replaced. It then only logs and makes the process not ready; a running worker is never
//! stopped for it.
//!
//! Readiness is the right signal for that: a load balancer sends new requests elsewhere, while jobs
//! that are in the store are still worked on. [`StoreCheck::objection`] says why, in words that
//! clients may see.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::broker::{Broker, Eviction, StoreInfo, Support};
use crate::error::Error;
use crate::sync::lock;

/// How long the launch waits for the store. If it does not answer, the launch goes on: the same
/// check follows as soon as it does, and then makes the process not ready.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(2);

/// What to do about a store that may evict jobs, for messages.
const EVICTION_FIX: &str = "Set maxmemory-policy to noeviction on the server (or its parameter group), or \
                   permit it: jobqueue.allow_eviction = true";

/// What the last check found, and whether the store may evict jobs.
#[derive(Default)]
pub(crate) struct StoreCheck {
    allow_eviction: bool,
    seen: Mutex<LoggedFacts>,
}

/// What has been logged already.
#[derive(Default)]
struct LoggedFacts {
    /// Name and version of each server.
    programs: Vec<String>,
    /// What the store evicts when its memory is full.
    eviction: Eviction,
    /// The format of the store's data, if this version does not know it.
    unknown_format: Option<String>,
}

impl StoreCheck {
    /// A check that accepts a store that may evict jobs, or does not.
    pub(crate) fn new(allow_eviction: bool) -> Self {
        Self { allow_eviction, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, LoggedFacts> {
        lock(&self.seen)
    }

    /// Checks once, before anything runs. A store that cannot be reached within 2 s, or does not
    /// reveal its settings, passes.
    ///
    /// # Errors
    /// [`Error::is_config`] if it may evict jobs or holds data of a newer format: the launch
    /// stops.
    pub(super) async fn at_launch(&self, broker: &dyn Broker) -> Result<(), Error> {
        let Ok(Ok(store)) = tokio::time::timeout(LAUNCH_TIMEOUT, broker.store()).await else {
            return Ok(());
        };
        if let Eviction::Jobs(policy) = store.eviction()
            && !self.allow_eviction
        {
            return Err(Error::config(format!(
                "{} evicts jobs when its memory is full (maxmemory is set, maxmemory-policy is \
                 {policy}): acknowledged jobs vanish. {EVICTION_FIX}",
                store.description
            )));
        }
        self.note(&store);
        let format = tokio::time::timeout(LAUNCH_TIMEOUT, broker.unknown_format()).await;
        if let Ok(Ok(Some(found))) = format {
            let place = &store.description;
            return Err(Error::config(format!("{place} {}", of_another_version(&found))));
        }
        Ok(())
    }

    /// Checks again and logs what has changed. A store that does not answer changes nothing
    /// here: the probe of readiness notices that.
    pub(crate) async fn look(&self, broker: &dyn Broker) {
        if let Ok(store) = broker.store().await {
            self.note(&store);
        }
        // Other calls report a store that refuses this; its data was readable before.
        if let Ok(format) = broker.unknown_format().await {
            self.note_format(&broker.describe(), format);
        }
    }

    /// Logs a format that this version does not know, and its end.
    fn note_format(&self, place: &str, found: Option<String>) {
        let mut seen = self.seen();
        if seen.unknown_format == found {
            return;
        }
        match &found {
            Some(found) => crate::log::error!(
                "{place} {}. This process goes on, and is not ready",
                of_another_version(found)
            ),
            None => crate::log::info!("{place} holds data of a known format again"),
        }
        seen.unknown_format = found;
    }

    /// Logs new servers and a changed eviction policy.
    fn note(&self, store: &StoreInfo) {
        let (place, programs, eviction) = (&store.description, store.programs(), store.eviction());
        let mut seen = self.seen();
        for (program, support) in &programs {
            if seen.programs.contains(program) {
                continue;
            }
            match support {
                Support::Tested => crate::log::info!("{place} is {program}: tested"),
                Support::Unknown => {
                    crate::log::info!("{place} is {program}: unknown, the tests do not run on it");
                }
                Support::Unsuitable(why) => crate::log::warn!("{place} is {program}, which {why}"),
            }
        }
        // A server that does not reveal its version this time is still the same one.
        if !programs.is_empty() {
            seen.programs = programs.into_iter().map(|(program, _)| program).collect();
        }
        if seen.eviction == eviction {
            return;
        }
        match &eviction {
            Eviction::Jobs(policy) if self.allow_eviction => crate::log::warn!(
                "{place} evicts jobs when its memory is full (maxmemory-policy is {policy}), and \
                 jobqueue.allow_eviction permits it: acknowledged jobs may vanish"
            ),
            Eviction::Jobs(policy) => crate::log::error!(
                "{place} evicts jobs when its memory is full (maxmemory-policy is {policy}): \
                 acknowledged jobs vanish. This process goes on, and is not ready. {EVICTION_FIX}"
            ),
            Eviction::Expiring(policy) => crate::log::warn!(
                "{place} evicts keys that expire when its memory is full (maxmemory-policy is \
                 {policy}): unique locks and idempotency keys may vanish, jobs do not. \
                 noeviction keeps them"
            ),
            Eviction::Nothing => crate::log::info!("{place} does not evict keys any more"),
        }
        seen.eviction = eviction;
    }

    /// Why the process is not ready although the store answers. Safe to show to clients.
    pub(crate) fn objection(&self) -> Option<String> {
        let seen = self.seen();
        if seen.unknown_format.is_some() {
            return Some("the store holds data of a newer version of this library".to_owned());
        }
        match &seen.eviction {
            Eviction::Jobs(policy) if !self.allow_eviction => Some(format!(
                "the store may evict jobs (maxmemory-policy is {policy}): see jobqueue.allow_eviction"
            )),
            _ => None,
        }
    }
}

/// The message about data of a newer format. A version never rewrites data of a later one, so
/// there is nothing to do but to run the later version.
fn of_another_version(format: &str) -> String {
    format!(
        "holds data of format {format:?}, which this version of rocket_jobqueue does not know: a \
         newer one wrote it. Run that version here, or name another Redis"
    )
}
