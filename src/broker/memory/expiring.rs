//! A map whose entries end by the clock: locks, repeat guards, announcements.

use std::collections::HashMap;

use crate::time::Timestamp;

/// Entries that are gone from an instant on. The dead are swept while others
/// are added, so that the map stays within twice what lives.
pub(super) struct Expiring<V> {
    entries: HashMap<String, (V, Timestamp)>,
    sweep_at: usize,
}

const SMALLEST_SWEEP: usize = 64;

impl<V> Default for Expiring<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), sweep_at: SMALLEST_SWEEP }
    }
}

impl<V> Expiring<V> {
    /// The entry, if it has not ended.
    pub(super) fn get(&self, key: &str, now: Timestamp) -> Option<&V> {
        self.entries.get(key).filter(|(_, until)| *until > now).map(|(value, _)| value)
    }

    /// All entries that have not ended, in no order.
    pub(super) fn values(&self, now: Timestamp) -> impl Iterator<Item = &V> {
        self.entries.values().filter(move |(_, until)| *until > now).map(|(value, _)| value)
    }

    /// Adds or replaces an entry that ends at `until`.
    pub(super) fn insert(&mut self, key: String, value: V, until: Timestamp, now: Timestamp) {
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, (_, until)| *until > now);
            self.sweep_at = (self.entries.len() * 2).max(SMALLEST_SWEEP);
        }
        self.entries.insert(key, (value, until));
    }

    /// Ends an entry now.
    pub(super) fn remove(&mut self, key: &str) {
        self.entries.remove(key);
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
