//! Everything of a store into a file, and back.

use std::io::IsTerminal;
use std::path::Path;

use rocket_jobqueue::transfer::{Transfer, TransferReport};
use serde_json::json;

use crate::confirm::Change;
use crate::connect::Connect;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;

pub(crate) async fn export(
    connect: &Connect,
    out: &Output,
    file: &Path,
    while_running: bool,
    dry_run: bool,
) -> Outcome {
    let store = connect.transfer().await?.while_running(while_running).dry_run(dry_run);
    let store = shown(store);
    let is_standard = file.as_os_str() == "-";
    let report = match is_standard {
        true => store.export(std::io::BufWriter::new(std::io::stdout())).await,
        false => store.export_file(file).await,
    };
    // The report must not follow the entries into the same pipe.
    end(out, "export", report?, dry_run, is_standard && !dry_run)
}

pub(crate) async fn import(
    connect: &Connect,
    out: &Output,
    file: &Path,
    while_running: bool,
    change: Change,
) -> Outcome {
    let store = connect.transfer().await?.while_running(while_running).dry_run(change.dry_run);
    let store = shown(store);
    if !change.dry_run {
        change.confirm(&format!(
            "Import {} into {store:?}? Nothing is overwritten.",
            file.display()
        ))?;
    }
    let report = match file.as_os_str() == "-" {
        true => store.import(std::io::BufReader::new(std::io::stdin())).await,
        false => store.import_file(file).await,
    };
    end(out, "import", report?, change.dry_run, false)
}

/// The same move, with a line that is written again and again for a person.
fn shown(store: Transfer) -> Transfer {
    let is_terminal = std::io::stderr().is_terminal();
    store.on_progress(move |report| {
        if is_terminal {
            eprint!("\r{report}   ");
        }
    })
}

fn end(out: &Output, verb: &str, report: TransferReport, dry_run: bool, quiet: bool) -> Outcome {
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    for problem in &report.problems {
        out.note(problem);
    }
    let done = if dry_run { "would be done" } else { "done" };
    match (quiet, out.json) {
        (true, _) => out.note(format!("{done}: {report}")),
        (false, true) => out.value(&json!({
            "verb": verb, "dry_run": dry_run, "entries": report.entries, "new": report.new,
            "already_there": report.already_there, "conflicts": report.conflicts,
            "expired": report.expired, "unreadable": report.unreadable,
            "was_active": report.was_active, "problems": report.problems,
        }))?,
        (false, false) => out.line(format!("{done}: {report}"))?,
    }
    match report.conflicts + report.unreadable {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Bad, "")),
    }
}
