//! One configured value that remembers its origin, and its conversion to the types that the
//! sections ask for. Every conversion error has the same form: origin, full key, what was
//! expected and what was found.
//!
//! ```text
//! config/staging/config.yaml: jobqueue.port: expected a whole number from 0 to 65535, found "x"
//! ```
//!
//! A conversion accepts no near misses: `"10"` is not a number, and `yes` is not a boolean.
//! Guessing would accept a typing error as a value. Secrets are read with [`Leaf::text`], whose
//! errors name only the kind of value; [`shown`] and [`quoted`] are for everything else, and even
//! they leave out what looks like a URL with a password.

use std::collections::BTreeMap;
use std::time::Duration;

use figment::value::{Num, Value};
use ipnet::IpNet;

use crate::error::Error;
use crate::job::parse_duration;

/// A configured value and its origin.
#[derive(Clone)]
pub(super) struct Leaf {
    /// As figment parsed it.
    pub(super) value: Value,
    /// The file, variable or line of code.
    pub(super) origin: String,
    /// The full key, as written in that source.
    pub(super) path: String,
    /// The layer's rank. Higher is stronger.
    pub(super) rank: usize,
}

impl Leaf {
    /// An error *expected … found …* with origin and key. `found` must contain no secret.
    pub(super) fn error(&self, expected: &str, found: &str) -> Error {
        Error::config(format!("{}: {}: expected {expected}, found {found}", self.origin, self.path))
    }

    /// `path` in `origin`, for messages about two values at once.
    pub(super) fn place(&self) -> String {
        format!("{} ({})", self.path, self.origin)
    }

    /// Whether the value is an empty text or an empty list: the same as not given. Templates of
    /// deployments often leave a variable empty rather than out.
    pub(super) fn is_blank(&self) -> bool {
        match &self.value {
            Value::String(_, text) => text.trim().is_empty(),
            Value::Array(_, items) => items.is_empty(),
            _ => false,
        }
    }

    /// The value as text. An error names only the kind of value, so secrets may be read with it.
    pub(super) fn text(&self, expected: &str) -> Result<&str, Error> {
        match &self.value {
            Value::String(_, text) => Ok(text),
            other => Err(self.error(expected, kind(other))),
        }
    }

    /// A list of any values.
    pub(super) fn list(&self, expected: &str) -> Result<&[Value], Error> {
        match &self.value {
            Value::Array(_, items) => Ok(items),
            other => Err(self.error(expected, kind(other))),
        }
    }

    /// A list of texts, each converted by `read`. An error quotes the item that `read` refuses.
    pub(super) fn list_of<T>(
        &self,
        expected: &str,
        read: fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let items = self.list(&format!("a list, each item {expected}"))?;
        let item = |item: &Value| match item {
            Value::String(_, text) => {
                read(text.trim()).ok_or_else(|| self.error(expected, &quoted(text)))
            }
            other => Err(self.error(expected, kind(other))),
        };
        items.iter().map(item).collect()
    }

    /// A list of IP addresses and networks.
    pub(super) fn networks(&self) -> Result<Vec<IpNet>, Error> {
        self.list_of("an IP address or a network such as 10.0.0.0/8", |text| {
            let network = text.parse::<IpNet>().ok();
            network.or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
        })
    }

    /// `true` or `false`; text such as "yes" is an error.
    pub(super) fn bool(&self) -> Result<bool, Error> {
        match &self.value {
            Value::Bool(_, yes) => Ok(*yes),
            other => Err(self.error("true or false", &shown(other))),
        }
    }

    /// A whole number from `least` to `most`. A number in quotes is an error.
    pub(super) fn number(&self, least: u32, most: u32) -> Result<u32, Error> {
        let number = match &self.value {
            Value::Num(_, number) => match number.to_u128() {
                Some(number) => u32::try_from(number).ok(),
                None => number.to_i128().and_then(|number| u32::try_from(number).ok()),
            },
            _ => None,
        };
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            let expected = match most {
                u32::MAX => format!("a whole number of {least} or more"),
                most => format!("a whole number from {least} to {most}"),
            };
            self.error(&expected, &shown(&self.value))
        })
    }

    /// A duration with its unit, or a plain 0. Another plain number is an error, because its
    /// unit would be a guess.
    pub(super) fn duration(&self) -> Result<Duration, Error> {
        let duration = match &self.value {
            Value::String(_, text) => duration(text.trim()),
            Value::Num(_, number) if is_zero(number) => Some(Duration::ZERO),
            _ => None,
        };
        duration.ok_or_else(|| {
            let expected = "a duration of 0 or more with its unit, such as 8ms, 3s, 2m or 1h";
            self.error(expected, &shown(&self.value))
        })
    }

    /// One of these strings, as its index in `words`.
    pub(super) fn word(&self, words: &[&str]) -> Result<usize, Error> {
        let expected = words.join(" or ");
        match &self.value {
            Value::String(_, text) => words
                .iter()
                .position(|word| *word == text.trim())
                .ok_or_else(|| self.error(&expected, &shown(&self.value))),
            other => Err(self.error(&expected, &shown(other))),
        }
    }
}

/// The values of one section after all layers, by key.
#[derive(Default)]
pub(super) struct Table(pub(super) BTreeMap<String, Leaf>);

impl Table {
    /// Replaces values by the values of a stronger layer, key by key.
    pub(super) fn overlay(&mut self, stronger: Table) {
        self.0.extend(stronger.0);
    }

    /// The value of `key`, unless absent or blank.
    pub(super) fn get(&self, key: &str) -> Option<&Leaf> {
        self.0.get(key).filter(|leaf| !leaf.is_blank())
    }

    /// `true` or `false`; absent means the default.
    pub(super) fn bool(&self, key: &str, default: bool) -> Result<bool, Error> {
        self.get(key).map_or(Ok(default), Leaf::bool)
    }

    /// A whole number; 0 and absent mean the default.
    pub(super) fn number(&self, key: &str, default: u32) -> Result<u32, Error> {
        let number = self.get(key).map_or(Ok(0), |leaf| leaf.number(0, u32::MAX))?;
        Ok(if number == 0 { default } else { number })
    }

    /// A duration; 0 and absent mean the default.
    pub(super) fn duration(&self, key: &str, default: Duration) -> Result<Duration, Error> {
        let duration = self.get(key).map_or(Ok(Duration::ZERO), Leaf::duration)?;
        Ok(if duration.is_zero() { default } else { duration })
    }
}

/// `8ms`, `3s`, `1m30s`, `1.5h`; `None` for another text and for less than zero.
fn duration(text: &str) -> Option<Duration> {
    parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
}

/// Whether this is the whole number 0. `0.0` is not.
fn is_zero(number: &Num) -> bool {
    number.to_i128() == Some(0) || number.to_u128() == Some(0)
}

/// The type of the value, for errors that must not repeat the value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(..) => "text",
        Value::Char(..) => "a character",
        Value::Bool(..) => "a boolean",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
    }
}

/// The value itself if it is short and plain. Never for secrets.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => quoted(text),
        Value::Bool(_, yes) => yes.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(number), ..) => number.to_string(),
            (_, Some(number), _) => number.to_string(),
            (_, _, Some(number)) => number.to_string(),
            _ => kind(value).to_owned(),
        },
        other => kind(other).to_owned(),
    }
}

/// The text in quotes, cut to one readable line; what may hold a password is left out. Of a web
/// address the scheme and the host are shown.
pub(super) fn quoted(text: &str) -> String {
    let cut = |text: &str| text.chars().take(60).collect::<String>();
    let web = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme));
    match web {
        _ if text.contains('@') => {}
        None if !text.contains("://") => return format!("{:?}", cut(text)),
        None => {}
        Some(scheme) => {
            let rest = &text[scheme.len()..];
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let more = if host.len() < rest.len() { " with a path (not shown)" } else { "" };
            return format!("{:?}{more}", cut(&text[..scheme.len() + host.len()]));
        }
    }
    "text that may hold credentials (not shown)".to_owned()
}
