//! Waits for a pending job without dequeuing it.
//!
//! `BLMOVE list list RIGHT RIGHT` rotates a list by one onto itself. On a list
//! that holds jobs this changes nothing and returns at once; on an empty list it
//! blocks until any client pushes, a Go producer included. So an idle worker needs
//! no polling and no notification of its own. Every peek needs a connection of its
//! own, since it blocks.
//!
//! What may surprise. A command that was sent cannot be taken back. A peek whose caller
//! has stopped waiting is parked in [`Peeks`] and awaited by the next call for
//! its queue, instead of being dropped with its connection. A peek blocks for at
//! most [`PEEK_BLOCK`] on the server, then the next one is sent.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use ::redis::Value;

use super::keys;
use crate::error::Error;
use crate::job::QueueName;
use crate::pool::{RedisPool, Repeat};
use crate::sync::lock;

/// How long one peek blocks on the server; then the next one is sent.
const PEEK_BLOCK: Duration = Duration::from_secs(5);

/// A peek in flight; true when the list has a job.
type Peek = Pin<Box<dyn Future<Output = Result<bool, Error>> + Send>>;

/// The peeks of one store, with a connection for each queue. A peek without a caller is
/// parked and awaited by the next call for its queue.
#[derive(Default)]
pub(super) struct Peeks {
    /// A pool with a connection of its own for each queue.
    pools: Mutex<HashMap<QueueName, Arc<RedisPool>>>,
    /// Peeks in flight without a caller.
    parked: Mutex<HashMap<QueueName, Peek>>,
}

impl Peeks {
    /// Returns when one of the queues may hold a job.
    pub(super) async fn any(&self, pool: &RedisPool, queues: &[QueueName]) -> Result<(), Error> {
        let mut running = AwaitedPeeks { home: self, peeks: Vec::with_capacity(queues.len()) };
        for queue in queues {
            let parked = lock(&self.parked).remove(queue);
            let peek = parked.unwrap_or_else(|| self.start(pool, queue));
            running.peeks.push((queue.clone(), peek));
        }
        poll_fn(|context| running.poll(pool, context)).await
    }

    /// Sends a peek. The future does nothing else once the command is sent, so it may be parked.
    fn start(&self, pool: &RedisPool, queue: &QueueName) -> Peek {
        let own = Arc::clone(
            lock(&self.pools)
                .entry(queue.clone())
                .or_insert_with(|| Arc::new(pool.blocking(PEEK_BLOCK))),
        );
        let list = keys::pending(queue);
        Box::pin(async move {
            let look = |_| {
                let mut look = ::redis::cmd("BLMOVE");
                look.arg(&list).arg(&list).arg("RIGHT").arg("RIGHT").arg(PEEK_BLOCK.as_secs());
                look
            };
            let answer = own.run(Repeat::Never, look).await?;
            Ok(!matches!(answer, Value::Nil))
        })
    }
}

/// Peeks that are being awaited. Dropped, it parks those that are not over.
struct AwaitedPeeks<'a> {
    /// Where unfinished peeks are parked.
    home: &'a Peeks,
    peeks: Vec<(QueueName, Peek)>,
}

impl AwaitedPeeks<'_> {
    /// Ready when one peek has found a job or failed. A peek whose time is over is sent again.
    fn poll(&mut self, pool: &RedisPool, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut at = 0;
        while at < self.peeks.len() {
            match self.peeks[at].1.as_mut().poll(context) {
                Poll::Pending => at += 1,
                // It blocked for as long as it may, and the list is still empty.
                Poll::Ready(Ok(false)) => {
                    self.peeks[at].1 = self.home.start(pool, &self.peeks[at].0);
                }
                Poll::Ready(found) => {
                    drop(self.peeks.swap_remove(at));
                    return Poll::Ready(found.map(|_| ()));
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for AwaitedPeeks<'_> {
    fn drop(&mut self) {
        lock(&self.home.parked).extend(mem::take(&mut self.peeks));
    }
}
