//! The one loop that talks to the store for a worker: it hands back what ended and
//! takes as many jobs as there are free permits, and waits without polling when
//! there is none.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, poll};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, RwLock};

use super::Shared;
use super::in_flight::Accepted;
use super::launcher::{Begun, start};
use super::order::order;
use super::settle::{PendingSettle, tell};
use crate::broker::{Dequeued, ExchangeReply, LEASE, SettleRequest, Settled};
use crate::error::{Error, Refusals};
use crate::job::QueueName;
use crate::sync::lock;
use crate::time::Backoff;

/// Most jobs one script takes, and most that it settles: more would hold Redis up.
const LARGEST: usize = 100;

/// Round trips under way at a time, each for at most half of the places: while the store
/// works on one, the answer of another is read and its jobs run. Two carry the load
/// where jobs are many; where they end one by one, each leaves at once.
const FLIGHTS: usize = 4;

/// How long a look at the queues waits before it looks anew.
const LOOK: Duration = Duration::from_secs(5);

/// How soon a paused queue is looked at again; waiting on it would not block.
/// The others are waited on meanwhile.
const PAUSED: Duration = Duration::from_millis(250);

/// How often a stopping worker looks whether its last job has ended.
const STOPPING: Duration = Duration::from_millis(50);

/// Jobs whose attempt is over, to be handed back with the next round trip.
#[derive(Default)]
pub(super) struct Outbox {
    ended: Mutex<VecDeque<PendingSettle>>,
    called: Notify,
    /// How often jobs were taken out.
    taken: AtomicU64,
    /// All round trips are under way: nothing is taken before one comes back.
    full: AtomicBool,
    sent: Mutex<Vec<Arc<SentSettles>>>,
}

/// Settlements of one round trip, until its reply has been read.
pub(super) struct SentSettles {
    /// The round trip reads them and takes them out when it has its reply. The heartbeat's
    /// thread may read them meanwhile and send them again; then the round trip waits for
    /// that before it takes them out.
    pub(super) pending: RwLock<Vec<PendingSettle>>,
    since: Instant,
    /// The heartbeat's thread has sent them too.
    pub(super) sent_again: AtomicBool,
}

impl Outbox {
    fn ended(&self) -> MutexGuard<'_, VecDeque<PendingSettle>> {
        lock(&self.ended)
    }

    /// Hands a job back; its permit goes with it.
    pub(super) fn put(&self, ended: PendingSettle) {
        self.ended().push_back(ended);
        self.called.notify_one();
    }

    /// A permit was given back without a job.
    pub(super) fn call(&self) {
        self.called.notify_one();
    }

    pub(super) fn take(&self, most: usize) -> Vec<PendingSettle> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let mut ended = self.ended();
        let some = ended.len().min(most);
        ended.drain(..some).collect()
    }

    /// How often jobs were taken out: unchanged, nobody does it.
    pub(super) fn times_taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether nothing is taken because all round trips are under way.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ended().is_empty()
    }

    fn sent(&self) -> MutexGuard<'_, Vec<Arc<SentSettles>>> {
        lock(&self.sent)
    }

    /// Settlements whose answer has not been read for so long.
    pub(super) fn late(&self, timeout: Duration) -> Vec<Arc<SentSettles>> {
        self.sent().iter().filter(|sent| sent.since.elapsed() > timeout).cloned().collect()
    }
}

/// Runs until the worker has stopped and its last job is settled.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut dispatcher = Dispatcher {
        shared: &shared,
        flights: FuturesUnordered::new(),
        look: None,
        empty: false,
        paused: Vec::new(),
        backoff: Backoff::new(Duration::from_millis(50), Duration::from_millis(500)),
        refused: Refusals::default(),
        resume: None,
        asked: 0,
        begun: Begun::default(),
    };
    loop {
        shared.pulse.dispatched();
        dispatcher.launch().await;
        let full = dispatcher.flights.len() >= FLIGHTS;
        shared.outbox.full.store(full, Ordering::Relaxed);
        let stopping = shared.stop.is_cancelled();
        if stopping && dispatcher.is_over() {
            return;
        }
        dispatcher.look_around();
        tokio::select! {
            biased;
            Some(landed) = dispatcher.flights.next() => {
                dispatcher.land(landed);
                // So that quick jobs have ended before the next script leaves.
                if dispatcher.begun.in_line {
                    shared.launcher.started().await;
                }
            }
            () = shared.outbox.called.notified(), if dispatcher.flights.len() < FLIGHTS => {}
            () = shared.stop.cancelled(), if !stopping => dispatcher.look = None,
            () = over(&mut dispatcher.look) => {
                dispatcher.look = None;
                dispatcher.empty = false;
            }
            () = resumed(dispatcher.resume) => dispatcher.resume = None,
            () = tokio::time::sleep(STOPPING), if stopping => {}
        }
    }
}

type Look = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn over(look: &mut Option<Look>) {
    match look {
        Some(look) => look.await,
        None => pending().await,
    }
}

async fn resumed(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// What came back of a round trip.
struct RoundTripReply {
    pending: Vec<PendingSettle>,
    /// Free ones, beside those of the jobs handed back.
    permits: Vec<OwnedSemaphorePermit>,
    /// Whether jobs were asked for, and how many.
    asked: usize,
    /// Until when their leases hold, at least.
    hold_until: Instant,
    exchanged: ExchangeReply,
}

type Flight = Pin<Box<dyn Future<Output = RoundTripReply> + Send>>;

struct Dispatcher<'a> {
    shared: &'a Arc<Shared>,
    flights: FuturesUnordered<Flight>,
    /// Under way while the queues are empty.
    look: Option<Look>,
    /// Whether the queues gave less than was asked for, and nothing came since.
    empty: bool,
    /// Queues that were paused the last time.
    paused: Vec<QueueName>,
    backoff: Backoff,
    refused: Refusals,
    /// Until when no job is asked for, because the store failed.
    resume: Option<Instant>,
    /// How many jobs the round trips under way ask for.
    asked: usize,
    /// How the jobs of the last answer were started.
    begun: Begun,
}

impl Dispatcher<'_> {
    /// Starts what round trips there is work for.
    async fn launch(&mut self) {
        while self.flights.len() < FLIGHTS {
            let lane = self.shared.settings.concurrency.div_ceil(2).min(LARGEST);
            let ended = self.shared.outbox.take(lane);
            let room = self.room();
            let takes = !self.shared.stop.is_cancelled() && self.resume.is_none();
            let permits = match takes && (!self.empty || !ended.is_empty()) {
                true => self.free_permits(lane.min(room).saturating_sub(ended.len())),
                false => Vec::new(),
            };
            let places = if takes { (ended.len() + permits.len()).min(room) } else { 0 };
            let asked = places.saturating_sub(self.shared.suspects.wanted_slots());
            if ended.is_empty() && asked == 0 {
                return;
            }
            self.asked += asked;
            let mut flight: Flight = Box::pin(fly(Arc::clone(self.shared), ended, permits, asked));
            if let Poll::Ready(landed) = poll!(&mut flight) {
                flight = Box::pin(std::future::ready(landed));
            }
            self.flights.push(flight);
            // On its way before the other one's answer is read: else both would be
            // answered together from then on, and the store idle in between.
            if self.begun.several {
                self.shared.launcher.yield_to_handlers().await;
            }
        }
    }

    /// How many jobs may be asked for. After a stall no more than can start at once: a
    /// thread that a handler keeps is a slot that is taken.
    fn room(&self) -> usize {
        let shared = self.shared;
        if !shared.stall.is_cautious() {
            return usize::MAX;
        }
        let threads = Handle::current().metrics().num_workers();
        threads.saturating_sub(shared.launcher.unstarted_or_on_a_thread() + self.asked)
    }

    fn free_permits(&self, most: usize) -> Vec<OwnedSemaphorePermit> {
        let permits = &self.shared.permits;
        let free = || Arc::clone(permits).try_acquire_owned().ok();
        std::iter::from_fn(free).take(most).collect()
    }

    /// Waits for jobs, where there is a permit for one and none is there.
    fn look_around(&mut self) {
        let shared = self.shared;
        let free = shared.permits.available_permits() > 0;
        if !self.empty || !free || self.resume.is_some() || shared.stop.is_cancelled() {
            self.look = None;
        } else if self.look.is_none() {
            let shared = Arc::clone(shared);
            let mut open = order(&shared.settings.queues, shared.settings.strict_priority);
            open.retain(|queue| !self.paused.contains(queue));
            let longest = if self.paused.is_empty() { LOOK } else { PAUSED };
            self.look = Some(Box::pin(async move {
                if open.is_empty() || shared.broker.wait(&open, longest).await.is_err() {
                    tokio::time::sleep(PAUSED).await;
                }
            }));
        }
    }

    fn land(&mut self, landed: RoundTripReply) {
        let RoundTripReply { pending, mut permits, asked, hold_until, exchanged } = landed;
        self.asked -= asked;
        let (mut told, mut lost, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
        for (mut one, settled) in pending.into_iter().zip(exchanged.settled) {
            match settled {
                Ok(Settled::Lost) => {
                    permits.extend(one.attempt.permit.take());
                    lost.push(one);
                }
                Ok(settled) => {
                    permits.extend(one.attempt.permit.take());
                    let PendingSettle { request, attempt } = one;
                    let done =
                        attempt.done(self.shared, &request.delivery, request.transition, settled);
                    if let Some((transition, next)) = done {
                        jobs.extend(next);
                        told.push((attempt, transition));
                    }
                }
                // Not with the others again, which it may have stopped. Its permit
                // stays with it.
                Err(error) => {
                    let shared = Arc::clone(self.shared);
                    self.shared.tasks.spawn(one.again(shared, Some(error)));
                }
            }
        }
        if !self.shared.settings.settled.is_empty() && !told.is_empty() {
            // The application's hooks may take their time.
            let shared = Arc::clone(self.shared);
            self.shared.tasks.spawn(async move {
                for (attempt, transition) in &told {
                    tell(&shared, &attempt.context, transition);
                }
            });
        }
        if asked > 0 {
            jobs.extend(self.accept(exchanged.dequeued, permits, hold_until, asked));
        }
        // Once it is known which of them this process has again.
        for PendingSettle { request, attempt } in lost {
            if let Some(attempt) = attempt.lost(&request.delivery) {
                let (shared, again) = (Arc::clone(self.shared), PendingSettle { request, attempt });
                self.shared.tasks.spawn(again.again(shared, None));
            }
        }
        self.begun = start(self.shared, jobs);
    }

    /// The jobs that are to be started.
    fn accept(
        &mut self,
        taken: Result<Dequeued, Error>,
        mut permits: Vec<OwnedSemaphorePermit>,
        hold_until: Instant,
        asked: usize,
    ) -> Vec<Accepted> {
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => {
                let pause = self.backoff.next();
                self.refused.note("fetching jobs", &error);
                crate::log::debug!("fetching failed, next try in {pause:?}: {error:?}");
                self.resume = Some(Instant::now() + pause);
                return Vec::new();
            }
        };
        self.backoff.reset();
        self.refused.over();
        self.empty = taken.deliveries.len() < asked;
        self.paused = taken.paused;
        let (shared, number) = (self.shared, taken.deliveries.len());
        let mut jobs = Vec::with_capacity(number);
        for delivery in taken.deliveries {
            let permit = permits.pop().expect("a store gives no more than was asked for");
            jobs.extend(shared.in_flight.accept(delivery, hold_until, permit, &shared.interrupt));
        }
        // Not before: it sleeps again where it finds none in flight.
        if number > 0 {
            shared.stall.wake();
        }
        jobs
    }

    /// Whether nothing runs, waits to be handed back, or is under way.
    fn is_over(&self) -> bool {
        let shared = self.shared;
        let all = shared.settings.concurrency;
        self.flights.is_empty()
            && shared.permits.available_permits() == all
            && shared.outbox.is_empty()
    }
}

async fn fly(
    shared: Arc<Shared>,
    ended: Vec<PendingSettle>,
    permits: Vec<OwnedSemaphorePermit>,
    asked: usize,
) -> RoundTripReply {
    let order = match asked {
        0 => Vec::new(),
        _ => order(&shared.settings.queues, shared.settings.strict_priority),
    };
    let since = Instant::now();
    let has_settles = !ended.is_empty();
    let pending = RwLock::new(ended);
    let sent = Arc::new(SentSettles { pending, since, sent_again: AtomicBool::new(false) });
    if has_settles {
        shared.outbox.sent().push(Arc::clone(&sent));
    }
    let exchanged = {
        let pending = sent.pending.try_read().expect("only this round trip takes them out");
        let requests: Vec<&SettleRequest> = pending.iter().map(|one| &one.request).collect();
        // Never dropped half-way: jobs in a lost reply would wait for their lease.
        shared.broker.exchange(&requests, &order, asked).await
    };
    // Waits for the heartbeat's thread, if it is sending them again.
    let pending = std::mem::take(&mut *sent.pending.write().await);
    shared.outbox.sent().retain(|other| !Arc::ptr_eq(other, &sent));
    RoundTripReply { pending, permits, asked, hold_until: since + LEASE, exchanged }
}
