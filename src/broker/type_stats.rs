//! Statistics by job type: what workers add to the store, and what it keeps.
//!
//! A store keeps the counts of each job type in slices of time, of three lengths ([`Slice`]): five
//! minutes for the last hour, an hour for the last day, a day for the last two weeks. A worker
//! adds what it has counted ([`TypeReport`]) to the slices of the moment, every ten seconds. A
//! slice has at most [`MAX_TYPES`] types; what is beyond is counted together, as [`OTHER_TYPES`].
//!
//! What may surprise. A report whose reply was lost is not repeated, since it may have been added:
//! numbers are exact or too small, never too large. The namespace of an application keeps its
//! statistics apart; that is the `scope` of each call, which is empty for an application itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Answer;
use crate::job::{AppVersion, Remembered, TypeAttempt, TypeRecord};
use crate::time::Timestamp;

/// Maximum job types of a slice.
pub const MAX_TYPES: usize = 200;

/// What all other job types are counted as.
pub const OTHER_TYPES: &str = "(other)";

/// The longest name of a job type that is counted by itself, in bytes.
pub const MAX_TYPE_BYTES: usize = 100;

/// Maximum job types of one report. Adding a type takes Redis some 0.1 ms.
pub const MAX_REPORTED_TYPES: usize = 50;

/// Number of different durations at which a report has no room for another type: what a report
/// takes Redis depends on that.
pub const MAX_REPORTED_DURATIONS: usize = 600;

/// Maximum versions that are remembered.
pub const MAX_VERSIONS: usize = 50;

/// A length of time by which attempts are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slice {
    /// The last hour, in 12 parts.
    FiveMinutes,
    /// The last day, in 24 parts.
    Hour,
    /// The last two weeks, in 14 days of UTC.
    Day,
}

impl Slice {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::FiveMinutes, Self::Hour, Self::Day];

    /// Its length in seconds.
    pub fn seconds(self) -> i64 {
        match self {
            Self::FiveMinutes => 300,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }

    /// How many are shown; the last one is that of this moment.
    pub fn shown(self) -> usize {
        match self {
            Self::FiveMinutes => 12,
            Self::Hour => 24,
            Self::Day => 14,
        }
    }

    /// The letter by which stores name it.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::FiveMinutes => 'm',
            Self::Hour => 'h',
            Self::Day => 'd',
        }
    }

    /// The slice of this letter.
    pub(crate) fn of_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.letter() == char::from(letter))
    }

    /// The second at which the slice of an instant begins.
    pub(crate) fn start(self, at: Timestamp) -> i64 {
        at.as_secs().div_euclid(self.seconds()) * self.seconds()
    }

    /// When the shown slices begin, the oldest first.
    pub(crate) fn starts(self, now: Timestamp) -> impl DoubleEndedIterator<Item = i64> {
        let last = self.start(now);
        (0..self.shown() as i64).rev().map(move |ago| last - ago * self.seconds())
    }
}

/// What a process has counted since its last report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TypeReport {
    /// Its application's version, if it has one.
    pub version: Option<AppVersion>,
    /// By job type.
    pub types: Vec<ReportedType>,
}

/// What a process has counted of one job type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportedType {
    /// The job type's name.
    pub name: String,
    /// Its attempts.
    pub record: TypeRecord,
    /// The slowest of them.
    pub slowest: Vec<TypeAttempt>,
    /// The newest of them that failed.
    pub failed: Vec<TypeAttempt>,
}

impl ReportedType {
    /// The attempts to remember.
    pub(crate) fn remembered(&self, which: Remembered) -> &[TypeAttempt] {
        match which {
            Remembered::Slowest => &self.slowest,
            Remembered::Failed => &self.failed,
        }
    }
}

/// A version of the application that has run jobs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueVersionSeen"))]
#[non_exhaustive]
pub struct VersionSeen {
    /// `jobqueue.version` of its processes.
    pub version: String,
    /// When it first ran jobs.
    pub first_seen: Timestamp,
    /// When it last did.
    pub last_seen: Timestamp,
}

impl VersionSeen {
    pub(crate) fn new(version: String, first_seen: Timestamp, last_seen: Timestamp) -> Self {
        Self { version, first_seen, last_seen }
    }
}

/// The attempts of job types in slices of time; slices without any are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TypeHistory {
    /// By slice and the second at which it begins.
    pub slices: BTreeMap<(Slice, i64), BTreeMap<String, TypeRecord>>,
    /// Of the one type that was asked for: remembered attempts of today and yesterday.
    pub remembered: BTreeMap<Remembered, Vec<TypeAttempt>>,
    /// The versions of the application, the newest first.
    pub versions: Vec<VersionSeen>,
}

/// The statistics of a store by job type.
pub trait TypeStats: Send + Sync {
    /// Adds what a process has counted, of at most [`MAX_REPORTED_TYPES`] types, to the slices of
    /// this moment. One script.
    ///
    /// # Errors
    /// Of [`Error::is_outcome_unknown`](crate::Error::is_outcome_unknown) if it may have been
    /// added: it must not be repeated then.
    fn add_type_report<'a>(&'a self, scope: &'a str, report: &'a TypeReport) -> Answer<'a, ()>;

    /// The shown slices of these lengths: of all types, or of one with the attempts that are
    /// remembered. A
    /// command for each slice.
    fn type_history<'a>(
        &'a self,
        scope: &'a str,
        slices: &'a [Slice],
        job_type: Option<&'a str>,
    ) -> Answer<'a, TypeHistory>;
}

/// Sorts versions, the newest first, and drops those beyond [`MAX_VERSIONS`].
pub(crate) fn newest_versions(mut versions: Vec<VersionSeen>) -> Vec<VersionSeen> {
    versions.sort_by(|a, b| {
        (b.first_seen, b.last_seen, &b.version).cmp(&(a.first_seen, a.last_seen, &a.version))
    });
    versions.truncate(MAX_VERSIONS);
    versions
}
