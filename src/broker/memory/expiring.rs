//! A map whose entries expire: unique locks, idempotency guards, announcements.

use std::collections::HashMap;

use super::changes::Changes;
use crate::time::Timestamp;

/// A map whose entries expire. Expired entries are swept when others are added, so the map
/// holds at most twice its live entries.
pub(super) struct Expiring<V> {
    /// Each value with its expiry.
    entries: HashMap<String, (V, Timestamp)>,
    /// The size at which expired entries are swept next.
    sweep_at: usize,
    /// Keys that came or went.
    pub(super) changed: Changes<String>,
}

/// Maps below this size are never swept.
const SMALLEST_SWEEP: usize = 64;

impl<V> Default for Expiring<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), sweep_at: SMALLEST_SWEEP, changed: Changes::default() }
    }
}

impl<V> Expiring<V> {
    /// The entry, if it has not expired.
    pub(super) fn get(&self, key: &str, now: Timestamp) -> Option<&V> {
        self.entries.get(key).filter(|(_, until)| *until > now).map(|(value, _)| value)
    }

    /// All entries that have not expired, in no particular order.
    pub(super) fn values(&self, now: Timestamp) -> impl Iterator<Item = &V> {
        self.entries.values().filter(move |(_, until)| *until > now).map(|(value, _)| value)
    }

    /// All entries that have not expired, each with its expiry.
    pub(super) fn alive(&self, now: Timestamp) -> impl Iterator<Item = (&String, &V, Timestamp)> {
        let entries = self.entries.iter().map(|(key, (value, until))| (key, value, *until));
        entries.filter(move |(_, _, until)| *until > now)
    }

    /// Adds or replaces an entry that expires at `until`.
    pub(super) fn insert(&mut self, key: String, value: V, until: Timestamp, now: Timestamp) {
        if self.entries.len() >= self.sweep_at {
            let changed = &mut self.changed;
            self.entries.retain(|key, (_, until)| {
                let stays = *until > now;
                if !stays {
                    changed.note(|| key.clone());
                }
                stays
            });
            self.sweep_at = (self.entries.len() * 2).max(SMALLEST_SWEEP);
        }
        self.changed.note(|| key.clone());
        self.entries.insert(key, (value, until));
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &str) {
        self.changed.note(|| key.to_owned());
        self.entries.remove(key);
    }

    /// The entry with its expiry, expired or not.
    pub(super) fn raw(&self, key: &str) -> Option<&(V, Timestamp)> {
        self.entries.get(key)
    }

    /// The keys of all entries, expired or not.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.entries.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_takes_no_room_for_long() {
        let mut map = Expiring::default();
        for second in 0..10_000 {
            let now = Timestamp::from_secs(second);
            map.insert(second.to_string(), (), Timestamp::from_secs(second + 10), now);
        }
        assert!(map.entries.len() <= 2 * SMALLEST_SWEEP, "{}", map.entries.len());
        assert!(map.get("9999", Timestamp::from_secs(10_008)).is_some());
        assert!(map.get("9999", Timestamp::from_secs(10_009)).is_none());
    }
}
