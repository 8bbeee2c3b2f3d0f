//! Setting, removing and reading limits.

use crate::broker::disk::Level;
use crate::broker::memory::MemoryBroker;
use crate::broker::{Answer, LimitInfo, LimitKeyPage, LimitUses, Limits, Page};
use crate::error::Error;
use crate::job::{Limit, MAX_LIMITS, QueueName};

impl Limits for MemoryBroker {
    /// Decides again about all pending and waiting jobs, in one step.
    fn set_limit<'a>(&'a self, queue: &'a QueueName, limit: &'a Limit) -> Answer<'a, ()> {
        Box::pin(async move {
            limit.check()?;
            self.accepts(Level::Durable)?;
            self.act(queue, |queue, now| {
                let others = queue.gates.limits().iter().filter(|other| other.name != limit.name);
                if others.count() >= MAX_LIMITS {
                    return Err(Error::invalid(format!(
                        "limits of a queue: expected at most {MAX_LIMITS}, found one more"
                    )));
                }
                if queue.gates.limit(&limit.name) != Some(limit) {
                    queue.gates.set(limit.clone());
                    queue.rebuild_gates(now);
                }
                Ok(())
            })?;
            self.saved(Level::Durable).await
        })
    }

    /// Decides again about all pending and waiting jobs, in one step.
    fn remove_limit<'a>(&'a self, queue: &'a QueueName, name: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            self.accepts(Level::Durable)?;
            let removed = self.act(queue, |queue, now| {
                let removed = queue.gates.unset(name);
                if removed {
                    queue.rebuild_gates(now);
                }
                removed
            });
            self.saved(Level::Durable).await?;
            Ok(removed)
        })
    }

    /// A queue that nobody used may have limits too.
    fn limits<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<LimitInfo>> {
        Box::pin(async move {
            let state = self.state();
            Ok(state.queues.get(queue).map(|queue| queue.gates.infos()).unwrap_or_default())
        })
    }

    fn limit_uses<'a>(
        &'a self,
        queue: &'a QueueName,
        name: &'a str,
        most: usize,
    ) -> Answer<'a, LimitUses> {
        Box::pin(async move {
            let (state, now) = (self.state(), self.clock.now());
            let uses = |queue: &super::Queue| queue.gates.uses(name, most, now);
            Ok(state.queues.get(queue).map(uses).unwrap_or_default())
        })
    }

    fn limit_keys<'a>(
        &'a self,
        queue: &'a QueueName,
        name: &'a str,
        page: &'a Page,
    ) -> Answer<'a, LimitKeyPage> {
        Box::pin(async move {
            let (state, now) = (self.state(), self.clock.now());
            let keys = |queue: &super::Queue| queue.gates.keys(name, page, now);
            state.queues.get(queue).map_or_else(|| Ok(LimitKeyPage::default()), keys)
        })
    }
}
