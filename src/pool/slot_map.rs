//! Which server of a Cluster owns which slot, and which slot a key belongs to.
//!
//! A Cluster divides all keys into 16,384 slots by a checksum. If a key has a part in braces, its
//! *hash tag*, only that part counts: `asynq:{mail}:pending` and `asynq:{mail}:active` are in the
//! slot of `mail`. So all keys of a queue are on one server, and a script can use several of them.
//!
//! [`SlotMap`] is what one server said about the whole Cluster ([`topology`](super::topology) asks
//! and compares). It may be outdated at any time: that is found out by a redirection, not here.

use redis::{FromRedisValue, Value};

use super::address::HostPort;

/// Number of slots of every Cluster.
const SLOT_COUNT: u16 = 16_384;

/// The slot of a key: CRC-16 (XMODEM) of its hash tag, or of the whole key.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let hashed = hash_tag(key).map_or(key, |tag| &key[tag]);
    let crc = hashed.iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    });
    crc % SLOT_COUNT
}

/// The range of the hash tag: between the first brace and the next closing one.
fn hash_tag(key: &[u8]) -> Option<std::ops::Range<usize>> {
    let open = key.iter().position(|&byte| byte == b'{')?;
    let length = key[open + 1..].iter().position(|&byte| byte == b'}')?;
    (length > 0).then(|| open + 1..open + 1 + length)
}

/// A key of the same slot that never exists: the *guard* that a script declares beside its own
/// keys. `None` for the rare key with braces that leave no way to name one.
///
/// A command that names it beside its own key is refused by both servers while the
/// slot moves from one to the other: with two keys and one of them missing the old
/// server answers ASK or TRYAGAIN, and the new one TRYAGAIN. With one key it would be
/// served by whichever has the key, and the two halves of the data would part.
pub(super) fn never_key(key: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b":x:never";
    match hash_tag(key) {
        Some(tag) => Some([&key[..=tag.end], NAME].concat()),
        None if key.is_empty() || key.contains(&b'}') || key.contains(&b'{') => None,
        None => Some([b"{", key, b"}", NAME].concat()),
    }
}

/// One view of the cluster. An immutable snapshot: readers hold an `Arc` of it and never wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SlotMap {
    /// For each slot the index of its server in `masters`, or an index beyond if no server has
    /// it. Empty while the cluster is unknown. 16,384 entries of two bytes: 32 KiB a view.
    pub(super) owners: Vec<u16>,
    /// Servers with slots, in the order in which the reply names them.
    pub(super) masters: Vec<HostPort>,
    /// Their replicas: asked for the topology, never for data.
    pub(super) replicas: Vec<HostPort>,
    /// The configuration epoch of the server that described it; of two views the higher one is
    /// newer.
    pub(super) epoch: u64,
}

impl SlotMap {
    /// The server that has this slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&HostPort> {
        let nth = self.owners.get(usize::from(slot))?;
        self.masters.get(usize::from(*nth))
    }

    /// The servers that have slots.
    pub(super) fn masters(&self) -> &[HostPort] {
        &self.masters
    }

    /// All servers, masters first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &HostPort> {
        self.masters.iter().chain(&self.replicas)
    }

    /// Whether any server has slots. A view without masters is the initial one, or a Cluster
    /// that has not been formed.
    pub(super) fn is_known(&self) -> bool {
        !self.masters.is_empty()
    }

    /// The index of a master in `masters`; adds it if it is new.
    pub(super) fn place_of(&mut self, master: HostPort) -> u16 {
        let known = self.masters.iter().position(|one| *one == master);
        let place = known.unwrap_or_else(|| {
            self.replicas.retain(|one| *one != master);
            self.masters.push(master);
            self.masters.len() - 1
        });
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    /// Parses a reply to CLUSTER SLOTS. `told_by` replaces hosts without a name: a server that
    /// does not know its own address leaves it out, and then means itself. `None` if the reply
    /// has another form.
    pub(super) fn parse(slots: Value, told_by: &HostPort) -> Option<Self> {
        let mut map = Self { owners: vec![u16::MAX; usize::from(SLOT_COUNT)], ..Self::default() };
        let Value::Array(ranges) = slots else { return None };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let mut range = range.into_iter();
            let first = u16::from_redis_value(range.next()?).ok()?;
            let last = u16::from_redis_value(range.next()?).ok()?.min(SLOT_COUNT - 1);
            let mut nodes = range.filter_map(|node| {
                let Value::Array(node) = node else { return None };
                let mut node = node.into_iter();
                let host = Option::<String>::from_redis_value(node.next()?).ok()?;
                let port = u16::from_redis_value(node.next()?).ok()?;
                let named = host.filter(|host| !host.is_empty() && host != "?");
                Some((named.unwrap_or_else(|| told_by.0.clone()), port))
            });
            let master = map.place_of(nodes.next()?);
            map.owners[usize::from(first)..=usize::from(last)].fill(master);
            for replica in nodes {
                if !map.masters.contains(&replica) && !map.replicas.contains(&replica) {
                    map.replicas.push(replica);
                }
            }
        }
        Some(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_key_has_the_slot_that_redis_gives_it() {
        let table: [(&str, u16); 5] = [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("bar{foo}{x}", 12_182),
            ("foo{}{bar}", 8_363),
        ];
        for (key, slot) in table {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn the_key_that_never_exists_is_in_the_same_slot() {
        for (key, never) in [
            ("app:{mail}:pending", Some("app:{mail}:x:never")),
            ("app:{a:b}:pending", Some("app:{a:b}:x:never")),
            ("app:queues", Some("{app:queues}:x:never")),
            ("odd}key", None),
            ("odd{}key", None),
        ] {
            let found = never_key(key.as_bytes());
            assert_eq!(found.as_deref(), never.map(str::as_bytes), "{key}");
            if let Some(found) = found {
                assert_eq!(slot_of(&found), slot_of(key.as_bytes()), "{key}");
            }
        }
    }

    #[test]
    fn an_answer_to_cluster_slots_names_the_owner_of_each_slot() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = |first, last, nodes: Vec<Value>| {
            Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
        };
        let slots = Value::Array(vec![
            range(0, 9, vec![node(text("a"), 1), node(text("b"), 2)]),
            range(10, 16_382, vec![node(Value::Nil, 3)]),
        ]);
        let map = SlotMap::parse(slots, &("asked".into(), 9)).unwrap();
        assert_eq!(map.owner(9), Some(&("a".to_owned(), 1)));
        assert_eq!(map.owner(10), Some(&("asked".to_owned(), 3)));
        assert_eq!(map.owner(16_383), None);
        assert_eq!(map.nodes().count(), 3);
    }
}
