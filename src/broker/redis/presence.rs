//! The announcement of this worker process, as Asynq's tools read it.
//!
//! Each heartbeat writes three keys that expire after [`ANNOUNCEMENT_TTL_SECS`]: what
//! the process is, which jobs it has in flight, and what only this crate reads. They share
//! a hash tag, so one script writes them; it also reads what operators ask of the process. The registries of all processes are sorted sets by
//! expiry; a heartbeat adds its own entry and removes expired ones. It also writes
//! the names of its queues again, which a restored or emptied server may lack.
//!
//! What may surprise. A registry of the wrong type is reported only after
//! everything else was written, so that it hides no other process. Payloads are cut
//! to 4 KiB: tools show them, and Redis keeps a copy per heartbeat.

use super::processes::{read_requests, stored_details};
use super::reply::Reply;
use super::scripts::SCRIPTS;
use super::{RedisBroker, keys, wire};
use crate::broker::{Announcement, Broker, REQUESTS_KEPT, WorkerName, WorkerRequests};
use crate::error::Error;
use crate::pool::{Repeat, ScriptCall};

/// Lifetime of an announcement in seconds: twice the interval.
const ANNOUNCEMENT_TTL_SECS: i64 = 10;

impl RedisBroker {
    /// Announces this process, as Asynq's heartbeat does. Also removes processes that
    /// vanished, and writes the names of the queues again. Returns what operators ask of it.
    pub(super) async fn announce_presence(
        &self,
        who: &Announcement,
    ) -> Result<WorkerRequests, Error> {
        let now = self.now().as_secs();
        let (server, workers) = (keys::server(who), keys::workers(who));
        let running: Vec<(&[u8], Vec<u8>)> = who
            .running
            .iter()
            .map(|one| (one.job.id.as_bytes(), wire::worker_info(who, one)))
            .collect();
        let (info, details) = (wire::server_info(who), stored_details(&who.details));
        let (worker, asked) = (keys::worker(who), keys::asked(name(who)));
        // On a Cluster it is in another slot.
        let of_all = keys::asked_of_all(&who.details.namespace);
        let of_all = (!self.pool.is_cluster()).then_some(of_all);
        // A damaged registry must not keep this process out of the other one.
        let mut damaged = Ok(());
        for (all, own) in [(keys::SERVERS, &server), (keys::WORKERS, &workers)] {
            let expired = [all.into(), "-inf".into(), format!("({now}").into()];
            let member =
                [all.into(), (now + ANNOUNCEMENT_TTL_SECS).to_string().into(), own.as_str().into()];
            let join = async {
                self.command(Repeat::Safe, "ZREMRANGEBYSCORE", &expired).await?;
                self.command(Repeat::Safe, "ZADD", &member).await
            };
            match join.await {
                Ok(_) => {}
                Err(error) if error.is_damaged() => damaged = Err(error),
                Err(error) => return Err(error),
            }
        }
        let tell = |_| {
            let mut call =
                ScriptCall::new().key(&*server).key(&*workers).key(&*worker).key(&*asked);
            if let Some(of_all) = &of_all {
                call = call.key(&**of_all);
            }
            call = call
                .arg(ANNOUNCEMENT_TTL_SECS)
                .arg(REQUESTS_KEPT.as_secs())
                .arg(info.as_slice())
                .arg(details.as_slice());
            for (id, info) in &running {
                call = call.arg(*id).arg(info.as_slice());
            }
            call
        };
        let mut found =
            Reply::new(self.pool.eval(&SCRIPTS.announce_worker, Repeat::Safe, tell).await?)?;
        let own = read_requests(found.array()?, false)?;
        let all = match of_all {
            Some(_) => Some(read_requests(found.array()?, true)?),
            None => self.stored_for_all(&who.details.namespace).await.ok(),
        };
        let mut names: Vec<Vec<u8>> = vec![keys::QUEUES.into()];
        names.extend(who.queues.keys().map(|queue| queue.as_str().into()));
        if names.len() > 1 {
            self.command(Repeat::Safe, "SADD", &names).await?;
        }
        damaged.map(|()| WorkerRequests { own, all })
    }

    /// Removes the announcement, as Asynq does at shutdown.
    pub(super) async fn retire_presence(&self, who: &Announcement) -> Result<(), Error> {
        let (server, workers) = (keys::server(who), keys::workers(who));
        for (all, own) in [(keys::SERVERS, &server), (keys::WORKERS, &workers)] {
            self.command(Repeat::Safe, "ZREM", &[all.into(), own.as_str().into()]).await?;
            self.command(Repeat::Safe, "DEL", &[own.as_str().into()]).await?;
        }
        for ours in [keys::worker(who), keys::asked(name(who))] {
            self.command(Repeat::Safe, "DEL", &[ours.into()]).await?;
        }
        Ok(())
    }
}

/// The parts of a process's key.
fn name(who: &Announcement) -> WorkerName<'_> {
    WorkerName { host: &who.host, pid: i64::from(who.pid), server_id: &who.server_id }
}
