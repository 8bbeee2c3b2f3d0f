//! Limits of queues in Redis: setting them, and what they count.
//!
//! The limits of a queue are one hash, `Q:x:limits`, whose existence a dequeue asks for in the
//! command that asks whether the queue is paused. So a limit holds from the next dequeue of every
//! process on, and a queue without limits pays nothing. The work is in `lua/lib/limits.lua`.
//!
//! What may surprise. The fast script dequeues nothing from a queue with limits and says so;
//! [`LimitedQueues`] remembers it, so that the next calls take the general script at once. It
//! learns from each of their replies whether that is still so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::RedisBroker;
use super::inspect::scanned_to;
use super::reply::{self, Reply};
use super::scripts::SCRIPTS;
use crate::broker::{
    Answer, Cursor, LimitInfo, LimitKeyPage, LimitStanding, LimitUse, LimitUses, LimitWait, Limits,
    MAX_LISTED_KEYS, Mark, Page,
};
use crate::error::Error;
use crate::job::{Limit, MAX_LIMITS, QueueName, RateNumbers};
use crate::pool::Repeat;
use crate::sync::lock;
use crate::time::Timestamp;

/// Maximum queues that are remembered: their names may come from requests.
const MAX_REMEMBERED: usize = 1000;

/// The queues of which a script said that they have limits.
#[derive(Default)]
pub(super) struct LimitedQueues {
    /// Whether there are any, so that most processes need no lock.
    some: AtomicBool,
    names: Mutex<BTreeSet<QueueName>>,
}

impl LimitedQueues {
    pub(super) fn contains(&self, queue: &QueueName) -> bool {
        self.some.load(Ordering::Relaxed) && lock(&self.names).contains(queue)
    }

    /// Notes what a script said of a queue.
    pub(super) fn note(&self, queue: &QueueName, limited: bool) {
        if self.contains(queue) == limited {
            return;
        }
        let mut names = lock(&self.names);
        if !limited {
            names.remove(queue);
        } else {
            if names.len() >= MAX_REMEMBERED {
                names.pop_first();
            }
            names.insert(queue.clone());
        }
        self.some.store(!names.is_empty(), Ordering::Relaxed);
    }
}

/// A limit as it is stored: with the numbers that the scripts count with.
#[derive(Serialize)]
struct StoredLimit<'a> {
    #[serde(flatten)]
    limit: &'a Limit,
    /// Those of its rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    numbers: Option<RateNumbers>,
}

impl StoredLimit<'_> {
    fn text(limit: &Limit) -> Result<String, Error> {
        let stored = StoredLimit { limit, numbers: limit.rate.map(|rate| rate.numbers()) };
        serde_json::to_string(&stored)
            .map_err(|error| Error::invalid(format!("limit {:?}: {error}", limit.name)))
    }
}

/// A stored limit; `None` if it cannot be read.
fn read_limit(text: &[u8]) -> Option<Limit> {
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(text).ok()?;
    fields.remove("numbers");
    let limit: Limit = serde_json::from_value(fields.into()).ok()?;
    limit.check().is_ok().then_some(limit)
}

/// A pair `<limit>:<key>`; `None` for another text.
pub(super) fn waited_for(pair: &str) -> Option<LimitWait> {
    let (limit, key) = pair.split_once(':')?;
    Some(LimitWait { limit: limit.to_owned(), key: key.to_owned() })
}

/// Reads the state of a pair.
fn read_use(reply: &mut Reply) -> Result<(LimitWait, LimitUse), Error> {
    let pair = waited_for(&reply.text()?).ok_or_else(reply::unexpected)?;
    let (in_use, waiting) = (reply.size()?, reply.size()?);
    let (since, next_at) = (reply.instant()?, reply.instant()?);
    let key = pair.key.clone();
    Ok((pair, LimitUse { key, in_use, waiting, since, next_at }))
}

/// Reads how a waiting job stands.
pub(super) fn limit_standing(reply: &mut Reply) -> Result<Option<LimitStanding>, Error> {
    let (pair, of_key) = read_use(reply)?;
    let (max, ahead) = (u32::try_from(reply.int()?).ok(), reply.size()?);
    let LimitUse { key, in_use, since, next_at, .. } = of_key;
    Ok(Some(LimitStanding { limit: pair.limit, key, in_use, max, since, ahead, next_at }))
}

/// What one call reads.
#[derive(Default)]
struct Found {
    limits: BTreeMap<String, Limit>,
    uses: Vec<(String, LimitUse)>,
    more: bool,
}

impl RedisBroker {
    /// Writes or removes a limit, and has its keys looked at. The code of the first call.
    async fn write_limit(&self, queue: &QueueName, name: &str, text: &str) -> Result<i64, Error> {
        let (mut cursor, mut code) = ("0".to_owned(), None);
        loop {
            let mut reply = self
                .ask(&SCRIPTS.set_limit, queue, Repeat::Safe, |_, call| {
                    call.arg(name).arg(text).arg(MAX_LIMITS).arg(cursor.as_str())
                })
                .await?;
            let one = reply.int()?;
            let code = *code.get_or_insert(one);
            cursor = reply.text()?;
            if cursor == "0" || code != 1 {
                return Ok(code);
            }
        }
    }

    async fn read_limits(&self, queue: &QueueName) -> Result<Found, Error> {
        let mut reply = self
            .ask(&SCRIPTS.read_limits, queue, Repeat::Safe, |_, call| call.arg(MAX_LISTED_KEYS))
            .await?;
        let mut found = Found::default();
        for _ in 0..reply.size()? {
            let (name, text) = (reply.text()?, reply.bytes()?);
            if let Some(limit) = read_limit(&text).filter(|limit| limit.name == name) {
                found.limits.insert(name, limit);
            }
        }
        found.more = reply.int()? == 1;
        while !reply.is_empty() {
            let (pair, one) = read_use(&mut reply)?;
            found.uses.push((pair.limit, one));
        }
        Ok(found)
    }
}

impl Limits for RedisBroker {
    fn set_limit<'a>(&'a self, queue: &'a QueueName, limit: &'a Limit) -> Answer<'a, ()> {
        Box::pin(async move {
            limit.check()?;
            let text = StoredLimit::text(limit)?;
            match self.write_limit(queue, &limit.name, &text).await? {
                -1 => Err(Error::invalid(format!(
                    "limits of queue \"{queue}\": expected at most {MAX_LIMITS}, found another"
                ))),
                _ => {
                    self.limited.note(queue, true);
                    self.wake.due_at(queue, Timestamp::default());
                    Ok(())
                }
            }
        })
    }

    fn remove_limit<'a>(&'a self, queue: &'a QueueName, name: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            let removed = self.write_limit(queue, name, "").await? == 1;
            self.wake.due_at(queue, Timestamp::default());
            Ok(removed)
        })
    }

    fn limits<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<LimitInfo>> {
        Box::pin(async move {
            let found = self.read_limits(queue).await?;
            let sum = |limit: Limit| {
                let of_limit = || found.uses.iter().filter(|(name, _)| *name == limit.name);
                LimitInfo {
                    keys: of_limit().count() as u64,
                    in_use: of_limit().map(|(_, one)| one.in_use).sum(),
                    waiting: of_limit().map(|(_, one)| one.waiting).sum(),
                    is_partial: found.more,
                    limit,
                }
            };
            Ok(found.limits.into_values().map(sum).collect())
        })
    }

    fn limit_uses<'a>(
        &'a self,
        queue: &'a QueueName,
        name: &'a str,
        most: usize,
    ) -> Answer<'a, LimitUses> {
        Box::pin(async move {
            let found = self.read_limits(queue).await?;
            let of_limit = found.uses.into_iter().filter(|(limit, _)| limit == name);
            let mut uses: Vec<LimitUse> = of_limit.map(|(_, one)| one).collect();
            uses.sort_by(LimitUse::fullest_first);
            let more = found.more || uses.len() > most;
            uses.truncate(most);
            Ok(LimitUses { uses, more })
        })
    }

    /// Paged by `ZSCAN` cursors, so there are no page numbers.
    fn limit_keys<'a>(
        &'a self,
        queue: &'a QueueName,
        name: &'a str,
        page: &'a Page,
    ) -> Answer<'a, LimitKeyPage> {
        Box::pin(async move {
            let from = scanned_to(page)?;
            let mut reply = self
                .ask(&SCRIPTS.list_limit_keys, queue, Repeat::Safe, |_, call| {
                    call.arg(name).arg(page.rows()).arg(from)
                })
                .await?;
            let cursor = reply.bytes()?;
            let mut keys = Vec::new();
            while !reply.is_empty() {
                let (pair, one) = read_use(&mut reply)?;
                if pair.limit == name {
                    keys.push(one);
                }
            }
            let next = (cursor != b"0").then(|| Cursor::new(Mark::Scanned(cursor)));
            Ok(LimitKeyPage { keys, next })
        })
    }
}
