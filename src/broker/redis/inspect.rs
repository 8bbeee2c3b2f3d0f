//! Questions and rare actions, off the hot path.

use std::collections::BTreeMap;

use ::redis::Value;

use super::scripts::SCRIPTS;
use super::{RedisBroker, keys, reply, wire};
use crate::broker::{Answer, Inspect, JobInfo, QueueInfo};
use crate::error::Error;
use crate::job::{JobId, JobState, QueueName};
use crate::pool::Repeat;
use crate::time::Timestamp;

impl Inspect for RedisBroker {
    fn queues(&self) -> Answer<'_, Vec<QueueName>> {
        Box::pin(async move {
            let names = self.command(Repeat::Safe, "SMEMBERS", &[keys::QUEUES.into()]).await?;
            let members: Vec<Value> = match names {
                Value::Array(members) | Value::Set(members) => members,
                _ => return Err(reply::unexpected()),
            };
            let mut queues: Vec<QueueName> = members
                .into_iter()
                .filter_map(|member| match member {
                    Value::BulkString(name) => String::from_utf8(name).ok(),
                    _ => None,
                })
                .map(|name| QueueName::stored(&name))
                .collect();
            queues.sort();
            Ok(queues)
        })
    }

    fn queue<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, QueueInfo> {
        Box::pin(async move {
            let member: Vec<Vec<u8>> = vec![keys::QUEUES.into(), queue.as_str().into()];
            if self.command(Repeat::Safe, "SISMEMBER", &member).await? != Value::Int(1) {
                return Err(Error::not_found(format!("queue \"{queue}\" does not exist")));
            }
            let mut found = self.ask(&SCRIPTS.queue, queue, Repeat::Safe, |_, call| call).await?;
            let mut sizes = BTreeMap::new();
            for state in [
                JobState::Pending,
                JobState::Active,
                JobState::Scheduled,
                JobState::Retry,
                JobState::Archived,
                JobState::Completed,
                JobState::Aggregating,
            ] {
                sizes.insert(state.as_str(), found.size()?);
            }
            Ok(QueueInfo {
                sizes,
                paused: found.int()? == 1,
                processed: found.counter()?,
                failed: found.counter()?,
                processed_today: found.counter()?,
                failed_today: found.counter()?,
            })
        })
    }

    fn job<'a>(&'a self, queue: &'a QueueName, id: &'a JobId) -> Answer<'a, Option<JobInfo>> {
        Box::pin(async move {
            let mut found = self
                .ask(&SCRIPTS.job, queue, Repeat::Safe, |_, call| call.arg(id.as_str()))
                .await?;
            if found.is_empty() {
                return Ok(None);
            }
            let message = found.bytes()?;
            let state = found.text()?;
            let due = found.int()?;
            let losses = u32::try_from(found.int()?).unwrap_or(0);
            let result = if found.is_empty() { None } else { Some(found.bytes()?) };
            let unreadable =
                |what| Error::refused(format!("job \"{id}\": its {what} is unreadable"));
            Ok(Some(JobInfo {
                job: wire::decode(queue, id, &message).ok_or_else(|| unreadable("message"))?,
                state: JobState::parse(&state).ok_or_else(|| unreadable("state"))?,
                due: (due >= 0).then(|| Timestamp::from_micros(due)),
                result,
                losses,
            }))
        })
    }

    fn pause<'a>(&'a self, queue: &'a QueueName, paused: bool) -> Answer<'a, bool> {
        Box::pin(async move {
            use crate::broker::Broker;
            let key: Vec<u8> = keys::paused(queue).into();
            let answer = if paused {
                let since = self.now().as_secs().to_string();
                self.command(Repeat::Safe, "SETNX", &[key, since.into()]).await?
            } else {
                self.command(Repeat::Safe, "DEL", &[key]).await?
            };
            Ok(answer == Value::Int(1))
        })
    }
}
