//! A peer as a process: started, killed, stopped, continued, asked over HTTP. What
//! is done to it is noted, because a killed process cannot note it itself.

use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::peer::ledger::now;
use crate::peer::settings::Settings;
use crate::support::eventually;

/// A liftoff on a busy machine.
const START: Duration = Duration::from_secs(60);

/// What happened to a process from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// SIGTERM was sent.
    Terminated,
    /// It is gone, killed or by its own doing.
    Dead,
    /// SIGSTOP was sent.
    Stopped,
    /// SIGCONT was sent.
    Continued,
}

/// One of these, of the process with this number.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    pub process: u32,
    pub fate: Fate,
    pub at: u64,
}

/// All notes of a scenario.
pub type Notes = Arc<Mutex<Vec<Note>>>;

/// How a peer is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and its first arguments; the settings follow.
    pub program: Vec<String>,
    pub variables: Vec<(String, String)>,
}

impl Launch {
    /// This version: the test program itself, or the commit that `CHAOS_PEERS` names,
    /// to compare figures.
    pub fn this_version() -> Self {
        static PROGRAM: OnceLock<Vec<String>> = OnceLock::new();
        let program = PROGRAM.get_or_init(|| {
            if let Ok(commit) = std::env::var("CHAOS_PEERS") {
                let other = crate::versions::build(&commit);
                return other.expect("the commit's peer can be built").launch.program;
            }
            let this = std::env::current_exe().expect("a path of its own");
            vec![this.to_string_lossy().into_owned(), "peer".into()]
        });
        Self { program: program.clone(), variables: Vec::new() }
    }

    /// With at most this much address space.
    pub fn with_memory(mut self, megabytes: u64) -> Self {
        let limit = format!("ulimit -v {}; exec \"$0\" \"$@\"", megabytes * 1024);
        self.program.splice(0..0, ["sh".to_owned(), "-c".to_owned(), limit]);
        self
    }
}

/// A running peer, killed when dropped.
pub struct Peer {
    pub number: u32,
    pub settings: Settings,
    log: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
    notes: Notes,
    over: bool,
}

impl Peer {
    pub fn spawn(number: u32, settings: Settings, launch: &Launch, notes: Notes) -> Self {
        let log = settings.ledger.with_extension("log");
        let out = std::fs::File::create(&log).expect("a log file");
        let mut command = Command::new(&launch.program[0]);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().into_owned();
            if text.starts_with("ROCKET_") || text.starts_with("REDIS_") || text == "APP_ENV" {
                command.env_remove(name);
            }
        }
        command
            .args(&launch.program[1..])
            .arg(serde_json::to_string(&settings).expect("settings are JSON"))
            .env("RUST_BACKTRACE", "0")
            .envs(launch.variables.iter().cloned())
            .current_dir(settings.ledger.parent().expect("a folder"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(out);
        let mut child = command.spawn().expect("the peer starts");
        let input = child.stdin.take();
        Self { number, settings, log, child, input, notes, over: false }
    }

    fn note(&self, fate: Fate) {
        let note = Note { process: self.number, fate, at: now() };
        self.notes.lock().expect("no panic under the lock").push(note);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // It may have gone by itself.
        let _ = kill_process(pid, signal);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if !self.over {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
            self.over = true;
            self.note(Fate::Dead);
        }
    }

    /// SIGSTOP.
    pub fn stop(&self) {
        self.note(Fate::Stopped);
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
        self.note(Fate::Continued);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.note(Fate::Terminated);
        self.signal(Signal::TERM);
    }

    /// Ends standard input: a producer stops.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// Whether it has ended, by itself or after a signal.
    pub fn has_ended(&mut self) -> bool {
        if !self.over && matches!(self.child.try_wait(), Ok(Some(_))) {
            self.over = true;
            self.note(Fate::Dead);
        }
        self.over
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, within: Duration) -> bool {
        eventually(within, || {
            let ended = self.has_ended();
            async move { ended }
        })
        .await
    }

    /// Waits until its ledger says that it is up.
    pub async fn is_up(&self) {
        let up = eventually(START, || async {
            let text = std::fs::read_to_string(&self.settings.ledger).unwrap_or_default();
            text.lines().any(|line| line.starts_with("U "))
        });
        assert!(up.await, "process {} did not start: {}", self.number, self.log());
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The status and body of one of its routes, below the base.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let url = format!("http://127.0.0.1:{}/api/dm-jobqueue{path}", self.settings.port);
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().ok()?;
        let answer = client.get(url).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    /// Its resident memory in megabytes, its threads and open files.
    pub fn resources(&self) -> Resources {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        Resources {
            megabytes: field("VmRSS:").unwrap_or(0) / 1024,
            threads: field("Threads:").unwrap_or(0),
            files: files.map_or(0, |files| files.count() as u64),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    pub megabytes: u64,
    pub threads: u64,
    pub files: u64,
}
