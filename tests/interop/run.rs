//! Runs the cases, several at a time: most of what they do is wait for Asynq's
//! intervals. The last line of the output is the sum.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bench::{Bench, LOG};
use crate::cases::Case;

/// How many cases run at a time.
const WIDTH: usize = 8;

struct Outcome {
    name: String,
    took: Duration,
    /// What went wrong, if something did.
    error: Option<String>,
}

/// Runs those cases whose name holds one of the words; all without words.
pub fn run(cases: Vec<Case>, programs: &Path, words: &[String]) -> ExitCode {
    let total = cases.len();
    let chosen: Vec<Case> = cases
        .into_iter()
        .filter(|case| words.is_empty() || words.iter().any(|word| case.title().contains(word)))
        .collect();
    quiet_panics_on_purpose();
    let skipped = total - chosen.len();
    // The slow ones first, so that nothing waits for them alone at the end.
    let (slow, quick): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|case| case.slow);
    let mut queue: Vec<Case> = slow.into_iter().chain(quick).rev().collect();
    let running = queue.len();
    queue.shrink_to_fit();
    let queue = Arc::new(Mutex::new(queue));
    let (tell, told) = mpsc::channel();
    for _ in 0..WIDTH {
        let (queue, tell, programs) = (Arc::clone(&queue), tell.clone(), programs.to_owned());
        std::thread::spawn(move || {
            loop {
                let Some(case) = queue.lock().expect("no panic under the lock").pop() else {
                    return;
                };
                let _ = tell.send(attempt(case, &programs));
            }
        });
    }
    drop(tell);
    let mut failed = 0;
    for Outcome { name, took, error } in told.iter().take(running) {
        let seconds = took.as_secs_f64();
        match error {
            None => println!("ok      {seconds:5.1} s  {name}"),
            Some(error) => {
                failed += 1;
                println!("FAILED  {seconds:5.1} s  {name}\n        {error}");
            }
        }
    }
    println!("interop: {} of {total} passed, {skipped} skipped", running - failed);
    if failed == 0 && skipped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A runtime of its own for each, on a thread with the case's name.
fn attempt(case: Case, programs: &Path) -> Outcome {
    let began = Instant::now();
    let (name, programs): (String, PathBuf) = (case.title(), programs.to_owned());
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().to_owned();
    let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
        std::panic::catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async { (case.run)(Bench::new(&programs, &dir).await).await });
        }))
    });
    let error = match thread.expect("a thread").join() {
        Ok(Ok(())) => None,
        Ok(Err(panic)) | Err(panic) => Some(text(&*panic) + &told(folder.path())),
    };
    Outcome { name, took: began.elapsed(), error }
}

/// The last that Asynq's programs said.
fn told(dir: &Path) -> String {
    let log = std::fs::read_to_string(dir.join(LOG)).unwrap_or_default();
    let last = log.lines().rev().take(20).collect::<Vec<_>>();
    last.into_iter().rev().map(|line| format!("\n        | {line}")).collect()
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().cloned();
    let words = words.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    words.unwrap_or_else(|| "a panic without a text".to_owned())
}

/// Handlers that are to panic need not say so on the terminal.
fn quiet_panics_on_purpose() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !text(info.payload()).contains("on purpose") {
            usual(info);
        }
    }));
}
