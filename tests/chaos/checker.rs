//! Compares ledgers, notes and Redis: the invariants I1 to I7 of the campaign.

use std::collections::BTreeMap;

use crate::contents::Contents;
use crate::ledger::{Answer, Run, Story};
use crate::peer::ledger::now;
use crate::process::{Fate, Note};

/// A worker that was stopped for this long may have lost its leases (30 s, less a
/// heartbeat).
const PAUSE_THAT_LOSES: u64 = 24_000_000;

/// What a scenario permits beyond what kills and pauses explain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// Redis forgot acknowledged writes: settled jobs may run again.
    pub forgotten: bool,
    /// Attempts may be ended early, as by a time limit or a cancel request.
    pub cut: bool,
    /// Processes were cut off from Redis for longer than a lease.
    pub cut_off: bool,
}

/// The numbers of one scenario.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    /// I1: acknowledged, never run to an end and in no state.
    pub lost: Vec<String>,
    /// I3: runs that nothing explains.
    pub duplicates: Vec<String>,
    /// Runs beyond the first that a fault or a failure explains.
    pub explained: usize,
    /// I4: pairs of runs of one job side by side that nothing explains.
    pub overlaps: Vec<String>,
    pub longest_overlap: f64,
    /// From a process's death to the next run of a job that it had, at most.
    pub rerun: f64,
    /// I2, I5, I6, I7: a line each.
    pub violations: Vec<String>,
}

/// What happened to one process.
#[derive(Default)]
struct History {
    dead: Option<u64>,
    terminated: Option<u64>,
    /// Stopped from, to.
    pauses: Vec<(u64, u64)>,
}

impl History {
    fn of(notes: &[Note]) -> BTreeMap<u32, Self> {
        let mut all: BTreeMap<u32, Self> = BTreeMap::new();
        for note in notes {
            let history = all.entry(note.process).or_default();
            match note.fate {
                Fate::Dead => history.dead = Some(note.at),
                Fate::Terminated => history.terminated = Some(note.at),
                Fate::Stopped => history.pauses.push((note.at, u64::MAX)),
                Fate::Continued => {
                    if let Some(pause) = history.pauses.last_mut() {
                        pause.1 = note.at;
                    }
                }
            }
        }
        all
    }

    /// Whether a pause that loses leases touched this span.
    fn paused_within(&self, from: u64, to: u64) -> bool {
        self.pauses.iter().any(|&(begin, end)| {
            end.saturating_sub(begin) >= PAUSE_THAT_LOSES && begin <= to && end >= from
        })
    }
}

/// Checks everything once the queues are drained.
pub fn check(story: &Story, notes: &[Note], contents: &Contents, allowed: Allowed) -> Figures {
    let histories = History::of(notes);
    let mut figures = Figures {
        acknowledged: story.count(Answer::Ok),
        refused: story.count(Answer::Refused),
        unknown: story.calls.len() - story.count(Answer::Ok) - story.count(Answer::Refused),
        violations: contents.defects(),
        ..Figures::default()
    };
    figures.find_lost(story, contents);
    let fallback = History::default();
    for (id, runs) in &story.runs {
        let of = |run: &Run| histories.get(&run.process).unwrap_or(&fallback);
        figures.check_job(story, id, runs, &of, allowed);
    }
    let of = |run: &Run| histories.get(&run.process).unwrap_or(&fallback);
    let all = story.runs.iter().flat_map(|(id, runs)| runs.iter().map(move |run| (id, run)));
    let doubtful = all.filter(|(id, run)| is_doubtful(story, id, run, of(run))).count();
    figures.check_counters(story, contents, doubtful as i64, allowed);
    figures
}

impl Figures {
    fn find_lost(&mut self, story: &Story, contents: &Contents) {
        let batched: std::collections::BTreeSet<&String> = story
            .batches
            .keys()
            .filter(|batch| story.is_done(batch))
            .flat_map(|batch| &story.batches[batch])
            .collect();
        for (id, call) in &story.calls {
            let stored = !contents.places(id).is_empty();
            let done = batched.contains(id)
                || story.runs.get(id).is_some_and(|runs| runs.iter().any(|r| r.ended_as("done")));
            if call.is(Answer::Ok) && !stored && !done && !has_left_otherwise(story, id) {
                self.lost.push(id.clone());
            }
            if call.is(Answer::Refused) && story.runs.contains_key(id) {
                let text = &call.text;
                self.violations.push(format!("I7: {id} was refused ({text}) and ran"));
            }
        }
    }

    fn check_job<'h>(
        &mut self,
        story: &Story,
        id: &str,
        runs: &[Run],
        history: &impl Fn(&Run) -> &'h History,
        allowed: Allowed,
    ) {
        for (at, run) in runs.iter().enumerate() {
            if run.ended_as("misread") {
                self.violations.push(format!("{id}: process {} misread it", run.process));
            }
            let Some(next) = runs.get(at + 1) else { continue };
            if let Some(dead) = history(run).dead
                && run.end.is_none()
                && next.begun > dead
            {
                self.rerun = self.rerun.max((next.begun - dead) as f64 / 1e6);
            }
            if explains(story, id, run, history(run), allowed)
                || is_doubtful(story, id, run, history(run))
            {
                self.explained += 1;
            } else {
                self.duplicates.push(id.to_owned());
            }
        }
        for (at, run) in runs.iter().enumerate() {
            let end = run.end.as_ref().map(|(end, _)| *end);
            let end = end.or(history(run).dead).unwrap_or_else(now);
            for next in &runs[at + 1..] {
                if next.begun >= end || history(run).paused_within(run.begun, end) {
                    continue;
                }
                let both = end.min(next.end.as_ref().map_or(end, |(end, _)| *end)) - next.begun;
                self.longest_overlap = self.longest_overlap.max(both as f64 / 1e6);
                if !allowed.cut_off {
                    self.overlaps.push(id.to_owned());
                }
            }
        }
    }

    /// I5: successes counted in Redis are between those settled for certain and those
    /// ended.
    fn check_counters(
        &mut self,
        story: &Story,
        contents: &Contents,
        doubtful: i64,
        allowed: Allowed,
    ) {
        if allowed.forgotten || contents.queues.is_empty() {
            return;
        }
        let counted: i64 =
            contents.queues.values().map(|queue| queue.processed - queue.failed).sum();
        let ended = story.runs.values().flatten().filter(|run| run.ended_as("done")).count() as i64;
        let settled = story.settled.values().flatten();
        let settled = settled.filter(|settled| settled.transition == "complete").count() as i64;
        if counted < settled - doubtful || counted > ended {
            self.violations.push(format!(
                "I5: Redis counts {counted} successes; {settled} were settled, {doubtful} of them \
                 in doubt, of {ended} ended"
            ));
        }
    }
}

/// A job that was archived and trimmed, or revoked, is not a loss.
fn has_left_otherwise(story: &Story, id: &str) -> bool {
    let settled = story.settled.get(id).into_iter().flatten();
    settled.into_iter().any(|settled| ["archive", "revoke"].contains(&&*settled.transition))
}

/// Whether the process was stopped for longer than a lease between the end of this run
/// and the answer to its settlement. If that was sent again the worker cannot know
/// whether the first sending did it or the job was lost meanwhile; it says settled.
fn is_doubtful(story: &Story, id: &str, run: &Run, history: &History) -> bool {
    let Some((end, _)) = run.end.as_ref() else { return false };
    story.settlement(id, run).is_some_and(|told| history.paused_within(*end, told.at))
}

/// Whether another run after this one is as it should be.
fn explains(story: &Story, id: &str, run: &Run, history: &History, allowed: Allowed) -> bool {
    if run.ended_as("failed") || run.ended_as("panicked") {
        return true;
    }
    let end = run.end.as_ref().map_or(u64::MAX, |(end, _)| *end);
    if history.paused_within(run.begun, end) || allowed.cut_off {
        return true;
    }
    if run.end.is_none() {
        return history.dead.is_some();
    }
    if run.ended_as("dropped") {
        return allowed.cut || history.terminated.is_some() || history.dead.is_some();
    }
    // It ended. Redis knows of it, or the process died before it could say so.
    allowed.forgotten || (story.settlement(id, run).is_none() && history.dead.is_some())
}
