//! How long a failed job waits for its next attempt.

use std::sync::Arc;
use std::time::Duration;

/// Asynq's default: `n⁴ + 15 + r · (n + 1)` seconds, where `n` is the number of
/// retries counted before this failure and `r` a whole number in 0…29.
///
/// All 25 of Asynq's default retries together take about 20 days.
/// Source: `asynq-protocol.md` 8.3.
///
/// ```
/// use rocket_jobqueue::asynq_delay;
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
/// The default is [`asynq_delay`] with a random `r`.
#[derive(Clone, Default)]
pub struct RetryPolicy(Option<Arc<dyn Fn(u32) -> Duration + Send + Sync>>);

impl RetryPolicy {
    /// A policy of the application's own: retries counted so far → delay.
    pub fn new(delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(delay)))
    }

    /// The delay before the next attempt.
    pub fn delay(&self, retried: u32) -> Duration {
        match &self.0 {
            Some(own) => own(retried),
            None => asynq_delay(retried, fastrand::u32(0..30)),
        }
    }
}

impl std::fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "RetryPolicy(own)" } else { "RetryPolicy(asynq)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_absurd_count_waits_long_but_does_not_overflow() {
        assert_eq!(asynq_delay(u32::MAX, u32::MAX), Duration::from_secs(315_360_000));
    }
}
