//! The handlers of a process, by job type.
//!
//! Only here do jobs lose their types: above it a job is a value of the
//! application's type, below it a job is a stored name and bytes. A handler is an
//! application's function; [`IntoEntry::entry`] erases its types into a [`HandlerEntry`], which the
//! worker finds by job type.
//!
//! An attempt decodes the payload, takes the handler's other parameters from the context
//! ([`FromContext`]) and runs the function inside its [middleware](JobMiddleware). A payload
//! that cannot be decoded is parked or fails the attempt, by `jobqueue.undecodable_jobs`.
//!
//! Everything that can be wrong with a handler is found at launch: a type with two handlers, a
//! default queue with a name that is not allowed, and a [`Need`] for state that the application
//! does not manage. So no job is lost to a mistake that shows only when it runs.
//!
//! What may surprise. A job type without a handler in this process is not an error here: another
//! process may have it. The worker decides what to do with such a job.

mod app_state;
mod blocking;
mod customize;
mod handler;
mod middleware;
mod pace;
mod tally;
mod unmarshal;

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Error;
use crate::job::{JobContext, QueueName, TypeRecord};
pub use app_state::{AppState, FromContext, Need};
pub use blocking::IntoBlockingEntry;
pub use customize::JobHandler;
pub use handler::{HandlerEntry, IntoEntry};
pub(crate) use handler::{RunningAttempt, raw_entry};
pub use middleware::{JobMiddleware, JobResult, Layer, Next};
pub(crate) use tally::{Attempts, EndedAttempt};
pub(crate) use unmarshal::unmarshal_text;

/// The handlers of one process, and the middleware around all of them.
#[derive(Clone)]
pub struct Registry {
    entries: HashMap<String, HandlerEntry>,
    /// Middleware of all handlers, outermost first.
    layers: Arc<[Layer]>,
    #[cfg(feature = "metrics")]
    attempts: crate::metrics::Attempts,
}

/// The names of the job types.
impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registry").field(&self.entries.keys()).finish()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            layers: Arc::from([]),
            #[cfg(feature = "metrics")]
            attempts: Default::default(),
        }
    }
}

/// What a process has counted of a job type since its last report.
pub(crate) struct TypeCounts {
    pub(crate) job_type: String,
    pub(crate) record: TypeRecord,
    pub(crate) remembered: Attempts,
}

impl Registry {
    /// Adds a handler.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a blank type, a second handler of one type, or
    /// a default queue whose name is not allowed.
    pub fn add(&mut self, entry: HandlerEntry) -> Result<(), Error> {
        let name = &entry.job_type;
        if name.trim().is_empty() {
            return Err(Error::invalid("job type: expected a name, found a blank"));
        }
        QueueName::new(&entry.options.queue)
            .map_err(|error| Error::invalid(format!("job type {name:?}: {error}")))?;
        if self.entries.contains_key(name) {
            return Err(Error::invalid(format!("job type {name:?} has two handlers")));
        }
        let name = name.clone();
        #[cfg(feature = "metrics")]
        let entry = HandlerEntry { stopwatch: Some(self.attempts.of(&name)), ..entry };
        self.entries.insert(name, entry);
        Ok(())
    }

    /// Takes what was counted of each job type since the last time.
    pub(crate) fn take_counts(&self) -> Vec<TypeCounts> {
        let counts = |entry: &HandlerEntry| {
            let (record, remembered) = entry.tally.take()?;
            Some(TypeCounts { job_type: entry.job_type.clone(), record, remembered })
        };
        self.entries.values().filter_map(counts).collect()
    }

    /// Puts back what could not be reported.
    pub(crate) fn put_back(&self, counts: TypeCounts) {
        if let Some(entry) = self.get(&counts.job_type) {
            entry.tally.put_back(&counts.record, counts.remembered);
        }
    }

    /// Durations of the attempts of all types.
    #[cfg(feature = "metrics")]
    pub(crate) fn attempts(&self) -> &crate::metrics::Attempts {
        &self.attempts
    }

    /// Sets the middleware around all handlers, outermost first. Replaces what was set before.
    pub(crate) fn surround(&mut self, layers: Vec<Layer>) {
        self.layers = layers.into();
    }

    /// All handlers, sorted by job type.
    pub(crate) fn entries(&self) -> Vec<&HandlerEntry> {
        let mut entries: Vec<&HandlerEntry> = self.entries.values().collect();
        entries.sort_by_key(|entry| &entry.job_type);
        entries
    }

    /// The handler of a job type, if this process has one.
    pub(crate) fn get(&self, job_type: &str) -> Option<&HandlerEntry> {
        self.entries.get(job_type)
    }

    /// An attempt of this handler, inside all its middleware: a future that does nothing until it
    /// is polled. Without middleware the payload has been decoded when this returns.
    pub(crate) fn run(
        &self,
        entry: &HandlerEntry,
        context: JobContext,
        state: &Arc<AppState>,
    ) -> RunningAttempt {
        let next = Next {
            layers: [Arc::clone(&self.layers), Arc::clone(&entry.layers)],
            entered: 0,
            run: Arc::clone(&entry.run),
            context,
            state: Arc::clone(state),
        };
        next.attempt()
    }

    /// The values that handlers and middleware need from the application, each once.
    pub(crate) fn needs(&self) -> Vec<Need> {
        let of_all = self.layers.iter().flat_map(|layer| layer.needs.clone());
        let of_each = self.entries.values().flat_map(|entry| entry.needs.clone());
        let mut needs: Vec<Need> = of_all.chain(of_each).collect();
        needs.sort_by_key(|need| need.name);
        needs.dedup_by_key(|need| need.id);
        needs
    }
}
