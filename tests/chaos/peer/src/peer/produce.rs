//! The producer: a line before each call and one after it.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rocket::local::asynchronous::Client;
use rocket_jobqueue::{Client as Queue, Error, Idempotency, JobQueue};
use tokio::sync::Semaphore;

use super::ledger::Ledger;
use super::settings::{Again, Load, Settings, WORK, Work};

/// How long an unknown outcome is tried again.
const TRIES: u32 = 100;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// Enqueues until the count is reached or standard input ends.
pub async fn run(settings: &Settings, ledger: &Arc<Ledger>) -> Result<(), String> {
    let rocket = super::application(settings, super::fairing(settings));
    let client = Client::untracked(rocket).await.map_err(|error| error.to_string())?;
    let queue = client.rocket().state::<JobQueue>().ok_or("the fairing manages it")?.client();
    ledger.line("U");

    let load = Arc::new(settings.load.clone());
    let stop = until_input_ends();
    let slots = Arc::new(Semaphore::new(load.in_flight));
    let mut pace = load.rate.checked_sub(1).map(|less| {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / (less as u32 + 1));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        pace
    });
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) && (load.count == 0 || number < load.count) {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let slot = Arc::clone(&slots).acquire_owned().await.map_err(|error| error.to_string())?;
        let (queue, load, ledger) = (queue.clone(), Arc::clone(&load), Arc::clone(ledger));
        tokio::spawn(async move {
            one(&queue, &load, number, &ledger).await;
            drop(slot);
        });
        number += 1;
    }
    let all = u32::try_from(load.in_flight).map_err(|error| error.to_string())?;
    let _ended = slots.acquire_many(all).await.map_err(|error| error.to_string())?;
    Ok(())
}

/// Becomes true when the harness closes standard input.
fn until_input_ends() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        tell.store(true, Ordering::Relaxed);
    });
    ended
}

async fn one(queue: &Queue, load: &Load, number: u64, ledger: &Ledger) {
    let id = format!("{}-{number}", load.name);
    let name = &load.queues[number as usize % load.queues.len()];
    let mut work = load.works[number as usize % load.works.len()].clone();
    work.key = work.key.replace('*', &(number % 50).to_string());
    ledger.line(&format!("P {id} {name}"));
    let mut answer = enqueue(queue, name, &id, &work, load.again).await;
    for _ in 0..TRIES {
        let again =
            load.again != Again::No && answer.as_ref().is_err_and(|error| error.is_unavailable());
        if !again {
            break;
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
        answer = enqueue(queue, name, &id, &work, load.again).await;
    }
    let (word, text) = match &answer {
        Ok(()) => ("ok", String::new()),
        Err(error) if error.is_outcome_unknown() => ("unknown", error.to_string()),
        Err(error) => ("refused", error.to_string()),
    };
    ledger.line(&format!("A {id} {word} {}", super::one_line(&text)));
}

async fn enqueue(
    queue: &Queue,
    name: &str,
    id: &str,
    work: &Work,
    again: Again,
) -> Result<(), Error> {
    let payload = serde_json::to_vec(work).expect("a payload is JSON");
    let guard = (again == Again::Key).then(|| Idempotency::new("chaos", id, &payload));
    let mut job = queue.enqueue_raw(WORK, Some(payload)).queue(name.to_owned()).id(id);
    job = job.max_retry(work.max_retry).delay(Duration::from_millis(work.delay_ms));
    if let Some(guard) = guard {
        job = job.idempotency(guard);
    }
    if work.unique_s > 0 {
        job = job.unique_for(Duration::from_secs(work.unique_s));
    }
    if work.retention_s > 0 {
        job = job.retention(Duration::from_secs(work.retention_s));
    }
    if work.timeout_s > 0 {
        job = job.timeout(Duration::from_secs(work.timeout_s));
    }
    if !work.group.is_empty() {
        job = job.group(work.group.clone());
    }
    job.await.map(drop)
}
