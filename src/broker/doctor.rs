//! The doctor: finds what no operation leaves behind in a store, and says which of it
//! can be repaired without guessing.
//!
//! Foreign workers, evictions, restored backups and damaged servers leave such
//! entries. Each kind is a [`FindingKind`] that says what its repair does. A repair
//! is *provable* if it can neither lose a job nor run one twice; workers make those
//! by themselves. The others need an operator.

use serde::Serialize;

use super::Answer;
use crate::job::QueueName;

/// Maximum entries that a finding names.
const MAX_SAMPLES: usize = 5;

/// What is wrong. Each kind says what its repair does, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueFindingKind"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// An id whose job is gone, as after an eviction. Removed.
    Ghost,
    /// A job of an Asynq before 0.18, which wrote the whole message where later versions write
    /// the id. Archived with its payload.
    OldEntry,
    /// An id in a list although its job is in another. Removed from that list.
    Stray,
    /// A job whose state names another list than the one it is in. The state is
    /// corrected.
    WrongState,
    /// An id that is in a list twice. One of them is removed.
    Duplicate,
    /// An active job without a lease, which would never be recovered. It gets a lease that its
    /// owner may extend; otherwise it is recovered.
    ActiveWithoutLease,
    /// A lease whose job is not in the active list. The lease is removed; if the job's state
    /// is active, the job is added to the list instead.
    LeaseWithoutActive,
    /// The exact due time of a job that no longer waits. Removed.
    StaleDueTime,
    /// A job's hash without a message, which keeps the id in use. Removed.
    Stub,
    /// A job that is in no list. Put into the list of its state, or into pending if its time
    /// is unknown. Only on request: the job may run a second time.
    Orphan,
    /// A unique lock whose job is gone or has ended. Released.
    LockWithoutHolder,
    /// An id that holds a place of a limit although its job does not run. Removed.
    LeakedPlace,
    /// A job that runs and has lost its place of a limit, which more jobs than allowed could use.
    /// It gets the place back.
    LostPlace,
    /// An id among those that wait for a limit although its job does not. Removed.
    StaleWait,
    /// A job that waits for a limit and is not among those that do. Put back at its turn.
    LostWait,
    /// A key of a limit that is in use and that nobody would look at. It is looked at at once.
    UnwatchedLimitKey,
    /// A group with jobs that no aggregator would find. Added to the groups.
    UnlistedGroup,
    /// An aggregation set that would never return to its group. Added to the sets.
    UnlistedSet,
    /// The name of an aggregation set without jobs. Removed.
    DeadSet,
    /// An aggregation set that expired five minutes ago or earlier: no aggregator runs.
    OverdueSet,
    /// A key whose Redis type is not the protocol's: the queue cannot be served. While there
    /// is one, nothing else of the queue is repaired. That of a limit's single key is deleted.
    WrongType,
    /// A key that neither Asynq nor this crate writes.
    UnknownKey,
    /// A message that cannot be decoded. The worker that dequeues the job archives it with
    /// its bytes as they are.
    UnreadableMessage,
    /// A counter that is not a number.
    BadCounter,
    /// A queue name that other readers or a Redis Cluster cannot handle.
    ForeignQueueName,
    /// Redis may evict jobs when its memory is full. Set `maxmemory-policy` to
    /// `noeviction`.
    EvictionPolicy,
    /// Redis may evict unique locks and idempotency keys when its memory is full. Set
    /// `maxmemory-policy` to `noeviction`.
    LockEviction,
    /// Redis loses all jobs when it restarts. Enable the append-only file.
    NoPersistence,
    /// The Redis version is older than 6.2.
    OldServer,
    /// The clocks of Redis and this host differ by more than a second. Harmless to this
    /// crate, which uses Redis' clock, but not to Go workers.
    ClockSkew,
    /// The store refused the check.
    CheckRefused,
}

/// What the doctor did about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueFindingStatus"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingStatus {
    /// Nothing: there is no repair, or it could not be proved right within the time limit of
    /// one script.
    Reported,
    /// A repair is known but was not requested.
    Repairable,
    /// Repaired.
    Repaired,
}

/// One kind of damage in one list or key, and how often it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueFinding"))]
#[non_exhaustive]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The queue; `None` if it concerns the whole store.
    pub queue: Option<QueueName>,
    /// Where it was found: a state, a set, or the store's own name for it.
    pub place: String,
    /// Number of entries. An entry that moves during the check may count twice.
    pub count: u64,
    /// The ids of at most five of them.
    pub samples: Vec<String>,
    /// What was done about them.
    pub status: FindingStatus,
}

impl Finding {
    /// A finding with one sample. [`Findings`] adds up the ones that are alike.
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

/// Collects findings, and merges equal kinds in the same place.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding.
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
            if old.samples.len() < MAX_SAMPLES && !old.samples.contains(&sample) {
                old.samples.push(sample);
            }
        }
    }

    /// The collected findings.
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}

/// What a check may repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairScope {
    /// Nothing.
    Nothing,
    /// Repairs that can neither lose a job nor run one twice. Workers make these about once a
    /// minute.
    Provable,
    /// Also repairs that make jobs pending which may have run already.
    All,
}

/// Where the check of a queue continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint(pub(crate) String);

/// The result of checking one page of a queue.
#[derive(Debug, Default)]
pub struct CheckedPage {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How many entries were checked.
    pub entries_checked: u64,
    /// Where to continue; `None` at the end.
    pub next: Option<Checkpoint>,
}

/// The doctor of a store.
pub trait Doctor: Send + Sync {
    /// Checks the store itself: version, persistence, eviction, clock. A few commands.
    fn check_store(&self) -> Answer<'_, Vec<Finding>>;

    /// Checks one page of a queue, some hundred entries, in a few milliseconds of the
    /// store's time.
    fn check_queue<'a>(
        &'a self,
        queue: &'a QueueName,
        page: Option<Checkpoint>,
        repair: RepairScope,
    ) -> Answer<'a, CheckedPage>;

    /// Makes the provable repairs of the next pages of a queue, unless another process did so
    /// within the last minute. Continues where the last call ended.
    fn repair_provable<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<Finding>>;
}
