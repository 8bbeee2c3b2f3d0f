//! One action on some jobs: by id, by query, or of a group.
//!
//! The jobs are found first, and counted by state; then the question names the count; then each job
//! is acted upon, several at a time. A job that moved on meanwhile stays as it is, and is reported.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::job::{Found, group_jobs, search};
use crate::args::Which;
use crate::confirm::Change;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::store::{JobPlace, Store, Then, Verb, place, text};
use crate::text::escaped;

/// Requests under way at a time.
const CONCURRENT: usize = 8;

/// Maximum jobs that are left alone and named one by one.
const MAX_NAMED: usize = 10;

/// What is done.
#[derive(Clone, Copy)]
enum Action {
    Verb(Verb),
    Cancel(Then),
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Verb(verb) => verb.name(),
            Action::Cancel(_) => "cancel",
        }
    }

    /// As a sentence begins.
    fn order(self) -> &'static str {
        match self {
            Action::Verb(Verb::Run) => "Run",
            Action::Verb(Verb::Archive) => "Archive",
            Action::Verb(Verb::Delete) => "Delete",
            Action::Cancel(_) => "Cancel",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Action::Verb(verb) => verb.done(),
            Action::Cancel(_) => "cancelled, or will be: a worker obeys within 5 s",
        }
    }

    fn permits(self, state: &str) -> bool {
        match self {
            Action::Verb(verb) => verb.permits(state),
            Action::Cancel(Then::Retry) => state == "active",
            Action::Cancel(Then::Archive | Then::Delete) => {
                !matches!(state, "archived" | "completed")
            }
        }
    }

    /// What follows, for the question.
    fn consequence(self) -> &'static str {
        match self {
            Action::Verb(Verb::Run) => "They become pending, and run when a worker is free.",
            Action::Verb(Verb::Archive) => "No worker runs them until somebody does.",
            Action::Verb(Verb::Delete) => "This cannot be undone.",
            Action::Cancel(Then::Retry) => "Their attempts end and count as failed.",
            Action::Cancel(Then::Archive) => "Their attempts end; no worker runs them again.",
            Action::Cancel(Then::Delete) => "Their attempts end. This cannot be undone.",
        }
    }

    async fn on(self, store: &dyn Store, place: &JobPlace) -> Outcome {
        match self {
            Action::Verb(verb) => store.act(place, verb).await,
            Action::Cancel(then) => store.cancel(place, then).await.map(|_| ()),
        }
    }
}

pub(crate) async fn verb(
    store: &Arc<dyn Store>,
    out: &Output,
    which: &Which,
    verb: Verb,
    change: Change,
) -> Outcome {
    act(store, out, which, Action::Verb(verb), change).await
}

pub(crate) async fn cancel(
    store: &Arc<dyn Store>,
    out: &Output,
    which: &Which,
    then: Then,
    change: Change,
) -> Outcome {
    act(store, out, which, Action::Cancel(then), change).await
}

/// The jobs that are meant, each with its state.
async fn found(store: &dyn Store, which: &Which) -> Outcome<Vec<(JobPlace, String)>> {
    let Found { rows, unreadable, .. } = if let Some(query) = &which.query {
        if query.trim().is_empty() {
            return Err(Failure::usage("--query: expected at least one term, found none"));
        }
        search(store, query, usize::MAX).await?
    } else if let (Some(queue), Some(group)) = (&which.queue, &which.group) {
        group_jobs(store, queue, group, usize::MAX).await?
    } else {
        let mut rows = Vec::new();
        for id in &which.ids {
            let place = place(store, which.queue.as_deref(), id).await?;
            rows.push(store.job(&place).await?);
        }
        Found { rows, ..Found::default() }
    };
    if let Some(queue) = unreadable.first() {
        let why = format!("queue {queue} cannot be listed: jobqueue doctor says why");
        return Err(Failure::new(Exit::Refused, why));
    }
    let job = |row: &Value| {
        let place =
            JobPlace { queue: text(&row["queue"]).to_owned(), id: text(&row["id"]).to_owned() };
        (place, text(&row["state"]).to_owned())
    };
    let is_whole = |row: &&Value| row["row"] != "corrupt";
    Ok(rows.iter().filter(is_whole).map(job).collect())
}

async fn act(
    store: &Arc<dyn Store>,
    out: &Output,
    which: &Which,
    action: Action,
    change: Change,
) -> Outcome {
    let found = found(&**store, which).await?;
    let (can, cannot): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(_, state)| action.permits(state));
    let mut left: Vec<(JobPlace, Failure)> = cannot
        .into_iter()
        .map(|(place, state)| {
            let why = format!("job {:?} is {state}: it cannot be {}", place.id, participle(action));
            (place, Failure::new(Exit::Refused, why))
        })
        .collect();
    let states = by_state(&can);
    let mut done = 0;
    if !can.is_empty() && !change.dry_run {
        ask(which, action, change, can.len(), &states)?;
    }
    let total = can.len();
    if !change.dry_run {
        (done, left) = carry_out(store, action, can, left).await?;
    }
    report(out, action, change, Report { done, total, states, left })
}

fn participle(action: Action) -> &'static str {
    match action {
        Action::Verb(Verb::Run) => "run now",
        Action::Verb(Verb::Archive) => "archived",
        Action::Verb(Verb::Delete) => "deleted",
        Action::Cancel(_) => "cancelled",
    }
}

fn by_state(jobs: &[(JobPlace, String)]) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for (_, state) in jobs {
        *states.entry(state.clone()).or_default() += 1;
    }
    states
}

/// Asks, with the number of jobs and what finds them. To delete several, their number is typed.
fn ask(
    which: &Which,
    action: Action,
    change: Change,
    jobs: usize,
    states: &BTreeMap<String, usize>,
) -> Outcome {
    let words: Vec<String> =
        states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let jobs_are = if jobs == 1 { "job" } else { "jobs" };
    let found = match (&which.query, &which.group) {
        (Some(query), _) => format!(" that match {query}"),
        (None, Some(group)) => format!(" of group {group}"),
        (None, None) if jobs == 1 => format!(" {}", which.ids.join(" ")),
        (None, None) => String::new(),
    };
    let (order, consequence) = (action.order(), action.consequence());
    let question =
        format!("{order} {jobs} {jobs_are}{found} ({})? {consequence}", words.join(", "));
    let is_final =
        matches!(action, Action::Verb(Verb::Delete) | Action::Cancel(Then::Delete)) && jobs > 1;
    match is_final {
        true => change.confirm_by(&question, &jobs.to_string()),
        false => change.confirm(&question),
    }
}

/// Acts on each job; how many it was done to, and those that are left.
async fn carry_out(
    store: &Arc<dyn Store>,
    action: Action,
    jobs: Vec<(JobPlace, String)>,
    mut left: Vec<(JobPlace, Failure)>,
) -> Outcome<(usize, Vec<(JobPlace, Failure)>)> {
    let (mut jobs, mut running, mut done) = (jobs.into_iter(), JoinSet::new(), 0);
    loop {
        while running.len() < CONCURRENT
            && let Some((place, _)) = jobs.next()
        {
            let store = Arc::clone(store);
            running.spawn(async move {
                let acted = action.on(&*store, &place).await;
                (place, acted)
            });
        }
        match running.join_next().await {
            None => return Ok((done, left)),
            Some(Ok((_, Ok(())))) => done += 1,
            // Without a store the rest fails too: what was done so far is said.
            Some(Ok((place, Err(failure)))) if failure.exit == Exit::Unreachable => {
                let about = format!("{done} jobs were {}; job {}", action.done(), place.id);
                return Err(failure.about(&about));
            }
            Some(Ok((place, Err(failure)))) => left.push((place, failure)),
            Some(Err(_)) => return Err(Failure::new(Exit::Failed, "a request was dropped")),
        }
    }
}

struct Report {
    done: usize,
    total: usize,
    states: BTreeMap<String, usize>,
    left: Vec<(JobPlace, Failure)>,
}

fn report(out: &Output, action: Action, change: Change, report: Report) -> Outcome {
    let Report { done, total, states, left } = report;
    if out.json {
        let left: Vec<Value> = left
            .iter()
            .map(|(place, why)| json!({ "queue": place.queue, "id": place.id, "why": why.message }))
            .collect();
        out.value(&json!({
            "verb": action.name(), "dry_run": change.dry_run, "matched": total + left.len(),
            "states": states, "done": done, "left": left
        }))?;
    } else {
        let count =
            |jobs: usize| if jobs == 1 { "1 job".to_owned() } else { format!("{jobs} jobs") };
        let line = match change.dry_run {
            true => format!("would {} {}", action.name(), count(total)),
            false => format!("{} {}", count(done), action.done()),
        };
        out.line(escaped(&line))?;
        for (place, why) in left.iter().take(MAX_NAMED) {
            out.note(format!("left: {} {}: {}", place.queue, place.id, why.message));
        }
        if left.len() > MAX_NAMED {
            out.note(format!("left: {} more", left.len() - MAX_NAMED));
        }
    }
    match left.into_iter().next() {
        None => Ok(()),
        // It has been said.
        Some((_, why)) => Err(Failure::new(why.exit, "")),
    }
}
