//! The doctor: what no operation leaves behind.

use std::sync::Arc;

use serde_json::Value;

use crate::confirm::Change;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Cell, Mark, Output, flexible, left, right};
use crate::store::{Store, count, list, text};

pub(crate) async fn run(
    store: &Arc<dyn Store>,
    out: &Output,
    repair: bool,
    change: Change,
) -> Outcome {
    let repairs = repair && !change.dry_run;
    if repairs {
        change.confirm(
            "Repair the store? Jobs that are in no list become pending, and may run a second time.",
        )?;
    }
    let report = store.doctor(repairs).await?;
    let findings = list(&report["findings"]);
    if out.json {
        out.value(&report)?;
    } else {
        print(out, &report, findings)?;
    }
    // What was repaired is good again.
    let bad = findings.iter().filter(|one| one["status"] != "repaired").count();
    match bad {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Bad, "")),
    }
}

fn print(out: &Output, report: &Value, findings: &[Value]) -> Outcome {
    let (entries, queues) = (count(&report["entries_checked"]), list(&report["queues"]).len());
    let row = |one: &Value| {
        let status = text(&one["status"]);
        let mark = if status == "repaired" { Mark::Good } else { Mark::Bad };
        let samples: Vec<&str> = list(&one["samples"]).iter().map(text).collect();
        vec![
            Cell::new(text(&one["kind"])),
            Cell::new(one["queue"].as_str().unwrap_or("(the store)")),
            Cell::new(text(&one["place"])),
            Cell::number(count(&one["count"])),
            Cell::marked(status, mark),
            Cell::new(samples.join(" ")),
        ]
    };
    let rows: Vec<Vec<Cell>> = findings.iter().map(row).collect();
    let columns = [
        left("FINDING"),
        flexible("QUEUE"),
        flexible("WHERE"),
        right("ENTRIES"),
        left("STATUS"),
        flexible("SUCH AS"),
    ];
    if !rows.is_empty() {
        out.table(&columns, &rows, "")?;
    }
    let found = if rows.is_empty() { "healthy" } else { "checked" };
    out.line(format!("{found}: {entries} entries in {queues} queues"))
}
