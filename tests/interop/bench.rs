//! What a case has to hand: a Redis of its own, both peers, Asynq's tools, and
//! the ledger in which every handler writes what it saw.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::rust_peer::RustPeer;
use crate::settings::{Line, Order, Setup};
use crate::support::RedisServer;

/// How long to wait for what must come; a loaded machine is not a failure.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// What the Go programs of a case say on standard error, in its folder.
pub const LOG: &str = "log";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Go,
    Rust,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Side::Go => Side::Rust,
            Side::Rust => Side::Go,
        }
    }
}

pub struct Bench {
    pub redis: RedisServer,
    dir: PathBuf,
    programs: PathBuf,
    /// An application that enqueues and looks, and runs nothing.
    pub rust: RustPeer,
}

/// A worker of either side, stopped when dropped.
pub enum Worker {
    Go(Process),
    Rust(Box<RustPeer>),
}

impl Worker {
    /// Ends it as SIGTERM does.
    pub async fn stop(self) {
        match self {
            Worker::Go(process) => process.terminate().await,
            Worker::Rust(peer) => peer.stop().await,
        }
    }
}

/// A program of its own that has said that it is ready; killed when dropped.
pub struct Process(Child);

impl Process {
    async fn start(command: &mut Command) -> (Self, String) {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = lines.next_line().await.expect("its output").expect("a first line");
        // A reader that stops would stop a program that prints.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        (Self(child), line)
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.0.kill().await.expect("it is killed");
    }

    async fn terminate(mut self) {
        let pid = self.0.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(sent.expect("kill runs").success());
        let ended = tokio::time::timeout(PATIENCE, self.0.wait()).await;
        assert!(ended.expect("it ends at SIGTERM").expect("its status").success());
    }
}

/// asynqmon's HTTP API.
pub struct Monitor {
    _process: Process,
    api: String,
    http: reqwest::Client,
}

impl Monitor {
    /// `GET`, `POST` or `DELETE` of a path below `/api`: status and body, which
    /// is null if there is none.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.api));
        if !body.is_null() {
            request = request.json(body);
        }
        let response = request.send().await.expect("asynqmon answers");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        (
            status,
            serde_json::from_str(&text).unwrap_or(if text.is_empty() {
                Value::Null
            } else {
                json!(text)
            }),
        )
    }

    /// What a `GET` answers.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, &Value::Null).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }
}

impl Bench {
    pub async fn new(programs: &Path, dir: &Path) -> Self {
        let redis = RedisServer::start::<&str>(&[]);
        let rust = RustPeer::start(&redis.addr(), None).await;
        Self { redis, dir: dir.to_owned(), programs: programs.to_owned(), rust }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        let log = OpenOptions::new().append(true).create(true).open(self.dir.join(LOG));
        command.env("HOME", &self.dir).stderr(log.expect("a log"));
        command
    }

    fn go(&self, verb: &str) -> Command {
        let mut command = self.program("peer");
        command.arg(verb).arg(self.redis.addr());
        command
    }

    /// Gives the Go program a line and takes its answer.
    async fn go_line(&self, verb: &str, line: &impl Serialize) -> Result<Value, String> {
        let mut command = self.go(verb);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the Go program starts");
        let text = serde_json::to_string(line).expect("JSON") + "\n";
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(text.as_bytes()).await.expect("it reads");
        drop(input);
        let output = child.wait_with_output().await.expect("it ends");
        assert!(output.status.success(), "the Go program failed at {text}");
        let mut reply: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
        match reply.get("error") {
            Some(error) => Err(error.as_str().expect("a text").to_owned()),
            None => Ok(reply["ok"].take()),
        }
    }

    /// Enqueues from one side: the job's id, queue and state, or why not.
    pub async fn produce(&self, side: Side, order: &Order) -> Result<Value, String> {
        match side {
            Side::Go => self.go_line("produce", order).await,
            Side::Rust => self.rust.produce(order).await,
        }
    }

    /// Enqueues from one side what must be taken; its id.
    pub async fn put(&self, side: Side, order: &Order) -> String {
        let answer = self.produce(side, order).await.expect("the job is taken");
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// What Asynq's command line prints for these words.
    pub async fn cli(&self, words: &str) -> String {
        let mut command = self.program("asynq");
        command.args(words.split(' ')).args(["--uri", &self.redis.addr()]);
        let output = command.stdin(Stdio::null()).output().await.expect("the command line starts");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Starts asynqmon on this case's Redis.
    pub async fn monitor(&self) -> Monitor {
        self.monitor_with("").await
    }

    /// Starts asynqmon with a Prometheus.
    pub async fn monitor_with(&self, prometheus: &str) -> Monitor {
        let mut command = self.program("asynqmon");
        let (process, addr) = Process::start(command.args([&self.redis.addr(), prometheus])).await;
        let api = format!("http://{addr}/api");
        Monitor { _process: process, api, http: reqwest::Client::new() }
    }

    /// Asks Asynq's Inspector.
    pub async fn ask(&self, question: Value) -> Result<Value, String> {
        self.go_line("inspect", &question).await
    }

    /// One job as this side's inspector sees it, in the same words; without what
    /// changes from look to look (`next` of a pending job is "now" in Go).
    pub async fn look(&self, side: Side, queue: &str, id: &str) -> Option<Value> {
        let mut seen = match side {
            Side::Rust => self.rust.look(queue, id).await?,
            Side::Go => {
                match self.ask(json!({"call": "GetTaskInfo", "queue": queue, "id": id})).await {
                    Ok(seen) => seen,
                    Err(error) if error.contains("not found") => return None,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let fields = seen.as_object_mut().expect("an object");
        fields.remove("orphaned");
        if !matches!(fields["state"].as_str(), Some("scheduled" | "retry")) {
            fields.remove("next");
        }
        // 1800.0 and 1800 are one number, but not one JSON.
        for name in ["timeout", "retention"] {
            let seconds = fields[name].as_f64().expect("a number");
            fields[name] = json!(seconds);
        }
        Some(seen)
    }

    /// One job, on which both inspectors must agree.
    pub async fn agreed(&self, queue: &str, id: &str) -> Value {
        let (go, rust) =
            (self.look(Side::Go, queue, id).await, self.look(Side::Rust, queue, id).await);
        assert_eq!(go, rust, "Asynq's inspector and ours differ");
        go.unwrap_or_else(|| panic!("no job {id} in queue {queue}"))
    }

    /// Waits until both inspectors see the job in this state, and agree.
    pub async fn reached(&self, queue: &str, id: &str, state: &str) -> Value {
        let what = format!("job {id} is {state}");
        self.until(&what, async || {
            self.rust.look(queue, id).await.is_some_and(|job| job["state"] == state)
        })
        .await;
        self.agreed(queue, id).await
    }

    /// Waits until the job is gone without a trace.
    pub async fn gone(&self, queue: &str, id: &str) {
        let what = format!("job {id} is gone");
        self.until(&what, async || self.rust.look(queue, id).await.is_none()).await;
    }

    pub fn setup(&self) -> Setup {
        Setup::of(&self.dir.join("ledger"))
    }

    pub async fn worker(&self, side: Side, setup: &Setup) -> Worker {
        match side {
            Side::Go => Worker::Go(self.process(side, setup).await),
            Side::Rust => {
                let peer = RustPeer::start(&self.redis.addr(), Some(setup)).await;
                Worker::Rust(Box::new(peer))
            }
        }
    }

    /// A worker in a process of its own, to be killed.
    pub async fn process(&self, side: Side, setup: &Setup) -> Process {
        let setup = serde_json::to_string(setup).expect("JSON");
        let mut command = match side {
            Side::Go => self.go("work"),
            Side::Rust => {
                let this = std::env::current_exe().expect("this program");
                let mut command = Command::new(this);
                command.arg("peer").arg(self.redis.addr());
                command
            }
        };
        let (process, line) = Process::start(command.arg(setup)).await;
        assert_eq!(line, "ready");
        process
    }

    /// A Go scheduler, or a periodic task manager, with these settings.
    pub async fn scheduler(&self, settings: &Value) -> Process {
        let mut command = self.go("schedule");
        let (process, line) = Process::start(command.arg(settings.to_string())).await;
        assert_eq!(line, "ready");
        process
    }

    /// What the Go programs have said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join(LOG)).unwrap_or_default()
    }

    /// All lines of the ledger so far.
    pub fn ledger(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(self.dir.join("ledger")).unwrap_or_default();
        // A line that is being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Waits for the n-th line of this event for this job, from 1.
    pub async fn noted(&self, id: &str, event: &str, nth: usize) -> Line {
        let lines = || {
            let all = self.ledger().into_iter();
            all.filter(|line| line.id == id && line.event == event).collect::<Vec<_>>()
        };
        let what = format!("{event} number {nth} of job {id}");
        self.until(&what, async || lines().len() >= nth).await;
        lines().swap_remove(nth - 1)
    }

    /// Waits until this holds.
    pub async fn until<F: AsyncFnMut() -> bool>(&self, what: &str, holds: F) {
        self.within(PATIENCE, what, holds).await;
    }

    pub async fn within<F: AsyncFnMut() -> bool>(
        &self,
        patience: Duration,
        what: &str,
        mut holds: F,
    ) {
        let end = Instant::now() + patience;
        while !holds().await {
            assert!(Instant::now() < end, "waited {patience:?} in vain: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
