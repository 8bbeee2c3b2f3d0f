//! What the tests run on: a Redis of their own, an application with a worker and REST, the program
//! itself, and a terminal by tmux.

use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rocket::fairing::AdHoc;
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket_jobqueue::{Client, Job, JobContext, JobError, JobOptions, JobQueue, Progress};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempDir;

/// More than a busy machine needs; reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The token that the application lets in.
pub const TOKEN: &str = "let-me-in";

/// An error that speaks to a terminal.
pub const HOSTILE: &str = "smtp \u{1b}[31mis\u{202e} down";

pub fn until<T>(mut question: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < end, "it did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A `redis-server` of the test's own, gone when dropped.
pub struct Redis {
    pub port: u16,
    password: Option<String>,
    child: Child,
    _folder: TempDir,
    /// Keeps the port from the other tests, also once the server is gone.
    _reserved: UdpSocket,
}

impl Redis {
    pub fn start() -> Self {
        Self::with_password(None)
    }

    pub fn with_password(password: Option<&str>) -> Self {
        // Another program may have the port: then the server ends, and the next is tried.
        for _ in 0..20 {
            if let Some(redis) = Self::at(UdpSocket::bind("127.0.0.1:0").unwrap(), password) {
                return redis;
            }
        }
        panic!("no redis-server starts");
    }

    fn at(reserved: UdpSocket, password: Option<&str>) -> Option<Self> {
        let port = reserved.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let program =
            std::env::var("JOBQUEUE_TEST_SERVER").unwrap_or_else(|_| "redis-server".into());
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no"]).arg("--dir").arg(folder.path());
        if let Some(password) = password {
            command.args(["--requirepass", password]);
        }
        let mut child = command.stdout(Stdio::null()).spawn().expect("redis-server starts");
        let answers = until(|| match child.try_wait().unwrap() {
            Some(_) => Some(false),
            None => TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true),
        });
        let password = password.map(str::to_owned);
        answers.then_some(Self { port, password, child, _folder: folder, _reserved: reserved })
    }

    pub fn url(&self) -> String {
        match &self.password {
            None => format!("redis://127.0.0.1:{}", self.port),
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
        }
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// Succeeds, and leaves its result.
#[derive(Serialize, Deserialize)]
pub struct Welcome {
    pub user: u64,
}

impl Job for Welcome {
    const TYPE: &'static str = "mail:welcome";

    fn options() -> JobOptions {
        JobOptions::new().queue("mail").retention(Duration::from_secs(3600))
    }
}

/// Fails for good.
#[derive(Serialize, Deserialize)]
pub struct Broken;

impl Job for Broken {
    const TYPE: &'static str = "mail:broken";

    fn options() -> JobOptions {
        JobOptions::new().queue("mail")
    }
}

/// Reports progress, and runs until it is cancelled or told to end by its file.
#[derive(Serialize, Deserialize)]
pub struct Slow {
    pub end: std::path::PathBuf,
}

impl Job for Slow {
    const TYPE: &'static str = "report:slow";
}

async fn slow(job: Slow, context: JobContext) -> Result<(), JobError> {
    let half = Progress::new(3, 6).message("halfway");
    context.progress(half);
    while !job.end.exists() {
        if context.cancelled().is_cancelled() {
            return Err(JobError::failed("stopped"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

struct Token;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Token {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match request.headers().get_one("Authorization") {
            Some(given) if given == format!("Bearer {TOKEN}") => Outcome::Success(Token),
            _ => Outcome::Error((Status::Unauthorized, ())),
        }
    }
}

/// An application in this process: REST, and a worker unless it is still.
pub struct Host {
    pub url: String,
    shutdown: rocket::Shutdown,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Host {
    /// On this Redis, or in memory.
    pub fn start(redis: Option<&Redis>, worker: bool) -> Self {
        Self::at(redis.map(Redis::url), worker)
    }

    /// On the Redis at this URL, or in memory.
    pub fn at(redis: Option<String>, worker: bool) -> Self {
        let fairing = JobQueue::fairing().environment("embedded").set("jobqueue.worker", worker);
        let fairing = match redis {
            // The environment's own store is in memory.
            Some(url) => fairing.set("jobqueue.store", "redis").set("databases.jobqueue.url", url),
            None => fairing.memory().set("jobqueue.allow_memory_in_release", true),
        };
        let fairing = fairing
            .set("jobqueue.queues", serde_json::json!({ "mail": 1, "default": 1 }))
            .set("jobqueue.log_to_stderr", false)
            .handle(async |job: Welcome| Ok::<_, JobError>(format!("welcome, {}", job.user)))
            .handle(async |_: Broken| Err::<(), _>(JobError::give_up(HOSTILE)))
            .handle(slow)
            .view_guard::<Token>()
            .admin_guard::<Token>();
        let (send, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let liftoff = AdHoc::on_liftoff("ready", move |rocket| {
                Box::pin(async move {
                    let _ = send.send((rocket.config().port, rocket.shutdown()));
                })
            });
            let figment = rocket::Config::figment()
                .merge(("port", 0))
                .merge(("address", "127.0.0.1"))
                .merge(("log_level", "off"))
                .merge(("shutdown.ctrlc", false));
            let rocket = rocket::custom(figment).attach(fairing).attach(liftoff);
            rocket::execute(async move { rocket.launch().await.map(|_| ()) }).expect("it launches");
        });
        let (port, shutdown) = ready.recv_timeout(PATIENCE).expect("the application starts");
        Self { url: format!("http://127.0.0.1:{port}"), shutdown, thread: Some(thread) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shutdown.clone().notify();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A way to the store: options and variables.
#[derive(Clone, Debug, Default)]
pub struct Way {
    pub options: Vec<String>,
    pub variables: Vec<(String, String)>,
}

impl Way {
    pub fn direct(redis: &Redis) -> Self {
        Self { options: vec!["--url".into(), redis.url()], variables: Vec::new() }
    }

    pub fn rest(host: &Host) -> Self {
        let token = ("JOBQUEUE_TOKEN".into(), TOKEN.into());
        Self { options: vec!["--api".into(), host.url.clone()], variables: vec![token] }
    }

    pub fn none() -> Self {
        Self::default()
    }

    /// The program with these arguments, and no variable of the developer's own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobqueue"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let is_ours =
                ["ROCKET_", "REDIS_", "JOBQUEUE_"].iter().any(|start| name.starts_with(start));
            if is_ours || ["APP_ENV", "NO_COLOR", "EDITOR", "VISUAL"].contains(&name.as_str()) {
                command.env_remove(name);
            }
        }
        command.args(&self.options).args(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().expect("jobqueue starts"))
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {} {}", ran.out, ran.err);
        ran.out
    }

    /// Runs a command that must succeed; its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let out = self.ok(&[arguments, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    /// Runs a command that must end with this status, and say this on standard error.
    pub fn fails(&self, arguments: &[&str], status: i32, words: &str) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.status, status, "{arguments:?}: {} {}", ran.out, ran.err);
        assert!(ran.err.contains(words), "{arguments:?}: {words:?} is not in {:?}", ran.err);
        ran
    }
}

#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// What a test does with the store by the library.
pub fn with_client<T>(redis: &Redis, work: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { work(Client::redis(&redis.url()).unwrap()).await })
}

/// A terminal in which a shell runs, by tmux.
pub struct Terminal {
    socket: String,
}

impl Terminal {
    pub fn start(columns: u16, rows: u16) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let (process, nth) = (std::process::id(), STARTED.fetch_add(1, Ordering::SeqCst));
        let this = Self { socket: format!("jobqueue-test-{process}-{nth}") };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut command = this.tmux();
        command.args(["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows]);
        let started = command.args(["env", "-i", "TERM=screen-256color", "PS1=$ ", "sh"]).status();
        assert!(started.expect("tmux starts (Debian package tmux)").success());
        this.sees("$");
        this
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).env_remove("TMUX");
        command
    }

    pub fn screen(&self) -> String {
        let output = self.tmux().args(["capture-pane", "-p"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Types a line and Enter.
    pub fn types(&self, line: &str) {
        assert!(self.tmux().args(["send-keys", "-l", "--", line]).status().unwrap().success());
        self.key("Enter");
    }

    /// Types text without Enter.
    pub fn text(&self, text: &str) {
        assert!(self.tmux().args(["send-keys", "-l", "--", text]).status().unwrap().success());
    }

    /// Presses a key by tmux's name of it.
    pub fn key(&self, name: &str) {
        assert!(self.tmux().args(["send-keys", name]).status().unwrap().success());
    }

    /// Runs the program with this way.
    pub fn runs(&self, way: &Way, arguments: &str) {
        let variables: String =
            way.variables.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
        let options: String = way.options.iter().map(|word| format!("'{word}' ")).collect();
        let program = env!("CARGO_BIN_EXE_jobqueue");
        self.types(&format!("clear; {variables}{program} {options}{arguments}; echo status=$?"));
    }

    /// Waits until the screen has these words; the screen.
    pub fn sees(&self, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if screen.contains(words) {
                return screen;
            }
            assert!(Instant::now() < end, "{words:?} is not on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").stderr(Stdio::null()).status();
    }
}

/// A folder with this text as its `Rocket.toml`.
pub fn configured(toml: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("Rocket.toml"), toml);
    folder
}

pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
