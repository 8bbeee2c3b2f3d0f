//! Groups of jobs that are aggregated into one, in Asynq's keys.
//!
//! A group is a sorted set of ids by the second they joined. An aggregator asks
//! which groups are ready, claims one, reads its jobs page by page, makes one job of
//! them, and replaces the set with that job in one script. The claimed ids are a
//! sorted set of their own, listed with an expiry of two minutes; if the aggregator
//! dies, any process returns them to the group.
//!
//! What may surprise. The set is claimed in one call but read in pages of
//! [`PAGE_ENTRIES`] jobs, so that the memory of Redis and of this process stays bounded.
//! Jobs that cannot be decoded are archived, and ids without a job dropped, while
//! the set is read. Go keeps the unique lock of a grouped job only in its message:
//! the locks of a large set are therefore recorded in batches before the set is
//! replaced, so that the last script can release all of them.

use std::time::Duration;

use super::enqueue_args::EnqueueArgs;
use super::scripts::SCRIPTS;
use super::{RedisBroker, keys, reply, wire};
use crate::broker::groups::ceil_secs;
use crate::broker::{
    Answer, Enqueued, GroupLimits, GroupSet, Groups, MAX_SET_JOBS, ReadyGroups, RepairedGroups,
    SET_EXPIRY,
};
use crate::error::Error;
use crate::job::{JobId, NewJob, QueueName};
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

/// Groups checked, or jobs read, by one script.
const PAGE_ENTRIES: usize = 100;

impl Groups for RedisBroker {
    /// One page of groups, with `SSCAN`'s cursor.
    fn ready_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limits: &'a GroupLimits,
        cursor: u64,
    ) -> Answer<'a, ReadyGroups> {
        Box::pin(async move {
            let mut reply = self
                .ask(&SCRIPTS.list_ready_groups, queue, Repeat::Safe, |_, call| {
                    with_limits(call.arg(cursor).arg(PAGE_ENTRIES), limits)
                })
                .await?;
            let cursor = reply.text()?.parse().map_err(|_| reply::unexpected())?;
            let next = u64::try_from(reply.int()?).ok().map(Duration::from_micros);
            let mut ready = Vec::new();
            while !reply.is_empty() {
                // A name that is not UTF-8 cannot be in a message either.
                if let Ok(name) = String::from_utf8(reply.bytes()?) {
                    ready.push(name);
                }
            }
            Ok(ReadyGroups { ready, next, cursor })
        })
    }

    /// Claims the jobs in one script, and reads them page by page.
    fn claim_group<'a>(
        &'a self,
        queue: &'a QueueName,
        group: &'a str,
        limits: &'a GroupLimits,
    ) -> Answer<'a, Option<GroupSet>> {
        Box::pin(async move {
            let id = JobId::random().to_string();
            let mut claimed = self
                .ask(&SCRIPTS.take_group, queue, Repeat::Safe, |_, call| {
                    let call = with_limits(call.arg(group).arg(id.as_str()), limits);
                    call.arg(SET_EXPIRY.as_secs()).arg(MAX_SET_JOBS)
                })
                .await?;
            if claimed.is_empty() {
                return Ok(None);
            }
            let (expires, size) = (Timestamp::from_secs(claimed.int()?), claimed.size()? as usize);
            let (queue, group) = (queue.clone(), group.to_owned());
            let mut set = GroupSet { queue, group, id, expires, jobs: Vec::with_capacity(size) };
            let mut unfit = Vec::new();
            let mut from = 0;
            while from < size {
                let read = self.read_page(&mut set, &mut unfit, from).await?;
                if read == 0 {
                    break;
                }
                from += read;
            }
            for unfit in unfit.chunks(PAGE_ENTRIES) {
                self.remove_unfit(&set, unfit).await?;
            }
            Ok(Some(set).filter(|set| !set.jobs.is_empty()))
        })
    }

    /// Records the locks of a large set in batches, then replaces the set in one script.
    fn aggregate<'a>(&'a self, set: &'a GroupSet, job: &'a NewJob) -> Answer<'a, Option<Enqueued>> {
        Box::pin(async move {
            let args = EnqueueArgs::of(&set.queue, job);
            // Go keeps the unique lock of a grouped job only in its message.
            let own = keys::prefix(&set.queue);
            let locks: Vec<_> = set
                .jobs
                .iter()
                .filter(|job| job.unique_key.starts_with(&own))
                .map(|job| (job.id.as_bytes(), job.unique_key.as_str()))
                .collect();
            let (locks, more) = locks.split_at(locks.len().min(MAX_LOCKS_PER_CALL));
            for some in more.chunks(PAGE_ENTRIES) {
                self.ask(&SCRIPTS.record_locks, &set.queue, Repeat::Safe, |_, call| {
                    let call = call.arg(set.group.as_str()).arg(set.id.as_str());
                    some.iter().fold(call, |call, (id, lock)| call.arg(*id).arg(*lock))
                })
                .await?;
            }
            let mut reply = self
                .ask(&SCRIPTS.aggregate_set, &set.queue, Repeat::Safe, |attempt, call| {
                    let call = call.arg(attempt).arg(set.group.as_str()).arg(set.id.as_str());
                    let call = args.add_args(call);
                    locks.iter().fold(call, |call, (id, lock)| call.arg(*id).arg(*lock))
                })
                .await?;
            if reply.peek() == Some(SET_LOST) {
                return Ok(None);
            }
            Ok(Some(self.stored(&set.queue, &mut reply)?))
        })
    }

    /// Lets the set expire now, and returns its jobs a few hundred at a time.
    fn return_set<'a>(&'a self, set: &'a GroupSet) -> Answer<'a, ()> {
        Box::pin(async move {
            let now = self.clock.now().as_secs().to_string();
            let args = [
                keys::aggregation_sets(&set.queue),
                "XX".to_owned(),
                now,
                keys::aggregation_set(&set.queue, &set.group, &set.id),
            ];
            self.command(Repeat::Safe, "ZADD", &args.map(String::into_bytes)).await?;
            // Any process returns what is left.
            for _ in 0..MAX_SET_JOBS / PAGE_ENTRIES {
                if !self.repair_groups(&set.queue, PAGE_ENTRIES).await?.more {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Runs in the background; Go's servers do the same with their own sets.
    fn repair_groups<'a>(
        &'a self,
        queue: &'a QueueName,
        limit: usize,
    ) -> Answer<'a, RepairedGroups> {
        Box::pin(async move {
            let mut reply = self
                .ask(&SCRIPTS.return_sets, queue, Repeat::Safe, |_, call| {
                    call.arg(limit.clamp(1, 500))
                })
                .await?;
            Ok(RepairedGroups { returned: reply.size()? as usize, more: reply.int()? == 1 })
        })
    }
}

/// The code of `aggregate_set` for a set that is no longer the caller's.
const SET_LOST: i64 = 6;

/// Maximum locks in the arguments of `aggregate_set`; a larger set has the others recorded
/// before.
const MAX_LOCKS_PER_CALL: usize = 1000;

impl RedisBroker {
    /// Reads a page of a set's jobs; returns how many it read.
    async fn read_page(
        &self,
        set: &mut GroupSet,
        unfit: &mut Vec<JobId>,
        from: usize,
    ) -> Result<usize, Error> {
        let mut page = self
            .ask(&SCRIPTS.read_set, &set.queue, Repeat::Safe, |_, call| {
                call.arg(set.group.as_str()).arg(set.id.as_str()).arg(from).arg(PAGE_ENTRIES)
            })
            .await?;
        let mut read = 0;
        while !page.is_empty() {
            read += 1;
            let (id, message) = (page.id()?, page.bytes()?);
            match wire::decode(&set.queue, &id, &message).filter(|_| !message.is_empty()) {
                Some(job) => set.jobs.push(job),
                None => unfit.push(id),
            }
        }
        Ok(read)
    }

    /// Takes jobs that cannot be aggregated out of a set: unreadable ones are archived, ids
    /// without a job dropped. Otherwise they would return to their group with every failed
    /// aggregation, and keep it from ever becoming empty.
    async fn remove_unfit(&self, set: &GroupSet, ids: &[JobId]) -> Result<(), Error> {
        let mut reply = self
            .ask(&SCRIPTS.remove_unreadable, &set.queue, Repeat::Safe, |_, call| {
                let call = call.arg(set.group.as_str()).arg(set.id.as_str());
                ids.iter().fold(call, |call, id| call.arg(id.as_bytes()))
            })
            .await?;
        let archived = reply.int()?;
        crate::log::warn!(
            queue = %set.queue, group = ?set.group, archived, missing = ids.len() as i64 - archived,
            "removed jobs from a group because they cannot be read"
        );
        Ok(())
    }
}

/// Adds the limits of a group as scripts read them: whole seconds, rounded up, because the
/// scores of a group are whole seconds too.
fn with_limits(call: ScriptCall, limits: &GroupLimits) -> ScriptCall {
    call.arg(limits.bounded().max_size)
        .arg(ceil_secs(limits.max_delay))
        .arg(ceil_secs(limits.grace).max(1))
}
