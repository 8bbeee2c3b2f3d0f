//! Periodic jobs in detail: what happens to missed ticks, and what is known of each.
//!
//! A [`Periodic`](crate::Periodic) job with its [`Schedule`](crate::Schedule) is all that
//! most applications need. This module has [`Missed`], which decides about ticks that no
//! process could enqueue in time; [`PeriodicJobs`], which adds and removes periodic jobs
//! while the application runs; and [`PeriodicJobInfo`], what the store knows of a
//! periodic job whatever process registered it.
//!
//! ```
//! # use rocket_jobqueue::{Job, JobQueue, Periodic};
//! # #[derive(serde::Serialize, serde::Deserialize)] struct Report;
//! # impl Job for Report { const TYPE: &'static str = "report:daily"; }
//! use rocket_jobqueue::periodic::Missed;
//!
//! let nightly = Periodic::new("0 3 * * *", Report).missed(Missed::Once);
//! let queue = JobQueue::fairing().periodic(nightly);
//! ```

pub use crate::broker::{PeriodicJobInfo, PeriodicRun};
pub use crate::job::Missed;
pub use crate::scheduler::{PeriodicJobs, PeriodicRegistration};
