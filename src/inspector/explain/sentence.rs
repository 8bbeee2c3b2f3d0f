//! Reasons as English sentences: one line each, in which no text of a job can break the line.
//!
//! A sentence begins in lower case and has no full stop, so that [`Explanation`] can join several
//! with semicolons. Texts of jobs (errors, types, groups, host names) go through [`Short`]: without
//! backtrace, control characters escaped, at most 300 characters. The dashboard uses [`Span`],
//! [`At`] and [`Short`] too, and its own words around them.

use std::fmt;
use std::time::Duration;

use super::reason::{Explanation, Reason};
use crate::job::{AfterCancel, without_backtrace};
use crate::text::Line;
use crate::time::Timestamp;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// A length of time in its two largest units, rounded down: `3 h 12 min`.
pub(crate) struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (day, hour, minute) = (seconds / 86_400, seconds / 3600, seconds / 60);
        match seconds {
            0 => write!(f, "{} ms", self.0.as_millis()),
            1..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{minute} min {} s", seconds % 60),
            3600..86_400 => write!(f, "{hour} h {} min", minute % 60),
            _ => write!(f, "{day} d {} h", hour % 24),
        }
    }
}

/// An instant in UTC, to the second; a number if it is outside of the calendar.
pub(crate) struct At(pub Timestamp);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_utc() {
            Some(utc) => write!(f, "{}", utc.format("%Y-%m-%d %H:%M:%S UTC")),
            None => self.0.fmt(f),
        }
    }
}

/// A text of a job on one line, without its backtrace, cut with an ellipsis if it is long.
pub(crate) struct Short<'a>(pub &'a str);

/// Maximum characters of a [`Short`] text.
const MAX_TEXT_CHARS: usize = 300;

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = without_backtrace(self.0);
        match text.char_indices().nth(MAX_TEXT_CHARS) {
            Some((end, _)) => Line(format_args!("{}…", &text[..end])).fmt(f),
            None => Line(format_args!("{text}")).fmt(f),
        }
    }
}

/// A number with its noun, in the plural unless it is 1.
struct Count(u64, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional = |f: &mut fmt::Formatter<'_>, before: &str, at: &Option<Timestamp>| match at {
            Some(at) => write!(f, "{before}{}", At(*at)),
            None => Ok(()),
        };
        match self {
            Self::NoSuchJob { queue, queue_exists: false } => {
                write!(f, "queue {queue} does not exist")
            }
            Self::NoSuchJob { queue, queue_exists: true } => write!(
                f,
                "queue {queue} has no such job: it was never stored, was deleted, has succeeded \
                 without retention, or its retention is over"
            ),
            Self::Unreadable { problem } => {
                write!(f, "{}; the doctor says more", Short(problem))
            }
            Self::NotListed { state } => {
                write!(f, "it is {state}, but missing from that list; the doctor repairs it")
            }
            Self::QueuePaused { queue, since } => {
                write!(f, "queue {queue} is paused")?;
                optional(f, " since ", since)
            }
            Self::NoWorker { queue, last_seen } => {
                write!(f, "no worker serves queue {queue}")?;
                optional(f, "; the last one was seen at ", last_seen)
            }
            Self::WorkersStopping { queue, workers } => match workers {
                1 => write!(f, "the only worker that serves queue {queue} is quiet or stopping"),
                _ => write!(
                    f,
                    "all {workers} workers that serve queue {queue} are quiet or stopping"
                ),
            },
            Self::HigherPriority { queue, higher, pending } => {
                let jobs = Count(*pending, "pending job");
                write!(f, "workers serve queue {queue} with strict priority, after {jobs} of ")?;
                for (nth, queue) in higher.iter().enumerate() {
                    write!(f, "{}{queue}", if nth > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Self::InLine { queue, ahead, at_least, workers, slots, in_use } => {
                match ahead {
                    0 => write!(f, "it is next in queue {queue}")?,
                    _ => {
                        let least = if *at_least { "at least " } else { "" };
                        let verb = if *ahead == 1 { "is" } else { "are" };
                        let jobs = Count(*ahead, "job");
                        write!(f, "{least}{jobs} {verb} before it in queue {queue}")?;
                    }
                }
                let workers = Count(*workers, "worker");
                write!(f, "; {workers} with {in_use} of {} in use", Count(*slots, "slot"))
            }
            Self::Due { at, wait } => write!(f, "due in {} (at {})", Span(*wait), At(*at)),
            Self::WaitsForLimit { limit, key, in_use, max, since, ahead, next_at } => {
                write!(f, "waits for limit {}", Short(limit))?;
                if !key.is_empty() {
                    write!(f, ", key {}", Short(key))?;
                }
                if let Some(max) = max {
                    write!(f, ": {in_use} of {max} in use")?;
                    if let Some(since) = since {
                        write!(f, " since {}", Span(*since))?;
                    }
                }
                let before = if max.is_some() { ", " } else { ": " };
                optional(f, &format!("{before}the next may start at "), next_at)?;
                let before = if max.is_some() || next_at.is_some() { ", " } else { ": " };
                write!(f, "{before}{ahead} before it")
            }
            Self::Overdue { since, pending } => {
                let jobs = Count(*pending, "pending job");
                write!(f, "due since {}; it becomes pending soon, behind {jobs}", At(*since))
            }
            Self::WaitsForRetry { at, wait, retried, max_retry, error } => write!(
                f,
                "waits for its retry in {} (at {}), {retried} of {max_retry} counted, after: {}",
                Span(*wait),
                At(*at),
                Short(error)
            ),
            Self::Snoozed { at, wait } => {
                write!(f, "put off by its handler: due in {} (at {})", Span(*wait), At(*at))
            }
            Self::NoHandler { job_type, at, wait } => write!(
                f,
                "parked: the worker that dequeued it has no handler for job type \"{}\"; offered \
                 again in {} (at {})",
                Short(job_type),
                Span(*wait),
                At(*at)
            ),
            Self::Undecodable { since, at, wait, error } => write!(
                f,
                "parked since {}: its payload cannot be decoded; offered again in {} (at {}), and \
                 archived after an hour: {}",
                At(*since),
                Span(*wait),
                At(*at),
                Short(error)
            ),
            Self::Suspect { losses } => write!(
                f,
                "{} vanished while it ran; a process runs one such job at a time",
                Count((*losses).into(), "worker")
            ),
            Self::Running { worker: Some(worker), lease_ends, .. } => {
                write!(f, "it runs in {}:{}", Short(&worker.host), worker.pid)?;
                optional(f, " since ", &worker.started)?;
                write!(f, "; the lease runs until {}", At(*lease_ends))
            }
            Self::Running { worker: None, lease_ends, .. } => {
                write!(f, "it runs; its worker has not announced it yet")?;
                write!(f, "; the lease runs until {}", At(*lease_ends))
            }
            Self::WorkerGone { lease_ends: None, .. } => {
                write!(f, "its worker is gone, and it has no lease; the doctor repairs it")
            }
            Self::WorkerGone { lease_ends, recovered } => {
                write!(f, "its worker is gone")?;
                optional(f, "; its lease ends at ", lease_ends)?;
                optional(f, ", and it is recovered from ", recovered)
            }
            Self::CancelRequested { then } => write!(
                f,
                "cancellation is requested; then it is {}",
                match then {
                    AfterCancel::Retry => "tried again",
                    AfterCancel::Archive => "archived",
                    AfterCancel::Delete => "deleted",
                }
            ),
            Self::GroupWaits { group, size, oldest, missing, ready_at } => {
                let jobs = Count(*size, "job");
                write!(f, "group \"{}\" has {jobs}", Short(group))?;
                optional(f, ", the first from ", oldest)?;
                match missing {
                    Some(missing) => write!(f, "; it waits for {missing} more")?,
                    None => write!(f, "; it waits for more")?,
                }
                optional(f, ", at the latest until ", ready_at)
            }
            Self::BeingAggregated { group, until } => {
                write!(f, "group \"{}\" is being aggregated", Short(group))?;
                optional(f, ", at the latest until ", until)
            }
            Self::FollowsJob { holder } => {
                write!(f, "waits for the end of job {holder}, which runs and holds its unique lock")
            }
            Self::LockHeld { queue, holder } => {
                write!(f, "the unique lock is held by job {holder} of queue {queue}")
            }
            Self::QueueFull { queue, max_waiting } => {
                write!(f, "queue {queue} is full: {max_waiting} jobs may wait")
            }
            Self::DeadlinePassed { deadline } => {
                write!(f, "its deadline passed at {}: the next attempt archives it", At(*deadline))
            }
            Self::Archived { at, error } => {
                write!(f, "archived")?;
                optional(f, " at ", at)?;
                match error.is_empty() {
                    true => Ok(()),
                    false => write!(f, " after: {}", Short(error)),
                }
            }
            Self::Completed { at, kept_until } => {
                write!(f, "completed")?;
                optional(f, " at ", at)?;
                optional(f, ", kept until ", kept_until)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! The table of `docs/guide/troubleshooting.md` has each reason with its sentence.
    //! `tests/it/readme.rs` looks for the tests that it names.

    use std::collections::BTreeSet;

    use super::*;
    use crate::broker::JobWorker;
    use crate::job::{JobId, JobState, QueueName};

    const TABLE: &str = include_str!("../../../docs/guide/troubleshooting.md");

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    fn job(id: &str) -> JobId {
        JobId::new(id).unwrap()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One of each, with the numbers and names of the table.
    fn reasons() -> Vec<Reason> {
        let (mail, at) = (queue("mail"), Timestamp::from_secs(1_900_000_000));
        let lock = "0c7f";
        vec![
            Reason::NoSuchJob { queue: mail.clone(), queue_exists: true },
            Reason::Unreadable { problem: "job \"a\": its message is unreadable".to_owned() },
            Reason::NotListed { state: JobState::Pending },
            Reason::QueuePaused { queue: mail.clone(), since: Some(at) },
            Reason::NoWorker { queue: mail.clone(), last_seen: Some(at) },
            Reason::WorkersStopping { queue: mail.clone(), workers: 2 },
            Reason::HigherPriority {
                queue: mail.clone(),
                higher: vec![queue("urgent")],
                pending: 900,
            },
            Reason::InLine {
                queue: mail.clone(),
                ahead: 14,
                at_least: false,
                workers: 2,
                slots: 20,
                in_use: 20,
            },
            Reason::Due { at, wait: secs(123) },
            Reason::WaitsForLimit {
                limit: "stripe".to_owned(),
                key: "acct_7".to_owned(),
                in_use: 2,
                max: Some(2),
                since: Some(secs(3)),
                ahead: 14,
                next_at: None,
            },
            Reason::FollowsJob { holder: job(lock) },
            Reason::Overdue { since: at, pending: 5000 },
            Reason::WaitsForRetry {
                at,
                wait: secs(90),
                retried: 1,
                max_retry: 10,
                error: "smtp is down".to_owned(),
            },
            Reason::Snoozed { at, wait: secs(15) },
            Reason::NoHandler { job_type: "mail".to_owned(), at, wait: secs(15) },
            Reason::Undecodable { since: at, at, wait: secs(15), error: "no number".to_owned() },
            Reason::Suspect { losses: 2 },
            Reason::Running {
                worker: Some(JobWorker {
                    host: "host".to_owned(),
                    pid: 42,
                    server_id: String::new(),
                    started: Some(at),
                    deadline: None,
                }),
                lease_ends: at,
                lease: secs(20),
            },
            Reason::WorkerGone { lease_ends: Some(at), recovered: Some(at) },
            Reason::CancelRequested { then: AfterCancel::Delete },
            Reason::GroupWaits {
                group: "digest".to_owned(),
                size: 2,
                oldest: Some(at),
                missing: Some(8),
                ready_at: Some(at),
            },
            Reason::BeingAggregated { group: "digest".to_owned(), until: Some(at) },
            Reason::LockHeld { queue: mail.clone(), holder: job(lock) },
            Reason::QueueFull { queue: mail, max_waiting: 10_000 },
            Reason::DeadlinePassed { deadline: at },
            Reason::Archived { at: Some(at), error: "bad address".to_owned() },
            Reason::Completed { at: Some(at), kept_until: Some(at) },
        ]
    }

    /// Kind and sentence of each row.
    fn rows() -> Vec<(&'static str, &'static str)> {
        let (_, rest) = TABLE.split_once("| state | `kind` | sentence |").unwrap();
        let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
        let cells = |row: &'static str| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let kind = cells[2].split('`').nth(1)?;
            Some((kind, cells[3]))
        };
        rows.filter_map(cells).collect()
    }

    /// Whether a sentence is the one of the table, in which an ellipsis is anything. What follows
    /// a reason there, behind a semicolon, may be another reason.
    fn is_written(written: &str, sentence: &str) -> bool {
        let mut rest = sentence;
        for (nth, piece) in written.split('…').enumerate() {
            match rest.find(piece) {
                Some(at) if nth > 0 || at == 0 => rest = &rest[at + piece.len()..],
                // The table goes on with the reason that comes next.
                None if piece.starts_with(&format!("{rest};")) => return true,
                _ => return false,
            }
        }
        rest.is_empty() || written.ends_with('…')
    }

    #[test]
    fn the_guide_has_a_row_with_the_sentence_of_each_reason_and_no_other_row() {
        let (reasons, rows) = (reasons(), rows());
        for reason in &reasons {
            let written: Vec<&str> =
                rows.iter().filter(|(kind, _)| *kind == reason.kind()).map(|row| row.1).collect();
            assert_eq!(written.len(), 1, "rows of {}", reason.kind());
            let sentence = reason.to_string();
            assert!(is_written(written[0], &sentence), "{sentence:?} is not {:?}", written[0]);
        }
        let shown: BTreeSet<&str> = reasons.iter().map(Reason::kind).collect();
        assert_eq!(rows.iter().map(|row| row.0).collect::<BTreeSet<_>>(), shown);
        // One of each kind that there is.
        let source = include_str!("reason.rs");
        let kinds =
            source.lines().filter_map(|line| line.split_once("{ .. } => \"")?.1.split('"').next());
        assert_eq!(kinds.collect::<BTreeSet<_>>(), shown);
    }
}
