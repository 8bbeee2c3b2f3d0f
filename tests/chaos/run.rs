//! Runs scenarios, some at a time, and prints the table.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use crate::report::Report;
use crate::scenarios::Scenario;
use crate::stage::Stage;
use crate::table::{self, Row};

/// Runs these, at most `width` at a time.
pub fn run(scenarios: Vec<Scenario>, width: usize) -> ExitCode {
    let total = scenarios.len();
    // The slow ones first, so that nothing waits for them alone at the end.
    let mut queue: Vec<_> = scenarios.into_iter().enumerate().collect();
    if width > 1 {
        queue.sort_by_key(|(_, scenario)| scenario.seconds);
    } else {
        queue.reverse();
    }
    let queue = Arc::new(Mutex::new(queue));
    let (tell, told) = mpsc::channel();
    for _ in 0..width {
        let (queue, tell) = (Arc::clone(&queue), tell.clone());
        std::thread::spawn(move || {
            loop {
                let next = queue.lock().expect("no panic under the lock").pop();
                let Some((at, scenario)) = next else { return };
                let _ = tell.send((at, attempt(&scenario)));
            }
        });
    }
    drop(tell);
    let mut rows = Vec::new();
    for (at, row) in told {
        let word = if row.report.passed() { "ok" } else { "FAILED" };
        eprintln!("{word:<6} {:>5.1} s  {}", row.took.as_secs_f64(), row.name);
        row.report.failures.iter().for_each(|failure| eprintln!("    ! {failure}"));
        rows.push((at, row));
    }
    rows.sort_by_key(|(at, _)| *at);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let passed = rows.iter().filter(|row| row.report.passed()).count();
    println!("{}", table::of(&rows));
    println!("chaos: {passed} of {total} passed");
    if passed == total { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// In a runtime of its own; a panic of the harness is a failure.
fn attempt(scenario: &Scenario) -> Row {
    let began = Instant::now();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    let mut stage = Stage::new();
    let outcome =
        std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on((scenario.run)(&mut stage))));
    let report = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        let mut report = Report::default();
        report.fail(text.unwrap_or_else(|| "a panic without a text".to_owned()));
        report
    });
    if !report.passed() && std::env::var_os("CHAOS_KEEP").is_some() {
        stage.keep(scenario.name);
    }
    Row::of(scenario, began.elapsed(), report)
}
