//! Limits of the queues of an application with a namespace. Their names are the queue's own.

use super::NamespacedBroker;
use crate::broker::{Answer, LimitInfo, LimitKeyPage, LimitUses, Limits, Page};
use crate::job::{Limit, QueueName};

impl Limits for NamespacedBroker {
    fn set_limit<'a>(&'a self, queue: &'a QueueName, limit: &'a Limit) -> Answer<'a, ()> {
        Box::pin(async move {
            self.namespace.check(queue)?;
            let queue = self.stored(queue);
            self.answer(self.inner.set_limit(&queue, limit)).await
        })
    }

    fn remove_limit<'a>(&'a self, queue: &'a QueueName, name: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.remove_limit(&queue, name)).await
        })
    }

    fn limits<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<LimitInfo>> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.limits(&queue)).await
        })
    }

    fn limit_uses<'a>(
        &'a self,
        queue: &'a QueueName,
        name: &'a str,
        most: usize,
    ) -> Answer<'a, LimitUses> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.limit_uses(&queue, name, most)).await
        })
    }

    fn limit_keys<'a>(
        &'a self,
        queue: &'a QueueName,
        name: &'a str,
        page: &'a Page,
    ) -> Answer<'a, LimitKeyPage> {
        Box::pin(async move {
            let queue = self.stored(queue);
            self.answer(self.inner.limit_keys(&queue, name, page)).await
        })
    }
}
