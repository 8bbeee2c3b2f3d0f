//! The check-up of what lies in Redis, page by page.

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

/// What is looked at, in this order: a job's place before its lease, and what
/// needs a walk through the keys last.
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

/// Entries per script: a millisecond or two.
const PAGE: usize = 100;

/// Scripts per turn of the reconciler.
const PAGES_A_TURN: usize = 25;

/// How long one process's turn keeps the others from theirs.
const TURN: Duration = Duration::from_secs(50);

/// How long a reconciler remembers where it was.
const PLACE_KEPT: Duration = Duration::from_secs(86_400);

/// Longer messages are not fetched to see whether they can be decoded.
const LONGEST_SHOWN: usize = 8 * 1024;

/// The clocks of Asynq's processes may differ by this much before it matters.
const SKEW: Duration = Duration::from_secs(1);

impl Doctor for RedisBroker {
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
            if skew > SKEW {
                note(FindingKind::ClockSkew, "time", format!("{:.1} s", skew.as_secs_f64()));
            }
            Ok(found.into_vec())
        })
    }

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
            let level = match repair {
                RepairScope::Nothing => 0,
                RepairScope::Provable => 1,
                RepairScope::All => 2,
            };
            let mut found = self
                .ask(&SCRIPTS.run_doctor, queue, Repeat::Safe, |_, call| {
                    call.arg(part).arg(cursor).arg(PAGE).arg(level).arg(LONGEST_SHOWN)
                })
                .await?;
            let entries_checked = found.size()?;
            let cursor = found.text()?;
            let mut findings = Findings::default();
            for _ in 0..found.size()? {
                let (id, message) = (found.id()?, found.bytes()?);
                if wire::decode(queue, &id, &message).is_none() {
                    let kind = FindingKind::UnreadableMessage;
                    let sample = id.as_str();
                    findings.add(Finding::new(
                        kind,
                        Some(queue),
                        part,
                        sample,
                        FindingStatus::Reported,
                    ));
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
            let next = match cursor.as_str() {
                "0" => {
                    let at = PARTS.iter().position(|known| *known == part);
                    at.and_then(|at| PARTS.get(at + 1)).map(|next| Checkpoint(format!("{next} 0")))
                }
                cursor => Some(Checkpoint(format!("{part} {cursor}"))),
            };
            Ok(CheckedPage { findings: findings.into_vec(), entries_checked, next })
        })
    }

    fn repair_provable<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<Finding>> {
        Box::pin(async move {
            let turn: Vec<Vec<u8>> = vec![
                keys::repair_turn(queue).into(),
                "1".into(),
                "NX".into(),
                "EX".into(),
                TURN.as_secs().to_string().into(),
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
            for _ in 0..PAGES_A_TURN {
                let checked = self.check_queue(queue, page.take(), RepairScope::Provable).await?;
                checked.findings.into_iter().for_each(|finding| findings.add(finding));
                page = checked.next;
                if page.is_none() {
                    break;
                }
            }
            match page {
                Some(Checkpoint(page)) => {
                    let seconds = PLACE_KEPT.as_secs().to_string();
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
    /// What each server tells about itself; nothing where it may not.
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

    /// Keys that all queues share and that are not what they should be, each with the type
    /// that it has.
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
                // Who may not ask does not know.
                _ => {}
            }
        }
        Ok(damaged)
    }

    /// Whether it saves snapshots; a server that does not say counts as one that does.
    async fn takes_snapshots(&self) -> bool {
        let asked = self.command(Repeat::Safe, "CONFIG", &["GET".into(), "save".into()]).await;
        let empty = |value: &Value| matches!(value, Value::BulkString(text) if text.is_empty());
        match asked {
            Ok(Value::Array(pair)) => !pair.get(1).is_some_and(empty),
            Ok(Value::Map(pairs)) => !pairs.first().is_some_and(|(_, value)| empty(value)),
            _ => true,
        }
    }

    /// Learns the server's time, as every script does.
    async fn ping_time(&self) -> Result<(), Error> {
        let any = QueueName::stored("default");
        self.ask(&SCRIPTS.read_queue, &any, Repeat::Safe, |_, call| call).await.map(|_| ()).or_else(
            // A queue that cannot be read is a finding of its own.
            |error| if error.is_refused() { Ok(()) } else { Err(error) },
        )
    }
}

fn is_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (6, 2)
}

/// The script's words.
fn kind(word: &str) -> Option<FindingKind> {
    use FindingKind as K;
    Some(match word {
        "ghost" => K::Ghost,
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
