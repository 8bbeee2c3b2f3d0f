//! The functions that every job passes, each called often enough that its own cost is what counts.

use std::hint::black_box;
use std::process::Stdio;

use futures_util::FutureExt;
use rocket_jobqueue::handler::Transition;
use rocket_jobqueue::internals::redis::{batch_sizes, keys, wire};
use rocket_jobqueue::internals::{Broker, Chance, MemoryBroker, SettleRequest, decide};
use rocket_jobqueue::{
    Clock, JobError, JobId, JobRecord, NewJob, Outcome as Ended, QueueName, RetryPolicy, Timestamp,
};

use crate::{FUNCTIONS, Outcome, valgrind};

/// Calls of each function: what comes before the first one is then below 1 %.
const TIMES: u64 = 200;

/// What valgrind counts inside of, and before what it writes down what it counted.
const COUNTED: &str = "*costs::functions::repeated*";
const MARK: &str = "*costs::functions::mark*";

/// One function with what it is called with. Boxed, so that the calls of all of them are the same
/// function, which callgrind knows by its name.
type Case = (&'static str, Box<dyn Fn()>);

/// Counts each function in a process of its own under callgrind.
pub fn count() -> Outcome<Vec<(String, u64)>> {
    let folder = tempfile::tempdir()?;
    let status = valgrind::callgrind(folder.path(), COUNTED, None, MARK)
        .arg(std::env::current_exe()?)
        .arg(FUNCTIONS)
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    if !status.success() {
        return Err(format!("valgrind of the functions: {status}").into());
    }
    let (names, dumps) = (cases(), valgrind::dumps(folder.path())?);
    if names.len() != dumps.len() {
        let (expected, found) = (names.len(), dumps.len());
        return Err(format!("expected {expected} dumps of functions, found {found}").into());
    }
    if let Some((name, _)) =
        names.iter().zip(&dumps).find(|(_, sum)| **sum == 0).map(|(case, _)| case)
    {
        return Err(format!("function \"{name}\": expected instructions, found none").into());
    }
    Ok(names
        .into_iter()
        .zip(dumps)
        .map(|((name, _), sum)| (name.to_owned(), sum / TIMES))
        .collect())
}

/// Runs all of them, each once beforehand: what is made at the first use is not counted.
pub fn run() {
    for (_, function) in cases() {
        function();
        repeated(&*function);
        mark();
    }
}

#[inline(never)]
fn mark() {
    black_box(());
}

#[inline(never)]
fn repeated(function: &dyn Fn()) {
    for _ in 0..TIMES {
        function();
    }
}

fn record(nth: usize) -> JobRecord {
    let queue = QueueName::new("default").expect("a plain name");
    let payload = br#"{"n":1234567890123,"to":"somebody@example.org"}"#.to_vec();
    let mut record = JobRecord::new("mail:welcome", Some(payload), queue);
    record.id = JobId::new(format!("job-{nth:08}")).expect("a plain id");
    record.max_retry = 25;
    record
}

/// The store in memory answers at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("the store in memory does not wait")
}

fn case(name: &'static str, function: impl Fn() + 'static) -> Case {
    (name, Box::new(function))
}

fn cases() -> Vec<Case> {
    let mut cases = messages();
    cases.extend(names());
    cases.extend(verdicts());
    cases.extend(stores());
    cases
}

fn messages() -> Vec<Case> {
    let (plain, bytes) = (record(1), wire::encode(&record(1)));
    let mut full = record(2);
    full.last_error = "smtp is down".to_owned();
    full.headers = (0..4).map(|n| (format!("header-{n}"), "a value".to_owned())).collect();
    let (full_bytes, again) = (wire::encode(&full), full.clone());
    let id = plain.clone();
    vec![
        case("message: encode", move || drop(black_box(wire::encode(black_box(&plain))))),
        case("message: decode", move || {
            drop(black_box(wire::decode(&id.queue, &id.id, black_box(&bytes))));
        }),
        case("message with headers: encode", move || {
            drop(black_box(wire::encode(black_box(&full))));
        }),
        case("message with headers: decode", move || {
            drop(black_box(wire::decode(&again.queue, &again.id, black_box(&full_bytes))));
        }),
    ]
}

fn names() -> Vec<Case> {
    let (job, locked) = (record(1), record(1));
    vec![
        case("key: job", move || drop(black_box(keys::task(&job.queue, black_box(&job.id))))),
        case("key: unique lock", move || {
            let payload = black_box(locked.payload.as_deref());
            drop(black_box(keys::unique(&locked.queue, &locked.job_type, payload)));
        }),
        case("name of a queue: check", || {
            drop(black_box(QueueName::new(black_box("shop:mail-42"))));
        }),
    ]
}

fn verdicts() -> Vec<Case> {
    let verdict = |name: &'static str, ended: fn() -> Ended| {
        let (record, policy) = (record(1), RetryPolicy::default());
        let (now, chance) = (Timestamp::from_secs(1_800_000_000), Chance::none());
        case(name, move || drop(black_box(decide(&record, ended(), &policy, now, &chance))))
    };
    vec![
        verdict("verdict: done", || Ended::Done(None)),
        verdict("verdict: failed", || Ended::Failed(JobError::failed("smtp is down"))),
        verdict("verdict: panicked", || Ended::Panicked("index out of bounds".to_owned())),
        verdict("verdict: timed out", || Ended::TimedOut),
    ]
}

fn stores() -> Vec<Case> {
    let waiting: Vec<_> = (0..250).map(|nth| NewJob::now(record(nth))).collect();
    let clock = || Clock::manual(Timestamp::from_secs(1_800_000_000));
    let (one, many) = (MemoryBroker::new(clock()), MemoryBroker::new(clock()));
    let hundred: Vec<_> = (0..100).map(|nth| NewJob::now(record(nth))).collect();
    vec![
        case("batcher: 250 waiting jobs", move || {
            assert_eq!(batch_sizes(black_box(&waiting)), [100, 100, 50]);
        }),
        case("memory: enqueue, dequeue and settle", move || {
            through(&one, &[NewJob::now(record(1))]);
        }),
        case("memory: the same with 100 at once", move || through(&many, &hundred)),
    ]
}

/// The whole way of these jobs through a store.
fn through(store: &MemoryBroker, jobs: &[NewJob]) {
    let queue = [jobs[0].record.queue.clone()];
    now(store.enqueue(jobs)).expect("it stores");
    let dequeued = now(store.dequeue(&queue, jobs.len())).expect("it gives");
    assert_eq!(dequeued.deliveries.len(), jobs.len());
    let done = Transition::Complete { result: None };
    let ended = dequeued.deliveries.into_iter().map(|one| SettleRequest::from((one, done.clone())));
    now(store.settle(&ended.collect::<Vec<_>>())).expect("it settles");
}
