//! Sending a request, and again as long as that is right.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::backend::Haste;
use super::failure::{self, Meaning, RequestFailure, told};
use super::request::Request;
use super::{RedisPool, Repeat};
use crate::chance::Chance;
use crate::error::Error;

/// How long a request is repeated while the nodes of a Cluster disagree about its slot.
const CLUSTER_AGREEMENT_TIMEOUT: Duration = Duration::from_secs(1);

impl RedisPool {
    /// Sends a request, and again as long as its failure, `repeat` and the time allow it.
    /// `build` gets the number of earlier attempts that may have run.
    ///
    /// How often depends on the failure:
    /// - The slot is moving between two servers of a Cluster: never. A move takes longer than a
    ///   request may, so the caller decides.
    /// - The nodes of a Cluster disagree: for [`CLUSTER_AGREEMENT_TIMEOUT`], or not at all for
    ///   a [`prompt`](RedisPool::prompt) pool.
    /// - Anything else: at most `max_retries` times.
    ///
    /// # Errors
    /// [`Error::is_outcome_unknown`] if any attempt may have run, whatever the last one says.
    pub(super) async fn request(
        &self,
        repeat: Repeat,
        mut build: impl FnMut(u32) -> Request + Send,
    ) -> Result<Vec<Value>, Error> {
        let _permit = match &self.aside {
            Some(aside) => aside.admit().await,
            None => None,
        };
        let backend = self.backend();
        let began = Instant::now();
        let deadline = began + backend.limit();
        let mut may_have_run = 0;
        let mut attempt = 0;
        loop {
            let made = self.attempt(deadline, build(may_have_run)).await;
            // The thread for viewers has ended.
            let Some((request, answer)) = made else {
                return Err(told(Meaning::Unknown, &failure::timed_out()));
            };
            let failure = match answer {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let meaning = failure.meaning();
            may_have_run += u32::from(meaning == Meaning::Unknown);
            let more = match self.haste {
                // A slot may be moving for longer than any request: the caller decides.
                _ if meaning == Meaning::Moving => false,
                _ if !(self.is_cluster() && failure::is_passing(&failure.error)) => {
                    attempt < backend.settings().max_retries
                }
                Haste::Patient => began.elapsed() < CLUSTER_AGREEMENT_TIMEOUT,
                Haste::Prompt => false,
            };
            let again = more && repeatable(&failure, meaning, repeat, &request);
            let next = Instant::now() + self.pause(attempt);
            if !again || next >= deadline {
                let meaning = if may_have_run > 0 { Meaning::Unknown } else { meaning };
                return Err(told(meaning, &failure.error));
            }
            tokio::time::sleep_until(next).await;
            attempt += 1;
        }
    }

    /// Sends a request once, on the thread for viewers if it is their pool; `None` if that has
    /// ended meanwhile.
    async fn attempt(
        &self,
        deadline: Instant,
        request: Request,
    ) -> Option<(Request, Result<Vec<Value>, RequestFailure>)> {
        let haste = self.haste;
        let Some(aside) = &self.aside else {
            let answer = self.backend().attempt(deadline, &request, haste).await;
            return Some((request, answer));
        };
        let handle = Arc::clone(&self.handle);
        let work = async move {
            let answer = handle.backend.attempt(deadline, &request, haste).await;
            (request, answer)
        };
        let (request, answer) = aside.run(work).await?;
        if let Ok(replies) = &answer {
            aside.pay(replies);
        }
        Some((request, answer))
    }

    /// Exponential backoff from `min_retry_backoff` to `max_retry_backoff`, with up to 100 %
    /// jitter. Without jitter, all requests that failed together would come back together.
    fn pause(&self, attempt: u32) -> Duration {
        let settings = self.backend().settings();
        let longest = settings.max_retry_backoff;
        let least = settings.min_retry_backoff.saturating_mul(1 << attempt.min(20)).min(longest);
        (least + least.mul_f64(Chance::system().share())).min(longest)
    }
}

/// Whether this attempt may be followed by another one.
///
/// - Nothing was sent: no. It would be the same remembered failure again.
/// - Redis refused: no. It would refuse again.
/// - The command may have run: only if repeating is safe.
/// - It did not run: yes, except for a pipeline of several commands. Some of them may have run
///   before one was refused.
fn repeatable(
    failure: &RequestFailure,
    meaning: Meaning,
    repeat: Repeat,
    request: &Request,
) -> bool {
    match meaning {
        _ if !failure.sent => false,
        Meaning::Refused(_) => false,
        Meaning::Unknown => repeat == Repeat::Safe,
        Meaning::Away | Meaning::Moving => repeat == Repeat::Safe || !request.is_divisible(),
    }
}
