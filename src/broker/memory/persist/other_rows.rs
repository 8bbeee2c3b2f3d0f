//! The rows of everything but jobs. Their fields are numbers of a protobuf message, so the
//! structures of this crate may change while the format stays.

use prost::Message;

use crate::job::{Limit, LimitKey, Rate, RateState};

/// A queue that exists or is paused; one that nobody used may be paused too.
#[derive(Clone, PartialEq, Message)]
pub(super) struct QueueRow {
    #[prost(bool, tag = "2")]
    pub(super) used: bool,
    #[prost(sint64, optional, tag = "1")]
    pub(super) paused: Option<i64>,
}

/// Attempts of a day, and of all time at its end.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DayRow {
    #[prost(uint64, tag = "1")]
    pub(super) processed: u64,
    #[prost(uint64, tag = "2")]
    pub(super) failed: u64,
    #[prost(uint64, tag = "3")]
    pub(super) total_processed: u64,
    #[prost(uint64, tag = "4")]
    pub(super) total_failed: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MinutesRow {
    #[prost(message, repeated, tag = "1")]
    pub(super) minutes: Vec<MinuteRow>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MinuteRow {
    #[prost(sint64, tag = "1")]
    pub(super) minute: i64,
    #[prost(uint64, tag = "2")]
    pub(super) processed: u64,
    #[prost(uint64, tag = "3")]
    pub(super) failed: u64,
    #[prost(uint64, tag = "4")]
    pub(super) waiting: u64,
}

/// An entry that expires: a lock, a request, or the queue of a key.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExpiringRow {
    #[prost(sint64, tag = "1")]
    pub(super) until: i64,
    /// The lock's holder, the request's job, or the queue's name.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
    /// The digest of a request; what is special about a lock.
    #[prost(string, tag = "3")]
    pub(super) body: String,
}

/// An instant, and a second one.
#[derive(Clone, PartialEq, Message)]
pub(super) struct InstantRow {
    #[prost(sint64, tag = "1")]
    pub(super) at: i64,
    #[prost(sint64, optional, tag = "2")]
    pub(super) and: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SetRow {
    #[prost(string, tag = "1")]
    pub(super) group: String,
    #[prost(sint64, tag = "2")]
    pub(super) expires: i64,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(super) jobs: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LimitRow {
    #[prost(string, repeated, tag = "1")]
    pub(super) types: Vec<String>,
    /// As in the configuration.
    #[prost(string, optional, tag = "2")]
    pub(super) key: Option<String>,
    #[prost(uint32, optional, tag = "3")]
    pub(super) concurrency: Option<u32>,
    /// As in the configuration.
    #[prost(string, optional, tag = "4")]
    pub(super) rate: Option<String>,
}

impl LimitRow {
    pub(super) fn of(limit: &Limit) -> Self {
        Self {
            types: limit.types.clone(),
            key: limit.key.as_ref().map(ToString::to_string),
            concurrency: limit.concurrency,
            rate: limit.rate.as_ref().map(ToString::to_string),
        }
    }

    /// The limit of this name; `None` if this version does not know such a key or rate.
    pub(super) fn into_limit(self, name: &str) -> Option<Limit> {
        let mut limit = Limit::new(name).types(self.types);
        limit.key = self.key.map(|key| LimitKey::parse(&key)).transpose().ok()?;
        limit.concurrency = self.concurrency;
        limit.rate = self.rate.map(|rate| Rate::parse(&rate)).transpose().ok()?;
        Some(limit)
    }
}

/// A value in a form of its own.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BytesRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) value: Vec<u8>,
}

/// An entry of the audit log.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AuditRow {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    /// As in Redis.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) entry: Vec<u8>,
}

/// The starts of a rate.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RateRow {
    #[prost(sint64, tag = "1")]
    pub(super) next: i64,
    #[prost(uint32, tag = "3")]
    pub(super) newest: u32,
    /// The newest start, then how much earlier each other one was than the one before.
    #[prost(sint64, repeated, tag = "4")]
    pub(super) starts: Vec<i64>,
}

impl RateRow {
    pub(super) fn of(state: &RateState) -> Self {
        let mut later = 0;
        let difference = |at: &i64| (*at - std::mem::replace(&mut later, *at)).abs();
        let starts = state.starts.iter().map(difference).collect();
        Self { next: state.next, newest: state.newest, starts }
    }

    pub(super) fn into_state(self) -> RateState {
        let mut later: Option<i64> = None;
        let absolute =
            |step: i64| *later.insert(later.map_or(step, |later| later.saturating_sub(step)));
        let starts = self.starts.into_iter().map(absolute).collect();
        RateState { next: self.next, starts, newest: self.newest }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NumberRow {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
}
