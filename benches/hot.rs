//! The functions that every job passes, in process: messages, keys, verdicts and the
//! store in memory.
//!
//! ```sh
//! cargo bench --bench hot
//! ```

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use rocket_jobqueue::internals::redis::{keys, wire};
use rocket_jobqueue::internals::{Broker, Chance, MemoryBroker, SettleRequest, decide};
use rocket_jobqueue::{
    Clock, JobError, JobRecord, NewJob, Outcome, QueueName, RetryPolicy, Timestamp,
    handler::Transition,
};

fn record() -> JobRecord {
    let payload = br#"{"n":1234567890123}"#.to_vec();
    JobRecord::new("noop", Some(payload), QueueName::new("default").expect("a plain name"))
}

fn messages(c: &mut Criterion) {
    let record = record();
    let bytes = wire::encode(&record);
    c.bench_function("message: encode", |b| b.iter(|| wire::encode(black_box(&record))));
    c.bench_function("message: decode", |b| {
        b.iter(|| wire::decode(&record.queue, &record.id, black_box(&bytes)))
    });
}

fn names(c: &mut Criterion) {
    let record = record();
    c.bench_function("key: job", |b| b.iter(|| keys::task(&record.queue, black_box(&record.id))));
    c.bench_function("key: unique lock", |b| {
        b.iter(|| keys::unique(&record.queue, "noop", black_box(record.payload.as_deref())))
    });
}

fn verdicts(c: &mut Criterion) {
    let (record, policy) = (record(), RetryPolicy::default());
    let (now, chance) = (Timestamp::from_secs(1_800_000_000), Chance::system());
    c.bench_function("verdict: done", |b| {
        b.iter(|| decide(black_box(&record), Outcome::Done(None), &policy, now, &chance))
    });
    c.bench_function("verdict: failed", |b| {
        let failed = || Outcome::Failed(JobError::failed("smtp is down"));
        b.iter_batched(
            failed,
            |failed| decide(&record, failed, &policy, now, &chance),
            BatchSize::SmallInput,
        )
    });
}

/// The store in memory answers at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("the store in memory does not wait")
}

fn memory(c: &mut Criterion) {
    let queue = [QueueName::new("default").expect("a plain name")];
    c.bench_function("memory: enqueue, take and settle", |b| {
        let broker = MemoryBroker::new(Clock::system());
        b.iter(|| {
            now(broker.enqueue(&[NewJob::now(record())])).expect("it stores");
            let taken = now(broker.dequeue(&queue, 1)).expect("it gives");
            let done = Transition::Complete { result: None };
            let settled =
                taken.deliveries.into_iter().map(|one| SettleRequest::from((one, done.clone())));
            now(broker.settle(&settled.collect::<Vec<_>>())).expect("it settles")
        });
    });
    c.bench_function("memory: hand back 100 and take 100, of 10,000", |b| {
        let broker = MemoryBroker::new(Clock::system());
        let jobs: Vec<_> = (0..10_000).map(|_| NewJob::now(record())).collect();
        now(broker.enqueue(&jobs)).expect("it stores");
        let mut held = now(broker.dequeue(&queue, 100)).expect("it gives").deliveries;
        b.iter(|| {
            let back = Transition::Requeue;
            let ended: Vec<_> =
                held.drain(..).map(|one| SettleRequest::from((one, back.clone()))).collect();
            let ended: Vec<_> = ended.iter().collect();
            held = now(broker.exchange(&ended, &queue, 100)).dequeued.expect("it gives").deliveries;
        });
    });
}

criterion_group!(hot, messages, names, verdicts, memory);
criterion_main!(hot);
