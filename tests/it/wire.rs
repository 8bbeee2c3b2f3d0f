//! Asynq's bytes, against vectors made by the official protobuf runtime.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use rocket_jobqueue::internals::redis::keys;
use rocket_jobqueue::internals::redis::wire::{
    self, SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskMessage, WorkerInfo,
};
use rocket_jobqueue::internals::{AnnouncedPeriodicJob, Announcement, Running, WorkerDetails};
use rocket_jobqueue::{JobId, JobRecord, NewJob, QueueName, Timestamp, periodic::PeriodicRun};
use serde_json::Value;

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn message(case: &Value) -> TaskMessage {
    let text = |name: &str| case[name].as_str().unwrap().to_owned();
    let number = |name: &str| case[name].as_i64().unwrap();
    TaskMessage {
        r#type: text("type"),
        payload: bytes(&text("payload_hex")),
        id: text("id").into_bytes(),
        queue: text("queue"),
        retry: number("retry").try_into().unwrap(),
        retried: number("retried").try_into().unwrap(),
        error_msg: text("error_msg"),
        timeout: number("timeout"),
        deadline: number("deadline"),
        unique_key: text("unique_key"),
        last_failed_at: number("last_failed_at"),
        retention: number("retention"),
        completed_at: number("completed_at"),
        group_key: text("group_key"),
        headers: serde_json::from_value::<BTreeMap<_, _>>(case["headers"].clone()).unwrap(),
    }
}

/// Queue and id as a key has them, whatever they are.
fn names(case: &Value) -> Option<(QueueName, JobId)> {
    let queue = QueueName::new(case["queue"].as_str().unwrap()).ok()?;
    Some((queue, JobId::new(case["id"].as_str().unwrap()).ok()?))
}

#[test]
fn every_task_message_reads_and_writes_as_the_official_runtime_does() {
    for case in vectors("task_messages.json") {
        let name = &case["name"];
        let golden = case["hex"].as_str().unwrap();
        let expected = message(&case);
        assert_eq!(TaskMessage::decode(&*bytes(golden)).unwrap(), expected, "{name}");
        if case["mode"] == "roundtrip" {
            if case["exact"] == true {
                assert_eq!(hex(&expected.encode_to_vec()), golden, "{name}");
            }
            assert_eq!(TaskMessage::decode(&*expected.encode_to_vec()).unwrap(), expected);
        }
    }
}

#[test]
fn a_job_that_is_read_and_written_again_keeps_every_byte() {
    let mut seen = 0;
    for case in vectors("task_messages.json") {
        let name = case["name"].as_str().unwrap();
        let golden = bytes(case["hex"].as_str().unwrap());
        let Some((queue, id)) = names(&case) else { continue };
        let job = wire::decode(&queue, &id, &golden).unwrap();
        if case["exact"] == true {
            assert_eq!(hex(&wire::encode(&job)), hex(&golden), "{name}");
            seen += 1;
        }
    }
    assert!(seen > 12, "{seen}");
}

#[test]
fn numbers_out_of_range_are_bounded_and_not_an_error() {
    for case in vectors("task_messages.json") {
        let golden = bytes(case["hex"].as_str().unwrap());
        let Some((queue, id)) = names(&case) else { continue };
        let job = wire::decode(&queue, &id, &golden).unwrap();
        match case["name"].as_str().unwrap() {
            "int64_and_int32_maxima" => {
                assert_eq!((job.max_retry, job.retried), (i32::MAX as u32, i32::MAX as u32));
                assert_eq!(job.timeout.as_secs(), i64::MAX as u64);
            }
            "negative_numbers_ten_byte_varints" => {
                assert_eq!((job.max_retry, job.retried), (0, 0));
                assert!(job.timeout.is_zero());
            }
            _ => {}
        }
    }
}

#[test]
fn a_number_no_job_can_hold_is_written_back_until_it_is_changed() {
    let (queue, id) = (QueueName::new("default").unwrap(), JobId::new("neg").unwrap());
    let odd = TaskMessage {
        r#type: "mail".to_owned(),
        id: b"neg".to_vec(),
        queue: "default".to_owned(),
        retry: -2,
        retried: -3,
        timeout: -30,
        deadline: i64::MAX,
        last_failed_at: i64::MIN,
        retention: -7,
        completed_at: -1,
        ..TaskMessage::default()
    };
    let mut job = wire::decode(&queue, &id, &odd.encode_to_vec()).unwrap();
    assert_eq!((job.timeout, job.retention), (Duration::ZERO, Duration::ZERO));

    job.last_error = "smtp is down".to_owned();
    let written = TaskMessage::decode(&*wire::encode(&job)).unwrap();
    assert_eq!(written, TaskMessage { error_msg: "smtp is down".to_owned(), ..odd.clone() });

    job.retried += 1;
    job.timeout = Duration::from_secs(60);
    job.last_failed_at = Some(Timestamp::from_secs(5));
    job.deadline = None;
    let written = TaskMessage::decode(&*wire::encode(&job)).unwrap();
    assert_eq!((written.retry, written.retried, written.timeout), (-2, 1, 60));
    assert_eq!((written.last_failed_at, written.deadline, written.retention), (5, 0, -7));
}

#[test]
fn a_field_of_another_type_is_one_that_this_version_does_not_know() {
    let (queue, id) = (QueueName::new("default").unwrap(), JobId::new("a").unwrap());
    // The type, then as Go keeps them: field 2 as a number, 8 as text, 15 as 32 bits.
    let odd = bytes("0a046d61696c10074203616263").into_iter().chain(bytes("7d01020304"));
    let job = wire::decode(&queue, &id, &odd.collect::<Vec<_>>()).unwrap();
    assert_eq!((job.job_type.as_str(), job.payload_bytes()), ("mail", &b""[..]));
    assert!(hex(&wire::encode(&job)).ends_with("100742036162637d01020304"));
}

#[test]
fn an_id_that_is_not_text_survives_a_rewrite() {
    let (queue, id) = (QueueName::new("default").unwrap(), "%FF%00-1".parse::<JobId>().unwrap());
    let mut job = JobRecord::new("mail", None, queue.clone());
    job.id = id.clone();
    let read = wire::decode(&queue, &id, &wire::encode(&job)).unwrap();
    assert_eq!(read, job);
    assert_eq!(TaskMessage::decode(&*wire::encode(&read)).unwrap().id, b"\xff\0-1");
}

#[test]
fn fields_of_a_newer_peer_are_written_back() {
    let (queue, id) = (QueueName::new("default").unwrap(), JobId::new("unk-1").unwrap());
    let case = vectors("task_messages.json")
        .into_iter()
        .find(|case| case["name"] == "decode_unknown_fields_ignored")
        .unwrap();
    let golden = bytes(case["hex"].as_str().unwrap());
    let mut job = wire::decode(&queue, &id, &golden).unwrap();
    job.retried = 7;

    let written = wire::encode(&job);

    let known = TaskMessage::decode(&*written).unwrap().encode_to_vec();
    let unknown = &written[known.len()..];
    assert!(!unknown.is_empty());
    assert!(golden.windows(unknown.len()).any(|part| part == unknown), "byte for byte");
}

#[test]
fn bytes_that_go_would_not_read_are_not_read() {
    let (queue, id) = (QueueName::new("default").unwrap(), JobId::new("a").unwrap());
    for bad in ["ff", "0a02ff", "0a02fffe", "0a", "28"] {
        assert!(wire::decode(&queue, &id, &bytes(bad)).is_none(), "{bad}");
    }
    assert!(wire::decode(&queue, &id, b"").is_some(), "an empty message is all zeros");
}

#[test]
fn every_unique_key_is_asynqs() {
    for case in vectors("unique_keys.json") {
        let Ok(queue) = QueueName::new(case["queue"].as_str().unwrap()) else { continue };
        let payload = case["payload_hex"].as_str().map(bytes);
        let key = keys::unique(&queue, case["type"].as_str().unwrap(), payload.as_deref());
        assert_eq!(key, case["key"].as_str().unwrap());
    }
}

fn announcement() -> Announcement {
    let queue = QueueName::new("default").unwrap();
    let mut job = JobRecord::new("email:deliver", Some(b"{}".to_vec()), queue.clone());
    job.id = JobId::new("t-1").unwrap();
    Announcement {
        host: "web-1".to_owned(),
        pid: 4242,
        server_id: "5a1d6a0e-2f3b-4c1d-9e8f-70a1b2c3d4e5".to_owned(),
        concurrency: 10,
        queues: [(queue, 3)].into(),
        strict_priority: false,
        status: "active",
        started: Timestamp::from_micros(1_770_000_000_500_000),
        running: vec![Running {
            job: job.into(),
            started: Timestamp::from_secs(1_770_000_001),
            deadline: Timestamp::from_secs(1_770_001_801),
        }],
        details: WorkerDetails::default(),
    }
}

#[test]
fn an_announcement_has_the_bytes_of_the_specification() {
    let who = announcement();
    assert_eq!(
        hex(&wire::server_info(&who)),
        "0a057765622d311092211a2435613164366130652d326633622d346331642d396538662d373061316232633364\
         346535200a2a0b0a0764656661756c7410033a06616374697665420c08809d80cc061080cab5ee014801"
            .replace(' ', "")
    );
    assert_eq!(
        hex(&wire::worker_info(&who, &who.running[0])),
        "0a057765622d311092211a2435613164366130652d326633622d346331642d396538662d373061316232633364\
         3465352203742d312a0d656d61696c3a64656c6976657232027b7d3a0764656661756c74420608819d80cc064a\
         060889ab80cc06"
            .replace(' ', "")
    );
}

#[test]
fn times_are_written_also_when_they_are_zero_and_a_long_payload_is_cut() {
    let mut who = announcement();
    who.started = Timestamp::default();
    let mut job = (*who.running[0].job).clone();
    job.payload = Some(vec![b'x'; 100_000]);
    who.running[0].job = job.into();
    who.running[0].deadline = Timestamp::default();

    let server = ServerInfo::decode(&*wire::server_info(&who)).unwrap();
    let worker = WorkerInfo::decode(&*wire::worker_info(&who, &who.running[0])).unwrap();

    assert!(server.start_time.is_some() && worker.deadline.is_some());
    assert_eq!(worker.task_payload.len(), 4096);
}

#[test]
fn a_periodic_entry_is_written_as_asynqs_schedulers_write_it() {
    let golden = "0a03652d31120a406576657279203330731a047469636b2a0c517565756528226c6f7722292a0b4d\
                  617852657472792833293206089e9d80cc063a0b088092b8c398feffffff01";
    let mut job = NewJob::now(JobRecord::new("tick", None, QueueName::new("low").unwrap()));
    job.record.max_retry = 3;
    let entry = AnnouncedPeriodicJob {
        id: "e-1".to_owned(),
        spec: "@every 30s".to_owned(),
        job,
        next: Some(Timestamp::from_secs(1_770_000_030)),
        prev: None,
    };

    assert_eq!(hex(&wire::scheduler_entry(&entry)), golden);
    let read = wire::periodic_job_info(&bytes(golden), "host:1:x").unwrap();

    assert_eq!((read.id.as_str(), read.spec.as_str()), ("e-1", "@every 30s"));
    assert_eq!((read.job_type.as_str(), read.payload.len()), ("tick", 0));
    assert_eq!(read.options, ["Queue(\"low\")", "MaxRetry(3)"]);
    assert_eq!(read.queue.as_str(), "low");
    assert_eq!((read.next, read.prev), (entry.next, None));
    assert_eq!(read.schedulers, ["host:1:x"]);
}

#[test]
fn a_run_of_a_periodic_entry_is_written_as_asynqs_schedulers_write_it() {
    let golden = "0a03742d39120a089e9d80cc0610c0843d";
    let at = Timestamp::from_micros(1_770_000_030_001_000);
    let run = PeriodicRun::new(JobId::new("t-9").unwrap(), at);

    assert_eq!(hex(&wire::scheduler_event(&run)), golden);
    assert_eq!(wire::periodic_run(&bytes(golden)), Some(run));
}

#[test]
fn what_is_damaged_or_has_no_time_is_read_as_far_as_it_goes() {
    assert_eq!(wire::periodic_job_info(&[0xff], "x"), None);
    assert_eq!(wire::periodic_run(&[0xff],), None);
    let event = SchedulerEnqueueEvent { task_id: "t".to_owned(), enqueue_time: None };
    assert_eq!(wire::periodic_run(&event.encode_to_vec()), None);
    let bare = SchedulerEntry { spec: "@daily".to_owned(), ..SchedulerEntry::default() };
    let read = wire::periodic_job_info(&bare.encode_to_vec(), "x").unwrap();
    assert_eq!((read.next, read.prev, read.queue.as_str()), (None, None, "default"));
}
