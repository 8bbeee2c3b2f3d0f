//! rusty-sidekiq 0.15.2. It has no call for several jobs: a bulk is a loop.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sidekiq::{Processor, ProcessorConfig, RedisConnectionManager, RedisPool, Worker};

use crate::common::{Options, Outcome};
use crate::scenarios::{Noop, Notes, Queue};

/// Connections besides one for each caller or slot, which waits for jobs on it.
const SPARE: u32 = 16;

#[derive(Clone)]
pub struct Sidekiq(RedisPool);

impl Sidekiq {
    pub async fn open(options: &Options) -> Outcome<Self> {
        let manager = RedisConnectionManager::new(options.redis.as_str())?;
        let size = options.concurrency.max(64) as u32 + SPARE;
        Ok(Self(bb8::Pool::builder().max_size(size).build(manager).await?))
    }
}

struct NoopWorker(Arc<Notes>);

#[async_trait]
impl Worker<Noop> for NoopWorker {
    async fn perform(&self, job: Noop) -> sidekiq::Result<()> {
        self.0.run(job).await;
        Ok(())
    }
}

impl Queue for Sidekiq {
    async fn enqueue(&self, job: Noop, after: Duration) -> Outcome<()> {
        if after.is_zero() {
            NoopWorker::perform_async(&self.0, job).await?;
        } else {
            NoopWorker::perform_in(&self.0, after, job).await?;
        }
        Ok(())
    }

    async fn work(&self, concurrency: usize, notes: Arc<Notes>) -> Outcome<()> {
        let config = ProcessorConfig::default().num_workers(concurrency);
        let mut processor = Processor::new(self.0.clone(), vec!["default".to_owned()]);
        processor.register(NoopWorker(notes));
        tokio::spawn(processor.with_config(config).run());
        Ok(())
    }
}
