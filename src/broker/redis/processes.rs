//! What only this crate knows of its worker processes: their details, and what operators ask of
//! them.
//!
//! Both lie beside Asynq's announcement, in keys of the same hash tag, so that the script of the
//! heartbeat writes one and reads the other. The requests of all processes have a key of their own:
//! on a single server the same script reads it, on a Cluster it takes one more command.
//!
//! A request is a field of a hash, so a later one of the same setting replaces it and no other. Its
//! instant is written by the script: of two requests the newer one counts, whoever sent it.

use std::collections::BTreeMap;
use std::time::Duration;

use ::redis::Value;
use serde::{Deserialize, Serialize};

use super::reply::Reply;
use super::scripts::SCRIPTS;
use super::{RedisBroker, keys};
use crate::broker::{
    Answer, Broker, REQUESTS_KEPT, ServerInfo, WorkerChange, WorkerDetails, WorkerName,
    WorkerSetting, WorkerState, Workers, hint_for, hint_for_all,
};
use crate::error::Error;
use crate::job::QueueName;
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

/// The value of `asynq:x:worker:{…}`: JSON of a process's details. A reader ignores members that
/// it does not know, and one that is missing has its default.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredDetails {
    version: Option<String>,
    memory: Option<u64>,
    state: String,
    in_use: u32,
    concurrency: u32,
    concurrency_max: u32,
    queues: BTreeMap<String, u32>,
    namespace: String,
    /// As the requests are stored.
    applied: BTreeMap<String, String>,
    /// The settings in `applied` that were asked of all processes.
    for_all: Vec<String>,
}

/// The details of a process as they are stored.
pub(super) fn stored_details(details: &WorkerDetails) -> Vec<u8> {
    let queues = details.configured_queues.iter();
    let applied = details.applied.iter().map(|change| {
        (change.setting.field(), format!("{} {}", change.at.as_micros(), change.text()))
    });
    let for_all = details.applied.iter().filter(|change| change.for_all);
    let stored = StoredDetails {
        version: details.version.clone(),
        memory: details.memory,
        state: details.state.as_str().to_owned(),
        in_use: details.in_use,
        concurrency: details.configured_concurrency,
        concurrency_max: details.concurrency_max,
        queues: queues.map(|(queue, weight)| (queue.as_str().to_owned(), *weight)).collect(),
        namespace: details.namespace.clone(),
        applied: applied.collect(),
        for_all: for_all.map(|change| change.setting.field()).collect(),
    };
    serde_json::to_vec(&stored).expect("texts and numbers are JSON")
}

/// The details that a process stored; `None` for a value that is not ours.
fn read_details(stored: &[u8]) -> Option<WorkerDetails> {
    let stored: StoredDetails = serde_json::from_slice(stored).ok()?;
    let applied = stored.applied.iter().filter_map(|(field, text)| {
        WorkerChange::parse(field, text, stored.for_all.contains(field))
    });
    let queues = stored.queues.iter();
    Some(WorkerDetails {
        applied: applied.collect(),
        version: stored.version,
        memory: stored.memory,
        state: WorkerState::parse(&stored.state).unwrap_or_default(),
        in_use: stored.in_use,
        configured_concurrency: stored.concurrency,
        concurrency_max: stored.concurrency_max,
        configured_queues: queues
            .map(|(name, weight)| (QueueName::stored(name), *weight))
            .collect(),
        namespace: stored.namespace,
    })
}

/// The requests in a reply with fields and values. What a later version wrote is skipped.
pub(super) fn read_requests(mut found: Reply, for_all: bool) -> Result<Vec<WorkerChange>, Error> {
    let mut requests = Vec::new();
    while !found.is_empty() {
        let (field, stored) = (found.text()?, found.text()?);
        requests.extend(WorkerChange::parse(&field, &stored, for_all));
    }
    Ok(requests)
}

impl RedisBroker {
    /// What a process of this crate tells besides, and what was asked of it alone. `tag` is the part
    /// in braces of its keys. One command, and one more for such a process.
    pub(super) async fn details(
        &self,
        tag: &[u8],
    ) -> Result<Option<(WorkerDetails, Vec<WorkerChange>)>, Error> {
        let Some(details) = self.plain_details(tag).await? else { return Ok(None) };
        let own = match self.hash(&[keys::ASKED.as_bytes(), tag].concat()).await {
            Ok(found) => read_requests(found, false)?,
            Err(error) if error.is_unavailable() => return Err(error),
            // A key of another type asks for nothing.
            Err(_) => Vec::new(),
        };
        Ok(Some((details, own)))
    }

    /// What a process of this crate tells besides; `None` for others. One command.
    pub(super) async fn plain_details(&self, tag: &[u8]) -> Result<Option<WorkerDetails>, Error> {
        let key = [[keys::WORKER.as_bytes(), tag].concat()];
        match self.command(Repeat::Safe, "GET", &key).await {
            Ok(Value::BulkString(stored)) => Ok(read_details(&stored)),
            Ok(_) => Ok(None),
            Err(error) if error.is_unavailable() => Err(error),
            // A key of another type tells nothing.
            Err(_) => Ok(None),
        }
    }

    /// Adds what was asked of each process, alone and with all others of its namespace. One command
    /// per namespace.
    pub(super) async fn add_changes(
        &self,
        asked: Vec<(ServerInfo, Vec<WorkerChange>)>,
    ) -> Result<Vec<ServerInfo>, Error> {
        let mut of_all: BTreeMap<String, Vec<WorkerChange>> = BTreeMap::new();
        for details in asked.iter().filter_map(|(server, _)| server.details.as_ref()) {
            if !of_all.contains_key(&details.namespace) {
                let stored = match self.stored_for_all(&details.namespace).await {
                    Ok(stored) => stored,
                    Err(error) if error.is_unavailable() => return Err(error),
                    Err(_) => Vec::new(),
                };
                of_all.insert(details.namespace.clone(), stored);
            }
        }
        let now = self.now();
        let with_changes = asked.into_iter().map(|(mut server, own)| {
            if let Some(details) = &server.details {
                let all = of_all.get(&details.namespace).map_or(&[][..], Vec::as_slice);
                server.changes = details.changes(&own, all, now);
            }
            server
        });
        Ok(with_changes.collect())
    }

    /// All fields and values of a hash.
    async fn hash(&self, key: &[u8]) -> Result<Reply, Error> {
        Reply::new(self.command(Repeat::Safe, "HGETALL", &[key.to_vec()]).await?)
    }

    /// The requests of all processes of a namespace, with those that have ended.
    pub(super) async fn stored_for_all(&self, namespace: &str) -> Result<Vec<WorkerChange>, Error> {
        read_requests(self.hash(keys::asked_of_all(namespace).as_bytes()).await?, true)
    }

    /// Runs the script that stores requests. Safe to repeat: the same values are written again.
    async fn request(
        &self,
        key: &str,
        kept: Duration,
        hint: &str,
        changes: &[(&WorkerSetting, String)],
    ) -> Result<(), Error> {
        let now = self.clock.argument();
        let ask = |_| {
            let call = ScriptCall::new().key(key).arg(now.as_str());
            let call = call.arg(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)).arg(hint);
            changes
                .iter()
                .fold(call, |call, (setting, text)| call.arg(setting.field()).arg(text.as_str()))
        };
        self.pool.eval(&SCRIPTS.request_change, Repeat::Safe, ask).await.map(drop)
    }

    /// How long a key with these changes has to live.
    fn kept(&self, changes: &[WorkerChange], now: Timestamp) -> Duration {
        let until = changes.iter().filter_map(|change| change.until).max();
        until.map_or(REQUESTS_KEPT, |until| until.since(now).max(REQUESTS_KEPT))
    }
}

impl Workers for RedisBroker {
    fn request_of_one<'a>(
        &'a self,
        who: WorkerName<'a>,
        changes: &'a [WorkerChange],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let texts: Vec<_> = changes.iter().map(|one| (&one.setting, one.text())).collect();
            let kept = self.kept(changes, self.now());
            self.request(&keys::asked(who), kept, &hint_for(who.server_id), &texts).await
        })
    }

    fn request_of_all<'a>(
        &'a self,
        namespace: &'a str,
        changes: &'a [WorkerChange],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let text = |one: &WorkerChange| one.until.map_or(String::new(), |_| one.text());
            let texts: Vec<_> = changes.iter().map(|one| (&one.setting, text(one))).collect();
            let kept = self.kept(changes, self.now());
            self.request(&keys::asked_of_all(namespace), kept, &hint_for_all(), &texts).await
        })
    }

    fn requests_of_all<'a>(&'a self, namespace: &'a str) -> Answer<'a, Vec<WorkerChange>> {
        Box::pin(async move {
            let mut stored = self.stored_for_all(namespace).await?;
            stored.retain(|change| change.holds(self.now()));
            Ok(stored)
        })
    }
}
