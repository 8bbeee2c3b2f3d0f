//! Limits on the jobs of a queue: who becomes pending, who waits for a place, and who takes one.
//!
//! [`gates`] counts; this module moves the jobs. A job that waits for a place has
//! the state *scheduled* and is due in an hour, as Asynq's tools see it in Redis, and the hour is
//! rolled on. It keeps its turn while it lives, so that a retry is not behind all others.
//!
//! A place is taken by the dequeue and given back with the lease: only the owner that may settle
//! the job gives its places back.

mod gates;
mod store;

use std::collections::VecDeque;
use std::time::Duration;

use super::queue::{Queue, StoredJob};
use super::successor::follows_at;
use crate::broker::{LimitStanding, LimitWait};
use crate::job::{JobId, JobState};
use crate::time::Timestamp;

pub(super) use gates::{Gates, Pair};

/// The due time of a job that waits for a place, from now, as in Redis.
pub(super) const HELD_FOR: Duration = Duration::from_secs(3600);

/// What a queue with limits knows about a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limited {
    /// The limits that it is subject to, in the order of their gates. While it is active: those
    /// of which it holds a place.
    pub(super) pairs: Vec<Pair>,
    /// The gates that it has passed.
    passed: usize,
    /// Its turn among those that wait.
    pub(super) turn: i64,
    /// Whether it waited before it became pending.
    waited: bool,
    /// When it took its places, while it is active.
    pub(super) taken: Timestamp,
}

impl Limited {
    /// A job as it was stored: an active one with places of these pairs.
    pub(super) fn holding(pairs: Vec<Pair>, turn: i64, taken: Timestamp) -> Self {
        Self { pairs, turn, taken, ..Self::default() }
    }

    /// The gate at which it waits, if it does.
    pub(super) fn next(&self) -> Option<&Pair> {
        self.pairs.get(self.passed)
    }
}

impl StoredJob {
    /// Its turn among those that wait for a limit, if it has one.
    pub(super) fn turn(&self) -> Option<Timestamp> {
        let limited = self.limited.as_ref().filter(|limited| limited.turn > 0)?;
        Some(Timestamp::from_micros(limited.turn))
    }

    /// Whether it waits for a place; then its state is *scheduled*.
    pub(super) fn waits_for_limit(&self) -> bool {
        self.state == JobState::Scheduled && self.waits_for_place
    }
}

/// Where in the pending list a job goes that has passed all gates.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

impl Queue {
    /// Sends a job that may run through the gates of its limits: it becomes pending, or waits at the
    /// first gate without room.
    pub(super) fn enter_gates(&mut self, mut stored: Box<StoredJob>, end: End, now: Timestamp) {
        let pairs = self.gates.pairs_of(&stored.job);
        if pairs.is_empty() {
            // A turn that it brought from another store is kept for limits that are set later.
            stored.limited.take_if(|limited| limited.turn == 0);
            if let Some(limited) = &mut stored.limited {
                (limited.pairs, limited.passed) = (pairs, 0);
            }
            return self.push_pending(stored, end);
        }
        let limited = stored.limited.get_or_insert_default();
        if limited.turn == 0 {
            limited.turn = self.gates.next_turn(now);
        }
        (limited.pairs, limited.passed, limited.waited) = (pairs, 0, false);
        self.walk(stored, end, now);
    }

    /// Goes on from the gates that the job has passed.
    fn walk(&mut self, mut stored: Box<StoredJob>, end: End, now: Timestamp) {
        let Some(limited) = &mut stored.limited else { return self.push_pending(stored, end) };
        while let Some(pair) = limited.pairs.get(limited.passed) {
            if !self.gates.pass(pair, limited.turn, now) {
                break;
            }
            limited.passed += 1;
        }
        let Some(pair) = limited.next() else { return self.push_pending(stored, end) };
        self.gates.wait(pair, limited.turn, stored.job.id.clone(), now);
        (stored.waits_for_place, stored.pending_since) = (true, None);
        self.wait(stored, JobState::Scheduled, now + HELD_FOR);
    }

    /// Makes waiting jobs pending, as long as there are places.
    pub(super) fn admit_waiting(&mut self, now: Timestamp) {
        while let Some(id) = self.gates.next_passed(now) {
            let Some(mut stored) = self.jobs.remove(&id) else { continue };
            if let Some(due) = stored.due.take() {
                self.scheduled.remove(&(due, id));
            }
            if let Some(limited) = &mut stored.limited {
                limited.passed += 1;
                limited.waited = true;
            }
            (stored.waits_for_place, stored.pending_since) = (false, Some(now));
            self.walk(stored, End::Back, now);
        }
    }

    /// Gives up what a job that leaves the pending or scheduled ones has claimed.
    pub(super) fn leave_gates(&mut self, id: &JobId) {
        if self.gates.is_empty() {
            return;
        }
        let Some(stored) = self.jobs.get_mut(id) else { return };
        let waits = std::mem::take(&mut stored.waits_for_place);
        let Some(limited) = &mut stored.limited else { return };
        for pair in &limited.pairs[..limited.passed] {
            self.gates.unclaim(pair);
        }
        if let Some(pair) = limited.next().filter(|_| waits) {
            self.gates.stop_waiting(pair, limited.turn);
        }
        (limited.pairs, limited.passed) = (Vec::new(), 0);
    }

    /// Sends a job to the gates of its new key, if an edited payload has another one.
    pub(super) fn check_gates(&mut self, id: &JobId, now: Timestamp) {
        let Some(stored) = self.jobs.get(id) else { return };
        let (state, may_run) = match stored.state {
            JobState::Pending => (JobState::Pending, true),
            state => (state, stored.waits_for_limit()),
        };
        let known = stored.limited.as_ref().map_or(&[][..], |limited| &limited.pairs);
        if !may_run || self.gates.pairs_of(&stored.job) == known || !self.leave(id, state) {
            return;
        }
        if let Some(mut stored) = self.jobs.remove(id) {
            (stored.due, stored.pending_since) = (None, Some(now));
            self.enter_gates(stored, End::Back, now);
        }
    }

    /// Takes the places of a job that is dequeued; false if the token of a rate went to another
    /// one, and the job waits again.
    pub(super) fn take_places(&mut self, id: &JobId, now: Timestamp) -> bool {
        let Some(limited) = self.jobs.get(id).and_then(|stored| stored.limited.as_ref()) else {
            return true;
        };
        if !self.gates.may_start(&limited.pairs, now) {
            self.leave_gates(id);
            if let Some(stored) = self.jobs.remove(id) {
                self.enter_gates(stored, End::Back, now);
            }
            return false;
        }
        for pair in &limited.pairs {
            self.gates.start(pair, limited.waited, now);
        }
        self.occupy(id, now);
        true
    }

    /// Makes the claims of a job places in use: its attempt begins, or goes on after all.
    pub(super) fn occupy(&mut self, id: &JobId, now: Timestamp) {
        let Some(limited) = self.jobs.get_mut(id).and_then(|stored| stored.limited.as_mut()) else {
            return;
        };
        limited.taken = now;
        for pair in &limited.pairs {
            self.gates.occupy(pair, now, id);
        }
    }

    /// Gives the places of a job back that is no longer active.
    pub(super) fn give_places(&mut self, stored: &mut StoredJob) {
        if let Some(limited) = &mut stored.limited {
            for pair in &limited.pairs {
                self.gates.give(pair, limited.taken, &stored.job.id);
            }
            (limited.pairs, limited.passed) = (Vec::new(), 0);
        }
    }

    /// Lets a job wait on whose hour is over; returns it if it waits neither for a place nor for the
    /// end of another job.
    pub(super) fn roll_on(
        &mut self,
        mut stored: Box<StoredJob>,
        now: Timestamp,
    ) -> Option<Box<StoredJob>> {
        if !stored.waits_for_limit() && stored.follows.is_none() {
            return Some(stored);
        }
        stored.due = None;
        let due = if stored.follows.is_some() { follows_at(now) } else { now + HELD_FOR };
        self.wait(stored, JobState::Scheduled, due);
        None
    }

    /// Gives the jobs of a store that was opened the places that they had.
    pub(super) fn restore_gates(&mut self, now: Timestamp) {
        let mut waited = Vec::new();
        for (id, stored) in self.jobs.iter() {
            if stored.follows.is_some() {
                self.following.insert(id.clone());
            }
            let Some(limited) = &stored.limited else { continue };
            self.gates.begin_turns(limited.turn);
            match stored.state {
                JobState::Active => {
                    limited.pairs.iter().for_each(|pair| self.gates.occupy(pair, limited.taken, id))
                }
                _ if stored.waits_for_limit() => waited.push((limited.turn, id.clone())),
                _ => {}
            }
        }
        if !self.gates.is_empty() || !waited.is_empty() {
            waited.sort_unstable();
            self.send_all(waited.into_iter().map(|(_, id)| id).collect(), now);
        }
    }

    /// Decides again about all pending and waiting jobs, because the limits have changed.
    pub(super) fn rebuild_gates(&mut self, now: Timestamp) {
        let waited = self.gates.empty();
        // Those that run hold no place of a limit that is gone, also if it comes back.
        for id in self.leases.values() {
            let known = |pair: &Pair| self.gates.limit(&pair.limit).is_some();
            if let Some(limited) = self.jobs.get(id).and_then(|stored| stored.limited.as_ref())
                && !limited.pairs.iter().all(known)
                && let Some(limited) = self.jobs.get_mut(id).and_then(|it| it.limited.as_mut())
            {
                limited.pairs.retain(|pair| self.gates.limit(&pair.limit).is_some());
            }
        }
        self.send_all(waited, now);
    }

    /// Gives a job that comes from another store the turn that it had there.
    pub(super) fn take_turn(&mut self, stored: &mut StoredJob, turn: Timestamp) {
        stored.limited.get_or_insert_default().turn = turn.as_micros();
        self.gates.begin_turns(turn.as_micros());
    }

    /// Puts the pending jobs that brought their turns from another store in the order of these.
    fn sort_turns(&self, pending: &mut VecDeque<JobId>) {
        let brought = |id: &JobId| {
            let limited = self.jobs.get(id)?.limited.as_ref()?;
            limited.pairs.is_empty().then_some(limited.turn)
        };
        let mut turns: Vec<(i64, JobId)> =
            pending.iter().filter_map(|id| Some((brought(id)?, id.clone()))).collect();
        turns.sort_by_key(|(turn, _)| *turn);
        let places = pending.iter_mut().filter(|id| brought(id).is_some());
        places.zip(turns).for_each(|(place, (_, id))| *place = id);
    }

    /// Sends the pending jobs, and then those that waited, through all gates.
    fn send_all(&mut self, waited: Vec<JobId>, now: Timestamp) {
        let mut pending = std::mem::take(&mut self.pending);
        self.sort_turns(&mut pending);
        for id in pending.into_iter().chain(waited) {
            let Some(mut stored) = self.jobs.remove(&id) else { continue };
            if let Some(due) = stored.due.take() {
                self.scheduled.remove(&(due, id));
            }
            stored.waits_for_place = false;
            stored.pending_since.get_or_insert(now);
            self.enter_gates(stored, End::Back, now);
        }
        self.admit_waiting(now);
    }

    /// What a waiting job waits for.
    pub(super) fn waiting_for(&self, stored: &StoredJob) -> Option<LimitWait> {
        let limited = stored.limited.as_ref().filter(|_| stored.waits_for_limit())?;
        let Pair { limit, key } = limited.next()?.clone();
        Some(LimitWait { limit, key })
    }

    /// What a waiting job waits for, and how far it has come.
    pub(super) fn waits_for(&self, stored: &StoredJob, now: Timestamp) -> Option<LimitStanding> {
        let limited = stored.limited.as_ref().filter(|_| stored.waits_for_limit())?;
        let pair = limited.next()?;
        let (limit, gate) = self.gates.gate(pair)?;
        Some(LimitStanding {
            limit: pair.limit.clone(),
            key: pair.key.clone(),
            in_use: gate.holders.len() as u64,
            max: limit.concurrency,
            since: gate.since(),
            ahead: gate.waiting.range(..limited.turn).count() as u64,
            next_at: gate.next_at(limit, now),
        })
    }
}
