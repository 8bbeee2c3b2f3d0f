//! What the actors do, without what it does: choices are numbers that mean
//! something whatever was left out before.

use std::time::Duration;

use fastrand::Rng;
use rocket_jobqueue::internals::GroupLimits;
use rocket_jobqueue::{JobState, OnConflict, Until, handler::AfterCancel};

/// How many ids there are in each of the two queues.
pub const NAMES: usize = 6;

/// The groups; a name may have a colon, by which Asynq divides it from a set's.
pub const GROUPS: [&str; 2] = ["group", "group:1"];

/// One step of a sequence.
#[derive(Clone, Debug)]
pub enum Operation {
    Enqueue(Vec<New>),
    /// A worker dequeues up to `most` jobs from one queue or both, in this order.
    Take {
        worker: usize,
        queues: Vec<usize>,
        most: usize,
    },
    /// A worker settles some of its jobs, which may not be its own any more.
    Settle {
        worker: usize,
        picks: Vec<usize>,
        how: How,
    },
    /// A worker settles a job once more, or one that it lost long ago.
    SettleAgain {
        pick: usize,
        how: How,
    },
    Extend {
        worker: usize,
    },
    ExtendAgain {
        pick: usize,
    },
    Forward {
        queue: usize,
        limit: usize,
    },
    /// The recoverer searches, and makes pending what it found.
    Recover {
        queue: usize,
        limit: usize,
        archive: bool,
    },
    Expire {
        queue: usize,
        limit: usize,
    },
    Pause {
        queue: usize,
        paused: bool,
    },
    /// An operator cancels a running job.
    Cancel {
        queue: usize,
        name: usize,
        after: AfterCancel,
    },
    /// A worker writes what one of its jobs reports.
    Note {
        worker: usize,
        pick: usize,
        progress: bool,
    },
    /// The operator acts on a job, wherever it is.
    Act {
        queue: usize,
        name: usize,
        what: Do,
    },
    Edit {
        queue: usize,
        name: usize,
        payload: usize,
    },
    /// The operator begins an action on many, `limit` at a time, and makes some
    /// steps of it.
    Sweep {
        queue: usize,
        what: Do,
        of: Of,
        limit: u64,
        steps: usize,
    },
    /// Goes on with it, whatever has happened since.
    SweepOn {
        steps: usize,
    },
    /// An aggregator looks for groups, takes one as a set, and makes one job of a
    /// set it has or had, or gives it back.
    Ready {
        queue: usize,
        limits: GroupLimits,
    },
    TakeGroup {
        queue: usize,
        group: usize,
        limits: GroupLimits,
    },
    Aggregate {
        pick: usize,
        job: New,
    },
    ReturnSet {
        pick: usize,
    },
    MendGroups {
        queue: usize,
    },
    Trim {
        queue: usize,
        limit: usize,
    },
    DeleteQueue {
        queue: usize,
        force: bool,
    },
    /// The operator reads some pages of a list from its beginning.
    List {
        queue: usize,
        of: Of,
        size: u32,
        pages: usize,
    },
    /// Reads on where the last page ended, whatever has happened since.
    ReadOn {
        pages: usize,
    },
    Wait(Step),
    /// The process of a store on disk ends and the next one opens it. One that is killed writes
    /// nothing more.
    Restart {
        killed: bool,
    },
}

/// A job to be stored.
#[derive(Clone, Debug)]
pub struct New {
    pub queue: usize,
    pub name: usize,
    pub job_type: usize,
    pub placement: Due,
    pub payload: Option<usize>,
    /// Seconds, when the lock ends, and whether it has a key of its own.
    pub unique: Option<(u64, Until, bool)>,
    pub on_conflict: OnConflict,
    /// Key and body.
    pub guard: Option<(u8, u8)>,
    pub group: Option<usize>,
    /// Seconds within which it must start; not of a group's job.
    pub expires_in: Option<u64>,
    /// Seconds.
    pub retention: u64,
    pub max_retry: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Due {
    Now,
    /// Microseconds from now.
    After(u64),
    /// Microseconds from now as an instant, perhaps past.
    At(i64),
}

/// What is done to jobs that do not run.
#[derive(Clone, Copy, Debug)]
pub enum Do {
    Run,
    RunNext,
    Archive,
    Delete,
    Reschedule(Due),
}

/// Which jobs: of a state or of a group, all or of a type.
#[derive(Clone, Copy, Debug)]
pub struct Of {
    pub state: JobState,
    pub group: Option<usize>,
    pub job_type: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
pub enum How {
    Complete,
    CompleteWith(u8),
    Revoke,
    /// Microseconds.
    Retry(u64),
    Snooze(u64),
    /// Put off without an attempt, with a reason.
    Postpone(u64),
    Archive,
    Requeue,
    Reclaim,
}

/// How far the clock goes.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Micros(u64),
    /// To the earliest due time, or a microsecond short of it.
    Due {
        short: bool,
    },
    LeaseEnd {
        short: bool,
    },
    Midnight {
        short: bool,
    },
}

impl Operation {
    pub fn sequence(seed: u64, length: usize) -> Vec<Operation> {
        // Neighbouring seeds shall have nothing in common.
        let rng = &mut Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D);
        (0..length).map(|_| Self::random(rng)).collect()
    }

    /// The same with restarts in between: after every fourth operation or so, and after each one
    /// of every eighth sequence.
    pub fn sequence_with_restarts(seed: u64, length: usize) -> Vec<Operation> {
        let mut rng = Rng::with_seed(seed);
        let one_in = if seed.is_multiple_of(8) { 1 } else { 4 };
        let mut operations = Vec::new();
        for operation in Self::sequence(seed, length) {
            operations.push(operation);
            if rng.u32(0..one_in) == 0 {
                operations.push(Self::Restart { killed: rng.bool() });
            }
        }
        operations
    }

    fn random(rng: &mut Rng) -> Operation {
        let (queue, worker) = (rng.usize(0..2), rng.usize(0..2));
        match rng.u32(0..100) {
            0..18 => {
                let count = [1, 1, 1, 2, 4][rng.usize(0..5)];
                Self::Enqueue((0..count).map(|_| New::random(rng)).collect())
            }
            18..31 => {
                let queues = [vec![0], vec![1], vec![0, 1], vec![1, 0]][rng.usize(0..4)].clone();
                Self::Take { worker, queues, most: rng.usize(1..4) }
            }
            31..42 => {
                let picks = (0..rng.usize(1..4)).map(|_| rng.usize(0..64)).collect();
                Self::Settle { worker, picks, how: How::random(rng) }
            }
            42..44 => Self::SettleAgain { pick: rng.usize(0..64), how: How::random(rng) },
            44..47 => Self::Extend { worker },
            47 => Self::ExtendAgain { pick: rng.usize(0..64) },
            48..54 => Self::Forward { queue, limit: [1, 2, 100][rng.usize(0..3)] },
            54..58 => Self::Recover { queue, limit: rng.usize(1..4), archive: rng.u32(0..5) == 0 },
            58 | 59 => Self::Expire { queue, limit: rng.usize(1..4) },
            60 => Self::Pause { queue, paused: rng.bool() },
            61 | 62 => {
                let after = [AfterCancel::Retry, AfterCancel::Archive, AfterCancel::Delete];
                Self::Cancel { queue, name: rng.usize(0..NAMES), after: after[rng.usize(0..3)] }
            }
            63 => Self::Note { worker, pick: rng.usize(0..64), progress: rng.bool() },
            64 => Self::Ready { queue, limits: limits(rng) },
            65..69 => {
                Self::TakeGroup { queue, group: rng.usize(0..GROUPS.len()), limits: limits(rng) }
            }
            69..72 => Self::Aggregate { pick: rng.usize(0..8), job: New::random(rng) },
            72 => Self::ReturnSet { pick: rng.usize(0..8) },
            73 => Self::MendGroups { queue },
            74 => Self::List {
                queue,
                of: Of::random(rng),
                size: rng.u32(1..4),
                pages: [1, 100][rng.usize(0..2)],
            },
            75 => Self::ReadOn { pages: rng.usize(1..3) },
            76..82 => Self::Act { queue, name: rng.usize(0..NAMES), what: Do::random(rng) },
            82 => Self::Edit { queue, name: rng.usize(0..NAMES), payload: rng.usize(0..3) },
            83..87 => Self::Sweep {
                queue,
                what: Do::random_to_many(rng),
                of: Of::random(rng),
                limit: [1, 2, 200][rng.usize(0..3)],
                steps: [1, 2, 100][rng.usize(0..3)],
            },
            87 => Self::SweepOn { steps: rng.usize(1..3) },
            88 => Self::Trim { queue, limit: rng.usize(1..4) },
            89 => Self::DeleteQueue { queue, force: rng.u32(0..4) > 0 },
            _ => Self::Wait(Step::random(rng)),
        }
    }
}

fn limits(rng: &mut Rng) -> GroupLimits {
    GroupLimits {
        grace: Duration::from_millis([500, 1_000, 60_000][rng.usize(0..3)]),
        max_delay: Duration::from_secs([0, 0, 2][rng.usize(0..3)]),
        max_size: [0, 1, 1, 2][rng.usize(0..4)],
    }
}

impl New {
    pub fn random(rng: &mut Rng) -> New {
        New {
            queue: rng.usize(0..2),
            name: rng.usize(0..NAMES),
            job_type: rng.usize(0..2),
            placement: if rng.u32(0..10) < 6 { Due::Now } else { Due::random(rng) },
            payload: (rng.u32(0..4) > 0).then(|| rng.usize(0..3)),
            unique: (rng.u32(0..4) == 0).then(|| {
                let ends = [Until::Success, Until::Success, Until::Start, Until::Expiry];
                ([30, 61, 3_600][rng.usize(0..3)], ends[rng.usize(0..4)], rng.u32(0..4) == 0)
            }),
            on_conflict: match rng.u32(0..6) {
                0 => OnConflict::Replace,
                1 => OnConflict::ReplaceJob,
                2 => OnConflict::Extend,
                _ => OnConflict::Reject,
            },
            guard: (rng.u32(0..6) == 0).then(|| (rng.u8(0..2), rng.u8(0..2))),
            group: (rng.u32(0..4) == 0).then(|| rng.usize(0..GROUPS.len())),
            expires_in: (rng.u32(0..4) == 0).then(|| [1, 30, 3_600][rng.usize(0..3)]),
            retention: [0, 0, 1, 60, 90_000][rng.usize(0..5)],
            max_retry: rng.u32(0..3),
        }
    }
}

impl Due {
    fn random(rng: &mut Rng) -> Due {
        let micros = [1, 400_000, 999_999, 1_000_000, 1_500_000, 30_000_000, 3_600_000_000];
        let some: u64 = micros[rng.usize(0..micros.len())];
        match rng.u32(0..4) {
            0 | 1 => Self::After(some),
            2 => Self::At(some.cast_signed()),
            _ => Self::At(-some.cast_signed()),
        }
    }
}

impl Do {
    /// One job can be the next, many cannot.
    fn random_to_many(rng: &mut Rng) -> Do {
        match Self::random(rng) {
            Self::RunNext => Self::Run,
            other => other,
        }
    }

    fn random(rng: &mut Rng) -> Do {
        match rng.u32(0..9) {
            8 => Self::RunNext,
            0..2 => Self::Run,
            2..4 => Self::Archive,
            4 => Self::Delete,
            5 => Self::Reschedule(Due::Now),
            _ => Self::Reschedule(Due::random(rng)),
        }
    }
}

impl Of {
    fn random(rng: &mut Rng) -> Of {
        let states = JobState::ALL;
        let mut of = Of { state: states[rng.usize(0..states.len())], group: None, job_type: None };
        if of.state == JobState::Aggregating {
            of.group = Some(rng.usize(0..GROUPS.len()));
        }
        of.job_type = (rng.u32(0..3) == 0).then(|| rng.usize(0..2));
        of
    }
}

impl How {
    fn random(rng: &mut Rng) -> How {
        let micros = [0, 1, 500_000, 1_000_000, 60_000_000][rng.usize(0..5)];
        match rng.u32(0..16) {
            0..3 => Self::Complete,
            3..5 => Self::CompleteWith(rng.u8(0..3)),
            5 => Self::Revoke,
            6..9 => Self::Retry(micros),
            9 => Self::Snooze(micros),
            10 => Self::Postpone(micros),
            11..13 => Self::Archive,
            13..15 => Self::Requeue,
            _ => Self::Reclaim,
        }
    }
}

impl Step {
    fn random(rng: &mut Rng) -> Step {
        let short = rng.bool();
        match rng.u32(0..10) {
            0 => Self::Micros(1),
            1 => Self::Micros(500_000),
            2 => Self::Micros(1_000_000),
            3 => Self::Micros(31_000_000),
            4 => Self::Micros(3_600_000_000),
            5 if rng.u32(0..4) == 0 => Self::Micros(91 * 86_400_000_000),
            5 => Self::Micros(10_000_001),
            6 | 7 => Self::Due { short },
            8 => Self::LeaseEnd { short },
            _ => Self::Midnight { short },
        }
    }
}

pub fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}
