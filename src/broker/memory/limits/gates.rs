//! How many jobs of each limit and key run, and which wait for a place: plain accounting, without
//! the jobs themselves.
//!
//! A limit is a row of gates, one for each key. A job passes the gates of all limits that it is
//! subject to, one after the other, and is pending behind the last one. A gate that it has passed
//! keeps a place *claimed* for it; the dequeue turns claims into places *in use* and spends a
//! token of a rate. So no job is pending that could not run at once, unless another one started at its
//! rate meanwhile; then the dequeue puts it back.
//!
//! The order of gates is fixed: keys, then types, then the queue. What waits at a wide gate has
//! passed the narrow ones, so a single key with many jobs stands there with as many as it may
//! run. Its other jobs wait at their own gate and delay nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use crate::broker::memory::changes::Changes;
use crate::broker::{
    Begin, Cursor, LimitInfo, LimitKeyPage, LimitUse, LimitUses, MAX_LISTED_KEYS, Mark, Page,
};
use crate::error::Error;
use crate::job::{JobId, JobRecord, Limit, Rate, RateState};
use crate::time::Timestamp;

/// A limit and one of its keys; the key is empty for a limit without keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::broker::memory) struct Pair {
    pub(in crate::broker::memory) limit: String,
    pub(in crate::broker::memory) key: String,
}

/// One gate.
#[derive(Default)]
pub(super) struct Gate {
    /// Active jobs with a place, by when they took it.
    pub(super) holders: BTreeSet<(Timestamp, JobId)>,
    /// Places of jobs that have passed, and are not active yet.
    claimed: u32,
    /// Jobs that wait here, by their turn.
    pub(super) waiting: BTreeMap<i64, JobId>,
    /// The starts of a rate.
    pub(super) rate: RateState,
    /// Its entry in [`Gates::ready`].
    ready_at: Option<i64>,
}

impl Gate {
    /// Whether one more job may pass, of those that `waited` or another one.
    fn has_room(&self, limit: &Limit, waited: bool, now: Timestamp) -> bool {
        self.has_place(limit)
            && limit
                .rate
                .is_none_or(|rate| self.claimed < rate.admits(&self.rate, micros(now), waited))
    }

    /// Whether a place is free, and claimed by nobody.
    fn has_place(&self, limit: &Limit) -> bool {
        let taken = self.holders.len() + self.claimed as usize;
        limit.concurrency.is_none_or(|max| taken < max as usize)
    }

    /// When a rate lets the next waiting job pass, if only time keeps it.
    fn opens_at(&self, limit: &Limit, now: Timestamp) -> Option<i64> {
        let rate = limit.rate.filter(|_| !self.waiting.is_empty() && self.has_place(limit))?;
        (self.claimed == 0).then(|| rate.next_at(&self.rate, micros(now)))
    }

    /// Whether nothing is known here that a new gate would not know.
    fn is_idle(&self, rate: Option<Rate>, now: Timestamp) -> bool {
        let is_unused = self.holders.is_empty() && self.claimed == 0 && self.waiting.is_empty();
        is_unused && rate.is_none_or(|rate| rate.is_over(&self.rate, micros(now)))
    }

    /// When the next job may start, if that is not now.
    pub(super) fn next_at(&self, limit: &Limit, now: Timestamp) -> Option<Timestamp> {
        let next = limit.rate?.next_at(&self.rate, micros(now));
        (next > micros(now)).then(|| Timestamp::from_micros(next))
    }

    pub(super) fn since(&self) -> Option<Timestamp> {
        self.holders.first().map(|(since, _)| *since)
    }

    /// As a list shows it.
    fn shown(&self, pair: &Pair, limit: &Limit, now: Timestamp) -> LimitUse {
        LimitUse {
            key: pair.key.clone(),
            in_use: self.holders.len() as u64,
            waiting: self.waiting.len() as u64,
            since: self.since(),
            next_at: self.next_at(limit, now),
        }
    }
}

fn micros(time: Timestamp) -> i64 {
    time.as_micros()
}

/// The limits of a queue and their gates.
#[derive(Default)]
pub(in crate::broker::memory) struct Gates {
    /// By the order of gates.
    limits: Vec<Limit>,
    gates: BTreeMap<Pair, Gate>,
    /// Gates where only time keeps the next job, by when it passes.
    ready: BTreeSet<(i64, Pair)>,
    /// Gates where a place may have become free.
    freed: BTreeSet<Pair>,
    /// The turn of the last job that came to a gate.
    last_turn: i64,
    /// Limits that were set or removed.
    pub(in crate::broker::memory) changed: Changes<String>,
    /// Gates whose rate was used.
    pub(in crate::broker::memory) rates_changed: Changes<Pair>,
    /// The order in which keys are listed. A cursor has the hash of a key: keys are parts of
    /// payloads, which not everyone who reads a list may see.
    listing: RandomState,
}

impl Gates {
    /// Whether there is no limit.
    pub(in crate::broker::memory) fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// The limit of this name.
    pub(in crate::broker::memory) fn limit(&self, name: &str) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.name == name)
    }

    /// All limits, in no particular order.
    pub(in crate::broker::memory) fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Sets a limit, whose gates stay. The caller then sends all jobs through them again.
    pub(in crate::broker::memory) fn set(&mut self, limit: Limit) {
        self.changed.note(|| limit.name.clone());
        self.limits.retain(|before| before.name != limit.name);
        self.limits.push(limit);
        let rank = |limit: &Limit| match (&limit.key, limit.types.is_empty()) {
            (Some(_), _) => 0,
            (None, false) => 1,
            (None, true) => 2,
        };
        self.limits.sort_by(|a, b| (rank(a), &a.name).cmp(&(rank(b), &b.name)));
    }

    /// Removes a limit; false if there is none. The caller then sends all jobs through
    /// the gates again.
    pub(in crate::broker::memory) fn unset(&mut self, name: &str) -> bool {
        let before = self.limits.len();
        self.limits.retain(|limit| limit.name != name);
        let is_removed = self.limits.len() < before;
        if is_removed {
            self.changed.note(|| name.to_owned());
        }
        is_removed
    }

    /// The gates of a job, in order.
    pub(in crate::broker::memory) fn pairs_of(&self, job: &JobRecord) -> Vec<Pair> {
        let limits = self.limits.iter().filter(|limit| limit.covers(&job.job_type));
        limits.map(|limit| Pair { limit: limit.name.clone(), key: limit.key_of(job) }).collect()
    }

    /// A gate with state, and its limit.
    pub(super) fn gate(&self, pair: &Pair) -> Option<(&Limit, &Gate)> {
        self.limit(&pair.limit).zip(self.gates.get(pair))
    }

    /// The gates of a limit with state.
    fn gates_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Pair, &'a Gate)> {
        let first = Pair { limit: name.to_owned(), key: String::new() };
        self.gates.range(first..).take_while(move |(pair, _)| pair.limit == name)
    }

    /// All limits by name, with totals.
    pub(super) fn infos(&self) -> Vec<LimitInfo> {
        let mut limits: Vec<&Limit> = self.limits.iter().collect();
        limits.sort_by(|a, b| a.name.cmp(&b.name));
        let info = |limit: &Limit| {
            let mut info = LimitInfo::new(limit.clone());
            for (_, gate) in self.gates_of(&limit.name) {
                info.keys += 1;
                info.in_use += gate.holders.len() as u64;
                info.waiting += gate.waiting.len() as u64;
            }
            info
        };
        limits.into_iter().map(info).collect()
    }

    /// The first keys of a limit with state, those with the most waiting jobs first.
    pub(super) fn uses(&self, name: &str, most: usize, now: Timestamp) -> LimitUses {
        let Some(limit) = self.limit(name) else { return LimitUses::default() };
        let mut all = self.gates_of(name);
        let first = all.by_ref().take(MAX_LISTED_KEYS);
        let mut uses: Vec<LimitUse> =
            first.map(|(pair, gate)| gate.shown(pair, limit, now)).collect();
        let more = all.next().is_some() || uses.len() > most;
        uses.sort_by(LimitUse::fullest_first);
        uses.truncate(most);
        LimitUses { uses, more }
    }

    /// A page of the keys of a limit with state, in the order of their hashes.
    pub(super) fn keys(
        &self,
        name: &str,
        page: &Page,
        now: Timestamp,
    ) -> Result<LimitKeyPage, Error> {
        let after: Option<u64> = match page.begin()? {
            Begin::At(0) => None,
            Begin::At(_) => return Err(Cursor::by_cursor()),
            Begin::After(Mark::Scanned(hash)) => {
                let hash = std::str::from_utf8(hash).ok().and_then(|hash| hash.parse().ok());
                Some(hash.ok_or_else(Cursor::foreign)?)
            }
            Begin::After(_) => return Err(Cursor::foreign()),
        };
        let Some(limit) = self.limit(name) else { return Ok(LimitKeyPage::default()) };
        // The least hashes, and one more that says whether there is another page.
        let mut least: BTreeMap<(u64, &str), (&Pair, &Gate)> = BTreeMap::new();
        for (pair, gate) in self.gates_of(name) {
            let hash = self.listing.hash_one(&pair.key);
            if after.is_none_or(|after| hash > after) {
                least.insert((hash, &pair.key), (pair, gate));
                if least.len() > page.rows() + 1 {
                    least.pop_last();
                }
            }
        }
        let has_more = least.len() > page.rows();
        if has_more {
            least.pop_last();
        }
        let next = least.last_key_value().filter(|_| has_more);
        let next = next.map(|((hash, _), _)| Mark::Scanned(hash.to_string().into_bytes()));
        let keys = least.into_values().map(|(pair, gate)| gate.shown(pair, limit, now)).collect();
        Ok(LimitKeyPage { keys, next: next.map(Cursor::new) })
    }

    /// All jobs that hold a place.
    pub(in crate::broker::memory) fn holders(&self) -> impl Iterator<Item = (&Pair, &JobId)> {
        self.gates
            .iter()
            .flat_map(|(pair, gate)| gate.holders.iter().map(move |(_, id)| (pair, id)))
    }

    /// All jobs that wait for one.
    pub(in crate::broker::memory) fn waiting(&self) -> impl Iterator<Item = (&Pair, &JobId)> {
        self.gates.iter().flat_map(|(pair, gate)| gate.waiting.values().map(move |id| (pair, id)))
    }

    /// The same with their turns.
    pub(in crate::broker::memory) fn turns(&self) -> impl Iterator<Item = (i64, &JobId)> {
        self.gates.values().flat_map(|gate| gate.waiting.iter().map(|(turn, id)| (*turn, id)))
    }

    /// Whether a job holds a place here.
    pub(in crate::broker::memory) fn has_holder(
        &self,
        pair: &Pair,
        taken: Timestamp,
        id: &JobId,
    ) -> bool {
        let gate = self.gates.get(pair);
        gate.is_some_and(|gate| gate.holders.contains(&(taken, id.clone())))
    }

    /// Whether a job waits here at this turn.
    pub(in crate::broker::memory) fn has_waiting(
        &self,
        pair: &Pair,
        turn: i64,
        id: &JobId,
    ) -> bool {
        self.gates.get(pair).is_some_and(|gate| gate.waiting.get(&turn) == Some(id))
    }

    /// The starts of a rate, if there were any.
    pub(in crate::broker::memory) fn starts(&self, pair: &Pair) -> Option<&RateState> {
        self.gates.get(pair).map(|gate| &gate.rate).filter(|rate| rate.next > 0)
    }

    /// Gates with starts of a rate.
    pub(in crate::broker::memory) fn pairs_with_starts(&self) -> impl Iterator<Item = &Pair> {
        self.gates.iter().filter(|(_, gate)| gate.rate.next > 0).map(|(pair, _)| pair)
    }

    /// Restores the starts of a rate.
    pub(in crate::broker::memory) fn restore_starts(&mut self, pair: Pair, rate: RateState) {
        self.gates.entry(pair).or_default().rate = rate;
    }

    /// A turn behind all others: the microsecond, as far as the order allows.
    pub(super) fn next_turn(&mut self, now: Timestamp) -> i64 {
        self.last_turn = micros(now).max(self.last_turn + 1);
        self.last_turn
    }

    /// The job with the first turn of all that wait.
    pub(in crate::broker::memory) fn longest_waiting(&self) -> Option<(i64, JobId)> {
        let first =
            |gate: &Gate| gate.waiting.first_key_value().map(|(turn, id)| (*turn, id.clone()));
        self.gates.values().filter_map(first).min()
    }

    /// Makes all later turns higher than this one.
    pub(in crate::broker::memory) fn begin_turns(&mut self, after: i64) {
        self.last_turn = self.last_turn.max(after);
    }

    /// Lets a job pass this gate, unless others wait before it or there is no room.
    pub(super) fn pass(&mut self, pair: &Pair, turn: i64, now: Timestamp) -> bool {
        // A limit that was removed holds no job back.
        let Some(limit) = self.limits.iter().find(|limit| limit.name == pair.limit) else {
            return true;
        };
        let gate = self.gates.entry(pair.clone()).or_default();
        let is_first = gate.waiting.first_key_value().is_none_or(|(first, _)| turn < *first);
        let passes = is_first && gate.has_room(limit, false, now);
        gate.claimed += u32::from(passes);
        passes
    }

    /// Lets a job wait at this gate.
    pub(super) fn wait(&mut self, pair: &Pair, turn: i64, id: JobId, now: Timestamp) {
        self.gates.entry(pair.clone()).or_default().waiting.insert(turn, id);
        self.schedule(pair, now);
    }

    /// A job no longer waits at this gate.
    pub(super) fn stop_waiting(&mut self, pair: &Pair, turn: i64) {
        if let Some(gate) = self.gates.get_mut(pair) {
            gate.waiting.remove(&turn);
        }
        self.freed.insert(pair.clone());
    }

    /// Gives back a claim.
    pub(super) fn unclaim(&mut self, pair: &Pair) {
        if let Some(gate) = self.gates.get_mut(pair) {
            gate.claimed = gate.claimed.saturating_sub(1);
        }
        self.freed.insert(pair.clone());
    }

    /// Whether the rates of these gates let a job start now that has passed them.
    pub(super) fn may_start(&self, pairs: &[Pair], now: Timestamp) -> bool {
        let opens = |(limit, gate): (&Limit, &Gate)| gate.next_at(limit, now).is_none();
        pairs.iter().all(|pair| self.gate(pair).is_none_or(opens))
    }

    /// Takes a place for a job that has claimed it, or that takes back what it had.
    pub(super) fn occupy(&mut self, pair: &Pair, since: Timestamp, id: &JobId) {
        let gate = self.gates.entry(pair.clone()).or_default();
        gate.claimed = gate.claimed.saturating_sub(1);
        gate.holders.insert((since, id.clone()));
        self.freed.insert(pair.clone());
    }

    /// Notes a start at this gate's rate, of a job that `waited` or did not.
    pub(super) fn start(&mut self, pair: &Pair, waited: bool, now: Timestamp) {
        let rate = self.rate(pair);
        if let Some((rate, gate)) = rate.zip(self.gates.get_mut(pair)) {
            rate.start(&mut gate.rate, micros(now), waited);
            self.rates_changed.note(|| pair.clone());
        }
    }

    fn rate(&self, pair: &Pair) -> Option<Rate> {
        self.limit(&pair.limit).and_then(|limit| limit.rate)
    }

    /// Gives back a place in use.
    pub(super) fn give(&mut self, pair: &Pair, since: Timestamp, id: &JobId) {
        if let Some(gate) = self.gates.get_mut(pair) {
            gate.holders.remove(&(since, id.clone()));
            self.freed.insert(pair.clone());
        }
    }

    /// When the next gate opens by time alone.
    pub(in crate::broker::memory) fn next_ready(&self) -> Option<Timestamp> {
        self.ready.first().map(|(at, _)| Timestamp::from_micros(*at))
    }

    /// The next job that could pass the gate at which it waited, and has. The caller leads it on.
    pub(super) fn next_passed(&mut self, now: Timestamp) -> Option<JobId> {
        loop {
            let due = self.ready.first().filter(|(at, _)| *at <= now.as_micros());
            let pair = match due {
                Some((_, pair)) => pair.clone(),
                None => self.freed.first()?.clone(),
            };
            if let Some(passed) = self.pass_first(&pair, now) {
                return Some(passed);
            }
            self.freed.remove(&pair);
            self.schedule(&pair, now);
            let rate = self.rate(&pair);
            if self.gates.get(&pair).is_some_and(|gate| gate.is_idle(rate, now)) {
                self.remove(&pair);
            }
        }
    }

    /// Lets the first job that waits at this gate pass, if there is room.
    fn pass_first(&mut self, pair: &Pair, now: Timestamp) -> Option<JobId> {
        let limit = self.limits.iter().find(|limit| limit.name == pair.limit)?;
        let gate = self.gates.get_mut(pair)?;
        if !gate.has_room(limit, true, now) {
            return None;
        }
        let (_, passed) = gate.waiting.pop_first()?;
        gate.claimed += 1;
        Some(passed)
    }

    /// Notes when this gate opens by time alone.
    fn schedule(&mut self, pair: &Pair, now: Timestamp) {
        let limit = self.limits.iter().find(|limit| limit.name == pair.limit);
        let Some(gate) = self.gates.get_mut(pair) else { return };
        let opens = limit.and_then(|limit| gate.opens_at(limit, now));
        let before = std::mem::replace(&mut gate.ready_at, opens);
        if before == opens {
            return;
        }
        if let Some(at) = before {
            self.ready.remove(&(at, pair.clone()));
        }
        if let Some(at) = opens {
            self.ready.insert((at, pair.clone()));
        }
    }

    /// Removes gates whose rate lies in the past, and that nobody uses.
    pub(in crate::broker::memory) fn sweep(&mut self, now: Timestamp) {
        let idle = self.gates.iter().filter(|(pair, gate)| gate.is_idle(self.rate(pair), now));
        for pair in idle.map(|(pair, _)| pair.clone()).collect::<Vec<_>>() {
            self.remove(&pair);
        }
    }

    fn remove(&mut self, pair: &Pair) {
        if let Some(gate) = self.gates.remove(pair) {
            if let Some(at) = gate.ready_at {
                self.ready.remove(&(at, pair.clone()));
            }
            if gate.rate.next > 0 {
                self.rates_changed.note(|| pair.clone());
            }
        }
    }

    /// Forgets who waits and who has passed, and the gates of limits that are gone. Returns who
    /// waited, in order.
    pub(super) fn empty(&mut self) -> Vec<JobId> {
        self.ready.clear();
        self.freed.clear();
        let mut waited = Vec::new();
        for gate in self.gates.values_mut() {
            waited.extend(std::mem::take(&mut gate.waiting));
            (gate.claimed, gate.ready_at) = (0, None);
        }
        let known = |pair: &Pair| self.limits.iter().any(|limit| limit.name == pair.limit);
        let gone: Vec<Pair> = self.gates.keys().filter(|pair| !known(pair)).cloned().collect();
        gone.iter().for_each(|pair| self.remove(pair));
        waited.sort_unstable();
        waited.into_iter().map(|(_, id)| id).collect()
    }
}
