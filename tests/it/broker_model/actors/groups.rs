//! What aggregators do: they take groups as sets, and make one job of each.

use rocket_jobqueue::internals::{Broker, Enqueued, GroupInfo, GroupLimits, GroupSet, Groups};
use rocket_jobqueue::{JobRecord, QueueName, Timestamp, inspect::Page};

use super::{Actors, Twice, alike, plain};
use crate::broker_model::operation::{GROUPS, New};

/// The groups of a queue, and its sets by what can be compared of them.
pub type Grouped = (Vec<GroupInfo>, Vec<(Timestamp, String, u64)>);

pub async fn groups_of(store: &dyn Broker, queue: &QueueName) -> Result<Grouped, String> {
    let page = store.groups(queue, &Page::default()).await.map_err(|e| format!("{e:?}"))?;
    let sets = store.aggregations(queue).await.map_err(|e| format!("{e:?}"))?;
    let mut groups = page.groups;
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    let mut sets: Vec<_> = sets.into_iter().map(|set| (set.expires, set.group, set.size)).collect();
    // Each store has its own ids for sets.
    sets.sort();
    Ok((groups, sets))
}

fn comparable(set: &GroupSet) -> (String, Timestamp, Vec<JobRecord>) {
    (set.group.clone(), set.expires, set.jobs.iter().map(plain).collect())
}

impl Actors {
    pub(super) async fn ready(&mut self, queue: usize, limits: &GroupLimits) -> Result<(), String> {
        let name = &self.queues[queue];
        let memory = self.memory.ready_groups(name, limits, 0).await;
        let redis = self.redis.ready_groups(name, limits, 0).await;
        let mut memory = memory.map_err(|e| format!("{e:?}"))?;
        let mut redis = redis.map_err(|e| format!("{e:?}"))?;
        memory.ready.sort();
        redis.ready.sort();
        alike("groups that are ready", &memory, &redis)
    }

    pub(super) async fn claim_group(
        &mut self,
        queue: usize,
        group: usize,
        limits: &GroupLimits,
    ) -> Result<(), String> {
        // One that has jobs, if there is any.
        let waiting = |&(queue, group): &(usize, usize)| {
            let groups = self.seen[queue].groups.as_ref();
            groups.is_some_and(|(some, _)| some.iter().any(|one| one.group == GROUPS[group]))
        };
        let near = [(queue, group), (queue, 1 - group), (1 - queue, group), (1 - queue, 1 - group)];
        let (queue, group) = near.into_iter().find(waiting).unwrap_or((queue, group));
        self.touched[queue] = true;
        let (name, group) = (&self.queues[queue], GROUPS[group]);
        let memory = self.memory.claim_group(name, group, limits).await;
        let redis = self.redis.claim_group(name, group, limits).await;
        let (memory, redis) =
            (memory.map_err(|e| format!("{e:?}"))?, redis.map_err(|e| format!("{e:?}"))?);
        let (set, too) = (memory.as_ref().map(comparable), redis.as_ref().map(comparable));
        alike("sets", &set, &too)?;
        self.sets.extend(memory.zip(redis));
        Ok(())
    }

    fn set(&mut self, pick: usize) -> Option<Twice<GroupSet>> {
        let sets = self.sets.len();
        (sets > 0).then(|| self.sets[pick % sets].clone())
    }

    /// The aggregator keeps the set: it may well try once more.
    pub(super) async fn aggregate(&mut self, pick: usize, new: &New) -> Result<(), String> {
        let Some((set, too)) = self.set(pick) else { return Ok(()) };
        let queue = self.index(&set.queue);
        self.touched[queue] = true;
        // Mostly an id that is free.
        let free = self.seen[queue].jobs.iter().position(Option::is_none);
        let name = free.filter(|_| !pick.is_multiple_of(4)).unwrap_or(new.name);
        let job = self.job(&New { queue, name, ..new.clone() });
        let memory = self.memory.aggregate(&set, &job).await.map_err(|e| format!("{e:?}"))?;
        let redis = self.redis.aggregate(&too, &job).await.map_err(|e| format!("{e:?}"))?;
        alike("outcomes of an aggregation", &memory, &redis)?;
        if let Some(Enqueued::Created { .. } | Enqueued::Replayed { .. }) = memory {
            for job in &set.jobs {
                self.alive.remove(&(queue, job.id.clone()));
            }
        }
        if let Some(Enqueued::Created { .. }) = memory {
            self.alive.insert((queue, job.record.id));
        }
        Ok(())
    }

    pub(super) async fn return_set(&mut self, pick: usize) -> Result<(), String> {
        let Some((set, too)) = self.set(pick) else { return Ok(()) };
        let queue = self.index(&set.queue);
        self.touched[queue] = true;
        self.memory.return_set(&set).await.map_err(|e| format!("{e:?}"))?;
        self.redis.return_set(&too).await.map_err(|e| format!("{e:?}"))
    }

    pub(super) async fn repair_groups(&mut self, queue: usize) -> Result<(), String> {
        self.touched[queue] = true;
        let name = &self.queues[queue];
        let memory = self.memory.repair_groups(name, 100).await.map_err(|e| format!("{e:?}"))?;
        let redis = self.redis.repair_groups(name, 100).await.map_err(|e| format!("{e:?}"))?;
        alike("how many sets went back", &memory.returned, &redis.returned)
    }
}
