//! Extends the leases of jobs in flight.
//!
//! A heartbeat extends all leases of the process: one script call per queue and 100
//! leases, all concurrently, so that a node that hangs delays no other. An extension is
//! never repeated after a lost reply. The next heartbeat asks again, and a late repetition
//! would keep a job longer than its owner knows.
//!
//! What may surprise. A queue whose slot is moving answers [`Extended::Moving`]: the job
//! cannot be dequeued meanwhile, and recovery waits afterwards until the owner has had time to
//! ask again. A lease whose reply was lost is [`Extended::Unknown`]: the owner goes on, as
//! the identity of a lease does not change with its end.

use futures_util::future::join_all;

use super::scripts::SCRIPTS;
use super::{MAX_BATCH_JOBS, RedisBroker, by_queue};
use crate::broker::{Extended, Lease};
use crate::error::Error;
use crate::job::{AfterCancel, QueueName};
use crate::pool::{Repeat, ScriptCall};

impl RedisBroker {
    /// Extends each lease by [`LEASE`](crate::broker::LEASE) from now. An error means that
    /// no queue replied.
    pub(super) async fn extend_all(&self, leases: &[Lease]) -> Result<Vec<Extended>, Error> {
        let groups = by_queue(leases.iter().map(|lease| &lease.queue));
        let calls = groups.iter().flat_map(|(queue, indexes)| {
            indexes.chunks(MAX_BATCH_JOBS).map(move |indexes| async move {
                let some: Vec<&Lease> = indexes.iter().map(|&at| &leases[at]).collect();
                (*queue, indexes, self.extend_some(queue, &some).await)
            })
        });
        let mut extended = vec![Extended::Unknown; leases.len()];
        let (mut replied, mut failure) = (false, None);
        for (queue, indexes, reply) in join_all(calls).await {
            match reply {
                Ok(some) => {
                    replied = true;
                    for (&at, one) in indexes.iter().zip(some) {
                        extended[at] = one;
                    }
                }
                Err(error) if error.is_moving() => {
                    replied = true;
                    indexes.iter().for_each(|&at| extended[at] = Extended::Moving);
                }
                Err(error) => {
                    crate::log::debug!(%queue, ?error, "could not extend leases");
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if !replied => Err(error),
            _ => Ok(extended),
        }
    }

    /// Extends up to 100 leases of one queue in one call. The reply also has the cancel request
    /// of each job, if there is one: this is how a worker learns of it if it missed the
    /// message.
    async fn extend_some(
        &self,
        queue: &QueueName,
        leases: &[&Lease],
    ) -> Result<Vec<Extended>, Error> {
        let mut reply = self
            .ask(&SCRIPTS.extend_leases, queue, Repeat::Never, |_, call| {
                leases.iter().fold(call, |call, lease| lease_args(call, lease))
            })
            .await?;
        let mut extended = Vec::with_capacity(leases.len());
        for lease in leases {
            let (ends, on_cancel) = (reply.int()?, AfterCancel::parse(&reply.text()?));
            let renewed = Lease { ends, ..(*lease).clone() };
            extended.push(match (ends, on_cancel) {
                (0, _) => Extended::Lost,
                (_, None) => Extended::Renewed(renewed),
                (_, Some(after)) => Extended::Cancelled(renewed, after),
            });
        }
        Ok(extended)
    }
}

/// Adds a lease as scripts read it: id, owner (empty if unknown) and end.
pub(super) fn lease_args(call: ScriptCall, lease: &Lease) -> ScriptCall {
    let owner = lease.owner.map_or(String::new(), |owner| owner.to_string());
    call.arg(lease.id.as_bytes()).arg(owner).arg(lease.ends)
}
