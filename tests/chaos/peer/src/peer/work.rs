//! The worker's handlers: do what the payload says and write it down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rocket_jobqueue::{
    Draft, JobContext, JobError, JobQueueFairing, JobRecord, RetryPolicy, handler::Transition,
};

use super::ledger::Ledger;
use super::settings::{BATCH, Settings, WORK, Work};

/// The fairing with handlers, aggregation and the hook that hears of settlements.
pub fn handlers(
    fairing: JobQueueFairing,
    settings: &Settings,
    ledger: &Arc<Ledger>,
) -> JobQueueFairing {
    let pause = Duration::from_millis(settings.retry_ms);
    let (single, batch, settled) = (Arc::clone(ledger), Arc::clone(ledger), Arc::clone(ledger));
    fairing
        .retry_policy(RetryPolicy::new(move |_| pause))
        .handle_raw(WORK, move |payload, context| {
            let ledger = Arc::clone(&single);
            async move { act(&payload, &context, &ledger).await }
        })
        .handle_raw(BATCH, move |payload, context| {
            let ledger = Arc::clone(&batch);
            async move {
                let members = String::from_utf8_lossy(&payload).into_owned();
                let run = Run::begin(&ledger, &context);
                ledger.line(&format!("G {} {members}", context.id()));
                run.end("done");
                Ok::<_, JobError>(None)
            }
        })
        .aggregate(aggregate)
        .on_settled(move |context, transition| {
            settled.line(&format!("S {} {}", context.id(), word(transition)));
        })
}

/// Its payload lists the members.
async fn aggregate(_: String, jobs: Vec<JobRecord>) -> Result<Draft, JobError> {
    let ids: Vec<_> = jobs.iter().map(|job| job.id.to_string()).collect();
    Ok(Draft::raw(BATCH, Some(ids.join(" ").into_bytes())))
}

fn word(transition: &Transition) -> &'static str {
    match transition {
        Transition::Complete { .. } => "complete",
        Transition::Revoke => "revoke",
        Transition::Retry { .. } => "retry",
        Transition::Archive { .. } => "archive",
        Transition::Requeue => "requeue",
        Transition::Reclaim { .. } => "reclaim",
        _ => "other",
    }
}

/// One run of a handler in the ledger; ends as `dropped` if nothing else was said.
struct Run<'l> {
    ledger: &'l Ledger,
    id: String,
    number: u64,
    ended: bool,
}

impl<'l> Run<'l> {
    fn begin(ledger: &'l Ledger, context: &JobContext) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(1);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        ledger.line(&format!("B {} {number} {}", context.id(), context.attempt()));
        Self { ledger, id: context.id().to_string(), number, ended: false }
    }

    fn end(mut self, outcome: &str) {
        self.write(outcome);
    }

    fn write(&mut self, outcome: &str) {
        self.ended = true;
        self.ledger.line(&format!("E {} {} {outcome}", self.id, self.number));
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.write(if std::thread::panicking() { "panicked" } else { "dropped" });
        }
    }
}

async fn act(
    payload: &[u8],
    context: &JobContext,
    ledger: &Ledger,
) -> Result<Option<Vec<u8>>, JobError> {
    let run = Run::begin(ledger, context);
    let Ok(work) = serde_json::from_slice::<Work>(payload) else {
        run.end("misread");
        return Err(JobError::give_up("the payload is not what the producer wrote"));
    };
    die(&work.death);
    if work.block_ms > 0 {
        std::thread::sleep(Duration::from_millis(work.block_ms));
    }
    if work.ms > 0 {
        tokio::time::sleep(Duration::from_millis(work.ms)).await;
    }
    if context.attempt() <= work.panic {
        panic!("panicked on purpose");
    }
    if context.attempt() <= work.fail {
        run.end("failed");
        return Err(JobError::failed("failed on purpose"));
    }
    run.end("done");
    Ok(None)
}

fn die(how: &str) {
    match how {
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "stack" => drop(deep(0)),
        "memory" => fill_memory(),
        _ => {}
    }
}

/// Overflows the stack.
#[allow(unconditional_recursion)]
fn deep(n: u64) -> Vec<u64> {
    let mut numbers = deep(n + 1);
    numbers.push(n);
    numbers
}

/// Until the limit on this process's memory (`ulimit -v`) ends it.
fn fill_memory() {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 16 << 20]);
    }
}
