//! The state of the store as rows, and back.
//!
//! After each action on a queue, [`Queue::write_changes`] turns what the action changed into
//! rows. [`Loader`] makes the state again from all rows, in any order. What belongs to a
//! process is not kept: announcements, and the ends of leases. A job that was active belonged
//! to a process that is gone, so its lease has expired when the store is opened, and the
//! recoverer settles it like every lost job.
//!
//! A job has up to two rows. The first is written when the job is enqueued or edited and has
//! all of it. The second, smaller one has what changed since, without the payload.

mod job_row;

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use super::groups::ClaimedSet;
use super::periodic::{Claim, PeriodicState};
use super::queue::{COUNTER_DAYS, Queue, Request, StoredJob, Tally};
use super::{StoreState, expiring::Expiring};
use crate::broker::disk::{Key, Kind, Rows};
use crate::broker::{ArchiveSettings, CounterSnapshot, PeriodicRun};
use crate::job::{JobId, JobState, QueueName};
use crate::time::Timestamp;
use job_row::{JobRow, StateRow};

/// A queue that exists or is paused; one that nobody used may be paused too.
#[derive(Clone, PartialEq, Message)]
struct QueueRow {
    #[prost(bool, tag = "2")]
    used: bool,
    #[prost(sint64, optional, tag = "1")]
    paused: Option<i64>,
}

/// Attempts of a day, and of all time at its end.
#[derive(Clone, PartialEq, Message)]
struct DayRow {
    #[prost(uint64, tag = "1")]
    processed: u64,
    #[prost(uint64, tag = "2")]
    failed: u64,
    #[prost(uint64, tag = "3")]
    total_processed: u64,
    #[prost(uint64, tag = "4")]
    total_failed: u64,
}

#[derive(Clone, PartialEq, Message)]
struct MinutesRow {
    #[prost(message, repeated, tag = "1")]
    minutes: Vec<MinuteRow>,
}

#[derive(Clone, PartialEq, Message)]
struct MinuteRow {
    #[prost(sint64, tag = "1")]
    minute: i64,
    #[prost(uint64, tag = "2")]
    processed: u64,
    #[prost(uint64, tag = "3")]
    failed: u64,
    #[prost(uint64, tag = "4")]
    waiting: u64,
}

/// An entry that expires: a lock, a request, or the queue of a key.
#[derive(Clone, PartialEq, Message)]
struct ExpiringRow {
    #[prost(sint64, tag = "1")]
    until: i64,
    /// The lock's holder, the request's job, or the queue's name.
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    /// The digest of a request.
    #[prost(string, tag = "3")]
    body: String,
}

/// An instant, and a second one.
#[derive(Clone, PartialEq, Message)]
struct InstantRow {
    #[prost(sint64, tag = "1")]
    at: i64,
    #[prost(sint64, optional, tag = "2")]
    and: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct SetRow {
    #[prost(string, tag = "1")]
    group: String,
    #[prost(sint64, tag = "2")]
    expires: i64,
    #[prost(bytes = "vec", repeated, tag = "3")]
    jobs: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct NumberRow {
    #[prost(uint64, tag = "1")]
    number: u64,
}

/// The row with the number of suspects in flight.
const SUSPECTS: &[u8] = b"suspects";

impl Queue {
    /// Notes changes from now on, for [`Queue::write_changes`].
    pub(super) fn watch(&mut self) {
        self.jobs.changed.watch();
        self.locks.changed.watch();
        self.requests.changed.watch();
        self.admitted_changed.watch();
        self.claims_changed.watch();
        self.grouping.changed.watch();
        self.days_changed.watch();
        self.snapshots_changed.watch();
    }

    /// Writes what has changed since the last call.
    pub(super) fn write_changes(&mut self, name: &QueueName, rows: &mut Rows) {
        let queue = name.as_str();
        self.write_jobs(queue, rows);
        for lock in self.locks.changed.take() {
            let value = |id: &JobId| (id.as_bytes().to_vec(), String::new());
            write_expiring(
                Key { kind: Kind::Lock, queue, rest: lock.as_bytes() },
                self.locks.raw(&lock),
                value,
                rows,
            );
        }
        for key in self.requests.changed.take() {
            let value = |request: &Request| (request.id.as_bytes().to_vec(), request.body.clone());
            write_expiring(
                Key { kind: Kind::Request, queue, rest: key.as_bytes() },
                self.requests.raw(&key),
                value,
                rows,
            );
        }
        for id in self.admitted_changed.take() {
            let key = Key { kind: Kind::Admitted, queue, rest: id.as_bytes() };
            let row = self.admitted.get(&id);
            write(key, row.map(|at| InstantRow { at: at.as_micros(), and: None }), rows);
        }
        for id in self.claims_changed.take() {
            let key = Key { kind: Kind::Claim, queue, rest: id.as_bytes() };
            let row = self.claims.get(&id).map(|claim| InstantRow {
                at: claim.up_to.as_micros(),
                and: claim.last_run.map(Timestamp::as_micros),
            });
            write(key, row, rows);
        }
        for id in self.grouping.changed.take() {
            let key = Key { kind: Kind::Set, queue, rest: id.as_bytes() };
            let row = self.grouping.claimed.get(&id).map(|set| SetRow {
                group: set.group.clone(),
                expires: set.expires.as_micros(),
                jobs: set.jobs.iter().map(|(_, id)| id.as_bytes().to_vec()).collect(),
            });
            write(key, row, rows);
        }
        self.write_counters(queue, rows);
        let saved = (self.used, self.paused);
        if self.saved != saved {
            self.saved = saved;
            let row = QueueRow { used: self.used, paused: self.paused.map(Timestamp::as_micros) };
            rows.put(Key { kind: Kind::Queue, queue, rest: b"" }, &row);
        }
    }

    fn write_jobs(&mut self, queue: &str, rows: &mut Rows) {
        for (id, gone) in self.jobs.changed.take() {
            let job = Key { kind: Kind::Job, queue, rest: id.as_bytes() };
            let state = Key { kind: Kind::JobState, ..job };
            match self.jobs.get_unnoted(&id) {
                None => {
                    if gone.job {
                        rows.delete(job);
                    }
                    if gone.state {
                        rows.delete(state);
                    }
                }
                // Noted twice.
                Some(stored) if !stored.saved.noted => {}
                Some(stored) => {
                    if stored.saved.job {
                        rows.put(state, &StateRow::of(stored));
                        stored.saved.state = true;
                    } else {
                        rows.put(job, &JobRow::of(stored));
                        if gone.state || stored.saved.state {
                            rows.delete(state);
                        }
                        stored.saved.state = false;
                    }
                    (stored.saved.job, stored.saved.noted) = (true, false);
                }
            }
        }
    }

    fn write_counters(&mut self, queue: &str, rows: &mut Rows) {
        let mut days = self.days_changed.take();
        days.dedup();
        for day in days {
            let tally = self.days.get(&day).copied().unwrap_or_default();
            let row = DayRow {
                processed: tally.processed,
                failed: tally.failed,
                total_processed: self.total.processed,
                total_failed: self.total.failed,
            };
            rows.put(Key { kind: Kind::Day, queue, rest: &day.to_be_bytes() }, &row);
        }
        if !self.snapshots_changed.take().is_empty() {
            let minute = |(minute, one): (&i64, &CounterSnapshot)| MinuteRow {
                minute: *minute,
                processed: one.processed,
                failed: one.failed,
                waiting: one.waiting,
            };
            let row = MinutesRow { minutes: self.snapshots.iter().map(minute).collect() };
            rows.put(Key { kind: Kind::Minutes, queue, rest: b"" }, &row);
        }
    }

    /// Deletes all rows of the queue, which is removed.
    pub(super) fn delete_rows(&self, name: &QueueName, rows: &mut Rows) {
        let queue = name.as_str();
        let mut delete = |kind, rest: &[u8]| rows.delete(Key { kind, queue, rest });
        for (id, stored) in self.jobs.iter() {
            delete(Kind::Job, id.as_bytes());
            if stored.saved.state {
                delete(Kind::JobState, id.as_bytes());
            }
        }
        self.locks.keys().for_each(|key| delete(Kind::Lock, key.as_bytes()));
        self.requests.keys().for_each(|key| delete(Kind::Request, key.as_bytes()));
        self.admitted.keys().for_each(|id| delete(Kind::Admitted, id.as_bytes()));
        self.claims.keys().for_each(|id| delete(Kind::Claim, id.as_bytes()));
        self.grouping.claimed.keys().for_each(|id| delete(Kind::Set, id.as_bytes()));
        self.days.keys().for_each(|day| delete(Kind::Day, &day.to_be_bytes()));
        delete(Kind::Minutes, b"");
        delete(Kind::Queue, b"");
    }
}

/// Puts a row, or deletes it.
fn write(key: Key<'_>, row: Option<impl Message>, rows: &mut Rows) {
    match row {
        Some(row) => rows.put(key, &row),
        None => rows.delete(key),
    }
}

fn write_expiring<V>(
    key: Key<'_>,
    entry: Option<&(V, Timestamp)>,
    parts: impl FnOnce(&V) -> (Vec<u8>, String),
    rows: &mut Rows,
) {
    let row = entry.map(|(value, until)| {
        let (value, body) = parts(value);
        ExpiringRow { until: until.as_micros(), value, body }
    });
    write(key, row, rows);
}

/// Writes the queues of idempotency keys that changed.
pub(super) fn write_key_queues(queues: &mut Expiring<QueueName>, rows: &mut Rows) {
    for name in queues.changed.take() {
        let value = |queue: &QueueName| (queue.as_str().as_bytes().to_vec(), String::new());
        let key = Key::store(Kind::KeyQueue, name.as_bytes());
        write_expiring(key, queues.raw(&name), value, rows);
    }
}

/// Writes the number of suspects in flight.
pub(super) fn write_suspects(running: usize, rows: &mut Rows) {
    rows.put(Key::store(Kind::Store, SUSPECTS), &NumberRow { number: running as u64 });
}

/// Writes that a periodic job ran, or no longer remembers a run.
pub(super) fn write_run(periodic_id: &str, run: &PeriodicRun, kept: bool, rows: &mut Rows) {
    let mut rest = periodic_id.as_bytes().to_vec();
    rest.push(0);
    rest.extend_from_slice(&run.at.as_micros().to_be_bytes());
    rest.extend_from_slice(run.job.as_bytes());
    let key = Key::store(Kind::Run, &rest);
    write(key, kept.then_some(NumberRow::default()), rows);
}

/// Makes the state of the store from its rows.
pub(super) struct Loader<'a> {
    archive: &'a ArchiveSettings,
    now: Timestamp,
    steady: Timestamp,
    first_owner: u64,
    queues: BTreeMap<QueueName, LoadedQueue>,
    periodic: PeriodicState,
    keys: Expiring<QueueName>,
    suspects: usize,
    /// Deletes rows that mean nothing any more.
    leftovers: Rows,
}

/// A queue on its way from its rows.
struct LoadedQueue {
    queue: Queue,
    jobs: HashMap<JobId, StoredJob>,
    /// States that came before their job.
    states: HashMap<JobId, StateRow>,
    sets: HashMap<String, SetRow>,
}

impl<'a> Loader<'a> {
    /// Begins without rows. `steady` is the time by which leases count.
    pub(super) fn new(
        archive: &'a ArchiveSettings,
        now: Timestamp,
        steady: Timestamp,
        first_owner: u64,
    ) -> Self {
        let (queues, periodic, keys, leftovers) = Default::default();
        Self { archive, now, steady, first_owner, queues, periodic, keys, suspects: 0, leftovers }
    }

    fn queue(&mut self, name: &str) -> &mut LoadedQueue {
        let name = QueueName::stored(name);
        let (archive, owner) = (self.archive, self.first_owner);
        self.queues.entry(name.clone()).or_insert_with(|| LoadedQueue {
            queue: {
                let mut queue = Queue::keeping(archive.of(&name), archive.release_lock);
                queue.begin_owners(owner);
                queue
            },
            jobs: HashMap::new(),
            states: HashMap::new(),
            sets: HashMap::new(),
        })
    }

    /// Adds a row; false if it is none that this version writes.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        Key::parse(key).is_some_and(|key| self.add_row(key, value).is_some())
    }

    fn add_row(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let (rest, now) = (key.rest, self.now);
        let text = || std::str::from_utf8(rest).ok().map(str::to_owned);
        let mut expiring = None;
        if matches!(key.kind, Kind::Lock | Kind::Request | Kind::KeyQueue) {
            let row = ExpiringRow::decode(value).ok()?;
            let until = Timestamp::from_micros(row.until);
            if until <= now {
                self.leftovers.delete(key);
                return Some(());
            }
            expiring = Some((until, row));
        }
        match key.kind {
            Kind::Job => {
                let (id, name) = (JobId::stored(rest), QueueName::stored(key.queue));
                let mut stored = JobRow::decode(value).ok()?.into_stored(&name, &id)?;
                stored.saved.job = true;
                self.queue(key.queue).jobs.insert(id, stored);
            }
            Kind::JobState => {
                let row = StateRow::decode(value).ok().filter(StateRow::is_known)?;
                self.queue(key.queue).states.insert(JobId::stored(rest), row);
            }
            Kind::Queue => {
                let row = QueueRow::decode(value).ok()?;
                let queue = &mut self.queue(key.queue).queue;
                (queue.used, queue.paused) = (row.used, row.paused.map(Timestamp::from_micros));
                queue.saved = (queue.used, queue.paused);
            }
            Kind::Day => {
                let row = DayRow::decode(value).ok()?;
                let day = i64::from_be_bytes(rest.try_into().ok()?);
                let queue = &mut self.queue(key.queue).queue;
                let tally = Tally { processed: row.processed, failed: row.failed };
                queue.days.insert(day, tally);
                if row.total_processed >= queue.total.processed {
                    queue.total =
                        Tally { processed: row.total_processed, failed: row.total_failed };
                }
            }
            Kind::Minutes => {
                let row = MinutesRow::decode(value).ok()?;
                let minutes = row.minutes.into_iter().map(|row| {
                    let MinuteRow { minute, processed, failed, waiting } = row;
                    (minute, CounterSnapshot { processed, failed, waiting })
                });
                self.queue(key.queue).queue.snapshots = minutes.collect();
            }
            Kind::Lock => {
                let (until, row) = expiring?;
                let holder = JobId::stored(row.value);
                self.queue(key.queue).queue.locks.insert(text()?, holder, until, now);
            }
            Kind::Request => {
                let (until, row) = expiring?;
                let request = Request { body: row.body, id: JobId::stored(row.value) };
                self.queue(key.queue).queue.requests.insert(text()?, request, until, now);
            }
            Kind::Admitted => {
                let at = Timestamp::from_micros(InstantRow::decode(value).ok()?.at);
                self.queue(key.queue).queue.admitted.insert(JobId::stored(rest), at);
            }
            Kind::Set => {
                let row = SetRow::decode(value).ok()?;
                self.queue(key.queue).sets.insert(text()?, row);
            }
            Kind::Claim => {
                let row = InstantRow::decode(value).ok()?;
                let up_to = Timestamp::from_micros(row.at);
                let last_run = row.and.map(Timestamp::from_micros);
                let claims = &mut self.queue(key.queue).queue.claims;
                claims.insert(text()?, Claim { up_to, last_run });
            }
            Kind::Run => {
                let id_ends = rest.iter().position(|byte| *byte == 0)?;
                let (id, rest) =
                    (std::str::from_utf8(&rest[..id_ends]).ok()?, &rest[id_ends + 1..]);
                let (at, job) = rest.split_first_chunk()?;
                let at = Timestamp::from_micros(i64::from_be_bytes(*at));
                let runs = self.periodic.history.entry(id.to_owned()).or_default();
                runs.push_front(PeriodicRun::new(JobId::stored(job), at));
            }
            Kind::KeyQueue => {
                let (until, row) = expiring?;
                let queue = QueueName::stored(std::str::from_utf8(&row.value).ok()?);
                self.keys.insert(text()?, queue, until, now);
            }
            // Others are read before.
            Kind::Store if rest == SUSPECTS => {
                self.suspects = usize::try_from(NumberRow::decode(value).ok()?.number).ok()?;
            }
            Kind::Store => {}
        }
        Some(())
    }

    /// The state, whose changes are noted from now on, and rows to delete.
    pub(super) fn finish(mut self) -> (StoreState, Rows) {
        for runs in self.periodic.history.values_mut() {
            runs.make_contiguous().sort_by_key(|run| std::cmp::Reverse(run.at));
        }
        self.keys.changed.watch();
        let (steady, leftovers) = (self.steady, &mut self.leftovers);
        let first_day = super::queue::day(self.now) - COUNTER_DAYS;
        let mut finish = |(name, loaded): (QueueName, LoadedQueue)| {
            // The last day has the totals too.
            let days: Vec<i64> = loaded.queue.days.keys().rev().skip(1).copied().collect();
            for day in days.into_iter().filter(|day| *day <= first_day) {
                let rest = &day.to_be_bytes();
                leftovers.delete(Key { kind: Kind::Day, queue: name.as_str(), rest });
            }
            let queue = loaded.finish(name.as_str(), steady, leftovers);
            (name, queue)
        };
        let state = StoreState {
            queues: self.queues.into_iter().map(&mut finish).collect(),
            announced: Expiring::default(),
            suspects: self.suspects,
            periodic: self.periodic,
            queues_of_keys: self.keys,
        };
        (state, self.leftovers)
    }
}

impl LoadedQueue {
    /// Puts each job into the collection of its state.
    fn finish(mut self, name: &str, steady: Timestamp, leftovers: &mut Rows) -> Queue {
        for (id, state) in self.states {
            let Some(stored) = self.jobs.get_mut(&id) else {
                leftovers.delete(Key { kind: Kind::JobState, queue: name, rest: id.as_bytes() });
                continue;
            };
            stored.saved.state = true;
            state.apply_to(stored);
        }
        let mut queue = self.queue;
        let mut claimed: HashMap<JobId, String> = HashMap::new();
        for (id, set) in self.sets {
            claimed.extend(set.jobs.iter().map(|job| (JobId::stored(job), id.clone())));
            let expires = Timestamp::from_micros(set.expires);
            let set = ClaimedSet { group: set.group, jobs: Default::default(), expires };
            queue.grouping.claimed.insert(id, set);
        }
        let (mut pending, mut active) = (Vec::new(), Vec::new());
        for (id, stored) in self.jobs {
            let due = stored.due.unwrap_or_default();
            match stored.state {
                JobState::Pending => pending.push((stored.order, id.clone())),
                JobState::Active => active.push((stored.held.owner, id.clone())),
                JobState::Scheduled => {
                    queue.scheduled.insert((due, id.clone()));
                }
                JobState::Retry => {
                    queue.retry.insert((due, id.clone()));
                }
                JobState::Archived => {
                    queue.archived.insert((stored.entered, id.clone()));
                }
                JobState::Completed => {
                    let at = stored.job.completed_at.unwrap_or_default();
                    queue.completed.insert((at + stored.job.retention, id.clone()));
                }
                JobState::Aggregating => {
                    let set = claimed.get(&id).and_then(|set| queue.grouping.claimed.get_mut(set));
                    let jobs = match set {
                        Some(set) => &mut set.jobs,
                        None => queue.grouping.waiting.entry(stored.job.group.clone()).or_default(),
                    };
                    jobs.insert((stored.entered, id.clone()));
                }
            }
            queue.jobs.insert(id, stored);
        }
        pending.sort_unstable();
        let ends = |at: Option<&(i64, JobId)>| at.map_or(0, |(order, _)| *order);
        queue.order = (ends(pending.first()), ends(pending.last()));
        queue.pending = pending.into_iter().map(|(_, id)| id).collect();
        active.sort_unstable();
        queue.expire_all(active.into_iter().map(|(_, id)| id), steady);
        queue.watch();
        queue
    }
}
