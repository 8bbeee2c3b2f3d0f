//! What the actors do, without what it does: choices are numbers that mean
//! something whatever was left out before.

use std::time::Duration;

use fastrand::Rng;
use rocket_jobqueue::{AfterCancel, JobState};

/// How many ids there are in each of the two queues.
pub const NAMES: usize = 6;

/// One step of a sequence.
#[derive(Clone, Debug)]
pub enum Operation {
    Enqueue(Vec<New>),
    /// A worker takes up to `most` jobs from one queue or both, in this order.
    Take {
        worker: usize,
        queues: Vec<usize>,
        most: usize,
    },
    /// A worker ends some of the jobs in its hands, which may not be its own any
    /// more.
    Settle {
        worker: usize,
        picks: Vec<usize>,
        how: How,
    },
    /// Somebody ends a job once more, or one that was lost long ago.
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
    /// The recoverer looks, and puts back in line what it found.
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
    /// Somebody wants a running job to end.
    Cancel {
        queue: usize,
        name: usize,
        after: AfterCancel,
    },
    /// A worker writes what a job in its hands has to say.
    Note {
        worker: usize,
        pick: usize,
        progress: bool,
    },
    /// The operator looks at a list.
    List {
        queue: usize,
        state: JobState,
    },
    Wait(Step),
}

/// A job to be stored.
#[derive(Clone, Debug)]
pub struct New {
    pub queue: usize,
    pub name: usize,
    pub placement: Due,
    pub payload: u8,
    /// Seconds.
    pub unique: Option<u64>,
    /// Key and body.
    pub guard: Option<(u8, u8)>,
    pub group: Option<u8>,
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

    fn random(rng: &mut Rng) -> Operation {
        let (queue, worker) = (rng.usize(0..2), rng.usize(0..2));
        match rng.u32(0..100) {
            0..22 => {
                let count = [1, 1, 1, 2, 4][rng.usize(0..5)];
                Self::Enqueue((0..count).map(|_| New::random(rng)).collect())
            }
            22..40 => {
                let queues = [vec![0], vec![1], vec![0, 1], vec![1, 0]][rng.usize(0..4)].clone();
                Self::Take { worker, queues, most: rng.usize(1..4) }
            }
            40..56 => {
                let picks = (0..rng.usize(1..4)).map(|_| rng.usize(0..64)).collect();
                Self::Settle { worker, picks, how: How::random(rng) }
            }
            56..60 => Self::SettleAgain { pick: rng.usize(0..64), how: How::random(rng) },
            60..64 => Self::Extend { worker },
            64..66 => Self::ExtendAgain { pick: rng.usize(0..64) },
            66..74 => Self::Forward { queue, limit: [1, 2, 100][rng.usize(0..3)] },
            74..80 => Self::Recover { queue, limit: rng.usize(1..4), archive: rng.u32(0..5) == 0 },
            80..83 => Self::Expire { queue, limit: rng.usize(1..4) },
            83..85 => Self::Pause { queue, paused: rng.bool() },
            85 | 86 => {
                let after = [AfterCancel::Retry, AfterCancel::Archive, AfterCancel::Delete];
                Self::Cancel { queue, name: rng.usize(0..NAMES), after: after[rng.usize(0..3)] }
            }
            87 => Self::Note { worker, pick: rng.usize(0..64), progress: rng.bool() },
            88 | 89 => {
                let states = JobState::ALL;
                Self::List { queue, state: states[rng.usize(0..states.len())] }
            }
            _ => Self::Wait(Step::random(rng)),
        }
    }
}

impl New {
    fn random(rng: &mut Rng) -> New {
        let micros = [1, 999_999, 1_000_000, 1_500_000, 30_000_000, 3_600_000_000];
        let some = micros[rng.usize(0..micros.len())];
        New {
            queue: rng.usize(0..2),
            name: rng.usize(0..NAMES),
            placement: match rng.u32(0..10) {
                0..6 => Due::Now,
                6..8 => Due::After(some),
                8 => Due::At(some.cast_signed()),
                _ => Due::At(-some.cast_signed()),
            },
            payload: rng.u8(0..4),
            unique: (rng.u32(0..4) == 0).then(|| [30, 61, 3_600][rng.usize(0..3)]),
            guard: (rng.u32(0..6) == 0).then(|| (rng.u8(0..2), rng.u8(0..2))),
            group: (rng.u32(0..10) == 0).then(|| rng.u8(0..2)),
            retention: [0, 0, 1, 60, 90_000][rng.usize(0..5)],
            max_retry: rng.u32(0..3),
        }
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
