//! One server of a Cluster, and how it answers: a server that owes an answer for much longer than
//! usual is silent, and prompt requests are not sent to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::failure::RequestFailure;
use super::request::{Manner, Request};
use super::slot::Core;

/// Silence: a server has a request to answer and has not answered for this long, or for
/// [`SILENCE_FACTOR`] times its usual time, within these bounds.
///
/// The lower bound leaves room for a script that takes long; the upper one is below the default
/// read timeout of 3 s, so a hanging server is noticed before its requests time out.
const MIN_SILENCE: Duration = Duration::from_millis(250);

const MAX_SILENCE: Duration = Duration::from_secs(2);

/// The factor on the usual time. A busy server that always answers late is not silent.
const SILENCE_FACTOR: u32 = 4;

/// Interval of the PINGs to a silent server. Prompt requests are not sent to it, so without a
/// PING nothing would show that it answers again.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// One server and what is known about how it answers.
pub(super) struct Node {
    /// Its connections.
    pub(super) core: Arc<Core>,
    /// The zero of the times below.
    pub(super) began: Instant,
    /// Since when it owes an answer, in milliseconds since `began`; 0 if it owes none.
    pub(super) unheard: AtomicU64,
    /// Requests that it has not answered.
    pub(super) awaited: AtomicUsize,
    /// Its usual time to answer in microseconds, smoothed.
    pub(super) usual: AtomicU64,
    /// When it was last sent a PING, in milliseconds; 0: never.
    pub(super) probed: AtomicU64,
}

impl Node {
    pub(super) fn new(core: Core) -> Self {
        Self {
            core: Arc::new(core),
            began: Instant::now(),
            unheard: AtomicU64::new(0),
            awaited: AtomicUsize::new(0),
            usual: AtomicU64::new(0),
            probed: AtomicU64::new(0),
        }
    }

    /// Milliseconds since `began`, at least 1, because 0 means "never" in the fields of this
    /// type.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Sends a request and keeps account of the answer. Any answer ends the silence, also an
    /// error: only a timeout does not show that the server is alive.
    pub(super) async fn attempt(
        &self,
        deadline: Instant,
        request: &Request,
        manner: &Manner,
    ) -> Result<Vec<Value>, RequestFailure> {
        let asked = Instant::now();
        self.awaited.fetch_add(1, Ordering::Relaxed);
        let _awaited = Awaited(self);
        let _ = self.unheard.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
        let answer = self.core.attempt(deadline, request, manner).await;
        match &answer {
            Err(failure) if failure.error.is_timeout() => {}
            _ => self.heard(asked),
        }
        answer
    }

    /// Records an answer to a request that was sent at `asked`. The usual time is an
    /// exponential moving average with a weight of one eighth for the newest answer, as TCP
    /// smooths its round trip time (RFC 6298).
    pub(super) fn heard(&self, asked: Instant) {
        // For requests that still wait, the wait counts from now.
        let others = self.awaited.load(Ordering::Relaxed) > 1;
        self.unheard.store(if others { self.now() } else { 0 }, Ordering::Relaxed);
        let took = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        let usual = self.usual.load(Ordering::Relaxed);
        self.usual.store(usual - usual / 8 + took / 8, Ordering::Relaxed);
    }

    /// Whether it owes an answer.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed) > 0
    }

    /// How long it may take to answer before it counts as silent.
    pub(super) fn patience(&self) -> Duration {
        let usual = Duration::from_micros(self.usual.load(Ordering::Relaxed));
        (usual * SILENCE_FACTOR).clamp(MIN_SILENCE, MAX_SILENCE)
    }

    /// Whether it has owed an answer for longer than [`patience`](Self::patience).
    pub(super) fn is_silent(&self) -> bool {
        match self.unheard.load(Ordering::Relaxed) {
            0 => false,
            since => Duration::from_millis(self.now().saturating_sub(since)) >= self.patience(),
        }
    }

    /// How long until it counts as silent. If it does already, [`MIN_SILENCE`]: the caller
    /// looks again then.
    pub(super) fn until_silent(&self) -> Duration {
        let since = match self.unheard.load(Ordering::Relaxed) {
            0 => self.now(),
            since => since,
        };
        let passed = Duration::from_millis(self.now().saturating_sub(since));
        match self.patience().saturating_sub(passed) {
            Duration::ZERO => MIN_SILENCE,
            left => left,
        }
    }

    /// Sends it a PING, whose answer ends its silence; at most once in [`PROBE_INTERVAL`]. The
    /// PING may take `longest`; nobody waits for it.
    pub(super) fn probe(self: &Arc<Self>, longest: Duration) {
        let (now, last) = (self.now(), self.probed.load(Ordering::Relaxed));
        let due = last == 0 || now.saturating_sub(last) >= PROBE_INTERVAL.as_millis() as u64;
        let turn = |last| {
            self.probed.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if due && turn(last) {
            let node = Arc::clone(self);
            drop(tokio::spawn(async move {
                let ping = Request::One(redis::cmd("PING"));
                let deadline = Instant::now() + longest;
                // An answer of any kind is noted on its way.
                let _ = node.attempt(deadline, &ping, &Manner::default()).await;
            }));
        }
    }
}

/// Counts a request as unanswered until it is dropped. As a guard it also counts down for a
/// request whose caller gave up.
struct Awaited<'a>(&'a Node);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let last = self.0.awaited.fetch_sub(1, Ordering::Relaxed) == 1;
        // No request waits for an answer any more, so its silence proves nothing.
        if last && !self.0.is_silent() {
            self.0.unheard.store(0, Ordering::Relaxed);
        }
    }
}
