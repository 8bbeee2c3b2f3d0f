//! The limits of `jobqueue.limits`, each a table under the limit's name.
//!
//! `queue` is required, and `concurrency` or `rate`. The store gets them at launch.

use std::collections::BTreeMap;

use super::value::{Leaf, Table, quoted};
use crate::error::Error;
use crate::job::{Limit, LimitKey, QueueName, Rate};

/// A limit and its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLimit {
    /// The queue.
    pub queue: QueueName,
    /// The limit, with its name.
    pub limit: Limit,
}

/// Reads all limits, by name. A name may contain dots: the last dot of a key ends it.
///
/// # Errors
/// The first wrong value, with its file and key.
pub(super) fn read(table: &Table) -> Result<Vec<QueueLimit>, Error> {
    let mut entries: BTreeMap<&str, BTreeMap<&str, &Leaf>> = BTreeMap::new();
    for (key, leaf) in &table.0 {
        let Some((name, key)) = key.strip_prefix("limits.").and_then(|it| it.rsplit_once('.'))
        else {
            continue;
        };
        entries.entry(name).or_default().insert(key, leaf);
    }
    let mut limits = Vec::new();
    for (name, leaves) in entries {
        limits.extend(LimitKeys { name, leaves }.read()?);
    }
    Ok(limits)
}

/// The keys of one limit.
struct LimitKeys<'a> {
    name: &'a str,
    /// By key; at least one.
    leaves: BTreeMap<&'a str, &'a Leaf>,
}

impl LimitKeys<'_> {
    /// The limit, or `None` if a stronger layer removed it with an empty `queue`. That is the
    /// only way to remove one: layers can only add and replace keys.
    fn read(&self) -> Result<Option<QueueLimit>, Error> {
        let any = self.leaves.values().next().expect("an entry has at least one key");
        let Some(leaf) = self.leaves.get("queue") else {
            let path = format!("{}.queue", parent(&any.path));
            let missing = Leaf { path, ..(*any).clone() };
            return Err(missing.error("the name of a queue", "nothing"));
        };
        if leaf.is_blank() {
            return Ok(None);
        }
        let expected = "a queue name of A-Z a-z 0-9 _ . : -, at most 128 long";
        let text = leaf.text(expected)?;
        let queue = QueueName::new(text).map_err(|_| leaf.error(expected, &quoted(text)))?;
        let mut limit = Limit::new(self.name);
        if let Some(leaf) = self.get("types") {
            limit = limit.types(leaf.list_of("the name of a job type", |text| {
                let text = text.trim();
                (!text.is_empty()).then(|| text.to_owned())
            })?);
        }
        if let Some(leaf) = self.get("key") {
            let expected = "payload.<path>, header.<name> or given";
            let text = leaf.text(expected)?;
            let key = LimitKey::parse(text).map_err(|_| leaf.error(expected, &quoted(text)))?;
            limit = limit.key(key);
        }
        if let Some(leaf) = self.get("concurrency") {
            limit = limit.concurrency(leaf.number(1, u32::MAX)?);
        }
        if let Some(rate) = self.rate()? {
            limit = limit.rate(rate);
        }
        let at = Leaf { path: parent(&any.path), ..(*any).clone() };
        limit.check().map_err(|error| at.error("a valid limit", &error.to_string()))?;
        Ok(Some(QueueLimit { queue, limit }))
    }

    /// The rate, with its burst.
    fn rate(&self) -> Result<Option<Rate>, Error> {
        let Some(leaf) = self.get("rate") else {
            return match self.get("burst") {
                Some(leaf) => Err(leaf.error("it beside a rate", "no rate")),
                None => Ok(None),
            };
        };
        let expected = "a number of jobs and a time such as 100/1m";
        let text = leaf.text(expected)?;
        let rate = Rate::parse(text).map_err(|_| leaf.error(expected, &quoted(text)))?;
        let Some(leaf) = self.get("burst") else { return Ok(Some(rate)) };
        Ok(Some(rate.burst(leaf.number(1, rate.count)?)))
    }

    /// The value of a key, unless absent or blank.
    fn get(&self, key: &str) -> Option<&Leaf> {
        self.leaves.get(key).copied().filter(|leaf| !leaf.is_blank())
    }
}

/// The table of a key.
fn parent(path: &str) -> String {
    path.rsplit_once('.').map_or("", |(table, _)| table).to_owned()
}
