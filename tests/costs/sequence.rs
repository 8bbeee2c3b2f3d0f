//! The fixed sequence of calls: what producers, workers, schedulers and operators ask of the store,
//! one call after the other. Every id is given and the clock moves only by hand, so each run sends
//! the same. Redis' own randomness, the seeds of its tables, is left.

use std::sync::Arc;
use std::time::Duration;

use rocket_jobqueue::handler::{AfterCancel, Transition};
use rocket_jobqueue::inspect::Selection;
use rocket_jobqueue::internals::{
    Action, Announcement, Broker, Delivery, Firing, GroupLimits, JobList, Output, Page,
    PeriodicRun, PoolSettings, RedisPool, RepairScope, Running, SettleRequest, Sweep, Topology,
    redis::RedisBroker,
};
use rocket_jobqueue::limits::{Limit, LimitKey, Rate};
use rocket_jobqueue::{
    Clock, Idempotency, JobId, JobRecord, JobState, NewJob, Placement, Progress, QueueName,
    Timestamp,
};

use crate::Outcome;
use crate::baseline::Commands;
use crate::server::Server;
use crate::valgrind;

/// A whole second, at 08:00 UTC. Far ahead, because Redis ends the daily counters by its own clock.
const START: Timestamp = Timestamp::from_secs(4_000_003_200);

/// Longer than a server under callgrind takes for any call.
const PATIENCE: Duration = Duration::from_secs(60);

/// Jobs of a step, unless it says otherwise.
const JOBS: usize = 60;

/// Calls of a step that only looks: Redis' garbage and tables cost a single call a fifth more, now
/// and then.
const LOOKS: u64 = 20;

/// What the steps are called, each with its number of jobs or calls, in their order.
type Steps = Vec<(&'static str, u64)>;

/// The commands of each step.
pub async fn commands() -> Outcome<Vec<(String, Commands)>> {
    let server = Server::plain()?;
    let mut run = Run::on(&server)?;
    let mut counts = Vec::new();
    run.all(&mut |name, _| {
        let commands = server.commands()?;
        // The first call of a script loads it.
        if name != WARM {
            counts.push((name.to_owned(), commands));
        }
        Ok(())
    })
    .await?;
    server.end()?;
    Ok(counts)
}

/// The instructions of the scripts of each step, for each of its jobs or calls.
pub async fn instructions() -> Outcome<Vec<(String, u64)>> {
    let folder = tempfile::tempdir()?;
    let server = Server::counted(folder.path())?;
    let mut run = Run::on(&server)?;
    let mut steps = Steps::new();
    run.all(&mut |name, parts| {
        steps.push((name, parts));
        server.mark()
    })
    .await?;
    server.end()?;
    let dumps = valgrind::dumps(folder.path())?;
    // What remains after the last mark is in a dump without a number.
    if dumps.len() != steps.len() {
        return Err(format!("expected {} dumps, found {}", steps.len(), dumps.len()).into());
    }
    let each = steps.into_iter().zip(dumps).filter(|((name, _), _)| *name != WARM);
    Ok(each.map(|((name, parts), sum)| (name.to_owned(), sum / parts)).collect())
}

/// The step that is not counted.
const WARM: &str = "warm up";

/// Ends a step of this name, with its number of jobs or calls.
type Mark<'a> = &'a mut dyn FnMut(&'static str, u64) -> Outcome<()>;

/// The calls, on one store.
struct Run {
    store: Arc<dyn Broker>,
    clock: Clock,
    queue: QueueName,
    queues: Vec<QueueName>,
    /// How many jobs were made.
    made: usize,
}

impl Run {
    fn on(server: &Server) -> Outcome<Self> {
        let settings = PoolSettings {
            topology: Topology::Single(server.address()),
            request_limit: PATIENCE,
            read_timeout: PATIENCE,
            ..PoolSettings::default()
        };
        let clock = Clock::manual(START);
        let store = Arc::new(RedisBroker::new(RedisPool::new(settings)?, clock.clone()));
        let queues = (0..10).map(|nth| QueueName::new(format!("queue-{nth}")));
        let queues = queues.collect::<Result<_, _>>()?;
        Ok(Self { store, clock, queue: QueueName::new("default")?, queues, made: 0 })
    }

    async fn all(&mut self, mark: Mark<'_>) -> Outcome<()> {
        // Loads the scripts and creates what a queue keeps.
        for _ in 0..2 {
            self.steps(&mut |_, _| Ok(())).await?;
        }
        mark(WARM, 1)?;
        self.steps(mark).await
    }

    async fn steps(&mut self, mark: Mark<'_>) -> Outcome<()> {
        self.producers(mark).await?;
        self.worker(mark).await?;
        self.failures(mark).await?;
        self.groups(mark).await?;
        self.limits(mark).await?;
        self.services(mark).await?;
        self.operators(mark).await
    }

    /// A job with an id that no other has.
    fn job(&mut self) -> NewJob {
        self.made += 1;
        let payload = format!(r#"{{"n":{},"account":"a{}"}}"#, self.made, self.made % 3);
        let payload = Some(payload.into_bytes());
        let mut record = JobRecord::new("mail:welcome", payload, self.queue.clone());
        record.id = JobId::new(format!("job-{:08}", self.made)).expect("a plain id");
        record.max_retry = 25;
        record.timeout = Duration::from_secs(1800);
        NewJob::now(record)
    }

    fn jobs(&mut self, count: usize) -> Vec<NewJob> {
        (0..count).map(|_| self.job()).collect()
    }

    /// Enqueues such jobs one by one.
    async fn each(&mut self, count: usize, like: impl Fn(NewJob) -> NewJob) -> Outcome<()> {
        for _ in 0..count {
            let job = like(self.job());
            self.store.enqueue(&[job]).await?;
        }
        Ok(())
    }

    async fn take(&self, count: usize) -> Outcome<Vec<Delivery>> {
        let queues = [self.queue.clone()];
        Ok(self.store.dequeue(&queues, count).await?.deliveries)
    }

    async fn settle(&self, jobs: Vec<Delivery>, how: &Transition) -> Outcome<()> {
        let ended: Vec<_> =
            jobs.into_iter().map(|one| SettleRequest::from((one, how.clone()))).collect();
        self.store.settle(&ended).await?;
        Ok(())
    }

    /// Runs all jobs of the queue, at most `lane` in each call, as the dispatcher does; how many.
    async fn drain(&self, lane: usize) -> Outcome<u64> {
        let (queues, mut count) = ([self.queue.clone()], 0);
        let mut ended = Vec::new();
        loop {
            let requests: Vec<&SettleRequest> = ended.iter().collect();
            let reply = self.store.exchange(&requests, &queues, lane).await;
            for settled in reply.settled {
                settled?;
            }
            let deliveries = reply.dequeued?.deliveries;
            if deliveries.is_empty() && ended.is_empty() {
                return Ok(count);
            }
            count += deliveries.len() as u64;
            ended = deliveries.into_iter().map(|one| SettleRequest::from((one, done()))).collect();
        }
    }

    async fn producers(&mut self, mark: Mark<'_>) -> Outcome<()> {
        self.each(JOBS, |job| job).await?;
        mark("enqueue one", JOBS as u64)?;
        let hundred = self.jobs(100);
        self.store.enqueue(&hundred).await?;
        mark("enqueue 100 at once", 100)?;
        let mut spread = self.jobs(100);
        for (nth, job) in spread.iter_mut().enumerate() {
            job.record.queue = self.queues[nth % self.queues.len()].clone();
        }
        self.store.enqueue(&spread).await?;
        mark("enqueue 100 in ten queues", 100)?;
        let lanes = self.queues.clone();
        let taken = self.store.dequeue(&lanes, 100).await?.deliveries;
        self.settle(taken, &done()).await?;
        mark("run 100 of ten queues", 100)?;
        self.drain(50).await?;
        mark("run 160 of one queue", 160)?;
        self.each(JOBS, |job| job.placed(Placement::After(secs(5)))).await?;
        mark("enqueue one for later", JOBS as u64)?;
        self.clock.advance(secs(5));
        let queue = self.queue.clone();
        self.store.forward(&queue, 100).await?;
        mark("forward 60 due jobs", JOBS as u64)?;
        self.drain(50).await?;
        mark("run 60 that were due later", JOBS as u64)?;
        self.each(JOBS, |job| NewJob { unique_for: Some(secs(60)), ..job }).await?;
        mark("enqueue one unique", JOBS as u64)?;
        // The locks of these jobs are held.
        let first = self.made - JOBS;
        for nth in first..first + JOBS {
            self.made = nth;
            let mut job = NewJob { unique_for: Some(secs(60)), ..self.job() };
            job.record.id = JobId::new(format!("twin-{nth:08}"))?;
            self.store.enqueue(&[job]).await?;
        }
        mark("enqueue one duplicate", JOBS as u64)?;
        self.drain(50).await?;
        mark("run 60 unique jobs", JOBS as u64)?;
        self.each(JOBS, |job| {
            let key = job.record.id.as_str().to_owned();
            NewJob { idempotency: Some(Idempotency::new("/jobs", &key, b"{}")), ..job }
        })
        .await?;
        mark("enqueue one with an idempotency key", JOBS as u64)?;
        self.each(JOBS, |job| NewJob { expires_in: Some(secs(60)), ..job }).await?;
        mark("enqueue one that expires", JOBS as u64)?;
        self.drain(50).await?;
        mark("run 120 with keys or an end", 2 * JOBS as u64)
    }

    async fn worker(&mut self, mark: Mark<'_>) -> Outcome<()> {
        let many = self.jobs(300);
        self.store.enqueue(&many).await?;
        mark("enqueue 300 at once", 300)?;
        let count = self.drain(5).await?;
        mark("drain, five in a call", count)?;
        let many = self.jobs(1000);
        self.store.enqueue(&many).await?;
        mark("enqueue 1,000 at once", 1000)?;
        let count = self.drain(50).await?;
        mark("drain, fifty in a call", count)?;
        let mut kept = self.jobs(JOBS);
        for job in &mut kept {
            job.record.retention = secs(60);
        }
        self.store.enqueue(&kept).await?;
        let taken = self.take(JOBS).await?;
        mark("enqueue and dequeue 60", JOBS as u64)?;
        let leases: Vec<_> = taken.iter().map(|one| one.lease.clone()).collect();
        self.store.extend(&leases).await?;
        mark("extend 60 leases", JOBS as u64)?;
        let progress = Progress::new(3, 10).message("three of ten files");
        for lease in &leases[..20] {
            self.store.write_output(lease, Output::Progress(&progress)).await?;
            self.store.write_output(lease, Output::Result(b"{}")).await?;
        }
        mark("write progress and result", 20)?;
        for one in &taken[..20] {
            self.store.cancel(&one.lease.queue, &one.lease.id, AfterCancel::Retry).await?;
        }
        mark("request a cancellation", 20)?;
        self.settle(taken, &Transition::Complete { result: Some(b"{\"a\":1}".to_vec()) }).await?;
        mark("complete 60 with a result", JOBS as u64)?;
        self.clock.advance(secs(61));
        let queue = self.queue.clone();
        self.store.delete_expired(&queue, 100).await?;
        mark("delete 60 completed jobs", JOBS as u64)
    }

    async fn failures(&mut self, mark: Mark<'_>) -> Outcome<()> {
        let (jobs, queue) = (self.jobs(JOBS), self.queue.clone());
        self.store.enqueue(&jobs).await?;
        let taken = self.take(JOBS).await?;
        mark("enqueue and dequeue 60 that fail", JOBS as u64)?;
        let error = "smtp is down".to_owned();
        let again = Transition::Retry { after: secs(10), error: error.clone(), counted: true };
        self.settle(taken, &again).await?;
        mark("retry 60", JOBS as u64)?;
        self.clock.advance(secs(10));
        self.store.forward(&queue, 100).await?;
        mark("forward 60 retries", JOBS as u64)?;
        let taken = self.take(JOBS).await?;
        self.settle(taken, &Transition::Requeue).await?;
        mark("dequeue 60 and give them back", JOBS as u64)?;
        let taken = self.take(JOBS).await?;
        mark("dequeue 60", JOBS as u64)?;
        self.clock.advance(secs(31));
        let lost = self.store.first_expired_leases(&queue, 100).await?;
        mark("find 60 lost jobs", JOBS as u64)?;
        self.settle(lost, &Transition::Reclaim { error: "its worker vanished".to_owned() }).await?;
        mark("recover 60 lost jobs", JOBS as u64)?;
        // No other worker has them yet, so what their old one did counts.
        self.settle(taken, &done()).await?;
        mark("complete 60 recovered jobs", JOBS as u64)?;
        let jobs = self.jobs(JOBS);
        self.store.enqueue(&jobs).await?;
        let taken = self.take(JOBS).await?;
        self.settle(taken, &Transition::Archive { error }).await?;
        mark("enqueue, dequeue and archive 60", JOBS as u64)
    }

    async fn groups(&mut self, mark: Mark<'_>) -> Outcome<()> {
        self.each(JOBS, |mut job| {
            job.record.group = "digest".to_owned();
            job
        })
        .await?;
        mark("enqueue one in a group", JOBS as u64)?;
        self.clock.advance(secs(20));
        let limits = GroupLimits { grace: secs(10), max_delay: Duration::ZERO, max_size: 0 };
        let queue = self.queue.clone();
        for _ in 0..LOOKS {
            self.store.ready_groups(&queue, &limits, 0).await?;
        }
        mark("look for ready groups", LOOKS)?;
        let set = self.store.claim_group(&queue, "digest", &limits).await?;
        mark("claim a group of 60", JOBS as u64)?;
        let (set, all) = (set.ok_or("expected a group that is ready, found none")?, self.job());
        self.store.aggregate(&set, &all).await?;
        self.drain(5).await?;
        mark("aggregate 60, and run the new job", JOBS as u64)
    }

    async fn limits(&mut self, mark: Mark<'_>) -> Outcome<()> {
        let queue = self.queue.clone();
        let account = LimitKey::parse("payload.account")?;
        let key = Limit::new("account").key(account).concurrency(5);
        let rate = Limit::new("pace").rate(Rate::new(1000, secs(1)).burst(1000));
        self.store.set_limit(&queue, &key).await?;
        self.store.set_limit(&queue, &rate).await?;
        mark("set two limits", 2)?;
        for _ in 0..LOOKS {
            self.take(5).await?;
        }
        mark("look at an empty queue with limits", LOOKS)?;
        self.each(JOBS, |job| job).await?;
        mark("enqueue one in a queue with limits", JOBS as u64)?;
        let count = self.drain(10).await?;
        mark("drain with limits", count)?;
        for _ in 0..LOOKS {
            self.store.limits(&queue).await?;
            self.store.limit_uses(&queue, "account", 10).await?;
        }
        mark("read the limits", 2 * LOOKS)?;
        self.store.remove_limit(&queue, "account").await?;
        self.store.remove_limit(&queue, "pace").await?;
        mark("remove two limits", 2)?;
        self.each(JOBS, |job| job).await?;
        self.drain(10).await?;
        mark("enqueue and drain after limits", JOBS as u64)
    }

    async fn services(&mut self, mark: Mark<'_>) -> Outcome<()> {
        let running = (0..5).map(|_| Running {
            job: Arc::new(self.job().record),
            started: START,
            deadline: START + secs(60),
        });
        let running = running.collect();
        let who = Announcement {
            host: "host".to_owned(),
            pid: 1,
            server_id: "server".to_owned(),
            concurrency: 10,
            queues: [(self.queue.clone(), 1)].into(),
            strict_priority: false,
            status: "active",
            started: START,
            running,
            details: Default::default(),
        };
        for _ in 0..10 {
            self.store.announce(&who).await?;
        }
        mark("announce a worker of five jobs", 10)?;
        let queues = self.queues.clone();
        for _ in 0..10 {
            self.store.next_due(&queues).await?;
        }
        mark("ask ten queues for what is due", 10)?;
        let mut firing = Firing {
            entry: "report".to_owned(),
            queue: self.queue.clone(),
            known: None,
            keep: secs(3600),
            ticks: Vec::new(),
        };
        self.store.fire(&firing).await?;
        for _ in 0..10 {
            self.clock.advance(secs(60));
            firing.ticks = vec![(self.clock.now(), self.job())];
            self.store.fire(&firing).await?;
        }
        mark("fire a tick of a periodic job", 11)?;
        for nth in 0..10 {
            let run = PeriodicRun::new(JobId::new(format!("run-{nth}"))?, self.clock.now());
            self.store.record_run("report", &run, secs(3600)).await?;
        }
        mark("record a run of a periodic job", 10)?;
        self.drain(10).await?;
        mark("drain ten periodic jobs", 10)
    }

    async fn operators(&mut self, mark: Mark<'_>) -> Outcome<()> {
        let (queue, jobs) = (self.queue.clone(), self.jobs(100));
        self.store.enqueue(&jobs).await?;
        mark("enqueue 100 to look at", 100)?;
        for _ in 0..5 {
            self.store.queue(&queue).await?;
        }
        mark("read a queue", 5)?;
        for page in 1..4 {
            let page = Page::number(page)?;
            self.store.jobs(&queue, JobList::State(JobState::Pending), &page).await?;
            self.store.jobs(&queue, JobList::State(JobState::Archived), &page).await?;
        }
        mark("read a page of jobs", 6)?;
        for job in &jobs[..20] {
            self.store.job(&queue, &job.record.id).await?;
        }
        mark("read a job", 20)?;
        for job in &jobs[..20] {
            self.store.edit(&queue, &job.record.id, b"{}").await?;
        }
        mark("edit a payload", 20)?;
        for (action, some) in [
            (Action::Archive, &jobs[..20]),
            (Action::Run, &jobs[..10]),
            (Action::Delete, &jobs[10..30]),
            (Action::Reschedule(Placement::After(secs(600))), &jobs[30..50]),
        ] {
            for job in some {
                self.store.act(&queue, &job.record.id, action).await?;
            }
        }
        mark("act on one job", 70)?;
        for _ in 0..LOOKS {
            self.store.history(&queue, 7).await?;
            self.store.minutes(&queue).await?;
        }
        mark("read history and minutes", 2 * LOOKS)?;
        for _ in 0..LOOKS {
            self.store.check_queue(&queue, None, RepairScope::Nothing).await?;
        }
        mark("check a page of a queue", LOOKS)?;
        for (state, name) in [
            (JobState::Pending, "delete all pending jobs"),
            (JobState::Scheduled, "delete all scheduled jobs"),
            (JobState::Archived, "delete all archived jobs"),
        ] {
            let mut sweep = Sweep::new(queue.clone(), Action::Delete, Selection::from(state))?;
            while sweep.step(&*self.store).await? {}
            mark(name, sweep.done().max(1))?;
        }
        Ok(())
    }
}

fn done() -> Transition {
    Transition::Complete { result: None }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
