//! The settings of a queue as Rust types, for applications that read or build them in code.
//!
//! Most applications need none of these names: they write a table in `Rocket.toml`, or call
//! the setters of [`JobQueueFairing`](crate::JobQueueFairing). [`JobQueueConfig`] is the
//! table as it was read, with all defaults; the others are the values of single keys.
//! `docs/configuration.md` lists every key.

pub use crate::broker::disk::Durability;
pub use crate::config::{JobQueueConfig, OnSuccessFailure, Store};
pub use crate::inspector::AlertSettings;
pub use crate::job::{UndecodableJobs, UnknownJobs};
