//! Waits while a queue moves from one Cluster node to another.
//!
//! During such a move Redis answers `TRYAGAIN` or redirects that lead nowhere, usually for
//! less than a second. Such an answer proves that the command did not run, so the call can
//! be sent again even if it must not run twice.
//!
//! A request of an application waits here: [`SlotMove::passes`] pauses from 20 ms to 250 ms
//! between attempts, until the move is over or the time of the request is nearly used up.
//! [`REPLY_RESERVE`] of that time is kept, so that the last attempt is still answered within
//! the limit. The caller then gets the error of the move
//! ([`Error::is_moving`](crate::Error::is_moving)).
//!
//! What may surprise. The loops that serve several queues, such as the dispatcher, do not
//! wait: one queue that moves must not stop the others. They skip the queue and come back
//! later.

use std::time::{Duration, Instant};

use super::RedisBroker;
use crate::error::Error;
use crate::time::Backoff;

/// The part of a request's time that is kept for the reply to its last repetition.
const REPLY_RESERVE: Duration = Duration::from_secs(1);

impl RedisBroker {
    /// For a request that may wait until its queue has moved.
    pub(super) fn moving(&self) -> SlotMove {
        let most = self.pool.request_limit().saturating_sub(REPLY_RESERVE);
        let pauses = (Duration::from_millis(20), Duration::from_millis(250));
        SlotMove { until: Instant::now() + most, backoff: Backoff::new(pauses.0, pauses.1) }
    }
}

/// A request that waits while its queue moves to another node.
pub(super) struct SlotMove {
    /// When the request has to give up.
    until: Instant,
    /// Pauses from 20 ms to 250 ms.
    backoff: Backoff,
}

impl SlotMove {
    /// Whether the error was a move and there is time left: pauses, and the caller sends the
    /// request again.
    pub(super) async fn passes(&mut self, error: Option<&Error>) -> bool {
        if !error.is_some_and(Error::is_moving) || Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(self.backoff.next()).await;
        true
    }
}
