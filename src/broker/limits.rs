//! Limits of a queue: what a store is asked to keep, and what it tells of them.
//!
//! A job whose limits all have room takes a place in each when it is dequeued. Otherwise it waits
//! for the first that has none, before it becomes pending (memory) or when it is dequeued
//! (Redis): it is scheduled for an hour ahead, which is what Asynq's tools see, and is moved on as
//! long as it waits. Settling a job, in any way, gives its places back and lets one waiting job
//! of each key go to pending.

use serde::Serialize;

use super::{Answer, Cursor, Page};
use crate::job::{Limit, QueueName};
use crate::time::Timestamp;

/// Maximum keys of a queue's limits that one list looks at.
pub const MAX_LISTED_KEYS: usize = 1000;

/// Keeps the limits of queues. Off the hot path: a dequeue learns of them by itself.
pub trait Limits: Send + Sync {
    /// Sets the limit of this name, or replaces it. It holds from the next dequeue of every
    /// process on. Jobs that run go on; a larger limit lets waiting jobs start at once.
    ///
    /// # Errors
    /// [`Error::is_invalid`](crate::Error::is_invalid) for a limit that [`Limit::check`] refuses, and for more than
    /// [`MAX_LIMITS`](crate::job::MAX_LIMITS) of a queue.
    fn set_limit<'a>(&'a self, queue: &'a QueueName, limit: &'a Limit) -> Answer<'a, ()>;

    /// Removes a limit; false if there is none of this name. Jobs that waited for it become
    /// pending.
    fn remove_limit<'a>(&'a self, queue: &'a QueueName, name: &'a str) -> Answer<'a, bool>;

    /// The limits of a queue by name. Without any this is one command.
    fn limits<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<LimitInfo>>;

    /// The keys of a limit, those with most waiting jobs first: at most `most`, of at most
    /// [`MAX_LISTED_KEYS`] that are looked at.
    fn limit_uses<'a>(
        &'a self,
        queue: &'a QueueName,
        name: &'a str,
        most: usize,
    ) -> Answer<'a, LimitUses>;

    /// A page of the keys of a limit, in no particular order. In Redis each page costs the same,
    /// however many keys there are; in memory and on disk it passes over all of them. A key that has a state all the time is on one of the pages; one that
    /// comes or goes while they are read may be missing.
    ///
    /// # Errors
    /// [`Error::is_invalid`](crate::Error::is_invalid) for a page number, or a cursor of another list.
    fn limit_keys<'a>(
        &'a self,
        queue: &'a QueueName,
        name: &'a str,
        page: &'a Page,
    ) -> Answer<'a, LimitKeyPage>;
}

/// A limit and what counts for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueLimitInfo"))]
#[non_exhaustive]
pub struct LimitInfo {
    /// The limit; its fields are this object's own when serialized.
    #[serde(flatten)]
    pub limit: Limit,
    /// Keys with jobs that run or wait, or whose rate is in use.
    pub keys: u64,
    /// Jobs that run.
    pub in_use: u64,
    /// Jobs that wait.
    pub waiting: u64,
    /// Whether the queue has more keys than were looked at, so that the numbers are too low.
    pub is_partial: bool,
}

impl LimitInfo {
    /// A limit that nothing counts for yet.
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, keys: 0, in_use: 0, waiting: 0, is_partial: false }
    }
}

/// Keys of a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueLimitUses"))]
#[non_exhaustive]
pub struct LimitUses {
    /// The keys.
    pub uses: Vec<LimitUse>,
    /// Whether there may be more.
    pub more: bool,
}

/// A page of the keys of a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitKeyPage {
    /// The keys, in no particular order. About as many as the page has rows: a small set comes
    /// in one piece from Redis, and a page may be empty although another one follows.
    pub keys: Vec<LimitUse>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<Cursor>,
}

/// One key of a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueLimitUse"))]
#[non_exhaustive]
pub struct LimitUse {
    /// The key; empty if the limit has none, and for the jobs without a key.
    pub key: String,
    /// Jobs that run.
    pub in_use: u64,
    /// Jobs that wait.
    pub waiting: u64,
    /// When the first of those that run was dequeued.
    pub since: Option<Timestamp>,
    /// When its rate admits the next start, if that is later than now.
    pub next_at: Option<Timestamp>,
}

impl LimitUse {
    /// The order of a list: the most waiting jobs first, then the most running ones, then by key.
    pub(crate) fn fullest_first(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |one: &Self| (one.waiting, one.in_use);
        rank(other).cmp(&rank(self)).then_with(|| self.key.cmp(&other.key))
    }
}

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueLimitWait"))]
#[non_exhaustive]
pub struct LimitWait {
    /// Name of the limit.
    pub limit: String,
    /// The job's key there.
    pub key: String,
}

/// How a job stands that waits for a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitStanding {
    /// Name of the limit.
    pub limit: String,
    /// The job's key there.
    pub key: String,
    /// Jobs of the key that run.
    pub in_use: u64,
    /// Maximum jobs of a key that run; `None` if the limit has none, or is no longer there.
    pub max: Option<u32>,
    /// When the first of those that run was dequeued.
    pub since: Option<Timestamp>,
    /// Waiting jobs of the key that start before it.
    pub ahead: u64,
    /// When the rate admits the next start, if that is later than now.
    pub next_at: Option<Timestamp>,
}
