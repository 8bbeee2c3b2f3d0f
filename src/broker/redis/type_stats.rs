//! Statistics by job type in Redis: a hash for each slice of time, with a field for each type.
//!
//! A field is a packed record of at most some hundred bytes, and a script adds two of them: numbers
//! of several processes add up exactly. All keys of a namespace share a hash tag, so that one
//! script can write them on a Cluster too. They expire by themselves.
//!
//! What may surprise. A hash has a slice of all types, not a type with all its slices: a list of
//! all types is read with one command for each slice, however many types there are.

use std::collections::BTreeMap;

use ::redis::Value;
use futures_util::future::join_all;

use super::scripts::SCRIPTS;
use super::{RedisBroker, keys};
use crate::broker::type_stats::newest_versions;
use crate::broker::{
    Answer, Broker, MAX_TYPE_BYTES, MAX_TYPES, MAX_VERSIONS, OTHER_TYPES, Slice, TypeHistory,
    TypeReport, TypeStats, VersionSeen,
};
use crate::error::Error;
use crate::job::{MAX_REMEMBERED, Remembered, TypeAttempt, TypeRecord};
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

impl TypeStats for RedisBroker {
    fn add_type_report<'a>(&'a self, scope: &'a str, report: &'a TypeReport) -> Answer<'a, ()> {
        Box::pin(self.add_types(scope, report))
    }

    fn type_history<'a>(
        &'a self,
        scope: &'a str,
        slices: &'a [Slice],
        job_type: Option<&'a str>,
    ) -> Answer<'a, TypeHistory> {
        Box::pin(self.read_history(scope, slices, job_type))
    }
}

impl RedisBroker {
    async fn add_types(&self, scope: &str, report: &TypeReport) -> Result<(), Error> {
        let key = keys::type_versions(scope);
        let version = report.version.as_ref().map(|version| version.as_str()).unwrap_or_default();
        let records: Vec<_> = report
            .types
            .iter()
            .map(|one| {
                let name = if one.name.len() > MAX_TYPE_BYTES { OTHER_TYPES } else { &*one.name };
                let attempts = Remembered::ALL.map(|which| match one.remembered(which) {
                    [] => Vec::new(),
                    some => TypeAttempt::pack(some),
                });
                (name, one.record.pack(), attempts)
            })
            .collect();
        let build = |_| {
            let call = ScriptCall::new().key(&*key).arg(self.clock.argument()).arg(version);
            let call = call.arg(MAX_TYPES).arg(MAX_VERSIONS).arg(MAX_REMEMBERED);
            records.iter().fold(call, |call, (name, record, [slowest, failed])| {
                let call = call.arg(*name).arg(record.as_slice());
                call.arg(slowest.as_slice()).arg(failed.as_slice())
            })
        };
        // A repetition would count twice.
        self.pool.eval(&SCRIPTS.record_types, Repeat::Never, build).await?;
        Ok(())
    }

    async fn read_history(
        &self,
        scope: &str,
        slices: &[Slice],
        job_type: Option<&str>,
    ) -> Result<TypeHistory, Error> {
        let now = self.now();
        let wanted: Vec<(Slice, i64)> =
            slices.iter().flat_map(|slice| slice.starts(now).map(|at| (*slice, at))).collect();
        let keys = wanted.iter().map(|(slice, at)| keys::type_slice(scope, slice.letter(), *at));
        let today = Slice::Day.start(now);
        let days = [today, today - Slice::Day.seconds()];
        let remembered: Vec<(Remembered, i64)> = match job_type {
            None => Vec::new(),
            Some(_) => {
                Remembered::ALL.into_iter().flat_map(|one| days.map(|day| (one, day))).collect()
            }
        };
        let attempt_keys =
            remembered.iter().map(|(which, day)| keys::type_slice(scope, which.letter(), *day));
        let asked = keys.chain(attempt_keys).map(|key| self.fields(key, job_type));
        let mut found = join_all(asked).await;
        let attempts = found.split_off(wanted.len());
        let mut history = TypeHistory::default();
        for (slice, fields) in wanted.into_iter().zip(found) {
            let read = |(name, bytes): (String, Vec<u8>)| Some((name, TypeRecord::unpack(&bytes)?));
            let types: BTreeMap<_, _> = fields?.into_iter().filter_map(read).collect();
            if !types.is_empty() {
                history.slices.insert(slice, types);
            }
        }
        for ((which, _), fields) in remembered.into_iter().zip(attempts) {
            for (_, bytes) in fields? {
                let all = history.remembered.entry(which).or_default();
                which.keep(all, TypeAttempt::unpack(&bytes));
            }
        }
        let versions = self.fields(keys::type_versions(scope), None).await?;
        let seen = |(version, bytes): (String, Vec<u8>)| {
            let (first, last) = std::str::from_utf8(&bytes).ok()?.split_once(' ')?;
            let second = |text: &str| Some(Timestamp::from_secs(text.parse().ok()?));
            Some(VersionSeen::new(version, second(first)?, second(last)?))
        };
        history.versions = newest_versions(versions.into_iter().filter_map(seen).collect());
        Ok(history)
    }

    /// The fields of a hash with their values; of one field if it is named. A key of another type
    /// has none: statistics are no reason to fail.
    async fn fields(
        &self,
        key: String,
        only: Option<&str>,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let answer = match only {
            None => self.command(Repeat::Safe, "HGETALL", &[key.into()]).await,
            Some(name) => self.command(Repeat::Safe, "HMGET", &[key.into(), name.into()]).await,
        };
        let values = match answer {
            Ok(Value::Map(pairs)) => {
                pairs.into_iter().flat_map(|(name, value)| [name, value]).collect()
            }
            Ok(Value::Array(values)) => values,
            Err(error) if !error.is_damaged() => return Err(error),
            _ => return Ok(Vec::new()),
        };
        let bytes = |value| match value {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        };
        let text = |bytes| String::from_utf8(bytes).ok();
        if let Some(name) = only {
            return Ok(values
                .into_iter()
                .filter_map(bytes)
                .map(|one| (name.to_owned(), one))
                .collect());
        }
        let mut values = values.into_iter();
        let mut fields = Vec::new();
        while let (Some(name), Some(value)) = (values.next(), values.next()) {
            if let (Some(name), Some(value)) = (bytes(name).and_then(text), bytes(value)) {
                fields.push((name, value));
            }
        }
        Ok(fields)
    }
}
