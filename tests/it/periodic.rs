//! Periodic jobs from end to end: from code, from configuration and added while
//! the application runs; and with many processes of which some are killed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::program::Program;
use crate::support::{PATIENCE, RedisServer, eventually};
use rocket::local::asynchronous::Client;
use rocket::tokio;
use rocket_jobqueue::{
    Job, JobContext, JobError, JobId, JobQueue, JobQueueFairing, Managed, Periodic, QueueName,
    inspect::Page, periodic::Missed,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Tick {
    word: String,
}

impl Job for Tick {
    const TYPE: &'static str = "test:tick";
}

fn tick(word: &str) -> Tick {
    Tick { word: word.to_owned() }
}

/// How often each job was run, and with which word.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeMap<String, Vec<String>>>>);

impl Ledger {
    /// Runs of the jobs whose id begins so, by what follows.
    fn of(&self, prefix: &str) -> BTreeMap<String, Vec<String>> {
        let runs = self.0.lock().unwrap();
        let mine = runs
            .iter()
            .filter_map(|(id, runs)| Some((id.strip_prefix(prefix)?.to_owned(), runs.clone())));
        mine.collect()
    }

    fn ticks(&self, name: &str) -> Vec<i64> {
        let of = self.of(&format!("periodic:{name}:"));
        of.keys().map(|secs| secs.parse().unwrap()).collect()
    }

    async fn has(&self, name: &str, ticks: usize) {
        let enough = eventually(PATIENCE, async || self.ticks(name).len() >= ticks).await;
        assert!(enough, "{name}: {:?}", self.ticks(name));
    }

    /// Waits for three ticks in a row. If the machine stands still for longer than a second,
    /// one job makes up for all ticks missed meanwhile.
    async fn has_a_row(&self, name: &str) {
        let row = |ticks: &[i64]| ticks.windows(3).any(|three| three[2] - three[0] == 2);
        let found = eventually(PATIENCE, async || row(&self.ticks(name))).await;
        assert!(found, "{name}: {:?}", self.ticks(name));
    }

    /// No tick made two jobs.
    fn assert_each_once(&self, name: &str) {
        for (id, runs) in self.of(&format!("periodic:{name}:")) {
            assert_eq!(runs.len(), 1, "{id} ran {} times", runs.len());
        }
    }
}

async fn note(job: Tick, context: JobContext, ledger: Managed<Ledger>) -> Result<(), JobError> {
    let id = context.id().to_string();
    ledger.0.lock().unwrap().entry(id).or_default().push(job.word);
    Ok(())
}

async fn launch(fairing: JobQueueFairing) -> (Client, JobQueue, Ledger) {
    let ledger = Ledger::default();
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let rocket = rocket::custom(figment).manage(ledger.clone()).attach(fairing.handle(note));
    let client = Client::untracked(rocket).await.expect("the application launches");
    let queue = client.rocket().state::<JobQueue>().unwrap().clone();
    (client, queue, ledger)
}

fn memory() -> JobQueueFairing {
    JobQueue::fairing().memory()
}

fn redis(server: &RedisServer) -> JobQueueFairing {
    JobQueue::fairing().set("databases.jobqueue.url", format!("redis://{}", server.addr()))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

#[rocket::async_test]
async fn an_entry_from_code_enqueues_one_job_at_each_tick_and_can_be_looked_at() {
    let entry = Periodic::new("@every 1s", tick("code")).name("code").max_retry(3);
    let (client, queue, ledger) = launch(memory().periodic(entry)).await;
    let began = now();
    ledger.has_a_row("code").await;

    ledger.assert_each_once("code");
    let ticks = ledger.ticks("code");
    assert!(ticks[0] >= began, "a tick from before the entry: {} < {began}", ticks[0]);
    let inspector = queue.inspector();
    let entries = inspector.periodic_jobs().await.unwrap();
    let [told] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((told.spec.as_str(), told.job_type.as_str()), ("@every 1s", Tick::TYPE));
    assert_eq!(told.options[..2], ["Queue(\"default\")", "MaxRetry(3)"]);
    assert!(told.next.is_some());
    assert_eq!(told.schedulers.len(), 1);
    assert_eq!(told.id, queue.periodic().list()[0].id);
    let history = inspector.periodic_history(&told.id, &Page::default()).await.unwrap();
    assert!(history.len() >= 2, "{history:?}");
    assert!(history.is_sorted_by(|newer, older| newer.at >= older.at));
    client.terminate().await;
    assert!(inspector.periodic_jobs().await.unwrap().is_empty(), "taken back at shutdown");
    let after = inspector.periodic_history(&told.id, &Page::default()).await.unwrap();
    assert!(after.len() >= history.len(), "the history stays");
}

#[rocket::async_test]
async fn configured_entries_fire_with_their_payload_and_options() {
    let spec = |key: &str| format!("jobqueue.periodic.conf.{key}");
    let fairing = memory()
        .set(&spec("spec"), "@every 1s")
        .set(&spec("type"), Tick::TYPE)
        .set(&spec("payload.word"), "from a table")
        .set("jobqueue.periodic.text.spec", "@every 1s")
        .set("jobqueue.periodic.text.type", Tick::TYPE)
        .set("jobqueue.periodic.text.payload", r#"{"word":"from text"}"#)
        .set("jobqueue.periodic.rare.spec", "30 4 * * sun")
        .set("jobqueue.periodic.rare.type", "mail:digest")
        .set("jobqueue.periodic.rare.time_zone", "Europe/Berlin")
        .set("jobqueue.periodic.rare.queue", "low")
        .set("jobqueue.periodic.rare.missed", "once");
    let (client, queue, ledger) = launch(fairing).await;
    ledger.has("conf", 2).await;
    ledger.has("text", 2).await;

    assert!(ledger.of("periodic:conf:").values().all(|runs| runs[..] == ["from a table"]));
    assert!(ledger.of("periodic:text:").values().all(|runs| runs[..] == ["from text"]));
    let list = queue.periodic().list();
    let names: Vec<_> = list.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["conf", "rare", "text"]);
    assert_eq!(list[1].spec, "CRON_TZ=Europe/Berlin 30 4 * * sun");
    assert_eq!((list[1].queue.as_str(), list[1].missed), ("low", Missed::Once));
    client.terminate().await;
}

#[rocket::async_test]
async fn entries_are_added_replaced_and_removed_while_the_application_runs() {
    let (client, queue, ledger) = launch(memory()).await;
    let entries = queue.periodic();
    let unnamed = entries.add(Periodic::new("@yearly", tick("rare"))).unwrap();
    assert_eq!(entries.add(Periodic::new("@every 1s", tick("a")).name("live")).unwrap(), "live");
    ledger.has("live", 2).await;

    entries.add(Periodic::new("@every 1s", tick("b")).name("live")).unwrap();
    let seen = async || ledger.of("periodic:live:").values().any(|runs| runs[..] == ["b"]);
    assert!(eventually(PATIENCE, seen).await);
    assert!(entries.remove("live") && !entries.remove("live"));
    let removed = now();
    tokio::time::sleep(Duration::from_millis(2500)).await;

    // One more if it was just being fired.
    let ticks = ledger.ticks("live");
    assert!(*ticks.last().unwrap() <= removed + 1, "removed at {removed}: {ticks:?}");
    ledger.assert_each_once("live");
    assert_eq!(entries.list().len(), 1);
    assert_eq!(entries.list()[0].name, unnamed);
    let wrong = entries.add(Periodic::new("61 * * * *", tick("x"))).unwrap_err();
    assert!(wrong.is_invalid() && wrong.to_string().contains("\"61\""), "{wrong}");
    client.terminate().await;
}

#[rocket::async_test]
async fn an_entry_can_be_run_now() {
    let server = RedisServer::start::<&str>(&[]);
    let entry = Periodic::new("@yearly", tick("now")).name("year").header("a", "(b)");
    let (client, queue, ledger) = launch(redis(&server).periodic(entry)).await;
    let inspector = queue.inspector();
    let told = async || inspector.periodic_jobs().await.is_ok_and(|entries| !entries.is_empty());
    assert!(eventually(PATIENCE, told).await);
    let entry = inspector.periodic_jobs().await.unwrap().remove(0);
    assert_eq!(entry.prev, None, "never");

    let id = inspector.fire(&entry.id).await.unwrap();

    let ran = async || ledger.of(id.as_str()).values().any(|runs| runs[..] == ["now"]);
    assert!(eventually(PATIENCE, ran).await);
    let history = inspector.periodic_history(&entry.id, &Page::default()).await.unwrap();
    assert_eq!(history.iter().map(|run| &run.job).collect::<Vec<_>>(), [&id]);
    let missing = inspector.fire("nothing").await.unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
    client.terminate().await;
}

#[rocket::async_test]
async fn a_process_without_worker_fires_only_where_it_is_told_to() {
    let server = RedisServer::start::<&str>(&[]);
    let entry = |name: &str| Periodic::new("@every 1s", tick(name)).name(name);
    let producer = redis(&server).set("jobqueue.worker", false);
    let (idle, ..) = launch(producer.periodic(entry("idle"))).await;
    let told = redis(&server).set("jobqueue.worker", false).set("jobqueue.fire_periodic", true);
    let (scheduler, queue, _) = launch(told.periodic(entry("told"))).await;
    let default = QueueName::new("default").unwrap();
    let stored = async |name: &str, secs: i64| {
        let id = JobId::new(format!("periodic:{name}:{secs}")).unwrap();
        queue.inspector().job(&default, &id).await.unwrap().is_some()
    };
    let began = now();
    let any = async |name: &str| {
        for secs in began..=now() {
            if stored(name, secs).await {
                return true;
            }
        }
        false
    };

    assert!(eventually(PATIENCE, async || any("told").await).await);

    assert!(!any("idle").await);
    idle.terminate().await;
    scheduler.terminate().await;
}

/// Ticks at which nobody ran are made up for by one job, or not at all.
#[rocket::async_test]
async fn one_job_makes_up_for_all_ticks_that_were_missed() {
    let server = RedisServer::start::<&str>(&[]);
    let entries = || {
        let every = |name: &str| Periodic::new("@every 10s", tick(name)).name(name);
        [every("once").missed(Missed::Once), every("skip").missed(Missed::Skip)]
    };
    let fairing = || entries().into_iter().fold(redis(&server), JobQueueFairing::periodic);
    let (first, ..) = launch(fairing()).await;
    let claim = |name: &str| server.cli(&["get", &format!("asynq:{{default}}:x:cron:{name}")]);
    let claimed = async || ["once", "skip"].iter().all(|name| !claim(name).is_empty());
    assert!(eventually(PATIENCE, claimed).await);
    first.terminate().await;
    // As if that had been an hour ago.
    let long_ago = (now() - 3600) * 1_000_000;
    for name in ["once", "skip"] {
        server.cli(&["set", &format!("asynq:{{default}}:x:cron:{name}"), &format!("{long_ago}:")]);
    }
    // Beyond the time in which a tick is only late, and before the next one.
    while now() % 10 != 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let last = now() / 10 * 10;
    let (second, _, ledger) = launch(fairing()).await;
    ledger.has("skip", 1).await;
    ledger.has("once", 2).await;

    assert_eq!(ledger.ticks("once")[0], last, "the last missed one");
    assert_eq!(ledger.ticks("once")[1], last + 10);
    assert_eq!(ledger.ticks("skip")[0], last + 10);
    second.terminate().await;
}

/// The path of an example that was built before.
fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples").join(name)
}

/// Five processes with the same entry, of which one is killed each 3 s and started
/// again. The jobs run elsewhere and vanish with their success, so that a second
/// job of a tick would be run and seen.
#[rocket::async_test]
async fn with_five_schedulers_under_kill_9_each_tick_is_one_job() {
    const SCHEDULERS: usize = 5;
    const LASTS: Duration = Duration::from_secs(24);
    let server = RedisServer::start::<&str>(&[]);
    let (client, queue, ledger) = launch(redis(&server)).await;
    let periodic = format!(
        "{{worker=false,fire_periodic=true,periodic={{beat={{spec=\"@every 1s\",type=\"{}\",\
         payload=\"{{\\\"word\\\":\\\"beat\\\"}}\"}}}}}}",
        Tick::TYPE
    );
    let address = server.addr();
    let arguments = ["--no-greeting", "--redis", &address];
    let variables = [("ROCKET_JOBQUEUE", periodic.as_str())];
    // The first one builds it.
    let mut schedulers = vec![Program::start("demo", &arguments, &variables)];
    schedulers[0].origin();
    let start = || {
        let mut command = Command::new(example("demo"));
        command.args(arguments);
        Program::spawn(command, &variables)
    };
    schedulers.extend((1..SCHEDULERS).map(|_| start()));
    ledger.has("beat", 2).await;

    let began = Instant::now();
    for victim in (0..SCHEDULERS).cycle() {
        tokio::time::sleep(Duration::from_secs(3)).await;
        if began.elapsed() > LASTS {
            break;
        }
        schedulers[victim].signal("KILL");
        schedulers[victim] = start();
    }

    let until = now();
    let all_ran = async || ledger.ticks("beat").last().is_some_and(|last| *last >= until);
    assert!(eventually(PATIENCE, all_ran).await);
    ledger.assert_each_once("beat");
    let ticks = ledger.ticks("beat");
    let all: Vec<i64> = (ticks[0]..=ticks[ticks.len() - 1]).collect();
    assert_eq!(ticks, all, "a tick is missing");
    let ticks = ticks.len();
    println!("{ticks} ticks, each one job, with {SCHEDULERS} schedulers and kill -9 each 3 s");
    assert!(ticks >= 20, "{ticks}");
    let entries = queue.inspector().periodic_jobs().await.unwrap();
    assert_eq!(entries.len(), 1, "one entry of all processes: {entries:?}");
    assert!(entries[0].schedulers.len() >= 2, "{entries:?}");
    drop(schedulers);
    client.terminate().await;
}
