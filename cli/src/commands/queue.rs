//! Queues: their sizes, and pausing, resuming and deleting them.

use std::sync::Arc;

use chrono::Utc;
use serde_json::{Value, json};

use super::when;
use crate::args::QueueCommand;
use crate::confirm::Change;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Cell, Column, Mark, Output, flexible, left, right};
use crate::store::{Store, count, list, text};
use crate::text::{bytes, span};

/// The states that have a list, in the order of the columns.
pub(crate) const STATES: [&str; 7] =
    ["pending", "active", "scheduled", "retry", "archived", "completed", "aggregating"];

pub(crate) async fn run(store: &Arc<dyn Store>, out: &Output, command: QueueCommand) -> Outcome {
    match command {
        QueueCommand::List => table(out, &store.queues().await?),
        QueueCommand::Show { queue } => show(&**store, out, &queue).await,
        QueueCommand::History { queue, days } => history(&**store, out, &queue, days).await,
        QueueCommand::Groups { queue } => groups(&**store, out, &queue).await,
        QueueCommand::Pause { queues, change } => pause(&**store, out, &queues, true, change).await,
        QueueCommand::Resume { queues, change } => {
            pause(&**store, out, &queues, false, change).await
        }
        QueueCommand::Delete { queue, force, change } => {
            delete(&**store, out, &queue, force, change).await
        }
    }
}

/// The columns of a list of queues.
const COLUMNS: [Column; 11] = [
    flexible("QUEUE"),
    left(""),
    right("PENDING"),
    right("ACTIVE"),
    right("SCHEDULED"),
    right("RETRY"),
    right("ARCHIVED"),
    right("COMPLETED"),
    right("OLDEST"),
    right("TODAY"),
    right("FAILED"),
];

/// All queues, or as JSON what the store said.
pub(crate) fn table(out: &Output, found: &Value) -> Outcome {
    if out.json {
        return out.value(found);
    }
    let rows: Vec<Vec<Cell>> = list(&found["queues"]).iter().map(row).collect();
    out.table(&COLUMNS, &rows, "no queue has had a job yet")
}

fn row(queue: &Value) -> Vec<Cell> {
    let name = Cell::new(text(&queue["queue"]));
    let info = &queue["info"];
    if info.is_null() {
        let problem = Cell::marked(text(&queue["problem"]), Mark::Bad);
        let mut row = vec![name, problem];
        row.resize(COLUMNS.len(), Cell::new("?"));
        return row;
    }
    let size = |state: &str| count(&info["sizes"][state]);
    let paused = match info["paused"].as_bool() {
        Some(true) => Cell::marked("paused", Mark::Warn),
        _ => Cell::new(""),
    };
    let oldest = info["latency_seconds"].as_f64().unwrap_or(0.0);
    let oldest = match size("pending") {
        0 => Cell::marked("-", Mark::Dim),
        _ => Cell::new(span(std::time::Duration::from_secs_f64(oldest.max(0.0)))),
    };
    vec![
        name,
        paused,
        Cell::number(size("pending")),
        Cell::number(size("active")),
        Cell::number(size("scheduled")),
        Cell::number(size("retry")),
        Cell::bad_number(size("archived")),
        Cell::number(size("completed")),
        oldest,
        Cell::number(count(&info["processed_today"])),
        Cell::bad_number(count(&info["failed_today"])),
    ]
}

async fn show(store: &dyn Store, out: &Output, queue: &str) -> Outcome {
    let info = store.queue(queue).await?;
    let minutes = store.minutes(queue).await?;
    let memory = store.memory(queue).await;
    if out.json {
        let memory = memory.unwrap_or_default();
        let minutes = &minutes["minutes"];
        return out
            .value(&json!({ "queue": queue, "info": info, "memory": memory, "minutes": minutes }));
    }
    let now = Utc::now();
    let hour =
        |name: &str| list(&minutes["minutes"]).iter().map(|one| count(&one[name])).sum::<u64>();
    // Only workers of this crate count by the minute: nothing is not the same as unknown.
    let last_hour = match list(&minutes["minutes"]).is_empty() {
        true => Cell::marked("not counted: no worker of rocket_jobqueue served it", Mark::Dim),
        false => Cell::new(format!("{} ended, {} failed", hour("processed"), hour("failed"))),
    };
    let paused = match info["paused"].as_bool() {
        Some(true) => Cell::marked(
            format!("yes, since {}", super::since(&info["paused_since"], now)),
            Mark::Warn,
        ),
        _ => Cell::new("no"),
    };
    let memory = match memory {
        Ok(memory) => Cell::new(format!("about {}", bytes(count(&memory["bytes"])))),
        Err(failure) => Cell::marked(format!("unknown: {}", failure.message), Mark::Dim),
    };
    let mut facts = vec![("queue", Cell::new(queue)), ("paused", paused)];
    for state in STATES {
        let size = count(&info["sizes"][state]);
        let cell = if state == "archived" { Cell::bad_number(size) } else { Cell::number(size) };
        facts.push((state, cell));
    }
    let today = (count(&info["processed_today"]), count(&info["failed_today"]));
    facts.extend([
        ("groups", Cell::number(count(&info["groups"]))),
        ("oldest pending", when(&info["pending_since"], now)),
        ("next due", when(&info["next_due"], now)),
        ("today (UTC)", Cell::new(format!("{} ended, {} failed", today.0, today.1))),
        ("last hour", last_hour),
        ("memory", memory),
    ]);
    out.facts(&facts)
}

async fn history(store: &dyn Store, out: &Output, queue: &str, days: u32) -> Outcome {
    let found = store.history(queue, days).await?;
    if out.json {
        return out.value(&found);
    }
    let rows: Vec<Vec<Cell>> = list(&found["days"])
        .iter()
        .map(|day| {
            let (ended, failed) = (count(&day["processed"]), count(&day["failed"]));
            let share = match ended {
                0 => Cell::marked("-", Mark::Dim),
                _ => Cell::new(format!("{:.1} %", failed as f64 * 100.0 / ended as f64)),
            };
            vec![
                Cell::new(text(&day["date"])),
                Cell::number(ended),
                Cell::bad_number(failed),
                share,
            ]
        })
        .collect();
    let columns = [left("DAY (UTC)"), right("ENDED"), right("FAILED"), right("SHARE")];
    out.table(&columns, &rows, "nothing is known of these days")
}

async fn groups(store: &dyn Store, out: &Output, queue: &str) -> Outcome {
    let (mut groups, mut cursor): (Vec<Value>, Option<String>) = (Vec::new(), None);
    loop {
        let page = store.groups(queue, cursor.as_deref()).await?;
        groups.extend(list(&page["groups"]).iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    if out.json {
        return out.value(&json!({ "groups": groups }));
    }
    let now = Utc::now();
    let row = |group: &Value| {
        vec![
            Cell::new(text(&group["group"])),
            Cell::number(count(&group["size"])),
            when(&group["oldest"], now),
            when(&group["newest"], now),
        ]
    };
    let columns = [flexible("GROUP"), right("JOBS"), left("OLDEST"), left("NEWEST")];
    out.table(&columns, &groups.iter().map(row).collect::<Vec<_>>(), "no group has waiting jobs")
}

async fn pause(
    store: &dyn Store,
    out: &Output,
    queues: &[String],
    pause: bool,
    change: Change,
) -> Outcome {
    let verb = if pause { "pause" } else { "resume" };
    // A misspelt name is found before anything is done.
    for queue in queues {
        store.queue(queue).await?;
    }
    let names = queues.join(", ");
    if !change.dry_run {
        let (verb, then) = match pause {
            true => ("Pause", "Workers dequeue no more of their jobs."),
            false => ("Resume", "Workers dequeue their jobs again."),
        };
        change.confirm(&format!("{verb} {names}? {then}"))?;
        for queue in queues {
            store.pause(queue, pause).await?;
        }
    }
    if out.json {
        return out.value(&json!({ "verb": verb, "queues": queues, "dry_run": change.dry_run }));
    }
    let done = if pause { "paused" } else { "resumed" };
    say(out, change, &format!("{names} {done}"), &format!("would {verb} {names}"))
}

async fn delete(
    store: &dyn Store,
    out: &Output,
    queue: &str,
    force: bool,
    change: Change,
) -> Outcome {
    let info = store.queue(queue).await?;
    let (size, active) = (count(&info["size"]), count(&info["sizes"]["active"]));
    if active > 0 {
        let why = format!("queue {queue:?}: expected no running job, found {active}");
        return Err(Failure::new(Exit::Refused, why));
    }
    if size > 0 && !force {
        let why =
            format!("queue {queue:?}: expected no jobs, found {size}; --force deletes them too");
        return Err(Failure::new(Exit::Refused, why));
    }
    if !change.dry_run {
        match size {
            0 => change.confirm(&format!("Delete the empty queue {queue}?"))?,
            _ => change.confirm_by(
                &format!("Delete queue {queue} with its {size} jobs? This cannot be undone."),
                queue,
            )?,
        }
        store.delete_queue(queue, force).await?;
    }
    if out.json {
        return out.value(&json!({
            "verb": "delete", "queues": [queue], "jobs": size, "dry_run": change.dry_run
        }));
    }
    let with = if size == 0 { String::new() } else { format!(" with {size} jobs") };
    say(
        out,
        change,
        &format!("queue {queue}{with} deleted"),
        &format!("would delete queue {queue}{with}"),
    )
}

/// Says what was done, or would be.
pub(crate) fn say(out: &Output, change: Change, done: &str, would: &str) -> Outcome {
    let text = if change.dry_run { would } else { done };
    out.line(crate::text::escaped(text))
}
