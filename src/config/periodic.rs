//! The periodic jobs of `jobqueue.periodic`, each a table under a name that the user chooses.
//!
//! `spec` and `type` are required; all other keys are options of the job that each tick enqueues.
//! Everything is checked here, with the file and key of the value that is wrong, except for what
//! only the registry knows: whether the job type exists.

use std::collections::BTreeMap;

use figment::value::Value;

use super::value::{Leaf, Table, kind, quoted};
use crate::error::Error;
use crate::job::{Missed, Periodic, QueueName, Schedule, UniqueKey, Until, Wrong, payload_bytes};

/// Reads all periodic jobs, by name. A name may contain dots: the last dot of a key ends it.
///
/// # Errors
/// The first wrong value, with its file and key.
pub(super) fn read(table: &Table) -> Result<BTreeMap<String, Periodic>, Error> {
    let mut entries: BTreeMap<&str, BTreeMap<&str, &Leaf>> = BTreeMap::new();
    for (key, leaf) in &table.0 {
        let Some((name, key)) = key.strip_prefix("periodic.").and_then(|it| it.rsplit_once('.'))
        else {
            continue;
        };
        entries.entry(name).or_default().insert(key, leaf);
    }
    let mut periodic = BTreeMap::new();
    for (name, leaves) in entries {
        if let Some(found) = (PeriodicKeys { name, leaves }).read()? {
            periodic.insert(name.to_owned(), found);
        }
    }
    Ok(periodic)
}

/// The keys of one periodic job.
struct PeriodicKeys<'a> {
    name: &'a str,
    /// By key; at least one.
    leaves: BTreeMap<&'a str, &'a Leaf>,
}

impl PeriodicKeys<'_> {
    /// The periodic job, or `None` if a stronger layer removed it with an empty `spec`. That is
    /// the only way to remove one: layers can only add and replace keys.
    fn read(&self) -> Result<Option<Periodic>, Error> {
        if self.leaves.get("spec").is_some_and(|spec| spec.is_blank()) {
            return Ok(None);
        }
        let (spec_leaf, spec) = self.text("spec", "a schedule such as 0 3 * * *")?;
        let (type_leaf, job_type) = self.text("type", "the type of the job to enqueue")?;
        let schedule = Schedule::read(spec.clone())
            .and_then(Schedule::fires)
            .map_err(|wrong| refused(spec_leaf, &wrong))?;
        let payload = self.payload()?;
        let mut entry = Periodic::raw(spec, job_type, payload.clone()).name(self.name);
        entry.identity().map_err(|_| {
            type_leaf.error("a name of A-Z a-z 0-9 _ . : -, at most 128 long", &quoted(self.name))
        })?;
        if let Some(leaf) = self.get("time_zone") {
            let zone = leaf.text("the name of a time zone")?;
            schedule.within(zone).map_err(|wrong| refused(leaf, &wrong))?;
            entry = entry.time_zone(zone);
        }
        if let Some(leaf) = self.get("queue") {
            let expected = "a queue name of A-Z a-z 0-9 _ . : -, at most 128 long";
            let queue = leaf.text(expected)?.to_owned();
            QueueName::new(&queue).map_err(|_| leaf.error(expected, &quoted(&queue)))?;
            entry = entry.queue(queue);
        }
        if let Some(leaf) = self.get("group") {
            entry = entry.group(leaf.text("the name of a group")?.to_owned());
        }
        if let Some(leaf) = self.get("max_retry") {
            entry = entry.max_retry(leaf.number(0, i32::MAX.unsigned_abs())?);
        }
        if let Some(leaf) = self.get("delay") {
            entry = entry.delay(leaf.duration()?);
        }
        if let Some(leaf) = self.get("timeout") {
            entry = entry.timeout(leaf.duration()?);
        }
        if let Some(leaf) = self.get("expires_in") {
            let limit = leaf.duration()?;
            if limit.is_zero() {
                return Err(leaf.error("a duration above 0", "0s"));
            }
            entry = entry.expires_in(limit);
        }
        if let Some(leaf) = self.get("retention") {
            entry = entry.retention(leaf.duration()?);
        }
        entry = self.lock(entry, &payload.unwrap_or_default())?;
        if let Some(leaf) = self.get("missed") {
            entry = entry.missed(missed(leaf)?);
        }
        Ok(Some(entry))
    }

    /// Adds the unique lock of its jobs, whose payload this is.
    fn lock(&self, mut entry: Periodic, payload: &[u8]) -> Result<Periodic, Error> {
        let terms = ["until", "unique_by", "unique_key", "on_conflict"];
        let Some(leaf) = self.get("unique_for") else {
            return match terms.iter().find_map(|key| self.get(key)) {
                Some(leaf) => Err(leaf.error("it beside unique_for", "no unique_for")),
                None => Ok(entry),
            };
        };
        let lock = leaf.duration()?;
        if lock.as_secs() == 0 {
            return Err(leaf.error("a duration of 1s or more", &format!("{lock:?}")));
        }
        entry = entry.unique_for(lock);
        if let Some(leaf) = self.get("until") {
            let ends = [Until::Start, Until::Success, Until::Expiry];
            entry = entry.until(ends[leaf.word(&ends.map(Until::as_str))?]);
        }
        if let Some(leaf) = self.get("unique_by") {
            let fields = leaf.list_of("the name of a field", |text| Some(text.to_owned()))?;
            let key = UniqueKey::Fields(fields.iter().cloned().map(Into::into).collect());
            key.digest("", payload).map_err(|_| {
                leaf.error("1 to 16 fields of the payload", &quoted(&fields.join(", ")))
            })?;
            entry = entry.unique_by(fields);
        }
        if let Some(leaf) = self.get("unique_key") {
            if self.get("unique_by").is_some() {
                return Err(leaf.error("it or unique_by", "both"));
            }
            let expected = "a text of at most 1024 bytes";
            let text = leaf.text(expected)?.to_owned();
            let key = UniqueKey::Text(text.clone().into());
            key.digest("", payload).map_err(|_| leaf.error(expected, "another"))?;
            entry = entry.unique_key(text);
        }
        let Some(leaf) = self.get("on_conflict") else { return Ok(entry) };
        Ok(match leaf.word(&["reject", "replace", "extend"])? {
            1 => entry.or_replace(),
            2 => entry.or_extend(),
            _ => entry,
        })
    }

    /// The value of a key, unless absent or blank.
    fn get(&self, key: &str) -> Option<&Leaf> {
        self.leaves.get(key).copied().filter(|leaf| !leaf.is_blank())
    }

    /// A required text. If it is missing, the error names the file in which the periodic job's
    /// other keys stand, since the key itself stands nowhere.
    fn text(&self, key: &str, expected: &str) -> Result<(&Leaf, String), Error> {
        let any = self.leaves.values().next().expect("an entry has at least one key");
        let Some(leaf) = self.get(key) else {
            let table = any.path.rsplit_once('.').map_or("", |(table, _)| table);
            let missing = Leaf { path: format!("{table}.{key}"), ..(*any).clone() };
            return Err(missing.error(expected, "nothing"));
        };
        Ok((leaf, leaf.text(expected)?.to_owned()))
    }

    /// JSON: written as a text, or as a table of the file's own language. A text is stored as
    /// written, a table with its keys in order. `None` for no payload at all.
    fn payload(&self) -> Result<Option<Vec<u8>>, Error> {
        let Some(leaf) = self.leaves.get("payload") else { return Ok(None) };
        let expected = "a table, or a text that is JSON";
        match &leaf.value {
            Value::String(_, text) if text.is_empty() => Ok(None),
            Value::String(_, text) => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => Ok(Some(text.trim().as_bytes().to_vec())),
                Err(_) => Err(leaf.error(expected, "another text")),
            },
            value => payload_bytes(value).map(Some).map_err(|_| leaf.error(expected, kind(value))),
        }
    }
}

/// What happens to missed ticks.
fn missed(leaf: &Leaf) -> Result<Missed, Error> {
    let expected = "skip, once or a duration such as 30m";
    match &leaf.value {
        Value::String(_, word) if word.trim() == "skip" => Ok(Missed::Skip),
        Value::String(_, word) if word.trim() == "once" => Ok(Missed::Once),
        other => leaf
            .duration()
            .map(Missed::Within)
            .map_err(|_| leaf.error(expected, &super::value::shown(other))),
    }
}

/// The error about a value that the periodic job's own rules refuse.
fn refused(leaf: &Leaf, wrong: &Wrong) -> Error {
    leaf.error(&wrong.expected, &wrong.found)
}
