//! Waiting for a pending job without taking it: Redis rotates a list by one onto
//! itself, which changes nothing and blocks while the list is empty.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ::redis::Value;

use super::keys;
use crate::error::Error;
use crate::job::QueueName;
use crate::pool::{RedisPool, Repeat};

/// How long one look blocks on the server; then the next one is sent.
const BLOCK: Duration = Duration::from_secs(5);

/// A look that is under way; true when the list has a job.
type Peek = Pin<Box<dyn Future<Output = Result<bool, Error>> + Send>>;

/// The looks of one store, one connection for each queue.
///
/// A look cannot be taken back once it is sent, so one that nobody awaits is
/// parked here and awaited the next time.
#[derive(Default)]
pub(super) struct Peeks {
    pools: Mutex<HashMap<QueueName, Arc<RedisPool>>>,
    parked: Mutex<HashMap<QueueName, Peek>>,
}

impl Peeks {
    /// Returns when one of the queues may hold a job.
    pub async fn any(&self, pool: &RedisPool, queues: &[QueueName]) -> Result<(), Error> {
        let mut running = Running { home: self, peeks: Vec::with_capacity(queues.len()) };
        for queue in queues {
            let parked = locked(&self.parked).remove(queue);
            let peek = parked.unwrap_or_else(|| self.start(pool, queue));
            running.peeks.push((queue.clone(), peek));
        }
        poll_fn(|context| running.poll(pool, context)).await
    }

    fn start(&self, pool: &RedisPool, queue: &QueueName) -> Peek {
        let own = Arc::clone(
            locked(&self.pools)
                .entry(queue.clone())
                .or_insert_with(|| Arc::new(pool.blocking(BLOCK))),
        );
        let list = keys::pending(queue);
        Box::pin(async move {
            let look = |_| {
                let mut look = ::redis::cmd("BLMOVE");
                look.arg(&list).arg(&list).arg("RIGHT").arg("RIGHT").arg(BLOCK.as_secs());
                look
            };
            let answer = own.run(Repeat::Never, look).await?;
            Ok(!matches!(answer, Value::Nil))
        })
    }
}

/// Looks that are being awaited; whatever is not over is parked at the end.
struct Running<'a> {
    home: &'a Peeks,
    peeks: Vec<(QueueName, Peek)>,
}

impl Running<'_> {
    fn poll(&mut self, pool: &RedisPool, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut at = 0;
        while at < self.peeks.len() {
            match self.peeks[at].1.as_mut().poll(context) {
                Poll::Pending => at += 1,
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

impl Drop for Running<'_> {
    fn drop(&mut self) {
        locked(&self.home.parked).extend(mem::take(&mut self.peeks));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
