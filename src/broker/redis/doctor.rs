//! The doctor of the Redis store: it walks a queue page by page and reports what no
//! operation leaves behind.
//!
//! [`check_store`](Doctor::check_store) reads the settings of the servers: version,
//! eviction policy, persistence, the types of the keys that all queues share, queue
//! names that others cannot handle, and the difference between the clocks.
//!
//! [`check_queue`](Doctor::check_queue) checks one page of one part of a queue, in a
//! few milliseconds of Redis' time, and makes the repairs that the scope allows.
//! The script tests each entry again in the step that changes it, so it never acts
//! on a stale finding. The parts come in an order in which the repair of one helps
//! the next, see [`PARTS`]; the checkpoint names the part and a cursor within it.
//!
//! [`repair_provable`](Doctor::repair_provable) is the background form, called by
//! every worker about once a minute. A key with an expiry gives one process its
//! turn, and a second key keeps the position, so that a long queue is walked over
//! several turns.
//!
//! What may surprise. Lua cannot decode messages, so the script returns those that
//! are small enough, and unreadable ones are found here.

use std::time::Duration;

use ::redis::Value;
use futures_util::future::join_all;

use super::scripts::SCRIPTS;
use super::{RedisBroker, keys, reply, wire};
use crate::broker::doctor::{
    CheckedPage, Checkpoint, Doctor, Finding, FindingKind, FindingStatus, Findings, RepairScope,
};
use crate::broker::{Answer, Inspect};
use crate::error::Error;
use crate::job::QueueName;
use crate::pool::Repeat;

/// The parts of a queue in the order of the check: a job's list before its lease, and the
/// walk through all keys last.
const PARTS: [&str; 11] = [
    "types",
    "active",
    "lease",
    "pending",
    "scheduled",
    "retry",
    "archived",
    "completed",
    "x:due",
    "aggregation_sets",
    "keys",
];

/// Entries per script call: one or two milliseconds.
const PAGE_ENTRIES: usize = 100;

/// Pages per turn of the background repair.
const PAGES_PER_TURN: usize = 25;

/// How long the turn of one process excludes the others: a little less than the interval of the
/// background repair, so that each queue gets one turn a minute however many workers there are.
const TURN_TTL: Duration = Duration::from_secs(50);

/// How long the position of the background repair is kept: a day. Lost, the walk begins again.
const CURSOR_TTL: Duration = Duration::from_secs(86_400);

/// Maximum size of a message that is fetched to check that it can be decoded.
const MAX_DECODED_BYTES: usize = 8 * 1024;

/// Clock difference above which Go workers are affected.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(1);

impl Doctor for RedisBroker {
    /// Reads settings and registries. What an ACL hides gives no finding: a server that does
    /// not say whether it has snapshots is taken to have them.
    fn check_store(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async move {
            let mut found = Findings::default();
            let mut note = |kind, place: &str, sample: String| {
                found.add(Finding::new(kind, None, place, sample, FindingStatus::Reported));
            };
            let mut unlogged = false;
            for info in self.infos().await? {
                let field = |name: &str| {
                    info.lines()
                        .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
                };
                if let Some(version) = field("redis_version").filter(|version| is_old(version)) {
                    note(FindingKind::OldServer, "redis_version", version.to_owned());
                }
                match field("maxmemory_policy") {
                    Some(policy) if policy.starts_with("volatile-") => {
                        note(FindingKind::LockEviction, "maxmemory_policy", policy.to_owned());
                    }
                    Some(policy) if policy != "noeviction" => {
                        note(FindingKind::EvictionPolicy, "maxmemory_policy", policy.to_owned());
                    }
                    _ => {}
                }
                unlogged |= field("aof_enabled") == Some("0");
            }
            if unlogged && !self.takes_snapshots().await {
                note(FindingKind::NoPersistence, "appendonly", "no".to_owned());
            }
            for (key, found) in self.damaged_registries().await? {
                note(FindingKind::WrongType, key, found);
            }
            for queue in self.queues().await? {
                if QueueName::new(queue.as_str()).is_err() {
                    note(FindingKind::ForeignQueueName, "queues", queue.to_string());
                }
            }
            self.ping_time().await?;
            let (ours, theirs) = (self.clock.host(), self.clock.now());
            let skew = theirs.since(ours).max(ours.since(theirs));
            if skew > MAX_CLOCK_SKEW {
                note(FindingKind::ClockSkew, "time", format!("{:.1} s", skew.as_secs_f64()));
            }
            Ok(found.into_vec())
        })
    }

    /// Runs the script on one page and decodes the messages that it returns.
    fn check_queue<'a>(
        &'a self,
        queue: &'a QueueName,
        page: Option<Checkpoint>,
        repair: RepairScope,
    ) -> Answer<'a, CheckedPage> {
        Box::pin(async move {
            let (part, cursor) = match &page {
                Some(Checkpoint(page)) => page.split_once(' ').ok_or_else(reply::unexpected)?,
                None => (PARTS[0], "0"),
            };
            let scope = match repair {
                RepairScope::Nothing => 0,
                RepairScope::Provable => 1,
                RepairScope::All => 2,
            };
            let mut found = self
                .ask(&SCRIPTS.run_doctor, queue, Repeat::Safe, |_, call| {
                    call.arg(part).arg(cursor).arg(PAGE_ENTRIES).arg(scope).arg(MAX_DECODED_BYTES)
                })
                .await?;
            let entries_checked = found.size()?;
            let cursor = found.text()?;
            let findings = findings_of(queue, part, &mut found)?;
            let next = page_after(part, &cursor);
            Ok(CheckedPage { findings, entries_checked, next })
        })
    }

    /// Takes the turn, if it is free, and walks up to [`PAGES_PER_TURN`] pages.
    fn repair_provable<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<Finding>> {
        Box::pin(async move {
            let turn: Vec<Vec<u8>> = vec![
                keys::repair_turn(queue).into(),
                "1".into(),
                "NX".into(),
                "EX".into(),
                TURN_TTL.as_secs().to_string().into(),
            ];
            if self.command(Repeat::Never, "SET", &turn).await? == Value::Nil {
                return Ok(Vec::new());
            }
            let place: Vec<u8> = keys::repair_cursor(queue).into();
            let kept = self.command(Repeat::Safe, "GET", std::slice::from_ref(&place)).await?;
            let known =
                |page: &String| page.split_once(' ').is_some_and(|(part, _)| PARTS.contains(&part));
            let mut page = match kept {
                Value::BulkString(page) => {
                    String::from_utf8(page).ok().filter(known).map(Checkpoint)
                }
                _ => None,
            };
            let mut findings = Findings::default();
            for _ in 0..PAGES_PER_TURN {
                let checked = self.check_queue(queue, page.take(), RepairScope::Provable).await?;
                checked.findings.into_iter().for_each(|finding| findings.add(finding));
                page = checked.next;
                if page.is_none() {
                    break;
                }
            }
            match page {
                Some(Checkpoint(page)) => {
                    let seconds = CURSOR_TTL.as_secs().to_string();
                    let keep = [place, page.into(), "EX".into(), seconds.into()];
                    self.command(Repeat::Safe, "SET", &keep).await?;
                }
                None => {
                    self.command(Repeat::Safe, "DEL", &[place]).await?;
                }
            }
            Ok(findings.into_vec())
        })
    }
}

impl RedisBroker {
    /// The `INFO` of each server; empty if it is not permitted. On a Cluster the answer has a
    /// text for each node.
    async fn infos(&self) -> Result<Vec<String>, Error> {
        let text = |info| match info {
            Value::BulkString(text) => Some(String::from_utf8_lossy(&text).into_owned()),
            Value::VerbatimString { text, .. } => Some(text),
            _ => None,
        };
        match self.command(Repeat::Safe, "INFO", &[]).await {
            Ok(Value::Map(nodes)) => {
                Ok(nodes.into_iter().filter_map(|(_, info)| text(info)).collect())
            }
            Ok(info) => Ok(text(info).into_iter().collect()),
            Err(error) if error.is_refused() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Keys that all queues share and whose Redis type is wrong, each with the type found.
    async fn damaged_registries(&self) -> Result<Vec<(&'static str, String)>, Error> {
        let registries = [
            (keys::QUEUES, "set"),
            (keys::SERVERS, "zset"),
            (keys::WORKERS, "zset"),
            (keys::SCHEDULERS, "zset"),
        ];
        let types = join_all(
            registries
                .map(async |(key, _)| self.command(Repeat::Safe, "TYPE", &[key.into()]).await),
        );
        let mut damaged = Vec::new();
        for ((key, expected), answer) in registries.into_iter().zip(types.await) {
            match answer {
                Ok(Value::SimpleString(found)) if found != expected && found != "none" => {
                    damaged.push((key, found));
                }
                Err(error) if error.is_unavailable() => return Err(error),
                // Not permitted to ask.
                _ => {}
            }
        }
        Ok(damaged)
    }

    /// Whether the server saves snapshots; true if it does not say.
    async fn takes_snapshots(&self) -> bool {
        let asked = self.command(Repeat::Safe, "CONFIG", &["GET".into(), "save".into()]).await;
        let empty = |value: &Value| matches!(value, Value::BulkString(text) if text.is_empty());
        match asked {
            Ok(Value::Array(pair)) => !pair.get(1).is_some_and(empty),
            Ok(Value::Map(pairs)) => !pairs.first().is_some_and(|(_, value)| empty(value)),
            _ => true,
        }
    }

    /// Runs a script to learn the server's time, so that the difference of the clocks is a
    /// fresh one.
    async fn ping_time(&self) -> Result<(), Error> {
        let any = QueueName::stored("default");
        self.ask(&SCRIPTS.read_queue, &any, Repeat::Safe, |_, call| call).await.map(|_| ()).or_else(
            // A queue that cannot be read has a finding of its own.
            |error| if error.is_refused() { Ok(()) } else { Err(error) },
        )
    }
}

/// Whether a Redis version is below 6.2, which has no `LMOVE`. Redis-compatible servers report
/// the version of Redis that they emulate.
fn is_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (6, 2)
}

/// The findings in the script's reply: messages that cannot be decoded, and what the script itself
/// has found.
fn findings_of(
    queue: &QueueName,
    part: &str,
    found: &mut reply::Reply,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Findings::default();
    for _ in 0..found.size()? {
        let (id, message) = (found.id()?, found.bytes()?);
        if wire::decode(queue, &id, &message).is_none() {
            let kind = FindingKind::UnreadableMessage;
            let sample = id.as_str();
            findings.add(Finding::new(kind, Some(queue), part, sample, FindingStatus::Reported));
        }
    }
    while !found.is_empty() {
        let kind = kind(&found.text()?).ok_or_else(reply::unexpected)?;
        let (place, sample) = (found.text()?, found.printable()?);
        let status = match found.int()? {
            0 => FindingStatus::Reported,
            1 => FindingStatus::Repairable,
            _ => FindingStatus::Repaired,
        };
        findings.add(Finding::new(kind, Some(queue), place, sample, status));
    }
    Ok(findings.into_vec())
}

/// The page to check next: the rest of this part, or the next part.
fn page_after(part: &str, cursor: &str) -> Option<Checkpoint> {
    if cursor != "0" {
        return Some(Checkpoint(format!("{part} {cursor}")));
    }
    let at = PARTS.iter().position(|known| *known == part)?;
    PARTS.get(at + 1).map(|next| Checkpoint(format!("{next} 0")))
}

/// The kind of finding that the script names; `None` for one that this version does not know.
/// Kinds that are found here, such as an unreadable message, have no name in the script.
fn kind(word: &str) -> Option<FindingKind> {
    use FindingKind as K;
    Some(match word {
        "ghost" => K::Ghost,
        "old_entry" => K::OldEntry,
        "stray" => K::Stray,
        "wrong_state" => K::WrongState,
        "duplicate" => K::Duplicate,
        "active_without_lease" => K::ActiveWithoutLease,
        "lease_without_active" => K::LeaseWithoutActive,
        "stale_due_time" => K::StaleDueTime,
        "stub" => K::Stub,
        "orphan" => K::Orphan,
        "lock_without_holder" => K::LockWithoutHolder,
        "unlisted_group" => K::UnlistedGroup,
        "unlisted_set" => K::UnlistedSet,
        "dead_set" => K::DeadSet,
        "overdue_set" => K::OverdueSet,
        "wrong_type" => K::WrongType,
        "unknown_key" => K::UnknownKey,
        "bad_counter" => K::BadCounter,
        "leaked_place" => K::LeakedPlace,
        "lost_place" => K::LostPlace,
        "stale_wait" => K::StaleWait,
        "lost_wait" => K::LostWait,
        "unwatched_limit_key" => K::UnwatchedLimitKey,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::is_old;

    #[test]
    fn versions_before_6_2_are_old() {
        for (version, old) in
            [("6.0.16", true), ("5.0", true), ("6.2.0", false), ("7.0.15", false), ("10.1", false)]
        {
            assert_eq!(is_old(version), old, "{version}");
        }
    }
}
