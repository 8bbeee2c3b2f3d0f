//! What an [`Inspector`](crate::Inspector) returns and takes: queues, jobs page by page,
//! groups, worker processes, the store itself, and actions on many jobs.
//!
//! Use it for dashboards, maintenance commands and tests of your own. REST and the
//! dashboard are built on the same calls.
//!
//! ```
//! use rocket_jobqueue::inspect::{Page, Selection};
//! use rocket_jobqueue::{Error, Inspector, JobState, QueueName};
//!
//! async fn run_archived(inspector: &Inspector) -> Result<u64, Error> {
//!     let mail = QueueName::new("mail")?;
//!     let page = inspector.jobs(&mail, JobState::Archived, &Page::default()).await?;
//!     println!("{} archived jobs", page.total);
//!     let welcomes = Selection::from(JobState::Archived).of_type("mail:welcome");
//!     Ok(inspector.run_all(&mail, welcomes).await?.done)
//! }
//! ```

pub use crate::broker::{
    AggregationSet, ArchiveLimit, ArchiveSettings, AuditEntry, ClusterPlace, CorruptEntry,
    Corruption, Cursor, DayStats, GroupInfo, GroupPage, JobFailure, JobInfo, JobPage, JobRow,
    JobWorker, LimitInfo, LimitKeyPage, LimitUse, LimitUses, LimitWait, MinuteStats, Page,
    QueueInfo, QueueMemory, QueueSummary, Selection, ServerInfo, Servers, StoreInfo, StoreKind,
    StoreNode, VersionSeen, WorkerChangeInfo, WorkerDetails, WorkerInfo, WorkerState,
};
pub use crate::inspector::{
    Alert, AlertRule, AlertSince, AlertUnit, Alerts, Bulk, BulkProgress, Cancelled, Explanation,
    FoundRows, JobTypeDetail, JobTypeSummary, JobTypes, Reason, TypeFigures, TypePoint, TypeTimes,
    WorkerUpdate,
};
pub use crate::job::TypeAttempt;
