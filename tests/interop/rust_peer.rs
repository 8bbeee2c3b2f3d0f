//! The Rust side: an application with one attach, as a user would write it, whose
//! handler does what its payload asks for. In this process, or, to be killed, in
//! one of its own.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rocket::local::asynchronous::Client;
use rocket_jobqueue::{
    Draft, Enqueue, Inspector, JobContext, JobError, JobId, JobQueue, JobQueueFairing, JobRecord,
    Managed, QueueName, RetryPolicy, Timestamp,
    handler::{JobResult, Next},
    inspect::JobInfo,
};
use serde_json::{Value, json};

use crate::browser::Anybody;
use crate::settings::{BATCH, Behaviour, Line, Order, Setup, WORK, hex};

/// An application on this Redis; without a set-up it runs no jobs.
pub struct RustPeer {
    client: Client,
}

pub fn fairing(redis: &str, setup: Option<&Setup>) -> JobQueueFairing {
    let fairing = JobQueue::fairing()
        .admin_guard::<Anybody>()
        .environment("embedded")
        .set("jobqueue.store", "redis")
        .set("jobqueue.log_to_stderr", false)
        .set("databases.jobqueue.url", format!("redis://{redis}"));
    let Some(setup) = setup else { return fairing.set("jobqueue.worker", false) };
    let file = OpenOptions::new().append(true).create(true).open(&setup.ledger);
    let ledger = Arc::new(file.expect("a ledger"));
    let delay = Duration::from_millis(setup.retry_delay);
    let handler = move |payload: Vec<u8>, context: JobContext| {
        let ledger = Arc::clone(&ledger);
        async move { act(&payload, &context, &ledger).await }
    };
    let mut queues = setup.queues.clone();
    // Queues of all layers of the configuration make one table, and `default`
    // stands in the repository's Rocket.toml.
    queues.entry("default".to_owned()).or_insert(0);
    let fairing = fairing
        .set("jobqueue.concurrency", setup.concurrency)
        .set("jobqueue.strict_priority", setup.strict)
        .set("jobqueue.queues", queues)
        .retry_policy(RetryPolicy::new(move |_| delay))
        .middleware(with_child)
        .handle_raw(WORK, handler.clone())
        .handle_raw(BATCH, handler);
    if !setup.aggregate {
        return fairing;
    }
    fairing
        .set("jobqueue.group_grace", format!("{}s", setup.group_grace))
        .set("jobqueue.group_max_delay", format!("{}s", setup.group_max_delay))
        .set("jobqueue.group_max_size", setup.group_max_size)
        .aggregate(one_of_many)
}

/// What a group becomes: its name and its members' payloads, in order.
async fn one_of_many(group: String, jobs: Vec<JobRecord>) -> Result<Draft, JobError> {
    static BATCHES: AtomicUsize = AtomicUsize::new(1);
    let members: Vec<_> =
        jobs.iter().map(|job| String::from_utf8_lossy(job.payload_bytes())).collect();
    let payload = json!({"group": group, "members": members}).to_string();
    let number = BATCHES.fetch_add(1, Ordering::Relaxed);
    let id = format!("batch-rust-{group}-{number}");
    Ok(Draft::raw(BATCH, Some(payload.into_bytes())).id(id))
}

/// If a payload asks for it, its handler's job enqueues another for the other side.
async fn with_child(context: JobContext, next: Next, queue: Managed<JobQueue>) -> JobResult {
    let wish: Behaviour = serde_json::from_slice(context.payload()).unwrap_or_default();
    if wish.r#do == "child" {
        let child = queue.enqueue_raw(WORK, Some(b"{}".to_vec()));
        child.queue("children").id(format!("child-of-{}", context.id())).await?;
    }
    next.run().await
}

async fn act(
    payload: &[u8],
    context: &JobContext,
    ledger: &File,
) -> Result<Option<Vec<u8>>, JobError> {
    note(ledger, context, "start", "");
    // A payload that is not a JSON object asks for nothing.
    let wish: Behaviour = serde_json::from_slice(payload).unwrap_or_default();
    let end = |word| note(ledger, context, "end", word);
    match wish.r#do.as_str() {
        "fail" if context.attempt() <= wish.times => {
            end("failed");
            return Err(JobError::failed(format!(
                "failed on purpose: attempt {}",
                context.attempt()
            )));
        }
        "skip" => {
            end("skipped");
            return Err(JobError::give_up("never again"));
        }
        "revoke" => {
            end("revoked");
            return Err(JobError::revoke());
        }
        "panic" => {
            end("panicked");
            panic!("panicked on purpose");
        }
        "report" => {
            context.write_result_bytes(wish.result.as_bytes()).await?;
            note(ledger, context, "reported", "");
            tokio::time::sleep(Duration::from_millis(wish.ms)).await;
            end("done");
            return Ok(None);
        }
        "sleep" => tokio::time::sleep(Duration::from_millis(wish.ms)).await,
        _ => {}
    }
    end("done");
    Ok((!wish.result.is_empty()).then(|| wish.result.into_bytes()))
}

fn note(mut ledger: &File, context: &JobContext, event: &str, word: &str) {
    let line = Line {
        peer: "rust".into(),
        event: event.into(),
        id: context.id().to_string(),
        r#type: context.job_type().into(),
        queue: context.queue().to_string(),
        retried: context.attempt() - 1,
        max_retry: context.max_attempts() - 1,
        hex: hex(context.payload()),
        headers: Some(context.headers().clone()),
        deadline: context.deadline().as_secs(),
        at: millis(SystemTime::now()),
        word: word.into(),
    };
    let text = serde_json::to_string(&line).expect("a line is JSON") + "\n";
    ledger.write_all(text.as_bytes()).expect("the ledger takes a line");
}

pub fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("a date")
}

impl RustPeer {
    pub async fn start(redis: &str, setup: Option<&Setup>) -> Self {
        // Rocket's log level is the process's; an application being built sets it
        // to loud for a moment, in which another must not speak.
        static QUIET: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _turn = QUIET.lock().await;
        let figment = rocket::Config::figment().merge(("log_level", "off"));
        let rocket = rocket::custom(figment).attach(fairing(redis, setup));
        Self { client: Client::untracked(rocket).await.expect("the application launches") }
    }

    pub fn queue(&self) -> &JobQueue {
        self.client.rocket().state().expect("the fairing manages the handle")
    }

    pub fn inspector(&self) -> Inspector {
        self.queue().inspector()
    }

    /// What one of our own routes answers.
    pub async fn get(&self, path: &str) -> String {
        self.client.get(path).dispatch().await.into_string().await.expect("a body")
    }

    /// Stops as at SIGTERM: with a drain.
    pub async fn stop(self) {
        self.client.terminate().await;
    }

    /// Enqueues, and reports the result in the form of the Go client.
    pub async fn produce(&self, order: &Order) -> Result<Value, String> {
        let job = self.queue().enqueue_raw(&order.r#type, order.bytes());
        match with_options(job, order).await {
            Ok(receipt) => Ok(json!({
                "id": receipt.id.as_str(), "queue": receipt.queue.as_str(),
                "state": receipt.state.as_str(),
            })),
            Err(error) if error.is_duplicate() => Err("task already exists".to_owned()),
            Err(error) if error.is_id_conflict() => {
                Err("task ID conflicts with another task".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Enqueues many at once, which must all be taken; their ids.
    pub async fn produce_all(&self, orders: &[Order]) -> Vec<String> {
        let drafts = orders
            .iter()
            .map(|order| with_options(Draft::raw(&order.r#type, order.bytes()), order));
        let outcomes = self.queue().enqueue_all(drafts).await;
        outcomes.into_iter().map(|outcome| outcome.expect("it is taken").id.to_string()).collect()
    }

    /// One job in the words of the Go inspector.
    pub async fn look(&self, queue: &str, id: &str) -> Option<Value> {
        let (queue, id) = (QueueName::new(queue).unwrap(), JobId::new(id).unwrap());
        self.inspector().job(&queue, &id).await.expect("an answer").map(|info| describe(&info))
    }
}

/// Every option of the order on a job, to be stored alone or with others.
fn with_options<C>(mut job: Enqueue<C>, order: &Order) -> Enqueue<C> {
    let secs = Duration::from_secs;
    for (name, value) in order.headers.iter().flatten() {
        job = job.header(name, value);
    }
    if !order.queue.is_empty() {
        job = job.queue(order.queue.clone());
    }
    if !order.id.is_empty() {
        job = job.id(&order.id);
    }
    if let Some(retries) = order.max_retry {
        job = job.max_retry(retries);
    }
    if order.timeout > 0 {
        job = job.timeout(secs(order.timeout));
    }
    if order.deadline > 0 {
        job = job.deadline(Timestamp::from_secs(order.deadline));
    }
    if order.retention > 0 {
        job = job.retention(secs(order.retention));
    }
    if order.unique > 0 {
        job = job.unique_for(secs(order.unique));
    }
    if let Some(until) = order.until {
        job = job.until(until);
    }
    if order.expires_in > 0 {
        job = job.expires_in(secs(order.expires_in));
    }
    if !order.group.is_empty() {
        job = job.group(order.group.clone());
    }
    if order.r#in > 0 {
        job = job.delay(secs(order.r#in));
    }
    if order.at > 0 {
        job = job.at(Timestamp::from_secs(order.at));
    }
    job
}

/// In the words of the Go inspector, but for what only one of the two knows.
pub fn describe(info: &JobInfo) -> Value {
    let job = &info.record;
    let unix = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_secs);
    json!({
        "id": job.id.as_str(), "queue": job.queue.as_str(), "type": job.job_type,
        "hex": hex(job.payload_bytes()), "headers": headers(&job.headers),
        "state": info.state.as_str(), "max_retry": job.max_retry, "retried": job.retried,
        "last_error": job.last_error, "last_failed_at": unix(job.last_failed_at),
        "timeout": job.timeout.as_secs(), "deadline": unix(job.deadline), "group": job.group,
        "next": info.due.map_or(0, Timestamp::as_secs_ceil),
        "retention": job.retention.as_secs(), "completed_at": unix(job.completed_at),
        "result": hex(info.result.as_deref().unwrap_or_default()),
    })
}

/// Go says null if there is none.
fn headers(headers: &BTreeMap<String, String>) -> Value {
    if headers.is_empty() { Value::Null } else { json!(headers) }
}

/// A worker in this process until it is killed: `peer <redis> <set-up>`.
pub async fn run_until_killed(redis: &str, setup: &str) {
    let setup: Setup = serde_json::from_str(setup).expect("a set-up");
    let _peer = RustPeer::start(redis, Some(&setup)).await;
    println!("ready");
    std::future::pending::<()>().await;
}
