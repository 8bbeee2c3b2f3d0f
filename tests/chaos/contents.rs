//! What Redis holds at the end: which job is where, which keys are left over. Reads
//! the keys themselves, with no code of the library.

use std::collections::{BTreeMap, BTreeSet};

/// The states' containers, with their type.
const LISTS: [&str; 2] = ["pending", "active"];
const SETS: [&str; 4] = ["scheduled", "retry", "archived", "completed"];

/// Every key and what it holds, at one instant: between two commands a job could go
/// from a list that is yet to be read to one that has been. Of a hash, its `state`.
const SNAPSHOT: &str = "
local found = {}
for _, key in ipairs(redis.call('KEYS', 'asynq:*')) do
    local kind = redis.call('TYPE', key).ok
    local values = {}
    if kind == 'list' then
        values = redis.call('LRANGE', key, 0, -1)
    elseif kind == 'zset' then
        values = redis.call('ZRANGE', key, 0, -1)
    elseif kind == 'hash' then
        values = { redis.call('HGET', key, 'state') or '' }
    elseif kind == 'string' then
        values = { redis.call('GET', key) }
    end
    found[#found + 1] = { key, values }
end
return found";

/// One queue.
#[derive(Default)]
pub struct Queue {
    /// Id → containers that hold it.
    pub places: BTreeMap<Vec<u8>, Vec<String>>,
    /// Id → the `state` field of its hash.
    pub hashes: BTreeMap<Vec<u8>, String>,
    pub leases: BTreeSet<Vec<u8>>,
    /// Unique locks and what they hold.
    pub locks: BTreeMap<String, Vec<u8>>,
    /// Ids with an exact due time.
    pub due: BTreeSet<Vec<u8>>,
    pub processed: i64,
    pub failed: i64,
}

/// All queues of all masters.
#[derive(Default)]
pub struct Contents {
    pub queues: BTreeMap<String, Queue>,
    /// Keys that belong to no queue.
    pub others: BTreeSet<String>,
}

impl Contents {
    /// Reads these servers, each of which is a master.
    pub fn read(masters: &[String]) -> redis::RedisResult<Self> {
        let mut contents = Self::default();
        for addr in masters {
            let client = redis::Client::open(format!("redis://{addr}"))?;
            contents.read_server(&mut client.get_connection()?)?;
        }
        Ok(contents)
    }

    fn read_server(&mut self, server: &mut redis::Connection) -> redis::RedisResult<()> {
        let snapshot: Vec<(Vec<u8>, Vec<Vec<u8>>)> = redis::Script::new(SNAPSHOT).invoke(server)?;
        for (key, values) in snapshot {
            let text = String::from_utf8_lossy(&key).into_owned();
            let queue = text.strip_prefix("asynq:{").and_then(|rest| rest.split_once("}:"));
            let Some((name, part)) = queue else {
                self.others.insert(text);
                continue;
            };
            self.queues.entry(name.to_owned()).or_default().take(&key, part, values);
        }
        Ok(())
    }

    /// The states that hold this job, in any queue.
    pub fn places(&self, id: &str) -> Vec<&str> {
        let places = self.queues.values().filter_map(|queue| queue.places.get(id.as_bytes()));
        places.flatten().map(String::as_str).collect()
    }

    /// How many jobs are in one of these states.
    pub fn count(&self, states: &[&str]) -> usize {
        let all = self.queues.values().flat_map(|queue| queue.places.values());
        all.flatten().filter(|place| states.contains(&place.as_str())).count()
    }

    /// Each thing that is unsound, one line for each.
    pub fn defects(&self) -> Vec<String> {
        let mut defects = Vec::new();
        for (name, queue) in &self.queues {
            queue.tell_defects(name, &mut defects);
        }
        defects
    }
}

impl Queue {
    /// Takes in what one key holds.
    fn take(&mut self, key: &[u8], part: &str, values: Vec<Vec<u8>>) {
        let first = || values.first().map(|value| String::from_utf8_lossy(value).into_owned());
        let number = || first().and_then(|text| text.parse().ok()).unwrap_or(0);
        if LISTS.contains(&part) || SETS.contains(&part) {
            self.place(values, part);
        } else if part.starts_with("g:") {
            self.place(values, "aggregating");
        } else if part.starts_with("t:") {
            self.hashes.insert(job_id(key), first().unwrap_or_default());
        } else if part == "lease" {
            self.leases.extend(values);
        } else if part == "x:due" {
            self.due.extend(values);
        } else if part.starts_with("unique:") {
            self.locks.extend(values.into_iter().next().map(|holder| (part.to_owned(), holder)));
        } else if part == "processed" {
            self.processed = number();
        } else if part == "failed" {
            self.failed = number();
        }
    }

    fn place(&mut self, ids: Vec<Vec<u8>>, state: &str) {
        for id in ids {
            self.places.entry(id).or_default().push(state.to_owned());
        }
    }

    /// I2, and what of I6 belongs to jobs.
    fn tell_defects(&self, name: &str, defects: &mut Vec<String>) {
        let show = |id: &[u8]| String::from_utf8_lossy(id).into_owned();
        for (id, places) in &self.places {
            if places.len() != 1 {
                defects.push(format!("{name}: {} is in {}", show(id), places.join(" and ")));
            }
            match self.hashes.get(id) {
                None => defects.push(format!("{name}: {} in {places:?} has no hash", show(id))),
                Some(state) if !places.contains(state) => {
                    defects.push(format!("{name}: {} in {places:?} says {state:?}", show(id)));
                }
                Some(_) => {}
            }
            if places.iter().any(|place| place == "active") && !self.leases.contains(id) {
                defects.push(format!("{name}: {} is active without a lease", show(id)));
            }
        }
        for id in self.hashes.keys().filter(|id| !self.places.contains_key(*id)) {
            defects.push(format!("{name}: the hash of {} is in no list", show(id)));
        }
        for id in &self.leases {
            if !self.places.get(id).is_some_and(|places| places.iter().any(|at| at == "active")) {
                defects.push(format!("{name}: a lease of {}, which is not active", show(id)));
            }
        }
        for id in self.due.iter().filter(|id| !self.places.contains_key(*id)) {
            defects.push(format!("{name}: a due time of {}, which is gone", show(id)));
        }
        for (lock, holder) in &self.locks {
            if !self.places.contains_key(holder) {
                defects.push(format!("{name}: lock {lock} of {}, which is gone", show(holder)));
            }
        }
    }
}

/// Ids are bytes, not always text.
fn job_id(key: &[u8]) -> Vec<u8> {
    let mark = b"}:t:";
    let at = key.windows(mark.len()).position(|part| part == mark);
    at.map_or_else(Vec::new, |at| key[at + mark.len()..].to_vec())
}
