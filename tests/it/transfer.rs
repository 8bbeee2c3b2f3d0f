//! Moves through files and folders, with what Asynq wrote, and by the example program. What
//! each store moves is a case of the contract.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime};

use rocket_jobqueue::internals::redis::wire;
use rocket_jobqueue::periodic::PeriodicRun;
use rocket_jobqueue::transfer::Transfer;
use rocket_jobqueue::{Client, Error, JobId, JobRecord, QueueName, Timestamp};
use serde_json::Value as Json;

use crate::support::RedisServer;

fn server() -> RedisServer {
    RedisServer::start::<&str>(&[])
}

fn url(server: &RedisServer) -> String {
    format!("redis://{}", server.addr())
}

fn store_of(server: &RedisServer) -> Transfer {
    Transfer::redis(&url(server)).unwrap()
}

/// Some jobs in a folder, and how many things an export of it has.
async fn folder_with_jobs(path: &Path) -> (Transfer, u64) {
    let server = server();
    let figment = rocket::figment::Figment::new().merge(("databases.jobqueue.url", url(&server)));
    let client = Client::from_figment(&figment).unwrap();
    for n in 0..250 {
        client.enqueue_raw("mail", Some(format!("{{\"n\":{n}}}").into_bytes())).await.unwrap();
    }
    let later = Duration::from_micros(3_600_000_001);
    let job = client.enqueue_raw("mail", Some(b"\xff".to_vec())).delay(later);
    job.unique_for(later).await.unwrap();
    let disk = Transfer::disk(path).await.unwrap();
    let report = Transfer::of(&client).copy_to(&disk).await.unwrap();
    assert_eq!((report.jobs(), report.conflicts, report.unreadable), (251, 0, 0), "{report}");
    (disk, report.new)
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn refused(result: Result<rocket_jobqueue::transfer::TransferReport, Error>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn a_file_is_complete_and_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, things) = folder_with_jobs(&folder.path().join("jobs")).await;
    let path = folder.path().join("jobs.ndjson");

    let counted = disk.clone().dry_run(true).export_file(&path).await.unwrap();
    assert!(!path.exists(), "a dry run writes no file");
    let report = disk.export_file(&path).await.unwrap();
    assert_eq!(report, counted);

    let lines = lines(&path);
    assert_eq!(lines.len() as u64, things + 2, "one line for each, the first and the last");
    let last: Json = serde_json::from_str(&lines[lines.len() - 1]).unwrap();
    assert_eq!(
        last,
        serde_json::json!({
            "kind": "end",
            "counts": { "job": 251, "lock": 1, "queue": 1 },
        })
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(!folder.path().join("jobs.ndjson.part").exists());
    let again = refused(disk.export_file(&path).await);
    assert!(again.contains("expected a new file"), "{again}");
}

#[tokio::test]
async fn an_import_is_repeated_without_doubles_and_a_dry_run_only_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, things) = folder_with_jobs(&folder.path().join("jobs")).await;
    let path = folder.path().join("jobs.ndjson");
    disk.export_file(&path).await.unwrap();
    let server = server();
    let to = store_of(&server);

    let dry = to.clone().dry_run(true).import_file(&path).await.unwrap();
    assert_eq!((dry.new, dry.already_there), (things, 0), "{dry}");
    assert_eq!(server.cli(&["DBSIZE"]), "0", "nothing was stored");

    // It breaks in the middle.
    let half = lines(&path)[..120].join("\n") + "\n";
    let broken = refused(to.import(half.as_bytes()).await);
    assert!(broken.contains("line 121") && broken.contains("the file is cut"), "{broken}");
    let report = to.import_file(&path).await.unwrap();
    assert!(report.already_there >= 100, "{report}");
    assert_eq!(report.new + report.already_there, things, "{report}");
    let report = to.import_file(&path).await.unwrap();
    assert_eq!((report.new, report.already_there), (0, things), "{report}");
    assert_eq!(server.cli(&["LLEN", "asynq:{default}:pending"]), "250");

    // Something else is there now.
    let id = server.cli(&["LINDEX", "asynq:{default}:pending", "0"]);
    server.cli(&["HSET", &format!("asynq:{{default}}:t:{id}"), "result", "other"]);
    let report = to.import_file(&path).await.unwrap();
    assert_eq!((report.new, report.conflicts), (0, 1), "{report}");
    assert!(report.problems[0].contains(&id) && report.problems[0].starts_with("line "));
}

#[tokio::test]
async fn a_move_to_a_folder_that_broke_off_is_made_again() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    write_as_asynq(&server);
    let today = chrono::Utc::now().format("%Y-%m-%d").to_string();
    server.cli(&["SET", &format!("asynq:{{default}}:processed:{today}"), "5"]);
    let (path, to) = (folder.path().join("jobs.ndjson"), folder.path().join("jobs"));
    store_of(&server).export_file(&path).await.unwrap();

    // It broke off after the queues and before their counters.
    let is_first =
        |line: &String| line.contains("\"format\"") || line.contains("\"kind\":\"queue\"");
    let begin: String = lines(&path).into_iter().filter(is_first).map(|line| line + "\n").collect();
    let disk = Transfer::disk(&to).await.unwrap();
    assert!(refused(disk.import(begin.as_bytes()).await).contains("the file is cut"));
    drop(disk);

    let disk = Transfer::disk(&to).await.unwrap();
    let report = disk.import_file(&path).await.unwrap();
    assert_eq!((report.conflicts, report.expired), (0, 0), "{:?}", report.problems);
    let mut back = Vec::new();
    disk.export(&mut back).await.unwrap();
    let days = |text: &str| text.lines().filter(|line| line.contains("\"kind\":\"day\"")).count();
    assert_eq!(days(&String::from_utf8(back).unwrap()), 2);
}

#[tokio::test]
async fn a_job_that_moves_into_a_namespace_names_its_queue_there() {
    let (first, second) = (server(), server());
    let mut record =
        JobRecord::new("mail", Some(b"{}".to_vec()), QueueName::new("default").unwrap());
    record.id = JobId::new("odd").unwrap();
    record.max_retry = 25;
    // As another program may write it: the number of retries first, and again in its place.
    let message = [&[0x28, 25], &*wire::encode(&record)].concat();
    let mut pipe = redis::pipe();
    pipe.cmd("SADD").arg("asynq:queues").arg("default");
    let key = "asynq:{default}:t:odd";
    pipe.cmd("HSET").arg(key).arg("msg").arg(&message).arg("state").arg("pending");
    pipe.cmd("LPUSH").arg("asynq:{default}:pending").arg("odd");
    let mut client = redis::Client::open(url(&first)).unwrap().get_connection().unwrap();
    pipe.query::<()>(&mut client).unwrap();
    let figment = rocket::figment::Figment::new()
        .merge(("databases.jobqueue.url", url(&second)))
        .merge(("jobqueue.namespace", "shop"));
    let shop = Transfer::of(&Client::from_figment(&figment).unwrap());

    let report = store_of(&first).copy_to(&shop).await.unwrap();

    assert_eq!((report.new, report.conflicts), (2, 0), "{:?}", report.problems);
    let mut client = redis::Client::open(url(&second)).unwrap().get_connection().unwrap();
    let key = "asynq:{shop:default}:t:odd";
    let moved: Vec<u8> = redis::cmd("HGET").arg(key).arg("msg").query(&mut client).unwrap();
    assert!(moved.windows(12).any(|bytes| bytes == b"shop:default"), "Go builds keys from it");
    // And back, under its first name, as this crate writes it.
    let third = server();
    shop.copy_to(&store_of(&third)).await.unwrap();
    assert_eq!(third.cli(&["LRANGE", "asynq:{default}:pending", "0", "-1"]), "odd");
}

#[tokio::test]
async fn a_queue_whose_name_is_too_long_in_a_namespace_is_left_out_by_name() {
    let (first, second) = (server(), server());
    let name = "q".repeat(120);
    let mut pipe = redis::pipe();
    for queue in ["default", &name] {
        let record = JobRecord::new("mail", None, QueueName::new(queue).unwrap());
        let (key, id) = (format!("asynq:{{{queue}}}:t:{}", record.id), record.id.to_string());
        pipe.cmd("SADD").arg("asynq:queues").arg(queue);
        pipe.cmd("HSET").arg(key).arg("msg").arg(wire::encode(&record)).arg("state").arg("pending");
        pipe.cmd("LPUSH").arg(format!("asynq:{{{queue}}}:pending")).arg(id);
    }
    let mut client = redis::Client::open(url(&first)).unwrap().get_connection().unwrap();
    pipe.query::<()>(&mut client).unwrap();
    let figment = rocket::figment::Figment::new()
        .merge(("databases.jobqueue.url", url(&second)))
        .merge(("jobqueue.namespace", "shop-of-the-north"));
    let shop = Transfer::of(&Client::from_figment(&figment).unwrap());

    let report = store_of(&first).copy_to(&shop).await.unwrap();

    // The queue and its job.
    assert_eq!((report.new, report.conflicts), (2, 2), "{:?}", report.problems);
    let says = format!("queue \"{name}\": queue name: expected at most");
    assert!(report.problems[0].starts_with(&says), "{}", report.problems[0]);
    assert_eq!(second.cli(&["SMEMBERS", "asynq:queues"]), "shop-of-the-north:default");
}

#[tokio::test]
async fn a_store_in_an_unknown_format_is_refused_on_both_sides() {
    let (old, new) = (server(), server());
    write_as_asynq(&old);
    new.cli(&["SET", "asynq:x:format", "2"]);
    for dry_run in [false, true] {
        let (old, new) = (store_of(&old).dry_run(dry_run), store_of(&new).dry_run(dry_run));
        for error in [
            refused(old.copy_to(&new).await),
            refused(new.copy_to(&old).await),
            refused(new.export(std::io::sink()).await),
            refused(new.import("{}".as_bytes()).await),
        ] {
            assert!(error.starts_with("store 127.0.0.1:"), "{error}");
            assert!(error.contains("found format 2"), "{error}");
        }
    }
    assert_eq!(new.cli(&["DBSIZE"]), "1", "nothing was stored");
    assert_eq!(old.cli(&["EXISTS", "asynq:x:format"]), "0", "a look writes nothing");
}

#[tokio::test]
async fn an_error_names_its_store_and_no_place_in_this_crate() {
    let (server, gone) = (server(), Transfer::redis("redis://user:secret@127.0.0.1:1").unwrap());
    let here = store_of(&server);
    for error in [refused(here.copy_to(&gone).await), refused(gone.copy_to(&here).await)] {
        assert_eq!(error, "store 127.0.0.1:1/0: Redis is not connected");
    }
    let error = Transfer::redis("redis://secret@").unwrap_err().to_string();
    assert!(error.starts_with("URL of a Redis: expected redis://"), "{error}");
    assert!(!error.contains("secret") && !error.contains(".rs"), "{error}");
}

#[tokio::test]
async fn a_folder_is_made_for_the_first_thing_that_is_stored_in_it() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let jobs = write_as_asynq(&server) as u64;
    let path = folder.path().join("jobs");
    for known in [false, true] {
        let disk = match known {
            false => Transfer::disk(&path).await.unwrap(),
            true => {
                let figment = rocket::figment::Figment::new()
                    .merge(("jobqueue.store", "disk"))
                    .merge(("jobqueue.path", &path));
                Transfer::from_figment(&figment).await.unwrap()
            }
        };
        let counted = store_of(&server).copy_to(&disk.clone().dry_run(true)).await.unwrap();
        assert_eq!((counted.jobs(), counted.conflicts), (jobs, 0), "{counted}");
        let refused = disk.export(std::io::sink()).await.unwrap_err().to_string();
        assert!(refused.contains("expected a store to move from, found none"), "{refused}");
        assert!(refused.contains(path.to_str().unwrap()), "{refused}");
        assert!(!path.exists(), "a look makes no folder");
        let moved = store_of(&server).copy_to(&disk).await.unwrap();
        assert_eq!(moved, counted);
        assert_eq!(disk.export(std::io::sink()).await.unwrap().jobs(), jobs);
        drop(disk);
        fs::remove_dir_all(&path).unwrap();
    }
}

#[tokio::test]
async fn a_move_that_broke_off_within_a_queue_finds_no_conflict() {
    let (first, second) = (server(), server());
    for (name, value) in [("paused", "1770000000"), ("processed", "7"), ("failed", "2")] {
        first.cli(&["SET", &format!("asynq:{{default}}:{name}"), value]);
    }
    first.cli(&["SADD", "asynq:queues", "default"]);
    let minute = Timestamp::from(SystemTime::now()).as_secs() / 60;
    let (minutes, field) = ("asynq:{default}:x:minutes", (minute % 90).to_string());
    first.cli(&["HSET", minutes, &field, &format!("{minute} 7 2 0")]);
    // The name of the queue and a field without its expiry: what a crash may have left.
    second.cli(&["SADD", "asynq:queues", "default"]);
    second.cli(&["HSET", minutes, &field, &format!("{minute} 7 2 0")]);

    let report = store_of(&first).copy_to(&store_of(&second)).await.unwrap();

    assert_eq!((report.new, report.already_there, report.conflicts), (1, 1, 0), "{report}");
    assert_ne!(second.cli(&["TTL", minutes]), "-1");
    let sets = |stats: &str| stats.lines().filter(|line| line.starts_with("cmdstat_set:")).count();
    assert_eq!(sets(&second.cli(&["INFO", "commandstats"])), 0, "all of a queue at once");
    let report = store_of(&first).copy_to(&store_of(&second)).await.unwrap();
    assert_eq!((report.new, report.conflicts), (0, 0), "{report}");
}

/// How often a server was asked to scan its keys for an export of this many queues, each with a
/// lock and counters of a day; what came out.
async fn scans_of(queues: usize) -> (u64, BTreeMap<&'static str, u64>) {
    let server = server();
    let mut pipe = redis::pipe();
    for n in 0..queues {
        pipe.cmd("SADD").arg("asynq:queues").arg(format!("q{n}"));
        let prefix = format!("asynq:{{q{n}}}:");
        pipe.cmd("SET").arg(format!("{prefix}unique:mail:a")).arg("a").arg("EX").arg(1000);
        pipe.cmd("SET").arg(format!("{prefix}processed:2096-10-02")).arg(n);
    }
    let mut client = redis::Client::open(url(&server)).unwrap().get_connection().unwrap();
    pipe.query::<()>(&mut client).unwrap();
    let began = std::time::Instant::now();
    let report = store_of(&server).export(std::io::sink()).await.unwrap();
    println!("{queues} queues: exported in {:?}", began.elapsed());
    let stats = server.cli(&["INFO", "commandstats"]);
    let scans = stats.lines().find_map(|line| line.strip_prefix("cmdstat_scan:calls="));
    let scans = scans.and_then(|rest| rest.split(',').next()?.parse().ok());
    (scans.unwrap_or(0), report.entries)
}

#[tokio::test]
async fn the_keys_of_a_server_are_scanned_once_for_all_queues() {
    let (scans, entries) = scans_of(300).await;
    assert_eq!(entries, BTreeMap::from([("queue", 300), ("lock", 300), ("day", 300)]));
    assert!(scans <= 3, "{scans} calls for 601 keys");
}

/// For a figure: `cargo test --test it transfer::an_export_of_1000_queues -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a figure for the guide"]
async fn an_export_of_1000_queues() {
    println!("{:?}", scans_of(1000).await);
}

#[tokio::test]
async fn the_history_of_a_periodic_job_in_a_namespace_moves() {
    let (first, second) = (server(), server());
    // The id of "nightly", which its claim does not have.
    let history = "asynq:scheduler_history:shop:0be6c93c-eb4c-88b5-8f79-a8d1577074e0";
    let run = PeriodicRun::new(JobId::new("j").unwrap(), Timestamp::from_secs(1_770_000_000));
    let mut pipe = redis::pipe();
    pipe.cmd("SADD").arg("asynq:queues").arg("shop:default");
    let claim = "asynq:{shop:default}:x:cron:nightly";
    pipe.cmd("SET").arg(claim).arg("1770000000000000:1770000000000000").arg("EX").arg(1000);
    pipe.cmd("ZADD").arg(history).arg(1_770_000_000).arg(wire::scheduler_event(&run));
    let mut client = redis::Client::open(url(&first)).unwrap().get_connection().unwrap();
    pipe.query::<()>(&mut client).unwrap();

    let report = store_of(&first).copy_to(&store_of(&second)).await.unwrap();

    assert_eq!(report.conflicts, 0, "{:?}", report.problems);
    assert_eq!(second.cli(&["ZCARD", history]), "1");
}

#[tokio::test]
async fn damaged_keys_are_reported_and_everything_else_moves() {
    let (first, second) = (server(), server());
    let jobs = write_as_asynq(&first);
    first.cli(&["SADD", "asynq:queues", "broken"]);
    first.cli(&["SET", "asynq:{broken}:scheduled", "no sorted set"]);
    first.cli(&["SET", "asynq:{broken}:t:a", "no hash"]);
    first.cli(&["RPUSH", "asynq:{broken}:pending", "a"]);

    let report = store_of(&first).copy_to(&store_of(&second)).await.unwrap();

    assert_eq!((report.jobs(), report.unreadable, report.conflicts), (jobs as u64, 2, 0));
    let all = report.problems.join("\n");
    assert!(all.contains("(list of scheduled jobs)") && all.contains("\"a\""), "{all}");
}

#[tokio::test]
async fn a_file_of_another_kind_is_not_called_a_cut_one() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let path = folder.path().join("other");
    for content in ["{\"name\":\"shop\"}\n", "id,type\n1,mail\n", "\u{7f}ELF\0\0"] {
        fs::write(&path, content).unwrap();
        let error = refused(store_of(&server).import_file(&path).await);
        let says = "/other: line 1: expected the first line of an export in format 1, found \
                    something else: this is no export of a job queue";
        assert!(error.ends_with(says), "{error}");
    }
}

#[tokio::test]
async fn a_cut_or_changed_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, _) = folder_with_jobs(&folder.path().join("jobs")).await;
    let path = folder.path().join("jobs.ndjson");
    disk.export_file(&path).await.unwrap();
    let whole = fs::read(&path).unwrap();
    let server = server();
    let to = store_of(&server);

    let cut = folder.path().join("cut.ndjson");
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(&cut, &whole[..length]).unwrap();
        let error = refused(to.import_file(&cut).await);
        assert!(error.contains("cut") || error.contains("line 1"), "{length}: {error}");
    }
    assert_eq!(server.cli(&["DBSIZE"]), "0", "a cut file stores nothing");

    let text = String::from_utf8(whole).unwrap();
    let to = to.dry_run(true);
    for (change, says) in [
        (text.replace("\"format\":1", "\"format\":9"), "line 1: expected"),
        (text.replacen("\"kind\":\"job\"", "\"kind\":\"work\"", 1), "line 3: expected"),
        (text.replacen("\"max_retry\"", "\"max_retri\"", 1), "line 3: expected"),
        (text.replace("\"job\":251", "\"job\":252"), "the closing line counts"),
        (format!("{text}{{}}\n"), "nothing after the closing line"),
    ] {
        let error = refused(to.import(change.as_bytes()).await);
        assert!(error.contains(says), "{error}");
        assert!(!error.contains('\n'));
    }
}

#[tokio::test]
async fn a_store_with_live_workers_is_refused_unless_allowed() {
    let server = server();
    // As a Go worker announces itself.
    let info = "0a057765622d311092211a2435613164366130652d326633622d346331642d396538662d37306131623263336434653520\
                0a2a0b0a0764656661756c7410033a06616374697665420c08809d80cc061080cab5ee014801";
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let decimal = |pair_of: &[u8]| format!("\\{:03}", pair(pair_of));
    let bytes: String = info.as_bytes().chunks(2).map(decimal).collect();
    let key = "asynq:servers:{web-1:4242:5a1d6a0e-2f3b-4c1d-9e8f-70a1b2c3d4e5}";
    let script = format!(
        "redis.call('SET', KEYS[1], \"{bytes}\", 'EX', 100)
        return redis.call('ZADD', 'asynq:servers', 9999999999, KEYS[1])"
    );
    assert_eq!(server.cli(&["EVAL", &script, "1", key]), "1");

    let store = store_of(&server);
    let error = store.export(std::io::sink()).await.unwrap_err();
    assert!(error.is_wrong_state(), "{error}");
    assert!(error.to_string().contains("host web-1, process 4242"), "{error}");
    store.while_running(true).export(std::io::sink()).await.unwrap();
}

/// A store as Asynq would leave it, with the messages of the golden file; how many jobs.
fn write_as_asynq(server: &RedisServer) -> usize {
    let text = include_str!("../golden/task_messages.json");
    let cases: Vec<Json> = serde_json::from_str(text).unwrap();
    let (mut jobs, mut pipe) = (0, redis::pipe());
    let states = ["pending", "scheduled", "retry", "archived"];
    for (nth, case) in cases.iter().enumerate() {
        let field = |name: &str| case[name].as_str().unwrap();
        // Messages that Go itself writes: the others are for decoders.
        if case["mode"] != "roundtrip" || case["exact"] != true || field("id").is_empty() {
            continue;
        }
        let digit = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        let pairs = field("hex").as_bytes().chunks(2);
        let message: Vec<u8> = pairs.map(|pair| digit(pair).unwrap()).collect();
        let (id, prefix) = (field("id"), format!("asynq:{{{}}}:", field("queue")));
        let state = match field("name") {
            "grouped_task" => "aggregating",
            _ => states[jobs % states.len()],
        };
        let key = format!("{prefix}t:{id}");
        let second = 4_000_000_000_u64 + nth as u64;
        pipe.cmd("SADD").arg("asynq:queues").arg(field("queue"));
        pipe.cmd("HSET").arg(&key).arg("msg").arg(&message).arg("state").arg(state);
        if !field("unique_key").is_empty() {
            pipe.cmd("HSET").arg(&key).arg("unique_key").arg(field("unique_key"));
            pipe.cmd("SET").arg(field("unique_key")).arg(id).arg("EX").arg(1000);
        }
        match state {
            "pending" => {
                pipe.cmd("HSET").arg(&key).arg("pending_since").arg("1770000000123456000");
                pipe.cmd("LPUSH").arg(format!("{prefix}pending")).arg(id);
            }
            "aggregating" => {
                let group = field("group_key");
                pipe.cmd("HSET").arg(&key).arg("group").arg(group);
                pipe.cmd("ZADD").arg(format!("{prefix}g:{group}")).arg(second).arg(id);
                pipe.cmd("SADD").arg(format!("{prefix}groups")).arg(group);
            }
            _ => {
                pipe.cmd("ZADD").arg(format!("{prefix}{state}")).arg(second).arg(id);
            }
        }
        jobs += 1;
    }
    // One that succeeded a moment ago.
    let now = Timestamp::from_secs(Timestamp::from(SystemTime::now()).as_secs());
    let queue = QueueName::new("default").unwrap();
    let mut record = JobRecord::new("mail", Some(b"{}".to_vec()), queue);
    record.id = JobId::new("completed").unwrap();
    record.retention = Duration::from_secs(86_400);
    record.completed_at = Some(now);
    let key = "asynq:{default}:t:completed";
    pipe.cmd("HSET").arg(key).arg("msg").arg(wire::encode(&record)).arg("state").arg("completed");
    pipe.cmd("HSET").arg(key).arg("result").arg(b"\xff\x00");
    pipe.cmd("ZADD").arg("asynq:{default}:completed").arg(now.as_secs() + 86_400).arg("completed");
    for (key, value) in [
        ("asynq:{default}:processed", "12"),
        ("asynq:{default}:failed", "3"),
        ("asynq:{default}:processed:2096-10-02", "7"),
        ("asynq:{default}:failed:2096-10-02", "2"),
        ("asynq:{default}:paused", "1770000000"),
    ] {
        pipe.cmd("SET").arg(key).arg(value);
    }
    let mut client = redis::Client::open(url(server)).unwrap().get_connection().unwrap();
    pipe.query::<()>(&mut client).unwrap();
    jobs + 1
}

/// Every key with its value, except the ones of this crate.
fn dump(server: &RedisServer) -> BTreeMap<String, Vec<String>> {
    let script = "
        local function hex(text)
            return (string.gsub(text, '.', function(c) return string.format('%02x', string.byte(c)) end))
        end
        local all = {}
        for _, key in ipairs(redis.call('KEYS', '*')) do
            local kind, value = redis.call('TYPE', key).ok, nil
            if kind == 'string' then value = {redis.call('GET', key)} end
            if kind == 'list' then value = redis.call('LRANGE', key, 0, -1) end
            if kind == 'set' then value = redis.call('SMEMBERS', key) table.sort(value) end
            if kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
            if kind == 'hash' then
                value = {}
                local found = redis.call('HGETALL', key)
                for at = 1, #found, 2 do value[#value + 1] = found[at] .. '=' .. hex(found[at + 1]) end
                table.sort(value)
            end
            all[#all + 1] = {key, value}
        end
        return cjson.encode(all)";
    let all: Vec<(String, Vec<String>)> =
        serde_json::from_str(&server.cli(&["EVAL", script, "0"])).unwrap();
    all.into_iter().filter(|(key, _)| !key.contains(":x:")).collect()
}

#[tokio::test]
async fn what_asynq_wrote_comes_back_from_disk_key_by_key() {
    let (first, second) = (server(), server());
    let jobs = write_as_asynq(&first);
    let before = dump(&first);
    let folder = tempfile::tempdir().unwrap();
    let (out, back) = (folder.path().join("out.ndjson"), folder.path().join("back.ndjson"));

    let report = store_of(&first).export_file(&out).await.unwrap();
    assert_eq!((report.jobs(), report.unreadable), (jobs as u64, 0), "{report}");
    let disk = Transfer::disk(folder.path().join("jobs")).await.unwrap();
    let report = disk.import_file(&out).await.unwrap();
    assert_eq!((report.conflicts, report.expired), (0, 0), "{:?}", report.problems);
    disk.export_file(&back).await.unwrap();
    let report = store_of(&second).import_file(&back).await.unwrap();
    assert_eq!((report.conflicts, report.expired), (0, 0), "{:?}", report.problems);

    let after = dump(&second);
    println!("{} jobs of Asynq in {} keys", jobs, before.len());
    assert!(jobs >= 12, "{jobs}");
    for (key, value) in &before {
        assert_eq!(after.get(key), Some(value), "{key}");
    }
    assert_eq!(after.len(), before.len());
}

fn run_move(arguments: &[&str], input: Stdio) -> Output {
    let mut command = crate::support::cargo();
    command.args(["run", "--quiet", "--example", "move", "--"]).args(arguments);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["ROCKET_", "REDIS_", "APP_ENV"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.stdin(input).output().unwrap()
}

#[tokio::test]
async fn the_program_exports_copies_and_imports() {
    let server = server();
    let jobs = write_as_asynq(&server);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = |arguments: &[&str], input| {
        let output = run_move(arguments, input);
        (output.status.code(), String::from_utf8(output.stderr).unwrap(), output.stdout)
    };

    let (status, said, _) =
        run(&["copy", &url(&server), &path("jobs"), "--dry-run"], Stdio::null());
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(&format!("would be done: jobs {jobs},")), "{said}");
    let (status, said, _) = run(&["copy", &url(&server), &path("jobs")], Stdio::null());
    assert_eq!(status, Some(0), "{said}");
    let (status, said, written) = run(&["export", &path("jobs"), "-"], Stdio::null());
    assert_eq!(status, Some(0), "{said}");
    fs::write(path("jobs.ndjson"), &written).unwrap();
    let input = Stdio::from(fs::File::open(path("jobs.ndjson")).unwrap());
    let (status, said, _) = run(&["import", "-", &url(&server)], input);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("new 0,") && said.contains("conflicts 0"), "{said}");

    let new = path("new");
    let (status, said, _) = run(&["copy", &url(&server), &new, "--dry-run"], Stdio::null());
    assert_eq!(status, Some(0), "{said}");
    assert!(!Path::new(&new).exists(), "a dry run makes no folder");
    let wrong = "redis://:secret@host:port";
    for (arguments, says) in [
        (["copy", wrong, &new], "error: store to move from: URL of a Redis: expected redis://"),
        (["copy", &path("jobs"), wrong], "error: store to move to: URL of a Redis: expected"),
        (["copy", &path("jobs"), "localhost:6379"], "error: localhost:6379: expected redis://"),
        (["copy", &url(&server), "redis://127.0.0.1:1"], "error: store 127.0.0.1:1/0: Redis is"),
    ] {
        let (status, said, _) = run(&arguments, Stdio::null());
        assert_eq!(status, Some(1), "{said}");
        assert!(said.starts_with(says) && !said.contains("secret"), "{said}");
    }
    let missing = path("misspelt");
    let (status, said, _) = run(&["copy", &missing, &url(&server)], Stdio::null());
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("misspelt: expected the folder of a store on disk, found none"),
        "{said}"
    );
    assert!(!Path::new(&missing).exists());
    let (status, said, _) = run(&["export", "redis://127.0.0.1:1"], Stdio::null());
    assert_eq!(status, Some(2), "{said}");
    let gone = path("gone.ndjson");
    let (status, said, _) = run(&["import", &gone, &url(&server)], Stdio::null());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with("error: reading ") && said.contains("gone.ndjson"), "{said}");
}
