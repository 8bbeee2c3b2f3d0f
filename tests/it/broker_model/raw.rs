//! What lies in Redis, read past the store, and what has to hold of it whatever
//! happened before.

use std::collections::{BTreeMap, BTreeSet};

/// All keys of a queue with what they hold, in one look.
const LOOK: &str = "
    local q, found = KEYS[1], {}
    for _, key in ipairs(redis.call('KEYS', q .. '*')) do
        local name, kind = string.sub(key, #q + 1), redis.call('TYPE', key).ok
        local held = {}
        if kind == 'list' then held = redis.call('LRANGE', key, 0, -1)
        elseif kind == 'zset' then held = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
        elseif kind == 'set' then held = redis.call('SMEMBERS', key)
        elseif kind == 'hash' then
            held = redis.call('HMGET', key, 'state', 'group')
            held[1], held[2] = held[1] or '', held[2] or ''
            held[3] = redis.call('HEXISTS', key, 'msg') == 1 and 'msg' or ''
            held[4] = redis.call('HEXISTS', key, 'x_after') == 1 and 'follows' or ''
        else held = {redis.call('GET', key)} end
        found[#found + 1] = {name, kind, held}
    end
    return found";

/// One queue as it lies in Redis.
pub struct Raw {
    keys: BTreeMap<String, (String, Vec<String>)>,
}

type Found = Vec<(String, String, Vec<String>)>;

impl Raw {
    pub fn script(prefix: &str) -> redis::Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(LOOK).arg(1).arg(prefix);
        command
    }

    pub fn read(answer: redis::Value) -> Raw {
        let found: Found = redis::from_redis_value(answer).expect("the script's answer");
        Raw { keys: found.into_iter().map(|(name, kind, held)| (name, (kind, held))).collect() }
    }

    fn list(&self, name: &str) -> &[String] {
        self.keys.get(name).map_or(&[], |(_, held)| held)
    }

    fn scores(&self, name: &str) -> BTreeMap<&str, f64> {
        let held = self.list(name).chunks(2);
        held.map(|pair| (pair[0].as_str(), pair[1].parse().expect("a score"))).collect()
    }

    /// The sets of aggregations under way, which are listed with the queue's prefix.
    fn sets(&self) -> impl Iterator<Item = &str> {
        let sets = self.scores("aggregation_sets").into_keys();
        sets.map(|set| set.split_once("}:").map_or(set, |(_, name)| name))
    }

    /// The jobs that have a hash, in order.
    pub fn ids(&self) -> Vec<&str> {
        self.keys.keys().filter_map(|name| name.strip_prefix("t:")).collect()
    }

    /// Which container holds each job: the state it stands for, or what is wrong.
    fn containers(&self) -> Result<BTreeMap<&str, &str>, String> {
        let mut holds: BTreeMap<&str, &str> = BTreeMap::new();
        let mut put = |id, state| match holds.insert(id, state) {
            Some(other) => Err(format!("{id} is in {other} and in {state}")),
            None => Ok(()),
        };
        for state in ["pending", "active"] {
            for id in self.list(state) {
                put(id, state)?;
            }
        }
        for state in ["scheduled", "retry", "completed", "archived"] {
            for (id, score) in self.scores(state) {
                put(id, state)?;
                if score % 1.0 != 0.0 {
                    return Err(format!(
                        "{id} has the score {score} in {state}, which Go cannot read"
                    ));
                }
            }
        }
        for group in self.list("groups") {
            let members = self.scores(&format!("g:{group}"));
            if members.is_empty() {
                return Err(format!("group {group} has no jobs"));
            }
            for (id, _) in members {
                put(id, "aggregating")?;
            }
        }
        for set in self.sets() {
            let members = self.scores(set);
            if members.is_empty() {
                return Err(format!("set {set} has no jobs"));
            }
            for (id, _) in members {
                put(id, "aggregating")?;
            }
        }
        Ok(holds)
    }

    /// I2: the state of each job is the one container that holds it; active jobs
    /// are those with a lease; what is contained has a hash, and the reverse.
    pub fn check(&self) -> Result<(), String> {
        let holds = self.containers()?;
        for (id, state) in &holds {
            let hash = self.list(&format!("t:{id}"));
            if hash.first().map(String::as_str) != Some(state) {
                return Err(format!("{id} is in {state}, and its hash says {hash:?}"));
            }
            if hash[2] != "msg" {
                return Err(format!("{id} in {state} has no message"));
            }
        }
        for name in self.keys.keys() {
            if let Some(id) = name.strip_prefix("t:")
                && !holds.contains_key(id)
            {
                return Err(format!("no container holds {id}: {:?}", self.list(name)));
            }
            if let Some(group) = name.strip_prefix("g:")
                && !self.list("groups").iter().any(|known| known == group)
                && !self.sets().any(|set| set == name)
            {
                return Err(format!("group {group} is not listed"));
            }
        }
        let active: BTreeSet<&str> = self.list("active").iter().map(String::as_str).collect();
        let leased: BTreeSet<&str> = self.scores("lease").into_keys().collect();
        if active != leased {
            return Err(format!("active are {active:?}, leased {leased:?}"));
        }
        self.check_due_times(&holds)
    }

    /// Exact due times are of waiting jobs, and belong to what Go sees.
    fn check_due_times(&self, holds: &BTreeMap<&str, &str>) -> Result<(), String> {
        for (id, due) in self.scores("x:due") {
            let state = holds.get(id).copied().unwrap_or_default();
            let shown = self.scores(state).get(id).copied();
            if !["scheduled", "retry"].contains(&state) || shown != Some((due / 1e6).ceil()) {
                return Err(format!("{id} is due at {due} and stands in {state:?} at {shown:?}"));
            }
        }
        let waiting = holds.iter().filter(|(_, state)| ["scheduled", "retry"].contains(state));
        let exact = self.scores("x:due");
        // A successor is due when its holder has ended.
        let follows = |id: &str| self.list(&format!("t:{id}"))[3] == "follows";
        match waiting.map(|(id, _)| id).find(|id| !exact.contains_key(*id) && !follows(id)) {
            Some(id) => Err(format!("the exact due time of {id} is not known")),
            None => Ok(()),
        }
    }

    /// I6 of a queue that was removed: nothing is left.
    pub fn check_gone(&self) -> Result<(), String> {
        match self.keys.keys().next() {
            Some(name) => Err(format!("{name} is left of a removed queue: {:?}", self.list(name))),
            None => Ok(()),
        }
    }

    /// I6: after everything has ended and all that expires has expired, only
    /// counters are left, and what was archived for a person to look at.
    pub fn check_drained(&self, now: f64) -> Result<(), String> {
        let ended: BTreeSet<String> = self
            .scores("x:ends")
            .into_iter()
            .filter(|(_, ends)| *ends <= now)
            .map(|(key, _)| key.to_owned())
            .collect();
        let archived = self.scores("archived");
        for name in self.keys.keys() {
            let counter = name == "x:minutes"
                || name.split(':').next().is_some_and(|n| n == "processed" || n == "failed");
            // Only a manual clock, which Redis does not know, needs these.
            let expired =
                name == "x:ends" || ended.iter().any(|key| key.ends_with(&format!("}}:{name}")));
            let kept = name == "archived"
                || name.strip_prefix("t:").is_some_and(|id| archived.contains_key(id));
            if !(counter || expired || kept) {
                return Err(format!("{name} is left: {:?}", self.list(name)));
            }
        }
        Ok(())
    }
}
