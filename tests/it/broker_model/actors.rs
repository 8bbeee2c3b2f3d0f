//! Both stores, used by the same actors: does everything twice and
//! compares the results.

mod groups;
mod operator;
mod restart;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rocket_jobqueue::internals::{
    ArchiveLimit, ArchiveSettings, Broker, Control, Delivery, Enqueued, Extended, GroupSet,
    Inspect, JobInfo, LEASE, Lease, MemoryBroker, Output, QueueInfo, RedisPool, Repeat,
    SettleRequest, Settled, Topology, redis::RedisBroker,
};
use rocket_jobqueue::{
    Clock, Idempotency, JobId, JobRecord, JobState, NewJob, Progress, QueueName, Timestamp,
    handler::{AfterCancel, Transition},
};

use crate::broker_model::operation::{GROUPS, How, NAMES, New, Operation, Step, micros};
use crate::broker_model::raw::Raw;
use crate::support::RedisServer;
use crate::support::harness::patient;
use groups::{Grouped, groups_of};
use operator::{Gone, Reading, Walk};
use restart::Kept;

/// A whole second, at 08:00 UTC, far ahead: Redis ends daily counters by its own
/// clock.
const START: Timestamp = Timestamp::from_secs(4_000_003_200);

/// The job types.
const TYPES: [&str; 2] = ["mail", "letter"];

const PAYLOADS: [&[u8]; 3] = [b"", b"{}", b"[1]"];

/// What the second queue keeps of archived jobs; the first has Asynq's limits.
const FEW: ArchiveLimit = ArchiveLimit { max: 2, age: Duration::from_secs(3_600) };

/// The same job as each store gave it.
type Twice<T> = (T, T);

type Key = (usize, JobId);

/// What the actors have seen of one queue.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    info: Option<QueueInfo>,
    jobs: Vec<Option<JobInfo>>,
    /// Where a job is of a group.
    groups: Option<Grouped>,
}

impl Seen {
    fn size(&self, state: JobState) -> u64 {
        self.info.as_ref().map_or(0, |info| info.sizes[state.as_str()])
    }
}

pub struct Actors {
    clock: Clock,
    memory: MemoryBroker,
    /// The rows of that store, if it is kept on disk.
    kept: Option<Kept>,
    redis: RedisBroker,
    pool: RedisPool,
    queues: [QueueName; 2],
    names: Vec<JobId>,
    /// What each worker believes to have.
    hands: [Vec<Twice<Delivery>>; 2],
    /// What was settled, extended or lost.
    old: Vec<Twice<Delivery>>,
    /// Jobs that were stored and have not ended, by our own count.
    alive: BTreeSet<Key>,
    /// Jobs with a successor, to which they may give way, and successors, which a newer job may
    /// have made superfluous.
    may_give_way: BTreeSet<Key>,
    /// Ends and failures, by our own count.
    ends: [(u64, u64); 2],
    seen: [Seen; 2],
    /// What an operation may have changed.
    touched: [bool; 2],
    /// What aggregators took, or had long ago.
    sets: Vec<Twice<GroupSet>>,
    walk: Option<Walk>,
    reading: Option<Reading>,
    gone: Gone,
    pub looks: usize,
}

/// Fails unless both stores said the same.
fn alike<T: PartialEq + Debug>(what: &str, memory: &T, redis: &T) -> Result<(), String> {
    if memory == redis {
        return Ok(());
    }
    Err(format!("{what} differ\n  memory: {memory:?}\n  redis:  {redis:?}"))
}

/// Each store has its own words for a lock, and stores no empty payload.
fn plain(job: &JobRecord) -> JobRecord {
    let mut job = job.clone();
    if !job.unique_key.is_empty() {
        job.unique_key = "locked".to_owned();
    }
    job.payload = job.payload.filter(|payload| !payload.is_empty());
    job
}

/// What can be compared of deliveries: owners are numbers of each store's own.
fn comparable(deliveries: &[Delivery]) -> Vec<(JobRecord, JobId, i64, u32, Option<AfterCancel>)> {
    let one = |delivery: &Delivery| {
        let Delivery { job, lease, losses, on_cancel, .. } = delivery;
        (plain(job), lease.id.clone(), lease.ends, *losses, *on_cancel)
    };
    deliveries.iter().map(one).collect()
}

/// Connections to the server.
pub fn connect(server: &RedisServer) -> RedisPool {
    let topology = Topology::Single(server.addr());
    RedisPool::new(patient(topology)).expect("settings in order")
}

impl Actors {
    /// `pool` is for looking past the stores. `on_disk` keeps the rows of the one in memory, so
    /// that it can be opened again.
    pub fn new(server: &RedisServer, pool: RedisPool, on_disk: bool) -> Actors {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let run = NEXT.fetch_add(1, Ordering::Relaxed);
        let clock = Clock::manual(START);
        let nothing = Seen { info: None, jobs: vec![None; NAMES], groups: None };
        let queues = ["a", "b"].map(|q| QueueName::new(format!("{q}{run}")).expect("a name"));
        let mut keep = ArchiveSettings::default();
        keep.queues.insert(queues[1].clone(), FEW);
        let kept = on_disk.then(|| Kept::new(keep.clone()));
        let memory = match &kept {
            Some(kept) => kept.open(&clock),
            None => MemoryBroker::new(clock.clone()).with_archive(keep.clone()),
        };
        Actors {
            memory,
            kept,
            redis: RedisBroker::new(connect(server), clock.clone()).with_archive(keep),
            pool,
            clock,
            queues,
            names: (0..NAMES).map(|n| JobId::new(format!("job{n}")).expect("an id")).collect(),
            hands: [Vec::new(), Vec::new()],
            old: Vec::new(),
            alive: BTreeSet::new(),
            may_give_way: BTreeSet::new(),
            ends: [(0, 0); 2],
            seen: [nothing.clone(), nothing],
            touched: [true; 2],
            sets: Vec::new(),
            walk: None,
            reading: None,
            gone: Gone::default(),
            looks: 0,
        }
    }

    /// Does it, and compares everything afterwards.
    pub async fn act(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Enqueue(jobs) => self.enqueue(jobs).await?,
            Operation::Take { worker, queues, most } => {
                let queues: Vec<_> = queues.iter().map(|&q| self.queues[q].clone()).collect();
                let taken = self.take(&queues, *most).await?;
                self.hands[*worker].extend(taken);
            }
            Operation::Settle { worker, picks, how } => {
                let hand = &mut self.hands[*worker];
                let mut some = Vec::new();
                for pick in picks {
                    if !hand.is_empty() {
                        some.push(hand.remove(pick % hand.len()));
                    }
                }
                self.old.extend(some.iter().cloned());
                self.settle(some, *how).await?;
            }
            Operation::SettleAgain { pick, how } => {
                if !self.old.is_empty() {
                    let again = self.old[pick % self.old.len()].clone();
                    self.settle(vec![again], *how).await?;
                }
            }
            Operation::Extend { worker } => {
                let hand = std::mem::take(&mut self.hands[*worker]);
                let extended = self.extend(hand).await?;
                self.hands[*worker] = extended;
            }
            Operation::ExtendAgain { pick } => {
                if !self.old.is_empty() {
                    let again = self.old[pick % self.old.len()].clone();
                    self.extend(vec![again]).await?;
                }
            }
            Operation::Forward { queue, limit } => self.forward(*queue, *limit).await.map(drop)?,
            Operation::Recover { queue, limit, archive } => {
                self.recover(*queue, *limit, *archive).await?;
            }
            Operation::Expire { queue, limit } => {
                self.delete_expired(*queue, *limit).await.map(drop)?
            }
            Operation::Pause { queue, paused } => self.pause(*queue, *paused).await?,
            Operation::Cancel { queue, name, after } => self.cancel(*queue, *name, *after).await?,
            Operation::Note { worker, pick, progress } => {
                let hand = &self.hands[*worker];
                if !hand.is_empty() {
                    let delivery = hand[pick % hand.len()].clone();
                    self.write(&delivery, *pick, *progress).await?;
                }
            }
            Operation::Act { queue, name, what } => self.act_on(*queue, *name, *what).await?,
            Operation::Edit { queue, name, payload } => {
                self.edit(*queue, *name, PAYLOADS[*payload]).await?;
            }
            Operation::Sweep { queue, what, of, limit, steps } => {
                self.sweep(*queue, *what, *of, *limit, *steps).await?;
            }
            Operation::SweepOn { steps } => self.sweep_on(*steps).await.map(drop)?,
            Operation::Ready { queue, limits } => self.ready(*queue, limits).await?,
            Operation::TakeGroup { queue, group, limits } => {
                self.claim_group(*queue, *group, limits).await?;
            }
            Operation::Aggregate { pick, job } => self.aggregate(*pick, job).await?,
            Operation::ReturnSet { pick } => self.return_set(*pick).await?,
            Operation::MendGroups { queue } => self.repair_groups(*queue).await?,
            Operation::Trim { queue, limit } => self.trim(*queue, *limit).await?,
            Operation::DeleteQueue { queue, force } => self.delete_queue(*queue, *force).await?,
            Operation::List { queue, of, size, pages } => {
                self.list(*queue, *of, *size, *pages).await?;
            }
            Operation::ReadOn { pages } => self.read_on(*pages).await?,
            Operation::Wait(step) => self.wait(*step),
            Operation::Restart { killed } => self.restart(*killed).await?,
        }
        if !operation.promises() {
            self.write_all().await?;
        }
        self.look().await
    }

    async fn enqueue(&mut self, jobs: &[New]) -> Result<(), String> {
        let job = |new: &New| NewJob { on_conflict: new.on_conflict, ..self.job(new) };
        let jobs: Vec<NewJob> = jobs.iter().map(job).collect();
        let memory = self.memory.enqueue(&jobs).await.map_err(|e| format!("{e:?}"))?;
        let redis = self.redis.enqueue(&jobs).await.map_err(|e| format!("{e:?}"))?;
        alike("outcomes", &memory, &redis)?;
        for (job, outcome) in jobs.iter().zip(memory) {
            let queue = self.index(&job.record.queue);
            self.touched[queue] = true;
            if let Enqueued::Created { .. } = outcome {
                let (name, id) = (&self.queues[queue], &job.record.id);
                self.alive.insert((queue, id.clone()));
                let memory = self.memory.standing(name, id).await.map_err(|e| format!("{e:?}"))?;
                let redis = self.redis.standing(name, id).await.map_err(|e| format!("{e:?}"))?;
                alike("whom it follows", &memory.follows, &redis.follows)?;
                if let Some(holder) = memory.follows {
                    self.may_give_way.extend([(queue, holder), (queue, id.clone())]);
                }
            }
        }
        Ok(())
    }

    fn job(&self, new: &New) -> NewJob {
        let payload = new.payload.map(|payload| PAYLOADS[payload].to_vec());
        let mut record =
            JobRecord::new(TYPES[new.job_type], payload, self.queues[new.queue].clone());
        record.id = self.names[new.name].clone();
        record.max_retry = new.max_retry;
        record.retention = Duration::from_secs(new.retention);
        if let Some(group) = new.group {
            record.group = GROUPS[group].to_owned();
        }
        let mut job = NewJob::now(record).placed(self.placement(new.placement));
        if let Some((seconds, until, by_key)) = new.unique {
            job.unique_for = Some(Duration::from_secs(seconds));
            job.until = until;
            job.unique_key = by_key.then(|| "0c".repeat(32));
        }
        let alone = new.expires_in.filter(|_| new.group.is_none());
        job.expires_in = alone.map(Duration::from_secs);
        job.idempotency =
            new.guard.map(|(key, body)| Idempotency::new("/jobs", &key.to_string(), &[body]));
        job
    }

    fn index(&self, queue: &QueueName) -> usize {
        usize::from(*queue == self.queues[1])
    }

    async fn take(
        &mut self,
        queues: &[QueueName],
        most: usize,
    ) -> Result<Vec<Twice<Delivery>>, String> {
        let memory = self.memory.dequeue(queues, most).await.map_err(|e| format!("{e:?}"))?;
        let redis = self.redis.dequeue(queues, most).await.map_err(|e| format!("{e:?}"))?;
        for queue in queues {
            self.touched[self.index(queue)] = true;
        }
        alike("deliveries", &comparable(&memory.deliveries), &comparable(&redis.deliveries))?;
        // How far a store looked for paused queues once it had enough is its own affair.
        if memory.deliveries.len() < most {
            alike("paused queues", &memory.paused, &redis.paused)?;
        }
        Ok(memory.deliveries.into_iter().zip(redis.deliveries).collect())
    }

    async fn settle(&mut self, some: Vec<Twice<Delivery>>, how: How) -> Result<(), String> {
        let what = |delivery: &Delivery| SettleRequest::from((delivery.clone(), transition(how)));
        let memory: Vec<_> = some.iter().map(|(memory, _)| what(memory)).collect();
        let redis: Vec<_> = some.iter().map(|(_, redis)| what(redis)).collect();
        self.carry_out(memory, redis).await
    }

    async fn carry_out(
        &mut self,
        memory: Vec<SettleRequest>,
        redis: Vec<SettleRequest>,
    ) -> Result<(), String> {
        let settled = self.memory.settle(&memory).await.map_err(|e| format!("{e:?}"))?;
        let too = self.redis.settle(&redis).await.map_err(|e| format!("{e:?}"))?;
        alike("settlements", &settled, &too)?;
        for (SettleRequest { delivery, transition, .. }, settled) in memory.iter().zip(settled) {
            self.touched[self.index(&delivery.lease.queue)] = true;
            match settled {
                Settled::Done => self.note(delivery, transition),
                Settled::Cancelled(AfterCancel::Delete) => {
                    self.note(delivery, &Transition::Revoke);
                }
                Settled::Cancelled(_) => {
                    self.note(delivery, &Transition::Archive { error: String::new() });
                }
                Settled::Lost => {}
            }
        }
        Ok(())
    }

    /// Keeps the books on what ended.
    fn note(&mut self, delivery: &Delivery, transition: &Transition) {
        let queue = self.index(&delivery.lease.queue);
        let (ended, counts, failed) = match transition {
            Transition::Complete { .. } => (delivery.job.retention.is_zero(), true, false),
            Transition::Revoke => (true, true, false),
            Transition::Retry { counted, .. } => (false, *counted, *counted),
            Transition::Archive { .. } => (false, true, true),
            _ => (false, false, false),
        };
        if ended {
            self.alive.remove(&(queue, delivery.lease.id.clone()));
        }
        self.gone.archived += u64::from(matches!(transition, Transition::Archive { .. }));
        self.ends[queue].0 += u64::from(counts);
        self.ends[queue].1 += u64::from(failed);
    }

    async fn extend(&mut self, some: Vec<Twice<Delivery>>) -> Result<Vec<Twice<Delivery>>, String> {
        let memory: Vec<Lease> = some.iter().map(|(memory, _)| memory.lease.clone()).collect();
        let redis: Vec<Lease> = some.iter().map(|(_, redis)| redis.lease.clone()).collect();
        let memory = self.memory.extend(&memory).await.map_err(|e| format!("{e:?}"))?;
        let redis = self.redis.extend(&redis).await.map_err(|e| format!("{e:?}"))?;
        let ends = |extended: &[Extended]| -> Vec<Option<(i64, Option<AfterCancel>)>> {
            let end = |one: &Extended| match one {
                Extended::Renewed(lease) => Some((lease.ends, None)),
                Extended::Cancelled(lease, after) => Some((lease.ends, Some(*after))),
                Extended::Lost | Extended::Unknown | Extended::Moving => None,
            };
            extended.iter().map(end).collect()
        };
        alike("extensions", &ends(&memory), &ends(&redis))?;
        let mut kept = Vec::new();
        for (old, _) in &some {
            self.touched[self.index(&old.lease.queue)] = true;
        }
        for (old, extended) in some.into_iter().zip(memory.into_iter().zip(redis)) {
            match extended {
                (
                    Extended::Renewed(memory) | Extended::Cancelled(memory, _),
                    Extended::Renewed(redis) | Extended::Cancelled(redis, _),
                ) => kept.push((
                    Delivery { lease: memory, ..old.0.clone() },
                    Delivery { lease: redis, ..old.1.clone() },
                )),
                // A stale worker does not believe it and goes on.
                _ => kept.push(old.clone()),
            }
            self.old.push(old);
        }
        Ok(kept)
    }

    async fn forward(&mut self, queue: usize, limit: usize) -> Result<usize, String> {
        self.touched[queue] = true;
        let name = &self.queues[queue];
        let memory = self.memory.forward(name, limit).await.map_err(|e| format!("{e:?}"))?;
        let redis = self.redis.forward(name, limit).await.map_err(|e| format!("{e:?}"))?;
        alike("what was forwarded", &memory, &redis)?;
        Ok(memory.moved)
    }

    async fn recover(&mut self, queue: usize, limit: usize, archive: bool) -> Result<(), String> {
        let name = &self.queues[queue];
        let memory =
            self.memory.first_expired_leases(name, limit).await.map_err(|e| format!("{e:?}"))?;
        let redis =
            self.redis.first_expired_leases(name, limit).await.map_err(|e| format!("{e:?}"))?;
        alike("lapsed leases", &comparable(&memory), &comparable(&redis))?;
        let how = if archive { How::Archive } else { How::Reclaim };
        self.settle(memory.into_iter().zip(redis).collect(), how).await
    }

    async fn delete_expired(&mut self, queue: usize, limit: usize) -> Result<usize, String> {
        self.touched[queue] = true;
        let name = &self.queues[queue];
        let memory = self.memory.delete_expired(name, limit).await.map_err(|e| format!("{e:?}"))?;
        let redis = self.redis.delete_expired(name, limit).await.map_err(|e| format!("{e:?}"))?;
        alike("what expired", &memory, &redis)?;
        Ok(memory)
    }

    async fn pause(&mut self, queue: usize, paused: bool) -> Result<(), String> {
        self.touched[queue] = true;
        let name = &self.queues[queue];
        let memory = self.memory.pause(name, paused).await.map_err(|e| format!("{e:?}"))?;
        let redis = self.redis.pause(name, paused).await.map_err(|e| format!("{e:?}"))?;
        alike("whether a pause changed anything", &memory, &redis)
    }

    async fn cancel(
        &mut self,
        queue: usize,
        name: usize,
        after: AfterCancel,
    ) -> Result<(), String> {
        self.touched[queue] = true;
        let (queue, id) = (&self.queues[queue], &self.names[name]);
        let memory = self.memory.cancel(queue, id, after).await.map_err(|e| format!("{e:?}"))?;
        let redis = self.redis.cancel(queue, id, after).await.map_err(|e| format!("{e:?}"))?;
        alike("answers to a wish to cancel", &memory, &redis)
    }

    async fn write(
        &mut self,
        to: &Twice<Delivery>,
        number: usize,
        progress: bool,
    ) -> Result<(), String> {
        self.touched[self.index(&to.0.lease.queue)] = true;
        let bytes = [number as u8];
        let done = Progress::new(number as u64, 64);
        let note = if progress { Output::Progress(&done) } else { Output::Result(&bytes) };
        let memory =
            self.memory.write_output(&to.0.lease, note).await.map_err(|e| format!("{e:?}"))?;
        let redis =
            self.redis.write_output(&to.1.lease, note).await.map_err(|e| format!("{e:?}"))?;
        alike("whether a note was taken", &memory, &redis)
    }

    fn wait(&mut self, step: Step) {
        self.touched = [true; 2];
        let now = self.clock.now();
        let (to, short) = match step {
            Step::Micros(by) => (now + micros(by), false),
            Step::Due { short } => (self.next_due().unwrap_or(now), short),
            Step::LeaseEnd { short } => {
                let ends = self.hands.iter().flatten().map(|(memory, _)| memory.lease.ends);
                let end = ends.map(Timestamp::from_micros).filter(|end| *end > now).min();
                (end.unwrap_or(now), short)
            }
            Step::Midnight { short } => {
                (Timestamp::from_secs((now.as_secs().div_euclid(86_400) + 1) * 86_400), short)
            }
        };
        self.clock.advance(to.since(now).saturating_sub(micros(u64::from(short))));
    }

    fn next_due(&self) -> Option<Timestamp> {
        let jobs = self.seen.iter().flat_map(|seen| seen.jobs.iter().flatten());
        jobs.filter_map(|info| info.due).filter(|due| *due > self.clock.now()).min()
    }

    /// Compares all that can be seen of the queues that were touched, and checks
    /// what lies in Redis.
    async fn look(&mut self) -> Result<(), String> {
        for queue in 0..2 {
            if std::mem::take(&mut self.touched[queue]) {
                self.look_at(queue).await?;
            }
        }
        self.gone = Gone::default();
        Ok(())
    }

    async fn look_at(&mut self, queue: usize) -> Result<(), String> {
        self.looks += 1;
        let memory = self.view(&self.memory, queue, &self.names).await?;
        // Of ids that only Redis has, the look past the store tells.
        let known = self.names.iter().zip(&memory.jobs).filter(|(_, job)| job.is_some());
        let known: Vec<JobId> = known.map(|(id, _)| id.clone()).collect();
        let (redis, raw) =
            futures_util::future::join(self.view(&self.redis, queue, &known), self.raw(queue))
                .await;
        let (redis, raw) = (redis?, raw?);
        alike("queues", &memory.info, &redis.info)?;
        let jobs: Vec<_> = memory.jobs.iter().flatten().cloned().map(Some).collect();
        alike("jobs", &jobs, &redis.jobs)?;
        alike("groups", &memory.groups, &redis.groups)?;
        alike("ids", &known.iter().map(JobId::as_str).collect(), &raw.ids())?;
        raw.check()?;
        self.check_books(queue, &memory)?;
        self.seen[queue] = memory;
        Ok(())
    }

    async fn raw(&self, queue: usize) -> Result<Raw, String> {
        let prefix = format!("asynq:{{{}}}:", self.queues[queue]);
        let answer = self.pool.run(Repeat::Safe, |_| Raw::script(&prefix)).await;
        answer.map(Raw::read).map_err(|e| format!("{e:?}"))
    }

    async fn view(&self, store: &dyn Broker, queue: usize, ids: &[JobId]) -> Result<Seen, String> {
        let name = &self.queues[queue];
        let jobs = ids.iter().map(|id| store.job(name, id));
        let (info, jobs) =
            futures_util::future::join(store.queue(name), futures_util::future::join_all(jobs))
                .await;
        let info = match info {
            Ok(info) => Some(info),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(format!("{error:?}")),
        };
        let mut seen = Vec::new();
        for job in jobs {
            let mut job = job.map_err(|e| format!("{e:?}"))?;
            if let Some(info) = &mut job {
                info.record = plain(&info.record);
            }
            seen.push(job);
        }
        let is_grouped = |info: &JobInfo| info.state == JobState::Aggregating;
        let groups = match seen.iter().flatten().any(is_grouped) {
            true => Some(groups_of(store, name).await?),
            false => None,
        };
        Ok(Seen { info, jobs: seen, groups })
    }

    /// I1: what has not ended is there. I5: counters are what we counted.
    fn check_books(&mut self, queue: usize, seen: &Seen) -> Result<(), String> {
        let Gone { deleted, mut archived } = self.gone;
        let deleted = deleted.filter(|(of, ..)| *of == queue);
        let mut were_deleted = 0;
        for (at, id) in self.names.iter().enumerate() {
            let key = (queue, id.clone());
            if seen.jobs[at].is_some() || !self.alive.contains(&key) {
                continue;
            }
            self.alive.remove(&key);
            if self.may_give_way.remove(&key) {
                continue;
            }
            let Some(was) = &self.seen[queue].jobs[at] else {
                return Err(format!("job {id} of queue {queue} is lost at once"));
            };
            if deleted.is_some_and(|(_, of, _)| of.means(was)) {
                were_deleted += 1;
                continue;
            }
            // Those two are kept for a time only.
            if matches!(was.state, JobState::Completed | JobState::Archived) {
                continue;
            }
            // Into the archive, and out of it when another came: never the last one.
            if queue == 1 && archived > 1 && seen.size(JobState::Archived) == FEW.max {
                archived -= 1;
                continue;
            }
            return Err(format!("job {id} of queue {queue} is lost; it was {:?}", was.state));
        }
        if let Some((.., count)) = deleted
            && were_deleted != count
        {
            return Err(format!("{were_deleted} jobs are gone, and {count} were deleted"));
        }
        let counted = seen.info.as_ref().map_or((0, 0), |info| (info.processed, info.failed));
        let ends = self.ends[queue];
        if counted != ends {
            return Err(format!("counters of queue {queue} are {counted:?}, ends {ends:?}"));
        }
        Ok(())
    }

    /// Lets everything come to its end, in both stores alike.
    pub async fn drain(&mut self) -> Result<(), String> {
        for queue in 0..2 {
            self.pause(queue, false).await?;
        }
        self.clock.advance(2 * LEASE);
        // Three losses and the retries of each job, and the waits between.
        for _ in 0..8 * NAMES {
            for queue in 0..2 {
                self.recover(queue, 100, false).await?;
                self.forward(queue, 100).await?;
            }
            let queues = self.queues.clone();
            let taken = self.take(&queues, 3).await?;
            let none = taken.is_empty();
            self.settle(taken, How::Complete).await?;
            self.touched = [true; 2];
            self.look().await?;
            if none {
                match self.next_due() {
                    Some(due) => self.clock.advance(due.since(self.clock.now())),
                    None => break,
                }
            }
        }
        self.clock.advance(Duration::from_secs(200 * 86_400));
        for queue in 0..2 {
            self.delete_expired(queue, 100).await?;
            self.repair_groups(queue).await?;
        }
        self.touched = [true; 2];
        self.look().await?;
        let waiting: Vec<_> =
            self.seen.iter().flat_map(|seen| seen.jobs.iter().flatten()).collect();
        let grouped = waiting.iter().any(|info| info.state == JobState::Aggregating);
        let left = waiting
            .iter()
            .find(|info| !matches!(info.state, JobState::Archived | JobState::Aggregating));
        if let Some(info) = left {
            return Err(format!("job {} never ended: {:?}", info.record.id, info.state));
        }
        for queue in 0..2 {
            if !grouped {
                self.raw(queue).await?.check_drained(self.clock.now().as_micros() as f64)?;
            }
            self.forget(&format!("asynq:{{{}}}:", self.queues[queue])).await?;
        }
        Ok(())
    }

    /// Leaves nothing to the next sequence.
    async fn forget(&self, prefix: &str) -> Result<(), String> {
        const FORGET: &str = "for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do
            redis.call('DEL', key) end";
        let script = |_| {
            let mut command = redis::cmd("EVAL");
            command.arg(FORGET).arg(1).arg(prefix);
            command
        };
        self.pool.run(Repeat::Safe, script).await.map(drop).map_err(|e| format!("{e:?}"))
    }
}

fn transition(how: How) -> Transition {
    let retry = |after, error: &str, counted| Transition::Retry {
        after: micros(after),
        error: error.to_owned(),
        counted,
    };
    match how {
        How::Complete => Transition::Complete { result: None },
        How::CompleteWith(byte) => Transition::Complete { result: Some(vec![byte]) },
        How::Revoke => Transition::Revoke,
        How::Retry(after) => retry(after, "smtp is down", true),
        How::Snooze(after) => retry(after, "", false),
        How::Postpone(after) => retry(after, "no handler", false),
        How::Archive => Transition::Archive { error: "bad address".to_owned() },
        How::Requeue => Transition::Requeue,
        How::Reclaim => Transition::Reclaim { error: "its worker vanished".to_owned() },
    }
}
