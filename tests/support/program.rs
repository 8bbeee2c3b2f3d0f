//! Example programs as processes of their own, and `curl` to talk to them.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Building an example may be part of starting it.
pub const BUILD: Duration = Duration::from_secs(600);

/// An example program, its lines on both outputs, killed when dropped.
pub struct Program {
    pub child: Child,
    pub out: Receiver<String>,
    pub err: Receiver<String>,
    /// Lines of standard error that were read and not asked for yet: the order
    /// of lines from different tasks is nobody's promise.
    passed_over: RefCell<Vec<String>>,
    /// The folder of a demo whose store nobody named.
    folder: Option<tempfile::TempDir>,
}

fn lines(of: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(of).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Program {
    pub fn start(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = super::cargo();
        command.args(["run", "--quiet", "--example", name, "--"]).args(arguments);
        let named = ["--redis", "--path", "--memory"];
        let names = ["APP_ENV", "REDIS_", "ROCKET_DATABASES", "ROCKET_JOBQUEUE"];
        let names_store = |variable: &str| names.iter().any(|name| variable.starts_with(name));
        let is_named = arguments.iter().any(|argument| named.contains(argument))
            || variables.iter().any(|(variable, _)| names_store(variable));
        if name != "demo" || is_named {
            return Self::spawn(command, variables);
        }
        // The demo's own folder belongs to one process at a time.
        let folder = tempfile::tempdir().unwrap();
        command.arg("--path").arg(folder.path());
        let mut program = Self::spawn(command, variables);
        program.folder = Some(folder);
        program
    }

    /// Starts a program with these variables and none else that configure it.
    pub fn spawn(mut command: Command, variables: &[(&str, &str)]) -> Self {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let configures = ["ROCKET_", "REDIS_"].iter().any(|prefix| name.starts_with(prefix));
            if configures || name == "APP_ENV" {
                command.env_remove(name);
            }
        }
        command.env("ROCKET_PORT", "0").envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("cargo starts");
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Self { child, out, err, passed_over: RefCell::default(), folder: None }
    }

    /// The next line on standard error that holds this text, also if it came
    /// before the last one asked for.
    pub fn said(&self, text: &str, within: Duration) -> String {
        let mut passed_over = self.passed_over.borrow_mut();
        if let Some(at) = passed_over.iter().position(|line| line.contains(text)) {
            return passed_over.remove(at);
        }
        find(&self.err, text, within, &mut passed_over)
    }

    pub fn printed(&self, text: &str, within: Duration) -> String {
        find(&self.out, text, within, &mut Vec::new())
    }

    /// Sends a signal: `TERM`, `KILL`, `STOP` …
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// All lines of standard output so far that hold this text.
    pub fn printed_so_far(&self, text: &str) -> Vec<String> {
        self.out.try_iter().filter(|line| line.contains(text)).collect()
    }

    /// The address it listens on, as its welcome shows it. Waits until it answers: Rocket obeys
    /// signals only from then on, and a signal before ends the process.
    pub fn origin(&self) -> String {
        let line = self.said("listening", BUILD);
        let origin = line.split_whitespace().last().unwrap().to_owned();
        let address = origin.split("://").last().unwrap();
        let end = Instant::now() + BUILD;
        while !answers(address) {
            assert!(Instant::now() < end, "no answer from {origin}");
            std::thread::sleep(Duration::from_millis(20));
        }
        origin
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // `cargo run` has been replaced by the program: the process is the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a server answers there, be it that it does not understand.
fn answers(address: &str) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(address) else { return false };
    let asked = stream.set_read_timeout(Some(Duration::from_secs(1)));
    asked.and_then(|()| stream.write_all(b"?\r\n\r\n")).is_ok()
        && stream.read(&mut [0]).is_ok_and(|read| read > 0)
}

fn find(lines: &Receiver<String>, text: &str, within: Duration, seen: &mut Vec<String>) -> String {
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) if line.contains(text) => return line,
            Ok(line) => seen.push(line),
            Err(_) => panic!("no line with {text:?} within {within:?}; seen: {seen:#?}"),
        }
    }
}

/// What `curl` got: status and body.
pub fn curl(arguments: &[&str]) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "-m", "20", "-w", "\n%{http_code}"]).args(arguments);
    let output = command.output().expect("curl runs (Debian package curl)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
    (status.parse().unwrap_or(0), body.to_owned())
}

/// Posts JSON.
pub fn post_json(url: &str, body: &str, headers: &[&str]) -> (u16, String) {
    let mut arguments = vec!["-X", "POST", url, "-H", "Content-Type: application/json", "-d", body];
    for header in headers {
        arguments.extend(["-H", header]);
    }
    curl(&arguments)
}
