//! A store that this process opens itself: Redis, a Cluster, Sentinels, or a folder on disk.

use std::time::Duration;

use async_trait::async_trait;
use rocket_jobqueue::handler::AfterCancel;
use rocket_jobqueue::inspect::{Cancelled, Page, WorkerUpdate};
use rocket_jobqueue::settings::AlertSettings;
use rocket_jobqueue::{Client, Inspector, JobId, QueueName};
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Outcome};
use crate::store::{JobPlace, NewJob, Store, Then, Verb, WorkerChange};

/// The library's own client and inspector.
pub(crate) struct Direct {
    client: Client,
    inspector: Inspector,
    /// Of the application's configuration, or the defaults.
    thresholds: AlertSettings,
}

impl Direct {
    pub fn new(client: Client, thresholds: AlertSettings) -> Self {
        Self { inspector: client.inspector(), client, thresholds }
    }
}

/// Who asks, as the system names them.
fn operator() -> String {
    let name = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    name.unwrap_or_else(|| "terminal".to_owned())
}

/// The JSON of REST.
fn value(of: impl Serialize) -> Outcome<Value> {
    serde_json::to_value(of).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

fn names(place: &JobPlace) -> Outcome<(QueueName, JobId)> {
    Ok((place.queue.parse()?, place.id.parse()?))
}

fn page(size: u32, cursor: Option<&str>) -> Outcome<Page> {
    let page = match cursor {
        Some(cursor) => Page::after(cursor.parse()?),
        None => Page::default(),
    };
    Ok(page.size(size)?)
}

#[async_trait]
impl Store for Direct {
    fn describe(&self) -> String {
        self.client.describe()
    }

    async fn queues(&self) -> Outcome<Value> {
        Ok(json!({ "queues": value(self.inspector.all_queues().await?)? }))
    }

    async fn queue(&self, queue: &str) -> Outcome<Value> {
        value(self.inspector.queue(&queue.parse()?).await?)
    }

    async fn history(&self, queue: &str, days: u32) -> Outcome<Value> {
        Ok(json!({ "days": value(self.inspector.history(&queue.parse()?, days).await?)? }))
    }

    async fn minutes(&self, queue: &str) -> Outcome<Value> {
        Ok(json!({ "minutes": value(self.inspector.last_hour(&queue.parse()?).await?)? }))
    }

    async fn memory(&self, queue: &str) -> Outcome<Value> {
        value(self.inspector.memory(&queue.parse()?).await?)
    }

    async fn groups(&self, queue: &str, cursor: Option<&str>) -> Outcome<Value> {
        value(self.inspector.groups(&queue.parse()?, &page(100, cursor)?).await?)
    }

    async fn pause(&self, queue: &str, pause: bool) -> Outcome {
        let queue = queue.parse()?;
        // Redis pauses a queue that does not exist; a misspelt name must not succeed.
        self.inspector.queue(&queue).await?;
        match pause {
            true => self.inspector.pause(&queue).await?,
            false => self.inspector.resume(&queue).await?,
        };
        Ok(())
    }

    async fn delete_queue(&self, queue: &str, force: bool) -> Outcome {
        Ok(self.inspector.delete_queue(&queue.parse()?, force).await?)
    }

    async fn search(&self, query: &str, size: u32, cursor: Option<&str>) -> Outcome<Value> {
        value(self.inspector.search(query, &page(size, cursor)?).await?)
    }

    async fn group_jobs(
        &self,
        queue: &str,
        group: &str,
        size: u32,
        cursor: Option<&str>,
    ) -> Outcome<Value> {
        let page = page(size, cursor)?;
        value(self.inspector.group_jobs(&queue.parse()?, group, &page).await?)
    }

    async fn find(&self, id: &str) -> Outcome<Vec<Value>> {
        let found = self.inspector.find(&id.parse()?).await?;
        found.into_iter().map(value).collect()
    }

    async fn job(&self, place: &JobPlace) -> Outcome<Value> {
        let (queue, id) = names(place)?;
        match self.inspector.job(&queue, &id).await? {
            Some(info) => value(info),
            None => {
                let JobPlace { queue, id } = place;
                let missing = format!("queue {queue:?} has no job {id:?}");
                Err(Failure::new(Exit::NotFound, missing))
            }
        }
    }

    async fn explain(&self, place: &JobPlace) -> Outcome<Value> {
        let (queue, id) = names(place)?;
        value(self.inspector.explain(&queue, &id).await?)
    }

    async fn act(&self, place: &JobPlace, verb: Verb) -> Outcome {
        let (queue, id) = names(place)?;
        match verb {
            Verb::Run => self.inspector.run(&queue, &id).await?,
            Verb::Archive => self.inspector.archive(&queue, &id).await?,
            Verb::Delete => self.inspector.delete(&queue, &id).await?,
        }
        Ok(())
    }

    async fn cancel(&self, place: &JobPlace, then: Then) -> Outcome<String> {
        let (queue, id) = names(place)?;
        let after = match then {
            Then::Retry => AfterCancel::Retry,
            Then::Archive => AfterCancel::Archive,
            Then::Delete => AfterCancel::Delete,
        };
        match self.inspector.cancel(&queue, &id, after).await? {
            Cancelled::Requested => Ok("requested".to_owned()),
            Cancelled::Done => Ok("done".to_owned()),
            Cancelled::NotRunning(state) => Err(Failure::new(
                Exit::Refused,
                format!("job {:?} is {state}: there is no attempt to end", place.id),
            )),
            _ => Err(Failure::new(Exit::Failed, "the cancellation has an unknown outcome")),
        }
    }

    async fn edit(&self, place: &JobPlace, payload: &[u8]) -> Outcome {
        let (queue, id) = names(place)?;
        Ok(self.inspector.edit_payload(&queue, &id, payload).await?)
    }

    async fn enqueue(&self, job: &NewJob) -> Outcome<Value> {
        /// How long an answer is waited for, with safe repetitions.
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut draft = self.client.enqueue_raw(&job.job_type, Some(job.payload.clone()));
        if let Some(queue) = &job.queue {
            draft = draft.queue(queue.clone());
        }
        if let Some(delay) = job.delay {
            draft = draft.delay(delay);
        }
        if let Some(most) = job.max_retry {
            draft = draft.max_retry(most);
        }
        if let Some(limit) = job.expires {
            draft = draft.expires_in(limit);
        }
        if let Some(lock) = job.unique {
            draft = draft.unique_for(lock);
        }
        let receipt = draft.confirm_within(PATIENCE).await?;
        Ok(json!({ "job_id": value(&receipt.id)?, "queue": value(&receipt.queue)? }))
    }

    async fn periodic(&self) -> Outcome<Value> {
        Ok(json!({ "periodic": value(self.inspector.periodic_jobs().await?)? }))
    }

    async fn runs(&self, periodic: &str, size: u32) -> Outcome<Value> {
        let runs = self.inspector.periodic_history(periodic, &page(size, None)?).await?;
        Ok(json!({ "runs": value(runs)? }))
    }

    async fn run_periodic(&self, periodic: &str) -> Outcome<String> {
        Ok(self.inspector.fire(periodic).await?.to_string())
    }

    async fn servers(&self) -> Outcome<Value> {
        value(self.inspector.servers().await?)
    }

    async fn change_workers(&self, id: Option<&str>, change: &WorkerChange) -> Outcome<u64> {
        let mut update = WorkerUpdate::new().by(operator());
        match change.quiet {
            Some(true) => update = update.quiet(),
            Some(false) => update = update.resume(),
            None => {}
        }
        match change.concurrency {
            Some(Some(slots)) => update = update.concurrency(slots),
            Some(None) => update = update.configured_concurrency(),
            None => {}
        }
        for (queue, weight) in &change.weights {
            let queue = queue.parse()?;
            update = match weight {
                Some(weight) => update.weight(queue, *weight),
                None => update.configured_weight(queue),
            };
        }
        if let Some(time) = change.lasting {
            update = update.lasting(time);
        }
        match id {
            Some(id) => {
                self.inspector.update_worker(id, &update).await?;
                Ok(1)
            }
            None => Ok(self.inspector.update_workers(&update).await? as u64),
        }
    }

    async fn info(&self) -> Outcome<Value> {
        value(self.inspector.store().await?)
    }

    async fn alerts(&self) -> Outcome<Value> {
        value(self.inspector.alerts(&self.thresholds).await?)
    }

    async fn doctor(&self, repair: bool) -> Outcome<Value> {
        let run = self.inspector.doctor();
        value(if repair { run.repair().await? } else { run.await? })
    }
}
