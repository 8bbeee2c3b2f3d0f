//! The same commands directly and through REST, on the same store.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{
    Broken, HOSTILE, Host, Redis, Slow, Terminal, Way, Welcome, until, with_client,
};

/// A Redis, an application on it, and both ways to it.
struct Both {
    /// Stopped before its Redis.
    _host: Host,
    redis: Redis,
    ways: [Way; 2],
}

fn both(worker: bool) -> Both {
    let redis = Redis::start();
    let host = Host::start(Some(&redis), worker);
    let ways = [Way::direct(&redis), Way::rest(&host)];
    Both { redis, ways, _host: host }
}

fn enqueue(redis: &Redis, job: impl rocket_jobqueue::Job, delay: u64) -> String {
    with_client(redis, async |client| {
        let receipt = client.enqueue(job).delay(Duration::from_secs(delay)).await.unwrap();
        receipt.id.to_string()
    })
}

fn texts(values: &Value, key: &str) -> Vec<String> {
    values.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
}

fn list_of(value: &Value) -> usize {
    value.as_array().unwrap().len()
}

#[test]
fn lists_say_the_same_and_speak_to_no_terminal() {
    let both = both(true);
    let Both { redis, ways, .. } = &both;
    let later = enqueue(redis, Welcome { user: 1 }, 3600);
    let done = enqueue(redis, Welcome { user: 2 }, 0);
    let broken = enqueue(redis, Broken, 0);
    until(|| {
        let sizes = &ways[0].json(&["queue", "show", "mail"])["info"]["sizes"];
        (sizes["archived"] == 1 && sizes["completed"] == 1).then_some(())
    });
    let announced = || list_of(&ways[0].json(&["worker", "list"])["servers"]) == 1;
    until(|| announced().then_some(()));
    let queues = ways.each_ref().map(|way| way.json(&["queue", "list"]));
    assert_eq!(queues[0]["queues"][0]["info"]["sizes"], queues[1]["queues"][0]["info"]["sizes"]);
    let stats = ways.each_ref().map(|way| way.json(&["stats"]));
    assert_eq!(stats[0]["totals"], stats[1]["totals"]);
    assert_eq!(stats[0]["totals"]["failed_today"], 1);
    for way in ways {
        let all = way.json(&["job", "list"]);
        let mut ids = texts(&all["rows"], "id");
        ids.sort();
        let mut expected = [later.clone(), done.clone(), broken.clone()];
        expected.sort();
        assert!(ids == expected && all["complete"] == true, "{all}");
        let found = way.json(&["job", "list", "state:archived", "type:mail:broken"]);
        assert_eq!(texts(&found["rows"], "id"), [broken.as_str()]);
        assert_eq!(found["rows"][0]["last_error"], HOSTILE);
        let one = way.json(&["job", "list", "-n", "1"]);
        assert_eq!((one["rows"].as_array().unwrap().len(), &one["complete"]), (1, &json!(false)));

        // As text: a table, and foreign text is visible instead of obeyed.
        let table = way.ok(&["job", "list", "state:archived"]);
        assert!(table.contains("STATE") && table.contains(&broken), "{table}");
        assert!(table.contains("smtp \\u{1b}[31mis\\u{202e} down"), "{table}");
        let shown = way.ok(&["job", "show", &broken]);
        assert!(shown.contains("retries") && shown.contains("ATTEMPT"), "{shown}");
        for text in [&table, &shown, &way.run(&["job", "show", &broken, "--json"]).out] {
            let speaks = |c: char| c == '\u{1b}' || c == '\u{202e}';
            assert!(!text.contains(speaks), "{text:?}");
        }
        assert!(way.ok(&["job", "explain", &later]).contains("due"), "{later}");
        assert!(way.ok(&["queue", "history", "mail"]).contains("50.0 %"));
        assert!(way.ok(&["worker", "list"]).contains("running"));
        assert_eq!(way.json(&["worker", "list"])["servers"].as_array().unwrap().len(), 1);
        assert!(way.ok(&["stats"]).contains("2 attempts ended, 1 of them failed"));
    }
}

#[test]
fn what_is_wrong_has_its_exit_status() {
    let both = both(false);
    let Both { redis, ways, .. } = &both;
    let id = enqueue(redis, Welcome { user: 1 }, 3600);
    for way in ways {
        way.fails(&["job", "list", "sate:archived"], 2, "the nearest is \"state\"");
        way.fails(&["job", "list", "queue:mial"], 2, "expected an existing queue");
        way.fails(&["job", "show", "none"], 3, "no queue has a job");
        way.fails(&["job", "show", "none", "-q", "mail"], 3, "has no job");
        way.fails(&["queue", "show", "none"], 3, "none");
        way.fails(&["queue", "pause", "mail", "none", "--yes"], 3, "none");
        assert_eq!(way.json(&["queue", "show", "mail"])["info"]["paused"], false);
        way.fails(&["job", "cancel", &id, "--yes"], 4, "is scheduled");
        way.fails(&["queue", "delete", "mail", "--yes"], 4, "--force");
        way.fails(&["job", "list", "--nonsense"], 2, "--nonsense");
        way.fails(&["periodic", "run", "none", "--yes"], 3, "none");
        way.fails(&["job", "delete", "--query", " ", "--yes"], 2, "at least one term");
    }
}

#[test]
fn nothing_changes_without_consent() {
    let both = both(false);
    let Both { redis, ways, .. } = &both;
    let id = enqueue(redis, Welcome { user: 1 }, 3600);
    let commands: [&[&str]; 9] = [
        &["job", "run", &id],
        &["job", "archive", "--query", "state:scheduled"],
        &["job", "delete", &id, "-q", "mail"],
        &["job", "cancel", &id, "--then", "delete"],
        &["job", "edit", &id, "--payload", "{\"user\":9}"],
        &["job", "enqueue", "mail:welcome", "--payload", "{\"user\":3}"],
        &["queue", "pause", "mail"],
        &["queue", "resume", "mail"],
        &["queue", "delete", "mail", "--force"],
    ];
    for way in ways {
        let before = way.json(&["job", "list"]);
        let paused = way.json(&["queue", "show", "mail"])["info"]["paused"].clone();
        for command in commands {
            let ran = way.fails(command, 4, "nothing was done");
            assert!(ran.err.contains("--yes agrees"), "{command:?}: {}", ran.err);
            let dry = way.ok(&[command, &["--dry-run"]].concat());
            assert!(dry.starts_with("would "), "{command:?}: {dry}");
            // A dry run needs no consent, and consent does not make it real.
            assert_eq!(way.json(&[command, &["--dry-run", "--yes"]].concat())["dry_run"], true);
        }
        assert_eq!(way.json(&["job", "list"]), before);
        assert_eq!(way.json(&["queue", "show", "mail"])["info"]["paused"], paused);
    }
}

#[test]
fn jobs_are_enqueued_edited_moved_and_deleted() {
    let both = both(false);
    let Both { ways, .. } = &both;
    for way in ways {
        let new =
            ["job", "enqueue", "mail:welcome", "-q", "mail", "--payload", "{\"user\":1}", "--yes"];
        let id = way.ok(&[&new[..], &["--delay", "1h"]].concat()).trim().to_owned();
        let other = way.ok(&new).trim().to_owned();
        let job = way.json(&["job", "show", &id]);
        assert_eq!((&job["state"], &job["payload"]), (&json!("scheduled"), &json!("{\"user\":1}")));
        // Digits stay as they are.
        let exact = "{\"user\":12345678901234567890123,\"x\":1.10}";
        way.ok(&["job", "edit", &id, "--payload", exact, "--yes"]);
        assert_eq!(way.json(&["job", "show", &id])["payload"], exact);
        way.ok(&["job", "archive", &id, &other, "--yes"]);
        way.fails(&["job", "archive", &id, "--yes"], 4, "it cannot be archived");
        let moved = way.json(&["job", "run", "--query", "state:archived queue:mail", "--yes"]);
        assert_eq!((&moved["done"], &moved["left"]), (&json!(2), &json!([])));
        assert_eq!(way.json(&["job", "show", &id])["state"], "pending");
        // One of two cannot: the other one is done, and the status tells.
        let mixed = way.run(&["job", "run", &id, "--yes", "--json"]);
        assert_eq!(mixed.status, 4, "{mixed:?}");
        way.ok(&["queue", "pause", "mail", "--yes"]);
        assert_eq!(way.json(&["queue", "show", "mail"])["info"]["paused"], true);
        way.ok(&["queue", "resume", "mail", "--yes"]);
        let deleted = way.json(&["job", "delete", "--query", "queue:mail", "--yes"]);
        assert_eq!(deleted["done"], 2);
        way.ok(&["queue", "delete", "mail", "--yes"]);
        way.fails(&["queue", "show", "mail"], 3, "mail");
    }
}

#[test]
fn a_watch_ends_as_its_job_does() {
    let both = both(true);
    let Both { redis, ways, .. } = &both;
    let folder = tempfile::tempdir().unwrap();
    for (nth, way) in ways.iter().enumerate() {
        let completed = enqueue(redis, Welcome { user: 1 }, 0);
        assert!(way.ok(&["watch", &completed]).contains("completed"));
        let broken = enqueue(redis, Broken, 0);
        way.fails(&["watch", &broken], 6, "smtp \\u{1b}[31mis\\u{202e} down");
        way.fails(&["watch", "none"], 3, "none");
        let later = enqueue(redis, Welcome { user: 1 }, 3600);
        way.fails(&["watch", &later, "--timeout", "1s"], 8, "still scheduled");

        // Without retention nothing is left: whether it succeeded cannot be known.
        for (option, status) in [(None, 7), (Some("--gone-is-success"), 0)] {
            let end = folder.path().join(format!("{nth}-{status}"));
            let slow = enqueue(redis, Slow { end: end.clone() }, 0);
            let arguments: Vec<&str> = ["watch", &slow].into_iter().chain(option).collect();
            let mut command = way.command(&arguments);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut watch = command.spawn().unwrap();
            let mut said = BufReader::new(watch.stdout.take().unwrap()).lines();
            let halfway =
                |line: std::io::Result<String>| line.unwrap().contains("3 of 6 (50 %), halfway");
            assert!(said.any(halfway), "no progress was printed");
            crate::bench::write(&end, "");
            let output = watch.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(status), "{output:?}");
        }
    }
}

#[test]
fn a_running_job_is_cancelled() {
    let both = both(true);
    let Both { redis, ways, .. } = &both;
    for way in ways {
        let slow = enqueue(redis, Slow { end: Path::new("/nowhere/at all").to_owned() }, 0);
        until(|| (way.json(&["job", "show", &slow])["state"] == "active").then_some(()));
        let report = way.json(&["job", "cancel", &slow, "--then", "archive", "--yes"]);
        assert_eq!(report["done"], 1);
        until(|| (way.json(&["job", "show", &slow])["state"] == "archived").then_some(()));
    }
}

#[test]
fn a_worker_is_made_quiet_resumed_and_scaled() {
    let both = both(true);
    let Both { ways, .. } = &both;
    for way in ways {
        let server = || way.json(&["worker", "list"])["servers"].get(0).cloned();
        let id = until(server)["server_id"].as_str().unwrap().to_owned();
        let becomes = |holds: fn(&Value) -> bool| until(|| server().filter(holds).map(|_| ()));
        way.fails(&["worker", "quiet", &id], 4, "--yes agrees");
        assert!(way.ok(&["worker", "quiet", &id, "--dry-run"]).starts_with("would quiet"));
        way.ok(&["worker", "quiet", &id, "--yes"]);
        becomes(|server| server["details"]["state"] == "quiet");
        way.ok(&["worker", "resume", "--all", "--yes"]);
        becomes(|server| server["details"]["state"] == "running");
        way.ok(&["worker", "scale", &id, "--concurrency", "3", "--yes"]);
        becomes(|server| server["concurrency"] == 3);
        way.ok(&["worker", "scale", &id, "--concurrency", "configured", "--yes"]);
        becomes(|server| server["concurrency"] == 10);
        way.fails(&["worker", "scale", &id, "-c", "1000000", "--yes"], 2, "concurrency");
        way.fails(&["worker", "quiet", "none", "--yes"], 3, "none");
    }
}

#[test]
fn everything_moves_through_a_file() {
    let both = both(false);
    let Both { redis, ways, .. } = &both;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.ndjson");
    let file = file.to_str().unwrap();
    let id = enqueue(redis, Welcome { user: 1 }, 3600);
    let counted = ways[0].json(&["export", file, "--dry-run"]);
    assert!(counted["entries"]["job"] == 1 && !Path::new(file).exists(), "{counted}");
    ways[0].ok(&["export", file]);
    ways[1].fails(&["export", "-"], 2, "found --api");
    let other = Redis::start();
    let way = Way::direct(&other);
    way.fails(&["import", file], 4, "--yes agrees");
    let new = way.json(&["import", file, "--dry-run"])["new"].clone();
    assert_eq!(way.json(&["job", "list"])["rows"], json!([]));
    way.ok(&["import", file, "--yes"]);
    assert_eq!(way.json(&["job", "show", &id])["state"], "scheduled");
    assert_eq!(way.json(&["import", file, "--yes"])["already_there"], new);
    // Through a pipe, standard output has the entries alone.
    let piped = way.ok(&["export", "-"]);
    assert!(piped.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{piped}");
}

#[test]
fn the_doctor_tells_by_its_status() {
    let both = both(false);
    let Both { redis, ways, .. } = &both;
    enqueue(redis, Welcome { user: 1 }, 3600);
    let raw = |words: &[&str]| {
        let mut command = std::process::Command::new("redis-cli");
        assert!(
            command
                .args(["-p", &redis.port.to_string()])
                .args(words)
                .output()
                .unwrap()
                .status
                .success()
        );
    };
    // Tests' servers have no append-only file, which is a finding too.
    let kinds = |way: &Way| {
        let ran = way.run(&["doctor", "--json"]);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        (ran.status, texts(&report["findings"], "kind"))
    };
    raw(&["lpush", "asynq:{mail}:pending", "a-ghost"]);
    for way in ways {
        let (status, kinds) = kinds(way);
        assert!(status == 6 && kinds.len() >= 2, "{kinds:?}");
        assert!(way.run(&["doctor"]).out.contains("a-ghost"));
        way.fails(&["doctor", "--repair"], 4, "--yes agrees");
    }
    ways[1].run(&["doctor", "--repair", "--yes"]);
    assert!(!ways[0].run(&["doctor"]).out.contains("a-ghost"));
}

#[test]
fn alerts_are_told_by_the_status_too() {
    let both = both(true);
    let Both { redis, ways, .. } = &both;
    enqueue(redis, Welcome { user: 1 }, 3600);
    ways[0].ok(&["queue", "pause", "mail", "--yes"]);
    // The application may show a list that is a second old.
    for way in ways {
        let found = until(|| {
            let ran = way.run(&["alerts", "--json"]);
            let found: Value = serde_json::from_str(&ran.out).unwrap();
            let rules = texts(&found["alerts"], "rule");
            rules.iter().any(|rule| rule == "queue_paused").then_some(ran.status)
        });
        assert_eq!(found, 6);
        let ran = way.run(&["alerts"]);
        assert!(ran.status == 6 && ran.out.contains("queue_paused"), "{ran:?}");
    }
}

#[test]
fn a_store_in_a_process_is_reached_by_rest() {
    let host = Host::start(None, true);
    let way = Way::rest(&host);
    let id = way.ok(&["job", "enqueue", "mail:welcome", "--payload", "{\"user\":7}", "--yes"]);
    assert!(way.ok(&["watch", id.trim()]).contains("completed"));
    assert_eq!(way.json(&["job", "show", id.trim()])["result"], "\"welcome, 7\"");
    way.fails(&["job", "enqueue", "no:such", "--yes"], 3, "no:such");
    // In a terminal it is the same.
    let terminal = Terminal::start(100, 30);
    terminal.runs(&way, "queue list");
    terminal.sees("COMPLETED");
}
