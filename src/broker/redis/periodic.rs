//! Periodic jobs, as Asynq's schedulers write them and its tools read them.
//!
//! [`fire`](PeriodicStore::fire) claims ticks and stores their jobs in one script. If many
//! processes have the same periodic job, exactly one of them enqueues each tick. A claimed
//! tick is never enqueued again, so the call may be repeated after a lost reply. With no
//! ticks it only asks how far they are claimed.
//!
//! Announcements are lists that expire, one per process, in the form of Asynq's scheduler
//! entries; a sorted set names the lists. The history of a periodic job is a sorted set of
//! its runs, newest last, in Asynq's form too. Reading merges the announcements of all
//! processes by id and schedule.
//!
//! What may surprise. The claim and the job lie in the slot of the job's queue, the
//! announcements and histories do not: on a Cluster they may be unavailable separately. At
//! most [`MAX_LISTED`] processes, and as many periodic jobs of each, are listed.

use std::iter;
use std::time::Duration;

use ::redis::Value;
use futures_util::future::join;

use super::enqueue_args::EnqueueArgs;
use super::scripts::SCRIPTS;
use super::{RedisBroker, keys, reply, wire};
use crate::broker::periodic::{
    AnnouncedPeriodicJob, Fired, Firing, PERIODIC_ANNOUNCEMENT_TTL, PeriodicJobInfo, PeriodicRun,
    PeriodicStore, Tick, merged,
};
use crate::broker::{Answer, Broker};
use crate::error::Error;
use crate::job::Placement;
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

/// Maximum processes, and maximum periodic jobs of each, in one answer.
const MAX_LISTED: i64 = 1000;

impl PeriodicStore for RedisBroker {
    /// The name of the queue is written beside the call, as for any enqueue.
    fn fire<'a>(&'a self, what: &'a Firing) -> Answer<'a, Fired> {
        Box::pin(async move {
            let publish = async {
                if !what.ticks.is_empty() {
                    self.publish(iter::once(&what.queue)).await;
                }
            };
            join(publish, self.fire_ticks(what)).await.1
        })
    }

    /// One script on the history's own key. It is not in the slot of the job's queue, and a
    /// failure loses the entry, never the job.
    fn record_run<'a>(
        &'a self,
        periodic_id: &'a str,
        run: &'a PeriodicRun,
        keep: Duration,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let key = keys::scheduler_history(periodic_id);
            let event = wire::scheduler_event(run);
            let add = |_| {
                ScriptCall::new()
                    .key(&*key)
                    .arg(run.at.as_secs())
                    .arg(event.as_slice())
                    .arg(keep.as_secs())
            };
            self.pool.eval(&SCRIPTS.record_run, Repeat::Safe, add).await?;
            Ok(())
        })
    }

    /// Three calls: removes what has expired from the registry, adds this process, and writes
    /// its list. In between another process may read a list that is not there yet, and shows
    /// nothing of this one.
    fn announce_periodic_jobs<'a>(
        &'a self,
        scheduler: &'a str,
        entries: &'a [AnnouncedPeriodicJob],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let (now, ttl) = (self.now().as_secs(), PERIODIC_ANNOUNCEMENT_TTL.as_secs());
            let key = keys::scheduler(scheduler);
            let expired = [keys::SCHEDULERS.into(), "-inf".into(), format!("({now}").into()];
            self.command(Repeat::Safe, "ZREMRANGEBYSCORE", &expired).await?;
            let until = (now + ttl as i64).to_string();
            let member = [keys::SCHEDULERS.into(), until.into(), key.as_str().into()];
            self.command(Repeat::Safe, "ZADD", &member).await?;
            let records: Vec<Vec<u8>> = entries.iter().map(wire::scheduler_entry).collect();
            let tell = |_| {
                let call = ScriptCall::new().key(&*key).arg(ttl);
                records.iter().fold(call, |call, record| call.arg(record.as_slice()))
            };
            self.pool.eval(&SCRIPTS.announce_periodic, Repeat::Safe, tell).await?;
            Ok(())
        })
    }

    fn retire_periodic_jobs<'a>(&'a self, scheduler: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let key = keys::scheduler(scheduler);
            let member = [keys::SCHEDULERS.into(), key.as_str().into()];
            self.command(Repeat::Safe, "ZREM", &member).await?;
            self.command(Repeat::Safe, "DEL", &[key.into()]).await?;
            Ok(())
        })
    }

    /// Reads the lists of all processes one after another. A list that has expired since the
    /// registry was read is empty.
    fn periodic_jobs(&self) -> Answer<'_, Vec<PeriodicJobInfo>> {
        Box::pin(async move {
            let now = self.now().as_secs().to_string();
            let shown = MAX_LISTED.to_string();
            let alive: Vec<Vec<u8>> = [keys::SCHEDULERS, &now, "+inf", "LIMIT", "0", &shown]
                .map(|part| part.as_bytes().to_vec())
                .into();
            let mut told = Vec::new();
            let found = self.command(Repeat::Safe, "ZRANGEBYSCORE", &alive).await;
            let found = found.map_err(|error| match error.is_damaged() {
                true => Error::damaged(
                    "asynq:schedulers is not the sorted set that it should be: rename or delete \
                     that key, and schedulers write it again within seconds",
                ),
                false => error,
            });
            for key in array(found?)? {
                let last = (MAX_LISTED - 1).to_string();
                let range = [key.clone(), "0".into(), last.into()];
                let records = match self.command(Repeat::Safe, "LRANGE", &range).await {
                    Ok(records) => array(records)?,
                    // A key of another type is not a scheduler's.
                    Err(error) if error.is_refused() => continue,
                    Err(error) => return Err(error),
                };
                let name = String::from_utf8_lossy(&key).into_owned();
                let scheduler = keys::scheduler_of(&name);
                told.extend(
                    records.iter().filter_map(|bytes| wire::periodic_job_info(bytes, scheduler)),
                );
            }
            Ok(merged(told))
        })
    }

    fn periodic_history<'a>(
        &'a self,
        periodic_id: &'a str,
        skip: usize,
        most: usize,
    ) -> Answer<'a, Vec<PeriodicRun>> {
        Box::pin(async move {
            if most == 0 {
                return Ok(Vec::new());
            }
            let last = skip.saturating_add(most - 1).to_string();
            let range = [keys::scheduler_history(periodic_id), skip.to_string(), last];
            let range = range.map(String::into_bytes);
            let events = array(self.command(Repeat::Safe, "ZREVRANGE", &range).await?)?;
            Ok(events.iter().filter_map(|bytes| wire::periodic_run(bytes)).collect())
        })
    }
}

impl RedisBroker {
    /// Claims the ticks and stores their jobs in one script, or, without ticks, asks how far
    /// they are claimed. The ticks come in the order of their time, and so do the results.
    async fn fire_ticks(&self, what: &Firing) -> Result<Fired, Error> {
        let jobs: Vec<_> =
            what.ticks.iter().map(|(_, new)| EnqueueArgs::of(&what.queue, new)).collect();
        // A claimed tick is not fired again: repeating is safe.
        let add = |attempt, mut call: ScriptCall| {
            let known = what.known.map(|known| known.as_micros().max(0).to_string());
            call = call
                .arg(attempt)
                .arg(what.entry.as_str())
                .arg(known.unwrap_or_default())
                .arg(what.keep.as_secs().max(1))
                .arg(what.ticks.len());
            for (tick, _) in &what.ticks {
                call = call.arg(tick.as_micros());
            }
            jobs.iter().fold(call, |call, job| job.add_args(call))
        };
        let mut reply = match what.ticks.is_empty() {
            // It only asks how far ticks are claimed.
            true => self.ask(&SCRIPTS.fire_ticks, &what.queue, Repeat::Safe, add).await?,
            false => {
                let (queues, now) = (iter::once(&what.queue), self.clock.argument());
                self.promise(&SCRIPTS.fire_ticks, queues, Repeat::Safe, &now, add).await?
            }
        };
        let claimed = Timestamp::from_micros(reply.int()?);
        let last_run = reply.int()?;
        let mut ticks = Vec::with_capacity(what.ticks.len());
        for (_, new) in &what.ticks {
            let (code, holder, number) = (reply.int()?, reply.id()?, reply.int()?);
            ticks.push(match code {
                1 => {
                    let at = Timestamp::from_micros(number);
                    match new.placement {
                        Placement::Now => {}
                        Placement::After(delay) => self.wake.due_at(&what.queue, at + delay),
                        Placement::At(due) => self.wake.due_at(&what.queue, due),
                    }
                    Tick::Fired { at }
                }
                0 => Tick::Claimed,
                -1 => Tick::Locked { holder },
                -2 => Tick::IdConflict,
                _ => Tick::Early(Duration::from_micros(number.unsigned_abs())),
            });
        }
        let last_run = (last_run >= 0).then(|| Timestamp::from_micros(last_run));
        Ok(Fired { claimed, last_run, ticks })
    }
}

/// The values of an array of texts.
///
/// # Errors
/// [`Error::is_damaged`] for a reply of another form.
fn array(value: Value) -> Result<Vec<Vec<u8>>, Error> {
    match value {
        Value::Array(values) => values
            .into_iter()
            .map(|value| match value {
                Value::BulkString(bytes) => Ok(bytes),
                _ => Err(reply::unexpected()),
            })
            .collect(),
        _ => Err(reply::unexpected()),
    }
}
