//! Statistics by job type in this process' memory, under the rules of the store in Redis.

use std::collections::BTreeMap;

use super::{MemoryBroker, persist};
use crate::broker::disk::Rows;
use crate::broker::type_stats::newest_versions;
use crate::broker::{
    Answer, MAX_TYPE_BYTES, MAX_TYPES, MAX_VERSIONS, OTHER_TYPES, Slice, TypeHistory, TypeReport,
    TypeStats, VersionSeen,
};
use crate::job::{Remembered, TypeAttempt, TypeRecord};
use crate::time::Timestamp;

/// The statistics of one namespace.
#[derive(Default)]
pub(super) struct TypeStatsState {
    /// By slice and the second at which it begins.
    pub(super) slices: BTreeMap<(Slice, i64), BTreeMap<String, TypeRecord>>,
    /// Remembered attempts by the second at which their day begins.
    pub(super) remembered: BTreeMap<(i64, Remembered), BTreeMap<String, Vec<TypeAttempt>>>,
    /// When each version was seen first and last.
    pub(super) versions: BTreeMap<String, (Timestamp, Timestamp)>,
}

/// What a row on disk is about; see `persist`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TypeRow {
    /// Counts of a type in a slice.
    Counts(Slice, i64),
    /// Remembered attempts of a type on a day.
    Attempts(Remembered, i64),
    /// A version.
    Version,
}

impl TypeStatsState {
    fn add(&mut self, scope: &str, report: &TypeReport, now: Timestamp, rows: &mut Rows) {
        for slice in Slice::ALL {
            let start = slice.start(now);
            let types = self.slices.entry((slice, start)).or_default();
            for reported in &report.types {
                let name = counted_as(&reported.name, types);
                let record = types.entry(name.clone()).or_default();
                record.merge(&reported.record);
                let row = TypeRow::Counts(slice, start);
                persist::write_type_row(scope, row, &name, Some(record.pack()), rows);
            }
        }
        let day = Slice::Day.start(now);
        for which in Remembered::ALL {
            let types = self.remembered.entry((day, which)).or_default();
            for reported in &report.types {
                let more = reported.remembered(which);
                if more.is_empty() {
                    continue;
                }
                let name = counted_as(&reported.name, types);
                let all = types.entry(name.clone()).or_default();
                which.keep(all, more.iter().cloned());
                let value = Some(TypeAttempt::pack(all));
                persist::write_type_row(scope, TypeRow::Attempts(which, day), &name, value, rows);
            }
        }
        if let Some(version) = &report.version {
            self.see_version(scope, version.as_str(), now, rows);
        }
        self.forget_old(scope, now, rows);
    }

    fn see_version(&mut self, scope: &str, version: &str, now: Timestamp, rows: &mut Rows) {
        let now = Timestamp::from_secs(now.as_secs());
        let seen = self.versions.entry(version.to_owned()).or_insert((now, now));
        seen.1 = now;
        let value = Some(format!("{} {}", seen.0.as_secs(), now.as_secs()).into_bytes());
        persist::write_type_row(scope, TypeRow::Version, version, value, rows);
        while self.versions.len() > MAX_VERSIONS {
            let oldest = self.versions.iter().min_by_key(|(_, (_, last))| *last);
            let Some(oldest) = oldest.map(|(version, _)| version.clone()) else { return };
            self.versions.remove(&oldest);
            persist::write_type_row(scope, TypeRow::Version, &oldest, None, rows);
        }
    }

    /// Drops what is not shown any more.
    fn forget_old(&mut self, scope: &str, now: Timestamp, rows: &mut Rows) {
        let kept = |slice: Slice| slice.starts(now).next().unwrap_or_default();
        let old: Vec<_> =
            self.slices.keys().filter(|(slice, at)| *at < kept(*slice)).copied().collect();
        for (slice, at) in old {
            for name in self.slices.remove(&(slice, at)).into_iter().flatten().map(|(name, _)| name)
            {
                persist::write_type_row(scope, TypeRow::Counts(slice, at), &name, None, rows);
            }
        }
        let yesterday = Slice::Day.start(now) - Slice::Day.seconds();
        while let Some((&(day, which), types)) = self.remembered.first_key_value()
            && day < yesterday
        {
            for name in types.keys() {
                persist::write_type_row(scope, TypeRow::Attempts(which, day), name, None, rows);
            }
            self.remembered.pop_first();
        }
    }

    fn history(&self, slices: &[Slice], job_type: Option<&str>, now: Timestamp) -> TypeHistory {
        let mut history = TypeHistory::default();
        for slice in slices {
            for at in slice.starts(now) {
                let Some(types) = self.slices.get(&(*slice, at)) else { continue };
                let of =
                    types.iter().filter(|(name, _)| job_type.is_none_or(|only| only == **name));
                let found: BTreeMap<_, _> =
                    of.map(|(name, one)| (name.clone(), one.clone())).collect();
                if !found.is_empty() {
                    history.slices.insert((*slice, at), found);
                }
            }
        }
        if let Some(only) = job_type {
            let yesterday = Slice::Day.start(now) - Slice::Day.seconds();
            for ((day, which), types) in &self.remembered {
                if let Some(attempts) = types.get(only).filter(|_| *day >= yesterday) {
                    let all = history.remembered.entry(*which).or_default();
                    which.keep(all, attempts.iter().cloned());
                }
            }
        }
        let seen = |(version, (first, last)): (&String, &(Timestamp, Timestamp))| {
            VersionSeen::new(version.clone(), *first, *last)
        };
        history.versions = newest_versions(self.versions.iter().map(seen).collect());
        history
    }
}

/// The name under which a type is counted: its own, unless there are too many.
fn counted_as<T>(name: &str, types: &BTreeMap<String, T>) -> String {
    let has_room = types.len() < MAX_TYPES && name.len() <= MAX_TYPE_BYTES;
    if has_room || types.contains_key(name) { name.to_owned() } else { OTHER_TYPES.to_owned() }
}

impl TypeStats for MemoryBroker {
    fn add_type_report<'a>(&'a self, scope: &'a str, report: &'a TypeReport) -> Answer<'a, ()> {
        Box::pin(async move {
            let (mut state, now) = (self.state(), self.clock.now());
            let stats = state.type_stats.entry(scope.to_owned()).or_default();
            match self.journal {
                Some(_) => self.keep(|rows| stats.add(scope, report, now, rows)),
                None => stats.add(scope, report, now, &mut Rows::default()),
            }
            Ok(())
        })
    }

    fn type_history<'a>(
        &'a self,
        scope: &'a str,
        slices: &'a [Slice],
        job_type: Option<&'a str>,
    ) -> Answer<'a, TypeHistory> {
        Box::pin(async move {
            let (state, now) = (self.state(), self.clock.now());
            let stats = state.type_stats.get(scope);
            Ok(stats.map(|stats| stats.history(slices, job_type, now)).unwrap_or_default())
        })
    }
}
