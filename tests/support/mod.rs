//! A Redis server of the test's own: on a free port, in a temporary folder,
//! gone when dropped. Which program that is, `JOBQUEUE_TEST_SERVER` says; see
//! `scripts/servers.sh`.
#![allow(dead_code)]

pub mod anybody;
pub mod border;
pub mod effort;
pub mod fleet;
pub mod harness;
pub mod log;
pub mod program;
pub mod scripts;
pub mod wall_clock;
pub mod workers;

use std::future::Future;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// More than a busy machine needs; reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Cargo as in a shell.
pub fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    forget_package(&mut command);
    command
}

/// Takes away what Cargo tells a test of its package: build scripts depend on it, and Cargo would
/// build half of the dependencies again for a program that is built already.
pub fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|begin| text.starts_with(begin)) {
            command.env_remove(&name);
        }
    }
}

/// Waits until the question has an answer.
pub async fn until<T, F: Future<Output = Option<T>>>(mut question: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(Instant::now() < end, "it did not happen within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The server program that tests start: `$JOBQUEUE_TEST_SERVER`, by default the
/// machine's own `redis-server`.
pub fn server_program() -> String {
    std::env::var("JOBQUEUE_TEST_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// Major and minor version of that program, as in `Redis server v=6.2.14 sha=…`.
pub fn server_version() -> (u32, u32) {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let program = server_program();
        let output = Command::new(&program).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers = text.split_once("v=").map(|(_, rest)| rest.splitn(3, '.'));
        let mut numbers = numbers.unwrap_or_else(|| panic!("{program} has no version: {text:?}"));
        let mut number = || numbers.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        (number(), number())
    })
}

/// Options of Redis 7.0 that permit what earlier servers always permit, and stop
/// those from starting.
const SINCE_7: [&str; 1] = ["--enable-debug-command"];

/// A `redis-server` that the test starts, kills, freezes and starts again.
pub struct RedisServer {
    port: u16,
    /// Keeps the port for this server, also while it is stopped.
    reserved: Option<UdpSocket>,
    tls: bool,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    dir: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server without persistence, with `args` added to its command
    /// line, and waits until it answers.
    pub fn start<S: AsRef<str>>(args: &[S]) -> Self {
        let server = Self::prepare(args);
        server.started()
    }

    /// As [`RedisServer::start`], but the server is not running yet: only its
    /// port is chosen. [`RedisServer::restart`] starts it.
    pub fn prepare<S: AsRef<str>>(args: &[S]) -> Self {
        let (port, reserved) = reserve_port();
        Self {
            port,
            reserved: Some(reserved),
            tls: false,
            args: known_args(args),
            variables: Vec::new(),
            dir: TempDir::new().expect("a temporary folder"),
            child: None,
        }
    }

    /// Adds to its command line, before it is started.
    pub fn with_args<S: AsRef<str>>(mut self, args: &[S]) -> Self {
        self.args.extend(known_args(args));
        self
    }

    /// Adds to its environment, before it is started.
    pub fn with_variables(mut self, variables: &[(String, String)]) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }

    /// Listens on this port instead of a free one.
    pub fn with_port(mut self, port: u16) -> Self {
        (self.port, self.reserved) = (port, None);
        self
    }

    /// The server speaks TLS only, on [`RedisServer::port`].
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts the prepared server.
    pub fn started(mut self) -> Self {
        self.restart();
        self
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `127.0.0.1:port`.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process that runs.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Its folder, which is its working directory.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Starts it on the same port as before; kills a running one first.
    pub fn restart(&mut self) {
        self.stop();
        let port = self.port.to_string();
        let (plain, tls) = if self.tls { ("0", port.as_str()) } else { (port.as_str(), "0") };
        let log = std::fs::File::create(self.dir.path().join("redis.log")).expect("a log file");
        // Builds of other servers may know no TLS, which is a matter of the client.
        let program = if self.tls { "redis-server".to_owned() } else { server_program() };
        let mut command = Command::new(program);
        // A first argument that ends in ".conf" is a configuration file.
        let (file, rest): (&[String], &[String]) = match self.args.first() {
            Some(first) if first.ends_with(".conf") => self.args.split_at(1),
            _ => (&[], &self.args),
        };
        command.args(file).args(["--port", plain]);
        if self.tls {
            command.args(["--tls-port", tls]);
        }
        command
            .args(["--bind", "127.0.0.1", "--dir"])
            .arg(self.dir.path())
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null());
        if !self.args.iter().any(|arg| arg == "--sentinel") {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        // Last, so that a test's own word counts.
        command.args(rest);
        let mut start = || command.spawn().expect("the server program is there");
        self.child = Some(start());
        let end = Instant::now() + PATIENCE;
        while !self.answers() {
            assert!(Instant::now() < end, "redis-server did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
            let child = self.child.as_mut().expect("it was started");
            if let Some(status) = child.try_wait().expect("it is a child") {
                // A connection of another program may have the port for a moment.
                let log = self.log();
                assert!(log.contains("already in use"), "redis-server ended, {status}: {log}");
                self.child = Some(start());
            }
        }
    }

    fn answers(&self) -> bool {
        if self.tls {
            return TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        }
        use std::io::{Read, Write};
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
        let mut reply = [0; 64];
        let read = stream.write_all(b"PING\r\n").and_then(|()| stream.read(&mut reply));
        matches!(read, Ok(n) if reply[..n].starts_with(b"+PONG") || reply[..n].starts_with(b"-NOAUTH"))
    }

    /// Kills it with SIGKILL. Its port stays its own.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it with SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on with SIGCONT.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the server runs");
        let status = Command::new("kill").arg(signal).arg(child.id().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    /// What `redis-cli` prints for this command, without the line's end.
    pub fn cli<S: AsRef<str>>(&self, args: &[S]) -> String {
        self.cli_status(args).1
    }

    /// The same, and whether `redis-cli` succeeded.
    pub fn cli_status<S: AsRef<str>>(&self, args: &[S]) -> (bool, String) {
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "--no-auth-warning"])
            .args(args.iter().map(AsRef::as_ref))
            .output()
            .expect("redis-cli is installed");
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        (output.status.success(), text)
    }

    /// Gives all slots to this node, in the command that Redis 6.2 knows too.
    pub fn own_all_slots(&self) {
        let slots = (0..16_384).map(|slot: u32| slot.to_string());
        let command: Vec<String> =
            ["CLUSTER", "ADDSLOTS"].map(str::to_owned).into_iter().chain(slots).collect();
        assert_eq!(self.cli(&command), "OK");
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// These options without those, and their values, that the server is too old for.
fn known_args<S: AsRef<str>>(args: &[S]) -> Vec<String> {
    let mut known = Vec::new();
    let mut args = args.iter().map(AsRef::as_ref);
    while let Some(arg) = args.next() {
        if SINCE_7.contains(&arg) && server_version().0 < 7 {
            args.next();
        } else {
            known.push(arg.to_owned());
        }
    }
    known
}

/// A port to listen on, which no other test gets until this process ends.
pub fn free_port() -> u16 {
    static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let (port, reserved) = reserve_port();
    RESERVED.lock().unwrap().push(reserved);
    port
}

/// A port to listen on. Kept under 32768, where the system hands out none by itself,
/// with a cluster's bus at +10000, where nobody else listens.
///
/// No other test gets it as long as the UDP socket is open, not even in another process. TCP
/// alone would leave the port free until its server listens, and while it is stopped.
fn reserve_port() -> (u16, UdpSocket) {
    loop {
        let port = random_port(11_000..21_000);
        let Ok(reserved) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
        if is_free(port) && is_free(port + 10_000) {
            return (port, reserved);
        }
    }
}

/// A port that nobody listens on, and no test beside this one will.
pub fn closed_port() -> u16 {
    loop {
        let port = random_port(10_000..11_000);
        if is_free(port) {
            return port;
        }
    }
}

fn random_port(among: std::ops::Range<u16>) -> u16 {
    let seed = std::collections::hash_map::RandomState::new();
    let random = std::hash::BuildHasher::hash_one(&seed, Instant::now());
    among.start + (random % among.len() as u64) as u16
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// The result of a future that must end within `limit`. If the machine stands still for a
/// while, this timer is late as well as the future's own, and they still fire in their order.
pub async fn within<F: Future>(limit: Duration, future: F) -> F::Output {
    let ended = tokio::time::timeout(limit, future).await;
    ended.unwrap_or_else(|_| panic!("it did not end within {limit:?}"))
}

/// Waits until `condition` holds, asking each 20 ms, at most `patience` long.
pub async fn eventually<F, R>(patience: Duration, mut condition: F) -> bool
where
    F: FnMut() -> R,
    R: Future<Output = bool>,
{
    let end = Instant::now() + patience;
    loop {
        if condition().await {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
