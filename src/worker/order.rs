//! Which queue gives first.

use std::collections::BTreeMap;

use crate::job::QueueName;

/// The order in which the queues are asked this time: by priority where it is
/// strict; else drawn, each queue's chance to be next being its weight.
pub(super) fn order(queues: &BTreeMap<QueueName, u32>, strict: bool) -> Vec<QueueName> {
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
