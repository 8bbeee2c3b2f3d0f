//! The script calls of the hot path, each for some jobs of one queue.

use std::iter;
use std::sync::atomic::Ordering;

use futures_util::future::join;

use super::enqueue_args::{EnqueueArgs, EnqueueScript};
use super::reply::{self, Reply};
use super::scripts::SCRIPTS;
use super::{RedisBroker, by_queue};
use crate::broker::{Enqueued, Extended, Lease};
use crate::error::Error;
use crate::job::{AfterCancel, JobState, QueueName};
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

impl RedisBroker {
    /// Stores jobs in one call, those of a queue in their order. All have a
    /// [`EnqueueArgs::kind`] alike, or are of one queue and none is to be repeated.
    pub(super) async fn store_batch(&self, jobs: &[&EnqueueArgs]) -> Result<Vec<Enqueued>, Error> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let queues = by_queue(jobs.iter().map(|job| job.queue()));
        // Side by side: the jobs' outcome is the answer, within one deadline.
        let names = queues.iter().map(|(queue, _)| *queue);
        let (_, stored) = join(self.publish(names), self.store_some(&queues, jobs)).await;
        stored
    }

    /// Stores jobs in one call; where one queue refuses, each is asked by itself, so that
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
            for (_, places) in queues {
                let own: Vec<&EnqueueArgs> = places.iter().map(|&at| &jobs[at]).collect();
                match self.store_batch(&own).await {
                    Ok(stored) => {
                        for (at, one) in places.into_iter().zip(stored) {
                            outcomes[at] = Ok(one);
                        }
                    }
                    Err(error) => {
                        places.into_iter().for_each(|at| outcomes[at] = Err(error.clone()))
                    }
                }
            }
        }
        outcomes
    }

    async fn store_some(
        &self,
        queues: &[(&QueueName, Vec<usize>)],
        jobs: &[&EnqueueArgs],
    ) -> Result<Vec<Enqueued>, Error> {
        let (queue, by) = (queues[0].0, jobs[0].by());
        let alike = jobs.iter().all(|job| job.by() == by);
        let safe = jobs.iter().all(|job| job.leaves_a_trace());
        let repeat = if safe { Repeat::Safe } else { Repeat::Never };
        let begin = |call: ScriptCall| match jobs[0].opens {
            true => call.in_full(),
            false => call,
        };
        if alike && by == EnqueueScript::Push {
            let add = |call: ScriptCall| {
                queues.iter().fold(begin(call), |call, (_, places)| {
                    let call = call.arg(places.len());
                    places.iter().fold(call, |call, &at| jobs[at].add_plain_to(call))
                })
            };
            let names = queues.iter().map(|(queue, _)| *queue);
            let mut reply = self.promise_now(&SCRIPTS.enqueue_now, names, add).await?;
            let due = reply.now();
            self.loaded.store(true, Ordering::Relaxed);
            let mut stored = vec![Enqueued::Created { state: JobState::Pending, due }; jobs.len()];
            while !reply.is_empty() {
                let nth = (reply.size()? as usize).checked_sub(1);
                let at = nth.and_then(|nth| queues.iter().flat_map(|(_, places)| places).nth(nth));
                let one = at.and_then(|&at| stored.get_mut(at));
                *one.ok_or_else(reply::unexpected)? = Enqueued::IdConflict;
            }
            return Ok(stored);
        }
        let now = self.clock.argument();
        if alike && by == EnqueueScript::Schedule {
            let add = |attempt, call: ScriptCall| {
                jobs.iter().fold(begin(call).arg(attempt), |call, job| job.add_later_to(call))
            };
            let mut reply =
                self.promise(&SCRIPTS.enqueue_later, iter::once(queue), repeat, &now, add).await?;
            let stored = |_: &&EnqueueArgs| {
                let (code, due) = (reply.int()?, Timestamp::from_micros(reply.int()?));
                Ok(self.created(queue, code, due).unwrap_or(Enqueued::IdConflict))
            };
            return jobs.iter().map(stored).collect();
        }
        let add = |attempt, call: ScriptCall| {
            jobs.iter().fold(begin(call).arg(attempt), |call, job| job.add_to(call))
        };
        let mut reply =
            self.promise(&SCRIPTS.enqueue, iter::once(queue), repeat, &now, add).await?;
        jobs.iter().map(|_| self.stored(queue, &mut reply)).collect()
    }

    /// What a script that stores jobs says about the next one.
    pub(super) fn stored(&self, queue: &QueueName, reply: &mut Reply) -> Result<Enqueued, Error> {
        let (code, id, due) = (reply.int()?, reply.id()?, Timestamp::from_micros(reply.int()?));
        if let Some(created) = self.created(queue, code, due) {
            return Ok(created);
        }
        Ok(match code {
            0 => Enqueued::IdConflict,
            -1 => Enqueued::Duplicate { holder: id },
            3 => Enqueued::Replayed { id },
            _ => Enqueued::KeyReused,
        })
    }

    /// The job was stored, where the code says so.
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

    pub(super) async fn extend_some(
        &self,
        queue: &QueueName,
        leases: &[&Lease],
    ) -> Result<Vec<Extended>, Error> {
        // Never repeated: the next heartbeat asks again, and one that arrives late
        // would keep a job longer than its owner knows.
        let mut reply = self
            .ask(&SCRIPTS.extend_leases, queue, Repeat::Never, |_, mut call| {
                for lease in leases {
                    call = lease_args(call, lease);
                }
                call
            })
            .await?;
        let mut extended = Vec::with_capacity(leases.len());
        for lease in leases {
            let (ends, wish) = (reply.int()?, AfterCancel::parse(&reply.text()?));
            let renewed = Lease { ends, ..(*lease).clone() };
            extended.push(match (ends, wish) {
                (0, _) => Extended::Lost,
                (_, None) => Extended::Renewed(renewed),
                (_, Some(after)) => Extended::Cancelled(renewed, after),
            });
        }
        Ok(extended)
    }
}

/// Id, owner and end, as scripts take a lease.
pub(super) fn lease_args(call: ScriptCall, lease: &Lease) -> ScriptCall {
    let owner = lease.owner.map_or(String::new(), |owner| owner.to_string());
    call.arg(lease.id.as_bytes()).arg(owner).arg(lease.ends)
}
