//! Where a job stands, and who serves its queue: what the explanation of a waiting job needs.
//!
//! Each question is one script or one command of one queue. The registry of processes is read
//! without the jobs in flight, which a process counts itself: a page that explains a job must not
//! read what a thousand workers do.

use ::redis::Value;
use futures_util::future::{join, join_all};

use super::limits::limit_standing;
use super::scripts::SCRIPTS;
use super::servers::CONCURRENT_REQUESTS;
use super::{RedisBroker, keys, wire};
use crate::broker::{MAX_SEARCHED, MAX_SEARCHED_SETS, ServerInfo, Servers, Standing};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName};
use crate::pool::Repeat;
use crate::time::Timestamp;

impl RedisBroker {
    /// Where a job stands. One script.
    pub(super) async fn standing_of(
        &self,
        queue: &QueueName,
        id: &JobId,
    ) -> Result<Standing, Error> {
        let mut found = self
            .ask(&SCRIPTS.read_standing, queue, Repeat::Safe, |_, call| {
                call.arg(id.as_bytes()).arg(MAX_SEARCHED).arg(MAX_SEARCHED_SETS)
            })
            .await?;
        let state = JobState::parse(&found.text()?);
        let is_paused = found.int()? == 1;
        let since = found.text()?.parse().ok().map(Timestamp::from_secs);
        let mut standing = Standing {
            state,
            waits_for: None,
            follows: None,
            is_paused,
            paused_since: since.filter(|_| is_paused),
            pending: found.size()?,
            ahead: u64::try_from(found.int()?).ok(),
            served: found.instant()?.map(|minute| Timestamp::from_secs(minute.as_micros() * 60)),
            has_started: found.int()? == 1,
            has_foreign_lease: found.int()? == 1,
            group_size: found.size()?,
            group_oldest: found.instant()?,
            group_newest: found.instant()?,
            set_expires: found.instant()?,
            has_more_sets: found.int()? == 1,
        };
        let holder = found.bytes()?;
        standing.follows = (!holder.is_empty()).then(|| JobId::stored(&holder));
        if !found.is_empty() {
            standing.waits_for = limit_standing(&mut found)?;
        }
        Ok(standing)
    }

    /// The announced processes with the number of their jobs. One command, and two per process.
    pub(super) async fn serving_processes(&self) -> Result<Servers, Error> {
        let mut all = Servers::default();
        let live = match self.live(keys::SERVERS).await {
            Ok(live) => live,
            // The doctor reports the damaged registry.
            Err(error) if error.is_damaged() => {
                all.unreadable += 1;
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        for some in live.chunks(CONCURRENT_REQUESTS) {
            let read = |key: &Vec<u8>| {
                let prefix = [keys::SERVERS, ":"].concat();
                let tag = key.strip_prefix(prefix.as_bytes()).unwrap_or_default().to_vec();
                let key = [key.clone()];
                async move {
                    join(self.command(Repeat::Safe, "GET", &key), self.plain_details(&tag)).await
                }
            };
            for (answer, details) in join_all(some.iter().map(read)).await {
                match answer {
                    Ok(Value::BulkString(server)) => match wire::announced_server(&server) {
                        Some(server) => {
                            all.servers.push(ServerInfo { details: details?, ..server });
                        }
                        None => all.unreadable += 1,
                    },
                    // It expired in between.
                    Ok(_) => {}
                    Err(error) if error.is_unavailable() => return Err(error),
                    // A key of another type.
                    Err(_) => all.unreadable += 1,
                }
            }
        }
        all.sort();
        Ok(all)
    }

    /// How many jobs of a queue a worker may dequeue; none of a paused one. Two commands at the
    /// same time.
    pub(super) async fn available_in(&self, queue: &QueueName) -> Result<u64, Error> {
        let (length, paused) = ([keys::pending(queue).into()], [keys::paused(queue).into()]);
        let (length, paused) = join(
            self.command(Repeat::Safe, "LLEN", &length),
            self.command(Repeat::Safe, "EXISTS", &paused),
        )
        .await;
        match (length?, paused?) {
            (Value::Int(length), Value::Int(0)) => Ok(u64::try_from(length).unwrap_or_default()),
            _ => Ok(0),
        }
    }
}
