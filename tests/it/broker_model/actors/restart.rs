//! The store on disk ends and is opened again from its rows, at any point of a sequence.
//!
//! A restart ends all leases, and nothing else that can be seen. Redis knows of no restart, so
//! the leases there are given the same ends.

use rocket_jobqueue::Clock;
use rocket_jobqueue::internals::disk::{RowMap, open_rows};
use rocket_jobqueue::internals::{ArchiveSettings, Broker, Inspect, MemoryBroker, Repeat};

use super::Actors;
use crate::broker_model::operation::Operation;

/// What stays of a store when its process ends.
pub struct Kept {
    rows: RowMap,
    archive: ArchiveSettings,
    opened: u64,
}

impl Kept {
    pub fn new(archive: ArchiveSettings) -> Kept {
        Kept { rows: RowMap::default(), archive, opened: 1 }
    }

    pub fn open(&self, clock: &Clock) -> MemoryBroker {
        let (rows, archive) = (self.rows.clone(), self.archive.clone());
        open_rows(rows, self.opened, clock.clone(), archive).expect("rows in order")
    }
}

impl Operation {
    /// Whether its answer promises that everything it did survives the process. What the others
    /// do is done again if it is lost, or belongs to an attempt that ends with the process.
    pub(super) fn promises(&self) -> bool {
        !matches!(
            self,
            Self::Forward { .. }
                | Self::Recover { .. }
                | Self::Expire { .. }
                | Self::Trim { .. }
                | Self::Extend { .. }
                | Self::ExtendAgain { .. }
                | Self::Note { .. }
                | Self::ReturnSet { .. }
                | Self::MendGroups { .. }
        )
    }
}

impl Actors {
    /// Writes what nobody was promised, so that a restart may come next.
    pub(super) async fn write_all(&mut self) -> Result<(), String> {
        self.memory.enqueue(&[]).await.map(drop).map_err(|e| format!("{e:?}"))
    }

    /// Opens the store on disk again; does nothing without one.
    pub(super) async fn restart(&mut self, killed: bool) -> Result<(), String> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        let rows_now = kept.rows.copied();
        // Ends the last process, which writes what it has left.
        self.memory = MemoryBroker::new(self.clock.clone());
        if killed {
            kept.rows = rows_now;
        }
        kept.opened += 1;
        self.memory = kept.open(&self.clock);
        for queue in 0..2 {
            self.expire_in_redis(queue).await?;
        }
        self.touched = [true; 2];
        Ok(())
    }

    /// Gives the active jobs in Redis the ends that their leases have on disk.
    async fn expire_in_redis(&self, queue: usize) -> Result<(), String> {
        let name = &self.queues[queue];
        for id in &self.names {
            let info = self.memory.job(name, id).await.map_err(|e| format!("{e:?}"))?;
            let Some(ends) = info.and_then(|info| info.lease_ends) else { continue };
            let (secs, micros) = (ends.as_secs(), ends.as_micros() % 1_000_000);
            let (key, score) = (format!("asynq:{{{name}}}:lease"), format!("{secs}.{micros:06}"));
            let end = |_| {
                let mut command = redis::cmd("ZADD");
                command.arg(&key).arg("XX").arg(&score).arg(id.as_str());
                command
            };
            self.pool.run(Repeat::Safe, end).await.map_err(|e| format!("{e:?}"))?;
        }
        Ok(())
    }
}
