//! The check-up of a store: what lies there that no operation leaves behind, and
//! what of it can be repaired without guessing.

use serde::Serialize;

use super::Answer;
use crate::job::QueueName;

/// Most entries that a finding names.
const SAMPLES: usize = 5;

/// What is wrong. Each kind says what a repair does, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueFindingKind"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// An id whose job is gone, as after an eviction. Removed.
    Ghost,
    /// An id in a place which its job has left for another. Removed there.
    Stray,
    /// A job that is in one place only, and its state names another. The state
    /// is corrected.
    WrongState,
    /// An id that is in a list twice. One of them is removed.
    Duplicate,
    /// A running job without a lease, which nobody would recover. It gets one
    /// that its owner may extend, and is recovered otherwise.
    ActiveWithoutLease,
    /// A lease of a job that does not run is removed; where the job does run, it
    /// is added to the running ones.
    LeaseWithoutActive,
    /// The exact due time of a job that does not wait any more. Removed.
    StaleDueTime,
    /// The remains of a job without its message, which keep its id in use. Removed.
    Stub,
    /// A job in no place at all. Put back where its state says, in line where its
    /// time is not known any more. Not done by itself: it may run a second time.
    Orphan,
    /// A unique lock whose job is gone or has ended. Released.
    LockWithoutHolder,
    /// A group with jobs that no aggregator would look at. Made known.
    UnlistedGroup,
    /// Jobs that were being aggregated, which nobody would take back. Made known.
    UnlistedSet,
    /// The name of an aggregation that has ended. Removed.
    DeadSet,
    /// Jobs whose aggregation should have ended five minutes ago: no aggregator
    /// is at work.
    OverdueSet,
    /// A key of another type than the protocol's: the queue cannot be served.
    /// While there is one, nothing else of the queue is repaired.
    WrongType,
    /// A key that neither Asynq nor this crate writes.
    UnknownKey,
    /// A message that cannot be decoded. Archived, with its bytes as they are,
    /// by whoever takes the job.
    UnreadableMessage,
    /// A counter that is no number.
    BadCounter,
    /// A queue name that other readers or a Redis Cluster stumble over.
    ForeignQueueName,
    /// The store may throw jobs away when it is full. Set `maxmemory-policy` to
    /// `noeviction`.
    EvictionPolicy,
    /// The store may throw unique locks and idempotency keys away when it is full. Set
    /// `maxmemory-policy` to `noeviction`.
    LockEviction,
    /// The store forgets all jobs when it restarts. Switch on the append-only
    /// file.
    NoPersistence,
    /// The store's version is older than 6.2.
    OldServer,
    /// The store's clock and this host's differ by more than a second. Harmless to
    /// this crate, which goes by the store's; not to Go workers.
    ClockSkew,
    /// The store refused to be looked at.
    CheckRefused,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueFindingStatus"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingStatus {
    /// Nothing: there is no repair, or it could not be proved right within the
    /// time that a look may take.
    Reported,
    /// A repair is known and was not asked for.
    Repairable,
    /// Repaired.
    Repaired,
}

/// One thing that is wrong, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueFinding"))]
#[non_exhaustive]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// In which queue; `None` where it concerns the store.
    pub queue: Option<QueueName>,
    /// Where: a state, a set, or what the store calls it.
    pub place: String,
    /// How many entries. One that is moved while it is looked at may count twice.
    pub count: u64,
    /// Up to five of them, as their ids.
    pub samples: Vec<String>,
    /// What became of them.
    pub status: FindingStatus,
}

impl Finding {
    pub(crate) fn new(
        kind: FindingKind,
        queue: Option<&QueueName>,
        place: impl Into<String>,
        sample: impl Into<String>,
        status: FindingStatus,
    ) -> Self {
        let (queue, place) = (queue.cloned(), place.into());
        Self { kind, queue, place, count: 1, samples: vec![sample.into()], status }
    }
}

/// Findings as they come in, the same ones together.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one, to those of its kind and place if there are any.
    pub fn add(&mut self, new: Finding) {
        let same = |old: &&mut Finding| {
            (old.kind, &old.queue, &old.place, old.status)
                == (new.kind, &new.queue, &new.place, new.status)
        };
        let Some(old) = self.0.iter_mut().find(same) else {
            self.0.push(new);
            return;
        };
        old.count += new.count;
        for sample in new.samples {
            if old.samples.len() < SAMPLES && !old.samples.contains(&sample) {
                old.samples.push(sample);
            }
        }
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}

/// How far a check-up may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairScope {
    /// Nothing is changed.
    Nothing,
    /// What can lose no job and run none twice: done by every worker now and then.
    Provable,
    /// Also what puts jobs back in line that may have run.
    All,
}

/// Where a check-up of a queue goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint(pub(crate) String);

/// What one look found.
#[derive(Debug, Default)]
pub struct CheckedPage {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How many entries were looked at.
    pub entries_checked: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<Checkpoint>,
}

/// The check-up of a store.
pub trait Doctor: Send + Sync {
    /// Looks at the store itself: version, persistence, eviction, clock. A few
    /// commands.
    fn check_store(&self) -> Answer<'_, Vec<Finding>>;

    /// Looks at a part of one queue, some hundred entries, within a few
    /// milliseconds of the store's time.
    fn check_queue<'a>(
        &'a self,
        queue: &'a QueueName,
        page: Option<Checkpoint>,
        repair: RepairScope,
    ) -> Answer<'a, CheckedPage>;

    /// Repairs what is provable in the next part of a queue, unless another process
    /// did so within the last minute. Goes on where the last one ended.
    fn repair_provable<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<Finding>>;
}
