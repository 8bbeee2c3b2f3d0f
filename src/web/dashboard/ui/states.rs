//! A job's states as a picture: a bar for each stretch of time, from the first that is known until
//! now, and the same as a list.
//!
//! Widths grow with the logarithm of the length, since a job may run for milliseconds and wait for
//! days. What is not stored is not drawn as if it were known: a gap between two known instants says
//! so. Stored are the last ten failures of workers of this crate, and the present state.

use maud::{Markup, html};

use super::Texts;
use super::parts::instant;
use super::state::state as draw_state;
use crate::broker::JobInfo;
use crate::job::JobState;
use crate::time::Timestamp;

/// Width and height of the picture, in units of the SVG, which is stretched.
const WIDTH: f64 = 1000.0;
const HEIGHT: u32 = 20;

/// A shorter gap is the store's own time between two of its instants, some of which are whole
/// seconds.
const MIN_GAP_MICROS: i64 = 1_100_000;

/// A stretch of time.
#[derive(Debug, PartialEq)]
struct Stretch {
    /// The state; `None` if it is not known.
    state: Option<JobState>,
    from: Timestamp,
    to: Timestamp,
    /// How it ended, or whether it goes on.
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// With the next state.
    Next,
    /// The attempt failed.
    Failed,
    /// It goes on.
    Open,
    /// It has not begun to be over: until the job is due.
    Planned,
}

/// What is known, the oldest first.
fn stretches(info: &JobInfo, now: Timestamp) -> Vec<Stretch> {
    let mut all = Vec::new();
    let mut add = |state, from: Timestamp, to: Timestamp, end| {
        if from < to {
            all.push(Stretch { state, from, to, end });
        }
    };
    let gap = |from: Option<Timestamp>, to: Timestamp| {
        from.filter(|from| to.as_micros() - from.as_micros() > MIN_GAP_MICROS)
    };
    let mut last = None;
    for failure in &info.failures {
        let started = failure.ran.map(|ran| failure.at - ran);
        let ready = started.zip(failure.waited).map(|(started, waited)| started - waited);
        if let Some(from) = last {
            match ready.or(started) {
                Some(to) => add(Some(JobState::Retry), from, to, End::Next),
                None => add(None, from, failure.at, End::Next),
            }
        }
        if let (Some(ready), Some(started)) = (ready, started) {
            add(Some(JobState::Pending), ready, started, End::Next);
        }
        if let Some(started) = started {
            add(Some(JobState::Active), started, failure.at, End::Failed);
        }
        last = Some(failure.at);
    }
    let worker = info.worker.as_ref();
    let since = match info.state {
        JobState::Pending => info.pending_since,
        JobState::Active => worker.and_then(|worker| worker.started),
        JobState::Archived => info.archived_at,
        JobState::Completed => info.record.completed_at,
        JobState::Aggregating => info.grouped_since,
        JobState::Retry => last.or(info.record.last_failed_at),
        JobState::Scheduled => last,
    };
    if let Some(since) = since {
        if let Some(from) = gap(last, since) {
            add(None, from, since, End::Next);
        }
        add(Some(info.state), since, now, End::Open);
    }
    if let Some(due) = info.due {
        add(Some(info.state), now, due, End::Planned);
    }
    all
}

/// The picture; nothing for a job of which no stretch is known.
pub(crate) fn picture(texts: &Texts, now: Timestamp, info: &JobInfo) -> Markup {
    let all = stretches(info, now);
    if all.is_empty() {
        return html! {};
    }
    let weight = |one: &Stretch| (one.to.since(one.from).as_secs_f64() * 1000.0 + 20.0).ln();
    let total: f64 = all.iter().map(weight).sum();
    let mut at = 0.0;
    let bars: Vec<_> = all
        .iter()
        .map(|one| {
            let (from, width) = (at, weight(one) / total * WIDTH);
            at += width;
            (one, from, width)
        })
        .collect();
    html! {
        figure.card.states {
            figcaption { (texts.states_picture) }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(texts.states_picture)
                preserveAspectRatio="none" {
                @for (one, from, width) in &bars {
                    g {
                        title { (name(texts, one)) ", " (length(texts, one)) }
                        rect class=(class(one)) x=(format!("{:.1}", from + 1.0))
                            width=(format!("{:.1}", (width - 2.0).max(1.0)))
                            y="0" height=(HEIGHT) {}
                    }
                }
            }
            ol {
                @for one in &all {
                    li {
                        @match one.state {
                            Some(state) => { (draw_state(texts, state)) }
                            None => { span.tag { (texts.states_unknown) } }
                        }
                        " "
                        strong { (length(texts, one)) } " "
                        span.count { (instant(texts, now, Some(one.from))) }
                    }
                }
            }
        }
    }
}

fn name<'a>(texts: &'a Texts, one: &Stretch) -> &'a str {
    one.state.map_or(texts.states_unknown, texts.state_name)
}

fn length(texts: &Texts, one: &Stretch) -> String {
    let length = (texts.span)(one.to.since(one.from));
    match one.end {
        End::Next => length,
        End::Failed => format!("{length}, {}", texts.chart_failed),
        End::Open => (texts.states_so_far)(&length),
        End::Planned => (texts.states_planned)(&length),
    }
}

/// The classes of a bar: its state, and how it ended.
fn class(one: &Stretch) -> &'static str {
    match (one.state, one.end) {
        (_, End::Planned) => "is-planned",
        (_, End::Failed) => "is-failed",
        (None, _) => "is-unknown",
        (Some(JobState::Active), _) => "is-active",
        (Some(JobState::Archived), _) => "is-archived",
        (Some(JobState::Completed), _) => "is-completed",
        (Some(_), _) => "is-waiting",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::{AttemptNote, JobFailure};
    use crate::job::{JobRecord, QueueName};

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// A job in retry that failed at these seconds, of which each attempt's wait and run are known
    /// or not.
    fn failed(at_and_lengths: &[(i64, Option<(u64, u64)>)]) -> JobInfo {
        let record = JobRecord::new("t", None, QueueName::stored("q"));
        let mut info = JobInfo::new(record, JobState::Retry);
        for (failed, lengths) in at_and_lengths {
            let mut note = AttemptNote::default();
            if let Some((waited, ran)) = lengths {
                note.waited = Some(Duration::from_secs(*waited));
                note.ran = Some(Duration::from_secs(*ran));
            }
            info.failures.push(JobFailure::of(&info.record, "no", at(*failed), &note));
        }
        info
    }

    fn drawn(info: &JobInfo, now: i64) -> Vec<(Option<JobState>, i64, i64, End)> {
        let all = stretches(info, at(now)).into_iter();
        all.map(|one| (one.state, one.from.as_secs(), one.to.as_secs(), one.end)).collect()
    }

    #[test]
    fn each_stretch_of_a_job_s_life_is_drawn_as_far_as_it_is_known() {
        use JobState::{Active, Pending, Retry};
        let mut info = failed(&[(100, Some((2, 5))), (200, Some((1, 4))), (300, None)]);
        info.due = Some(at(400));
        let expected = [
            (Some(Pending), 93, 95, End::Next),
            (Some(Active), 95, 100, End::Failed),
            (Some(Retry), 100, 195, End::Next),
            (Some(Pending), 195, 196, End::Next),
            (Some(Active), 196, 200, End::Failed),
            (None, 200, 300, End::Next),
            (Some(Retry), 300, 350, End::Open),
            (Some(Retry), 350, 400, End::Planned),
        ];
        assert_eq!(drawn(&info, 350), expected);
    }

    #[test]
    fn a_gap_says_that_nothing_is_known_of_it() {
        let mut info = failed(&[(100, None)]);
        (info.state, info.archived_at) = (JobState::Archived, Some(at(160)));
        let expected =
            [(None, 100, 160, End::Next), (Some(JobState::Archived), 160, 200, End::Open)];
        assert_eq!(drawn(&info, 200), expected);
        // Within a second the two are the same event.
        info.archived_at = Some(at(101));
        assert_eq!(drawn(&info, 200), [(Some(JobState::Archived), 101, 200, End::Open)]);
        let new = JobInfo::new(info.record, JobState::Scheduled);
        assert_eq!(drawn(&new, 200), []);
    }
}
