//! Takes as many jobs as there are free hands, and waits without polling when
//! there is none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::{Shared, execute};
use crate::error::Refusals;
use crate::job::QueueName;
use crate::time::Backoff;

/// Most jobs one script takes: more would hold Redis up.
const LARGEST_TAKE: usize = 100;

/// How long a look at the queues waits before it looks anew.
const LOOK: Duration = Duration::from_secs(5);

/// How soon a paused queue is looked at again; waiting on it would not block.
/// The others are waited on meanwhile.
const PAUSED: Duration = Duration::from_millis(250);

pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let mut refused = Refusals::default();
    while let Some(mut permits) = free_permits(&shared).await {
        let order = order(&shared.settings.queues, shared.settings.strict_priority);
        // Never dropped half-way: jobs in a lost reply would wait for their lease.
        let taken = match shared.broker.dequeue(&order, permits.len()).await {
            Ok(taken) => taken,
            Err(error) => {
                drop(permits);
                let pause = backoff.next();
                refused.note("fetching jobs", &error);
                tracing::debug!("fetching failed, next try in {pause:?}: {error:?}");
                stopped_within(&shared, tokio::time::sleep(pause)).await;
                continue;
            }
        };
        backoff.reset();
        refused.over();
        let idle = taken.deliveries.is_empty();
        for delivery in taken.deliveries {
            let permit = permits.pop().expect("a store gives no more than was asked for");
            shared.tasks.spawn(execute::run(Arc::clone(&shared), delivery, permit));
        }
        drop(permits);
        if !idle {
            continue;
        }
        let (mut open, mut longest) = (order, LOOK);
        if !taken.paused.is_empty() {
            open.retain(|queue| !taken.paused.contains(queue));
            longest = PAUSED;
        }
        let look = async {
            if open.is_empty() || shared.broker.wait(&open, longest).await.is_err() {
                tokio::time::sleep(PAUSED).await;
            }
        };
        stopped_within(&shared, look).await;
    }
}

async fn stopped_within(shared: &Shared, wait: impl Future<Output = ()>) {
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = wait => {}
    }
}

/// All free permits, at least one; nothing once the worker stops.
async fn free_permits(shared: &Shared) -> Option<Vec<OwnedSemaphorePermit>> {
    let first = tokio::select! {
        biased;
        () = shared.stop.cancelled() => return None,
        permit = Arc::clone(&shared.permits).acquire_owned() => permit.ok()?,
    };
    let mut permits = vec![first];
    while permits.len() < LARGEST_TAKE {
        match Arc::clone(&shared.permits).try_acquire_owned() {
            Ok(permit) => permits.push(permit),
            Err(_) => break,
        }
    }
    Some(permits)
}

/// The order in which the queues are asked this time: by priority where it is
/// strict; else drawn, each queue's chance to be next being its weight.
fn order(queues: &BTreeMap<QueueName, u32>, strict: bool) -> Vec<QueueName> {
    let mut left: Vec<(&QueueName, u32)> =
        queues.iter().filter(|(_, weight)| **weight > 0).map(|(q, w)| (q, *w)).collect();
    if strict {
        left.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
        return left.into_iter().map(|(queue, _)| queue.clone()).collect();
    }
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let total: u64 = left.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut drawn = fastrand::u64(0..total);
        let next = left
            .iter()
            .position(|(_, weight)| {
                let hit = drawn < u64::from(*weight);
                drawn = drawn.saturating_sub(u64::from(*weight));
                hit
            })
            .expect("the draw is below the sum of the weights");
        order.push(left.swap_remove(next).0.clone());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(weights: &[(&str, u32)]) -> BTreeMap<QueueName, u32> {
        weights.iter().map(|(name, weight)| (QueueName::new(name).unwrap(), *weight)).collect()
    }

    #[test]
    fn strict_order_is_by_priority() {
        let order = order(&queues(&[("a", 1), ("b", 9), ("c", 3), ("off", 0)]), true);
        assert_eq!(order.iter().map(QueueName::as_str).collect::<Vec<_>>(), ["b", "c", "a"]);
    }

    #[test]
    fn weighted_order_names_each_queue_once_and_first_as_often_as_its_weight() {
        let queues = queues(&[("low", 1), ("mid", 3), ("high", 6)]);
        let mut first = BTreeMap::<String, u32>::new();
        for _ in 0..10_000 {
            let order = order(&queues, false);
            assert_eq!(order.len(), 3);
            *first.entry(order[0].to_string()).or_default() += 1;
        }
        // Six standard deviations around 1000, 3000 and 6000.
        assert!(first["low"].abs_diff(1000) < 180, "{first:?}");
        assert!(first["mid"].abs_diff(3000) < 275, "{first:?}");
        assert!(first["high"].abs_diff(6000) < 294, "{first:?}");
    }
}
