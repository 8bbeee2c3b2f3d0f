//! `GET {base}/metrics` for Prometheus: the sizes and counters of all queues, under the names of
//! Asynq's own exporter, and the histograms of this process (`crate::metrics`).
//!
//! The store's counters cover all processes, the histograms only this process, so a scraper has to
//! read every worker. Job types and queues are labels: the application chooses both, so it bounds
//! their number. At most [`MAX_QUEUES`] queues are reported, the first by name.
//!
//! What may surprise. If the worker processes cannot be read, the response is still 200, without
//! the metrics about them. If the queues cannot be read, it is an error.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rocket::http::{ContentType, Status};
use rocket::{Route, get, routes};

use crate::broker::{LimitInfo, QueueInfo, ServerInfo};
use crate::inspector::Alerts;
use crate::job::QueueName;
use crate::metrics::Attempts;
use crate::web::JobQueue;
use crate::web::error::ProblemDetails;
use crate::web::guards::ViewAccess;

/// The label of a metric of one queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
}

/// The labels of a metric of one queue and state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueState {
    queue: String,
    state: &'static str,
}

/// The labels of a metric of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    queue: String,
    limit: String,
}

/// The label of a metric of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabel {
    rule: &'static str,
}

/// A gauge of jobs, by label.
type Size<L> = Family<L, Gauge<u64, AtomicU64>>;

/// Maximum queues in a scrape, the first by name, so that its cost stays bounded.
const MAX_QUEUES: usize = 1000;

/// Maximum queues whose limits are reported, the first by name; a queue has at most 32.
const MAX_LIMITED_QUEUES: usize = 100;

/// Answers a scrape, in OpenMetrics text. It costs one O(1) script per queue, two commands per
/// worker process, and one command or script for the limits of each of at most 100 queues.
#[get("/metrics")]
async fn metrics(
    _access: ViewAccess,
    queue: &JobQueue,
) -> Result<(ContentType, String), ProblemDetails> {
    let failed = |error| ProblemDetails::of_stored(&error, "Failed to read the job queue");
    let queues = queue.some_queues(MAX_QUEUES).await.map_err(failed)?;
    // If the servers or limits cannot be read, the rest is still useful.
    let inspector = queue.redacted_inspector();
    let servers = inspector.servers().await.map(|found| found.servers).unwrap_or_default();
    let attempts = queue.runtime().registry().attempts();
    let mut limits = Vec::new();
    for (name, _) in queues.iter().take(MAX_LIMITED_QUEUES) {
        let found = inspector.limits(name).await.unwrap_or_default();
        limits.extend(found.into_iter().map(|info| (name.clone(), info)));
    }
    let alerts = queue.shared_alerts().await.ok();
    let text = render(&queues, &limits, &servers, attempts, alerts.as_deref()).map_err(|_| {
        ProblemDetails::new(Status::InternalServerError, "the metrics could not be written")
    })?;
    let format = ContentType::new("application", "openmetrics-text")
        .with_params([("version", "1.0.0"), ("charset", "utf-8")]);
    Ok((format, text))
}

/// Builds a registry for each scrape, because the store keeps the numbers. The histograms of
/// this process are the exception: they are registered as clones that share their counts.
///
/// Asynq's names are kept, so that dashboards and alerts made for its exporter go on working:
/// `asynq_tasks_enqueued_total` is a gauge by state, whatever its name says. Names that begin
/// with `jobqueue_` are this crate's own.
fn render(
    queues: &[(QueueName, QueueInfo)],
    limits: &[(QueueName, LimitInfo)],
    servers: &[ServerInfo],
    attempts: &Attempts,
    alerts: Option<&Alerts>,
) -> Result<String, std::fmt::Error> {
    let mut all = Registry::default();
    add_queues(&mut all, queues);
    add_limits(&mut all, limits);
    add_attempts(&mut all, attempts);
    add_servers(&mut all, servers);
    add_alerts(&mut all, alerts);
    let mut text = String::new();
    encode(&mut text, &all)?;
    Ok(text)
}

/// How full the limits are, over all keys of each.
fn add_limits(all: &mut Registry, limits: &[(QueueName, LimitInfo)]) {
    let (in_use, waiting) = (Size::<LimitLabel>::default(), Size::<LimitLabel>::default());
    for (queue, info) in limits {
        let label = LimitLabel { queue: queue.to_string(), limit: info.limit.name.clone() };
        in_use.get_or_create(&label).set(info.in_use);
        waiting.get_or_create(&label).set(info.waiting);
    }
    all.register("jobqueue_limit_in_use", "Active jobs that count for a limit", in_use);
    all.register("jobqueue_limit_waiting", "Jobs that wait for a place of a limit", waiting);
}

/// The numbers of the queues, under the names that Asynq's exporter has.
fn add_queues(all: &mut Registry, queues: &[(QueueName, QueueInfo)]) {
    let by_state = Size::<QueueState>::default();
    let (size, paused) = (Size::<QueueLabel>::default(), Size::<QueueLabel>::default());
    let latency = Family::<QueueLabel, Gauge<f64, AtomicU64>>::default();
    let processed = Family::<QueueLabel, Counter>::default();
    let failed = Family::<QueueLabel, Counter>::default();
    for (name, info) in queues {
        let queue = name.to_string();
        let label = QueueLabel { queue: queue.clone() };
        for (state, jobs) in &info.sizes {
            by_state.get_or_create(&QueueState { queue: queue.clone(), state }).set(*jobs);
        }
        size.get_or_create(&label).set(info.sizes.values().sum());
        latency.get_or_create(&label).set(info.latency.as_secs_f64());
        paused.get_or_create(&label).set(u64::from(info.paused));
        processed.get_or_create(&label).inc_by(info.processed);
        failed.get_or_create(&label).inc_by(info.failed);
    }
    let registry = all.sub_registry_with_prefix("asynq");
    registry.register("tasks_enqueued_total", "Jobs by state", by_state);
    registry.register("queue_size", "Jobs in the queue", size);
    registry.register("queue_latency_seconds", "Age of the oldest pending job", latency);
    registry.register("queue_paused_total", "1 while the queue is paused", paused);
    registry.register("tasks_processed", "Attempts that ended", processed);
    registry.register("tasks_failed", "Attempts that failed", failed);
}

/// The durations of this process.
fn add_attempts(all: &mut Registry, attempts: &Attempts) {
    all.register(
        "jobqueue_attempt_duration_seconds",
        "Duration of the attempts of this process",
        attempts.durations.clone(),
    );
    all.register(
        "jobqueue_lateness_seconds",
        "Time from a job's being ready (due or pending) to the start of its attempt in this process",
        attempts.lateness.clone(),
    );
    // The encoder appends `_total`.
    all.register(
        "jobqueue_on_success_lost_jobs",
        "Jobs of successful answers that the store did not take, with on_success_failure = log",
        attempts.lost_on_success.clone(),
    );
}

/// How many alerts each rule has. A rule that is off, or could not be checked, has no value: 0 would
/// say that all is well.
fn add_alerts(all: &mut Registry, alerts: Option<&Alerts>) {
    let counts = Size::<RuleLabel>::default();
    for (rule, count) in alerts.iter().flat_map(|alerts| &alerts.counts) {
        counts.get_or_create(&RuleLabel { rule }).set(*count);
    }
    all.register("jobqueue_alert", "Alerts by rule, as GET /alerts lists them", counts);
}

/// The sums over all worker processes.
fn add_servers(all: &mut Registry, servers: &[ServerInfo]) {
    let gauge = |value: usize| {
        let gauge = Gauge::<u64, AtomicU64>::default();
        gauge.set(value as u64);
        gauge
    };
    let slots = servers.iter().map(|server| usize::try_from(server.concurrency).unwrap_or(0));
    let slots = slots.fold(0, usize::saturating_add);
    let running = servers.iter().map(|server| {
        server.running.len().saturating_add(usize::try_from(server.more_running).unwrap_or(0))
    });
    let running = running.fold(0, usize::saturating_add);
    // As Asynq announces a worker that was made quiet, or shuts down.
    let quiet = servers.iter().filter(|server| server.status == "stopped").count();
    all.register("jobqueue_servers", "Worker processes, Go workers included", gauge(servers.len()));
    all.register(
        "jobqueue_quiet_servers",
        "Of these, processes that dequeue nothing: quiet, or shutting down",
        gauge(quiet),
    );
    all.register("jobqueue_slots", "Maximum concurrent jobs of these processes", gauge(slots));
    all.register("jobqueue_running", "Jobs in flight in these processes", gauge(running));
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![metrics]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Limit;

    #[test]
    fn a_scrape_has_the_names_of_asynqs_exporter() {
        let mut info = QueueInfo { processed: 7, failed: 2, paused: true, ..QueueInfo::default() };
        info.sizes.insert("pending", 3);
        info.sizes.insert("scheduled", 1);
        info.latency = std::time::Duration::from_millis(1500);
        let attempts = Attempts::default();
        let stopwatch = attempts.of("mail:send");
        stopwatch.began(std::time::Duration::from_millis(3));
        stopwatch.ended(std::time::Duration::from_millis(30), true);
        let mail = QueueName::new("mail").unwrap();
        let mut limit = LimitInfo::new(Limit::new("smtp").concurrency(2));
        (limit.in_use, limit.waiting) = (2, 14);
        let limits = [(mail.clone(), limit)];
        let alerts = Alerts {
            at: crate::time::Timestamp::from_secs(0),
            alerts: Vec::new(),
            counts: [("no_worker", 2), ("job_running", 0)].into(),
            unchecked: Vec::new(),
            queues_checked: 1,
            more_queues: false,
        };
        let text = render(&[(mail, info)], &limits, &[], &attempts, Some(&alerts)).unwrap();
        for line in [
            r#"asynq_tasks_enqueued_total{queue="mail",state="pending"} 3"#,
            r#"asynq_queue_size{queue="mail"} 4"#,
            r#"asynq_queue_latency_seconds{queue="mail"} 1.5"#,
            r#"asynq_queue_paused_total{queue="mail"} 1"#,
            r#"asynq_tasks_processed_total{queue="mail"} 7"#,
            r#"asynq_tasks_failed_total{queue="mail"} 2"#,
            r#"jobqueue_attempt_duration_seconds_count{type="mail:send",outcome="succeeded"} 1"#,
            r#"jobqueue_attempt_duration_seconds_bucket{le="0.05",type="mail:send",outcome="succeeded"} 1"#,
            "jobqueue_servers 0",
            "jobqueue_quiet_servers 0",
            "jobqueue_slots 0",
            r#"jobqueue_limit_in_use{queue="mail",limit="smtp"} 2"#,
            r#"jobqueue_limit_waiting{queue="mail",limit="smtp"} 14"#,
            r#"jobqueue_alert{rule="no_worker"} 2"#,
            r#"jobqueue_alert{rule="job_running"} 0"#,
            r#"jobqueue_lateness_seconds_count{type="mail:send"} 1"#,
            r#"jobqueue_lateness_seconds_bucket{le="0.005",type="mail:send"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
    }
}
