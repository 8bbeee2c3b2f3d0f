//! The script calls that store new jobs and extend leases.
//!
//! Four scripts store jobs. `enqueue_now` takes plain jobs that are due now, of several
//! queues at once; `enqueue_later` takes plain jobs that are due later; `enqueue` knows
//! unique locks, idempotency keys and groups as well, and `enqueue_limited` limits too. A call uses the cheapest
//! script that all of its jobs allow.
//!
//! The name of a queue is written beside the call (`SADD asynq:queues`), at most
//! once a minute per queue, so that Asynq's tools list it. That write may fail
//! without failing the job.
//!
//! What may surprise. A call is repeated after a lost reply only if a repetition
//! can find what the first call left: a job that is due now may have run and been
//! deleted meanwhile, and stored again it would run twice. Such a call reports
//! [`Error::is_outcome_unknown`](crate::Error::is_outcome_unknown) instead.

use std::iter;
use std::sync::atomic::Ordering;

use futures_util::future::join;

use super::enqueue_args::{EnqueueArgs, EnqueueScript};
use super::reply::{self, Reply};
use super::scripts::SCRIPTS;
use super::{RedisBroker, by_queue};
use crate::broker::Enqueued;
use crate::error::Error;
use crate::job::{JobState, QueueName};
use crate::pool::{LuaScript, Repeat, ScriptCall};
use crate::time::Timestamp;

impl RedisBroker {
    /// Stores jobs in one call, in the given order within each queue. All have the same
    /// [`EnqueueArgs::kind`], or belong to one queue.
    ///
    /// # Errors
    /// One error for the whole call: after a refusal none of the jobs is stored, after an
    /// unknown outcome all or none are.
    pub(super) async fn store_batch(&self, jobs: &[&EnqueueArgs]) -> Result<Vec<Enqueued>, Error> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let queues = by_queue(jobs.iter().map(|job| job.queue()));
        // Concurrently, within one deadline; only the jobs' result counts.
        let names = queues.iter().map(|(queue, _)| *queue);
        let (_, stored) = join(self.publish(names), self.store_some(&queues, jobs)).await;
        stored
    }

    /// Stores jobs in one call. If one queue refuses, each queue gets a call of its own, so that
    /// it stops no other.
    pub(super) async fn store_by_queue(
        &self,
        jobs: &[EnqueueArgs],
    ) -> Vec<Result<Enqueued, Error>> {
        let all: Vec<&EnqueueArgs> = jobs.iter().collect();
        let error = match self.store_batch(&all).await {
            Ok(stored) => return stored.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        let mut outcomes: Vec<_> = jobs.iter().map(|_| Err(error.clone())).collect();
        let queues = by_queue(jobs.iter().map(EnqueueArgs::queue));
        if queues.len() > 1 && error.is_refused() {
            for (_, indexes) in queues {
                let own: Vec<&EnqueueArgs> = indexes.iter().map(|&at| &jobs[at]).collect();
                match self.store_batch(&own).await {
                    Ok(stored) => {
                        for (at, one) in indexes.into_iter().zip(stored) {
                            outcomes[at] = Ok(one);
                        }
                    }
                    Err(error) => {
                        indexes.into_iter().for_each(|at| outcomes[at] = Err(error.clone()))
                    }
                }
            }
        }
        outcomes
    }

    /// Makes the call by the cheapest script that can store all of the jobs.
    async fn store_some(
        &self,
        queues: &[(&QueueName, Vec<usize>)],
        jobs: &[&EnqueueArgs],
    ) -> Result<Vec<Enqueued>, Error> {
        let script = jobs[0].script();
        let alike = jobs.iter().all(|job| job.script() == script);
        match script {
            EnqueueScript::Now if alike => self.store_now(queues, jobs).await,
            EnqueueScript::Later if alike => self.store_later(queues[0].0, jobs).await,
            EnqueueScript::Limited => {
                self.store_any(&SCRIPTS.enqueue_limited, queues[0].0, jobs).await
            }
            _ => self.store_any(&SCRIPTS.enqueue, queues[0].0, jobs).await,
        }
    }

    /// Plain jobs that are due now, of several queues. The reply names only the jobs whose id
    /// is in use, by their position.
    async fn store_now(
        &self,
        queues: &[(&QueueName, Vec<usize>)],
        jobs: &[&EnqueueArgs],
    ) -> Result<Vec<Enqueued>, Error> {
        let add = |call: ScriptCall| {
            queues.iter().fold(begin(call, jobs), |call, (_, indexes)| {
                let call = call.arg(indexes.len());
                indexes.iter().fold(call, |call, &at| jobs[at].add_now_args(call))
            })
        };
        let names = queues.iter().map(|(queue, _)| *queue);
        let mut reply = self.promise_now(&SCRIPTS.enqueue_now, names, add).await?;
        let due = reply.now();
        self.loaded.store(true, Ordering::Relaxed);
        let mut stored = vec![Enqueued::Created { state: JobState::Pending, due }; jobs.len()];
        while !reply.is_empty() {
            let nth = (reply.size()? as usize).checked_sub(1);
            let at = nth.and_then(|nth| queues.iter().flat_map(|(_, indexes)| indexes).nth(nth));
            let one = at.and_then(|&at| stored.get_mut(at));
            *one.ok_or_else(reply::unexpected)? = Enqueued::IdConflict;
        }
        Ok(stored)
    }

    /// Plain jobs of one queue that are due later.
    async fn store_later(
        &self,
        queue: &QueueName,
        jobs: &[&EnqueueArgs],
    ) -> Result<Vec<Enqueued>, Error> {
        let add = |attempt, call: ScriptCall| {
            jobs.iter().fold(begin(call, jobs).arg(attempt), |call, job| job.add_later_args(call))
        };
        let (queues, now) = (iter::once(queue), self.clock.argument());
        let script = &SCRIPTS.enqueue_later;
        let mut reply = self.promise(script, queues, repeat_of(jobs), &now, add).await?;
        let stored = |_: &&EnqueueArgs| {
            let (code, due) = (reply.int()?, Timestamp::from_micros(reply.int()?));
            Ok(self.created(queue, code, due).unwrap_or(Enqueued::IdConflict))
        };
        jobs.iter().map(stored).collect()
    }

    /// Any jobs of one queue: with locks, guards and groups.
    async fn store_any(
        &self,
        script: &'static LuaScript,
        queue: &QueueName,
        jobs: &[&EnqueueArgs],
    ) -> Result<Vec<Enqueued>, Error> {
        let add = |attempt, call: ScriptCall| {
            jobs.iter().fold(begin(call, jobs).arg(attempt), |call, job| job.add_args(call))
        };
        let (queues, now) = (iter::once(queue), self.clock.argument());
        let mut reply = self.promise(script, queues, repeat_of(jobs), &now, add).await?;
        jobs.iter().map(|_| self.stored(queue, &mut reply)).collect()
    }

    /// Reads how a script stored the next job.
    pub(super) fn stored(&self, queue: &QueueName, reply: &mut Reply) -> Result<Enqueued, Error> {
        let (code, id, due) = (reply.int()?, reply.id()?, Timestamp::from_micros(reply.int()?));
        if let Some(created) = self.created(queue, code, due) {
            return Ok(created);
        }
        let replaced = |state| {
            if state == JobState::Scheduled {
                self.wake.due_at(queue, due);
            }
            Enqueued::Replaced { id: id.clone(), state, due }
        };
        Ok(match code {
            0 => Enqueued::IdConflict,
            7 => Enqueued::Extended { holder: id },
            8 => replaced(JobState::Pending),
            9 => replaced(JobState::Scheduled),
            10 => replaced(JobState::Aggregating),
            13 => Enqueued::QueueFull,
            11 => Enqueued::NotFound,
            12 => {
                let state = JobState::parse(id.as_str());
                Enqueued::WrongState(state.ok_or_else(reply::unexpected)?)
            }
            -1 => Enqueued::Duplicate { holder: id },
            3 => Enqueued::Replayed { id },
            _ => Enqueued::KeyReused,
        })
    }

    /// The result of a job that was stored; `None` if the code says otherwise.
    fn created(&self, queue: &QueueName, code: i64, due: Timestamp) -> Option<Enqueued> {
        let state = match code {
            1 => JobState::Pending,
            2 => JobState::Scheduled,
            5 => JobState::Aggregating,
            _ => return None,
        };
        if state == JobState::Scheduled {
            self.wake.due_at(queue, due);
        }
        Some(Enqueued::Created { state, due })
    }
}

/// Begins a call. The first call of a sequence carries the script's text, so that Redis
/// cannot answer that it does not know the script and let later calls overtake it.
fn begin(call: ScriptCall, jobs: &[&EnqueueArgs]) -> ScriptCall {
    if jobs[0].opens { call.in_full() } else { call }
}

/// A call may be repeated after a lost reply if all of its jobs can be recognised.
fn repeat_of(jobs: &[&EnqueueArgs]) -> Repeat {
    match jobs.iter().all(|job| job.is_repeatable()) {
        true => Repeat::Safe,
        false => Repeat::Never,
    }
}
