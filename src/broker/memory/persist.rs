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
mod loader;
mod other_rows;

use prost::Message;

use super::expiring::Expiring;
use super::limits::Pair;
use super::queue::{Queue, Request};
use super::type_stats::TypeRow;
use super::unique::LockHolder;
use crate::broker::disk::{Key, Kind, Rows};
use crate::broker::{AuditEntry, CounterSnapshot, MAX_AUDIT_ENTRIES, PeriodicRun, Slice};
use crate::job::{QueueName, Remembered};
use crate::time::Timestamp;
use job_row::{JobRow, StateRow};
pub(super) use loader::Loader;
use other_rows::{
    AuditRow, BytesRow, DayRow, ExpiringRow, InstantRow, LimitRow, MinuteRow, MinutesRow,
    NumberRow, QueueRow, RateRow, SetRow,
};

/// The row with the number of suspects in flight.
const SUSPECTS: &[u8] = b"suspects";

/// In the row of a lock that nothing but time ends.
const TIMED: &str = "timed";

impl Queue {
    /// Notes changes from now on, for [`Queue::write_changes`].
    pub(super) fn watch(&mut self) {
        self.jobs.changed.watch();
        self.locks.changed.watch();
        self.requests.changed.watch();
        self.claims_changed.watch();
        self.grouping.changed.watch();
        self.days_changed.watch();
        self.snapshots_changed.watch();
        self.gates.changed.watch();
        self.gates.rates_changed.watch();
    }

    /// Writes what has changed since the last call.
    pub(super) fn write_changes(&mut self, name: &QueueName, rows: &mut Rows) {
        let queue = name.as_str();
        self.write_jobs(queue, rows);
        self.write_expiring(queue, rows);
        self.write_claims(queue, rows);
        self.write_sets(queue, rows);
        self.write_counters(queue, rows);
        self.write_limits(queue, rows);
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

    /// Locks and requests.
    fn write_expiring(&mut self, queue: &str, rows: &mut Rows) {
        for lock in self.locks.changed.take() {
            let value = |holder: &LockHolder| {
                let kind = if holder.timed { TIMED } else { "" };
                (holder.id.as_bytes().to_vec(), kind.to_owned())
            };
            let key = Key { kind: Kind::Lock, queue, rest: lock.as_bytes() };
            write_expiring(key, self.locks.raw(&lock), value, rows);
        }
        for name in self.requests.changed.take() {
            let value = |request: &Request| (request.id.as_bytes().to_vec(), request.body.clone());
            let key = Key { kind: Kind::Request, queue, rest: name.as_bytes() };
            write_expiring(key, self.requests.raw(&name), value, rows);
        }
    }

    fn write_claims(&mut self, queue: &str, rows: &mut Rows) {
        for id in self.claims_changed.take() {
            let key = Key { kind: Kind::Claim, queue, rest: id.as_bytes() };
            let row = self.claims.get(&id).map(|claim| InstantRow {
                at: claim.up_to.as_micros(),
                and: claim.last_run.map(Timestamp::as_micros),
            });
            write(key, row, rows);
        }
    }

    fn write_sets(&mut self, queue: &str, rows: &mut Rows) {
        for id in self.grouping.changed.take() {
            let key = Key { kind: Kind::Set, queue, rest: id.as_bytes() };
            let row = self.grouping.claimed.get(&id).map(|set| SetRow {
                group: set.group.clone(),
                expires: set.expires.as_micros(),
                jobs: set.jobs.iter().map(|(_, id)| id.as_bytes().to_vec()).collect(),
            });
            write(key, row, rows);
        }
    }

    fn write_limits(&mut self, queue: &str, rows: &mut Rows) {
        for name in self.gates.changed.take() {
            let key = Key { kind: Kind::Limit, queue, rest: name.as_bytes() };
            write(key, self.gates.limit(&name).map(LimitRow::of), rows);
        }
        let mut rates = self.gates.rates_changed.take();
        rates.sort_unstable();
        rates.dedup();
        for pair in rates {
            let rest = limit_rate(&pair);
            let row = self.gates.starts(&pair).map(RateRow::of);
            write(Key { kind: Kind::LimitRate, queue, rest: &rest }, row, rows);
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
        self.claims.keys().for_each(|id| delete(Kind::Claim, id.as_bytes()));
        self.grouping.claimed.keys().for_each(|id| delete(Kind::Set, id.as_bytes()));
        self.days.keys().for_each(|day| delete(Kind::Day, &day.to_be_bytes()));
        self.gates.limits().iter().for_each(|one| delete(Kind::Limit, one.name.as_bytes()));
        self.gates.pairs_with_starts().for_each(|pair| delete(Kind::LimitRate, &limit_rate(pair)));
        delete(Kind::Minutes, b"");
        delete(Kind::Queue, b"");
    }
}

/// The rest of the key of a rate's row.
fn limit_rate(pair: &Pair) -> Vec<u8> {
    [pair.limit.as_bytes(), &[0], pair.key.as_bytes()].concat()
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

/// What rows of the statistics by job type begin with. They are facts about the store, so that a
/// version without such statistics can open it.
const TYPES: &[u8] = b"types\0";

/// Writes a row of the statistics by job type, or deletes it. The key: namespace, a zero byte, a
/// letter, the second at which the slice begins as eight bytes, the type or version.
pub(super) fn write_type_row(
    scope: &str,
    row: TypeRow,
    name: &str,
    value: Option<Vec<u8>>,
    rows: &mut Rows,
) {
    let (letter, at) = match row {
        TypeRow::Counts(slice, at) => (slice.letter(), at),
        TypeRow::Attempts(which, day) => (which.letter(), day),
        TypeRow::Version => ('v', 0),
    };
    let mut rest = [TYPES, scope.as_bytes(), b"\0"].concat();
    rest.push(letter as u8);
    rest.extend_from_slice(&at.to_be_bytes());
    rest.extend_from_slice(name.as_bytes());
    write(Key::store(Kind::Store, &rest), value.map(|value| BytesRow { value }), rows);
}

/// Reads the key of such a row: its namespace, what it is, and the type or version.
fn type_row(rest: &[u8]) -> Option<(&str, TypeRow, &str)> {
    let rest = rest.strip_prefix(TYPES)?;
    let ends = rest.iter().position(|byte| *byte == 0)?;
    let scope = std::str::from_utf8(&rest[..ends]).ok()?;
    let (letter, rest) = rest[ends + 1..].split_first()?;
    let (at, name) = rest.split_first_chunk()?;
    let at = i64::from_be_bytes(*at);
    let row = match letter {
        b's' => TypeRow::Attempts(Remembered::Slowest, at),
        b'f' => TypeRow::Attempts(Remembered::Failed, at),
        b'v' => TypeRow::Version,
        letter => TypeRow::Counts(Slice::of_letter(*letter)?, at),
    };
    Some((scope, row, std::str::from_utf8(name).ok()?))
}

/// Writes the number of suspects in flight.
pub(super) fn write_suspects(running: usize, rows: &mut Rows) {
    rows.put(Key::store(Kind::Store, SUSPECTS), &NumberRow { number: running as u64 });
}

/// Writes an entry of the audit log in the place of the one that is too old then.
pub(super) fn write_audit(namespace: &str, number: u64, entry: &AuditEntry, rows: &mut Rows) {
    let place = (number % MAX_AUDIT_ENTRIES as u64) as u16;
    let rest = [namespace.as_bytes(), &[0], &place.to_be_bytes()].concat();
    let row = AuditRow { number, entry: entry.encode() };
    rows.put(Key::store(Kind::Audit, &rest), &row);
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
