//! What only the store on disk promises: it opens as it was closed, whatever ended its
//! process, and says what is wrong with its folder. Its rules are cases of the contract.

mod clock;
mod room;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rocket_jobqueue::handler::Transition;
use rocket_jobqueue::inspect::Page;
use rocket_jobqueue::internals::disk::{self, DiskSettings};
use rocket_jobqueue::internals::{
    Action, Actions, ArchiveSettings, Broker, Doctor, Enqueued, GroupLimits, Groups, Inspect,
    JobList, MemoryBroker, RepairScope, Settled,
};
use rocket_jobqueue::settings::Durability;
use rocket_jobqueue::{
    Clock, Error, Idempotency, JobId, JobRecord, JobState, NewJob, Placement, QueueName, Timestamp,
    Until,
};

use crate::support::program::{BUILD, Program, curl, post_json};

const START: Timestamp = Timestamp::from_secs(4_000_003_200);
const PROMPT: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3_600);

fn queue() -> QueueName {
    QueueName::new("mail").unwrap()
}

fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

fn job(name: &str) -> NewJob {
    let mut record = JobRecord::new("letter", Some(name.as_bytes().to_vec()), queue());
    record.id = id(name);
    record.max_retry = 3;
    record.headers.insert("traceparent".to_owned(), name.to_owned());
    NewJob::now(record)
}

async fn try_open(path: &Path, clock: &Clock) -> Result<MemoryBroker, Error> {
    let settings = DiskSettings {
        path: path.to_owned(),
        durability: Durability::EverySecond,
        patience: Duration::ZERO,
    };
    disk::open(&settings, clock.clone(), ArchiveSettings::default()).await
}

async fn open(path: &Path, clock: &Clock) -> MemoryBroker {
    try_open(path, clock).await.unwrap()
}

async fn put(store: &MemoryBroker, job: NewJob) -> Enqueued {
    store.enqueue(&[job]).await.unwrap().remove(0)
}

/// Everything that can be seen of the queue, except leases: those end with a process.
async fn seen(store: &MemoryBroker) -> String {
    let mut seen = format!("{:#?}", store.queue(&queue()).await.unwrap());
    for state in JobState::ALL {
        let list = match state {
            JobState::Aggregating => JobList::Group("g"),
            state => JobList::State(state),
        };
        let page = store.jobs(&queue(), list, &Page::default()).await.unwrap();
        for row in page.rows {
            let mut info = store.job(&queue(), row.id()).await.unwrap().unwrap();
            (info.lease_ends, info.orphaned) = (None, false);
            seen += &format!("{info:#?} {:?}", info.record.payload);
        }
    }
    seen += &format!("{:#?}", store.groups(&queue(), &Page::default()).await.unwrap());
    seen += &format!("{:#?}", store.aggregations(&queue()).await.unwrap());
    seen + &format!("{:#?}", store.history(&queue(), 3).await.unwrap())
}

#[tokio::test]
async fn a_store_opens_as_it_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START);
    let store = open(folder.path(), &clock).await;
    let settle = async |store: &MemoryBroker, transition: Transition| {
        let delivery = store.dequeue(&[queue()], 1).await.unwrap().deliveries.remove(0);
        let request = [(delivery.clone(), transition).into()];
        assert_eq!(store.settle(&request).await.unwrap(), [Settled::Done]);
        delivery.job.id
    };
    let retry = Transition::Retry { after: HOUR, error: "smtp is down".to_owned(), counted: true };
    put(&store, job("retried")).await;
    settle(&store, retry).await;
    put(&store, job("archived")).await;
    settle(&store, Transition::Archive { error: "bad address".to_owned() }).await;
    let mut kept = job("completed");
    kept.record.retention = HOUR;
    put(&store, kept).await;
    settle(&store, Transition::Complete { result: Some(b"sent".to_vec()) }).await;
    put(&store, job("scheduled").placed(Placement::After(Duration::from_micros(61_000_001)))).await;
    for name in ["pending-1", "pending-2", "pending-0", "removed"] {
        put(&store, job(name)).await;
        clock.advance(Duration::from_micros(7));
    }
    // To the front, and away.
    let first = store.dequeue(&[queue()], 1).await.unwrap().deliveries.remove(0);
    store.settle(&[(first, Transition::Requeue).into()]).await.unwrap();
    Actions::act(&store, &queue(), &id("removed"), Action::Delete).await.unwrap();
    store.edit(&queue(), &id("pending-2"), b"edited").await.unwrap();
    let mut locked = job("locked").placed(Placement::After(HOUR));
    locked.unique_for = Some(HOUR);
    locked.idempotency = Some(Idempotency::new("/jobs", "key", b"body"));
    put(&store, locked.clone()).await;
    let [timed, until_start] = [(Until::Expiry, "0c"), (Until::Start, "0d")].map(|(until, key)| {
        let unique_key = Some(key.repeat(32));
        let later = job(until.as_str()).placed(Placement::After(HOUR));
        NewJob { unique_for: Some(HOUR), until, unique_key, ..later }
    });
    put(&store, timed.clone()).await;
    Actions::act(&store, &queue(), &id("expiry"), Action::Delete).await.unwrap();
    put(&store, until_start.clone()).await;
    put(&store, NewJob { expires_in: Some(HOUR), ..job("urgent") }).await;
    store.bind_key("key", &queue(), HOUR).await.unwrap();
    for name in ["grouped-1", "grouped-2", "grouped-3"] {
        let mut grouped = job(name);
        grouped.record.group = "g".to_owned();
        put(&store, grouped).await;
    }
    let limits = GroupLimits { grace: HOUR, max_delay: Duration::ZERO, max_size: 2 };
    let set = store.claim_group(&queue(), "g", &limits).await.unwrap().unwrap();
    assert_eq!(set.jobs.len(), 2);
    store.delete_expired(&queue(), 10).await.unwrap();
    let before = seen(&store).await;
    drop(store);

    for _ in 0..2 {
        let store = open(folder.path(), &clock).await;
        assert_eq!(seen(&store).await, before);
        let mut again = locked.clone();
        assert_eq!(put(&store, again.clone()).await, Enqueued::Replayed { id: id("locked") });
        again.idempotency = None;
        again.record.id = id("another");
        assert_eq!(put(&store, again).await, Enqueued::Duplicate { holder: id("locked") });
        for job in [&timed, &until_start] {
            let mut again = job.clone();
            again.record.id = id("another");
            let holder = job.record.id.clone();
            assert_eq!(put(&store, again).await, Enqueued::Duplicate { holder });
        }
        let other = QueueName::new("other").unwrap();
        let bound = store.bind_key("key", &other, HOUR).await.unwrap();
        assert_eq!((bound.queue, bound.is_new), (queue(), false));
        drop(store);
    }

    let store = open(folder.path(), &clock).await;
    assert!(put(&store, job("last")).await != Enqueued::IdConflict);
    store.aggregate(&set, &job("aggregated")).await.unwrap().unwrap();
    assert!(store.pause(&queue(), true).await.unwrap());
    drop(store);
    let store = open(folder.path(), &clock).await;
    assert!(store.queue(&queue()).await.unwrap().paused);
    store.pause(&queue(), false).await.unwrap();
    let order = store.dequeue(&[queue()], 10).await.unwrap().deliveries;
    let order: Vec<_> = order.iter().map(|delivery| delivery.job.id.as_str()).collect();
    assert_eq!(order, ["pending-1", "pending-2", "pending-0", "urgent", "last", "aggregated"]);
    drop(store);
    let store = open(folder.path(), &clock).await;
    for name in ["grouped-1", "grouped-2", "removed"] {
        assert!(store.job(&queue(), &id(name)).await.unwrap().is_none(), "{name}");
    }
    let checked = store.check_queue(&queue(), None, RepairScope::Nothing).await.unwrap();
    assert_eq!((checked.findings.len(), checked.entries_checked), (0, 13));
    store.remove_queue(&queue(), true).await.unwrap();
}

#[tokio::test]
async fn a_job_that_was_active_is_recovered_and_no_old_lease_fits() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START);
    let store = open(folder.path(), &clock).await;
    put(&store, job("a")).await;
    let old = store.dequeue(&[queue()], 1).await.unwrap().deliveries.remove(0);
    drop(store);

    let store = open(folder.path(), &clock).await;
    let lost = store.first_expired_leases(&queue(), 10).await.unwrap();
    assert_eq!(lost.len(), 1, "without waiting for the end of the lease");
    let reclaim = Transition::Reclaim { error: "its process ended".to_owned() };
    store.settle(&[(lost[0].clone(), reclaim).into()]).await.unwrap();
    let new = store.dequeue(&[queue()], 1).await.unwrap().deliveries.remove(0);
    assert_eq!(new.losses, 1);
    assert!(new.lease.owner > old.lease.owner);
    let done = Transition::Complete { result: None };
    assert_eq!(store.settle(&[(old, done.clone()).into()]).await.unwrap(), [Settled::Lost]);
    assert_eq!(store.settle(&[(new, done).into()]).await.unwrap(), [Settled::Done]);
}

#[tokio::test]
async fn one_process_at_a_time_and_nobody_else_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/jobqueue");
    let clock = Clock::manual(START);
    let store = open(&path, &clock).await;
    put(&store, job("a")).await;
    let error = try_open(&path, &clock).await.err().unwrap();
    let text = error.to_string();
    assert!(
        error.is_config() && text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    assert!(text.contains("jobqueue.path") && text.contains(path.to_str().unwrap()), "{text}");

    #[cfg(unix)]
    for file in files_below(&path) {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.display());
    }
    // The next one waits until this one ends.
    let patient =
        DiskSettings { path: path.clone(), durability: Durability::Always, patience: PROMPT };
    let next = disk::open(&patient, clock, ArchiveSettings::default());
    let ends = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(store);
    };
    let (next, ()) = tokio::join!(next, ends);
    assert!(next.unwrap().job(&queue(), &id("a")).await.unwrap().is_some());
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() { found.extend(files_below(&entry)) } else { found.push(entry) }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &target)
        } else {
            fs::copy(entry, target).map(drop).unwrap()
        }
    }
}

/// A folder with 20 jobs, each stored by a batch of its own, and its journal without the zeros
/// behind the last batch.
async fn twenty_jobs(folder: &Path, clock: &Clock) -> PathBuf {
    let store = open(folder, clock).await;
    for n in 0..20 {
        put(&store, job(&format!("job-{n}"))).await;
    }
    drop(store);
    let journal = folder.join("rows/0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    fs::write(&journal, bytes).unwrap();
    journal
}

#[tokio::test]
async fn a_cut_journal_opens_without_what_was_cut() {
    let clock = Clock::manual(START);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let journal = twenty_jobs(&whole, &clock).await;
    let length = fs::metadata(&journal).unwrap().len();
    let mut least = 20u64;
    for cut in [1, 7, 30, 100, 150, length / 2] {
        let part = folder.path().join(format!("cut-{cut}"));
        copy(&whole, &part);
        let file = fs::OpenOptions::new().write(true).open(part.join("rows/0.jnl")).unwrap();
        file.set_len(length - cut).unwrap();
        let store = open(&part, &clock).await;
        let found = store.queue(&queue()).await.map_or(0, |info| info.size);
        for n in 0..found {
            let name = id(&format!("job-{n}"));
            assert!(store.job(&queue(), &name).await.unwrap().is_some(), "the oldest stay");
        }
        assert!(found <= least && found >= least.saturating_sub(14), "{cut}: {found}");
        least = found;
        // It goes on from there.
        assert!(matches!(put(&store, job("more")).await, Enqueued::Created { .. }));
    }
}

#[tokio::test]
async fn a_flipped_bit_loses_no_job_without_a_word() {
    let clock = Clock::manual(START);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let journal = twenty_jobs(&whole, &clock).await;
    let files: Vec<_> =
        files_below(&whole.join("rows")).into_iter().filter(|f| f.is_file()).collect();
    let mut told = 0;
    for (nth, file) in files.iter().cycle().take(files.len() * 3).enumerate() {
        let length = fs::metadata(file).unwrap().len();
        if length == 0 {
            continue;
        }
        let part = folder.path().join(format!("flip-{nth}"));
        copy(&whole, &part);
        let damaged = part.join(file.strip_prefix(&whole).unwrap());
        let mut bytes = fs::read(&damaged).unwrap();
        // Not in the last bytes of a journal, which look like an unfinished write.
        let at = (length as usize * (nth + 1) / (files.len() * 3 + 1))
            .min(bytes.len() - 5.min(bytes.len()));
        bytes[at] ^= 0x40;
        fs::write(&damaged, bytes).unwrap();
        match try_open(&part, &clock).await {
            Ok(store) => {
                let found = store.queue(&queue()).await.unwrap().size;
                assert_eq!(found, 20, "{}, byte {at}", damaged.display());
            }
            Err(error) => {
                let text = error.to_string();
                told += 1;
                assert!(text.contains(part.to_str().unwrap()), "{text}");
                assert!(text.contains("backup") || text.contains("format"), "{text}");
            }
        }
        fs::remove_dir_all(&part).unwrap();
    }
    assert!(told > 0, "the journal is {} bytes", fs::metadata(journal).unwrap().len());
}

#[tokio::test]
async fn rows_without_their_marker_are_refused_and_left_alone() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let store = open(folder.path(), &clock).await;
    put(&store, job("kept")).await;
    drop(store);
    let rows = folder.path().join("rows");
    fs::rename(rows.join("version"), folder.path().join("aside")).unwrap();
    let names = files_below(&rows);

    let error = try_open(folder.path(), &clock).await.unwrap_err().to_string();

    assert!(error.contains("rows/version is missing"), "{error}");
    assert_eq!(files_below(&rows), names, "nothing was made");
    fs::rename(folder.path().join("aside"), rows.join("version")).unwrap();
    let store = open(folder.path(), &clock).await;
    assert!(seen(&store).await.contains("kept"));
}

#[tokio::test]
async fn a_folder_that_cannot_be_one_is_told() {
    let clock = Clock::manual(START);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    let text = try_open(&file, &clock).await.err().unwrap().to_string();
    assert!(text.contains(file.to_str().unwrap()) && text.contains("jobqueue.path"), "{text}");
    // What a first start left unfinished is begun again.
    let begun = folder.path().join("begun");
    fs::create_dir_all(begun.join("rows.new")).unwrap();
    fs::write(begun.join("rows.new/0.jnl"), "").unwrap();
    open(&begun, &clock).await;
    // Of a later version.
    let version = begun.join("rows/version");
    fs::write(&version, b"FJL\x09").unwrap();
    let text = try_open(&begun, &clock).await.err().unwrap().to_string();
    assert!(text.contains(begun.to_str().unwrap()), "{text}");
}

/// The demo on this folder.
fn demo(path: &Path, arguments: &[&str]) -> Program {
    demo_with(path, arguments, &[])
}

fn demo_with(path: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Program {
    let arguments = [&["--path", path.to_str().unwrap()], arguments].concat();
    Program::start("demo", &arguments, variables)
}

/// Registers a job that prints this message after so many seconds.
fn register(origin: &str, message: &str, delay: u32) {
    let url = format!("{origin}/api/dm-jobqueue/register");
    let body = format!(r#"{{"message":"{message}","delay_seconds":{delay}}}"#);
    assert_eq!(post_json(&url, &body, &[]).0, 201);
}

#[test]
fn a_registered_job_survives_ctrl_c_and_kill_9_and_a_second_demo_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs");
    let mut first = demo(&path, &[]);
    register(&first.origin(), "survived", 6);

    let mut second = crate::support::cargo();
    second.args(["run", "--quiet", "--example", "demo", "--", "--path"]).arg(&path);
    let second = second.stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    for part in [&format!("process {}", first.child.id()), "--path FOLDER", "--memory"] {
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }

    // Its greeting waits, and is not printed by the next process.
    first.signal("KILL");
    first.child.wait().unwrap();
    let mut next = demo(&path, &["--no-greeting"]);
    next.origin();
    next.signal("INT");
    assert!(next.child.wait().unwrap().success());
    // On a slow machine it was due while this process ran. All that it printed is read.
    let mut runs = next.out.iter().filter(|line| line.contains("survived")).count();
    let last = demo(&path, &[]);
    if runs == 0 {
        last.printed("survived", PROMPT);
        runs += 1;
    }
    last.said("done", PROMPT);
    assert_eq!(runs + last.printed_so_far("survived").len(), 1, "once");
    let greetings = last.printed_so_far("Hello from the job queue").len();
    assert!(greetings <= 1, "{greetings}");
}

/// A second start finds what the first one made.
#[test]
fn a_launch_says_where_jobs_are_and_nothing_of_what_is_under_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs");
    for _ in 0..2 {
        let arguments = ["--path", path.to_str().unwrap(), "--no-greeting"];
        let mut program = Program::start("demo", &arguments, &[("ROCKET_LOG_LEVEL", "normal")]);
        program.said(&format!("jobs are kept in {}", path.display()), BUILD);
        program.origin();
        program.signal("TERM");
        assert!(program.child.wait().unwrap().success());
        let lines: Vec<String> = program.out.iter().chain(program.err.iter()).collect();
        assert!(lines.iter().any(|line| line.contains("launched from")), "{lines:#?}");
        for word in ["fjall", "atabase", "keyspace"] {
            let told: Vec<_> = lines.iter().filter(|line| line.contains(word)).collect();
            assert!(told.is_empty(), "{told:?}");
        }
    }
    // Nothing is said to be kept in a folder that cannot be one.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut program = demo(&file, &[]);
    assert!(!program.child.wait().unwrap().success());
    let told: Vec<String> = program.err.iter().collect();
    assert!(!told.iter().any(|line| line.contains("are kept in")), "{told:#?}");
    assert!(told.iter().any(|line| line.contains("jobqueue.path")), "{told:#?}");
}

#[tokio::test]
async fn kill_9_under_load_loses_no_acknowledged_job_and_doubles_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for _ in 0..3 {
        let mut program = demo(folder.path(), &["--no-greeting"]);
        let origin = program.origin();
        let visits = format!("{origin}/visits/[1-2000]");
        let mut client = Command::new("curl");
        client.args(["-sS", "--parallel", "--parallel-max", "8", "-X", "POST", &visits]);
        let client = client.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        program.signal("KILL");
        program.child.wait().unwrap();
        let answers = client.wait_with_output().unwrap().stdout;
        let answers = String::from_utf8_lossy(&answers).into_owned();
        let ids = answers.split("\"job_id\":\"").skip(1).filter_map(|rest| rest.split_once('"'));
        acknowledged.extend(ids.map(|(id, _)| id.to_owned()));
    }
    assert!(!acknowledged.is_empty());
    let store = open(folder.path(), &Clock::system()).await;
    let queue = QueueName::new("default").unwrap();
    for name in &acknowledged {
        assert!(store.job(&queue, &id(name)).await.unwrap().is_some(), "{name} is lost");
    }
    let checked = store.check_queue(&queue, None, RepairScope::Nothing).await.unwrap();
    assert!(checked.findings.is_empty(), "{:?}", checked.findings);
    drop(store);
    // What was active runs again.
    let program = demo(folder.path(), &["--no-greeting"]);
    let url = format!("{}/api/dm-jobqueue/health", program.origin());
    assert_eq!(curl(&[&url]).0, 200);
}
