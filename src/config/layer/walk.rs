//! The way through one table of one source: known keys are collected, unknown ones warned of.

use figment::value::Value;

use super::super::schema::{ConfigKey, Section, ValueKind};
use super::super::value::{Leaf, Table, kind};
use super::Origin;
use crate::error::Error;

/// The way through one of our tables: collects the known keys, and warns of the others.
pub(super) struct TableWalk<'a> {
    pub section: Section,
    /// Where the section is in the source, for messages.
    pub root: String,
    pub origin: &'a Origin<'a>,
    pub rank: usize,
    /// The values found so far.
    pub table: Table,
    pub warnings: &'a mut Vec<String>,
}

impl TableWalk<'_> {
    /// Reads the keys of the section. `above` is empty, or the tables above them with a dot
    /// at the end.
    pub(super) fn section(&mut self, above: &str, value: &Value) -> Result<(), Error> {
        for (name, value) in self.table(above.trim_end_matches('.'), value)? {
            self.key(&format!("{above}{name}"), value)?;
        }
        Ok(())
    }

    /// Reads one key, or the table of keys that begin with it. Warns of an unknown one.
    fn key(&mut self, name: &str, value: &Value) -> Result<(), Error> {
        let Some(key) = self.section.key(name) else {
            let above = format!("{name}.");
            if self.section.keys().any(|key| key.name.starts_with(&above)) {
                return self.section(&above, value);
            }
            let known: Vec<_> = self.section.keys().map(|key| key.name).collect();
            self.warn_of(&format!("{}.", self.root), name, &known, value);
            return Ok(());
        };
        match key.kind {
            ValueKind::NumberPerName => {
                for (entry, value) in self.table(name, value)? {
                    self.insert(&format!("{name}.{entry}"), value);
                }
            }
            ValueKind::TablePerName(keys) => {
                for (entry, value) in self.table(name, value)? {
                    self.entry(&format!("{name}.{entry}"), keys, value)?;
                }
            }
            _ => self.insert(name, value),
        }
        Ok(())
    }

    /// Reads a table that stands behind a name of the user's own.
    fn entry(&mut self, at: &str, keys: &[ConfigKey], value: &Value) -> Result<(), Error> {
        for (name, value) in self.table(at, value)? {
            if keys.iter().any(|key| key.name == name) {
                self.insert(&format!("{at}.{name}"), value);
            } else {
                let known: Vec<_> = keys.iter().map(|key| key.name).collect();
                self.warn_of(&format!("{}.{at}.", self.root), name, &known, value);
            }
        }
        Ok(())
    }

    /// The entries of a table. A key whose lines are all comments has none.
    fn table<'v>(&self, at: &str, value: &'v Value) -> Result<Vec<(&'v str, &'v Value)>, Error> {
        match value {
            Value::Dict(_, dict) => Ok(dict.iter().map(|(name, v)| (name.as_str(), v)).collect()),
            Value::Empty(..) => Ok(Vec::new()),
            other => Err(self.leaf(at, other).error("a table", kind(other))),
        }
    }

    /// A key without a value counts as absent.
    fn insert(&mut self, name: &str, value: &Value) {
        if !matches!(value, Value::Empty(..)) {
            self.table.0.insert(name.to_owned(), self.leaf(name, value));
        }
    }

    /// Warns of an unknown key, with the nearest known one.
    fn warn_of(&mut self, prefix: &str, name: &str, known: &[&str], value: &Value) {
        if let Some(near) = nearest(name, known) {
            let origin = (self.origin)(value, &self.root);
            self.warnings.push(unknown(&origin, prefix, name, near));
        }
    }

    /// A value with its origin and full key.
    fn leaf(&self, key: &str, value: &Value) -> Leaf {
        let path = [self.root.as_str(), key].join(".");
        Leaf {
            value: value.clone(),
            origin: (self.origin)(value, &self.root),
            path: path.trim_end_matches('.').to_owned(),
            rank: self.rank,
        }
    }
}

/// The warning about an unknown key. It names the nearest known one without claiming that it
/// was meant: the key may belong to a later version.
pub(super) fn unknown(origin: &str, prefix: &str, key: &str, near: &str) -> String {
    format!(
        "{origin}: {prefix}{key} is unknown and ignored; the nearest known key is {prefix}{near}"
    )
}

/// The known key most similar to this one, by Damerau-Levenshtein distance, which counts two
/// swapped letters as one mistake. `None` only if no key is known.
pub(super) fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(key, known);
    known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}
