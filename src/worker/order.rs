//! The order in which queues are asked for jobs.
//!
//! Every dequeue gets an order of its own, and takes jobs from the first queue before it asks
//! the second. So with strict priority a queue is served only while all queues of higher
//! weight are empty. With weights a queue of weight 6 comes first six times as often as one
//! of weight 1, and the others get what it leaves: no queue starves, however full the rest
//! is.
//!
//! What may surprise. The weights decide who is asked first, not how many jobs are taken: one
//! dequeue may fill all free slots from the queue that was drawn first. Under load this evens
//! out over many dequeues. An idle worker serves every queue at once, whatever its weight.
//! Queues of equal weight are shuffled, unless the order is strict: then they are asked by
//! name.

use std::collections::BTreeMap;

use crate::chance::Chance;
use crate::job::QueueName;

/// The queue order of one dequeue. A strict order is by weight, highest first, and by name
/// among equals. Otherwise the order is drawn at random, and a queue's chance to come next is
/// proportional to its weight. Queues of weight 0 are left out. O(n log n).
pub(super) fn order(
    queues: &BTreeMap<QueueName, u32>,
    strict: bool,
    chance: &Chance,
) -> Vec<QueueName> {
    let serving = queues.iter().filter(|(_, weight)| **weight > 0);
    let first = serving.clone().next().map(|(_, weight)| weight);
    if serving.clone().all(|(_, weight)| Some(weight) == first) && !strict {
        let mut all: Vec<QueueName> = serving.map(|(queue, _)| queue.clone()).collect();
        chance.shuffle(&mut all);
        return all;
    }
    let mut drawn: Vec<(f64, &QueueName)> = serving
        .map(|(queue, weight)| {
            let weight = f64::from(*weight);
            // Weighted sampling without replacement (Efraimidis and Spirakis, 2006): sort by
            // exponential variables whose rates are the weights. It takes one draw for each
            // queue, and there may be thousands.
            let key = if strict { -weight } else { -(1.0 - chance.share()).ln() / weight };
            (key, queue)
        })
        .collect();
    drawn.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    drawn.into_iter().map(|(_, queue)| queue.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(weights: &[(&str, u32)]) -> BTreeMap<QueueName, u32> {
        weights.iter().map(|(name, weight)| (QueueName::new(name).unwrap(), *weight)).collect()
    }

    #[test]
    fn strict_order_is_by_priority() {
        let order =
            order(&queues(&[("a", 1), ("b", 9), ("c", 3), ("off", 0)]), true, &Chance::none());
        assert_eq!(order.iter().map(QueueName::as_str).collect::<Vec<_>>(), ["b", "c", "a"]);
    }

    #[test]
    fn queues_alike_are_first_equally_often() {
        let queues = queues(&[("a", 2), ("b", 2), ("off", 0), ("c", 2)]);
        let mut first = BTreeMap::<String, u32>::new();
        for _ in 0..9_000 {
            let order = order(&queues, false, &Chance::system());
            assert_eq!(order.len(), 3);
            *first.entry(order[0].to_string()).or_default() += 1;
        }
        assert!(first.values().all(|times| times.abs_diff(3000) < 270), "{first:?}");
    }

    #[test]
    fn weighted_order_names_each_queue_once_and_first_as_often_as_its_weight() {
        let queues = queues(&[("low", 1), ("mid", 3), ("high", 6)]);
        let mut first = BTreeMap::<String, u32>::new();
        for _ in 0..10_000 {
            let order = order(&queues, false, &Chance::system());
            assert_eq!(order.len(), 3);
            *first.entry(order[0].to_string()).or_default() += 1;
        }
        // Six standard deviations around 1000, 3000 and 6000.
        assert!(first["low"].abs_diff(1000) < 180, "{first:?}");
        assert!(first["mid"].abs_diff(3000) < 275, "{first:?}");
        assert!(first["high"].abs_diff(6000) < 294, "{first:?}");
    }
}
