//! The rules: what was observed → alerts. Pure, but for what it remembers of earlier looks.
//!
//! A rule with a duration compares it with what the store knows if it knows that (since when a queue
//! is paused), and otherwise with when this process first saw it ([`Memory`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::{Alert, AlertRule, AlertSettings, AlertSince, AlertUnit, Alerts, Found, Window};
use crate::broker::{
    EMPTY_QUEUE_NAME, Finding, LimitInfo, MinuteStats, PeriodicJobInfo, QueueInfo, QueueSummaries,
    ServerInfo, StoreNode,
};
use crate::job::{JobState, QueueName, Schedule};
use crate::time::Timestamp;

/// Maximum alerts of a rule that are listed.
const MAX_ALERTS_PER_RULE: u64 = 100;

/// How long evicted keys and a periodic job that vanished are reported.
const EVICTION_REPORT: Duration = Duration::from_secs(3600);
const VANISHED_REPORT: Duration = Duration::from_secs(86_400);

/// Maximum periodic jobs that are remembered.
const MAX_PERIODIC_SEEN: usize = 1000;

/// What one look at the store found. `None` is what could not be read.
#[derive(Default)]
pub(super) struct Observed {
    pub now: Timestamp,
    pub queues: QueueSummaries,
    pub more_queues: bool,
    /// The last hour of queues with failures.
    pub hours: BTreeMap<QueueName, Vec<MinuteStats>>,
    pub servers: Option<Vec<ServerInfo>>,
    pub periodic: Option<Vec<PeriodicJobInfo>>,
    pub nodes: Option<Vec<StoreNode>>,
    pub findings: Option<Vec<Finding>>,
    pub limits: Option<BTreeMap<QueueName, Vec<LimitInfo>>>,
}

/// What an alert is about.
type Key = (AlertRule, Option<QueueName>, Option<String>);

/// A periodic job by what stays the same when its process restarts: Go's ids do not.
type PeriodicKey = (String, String, QueueName);

/// What earlier looks of this process saw.
#[derive(Default)]
pub(super) struct Memory {
    /// When each condition was first seen, without a break.
    since: HashMap<Key, Timestamp>,
    /// The conditions of the current look.
    touched: HashSet<Key>,
    /// When a periodic job was first and last seen.
    periodic: HashMap<PeriodicKey, (Timestamp, Timestamp)>,
    /// The counter of evicted keys of each server, and the last growth with its instant.
    evicted: HashMap<String, (u64, Option<(Timestamp, u64)>)>,
}

impl Memory {
    /// Since when this process has seen the condition.
    fn seen(&mut self, key: Key, now: Timestamp) -> Timestamp {
        self.touched.insert(key.clone());
        *self.since.entry(key).and_modify(|since| *since = (*since).min(now)).or_insert(now)
    }

    /// Forgets conditions that no longer hold. What could not be checked may still hold.
    fn end(&mut self, unchecked: &[AlertRule]) {
        let touched = std::mem::take(&mut self.touched);
        self.since.retain(|key, _| touched.contains(key) || unchecked.contains(&key.0));
    }
}

/// All alerts of one look.
pub(super) fn judge(observed: &Observed, settings: &AlertSettings, memory: &mut Memory) -> Alerts {
    let mut round = Round {
        now: observed.now,
        settings,
        memory: &mut *memory,
        counts: BTreeMap::new(),
        alerts: Vec::new(),
    };
    let unchecked = unchecked(observed, settings);
    for rule in AlertRule::ALL {
        if settings.is_on(rule) && !unchecked.contains(&rule) {
            round.counts.insert(rule.as_str(), 0);
        }
    }
    round.store(observed);
    for name in &observed.queues.unnamable {
        let found = Found::Unnamable { is_empty: name == EMPTY_QUEUE_NAME };
        round.problem(AlertRule::QueueUnreadable, None, Some(name.clone()), found);
    }
    for summary in &observed.queues.queues {
        match &summary.info {
            Some(info) => round.queue(observed, &summary.queue, info),
            None => {
                let problem = summary.problem.clone().unwrap_or_default();
                let queue = Some(summary.queue.clone());
                let found = Found::Unreadable { problem };
                round.problem(AlertRule::QueueUnreadable, queue, None, found);
            }
        }
    }
    round.running(observed);
    round.periodic(observed);
    let Round { counts, mut alerts, .. } = round;
    memory.end(&unchecked);
    alerts.sort_by(|a, b| (a.rule, &a.queue, &a.subject).cmp(&(b.rule, &b.queue, &b.subject)));
    Alerts {
        at: observed.now,
        alerts,
        counts,
        unchecked,
        queues_checked: observed.queues.queues.len() as u64,
        more_queues: observed.more_queues,
    }
}

/// The rules that are on and need a part that could not be read.
fn unchecked(observed: &Observed, settings: &AlertSettings) -> Vec<AlertRule> {
    use AlertRule as Rule;
    let mut rules = Vec::new();
    let mut need = |is_read: bool, of: &[Rule]| {
        let missing = of.iter().filter(|rule| !is_read && settings.is_on(**rule));
        rules.extend(missing.copied());
    };
    need(observed.nodes.is_some(), &[Rule::StoreEvicting, Rule::StoreMemory]);
    need(observed.findings.is_some(), &[Rule::StoreSettings]);
    need(observed.servers.is_some(), &[Rule::NoWorker, Rule::JobRunning, Rule::WorkersFull]);
    need(observed.periodic.is_some(), &[Rule::PeriodicMissed]);
    need(observed.limits.is_some(), &[Rule::LimitFull]);
    rules
}

/// A value and the threshold that it reached.
struct Measured(f64, f64, AlertUnit);

impl Measured {
    /// Lengths of time, in seconds.
    fn time(found: Duration, threshold: Duration) -> Self {
        Self(found.as_secs_f64(), threshold.as_secs_f64(), AlertUnit::Seconds)
    }
}

/// One pass of the rules.
struct Round<'a> {
    now: Timestamp,
    settings: &'a AlertSettings,
    memory: &'a mut Memory,
    counts: BTreeMap<&'static str, u64>,
    alerts: Vec<Alert>,
}

impl Round<'_> {
    /// Adds an alert of a rule that is checked. Without a known begin, it is when this process first saw it.
    fn add(
        &mut self,
        (rule, queue, subject): Key,
        since: Option<Timestamp>,
        Measured(value, threshold, unit): Measured,
        found: Found,
    ) {
        let now = self.now;
        let key = (rule, queue.clone(), subject.clone());
        let (since, since_is) = match since {
            Some(since) => (since.min(now), AlertSince::Known),
            None => (self.memory.seen(key, now), AlertSince::Seen),
        };
        let Some(count) = self.counts.get_mut(rule.as_str()) else { return };
        *count += 1;
        if *count <= MAX_ALERTS_PER_RULE {
            let message = found.to_string();
            self.alerts.push(Alert {
                rule,
                queue,
                subject,
                message,
                value,
                threshold,
                unit,
                since,
                since_is,
                found,
            });
        }
    }

    /// An alert of a rule without a threshold.
    fn problem(
        &mut self,
        rule: AlertRule,
        queue: Option<QueueName>,
        subject: Option<String>,
        found: Found,
    ) {
        self.add((rule, queue, subject), None, Measured(1.0, 1.0, AlertUnit::Problems), found);
    }

    /// The servers of the store and its settings.
    fn store(&mut self, observed: &Observed) {
        if let Some(nodes) = &observed.nodes {
            let is_there = |address: &String| {
                nodes.iter().any(|node| node.address.as_deref().unwrap_or_default() == address)
            };
            self.memory.evicted.retain(|address, _| is_there(address));
        }
        for node in observed.nodes.iter().flatten() {
            self.memory_of(node);
            self.evictions_of(node);
        }
        for finding in observed.findings.iter().flatten() {
            let place = finding.place.clone();
            let found = Found::Setting { kind: finding.kind, place: place.clone() };
            self.problem(AlertRule::StoreSettings, None, Some(place), found);
        }
    }

    fn memory_of(&mut self, node: &StoreNode) {
        let (Some(threshold), Some(used), Some(max)) =
            (self.settings.store_memory, node.used_memory, node.max_memory)
        else {
            return;
        };
        let percent = percent(used, max);
        if max > 0 && percent >= f64::from(threshold) {
            let measured = Measured(percent, threshold.into(), AlertUnit::Percent);
            let key = (AlertRule::StoreMemory, None, node.address.clone());
            self.add(key, None, measured, Found::Memory { used, max });
        }
    }

    /// Redis only has a counter since its start: what grew between two looks was evicted now.
    fn evictions_of(&mut self, node: &StoreNode) {
        let (now, Some(keys)) = (self.now, node.evicted_keys) else { return };
        let address = node.address.clone().unwrap_or_default();
        let (known, grown) = self.memory.evicted.entry(address).or_insert((keys, None));
        let more = keys.saturating_sub(*known);
        *known = keys;
        let is_recent = |at: Timestamp| now.since(at) < EVICTION_REPORT;
        let before = grown.filter(|(at, _)| is_recent(*at)).map_or(0, |(_, keys)| keys);
        if more > 0 {
            *grown = Some((now, before.saturating_add(more)));
        }
        let Some((_, keys)) = grown.filter(|(at, _)| is_recent(*at)) else { return };
        let key = (AlertRule::StoreEvicting, None, node.address.clone());
        let measured = Measured(keys as f64, 1.0, AlertUnit::Keys);
        self.add(key, None, measured, Found::Evicted { keys });
    }

    /// All rules about one queue.
    fn queue(&mut self, observed: &Observed, queue: &QueueName, info: &QueueInfo) {
        self.failures(
            queue,
            info,
            observed.hours.get(queue).map(Vec::as_slice).unwrap_or_default(),
        );
        let of = |rule| (rule, Some(queue.clone()), None);
        let pending = size(info, JobState::Pending);
        if let Some(threshold) = self.settings.archived_growing
            && info.archived_last_hour >= u64::from(threshold)
        {
            let jobs = info.archived_last_hour;
            let measured = Measured(jobs as f64, threshold.into(), AlertUnit::Jobs);
            self.add(of(AlertRule::ArchivedGrowing), None, measured, Found::Archived { jobs });
        }
        if info.paused {
            let known = info.paused_since;
            let found = Found::Paused { pending };
            self.lasting(of(AlertRule::QueuePaused), known, self.settings.queue_paused, found);
        } else if pending > 0 {
            let found = Found::Waiting { pending };
            let since = info.pending_since;
            self.lasting(of(AlertRule::OldestPending), since, self.settings.oldest_pending, found);
            if let Some(servers) = &observed.servers {
                self.workers(queue, info, servers);
            }
        }
        let limits = observed.limits.iter().filter_map(|limits| limits.get(queue)).flatten();
        for limit in limits.filter(|limit| limit.waiting > 0) {
            let name = Some(limit.limit.name.clone());
            let key = (AlertRule::LimitFull, Some(queue.clone()), name);
            let limit_name = limit.limit.name.clone();
            let found = Found::LimitFull { limit: limit_name, waiting: limit.waiting };
            self.lasting(key, None, self.settings.limit_full, found);
        }
    }

    /// An alert of something that has lasted for this long.
    fn lasting(
        &mut self,
        key: Key,
        known: Option<Timestamp>,
        threshold: Option<Duration>,
        found: Found,
    ) {
        let Some(threshold) = threshold else { return };
        let now = self.now;
        let since = known.unwrap_or_else(|| self.memory.seen(key.clone(), now));
        let lasted = now.since(since);
        if lasted >= threshold {
            self.add(key, known, Measured::time(lasted, threshold), found);
        }
    }

    /// The attempts of the last hour, as far as it was counted by minute; of this day if nobody
    /// counted enough of them.
    fn failures(&mut self, queue: &QueueName, info: &QueueInfo, hour: &[MinuteStats]) {
        let Some(threshold) = self.settings.failure_rate else { return };
        let least = u64::from(self.settings.failure_rate_attempts).max(1);
        let sum = |of: fn(&MinuteStats) -> u64| hour.iter().map(of).fold(0, u64::saturating_add);
        let in_hour = (sum(|minute| minute.failed), sum(|minute| minute.processed));
        let (first, is_whole) = (hour.first(), hour.len() >= 60);
        let ((failed, processed), window) = match first {
            Some(_) if is_whole => (in_hour, Window::Hour),
            Some(first) if in_hour.1 >= least => (in_hour, Window::Since(first.at)),
            _ => ((info.failed_today, info.processed_today), Window::Today),
        };
        let percent = percent(failed, processed);
        if failed > 0 && processed >= least && percent >= f64::from(threshold) {
            let key = (AlertRule::FailureRate, Some(queue.clone()), None);
            let measured = Measured(percent, threshold.into(), AlertUnit::Percent);
            self.add(key, None, measured, Found::Failures { failed, processed, window });
        }
    }

    /// Who serves a queue with pending jobs.
    fn workers(&mut self, queue: &QueueName, info: &QueueInfo, servers: &[ServerInfo]) {
        let pending = size(info, JobState::Pending);
        let of = |rule| (rule, Some(queue.clone()), None);
        let serving: Vec<_> = servers.iter().filter(|server| serves(server, queue)).collect();
        if serving.is_empty() {
            let key = of(AlertRule::NoWorker);
            // Jobs may have waited longer than the worker is away.
            self.lasting(key, None, self.settings.no_worker, Found::NoWorker { pending });
        } else if serving.iter().all(|server| is_full(server)) {
            let slots = serving.iter().map(|server| slots(server)).fold(0, u64::saturating_add);
            let found = Found::WorkersFull { slots, pending };
            self.lasting(of(AlertRule::WorkersFull), None, self.settings.workers_full, found);
        }
    }

    /// Attempts that run for long, one alert a queue, about the longest.
    fn running(&mut self, observed: &Observed) {
        let Some(threshold) = self.settings.job_running else { return };
        let now = self.now;
        let all = observed.servers.iter().flatten().flat_map(|server| &server.running);
        let mut long: BTreeMap<&QueueName, Vec<_>> = BTreeMap::new();
        for job in all {
            if let Some(started) = job.started.filter(|at| now.since(*at) >= threshold) {
                long.entry(&job.queue).or_default().push((started, job));
            }
        }
        for (queue, jobs) in long {
            let count = jobs.len() as u64;
            let Some((started, job)) = jobs.into_iter().min_by_key(|(at, _)| *at) else { continue };
            let found = Found::Running {
                jobs: count,
                oldest: job.id.clone(),
                job_type: job.job_type.clone(),
            };
            let id = Some(job.id.to_string());
            let key = (AlertRule::JobRunning, Some(queue.clone()), id);
            let measured = Measured::time(now.since(started), threshold);
            self.add(key, Some(started), measured, found);
        }
    }

    /// Periodic jobs whose last run is before their last tick, and such that no process has any
    /// more.
    fn periodic(&mut self, observed: &Observed) {
        let (Some(threshold), Some(all)) = (self.settings.periodic_missed, &observed.periodic)
        else {
            return;
        };
        let now = self.now;
        for job in all {
            let key = (job.job_type.clone(), job.spec.clone(), job.queue.clone());
            let is_known = self.memory.periodic.contains_key(&key);
            if !is_known && self.memory.periodic.len() >= MAX_PERIODIC_SEEN {
                continue;
            }
            let (first, last) = self.memory.periodic.entry(key).or_insert((now, now));
            (*first, *last) = ((*first).min(now), now);
            // What never ran is expected from when this process saw it on.
            let from = job.prev.unwrap_or(*first);
            let Some(tick) = missed_tick(job, from, now, threshold) else { continue };
            let subject = Some(job.id.clone());
            let key = (AlertRule::PeriodicMissed, Some(job.queue.clone()), subject);
            let measured = Measured::time(now.since(tick), threshold);
            let name = format!("{} ({})", job.job_type, job.spec);
            self.add(key, Some(tick), measured, Found::Missed { name, tick, last: job.prev });
        }
        self.memory.periodic.retain(|_, (_, last)| now.since(*last) < VANISHED_REPORT);
        let vanished: Vec<_> = (self.memory.periodic.iter())
            .filter(|(_, (_, last))| *last < now)
            .map(|(key, (_, last))| (key.clone(), *last))
            .collect();
        for ((job_type, spec, queue), last_seen) in vanished {
            let is_due = Schedule::new(spec.clone()).ok().and_then(|due| due.next(last_seen));
            let Some(tick) = is_due.filter(|tick| now.since(*tick) >= threshold && *tick <= now)
            else {
                continue;
            };
            let name = format!("{job_type} ({spec})");
            let key = (AlertRule::PeriodicMissed, Some(queue), Some(name.clone()));
            let measured = Measured::time(now.since(tick), threshold);
            self.add(key, Some(tick), measured, Found::Vanished { name, last_seen });
        }
    }
}

/// The first tick after `from` that should have been enqueued for this long.
fn missed_tick(
    job: &PeriodicJobInfo,
    from: Timestamp,
    now: Timestamp,
    threshold: Duration,
) -> Option<Timestamp> {
    let schedule = Schedule::new(job.spec.clone()).ok()?;
    let first = schedule.next(from)?;
    let tick = match job.spec.contains("@every") {
        // Go's intervals count from the last run, ours from the epoch: neither is later than this.
        true => from + schedule.next(first)?.since(first),
        false => first,
    };
    (tick <= now && now.since(tick) >= threshold).then_some(tick)
}

/// Whether a process dequeues from this queue.
fn serves(server: &ServerInfo, queue: &QueueName) -> bool {
    let is_open = !matches!(server.status.as_str(), "stopped" | "closed" | "quiet");
    is_open && server.queues.get(queue).is_some_and(|weight| *weight > 0)
}

fn slots(server: &ServerInfo) -> u64 {
    u64::try_from(server.concurrency).unwrap_or(0)
}

fn is_full(server: &ServerInfo) -> bool {
    server.running.len() as u64 + server.more_running >= slots(server)
}

fn size(info: &QueueInfo, state: JobState) -> u64 {
    info.sizes.get(state.as_str()).copied().unwrap_or_default()
}

/// A share in percent, to a tenth.
fn percent(part: u64, all: u64) -> f64 {
    match all {
        0 => 0.0,
        _ => (part as f64 * 1000.0 / all as f64).floor() / 10.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{FindingKind, FindingStatus, QueueSummary, WorkerInfo};
    use crate::job::{JobId, Limit};

    const NOON: i64 = 4_000_017_600;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(NOON + secs)
    }

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn info(pending: u64) -> QueueInfo {
        QueueInfo { sizes: [("pending", pending)].into(), ..QueueInfo::default() }
    }

    /// A store with this queue, in which all parts could be read.
    fn store(now: i64, name: &str, info: QueueInfo) -> Observed {
        let queue = queue(name);
        let summary = QueueSummary { queue, info: Some(info), problem: None };
        Observed {
            now: at(now),
            queues: QueueSummaries { queues: vec![summary], unnamable: Vec::new() },
            servers: Some(Vec::new()),
            periodic: Some(Vec::new()),
            nodes: Some(Vec::new()),
            findings: Some(Vec::new()),
            limits: Some(BTreeMap::new()),
            ..Observed::default()
        }
    }

    fn worker(name: &str, concurrency: i64, started: &[i64]) -> ServerInfo {
        let job = |(nth, started): (usize, &i64)| WorkerInfo {
            queue: queue(name),
            id: JobId::new(format!("j{nth}")).unwrap(),
            job_type: "report".to_owned(),
            payload: Vec::new(),
            started: Some(at(*started)),
            deadline: None,
        };
        ServerInfo {
            host: "h".to_owned(),
            pid: 1,
            server_id: "s".to_owned(),
            concurrency,
            queues: [(queue(name), 1)].into(),
            strict_priority: false,
            status: "active".to_owned(),
            started: None,
            running: started.iter().enumerate().map(job).collect(),
            more_running: 0,
            details: None,
            changes: Vec::new(),
        }
    }

    fn minutes(count: i64, each: u64, failed: u64) -> Vec<MinuteStats> {
        (0..count)
            .map(|n| MinuteStats { at: at(60 * (n - count)), processed: each, failed, waiting: 0 })
            .collect()
    }

    /// Rule, whether the begin is known, seconds since then, and the sentence.
    fn told(alerts: &Alerts) -> Vec<(&'static str, bool, i64, String)> {
        let tell = |alert: &Alert| {
            let is_known = alert.since_is == AlertSince::Known;
            let lasted = alert.lasted(alerts.at).as_secs() as i64;
            (alert.rule.as_str(), is_known, lasted, alert.message.clone())
        };
        alerts.alerts.iter().map(tell).collect()
    }

    fn look(observed: &Observed, memory: &mut Memory) -> Alerts {
        judge(observed, &AlertSettings::default(), memory)
    }

    fn once(observed: &Observed) -> Vec<(&'static str, bool, i64, String)> {
        told(&look(observed, &mut Memory::default()))
    }

    #[test]
    fn failures_are_of_the_hour_as_far_as_it_was_counted() {
        let counted = |hour: Vec<MinuteStats>| {
            let today = QueueInfo { processed_today: 854, failed_today: 721, ..info(0) };
            let mut observed = store(0, "bills", today);
            observed.hours.insert(queue("bills"), hour);
            once(&observed).into_iter().map(|alert| alert.3).collect::<Vec<_>>()
        };
        // Nobody counted by minute, or too little in the minutes that were.
        let today = ["721 of 854 attempts failed (84 %) today (UTC)"];
        assert_eq!(counted(Vec::new()), today);
        assert_eq!(counted(minutes(3, 1, 0)), today);
        let since = "30 of 60 attempts failed (50 %) since 2096-10-02 11:50:00 UTC, when counting \
                     by minute began";
        assert_eq!(counted(minutes(10, 6, 3)), [since]);
        let hour = ["60 of 240 attempts failed (25 %) in the last hour"];
        assert_eq!(counted(minutes(60, 4, 1)), hour);
        // A whole hour without many failures, whatever was before.
        assert_eq!(counted(minutes(60, 5, 1)), [""; 0]);
        assert_eq!(counted(minutes(60, 0, 0)), [""; 0]);
    }

    #[test]
    fn a_paused_queue_is_told_since_it_is() {
        let paused =
            |since, pending| QueueInfo { paused: true, paused_since: since, ..info(pending) };
        let found = once(&store(0, "mail", paused(Some(at(-7200)), 3)));
        assert_eq!(found[0].3, "the queue is paused; 3 jobs are pending");
        assert_eq!(
            (found.len(), found[0].0, found[0].1, found[0].2),
            (1, "queue_paused", true, 7200)
        );
        let settings = AlertSettings { queue_paused: Some(secs(600)), ..AlertSettings::default() };
        let mut memory = Memory::default();
        let mut at_second = |now| {
            let alerts = judge(&store(now, "mail", paused(None, 0)), &settings, &mut memory);
            told(&alerts).into_iter().map(|alert| (alert.1, alert.2)).collect::<Vec<_>>()
        };
        // If the store does not know since when, it counts from the first look.
        assert!(at_second(0).is_empty() && at_second(599).is_empty());
        assert_eq!(at_second(601), [(false, 601)]);
    }

    #[test]
    fn who_serves_a_queue_decides_what_is_wrong_with_its_pending_jobs() {
        let waits = QueueInfo { pending_since: Some(at(-400)), ..info(2) };
        let rules = |observed: &Observed, memory: &mut Memory| {
            told(&look(observed, memory)).into_iter().map(|alert| alert.0).collect::<Vec<_>>()
        };
        let mut memory = Memory::default();
        let mut observed = store(0, "mail", waits);
        assert_eq!(rules(&observed, &mut memory), ["no_worker", "oldest_pending"]);
        observed.servers = Some(vec![worker("mail", 2, &[-1, -1])]);
        assert_eq!(rules(&observed, &mut memory), ["oldest_pending"]);
        observed.now = at(601);
        assert_eq!(rules(&observed, &mut memory), ["oldest_pending", "workers_full"]);
        // A free slot ends it, and the count begins anew.
        observed.servers = Some(vec![worker("mail", 3, &[600, 600])]);
        assert_eq!(rules(&observed, &mut memory), ["oldest_pending"]);
        observed.servers = Some(vec![worker("mail", 2, &[600, 600])]);
        assert_eq!(rules(&observed, &mut memory), ["oldest_pending"]);
        // Neither a stopped worker nor one of another queue serves it.
        let stopped = ServerInfo { status: "stopped".to_owned(), ..worker("mail", 3, &[]) };
        observed.servers = Some(vec![stopped, worker("other", 3, &[])]);
        assert_eq!(rules(&observed, &mut memory), ["no_worker", "oldest_pending"]);
    }

    #[test]
    fn the_longest_of_the_jobs_that_run_for_long_is_named() {
        let mut observed = store(0, "mail", info(0));
        observed.servers = Some(vec![worker("mail", 9, &[-3599, -7200, -10_800])]);
        let found = once(&observed);
        let sentence = "2 jobs are still running, the longest is j2 (report)";
        assert_eq!(found, [("job_running", true, 10_800, sentence.to_owned())]);
    }

    fn periodic(spec: &str, prev: Option<i64>) -> PeriodicJobInfo {
        PeriodicJobInfo {
            id: "p".to_owned(),
            spec: spec.to_owned(),
            job_type: "report".to_owned(),
            payload: Vec::new(),
            options: Vec::new(),
            queue: queue("mail"),
            next: None,
            prev: prev.map(at),
            schedulers: Vec::new(),
        }
    }

    #[test]
    fn a_periodic_job_misses_a_tick_or_vanishes() {
        let mut observed = store(0, "mail", info(0));
        let mut found = |spec, prev| {
            observed.periodic = Some(vec![periodic(spec, prev)]);
            once(&observed).into_iter().map(|alert| (alert.2, alert.3)).collect::<Vec<_>>()
        };
        // It is 12:00, and the tick of 11:00 is an hour old.
        let missed = "periodic job report (0 * * * *) was not enqueued for 2096-10-02 11:00:00 UTC; \
                      its last run was at 2096-10-02 10:00:03 UTC";
        assert_eq!(found("0 * * * *", Some(-7197)), [(3600, missed.to_owned())]);
        assert!(found("0 * * * *", Some(-3590)).is_empty());
        assert!(found("@every 1h", Some(-3590)).is_empty());
        assert!(found("@every 1h", Some(-3899)).is_empty());
        assert_eq!(found("@every 1h", Some(-3901)).len(), 1);
        assert!(found("no schedule", Some(-9999)).is_empty());
        // What never ran is expected from the first look on.
        let mut memory = Memory::default();
        let mut at_second = |now, all: Vec<PeriodicJobInfo>| {
            let observed = Observed { periodic: Some(all), ..store(now, "mail", info(0)) };
            told(&look(&observed, &mut memory)).into_iter().map(|alert| alert.3).collect::<Vec<_>>()
        };
        assert_eq!(at_second(1, vec![periodic("0 * * * *", None)]), [""; 0]);
        assert_eq!(at_second(3899, vec![periodic("0 * * * *", None)]), [""; 0]);
        assert_eq!(at_second(3901, vec![periodic("0 * * * *", None)]).len(), 1);
        // Then its last process goes.
        assert_eq!(at_second(4000, vec![periodic("0 * * * *", Some(3902))]), [""; 0]);
        assert_eq!(at_second(7499, Vec::new()), [""; 0]);
        let gone = "no process has periodic job report (0 * * * *) any more, which was there at \
                    2096-10-02 13:06:40 UTC";
        assert_eq!(at_second(7501, Vec::new()), [gone]);
        assert_eq!(at_second(4000 + 86_400, Vec::new()), [""; 0], "a day later");
    }

    #[test]
    fn the_store_is_full_evicts_and_is_set_up_badly() {
        let node = |used, evicted| StoreNode {
            used_memory: Some(used),
            max_memory: Some(1000),
            evicted_keys: Some(evicted),
            ..StoreNode::default()
        };
        let mut memory = Memory::default();
        let mut at_second = |now, node: StoreNode| {
            let observed = Observed { nodes: Some(vec![node]), ..store(now, "mail", info(0)) };
            told(&look(&observed, &mut memory)).into_iter().map(|alert| alert.3).collect::<Vec<_>>()
        };
        // What was evicted before the first look may be old.
        assert_eq!(at_second(0, node(899, 7)), [""; 0]);
        assert_eq!(at_second(9, node(900, 7)), ["900 of 1000 bytes of memory are in use (90 %)"]);
        let evicted = |keys| {
            format!("Redis evicted {keys} keys within the last hour, because its memory is full")
        };
        assert_eq!(at_second(60, node(0, 9)), [evicted(2)]);
        assert_eq!(at_second(120, node(0, 10)), [evicted(3)]);
        assert_eq!(at_second(3719, node(0, 10)), [evicted(3)]);
        assert_eq!(at_second(3720, node(0, 10)), [""; 0]);

        let kind = FindingKind::NoPersistence;
        let mut observed = store(0, "mail", info(0));
        observed.findings = Some(vec![Finding::new(kind, None, "", "", FindingStatus::Reported)]);
        assert_eq!(once(&observed)[0].0, "store_settings");
    }

    #[test]
    fn limits_and_archives_have_thresholds() {
        let mut memory = Memory::default();
        let mut at_second = |now, waiting, archived_last_hour| {
            let mut observed = store(now, "mail", QueueInfo { archived_last_hour, ..info(0) });
            let limit = LimitInfo { waiting, ..LimitInfo::new(Limit::new("smtp").concurrency(1)) };
            observed.limits = Some([(queue("mail"), vec![limit])].into());
            told(&look(&observed, &mut memory)).into_iter().map(|alert| alert.3).collect::<Vec<_>>()
        };
        assert_eq!(at_second(0, 4, 19), [""; 0]);
        assert_eq!(at_second(599, 4, 20), ["20 jobs were archived in the last hour"]);
        assert_eq!(at_second(600, 1, 0), ["1 job is waiting for limit smtp"]);
        assert_eq!(at_second(601, 0, 0), [""; 0]);
        assert_eq!(at_second(602, 4, 0), [""; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_unchecked_and_what_is_off_is_silent() {
        let mut observed = store(0, "mail", QueueInfo { paused: true, ..info(3) });
        (observed.servers, observed.nodes) = (None, None);
        let alerts = look(&observed, &mut Memory::default());
        use AlertRule as Rule;
        assert_eq!(
            alerts.unchecked,
            [
                Rule::StoreEvicting,
                Rule::StoreMemory,
                Rule::NoWorker,
                Rule::JobRunning,
                Rule::WorkersFull
            ]
        );
        assert_eq!(alerts.counts.get("queue_paused"), Some(&1));
        assert_eq!(alerts.counts.get("oldest_pending"), Some(&0));
        assert!(!alerts.counts.contains_key("no_worker"));

        let settings =
            AlertSettings { queue_paused: None, no_worker: None, ..AlertSettings::default() };
        let alerts = judge(&observed, &settings, &mut Memory::default());
        assert!(alerts.alerts.is_empty() && !alerts.counts.contains_key("queue_paused"));
        assert!(!alerts.unchecked.contains(&Rule::NoWorker));
    }

    #[test]
    fn a_thousand_alerts_are_counted_and_a_hundred_are_listed() {
        let mut observed = store(0, "mail", info(0));
        let paused = |n: usize| QueueSummary {
            queue: queue(&format!("q{n}")),
            info: Some(QueueInfo { paused: true, ..info(0) }),
            problem: None,
        };
        observed.queues.queues = (0..1000).map(paused).collect();
        let alerts = look(&observed, &mut Memory::default());
        assert_eq!((alerts.alerts.len(), alerts.unlisted()), (100, 900));
        assert_eq!(alerts.counts["queue_paused"], 1000);
    }

    #[test]
    fn foreign_text_is_cut_to_one_plain_line() {
        let mut observed = store(0, "mail", info(0));
        let problem = Some(format!("a\nb\u{1b}[31m{}", "x".repeat(5000)));
        observed.queues.queues[0].info = None;
        observed.queues.queues[0].problem = problem;
        let sentence = &once(&observed)[0].3;
        assert!(sentence.len() < 500 && !sentence.contains(['\n', '\u{1b}']), "{sentence}");
    }
}
