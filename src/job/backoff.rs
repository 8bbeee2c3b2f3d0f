//! How long a failed job waits for its next attempt.
//!
//! The worker asks a policy when an attempt has failed, and the store keeps the answer as the
//! job's due time. So a new policy does not move jobs that wait already. Of several policies
//! the most specific counts: the handler's error, then the job type, then the application, then
//! [`asynq_delay`].
//!
//! Randomness is deliberate: jobs that failed together, because a server was away, should not
//! all come back at the same instant.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::chance::Chance;

/// Longest delay of any policy: 100 years, short enough to be multiplied safely.
const MAX_DELAY: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Asynq's default: `n⁴ + 15 + r · (n + 1)` seconds, where `n` is the number of
/// retries counted before this failure and `r` a whole number in 0…29.
///
/// All 25 of Asynq's default retries together take about 20 days. The formula is that of
/// `DefaultRetryDelayFunc` in Asynq's `server.go`.
///
/// ```
/// use rocket_jobqueue::handler::asynq_delay;
/// use std::time::Duration;
///
/// assert_eq!(asynq_delay(0, 0), Duration::from_secs(15));
/// assert_eq!(asynq_delay(5, 29), Duration::from_secs(814));
/// ```
pub fn asynq_delay(retried: u32, r: u32) -> Duration {
    let n = u64::from(retried);
    let seconds = n
        .saturating_pow(4)
        .saturating_add(15)
        .saturating_add(u64::from(r.min(29)).saturating_mul(n.saturating_add(1)));
    // Ten years: a number that every date and sorted-set score can hold.
    Duration::from_secs(seconds.min(10 * 365 * 86_400))
}

/// Decides how long a failed job waits, from the retries counted so far.
///
/// The default is [`asynq_delay`] with a random `r`. One policy for a whole
/// application is [`JobQueueFairing::retry_policy`](crate::JobQueueFairing::retry_policy),
/// one for a job type [`Job::retry_policy`](crate::Job::retry_policy) or
/// [`JobHandler::retry_policy`](crate::handler::JobHandler::retry_policy); a handler's own
/// [`JobError::retry_in`](crate::JobError::retry_in) is stronger than all.
///
/// ```
/// use rocket_jobqueue::RetryPolicy;
/// use std::time::Duration;
///
/// let secs = Duration::from_secs;
/// let policy = RetryPolicy::exponential(secs(2), secs(300));
/// assert_eq!(policy.delay(0), secs(2));
/// assert_eq!(policy.delay(3), secs(16));
/// assert_eq!(policy.delay(30), secs(300));
///
/// let spread = policy.jitter(0.5).delay(3);
/// assert!(spread >= secs(8) && spread <= secs(16));
/// ```
#[derive(Clone, Default)]
pub struct RetryPolicy {
    shape: Shape,
    /// The share of the delay that may be subtracted at random, 0 to 1.
    jitter: f64,
}

/// The formula of a policy, before its jitter.
#[derive(Clone, Default)]
enum Shape {
    #[default]
    Asynq,
    Fixed(Duration),
    Exponential {
        first: Duration,
        longest: Duration,
    },
    Own(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl RetryPolicy {
    /// A policy of the application's own: retries counted so far → delay. If it
    /// panics, [`asynq_delay`] is used instead, with a warning.
    pub fn new(delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self::of(Shape::Own(Arc::new(delay)))
    }

    /// The same delay before every retry.
    pub fn fixed(delay: Duration) -> Self {
        Self::of(Shape::Fixed(delay))
    }

    /// `first · 2ⁿ` before the retry after `n` counted ones, at most `longest`.
    pub fn exponential(first: Duration, longest: Duration) -> Self {
        Self::of(Shape::Exponential { first, longest })
    }

    fn of(shape: Shape) -> Self {
        Self { shape, jitter: 0.0 }
    }

    /// Shortens each delay by a random part of it, up to this share (0 to 1), so
    /// that jobs which failed together are not tried again together:
    /// `delay · (1 − share · random)`. Default 0; Asynq's formula has its own.
    #[must_use = "the policy is changed and returned"]
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        self
    }

    /// The delay before the next attempt, at most 100 years. `retried` is the number of retries
    /// counted before this failure: 0 after the first attempt.
    pub fn delay(&self, retried: u32) -> Duration {
        self.drawn_delay(retried, &Chance::system())
    }

    /// The same with this chance. Without any, Asynq's formula gives its shortest delay, and
    /// jitter subtracts nothing.
    pub(super) fn drawn_delay(&self, retried: u32, chance: &Chance) -> Duration {
        let asynq = || asynq_delay(retried, chance.below(30));
        let delay = match &self.shape {
            Shape::Asynq => asynq(),
            Shape::Fixed(delay) => *delay,
            Shape::Exponential { first, longest } => {
                let factor = 1_u32.checked_shl(retried).unwrap_or(u32::MAX);
                first.saturating_mul(factor).min(*longest)
            }
            // The job has to be settled, whatever happens in there.
            Shape::Own(own) => {
                catch_unwind(AssertUnwindSafe(|| own(retried))).unwrap_or_else(|_| {
                    crate::log::warn!(
                        "a retry policy panicked at {retried} retries; Asynq's delay is used"
                    );
                    asynq()
                })
            }
        };
        let delay = delay.min(MAX_DELAY);
        if self.jitter > 0.0 { delay.mul_f64(1.0 - self.jitter * chance.share()) } else { delay }
    }
}

impl std::fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.shape {
            Shape::Asynq => write!(f, "RetryPolicy(asynq"),
            Shape::Fixed(delay) => write!(f, "RetryPolicy({delay:?}"),
            Shape::Exponential { first, longest } => {
                write!(f, "RetryPolicy({first:?} · 2ⁿ ≤ {longest:?}")
            }
            Shape::Own(_) => write!(f, "RetryPolicy(own"),
        }?;
        if self.jitter > 0.0 { write!(f, ", jitter {})", self.jitter) } else { f.write_str(")") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponential_delay_doubles_until_it_is_the_longest() {
        let (first, longest) = (Duration::from_millis(300), Duration::from_secs(60));
        let policy = RetryPolicy::exponential(first, longest);
        let millis: Vec<_> = [0, 1, 2, 7, 8, 31, 32, 33, u32::MAX]
            .map(|retried| policy.delay(retried).as_millis())
            .into();
        assert_eq!(millis, [300, 600, 1200, 38_400, 60_000, 60_000, 60_000, 60_000, 60_000]);
    }

    #[test]
    fn jitter_only_shortens_and_no_more_than_its_share() {
        let policy = RetryPolicy::fixed(Duration::from_secs(100)).jitter(0.25);
        let delays: Vec<_> = (0..200).map(|_| policy.delay(0).as_secs_f64()).collect();
        assert!(delays.iter().all(|delay| (75.0..=100.0).contains(delay)), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay < 90.0) && delays.iter().any(|d| *d > 85.0));
        let whole = RetryPolicy::fixed(Duration::from_secs(1)).jitter(f64::NAN);
        assert_eq!(whole.delay(0), Duration::from_secs(1));
    }

    #[test]
    fn delays_stand_in_the_ranges_the_protocol_states() {
        for (retried, low, high) in
            [(0, 15, 44), (1, 16, 74), (5, 640, 814), (24, 331_791, 332_516)]
        {
            assert_eq!(asynq_delay(retried, 0), Duration::from_secs(low), "n = {retried}");
            assert_eq!(asynq_delay(retried, 29), Duration::from_secs(high), "n = {retried}");
            for _ in 0..200 {
                let delay = RetryPolicy::default().delay(retried).as_secs();
                assert!((low..=high).contains(&delay), "n = {retried}: {delay}");
            }
        }
    }

    #[test]
    fn a_policy_that_panics_waits_as_long_as_asynq() {
        let policy = RetryPolicy::new(|retried| panic!("no delay for {retried}"));
        let delay = policy.delay(5).as_secs();
        assert!((640..=814).contains(&delay), "{delay}");
    }

    #[test]
    fn a_delay_without_end_is_cut_also_with_jitter() {
        let endless = [RetryPolicy::fixed(Duration::MAX), RetryPolicy::new(|_| Duration::MAX)];
        for policy in endless {
            assert_eq!(policy.delay(0), MAX_DELAY);
            let delay = policy.jitter(0.5).delay(0);
            assert!(delay >= MAX_DELAY / 2 && delay <= MAX_DELAY, "{delay:?}");
        }
    }

    #[test]
    fn an_absurd_count_waits_long_but_does_not_overflow() {
        assert_eq!(asynq_delay(u32::MAX, u32::MAX), Duration::from_secs(315_360_000));
    }
}
