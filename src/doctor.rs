//! What [`Inspector::doctor`](crate::Inspector::doctor) finds and repairs.
//!
//! The doctor reads the whole store and the server's settings, and lists a [`Finding`]
//! for everything that faults left behind: a lease without a job, a lock without an
//! owner, a setting that can lose data. Workers repair by themselves, each minute, what
//! is provable; the doctor repairs the rest when asked to. `docs/operations.md` says when
//! to ask.

pub use crate::broker::{Finding, FindingKind, FindingStatus};
pub use crate::inspector::{DoctorReport, DoctorRun};
