//! Jobs: found by search terms, shown, explained, edited and enqueued. What is done to several at
//! once is in `act`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{act, payload, since, when};
use crate::args::{JobCommand, Payload};
use crate::confirm::Change;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Cell, Column, Mark, Output, flexible, left, right};
use crate::store::{NewJob, Store, Verb, count, list, place, text};
use crate::text::{bytes, escaped};

/// Maximum rows that one request asks for.
pub(crate) const PAGE: u32 = 100;

pub(crate) async fn run(store: &Arc<dyn Store>, out: &Output, command: JobCommand) -> Outcome {
    match command {
        JobCommand::List { terms, limit, all, group, queue } => {
            let most = if all { usize::MAX } else { limit as usize };
            let found = match (group, queue) {
                (Some(group), Some(queue)) => group_jobs(&**store, &queue, &group, most).await?,
                _ => search(&**store, &terms.join(" "), most).await?,
            };
            print(out, &found)
        }
        JobCommand::Show(one) => {
            let place = place(&**store, one.queue.as_deref(), &one.id).await?;
            let job = store.job(&place).await?;
            if out.json {
                return out.value(&job);
            }
            let explanation = store.explain(&place).await.ok();
            show(out, &job, explanation.as_ref())
        }
        JobCommand::Explain(one) => {
            let place = place(&**store, one.queue.as_deref(), &one.id).await?;
            let explanation = store.explain(&place).await?;
            match out.json {
                true => out.value(&explanation),
                false => out.line(escaped(text(&explanation["sentence"]))),
            }
        }
        JobCommand::Run { which, change } => act::verb(store, out, &which, Verb::Run, change).await,
        JobCommand::Archive { which, change } => {
            act::verb(store, out, &which, Verb::Archive, change).await
        }
        JobCommand::Delete { which, change } => {
            act::verb(store, out, &which, Verb::Delete, change).await
        }
        JobCommand::Cancel { which, then, change } => {
            act::cancel(store, out, &which, then, change).await
        }
        JobCommand::Edit { job, payload, change } => {
            let place = place(&**store, job.queue.as_deref(), &job.id).await?;
            payload::edit(&**store, out, &place, &payload, change).await
        }
        JobCommand::Enqueue {
            job_type,
            payload,
            queue,
            delay,
            max_retry,
            expires,
            unique,
            change,
        } => {
            let payload = enqueued(&payload)?;
            let job = NewJob { job_type, payload, queue, delay, max_retry, expires, unique };
            enqueue(&**store, out, &job, change).await
        }
    }
}

/// The payload of a new job: `null` without one, as of a type without fields.
fn enqueued(payload: &Payload) -> Outcome<Vec<u8>> {
    Ok(payload::given(payload)?.unwrap_or_else(|| b"null".to_vec()))
}

/// The result of a search, as it is printed for programs.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub rows: Vec<Value>,
    /// Whether there are no more.
    pub complete: bool,
    /// Queues that could not be listed.
    pub unreadable: Vec<String>,
}

/// At most so many of the jobs that match.
pub(crate) async fn search(store: &dyn Store, query: &str, most: usize) -> Outcome<Found> {
    let (mut found, mut cursor): (Found, Option<String>) = (Found::default(), None);
    loop {
        let size = PAGE.min(u32::try_from(most - found.rows.len()).unwrap_or(PAGE));
        let page = store.search(query, size, cursor.as_deref()).await?;
        found.rows.extend(list(&page["rows"]).iter().cloned());
        for queue in list(&page["unreadable"]).iter().map(text) {
            if !found.unreadable.iter().any(|known| known == queue) {
                found.unreadable.push(queue.to_owned());
            }
        }
        cursor = page["next"].as_str().map(str::to_owned);
        found.complete = cursor.is_none();
        if found.complete || found.rows.len() >= most {
            return Ok(found);
        }
    }
}

/// At most so many of the jobs that wait in a group.
pub(crate) async fn group_jobs(
    store: &dyn Store,
    queue: &str,
    group: &str,
    most: usize,
) -> Outcome<Found> {
    let (mut found, mut cursor): (Found, Option<String>) = (Found::default(), None);
    loop {
        let size = PAGE.min(u32::try_from(most - found.rows.len()).unwrap_or(PAGE));
        let page = store.group_jobs(queue, group, size, cursor.as_deref()).await?;
        found.rows.extend(list(&page["rows"]).iter().cloned());
        cursor = page["next"].as_str().map(str::to_owned);
        found.complete = cursor.is_none();
        if found.complete || found.rows.len() >= most {
            return Ok(found);
        }
    }
}

fn print(out: &Output, found: &Found) -> Outcome {
    let Found { rows, complete, unreadable } = found;
    if out.json {
        return out.value(&json!({ "rows": rows, "complete": complete, "unreadable": unreadable }));
    }
    let now = Utc::now();
    let cells: Vec<Vec<Cell>> = rows.iter().map(|row| cells(row, now)).collect();
    out.table(&COLUMNS, &cells, "no job matches")?;
    if !complete {
        out.note(format!("{} jobs are shown, and there are more: --limit or --all", rows.len()));
    }
    for queue in unreadable {
        out.note(format!("queue {queue} cannot be listed: jobqueue doctor says why"));
    }
    Ok(())
}

const COLUMNS: [Column; 7] = [
    left("STATE"),
    flexible("QUEUE"),
    flexible("TYPE"),
    left("ID"),
    left("SINCE"),
    right("RETRIES"),
    flexible("ERROR OR PAYLOAD"),
];

fn cells(row: &Value, now: DateTime<Utc>) -> Vec<Cell> {
    if row["row"] == "corrupt" {
        let what = format!("damaged: {}", row["corruption"].to_string().trim_matches('"'));
        let unknown = || Cell::new("?");
        let (queue, id) = (Cell::new(text(&row["queue"])), Cell::new(text(&row["id"])));
        let damaged = Cell::marked("damaged", Mark::Bad);
        return vec![
            damaged,
            queue,
            unknown(),
            id,
            unknown(),
            unknown(),
            Cell::marked(what, Mark::Bad),
        ];
    }
    let state = text(&row["state"]);
    let error = text(&row["last_error"]);
    let detail = match error.is_empty() || !matches!(state, "archived" | "retry") {
        true => Cell::marked(payload::shown(&row["payload"]), Mark::Dim),
        false => Cell::marked(error, Mark::Bad),
    };
    vec![
        Cell::marked(state, Mark::of_state(state)),
        Cell::new(text(&row["queue"])),
        Cell::new(text(&row["job_type"])),
        Cell::new(text(&row["id"])),
        super::how_far(moment(row), now),
        Cell::new(format!("{}/{}", count(&row["retried"]), count(&row["max_retry"]))),
        detail,
    ]
}

/// The instant that matters in a job's state.
fn moment(job: &Value) -> &Value {
    match text(&job["state"]) {
        "scheduled" | "retry" => &job["due"],
        "archived" => &job["archived_at"],
        "completed" => &job["completed_at"],
        "active" => &job["worker"]["started"],
        "aggregating" => &job["grouped_since"],
        _ => &job["pending_since"],
    }
}

fn show(out: &Output, job: &Value, explanation: Option<&Value>) -> Outcome {
    let now = Utc::now();
    let state = text(&job["state"]);
    let mut facts = vec![
        ("id", Cell::new(text(&job["id"]))),
        ("queue", Cell::new(text(&job["queue"]))),
        ("type", Cell::new(text(&job["job_type"]))),
        ("state", Cell::marked(state, Mark::of_state(state))),
    ];
    if let Some(sentence) = explanation.and_then(|one| one["sentence"].as_str()) {
        facts.push(("why", Cell::new(sentence)));
    }
    let at = [
        ("due", "due"),
        ("pending since", "pending_since"),
        ("start by", "start_by"),
        ("archived", "archived_at"),
        ("completed", "completed_at"),
        ("kept until", "expires"),
        ("in group since", "grouped_since"),
        ("deadline", "deadline"),
        ("last failure", "last_failed_at"),
    ];
    let known = at.into_iter().filter(|(_, key)| !job[*key].is_null());
    facts.extend(known.map(|(name, key)| (name, when(&job[key], now))));
    facts.push((
        "retries used",
        Cell::new(format!("{} of {}", count(&job["retried"]), count(&job["max_retry"]))),
    ));
    let worker = &job["worker"];
    if !worker.is_null() {
        let (host, pid) = (text(&worker["host"]), worker["pid"].as_i64().unwrap_or(0));
        let since = since(&worker["started"], now);
        facts.push(("worker", Cell::new(format!("{host}, process {pid}, since {since}"))));
    }
    if job["orphaned"] == true {
        let lost = "its lease has ended: the worker vanished, and the job will be recovered";
        facts.push(("lease", Cell::marked(lost, Mark::Warn)));
    }
    if let Some(then) = job["cancelling"].as_str() {
        facts.push(("cancelling", Cell::marked(format!("requested, then {then}"), Mark::Warn)));
    }
    if count(&job["losses"]) > 0 {
        let times = format!("{} times its worker vanished", count(&job["losses"]));
        facts.push(("lost", Cell::marked(times, Mark::Warn)));
    }
    let texts = [
        ("group", "group"),
        ("unique lock", "unique_key"),
        ("version", "version"),
        ("failing since", "first_failed_version"),
    ];
    let given = texts.into_iter().filter(|(_, key)| !text(&job[*key]).is_empty());
    facts.extend(given.map(|(name, key)| (name, Cell::new(text(&job[key])))));
    if let Some(progress) = progress(&job["progress"]) {
        facts.push(("progress", Cell::new(progress)));
    }
    for (name, value) in job["headers"].as_object().into_iter().flatten() {
        facts.push(("header", Cell::new(format!("{name}: {}", text(value)))));
    }
    if !text(&job["last_error"]).is_empty() {
        facts.push(("error", Cell::marked(text(&job["last_error"]), Mark::Bad)));
    }
    facts.push(("payload", Cell::new(payload::shown(&job["payload"]))));
    if !job["result"].is_null() {
        facts.push(("result", Cell::new(payload::shown(&job["result"]))));
    }
    out.facts(&facts)?;
    let failures = list(&job["failures"]);
    if failures.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let rows: Vec<Vec<Cell>> = failures.iter().rev().map(|one| failure(one, now)).collect();
    let columns = [
        right("ATTEMPT"),
        left("FAILED"),
        flexible("VERSION"),
        flexible("WORKER"),
        right("WAITED"),
        right("RAN"),
        flexible("ERROR"),
    ];
    out.table(&columns, &rows, "")
}

/// A failed attempt. What its worker did not tell is a dash.
fn failure(one: &Value, now: DateTime<Utc>) -> Vec<Cell> {
    let known = |key: &str| Cell::new(one[key].as_str().unwrap_or("-"));
    let seconds = |key: &str| match one[key].as_f64() {
        Some(seconds) => Cell::new(format!("{seconds:.3} s")),
        None => Cell::new("-"),
    };
    vec![
        Cell::number(count(&one["attempt"])),
        when(&one["at"], now),
        known("version"),
        known("worker"),
        seconds("waited_seconds"),
        seconds("ran_seconds"),
        Cell::new(text(&one["error"])),
    ]
}

/// A job's progress in a line.
pub(crate) fn progress(progress: &Value) -> Option<String> {
    let (done, total) = (count(&progress["done"]), count(&progress["total"]));
    let message = text(&progress["message"]);
    let counted = match total {
        0 if done == 0 => String::new(),
        0 => done.to_string(),
        _ => format!("{done} of {total} ({} %)", done.min(total).saturating_mul(100) / total),
    };
    let parts: Vec<&str> =
        [counted.as_str(), message].into_iter().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

async fn enqueue(store: &dyn Store, out: &Output, job: &NewJob, change: Change) -> Outcome {
    let (kind, size) = (&job.job_type, bytes(job.payload.len() as u64));
    let queue = job.queue.as_deref().map(|queue| format!(" in queue {queue}")).unwrap_or_default();
    let delay = job.delay.map(|delay| format!(", due in {}", crate::text::span(delay)));
    let what = format!(
        "a job of type {kind}{queue} with a payload of {size}{}",
        delay.unwrap_or_default()
    );
    if change.dry_run {
        if out.json {
            return out.value(&json!({ "verb": "enqueue", "dry_run": true, "job_type": kind }));
        }
        return out.line(escaped(&format!("would enqueue {what}")));
    }
    change.confirm(&format!("Enqueue {what}?"))?;
    let receipt = store.enqueue(job).await?;
    match out.json {
        true => out.value(&receipt),
        // The id alone, for `id=$(jobqueue job enqueue …)`.
        false => out.line(escaped(text(&receipt["job_id"]))),
    }
}

/// Whether a job's attempts are over.
pub(crate) fn has_ended(job: &Value) -> bool {
    matches!(text(&job["state"]), "archived" | "completed")
}

/// The failure for a job that ended archived.
pub(crate) fn archived(job: &Value) -> Failure {
    let (id, error) = (text(&job["id"]), text(&job["last_error"]));
    let why = if error.is_empty() { "without an error" } else { error };
    Failure::new(Exit::Bad, format!("job {id} was archived: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_line_or_nothing() {
        let line = |value: Value| progress(&value);
        assert_eq!(
            line(json!({ "done": 3, "total": 10, "message": "x" })).unwrap(),
            "3 of 10 (30 %), x"
        );
        assert_eq!(line(json!({ "done": 0, "total": 0, "message": "up" })).unwrap(), "up");
        assert_eq!(line(Value::Null), None);
    }
}
