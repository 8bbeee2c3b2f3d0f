//! The load driver as a person runs it: every scenario with few jobs, wrong
//! input, and what it refuses. No figure is judged here.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod support;

use std::process::Output;

use rstest::rstest;
use serde_json::Value;
use support::RedisServer;

fn load(arguments: &[&str]) -> Output {
    let mut command = support::cargo();
    command.args(["run", "--quiet", "--example", "load", "--"]).args(arguments);
    command.output().expect("cargo starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The one JSON line of a run that went well.
fn line(arguments: &[&str]) -> Value {
    let output = load(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    let out = text(&output.stdout);
    assert_eq!(out.lines().count(), 1, "nothing but the line: {out}");
    serde_json::from_str(&out).unwrap()
}

const NAMES: [&str; 11] = [
    "scenario",
    "jobs",
    "concurrency",
    "jobs_per_s",
    "p50_ms",
    "p99_ms",
    "max_ms",
    "min_ms",
    "cpu_s_per_10k",
    "redis_cpu_s_per_10k",
    "peak_rss_mib",
];

#[rstest]
#[case("enqueue-one --jobs 50", true)]
#[case("enqueue-concurrent --jobs 500 --concurrency 20", true)]
#[case("enqueue-bulk --jobs 2500 --batch 1000", true)]
#[case("drain --jobs 500 --concurrency 10", true)]
#[case("drain --jobs 40 --concurrency 10 --sleep-ms 2 --aof", true)]
#[case("drain --jobs 40 --concurrency 10 --spin-us 100 --rtt-ms 1", true)]
#[case("mixed --jobs 100 --concurrency 10", true)]
#[case("http --jobs 50 --concurrency 4", true)]
#[case("http --jobs 50 --concurrency 4 --bare", true)]
#[case("soak --jobs 3000", true)]
#[case("latency --jobs 3", false)]
#[case("latency --jobs 3 --split", false)]
#[case("delay --jobs 3 --others 100", false)]
#[case("delay --jobs 3 --split", false)]
#[case("delay --jobs 3 --retry", false)]
fn every_scenario_prints_one_line_with_all_names(#[case] call: &str, #[case] is_rate: bool) {
    let mut arguments: Vec<&str> = call.split(' ').collect();
    arguments.push("--json");
    let line = line(&arguments);
    for name in NAMES {
        assert!(line.get(name).is_some(), "{name} in {line}");
    }
    assert_eq!(line["scenario"], arguments[0]);
    assert_eq!(line["jobs"].to_string(), arguments[2]);
    assert_eq!(line["jobs_per_s"].is_f64(), is_rate, "{line}");
    let is_spread = !is_rate || arguments[0] == "http";
    assert_eq!(line["p99_ms"].is_f64(), is_spread, "{line}");
    if arguments[0] == "delay" {
        assert_eq!(line["early"], 0, "{line}");
    }
}

#[test]
fn a_person_reads_a_table() {
    let output = load(&["enqueue-one", "--jobs", "20"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(out.starts_with("enqueue-one: 20 jobs") && out.contains("jobs/s"), "{out}");
    assert!(err.contains("Redis of the driver's own"), "{err}");
}

#[test]
fn what_others_wrote_is_drained_when_asked_for_and_else_left_alone() {
    let server = RedisServer::start::<&str>(&[]);
    let url = format!("redis://{}", server.addr());
    // As Go writes them: type and payload, id, queue, 25 retries.
    for n in 0..3 {
        let (id, payload) = (format!("job-{n}"), format!("{{\"n\":{n}}}"));
        let mut message = b"\x0a\x04noop".to_vec();
        for (tag, text) in [(0x12, payload.as_str()), (0x1a, &id), (0x22, "default")] {
            message.extend([tag, text.len() as u8]);
            message.extend(text.as_bytes());
        }
        message.extend([0x28, 25]);
        let mut connection = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
        let key = format!("asynq:{{default}}:t:{id}");
        let mut pipe = redis::pipe();
        pipe.cmd("HSET").arg(key).arg("msg").arg(message);
        pipe.arg(&["state", "pending", "pending_since", "1"]).ignore();
        pipe.cmd("LPUSH").arg("asynq:{default}:pending").arg(&id).ignore();
        pipe.query::<()>(&mut connection).unwrap();
    }

    let refused = load(&["drain", "--redis", &url, "--jobs", "9"]);
    assert!(!refused.status.success());
    let err = text(&refused.stderr);
    assert!(err.contains("expected it to be empty, found 3 jobs in pending"), "{err}");
    let wrong = load(&["drain", "--no-fill", "--redis", &url, "--jobs", "4"]);
    assert!(text(&wrong.stderr).contains("expected 4 jobs in the queue, found 3"));

    let line = line(&["drain", "--no-fill", "--redis", &url, "--json"]);
    assert_eq!((&line["ran"], &line["left"]), (&Value::from(3), &Value::from(0)), "{line}");
    assert_eq!(server.cli(&["LLEN", "asynq:{default}:pending"]), "0");
    let empty = load(&["drain", "--no-fill", "--redis", &url]);
    assert!(text(&empty.stderr).contains("found none"), "{}", text(&empty.stderr));
}

#[test]
fn growth_compares_two_sizes() {
    let output = load(&["growth", "--kind", "archived", "--sizes", "10,20", "--json"]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let sizes: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["size"].take())
        .collect();
    assert_eq!(sizes, [10, 20]);
}

#[test]
fn scale_compares_clusters() {
    let few = "scale --masters 2 --queues 4 --jobs 1000 --concurrency 10 --rounds 1 --json";
    let output = load(&few.split(' ').collect::<Vec<_>>());
    let out = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{out}");
    for (masters, line) in (1..).zip(&lines) {
        assert_eq!(line["masters"], masters, "{line}");
        let calls = line["calls"].as_array().unwrap();
        assert_eq!(calls.len(), masters, "{line}");
        assert!(calls.iter().all(|calls| calls.as_u64() > Some(0)), "{line}");
        assert!(line["jobs_per_s"].as_f64() > Some(0.0), "{line}");
    }
}

#[rstest]
#[case("drian", "drian")]
#[case("drain --jobs many", "many")]
#[case("drain --jobs 0", "0")]
#[case("growth --sizes 10", "found 1")]
#[case("drain --sleep-ms -1", "-1")]
#[case("drain --redis nonsense://x", "nonsense")]
#[case("drain --redis 127.0.0.1:1 --no-fill", "does not answer")]
fn wrong_input_is_named(#[case] call: &str, #[case] named: &str) {
    let output = load(&call.split(' ').collect::<Vec<_>>());
    let err = text(&output.stderr);
    assert!(!output.status.success() && err.contains(named), "{call}: {err}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
}
