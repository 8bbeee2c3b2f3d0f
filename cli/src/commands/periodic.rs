//! Periodic jobs: which processes have them, their runs, and a run by hand.

use std::sync::Arc;

use chrono::Utc;
use serde_json::{Value, json};

use super::when;
use crate::args::PeriodicCommand;
use crate::confirm::Change;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Cell, Output, flexible, left, right};
use crate::store::{Store, list, text};
use crate::text::escaped;

pub(crate) async fn run(store: &Arc<dyn Store>, out: &Output, command: PeriodicCommand) -> Outcome {
    match command {
        PeriodicCommand::List => all(&**store, out).await,
        PeriodicCommand::Runs { id, limit } => runs(&**store, out, &id, limit).await,
        PeriodicCommand::Run { id, change } => run_now(&**store, out, &id, change).await,
    }
}

async fn all(store: &dyn Store, out: &Output) -> Outcome {
    let found = store.periodic().await?;
    if out.json {
        return out.value(&found);
    }
    let now = Utc::now();
    let row = |one: &Value| {
        vec![
            Cell::new(text(&one["id"])),
            Cell::new(text(&one["spec"])),
            Cell::new(text(&one["job_type"])),
            Cell::new(text(&one["queue"])),
            when(&one["next"], now),
            when(&one["prev"], now),
            Cell::number(list(&one["schedulers"]).len() as u64),
        ]
    };
    let rows: Vec<Vec<Cell>> = list(&found["periodic"]).iter().map(row).collect();
    let columns = [
        left("ID"),
        left("SCHEDULE"),
        flexible("TYPE"),
        flexible("QUEUE"),
        left("NEXT"),
        left("LAST"),
        right("PROCESSES"),
    ];
    out.table(&columns, &rows, "no running process has a periodic job")
}

async fn runs(store: &dyn Store, out: &Output, id: &str, limit: u32) -> Outcome {
    let found = store.runs(id, limit).await?;
    if out.json {
        return out.value(&found);
    }
    let now = Utc::now();
    let row = |one: &Value| vec![when(&one["at"], now), Cell::new(text(&one["job"]))];
    let rows: Vec<Vec<Cell>> = list(&found["runs"]).iter().map(row).collect();
    out.table(&[left("ENQUEUED"), left("JOB")], &rows, "no run is known")
}

async fn run_now(store: &dyn Store, out: &Output, id: &str, change: Change) -> Outcome {
    let found = store.periodic().await?;
    let known = list(&found["periodic"]).iter().find(|one| text(&one["id"]) == id);
    let Some(known) = known else {
        let missing = format!("no running process has a periodic job {id:?}");
        return Err(Failure::new(Exit::NotFound, missing));
    };
    let (kind, queue) = (text(&known["job_type"]), text(&known["queue"]));
    if change.dry_run {
        if out.json {
            return out.value(&json!({ "verb": "run", "periodic": id, "dry_run": true }));
        }
        return out.line(escaped(&format!("would enqueue a job of type {kind} in queue {queue}")));
    }
    change.confirm(&format!("Run {id} now: enqueue a job of type {kind} in queue {queue}?"))?;
    let job = store.run_periodic(id).await?;
    match out.json {
        true => {
            out.value(&json!({ "verb": "run", "periodic": id, "dry_run": false, "job_id": job }))
        }
        false => out.line(escaped(&job)),
    }
}
