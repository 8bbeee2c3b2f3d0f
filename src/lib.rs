//! A production-grade job queue for [Rocket](https://rocket.rs), speaking
//! Asynq's Redis protocol.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod broker;
mod client;
mod config;
pub mod demo;
mod error;
mod inspector;
mod job;
mod pool;
mod registry;
mod runtime;
mod scheduler;
pub mod testing;
mod time;
mod web;
mod worker;

pub use broker::{
    AggregationSet, ArchiveLimit, ArchiveSettings, BrokenJob, ClusterPlace, Cursor, DayStats,
    Defect, EntryInfo, EntryRun, Fate, Finding, FindingKind, GroupInfo, GroupPage, JobInfo,
    JobPage, JobRow, JobWorker, Page, QueueInfo, QueueMemory, QueueSummary, Selection, ServerInfo,
    Servers, StoreInfo, StoreNode, WorkerInfo,
};
pub use client::{Client, Draft, Enqueue, EnqueueAll, MAX_PAYLOAD, Receipt};
pub use config::{JobQueueConfig, Store};
pub use error::Error;
pub use inspector::{Bulk, BulkProgress, Cancelled, CheckUp, Inspector, Report};
pub use job::*;
pub use pool::Connection as JobQueueConnection;
pub use registry::{
    Entry, FromContext, JobHandler, JobMiddleware, JobResult, Layer, Need, Next, State,
};
pub use scheduler::{PeriodicInfo, PeriodicJobs};
pub use time::{Clock, Timestamp};
pub use web::{FieldProblem, JobQueue, JobQueueFairing, JobQueuePool, Managed, ProblemDetails};

/// What the crate's own tests use of its private modules. No promises.
#[doc(hidden)]
pub mod internals {
    pub use crate::broker::memory::MemoryBroker;
    pub use crate::broker::*;
    pub use crate::config::*;
    pub use crate::pool::*;
    pub use crate::registry::*;

    /// An inspector of a store, without an application around it.
    pub fn inspector(broker: std::sync::Arc<dyn Broker>) -> crate::Inspector {
        crate::Inspector::new(broker)
    }
}

/// Compiles the README's example with the other examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
