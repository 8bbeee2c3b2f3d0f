//! Every subcommand of Asynq's command line on data written by Rust: its output is
//! parsed and compared with what our own inspector says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Cases;
use super::actions::{Action, ids};
use super::scene::{ACTIVE, GROUP, STATES, Scene};
use crate::bench::{Bench, Side};

const AREA: &str = "Asynq's command line";

/// States that `task <action>all` takes.
const ALL_OF: [(Action, &[&str]); 3] = [
    (Action::Run, &["scheduled", "retry", "archived", "aggregating"]),
    (Action::Archive, &["pending", "scheduled", "retry", "aggregating"]),
    (Action::Delete, &["pending", "scheduled", "retry", "archived", "completed", "aggregating"]),
];

pub fn add(cases: &mut Cases) {
    cases.one(AREA, "queue ls", queue_ls);
    cases.one(AREA, "queue inspect", queue_inspect);
    cases.one(AREA, "queue history", queue_history);
    cases.one(AREA, "queue pause, queue resume", queue_pause);
    cases.slow(AREA, "queue rm", queue_rm);
    for (state, _) in STATES {
        cases.one(AREA, &format!("task ls --state={state}"), move |bench| task_ls(bench, state));
    }
    cases.one(AREA, "task ls --state=active", active_ls);
    cases.one(AREA, "task ls --page --size", task_pages);
    cases.one(AREA, "task inspect", task_inspect);
    cases.one(AREA, "task enqueue", task_enqueue);
    for action in Action::ALL {
        for (state, _) in STATES.into_iter().filter(|(state, _)| possible(action, state)) {
            let name = format!("task {} ({state})", action.verb());
            cases.one(AREA, &name, move |bench| task_action(bench, action, state));
        }
    }
    for (action, states) in ALL_OF {
        for state in states {
            let name = format!("task {}all --state={state}", action.verb());
            cases.one(AREA, &name, move |bench| task_action_all(bench, action, state));
        }
    }
    cases.one(AREA, "task cancel", task_cancel);
    cases.one(AREA, "server ls", server_ls);
    cases.one(AREA, "group ls", group_ls);
    cases.one(AREA, "stats, stats --json", stats);
}

/// What is there already cannot be put there.
fn possible(action: Action, state: &str) -> bool {
    !matches!((action, state), (Action::Run, "pending") | (Action::Archive, "archived"))
}

/// The rows of the first table after this line: header → cell.
pub fn table(text: &str, after: &str) -> Vec<BTreeMap<String, String>> {
    let text = text.split_once(after).unwrap_or_else(|| panic!("no {after:?} in:\n{text}")).1;
    // The rest of the title's own line does not belong to the table.
    let text =
        if after.is_empty() { text } else { text.split_once('\n').map_or("", |(_, rest)| rest) };
    let mut lines = text.lines().skip_while(|line| line.trim().is_empty());
    let header = lines.next().expect("a header");
    let rule = lines.next().expect("a rule");
    // Where each column begins; cells are padded with spaces.
    let mut begins: Vec<usize> = Vec::new();
    let mut gap = true;
    for (at, mark) in rule.char_indices() {
        if mark == '-' && gap {
            begins.push(at);
        }
        gap = mark == ' ';
    }
    let cut = |line: &str| -> Vec<String> {
        let ends = begins.iter().skip(1).copied().chain([usize::MAX]);
        let cells = begins.iter().zip(ends);
        cells
            .map(|(begin, end)| {
                line.get(*begin..end.min(line.len())).unwrap_or("").trim().to_owned()
            })
            .collect()
    };
    let names = cut(header);
    let rows = lines.take_while(|line| !line.trim().is_empty());
    rows.map(|row| names.iter().cloned().zip(cut(row)).collect()).collect()
}

fn numbers<const N: usize>(row: &BTreeMap<String, String>, names: [&str; N]) -> [u64; N] {
    names.map(|name| row[name].parse().unwrap_or_else(|_| panic!("{name} of {row:?}")))
}

const SIZES: [&str; 7] =
    ["active", "pending", "aggregating", "scheduled", "retry", "archived", "completed"];

async fn queue_ls(bench: Bench) {
    let scene = Scene::quick(bench).await;
    scene.bench.put(Side::Rust, &crate::settings::Order::plain().queue("other")).await;
    let text = scene.bench.cli("queue ls").await;
    let mut listed: Vec<&str> = text.lines().collect();
    listed.sort_unstable();
    let ours = scene.bench.rust.inspector().queues().await.unwrap();
    assert_eq!(listed, ours.iter().map(|name| name.as_str()).collect::<Vec<_>>());
}

async fn queue_inspect(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let text = scene.bench.cli("queue inspect default").await;
    let info = scene.info().await;
    let sizes = table(&text, "Task Count by State");
    assert_eq!(numbers(&sizes[0], SIZES), SIZES.map(|name| info.sizes[name]));
    assert_eq!(numbers(&sizes[0], SIZES), [1, 3, 3, 3, 3, 3, 3]);
    let today = table(&text, "Daily Stats");
    let told = numbers(&today[0], ["processed", "failed"]);
    assert_eq!(told, [info.processed_today, info.failed_today]);
    for line in ["Name:   default", "Size:   19", "Groups: 1", "Paused: false", "66.67%"] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
}

async fn queue_history(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let text = scene.bench.cli("queue history default --days 3").await;
    let rows = table(&text, "Queue: default");
    let info = scene.info().await;
    assert_eq!(rows.len(), 3);
    let told = numbers(&rows[0], ["processed", "failed"]);
    assert_eq!(told, [info.processed_today, info.failed_today]);
    assert_eq!(numbers(&rows[1], ["processed", "failed"]), [0, 0]);
}

async fn queue_pause(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let said = scene.bench.cli("queue pause default").await;
    assert_eq!(said, "Successfully paused queue \"default\"\n");
    assert!(scene.info().await.paused);
    let said = scene.bench.cli("queue pause default").await;
    assert!(said.contains("already paused"), "{said}");
    let said = scene.bench.cli("queue resume default").await;
    assert_eq!(said, "Successfully unpaused queue \"default\"\n");
    assert!(!scene.info().await.paused);
    let name = rocket_jobqueue::QueueName::new("default").unwrap();
    assert!(scene.bench.rust.inspector().pause(&name).await.unwrap());
    let said = scene.bench.cli("queue inspect default").await;
    assert!(said.contains("Paused: true"), "{said}");
}

async fn queue_rm(bench: Bench) {
    let queue = |name| crate::settings::Order::plain().queue(name);
    bench.put(Side::Rust, &queue("full")).await;
    bench.put(Side::Rust, &queue("other")).await;
    let said = bench.cli("queue rm full").await;
    assert!(said.contains("is not empty"), "{said}");
    let said = bench.cli("queue rm full --force").await;
    assert!(said.contains("Successfully removed queue \"full\""), "{said}");
    let ours = bench.rust.inspector().queues().await.unwrap();
    assert_eq!(ours.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["other"]);
    // A client of ours writes the queue's name again once a minute, so that it
    // comes back; a Go client would have to be started again.
    let known = async || {
        bench.put(Side::Rust, &queue("full")).await;
        bench.rust.inspector().queues().await.unwrap().len() == 2
    };
    bench.within(Duration::from_secs(90), "the queue is back", known).await;
    let said = bench.cli("queue inspect full").await;
    assert!(said.contains("Name:   full"), "{said}");
}

async fn task_ls(bench: Bench, state: &'static str) {
    let scene = Scene::quick(bench).await;
    let group = if state == "aggregating" { format!(" --group={GROUP}") } else { String::new() };
    let text = scene.bench.cli(&format!("task ls --queue=default --state={state}{group}")).await;
    let rows = table(&text, "");
    assert_eq!(rows.len(), 3, "{text}");
    for (row, id) in rows.iter().zip(ids(state)) {
        let job = scene.bench.look(Side::Rust, "default", id).await.expect("the job");
        let cell = |name: &str| row[name].as_str();
        assert_eq!(cell("ID"), id);
        assert_eq!(cell("Type"), job["type"]);
        assert_eq!(crate::settings::hex(cell("Payload").as_bytes()), job["hex"]);
        match state {
            "scheduled" => assert!(cell("Process In").starts_with("in "), "{row:?}"),
            "retry" => {
                assert_eq!(cell("Last Error"), job["last_error"]);
                assert_eq!(cell("Retried"), job["retried"].to_string());
                assert_eq!(cell("Max Retry"), job["max_retry"].to_string());
                assert!(cell("Next Retry").starts_with("in "), "{row:?}");
            }
            "archived" => assert_eq!(cell("Last Error"), job["last_error"]),
            "completed" => {
                assert_eq!(crate::settings::hex(cell("Result").as_bytes()), job["result"]);
            }
            "aggregating" => assert_eq!(cell("Group"), job["group"]),
            _ => {}
        }
    }
}

async fn active_ls(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let rows = table(&scene.bench.cli("task ls --queue=default --state=active").await, "");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["ID"], ACTIVE);
    assert_eq!(rows[0]["Payload"], r#"{"do":"sleep","ms":600000}"#);
}

async fn task_pages(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let mut seen = Vec::new();
    for page in 1..=2 {
        let words = format!("task ls --queue=default --state=scheduled --page={page} --size=2");
        let rows = table(&scene.bench.cli(&words).await, "");
        seen.extend(rows.into_iter().map(|row| row["ID"].clone()));
    }
    assert_eq!(seen, ids("scheduled"));
}

async fn task_inspect(bench: Bench) {
    let scene = Scene::quick(bench).await;
    for (state, ids) in STATES.into_iter().chain([("active", [ACTIVE; 3])]) {
        let id = ids[0];
        let text = scene.bench.cli(&format!("task inspect --queue=default --id={id}")).await;
        let job = scene.bench.look(Side::Rust, "default", id).await.expect("the job");
        let told: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(':').map(|(name, value)| (name, value.trim())))
            .collect();
        assert_eq!((told["ID"], told["State"], told["Queue"]), (id, state, "default"));
        assert_eq!(told["Type"], job["type"]);
        assert_eq!(told["Retried"], format!("{}/{}", job["retried"], job["max_retry"]));
        if job["last_error"] != "" {
            assert_eq!(told["Error message"], job["last_error"]);
        }
        if matches!(state, "scheduled" | "retry") {
            assert!(told["Next process time"].contains("(in "), "{text}");
        }
    }
    let said = scene.bench.cli("task inspect --queue=default --id=none").await;
    assert!(said.contains("task not found"), "{said}");
}

async fn task_enqueue(bench: Bench) {
    let words = "task enqueue --type_name=interop:work --payload={} --queue=default --id=by-hand \
                 --retry=4 --timeout=90s --retention=1h --unique=1h";
    let said = bench.cli(words).await;
    assert!(said.contains("Enqueued task by-hand to queue default"), "{said}");
    let job = bench.agreed("default", "by-hand").await;
    let told = ["max_retry", "timeout", "retention", "state"].map(|name| job[name].clone());
    assert_eq!(told, [json!(4), json!(90.0), json!(3600.0), json!("pending")]);
    let worker = bench.worker(Side::Rust, &bench.setup()).await;
    bench.reached("default", "by-hand", "completed").await;
    worker.stop().await;
}

async fn task_action(bench: Bench, action: Action, state: &'static str) {
    let scene = Scene::quick(bench).await;
    let id = ids(state)[0];
    let said = scene.bench.cli(&format!("task {} --queue=default --id={id}", action.verb())).await;
    let expected = match action {
        Action::Run => "task is now pending\n",
        Action::Archive => "task archived\n",
        Action::Delete => "task deleted\n",
    };
    assert_eq!(said, expected);
    scene.moved(state, 1, action).await;
}

async fn task_action_all(bench: Bench, action: Action, state: &'static str) {
    let scene = Scene::quick(bench).await;
    let group = if state == "aggregating" { format!(" --group={GROUP}") } else { String::new() };
    let words = format!("task {}all --queue=default --state={state}{group}", action.verb());
    let said = scene.bench.cli(&words).await;
    let expected = match action {
        Action::Run => "3 tasks are now pending\n",
        Action::Archive => "3 tasks archived\n",
        Action::Delete => "3 tasks deleted\n",
    };
    assert_eq!(said, expected);
    scene.moved(state, 3, action).await;
}

async fn task_cancel(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let said = scene.bench.cli(&format!("task cancel {ACTIVE}")).await;
    assert!(said.contains(&format!("Sent cancelation signal for task {ACTIVE}")), "{said}");
    scene.cancelled().await;
}

async fn server_ls(bench: Bench) {
    let scene = Scene::set(bench).await;
    let rows = table(&scene.bench.cli("server ls").await, "");
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(row["PID"], std::process::id().to_string());
    assert_eq!((row["State"].as_str(), row["Active Workers"].as_str()), ("active", "1/1"));
    assert_eq!(row["Queues"], "default:1");
    assert!(row["Started"].ends_with(" ago"), "{row:?}");
}

async fn group_ls(bench: Bench) {
    let scene = Scene::quick(bench).await;
    assert_eq!(scene.bench.cli("group ls --queue=default").await, format!("{GROUP}\n"));
}

async fn stats(bench: Bench) {
    let scene = Scene::quick(bench).await;
    let info = scene.info().await;
    let text = scene.bench.cli("stats").await;
    let sizes = table(&text, "Task Count by State");
    assert_eq!(numbers(&sizes[0], SIZES), SIZES.map(|name| info.sizes[name]));
    assert_eq!(table(&text, "Task Count by Queue")[0]["default"], "19");
    let today = table(&text, "Daily Stats");
    let told = numbers(&today[0], ["processed", "failed"]);
    assert_eq!(told, [info.processed_today, info.failed_today]);

    let text = scene.bench.cli("stats --json").await;
    let stats: Value = serde_json::from_str(&text).expect("JSON");
    for name in SIZES {
        assert_eq!(stats["aggregate"][name], info.sizes[name], "{name}");
    }
    let queue = &stats["queues"][0];
    assert_eq!(queue["ProcessedTotal"], info.processed);
    assert_eq!(queue["FailedTotal"], info.failed);
    assert!(queue["MemoryUsage"].as_i64().unwrap() > 0);
    assert!(queue["Latency"].as_i64().unwrap() > 0);
}
