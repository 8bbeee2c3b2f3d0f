//! Shared reads for requests that wait or follow: however many clients watch a job, one task reads
//! it for all of them.
//!
//! [`SharedReads::follow`] starts a task for a key, or joins the one that runs. The task reads,
//! publishes the result to all followers, and waits; it ends with its last follower, or when there
//! is nothing more to learn. A job is read at once and then at intervals that grow to 1 s, because
//! most jobs that somebody waits for end soon. Open pages share one read of the queues in the same
//! way, and all requests share one look at which clients have hung up.
//!
//! Each follower holds a slot of its kind, so that waiting clients are bounded: 1000 with a status
//! link, 500 that wait, 250 that stream. One that finds no slot waits for 2 to 5 s before it is
//! refused, since clients that are refused at once come back at once.
//!
//! What may surprise. A follower may get its first result from a read that another one caused a
//! moment ago. If the store is away, the reads go on: the job may have ended meanwhile, and the
//! followers learn it when the store is back.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rocket::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::peers::{self, Peers};
use crate::broker::JobInfo;
use crate::chance::Chance;
use crate::error::Error;
use crate::inspector::{Alerts, Inspector};
use crate::job::{JobId, JobState, QueueName};
use crate::sync::lock;

/// The first and the longest interval between two reads of a job. Most jobs that requests wait for
/// end soon.
const READ_INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Maximum requests that wait by status links, that wait for a job with the right to view, and that
/// stream.
const MAX_LINK_WAITERS: usize = 1000;
const MAX_WAITERS: usize = 500;
const MAX_VIEWERS: usize = 250;

/// How long a request waits for a slot: a random time between these.
const SLOT_TIMEOUTS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));

/// How far apart streams send what they learn at the same time.
const SPREAD_PER_STREAM: Duration = Duration::from_millis(1);

/// Mean interval of a stream's heartbeats, which also detect that the client has gone.
const STREAM_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The time until a stream's next heartbeat: half to one and a half of the mean, at random. Clients
/// that came at one moment, as after a restart, would otherwise be written to at one moment of each
/// second, and jobs would start later then.
pub(super) fn next_heartbeat() -> Duration {
    STREAM_HEARTBEAT_INTERVAL.mul_f64(0.5 + Chance::system().share())
}

/// The shared reads of a process.
pub(crate) struct Looks {
    jobs: Arc<SharedReads<(QueueName, JobId), Look>>,
    #[cfg(feature = "dashboard")]
    pub(super) queues: Arc<SharedReads<(), Option<u64>>>,
    /// The numbers of the pages' navigation.
    #[cfg(feature = "dashboard")]
    pub(super) counts: super::dashboard::LastCounts,
    /// The alerts, by how often something was changed here before.
    pub(super) alerts: Arc<SharedReads<u64, Result<Arc<Alerts>, Error>>>,
    peers: Arc<SharedReads<(), Peers>>,
    links: Arc<Semaphore>,
    waiters: Arc<Semaphore>,
    viewers: Arc<Semaphore>,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            jobs: Arc::default(),
            #[cfg(feature = "dashboard")]
            queues: Arc::default(),
            #[cfg(feature = "dashboard")]
            counts: Default::default(),
            alerts: Arc::default(),
            peers: Arc::default(),
            links: Arc::new(Semaphore::new(MAX_LINK_WAITERS)),
            waiters: Arc::new(Semaphore::new(MAX_WAITERS)),
            viewers: Arc::new(Semaphore::new(MAX_VIEWERS)),
        }
    }
}

/// The kinds of followers, each with slots of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follower {
    /// A client with a status link.
    Link,
    /// A viewer that waits for the end of a job. If it cannot be known that its client has gone, the
    /// request keeps its slot until the job ends, so streams have slots of their own.
    Waiter,
    /// A viewer that reads a stream.
    Viewer,
}

impl Looks {
    /// A follower's slot, for as long as this is held. If all are taken, it waits a while for one
    /// before it refuses: many clients that ask again at once would otherwise keep the process
    /// busy with refusals.
    pub(super) async fn place(&self, who: Follower) -> Result<OwnedSemaphorePermit, Error> {
        // Not all of them in the same moment.
        let patience = (SLOT_TIMEOUTS.1 - SLOT_TIMEOUTS.0).mul_f64(Chance::system().share());
        self.place_within(who, SLOT_TIMEOUTS.0 + patience).await
    }

    async fn place_within(
        &self,
        who: Follower,
        patience: Duration,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let places = Arc::clone(match who {
            Follower::Link => &self.links,
            Follower::Waiter => &self.waiters,
            Follower::Viewer => &self.viewers,
        });
        match tokio::time::timeout(patience, places.acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => {
                Err(Error::too_many("too many requests are waiting or streaming: retry later"))
            }
        }
    }

    /// A moment before a stream sends what all streams learn at the same time, longer the more
    /// streams there are: otherwise one burst of writes would delay jobs and other requests.
    pub(super) async fn spread(&self) {
        tokio::time::sleep(self.longest_spread().mul_f64(Chance::system().share())).await;
    }

    fn longest_spread(&self) -> Duration {
        let streams = MAX_VIEWERS - self.viewers.available_permits().min(MAX_VIEWERS);
        SPREAD_PER_STREAM.saturating_mul(u32::try_from(streams).unwrap_or(u32::MAX))
    }

    /// Returns when this peer has closed its connection; never if that cannot be known.
    pub(super) fn hung_up(
        &self,
        peer: Option<SocketAddr>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let looks = peer.map(|peer| {
            let looks =
                self.peers.follow((), || async { (peers::open().await, Some(peers::INTERVAL)) });
            (looks, peer)
        });
        async move {
            match looks {
                Some((looks, peer)) => peers::hung_up(looks, peer).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Follows a job until the result is dropped.
    pub(super) async fn follow_job(
        &self,
        who: Follower,
        inspector: &Inspector,
        queue: &QueueName,
        id: &JobId,
    ) -> Result<FollowedJob, Error> {
        let place = self.place(who).await?;
        let (inspector, key) = (inspector.clone(), (queue.clone(), id.clone()));
        let (of_look, mut interval) = (key.clone(), READ_INTERVALS.0);
        let looks = self.jobs.follow(key, move || {
            let (inspector, (queue, id)) = (inspector.clone(), of_look.clone());
            interval = (interval * 2).min(READ_INTERVALS.1);
            async move {
                let look = match inspector.job(&queue, &id).await {
                    Ok(Some(info)) => Look::Job(Arc::new(info)),
                    Ok(None) => Look::Gone,
                    Err(error) => Look::Failed(error),
                };
                let next = (!look.is_last()).then_some(interval);
                (look, next)
            }
        });
        Ok(FollowedJob { looks, _place: place })
    }
}

/// The result of reading a job.
#[derive(Clone)]
pub(crate) enum Look {
    Job(Arc<JobInfo>),
    Gone,
    Failed(Error),
}

impl Look {
    /// Whether it is the last one.
    fn is_last(&self) -> bool {
        match self {
            Look::Job(info) => has_ended(info),
            Look::Gone => true,
            Look::Failed(error) => !error.is_unavailable(),
        }
    }
}

pub(crate) fn has_ended(info: &JobInfo) -> bool {
    matches!(info.state, JobState::Archived | JobState::Completed)
}

/// A job that is followed.
pub(crate) struct FollowedJob {
    looks: watch::Receiver<Option<Look>>,
    _place: OwnedSemaphorePermit,
}

impl FollowedJob {
    /// The first result, which another follower may have caused a moment ago.
    pub(crate) async fn first(&mut self) -> Look {
        loop {
            if let Some(look) = self.looks.borrow_and_update().clone() {
                return look;
            }
            if self.looks.changed().await.is_err() {
                return Look::Failed(Error::unavailable("the read was abandoned"));
            }
        }
    }

    /// The next result; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Option<Look> {
        self.looks.changed().await.ok()?;
        self.looks.borrow_and_update().clone()
    }

    /// The job when it has ended, or its state at `until` or at shutdown; `None` if it no longer
    /// exists.
    pub(crate) async fn ended(
        &mut self,
        first: Arc<JobInfo>,
        until: Instant,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Arc<JobInfo>>, Error> {
        let mut last = first;
        while !has_ended(&last) {
            let look = tokio::select! {
                look = self.next() => look,
                () = tokio::time::sleep_until(until) => break,
                () = &mut *shutdown => break,
            };
            match look {
                Some(Look::Job(info)) => last = info,
                Some(Look::Gone) => return Ok(None),
                // The store may come back.
                Some(Look::Failed(error)) if error.is_unavailable() => {}
                Some(Look::Failed(error)) => return Err(error),
                None => break,
            }
        }
        Ok(Some(last))
    }
}

/// Values that are read repeatedly, each by one task for all its followers.
pub(super) struct SharedReads<K, V> {
    followed: Mutex<HashMap<K, Arc<watch::Sender<Option<V>>>>>,
}

impl<K, V> Default for SharedReads<K, V> {
    fn default() -> Self {
        Self { followed: Mutex::default() }
    }
}

impl<K, V> SharedReads<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn followed(&self) -> MutexGuard<'_, HashMap<K, Arc<watch::Sender<Option<V>>>>> {
        lock(&self.followed)
    }

    /// The results of calling `look` repeatedly. Each call returns the interval to the next one, or that
    /// there is none. If the key is followed already, its task is shared and `look` is not used.
    pub(super) fn follow<L, F>(self: &Arc<Self>, key: K, look: L) -> watch::Receiver<Option<V>>
    where
        L: FnMut() -> F + Send + 'static,
        F: Future<Output = (V, Option<Duration>)> + Send + 'static,
    {
        let mut followed = self.followed();
        if let Some(sender) = followed.get(&key) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        followed.insert(key.clone(), Arc::clone(&sender));
        drop(followed);
        tokio::spawn(look_on(Arc::clone(self), key, sender, look));
        receiver
    }
}

/// Reads until there is no next read or no follower.
async fn look_on<K, V, L, F>(
    shared: Arc<SharedReads<K, V>>,
    key: K,
    sender: Arc<watch::Sender<Option<V>>>,
    mut look: L,
) where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: FnMut() -> F + Send + 'static,
    F: Future<Output = (V, Option<Duration>)> + Send,
{
    loop {
        let (value, next) = look().await;
        sender.send_replace(Some(value));
        let Some(next) = next else {
            shared.followed().remove(&key);
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = sender.closed() => {
                let mut followed = shared.followed();
                // Under the lock, so that no follower can arrive in between.
                if sender.receiver_count() == 0 {
                    followed.remove(&key);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn all_who_follow_share_one_look_which_ends_with_them() {
        let shared = Arc::<SharedReads<&str, u32>>::default();
        let looks = Arc::new(AtomicU32::new(0));
        let follow = || {
            let looks = Arc::clone(&looks);
            shared.follow("a", move || {
                let look = looks.fetch_add(1, Ordering::SeqCst) + 1;
                async move { (look, Some(Duration::from_millis(20))) }
            })
        };
        let mut all: Vec<_> = (0..100).map(|_| follow()).collect();
        for follower in &mut all {
            follower.wait_for(|look| look.is_some_and(|look| look >= 3)).await.unwrap();
        }
        assert!(looks.load(Ordering::SeqCst) < 100, "each looked by itself");
        drop(all);
        while !shared.followed().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ended = looks.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(looks.load(Ordering::SeqCst), ended);
    }

    #[tokio::test]
    async fn places_are_bounded_and_given_back_to_who_waits() {
        let (looks, moment) = (Looks::default(), Duration::from_millis(20));
        let mut all = Vec::new();
        for _ in 0..MAX_VIEWERS {
            all.push(looks.place(Follower::Viewer).await.unwrap());
        }
        assert_eq!(looks.longest_spread(), Duration::from_millis(250));
        let refused = looks.place_within(Follower::Viewer, moment).await.unwrap_err();
        assert!(refused.is_too_many());
        for other in [Follower::Link, Follower::Waiter] {
            assert!(looks.place(other).await.is_ok(), "{other:?}: others have their own");
        }
        let mut waits = std::pin::pin!(looks.place_within(Follower::Viewer, Duration::MAX));
        assert!(futures_util::poll!(&mut waits).is_pending());
        all.pop();
        assert!(waits.await.is_ok());
        all.clear();
        assert_eq!(looks.longest_spread(), Duration::ZERO);
    }
}
