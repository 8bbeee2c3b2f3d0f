//! Worker processes, as they announce themselves.

use std::sync::Arc;

use chrono::Utc;
use serde_json::{Value, json};

use super::when;
use crate::args::{WorkerCommand, Workers};
use crate::confirm::Change;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Cell, Mark, Output, flexible, left, right};
use crate::store::{Store, WorkerChange, count, list, text};
use crate::text::{bytes, span};

pub(crate) async fn run(store: &Arc<dyn Store>, out: &Output, command: WorkerCommand) -> Outcome {
    match command {
        WorkerCommand::List => all(&**store, out).await,
        WorkerCommand::Quiet { workers, change } => {
            let quiet = WorkerChange { quiet: Some(true), ..WorkerChange::default() };
            let what = "Make quiet: dequeue no more jobs, and let those in flight run to their end";
            ask(&**store, out, ("quiet", what), &workers, &quiet, change).await
        }
        WorkerCommand::Resume { workers, change } => {
            let resume = WorkerChange { quiet: Some(false), ..WorkerChange::default() };
            ask(&**store, out, ("resume", "Dequeue jobs again"), &workers, &resume, change).await
        }
        WorkerCommand::Scale { workers, concurrency, weights, lasting, change } => {
            let update = WorkerChange {
                quiet: None,
                concurrency: concurrency.map(|setting| setting.0),
                weights: weights.into_iter().map(|(queue, weight)| (queue, weight.0)).collect(),
                lasting,
            };
            let what = scaled(&update);
            ask(&**store, out, ("scale", &what), &workers, &update, change).await
        }
    }
}

/// A change of slots and weights in words.
fn scaled(update: &WorkerChange) -> String {
    let number =
        |value: Option<u32>| value.map_or("as configured".to_owned(), |one| one.to_string());
    let mut parts = Vec::new();
    parts.extend(update.concurrency.map(|slots| format!("slots {}", number(slots))));
    let weights = update.weights.iter();
    parts.extend(weights.map(|(queue, weight)| format!("weight of {queue} {}", number(*weight))));
    let end = match update.lasting {
        Some(time) => format!(" for {}", span(time)),
        None => " until the process ends".to_owned(),
    };
    format!("Change {}{end}", parts.join(", "))
}

/// Asks processes to change. Each is checked before any is asked.
async fn ask(
    store: &dyn Store,
    out: &Output,
    (verb, what): (&str, &str),
    workers: &Workers,
    update: &WorkerChange,
    change: Change,
) -> Outcome {
    let found = store.servers().await?;
    let servers = list(&found["servers"]);
    for id in &workers.ids {
        if !servers.iter().any(|server| text(&server["server_id"]) == id) {
            let missing = format!("no worker process {id:?} is announced");
            return Err(Failure::new(Exit::NotFound, missing));
        }
    }
    let whom = match workers.all {
        true => format!("all {} worker processes", servers.len()),
        false => format!("worker {}", workers.ids.join(", ")),
    };
    let mut asked = 0;
    if !change.dry_run {
        change.confirm(&format!("{what}: {whom}?"))?;
        if workers.all {
            asked = store.change_workers(None, update).await?;
        }
        for id in &workers.ids {
            asked += store.change_workers(Some(id), update).await?;
        }
    }
    if out.json {
        return out.value(&json!({
            "verb": verb, "dry_run": change.dry_run, "workers": workers.ids, "asked": asked
        }));
    }
    let done = format!("{asked} asked; jobqueue worker list says when they have obeyed");
    super::queue::say(out, change, &done, &format!("would {verb} {whom}"))
}

async fn all(store: &dyn Store, out: &Output) -> Outcome {
    let found = store.servers().await?;
    if out.json {
        return out.value(&found);
    }
    let now = Utc::now();
    let rows: Vec<Vec<Cell>> = list(&found["servers"])
        .iter()
        .map(|server| {
            let state = state(server);
            let mark = if is_serving(server) { Mark::Good } else { Mark::Warn };
            let details = &server["details"];
            vec![
                Cell::new(text(&server["host"])),
                Cell::new(server["pid"].to_string()),
                Cell::new(text(&server["server_id"])),
                Cell::marked(state, mark),
                Cell::new(details["version"].as_str().unwrap_or("-")),
                Cell::new(details["memory"].as_u64().map_or("-".to_owned(), bytes)),
                Cell::new(format!("{} of {}", busy(server), server["concurrency"])),
                Cell::new(queues(&server["queues"])),
                when(&server["started"], now),
            ]
        })
        .collect();
    let columns = [
        flexible("HOST"),
        right("PID"),
        left("ID"),
        left("STATE"),
        flexible("VERSION"),
        right("MEMORY"),
        left("SLOTS"),
        flexible("QUEUES"),
        left("STARTED"),
    ];
    out.table(&columns, &rows, "no worker process is announced")?;
    if count(&found["unreadable"]) > 0 {
        let unreadable = count(&found["unreadable"]);
        out.note(format!("{unreadable} more with announcements that this version cannot read"));
    }
    Ok(())
}

/// What a process does, as far as it tells.
pub(crate) fn state(server: &Value) -> &str {
    server["details"]["state"].as_str().unwrap_or_else(|| text(&server["status"]))
}

/// Whether it dequeues jobs.
pub(crate) fn is_serving(server: &Value) -> bool {
    matches!(state(server), "running" | "active")
}

/// The jobs that a process runs.
pub(crate) fn busy(server: &Value) -> u64 {
    list(&server["running"]).len() as u64 + count(&server["more_running"])
}

/// Queues with their weights: `default 10, mail 3`.
pub(crate) fn queues(queues: &Value) -> String {
    let queues = queues.as_object().into_iter().flatten();
    queues.map(|(name, weight)| format!("{name} {weight}")).collect::<Vec<_>>().join(", ")
}
