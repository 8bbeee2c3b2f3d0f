//! The pace of viewers: how much they may ask of Redis, and how fast.
//!
//! Redis serves one command after another, so whatever viewers read delays the application's
//! own commands. Two bounds keep that delay small, however many viewers there are and whatever
//! they ask for. At most [`MAX_IN_FLIGHT`] of their calls are on the way at a time. And all calls
//! together share an allowance of bytes: a call is paid for when it is made and when its reply
//! is there, and the next one waits until the allowance has been refilled.
//!
//! What may surprise. A reply may cost more than is left; its size is not known before. The
//! calls after it wait longer.

use std::sync::Mutex;
use std::time::Duration;

use redis::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::sync::lock;

/// Maximum calls on the way: the application's next command waits for these at most.
const MAX_IN_FLIGHT: usize = 4;

/// Bytes per second that viewers may read permanently. Eight times as many delayed the start of
/// one job in a hundred by half a millisecond on two cores.
const BYTES_PER_SECOND: f64 = 2.0 * 1024.0 * 1024.0;

/// Bytes that viewers may read in one go after a pause: four full pages.
const MAX_ALLOWANCE: f64 = 32.0 * 1024.0 * 1024.0;

/// What a call costs beside its commands and their replies: somewhat fewer than 2,048 calls a second
/// may be made permanently.
const CALL_BYTES: f64 = 1024.0;

/// What each command of a call costs beside its reply: a pipeline of a hundred that return a number
/// each keeps Redis as busy as ten calls, and this process busier.
const COMMAND_BYTES: usize = 128;

/// What a value of a reply costs beside its bytes.
const VALUE_BYTES: usize = 4;

/// The pace of all viewers of a process.
pub(super) struct Pace {
    calls: Semaphore,
    allowance: Mutex<Allowance>,
}

/// Bytes that may be read, negative if more was read than allowed.
struct Allowance {
    bytes: f64,
    /// When it was last refilled.
    at: Instant,
}

impl Allowance {
    /// Adds what has accrued since the last refill, up to [`MAX_ALLOWANCE`].
    fn refill(&mut self, now: Instant) {
        let refill = now.saturating_duration_since(self.at).as_secs_f64() * BYTES_PER_SECOND;
        self.bytes = (self.bytes + refill).min(MAX_ALLOWANCE);
        self.at = now;
    }

    /// Pays for a call, or says how long to wait before.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.bytes < 0.0 {
            return Err(Duration::from_secs_f64(-self.bytes / BYTES_PER_SECOND));
        }
        self.bytes -= CALL_BYTES;
        Ok(())
    }
}

impl Pace {
    pub(super) fn new() -> Self {
        let allowance = Allowance { bytes: MAX_ALLOWANCE, at: Instant::now() };
        Self { calls: Semaphore::new(MAX_IN_FLIGHT), allowance: Mutex::new(allowance) }
    }

    /// Waits until a call may be made. It is on the way until the permit is dropped. First come,
    /// first served.
    pub(super) async fn admit(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes the semaphore.
        let permit = self.calls.acquire().await.ok();
        loop {
            let taken = lock(&self.allowance).take(Instant::now());
            match taken {
                Ok(()) => return permit,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Pays for the replies to the commands of a call.
    pub(super) fn pay(&self, replies: &[Value]) {
        let bytes: usize = replies.iter().map(|reply| COMMAND_BYTES + size(reply)).sum();
        lock(&self.allowance).bytes -= bytes as f64;
    }
}

/// The bytes of a value, approximately.
fn size(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::BulkString(bytes) => bytes.len(),
            Value::SimpleString(text) => text.len(),
            Value::Array(values) | Value::Set(values) => values.iter().map(size).sum(),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Makes calls of this many commands that each return so many bytes, for ten seconds; bytes
    /// read and calls made.
    fn busy(commands: usize, bytes: usize) -> (usize, usize) {
        let (pace, began) = (Pace::new(), Instant::now());
        let reply = vec![Value::BulkString(vec![0; bytes]); commands];
        let (mut now, mut calls) = (began, 0);
        while now < began + Duration::from_secs(10) {
            let taken = lock(&pace.allowance).take(now);
            match taken {
                Ok(()) => {
                    pace.pay(&reply);
                    calls += 1;
                }
                Err(wait) => now += wait.max(Duration::from_nanos(1)),
            }
        }
        (commands * bytes * calls, calls)
    }

    #[test]
    fn bytes_are_bounded_and_so_are_calls_that_return_nothing() {
        let (bytes, calls) = busy(1, 8 * MIB);
        // What came after a pause, what came each second, and one reply that was too large.
        assert!((52..=60).contains(&(bytes / MIB)), "{} MiB in {calls} calls", bytes / MIB);
        let (_, calls) = busy(1, 0);
        assert!((46_000..48_000).contains(&calls), "{calls} calls");
        // Commands that return next to nothing are paid for too.
        let (_, calls) = busy(100, 0);
        assert!((3_700..4_000).contains(&calls), "{calls} calls of a hundred commands");
    }

    #[tokio::test]
    async fn few_calls_are_on_the_way_at_a_time() {
        let pace = Pace::new();
        let mut permits = Vec::new();
        for _ in 0..MAX_IN_FLIGHT {
            permits.push(pace.admit().await);
        }
        let more = pace.admit();
        tokio::pin!(more);
        assert!(futures_util::poll!(&mut more).is_pending());
        permits.pop();
        assert!(futures_util::poll!(&mut more).is_ready());
    }
}
