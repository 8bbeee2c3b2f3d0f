//! The namespace of an application: what keeps its queues apart from those of others in one store.
//!
//! Inside an application a queue is `default`. In the store, and for Go, it is `shop:default`:
//! namespace, colon, name. A namespace has no colon itself, so the first colon of a stored name
//! ends it: `shop` and `shop-eu` have no name in common, and `shop:eu` is refused. A queue's
//! name may have colons; `eu:default` of the namespace `shop` is stored as `shop:eu:default`.
//!
//! Use one if several applications share a Redis: without it, two of them with a queue `default`
//! would run each other's jobs. It separates names, not permissions; what may be read is decided by
//! the users and ACLs of Redis. `src/broker/namespaced.rs` applies it.

use std::fmt;
use std::sync::Arc;

use super::QueueName;
use crate::error::Error;

/// Maximum characters of a namespace.
const MAX_NAMESPACE_BYTES: usize = 32;

/// Which namespaces there are, for messages.
pub(crate) const EXPECTED_NAMESPACE: &str =
    "1 to 32 of A-Z a-z 0-9 _ . - (a colon ends the namespace in the name of a stored queue)";

/// The namespace of an application. Cloning is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct Namespace {
    /// The name with its colon: what stored names begin with.
    prefix: Arc<str>,
}

impl Namespace {
    /// Checks the name of a namespace.
    ///
    /// # Errors
    /// [`Error::is_invalid`] with the expected form and the found name.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || name.len() > MAX_NAMESPACE_BYTES || !name.chars().all(allowed) {
            let shown: String = name.chars().take(60).collect();
            return Err(Error::invalid(format!(
                "namespace: expected {EXPECTED_NAMESPACE}, found {shown:?}"
            )));
        }
        Ok(Self { prefix: format!("{name}:").into() })
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.prefix[..self.prefix.len() - 1]
    }

    /// What precedes the names of its queues in the store: the name and a colon.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A name of this application as the store has it.
    pub(crate) fn stored_text(&self, name: &str) -> String {
        [&self.prefix, name].concat()
    }

    /// A name of the store as this application has it; `None` for a name of others.
    pub(crate) fn shown_text<'a>(&self, stored: &'a str) -> Option<&'a str> {
        stored.strip_prefix(&*self.prefix).filter(|name| !name.is_empty())
    }

    /// A queue of this application as the store has it.
    pub(crate) fn stored(&self, queue: &QueueName) -> QueueName {
        QueueName::stored(&self.stored_text(queue.as_str()))
    }

    /// A queue of the store as this application has it; `None` for one of others.
    pub(crate) fn shown(&self, stored: &QueueName) -> Option<QueueName> {
        self.shown_text(stored.as_str()).map(QueueName::stored)
    }

    /// Refuses a queue whose stored name would be too long for other readers.
    ///
    /// # Errors
    /// [`Error::is_invalid`] with the lengths.
    pub(crate) fn check(&self, queue: &QueueName) -> Result<(), Error> {
        let (whole, most) = (self.prefix.len() + queue.as_str().len(), super::id::MAX_QUEUE_BYTES);
        if whole > most {
            let namespace = self.as_str();
            return Err(Error::invalid(format!(
                "queue name: expected at most {most} characters with the namespace \
                 {namespace:?} and its colon, found {whole}"
            )));
        }
        Ok(())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> QueueName {
        name.parse().unwrap()
    }

    #[test]
    fn no_two_namespaces_have_a_stored_name_in_common() {
        let names = ["shop", "shop-eu", "shop.eu", "sho", "shopp", "s"];
        let namespaces = names.map(|name| Namespace::new(name).unwrap());
        for owner in &namespaces {
            for name in ["default", "eu:default", ":", "p:default", "shop:default", "a}b", "50%"] {
                let stored = owner.stored(&queue(name));
                for other in &namespaces {
                    let shown = (other == owner).then(|| queue(name));
                    assert_eq!(other.shown(&stored), shown, "{stored} in {other}");
                }
            }
        }
        let shop = &namespaces[0];
        assert_eq!(shop.stored(&queue("eu:default")).as_str(), "shop:eu:default");
        for foreign in ["shop", "shop:", "default", "Shop:default", "shop-eu:default"] {
            assert_eq!(shop.shown(&QueueName::stored(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn a_name_with_a_colon_or_without_letters_is_refused_with_what_was_found() {
        for bad in ["", ":", "shop:eu", "shop:", "a b", "{shop}", "shöp", "*", &"x".repeat(33)] {
            let error = Namespace::new(bad).unwrap_err();
            assert!(error.is_invalid(), "{bad:?}");
            assert!(error.to_string().contains(&format!("found {bad:?}")), "{error}");
        }
    }

    #[test]
    fn the_name_that_go_sees_is_no_longer_than_any_other() {
        let shop = Namespace::new("shop").unwrap();
        shop.check(&queue(&"q".repeat(123))).unwrap();
        let error = shop.check(&queue(&"q".repeat(124))).unwrap_err();
        assert!(error.is_invalid() && error.to_string().ends_with("found 129"), "{error}");
    }
}
