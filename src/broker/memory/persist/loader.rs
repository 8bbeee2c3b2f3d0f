//! Makes the state of the store from its rows, when a store on disk is opened.
//!
//! Rows may come in any order: a state row whose job has not been seen is kept until the job comes.
//! What has expired meanwhile (locks, idempotency keys) is not loaded, and its row is deleted with
//! the first batch that is written. A row that this version does not know stops the launch, since
//! an older version must not drop what a newer one wrote.
//!
//! What may surprise. Jobs that were active stay active: their leases have expired, because they
//! belonged to a process that is gone, and the recoverer settles them as it does every lost job.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use super::job_row::{JobRow, StateRow};
use super::other_rows::{
    AuditRow, BytesRow, DayRow, ExpiringRow, InstantRow, LimitRow, MinuteRow, MinutesRow,
    NumberRow, QueueRow, RateRow, SetRow,
};
use super::{SUSPECTS, TIMED, type_row};
use crate::broker::disk::{Key, Kind, Rows};
use crate::broker::memory::StoreState;
use crate::broker::memory::audit::AuditState;
use crate::broker::memory::expiring::Expiring;
use crate::broker::memory::groups::ClaimedSet;
use crate::broker::memory::limits::Pair;
use crate::broker::memory::periodic::{Claim, PeriodicState};
use crate::broker::memory::queue::{COUNTER_DAYS, Queue, Request, Tally, day};
use crate::broker::memory::type_stats::{TypeRow, TypeStatsState};
use crate::broker::memory::unique::LockHolder;
use crate::broker::{ArchiveSettings, AuditEntry, CounterSnapshot, PeriodicRun};
use crate::job::{JobId, JobState, QueueName, TypeAttempt, TypeRecord};
use crate::time::Timestamp;

/// Makes the state of the store from its rows.
pub(in crate::broker::memory) struct Loader<'a> {
    archive: &'a ArchiveSettings,
    now: Timestamp,
    steady: Timestamp,
    first_owner: u64,
    queues: HashMap<String, LoadedQueue>,
    audit: AuditState,
    periodic: PeriodicState,
    keys: Expiring<QueueName>,
    suspects: usize,
    type_stats: BTreeMap<String, TypeStatsState>,
    /// Deletes rows that mean nothing any more.
    leftovers: Rows,
}

/// A queue on its way from its rows.
struct LoadedQueue {
    /// All its jobs share this.
    name: QueueName,
    queue: Queue,
    /// States that came before their job.
    states: HashMap<JobId, StateRow>,
    sets: HashMap<String, SetRow>,
}

impl<'a> Loader<'a> {
    /// Begins without rows. `steady` is the time by which leases count.
    pub(in crate::broker::memory) fn new(
        archive: &'a ArchiveSettings,
        now: Timestamp,
        steady: Timestamp,
        first_owner: u64,
    ) -> Self {
        let (queues, periodic, keys, type_stats, audit, leftovers) = Default::default();
        Self {
            archive,
            now,
            steady,
            first_owner,
            queues,
            periodic,
            keys,
            suspects: 0,
            type_stats,
            audit,
            leftovers,
        }
    }

    fn queue(&mut self, name: &str) -> &mut LoadedQueue {
        // A name is copied once for all its rows.
        if !self.queues.contains_key(name) {
            let loaded = LoadedQueue::new(name, self.archive, self.first_owner);
            self.queues.insert(name.to_owned(), loaded);
        }
        self.queues.get_mut(name).expect("the queue was added")
    }

    /// Adds a row; false if it is none that this version writes.
    pub(in crate::broker::memory) fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        Key::parse(key).is_some_and(|key| self.add_row(key, value).is_some())
    }

    fn add_row(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        match key.kind {
            Kind::Job => self.add_job(key, value),
            Kind::JobState => self.add_job_state(key, value),
            Kind::Queue => self.add_queue(key, value),
            Kind::Day => self.add_day(key, value),
            Kind::Minutes => self.add_minutes(key, value),
            Kind::Lock | Kind::Request | Kind::KeyQueue => self.add_expiring(key, value),
            Kind::Admitted => {
                self.leftovers.delete(key);
                Some(())
            }
            Kind::Set => self.add_set(key, value),
            Kind::Claim => self.add_claim(key, value),
            Kind::Run => self.add_run(key),
            Kind::Limit => self.add_limit(key, value),
            Kind::LimitRate => self.add_limit_rate(key, value),
            Kind::Audit => self.add_audit(key, value),
            Kind::Store => self.add_fact(key, value),
        }
    }

    fn add_job(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let loaded = self.queue(key.queue);
        let id = JobId::stored(key.rest);
        let mut stored = JobRow::decode(value).ok()?.into_stored(&loaded.name, &id)?;
        stored.saved.job = true;
        loaded.queue.jobs.insert(id, Box::new(stored));
        Some(())
    }

    fn add_job_state(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let row = StateRow::decode(value).ok().filter(StateRow::is_known)?;
        let (loaded, id) = (self.queue(key.queue), JobId::stored(key.rest));
        match loaded.queue.jobs.get_unnoted(&id) {
            Some(stored) => row.apply_after_save(stored),
            None => drop(loaded.states.insert(id, row)),
        }
        Some(())
    }

    fn add_queue(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let row = QueueRow::decode(value).ok()?;
        let queue = &mut self.queue(key.queue).queue;
        (queue.used, queue.paused) = (row.used, row.paused.map(Timestamp::from_micros));
        queue.saved = (queue.used, queue.paused);
        Some(())
    }

    fn add_day(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let row = DayRow::decode(value).ok()?;
        let day = i64::from_be_bytes(key.rest.try_into().ok()?);
        let queue = &mut self.queue(key.queue).queue;
        queue.days.insert(day, Tally { processed: row.processed, failed: row.failed });
        // The newest day has the most.
        if row.total_processed >= queue.total.processed {
            queue.total = Tally { processed: row.total_processed, failed: row.total_failed };
        }
        Some(())
    }

    fn add_minutes(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let minutes = MinutesRow::decode(value).ok()?.minutes.into_iter().map(|row| {
            let MinuteRow { minute, processed, failed, waiting } = row;
            (minute, CounterSnapshot { processed, failed, waiting })
        });
        self.queue(key.queue).queue.snapshots = minutes.collect();
        Some(())
    }

    /// A lock, a request, or the queue of a key.
    fn add_expiring(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let (row, now) = (ExpiringRow::decode(value).ok()?, self.now);
        let until = Timestamp::from_micros(row.until);
        if until <= now {
            self.leftovers.delete(key);
            return Some(());
        }
        let name = text(key.rest)?;
        match key.kind {
            Kind::Lock => {
                let (id, timed) = (JobId::stored(row.value), row.body == TIMED);
                let holder = LockHolder { id, timed };
                self.queue(key.queue).queue.locks.insert(name, holder, until, now);
            }
            Kind::Request => {
                let request = Request { body: row.body, id: JobId::stored(row.value) };
                self.queue(key.queue).queue.requests.insert(name, request, until, now);
            }
            _ => {
                let queue = QueueName::stored(std::str::from_utf8(&row.value).ok()?);
                self.keys.insert(name, queue, until, now);
            }
        }
        Some(())
    }

    fn add_set(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let row = SetRow::decode(value).ok()?;
        self.queue(key.queue).sets.insert(text(key.rest)?, row);
        Some(())
    }

    fn add_claim(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let row = InstantRow::decode(value).ok()?;
        let up_to = Timestamp::from_micros(row.at);
        let claim = Claim { up_to, last_run: row.and.map(Timestamp::from_micros) };
        self.queue(key.queue).queue.claims.insert(text(key.rest)?, claim);
        Some(())
    }

    fn add_limit(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let limit = LimitRow::decode(value).ok()?.into_limit(&text(key.rest)?)?;
        self.queue(key.queue).queue.gates.set(limit);
        Some(())
    }

    fn add_limit_rate(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let name_ends = key.rest.iter().position(|byte| *byte == 0)?;
        let (limit, rest) = (text(&key.rest[..name_ends])?, text(&key.rest[name_ends + 1..])?);
        let starts = RateRow::decode(value).ok()?.into_state();
        self.queue(key.queue).queue.gates.restore_starts(Pair { limit, key: rest }, starts);
        Some(())
    }

    /// The key has all of it.
    fn add_run(&mut self, key: Key<'_>) -> Option<()> {
        let id_ends = key.rest.iter().position(|byte| *byte == 0)?;
        let (at, job) = key.rest[id_ends + 1..].split_first_chunk()?;
        let at = Timestamp::from_micros(i64::from_be_bytes(*at));
        let runs = self.periodic.history.entry(text(&key.rest[..id_ends])?).or_default();
        runs.push_front(PeriodicRun::new(JobId::stored(job), at));
        Some(())
    }

    fn add_audit(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        let (namespace, _place) = key.rest.split_at(key.rest.len().checked_sub(3)?);
        let row = AuditRow::decode(value).ok()?;
        let log = self.audit.logs.entry(text(namespace)?).or_default();
        log.push_back((row.number, AuditEntry::decode(&row.entry)?));
        Some(())
    }

    /// Other facts about the store are read before.
    fn add_fact(&mut self, key: Key<'_>, value: &[u8]) -> Option<()> {
        if key.rest == SUSPECTS {
            self.suspects = usize::try_from(NumberRow::decode(value).ok()?.number).ok()?;
        }
        if let Some((scope, row, name)) = type_row(key.rest) {
            self.add_type_row(scope, row, name, &BytesRow::decode(value).ok()?.value);
        }
        Some(())
    }

    /// A row of the statistics by job type; one that cannot be read is as if it were not there.
    /// What is too old goes with the next report.
    fn add_type_row(&mut self, scope: &str, row: TypeRow, name: &str, value: &[u8]) {
        let (stats, name) = (self.type_stats.entry(scope.to_owned()).or_default(), name.to_owned());
        match row {
            TypeRow::Counts(slice, at) => {
                if let Some(record) = TypeRecord::unpack(value) {
                    stats.slices.entry((slice, at)).or_default().insert(name, record);
                }
            }
            TypeRow::Attempts(which, day) => {
                let attempts = TypeAttempt::unpack(value);
                stats.remembered.entry((day, which)).or_default().insert(name, attempts);
            }
            TypeRow::Version => {
                let seconds = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' '));
                let parse = |text: &str| Some(Timestamp::from_secs(text.parse().ok()?));
                let seen = seconds.and_then(|(first, last)| Some((parse(first)?, parse(last)?)));
                stats.versions.extend(seen.map(|seen| (name, seen)));
            }
        }
    }

    /// The state, whose changes are noted from now on, and rows to delete.
    pub(in crate::broker::memory) fn finish(mut self) -> (StoreState, Rows) {
        for runs in self.periodic.history.values_mut() {
            runs.make_contiguous().sort_by_key(|run| std::cmp::Reverse(run.at));
        }
        for log in self.audit.logs.values_mut() {
            log.make_contiguous().sort_by_key(|(number, _)| *number);
        }
        self.keys.changed.watch();
        let (now, steady, leftovers) = (self.now, self.steady, &mut self.leftovers);
        let first_day = day(self.now) - COUNTER_DAYS;
        let mut finish = |loaded: LoadedQueue| {
            let name = loaded.name.clone();
            // The last day has the totals too.
            let days: Vec<i64> = loaded.queue.days.keys().rev().skip(1).copied().collect();
            for day in days.into_iter().filter(|day| *day <= first_day) {
                let rest = &day.to_be_bytes();
                leftovers.delete(Key { kind: Kind::Day, queue: name.as_str(), rest });
            }
            let queue = loaded.finish(now, steady, leftovers);
            (name, queue)
        };
        let state = StoreState {
            queues: self.queues.into_values().map(&mut finish).collect(),
            announced: Expiring::default(),
            asked: Default::default(),
            suspects: self.suspects,
            periodic: self.periodic,
            queues_of_keys: self.keys,
            type_stats: self.type_stats,
            audit: self.audit,
        };
        (state, self.leftovers)
    }
}

impl LoadedQueue {
    fn new(name: &str, archive: &ArchiveSettings, first_owner: u64) -> Self {
        let name = QueueName::stored(name);
        let mut queue = Queue::keeping(archive.of(&name), archive.release_lock);
        queue.begin_owners(first_owner);
        Self { name, queue, states: HashMap::new(), sets: HashMap::new() }
    }

    /// Puts each job into the collection of its state.
    fn finish(mut self, now: Timestamp, steady: Timestamp, leftovers: &mut Rows) -> Queue {
        for (id, state) in self.states {
            let Some(stored) = self.queue.jobs.get_unnoted(&id) else {
                let queue = self.name.as_str();
                leftovers.delete(Key { kind: Kind::JobState, queue, rest: id.as_bytes() });
                continue;
            };
            state.apply_after_save(stored);
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
        for (id, stored) in queue.jobs.iter() {
            let due = stored.due.unwrap_or_default();
            queue.late.extend(stored.start_by.map(|at| (at, id.clone())));
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
                    let set = claimed.get(id).and_then(|set| queue.grouping.claimed.get_mut(set));
                    let jobs = match set {
                        Some(set) => &mut set.jobs,
                        None => queue.grouping.waiting.entry(stored.job.group.clone()).or_default(),
                    };
                    jobs.insert((stored.entered, id.clone()));
                }
            }
        }
        pending.sort_unstable();
        let ends = |at: Option<&(i64, JobId)>| at.map_or(0, |(order, _)| *order);
        queue.order = (ends(pending.first()), ends(pending.last()));
        queue.pending = pending.into_iter().map(|(_, id)| id).collect();
        active.sort_unstable();
        queue.expire_all(active.into_iter().map(|(_, id)| id), steady);
        // Where jobs wait follows from what is on disk, and need not be written again.
        queue.restore_gates(now);
        queue.watch();
        queue
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
