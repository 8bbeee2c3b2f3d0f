//! What a command ends with: an exit status, and a line that says why.
//!
//! The table is a promise (`docs/terminal.md`): scripts decide by it.

use rocket_jobqueue::Error;

use crate::text::escaped;

/// The exit statuses. 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something failed that no other status names.
    Failed = 1,
    /// The command line, a query or a configured value is wrong. Nothing was done.
    Usage = 2,
    /// There is no such queue, job or periodic job.
    NotFound = 3,
    /// Refused: by the state of a job, by the guard of the application, or because nobody confirmed.
    Refused = 4,
    /// The store or the application cannot be reached, or is too busy: retry later.
    Unreachable = 5,
    /// What was asked about is bad: a watched job was archived, the doctor has findings, an alert
    /// holds.
    Bad = 6,
    /// A watched job is gone: it succeeded without retention, or was deleted.
    Gone = 7,
    /// `--timeout` passed first.
    TimedOut = 8,
    /// By Ctrl-C, as a shell says it.
    Interrupted = 130,
    /// By SIGHUP: the terminal is gone.
    HungUp = 129,
    /// By SIGTERM.
    Terminated = 143,
    /// The reader of the output went away.
    BrokenPipe = 141,
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub exit: Exit,
    /// One line; empty if everything has been said.
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same failure, which names what was tried.
    pub fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// Ends the process: the message goes to standard error.
    pub fn end(self) -> std::process::ExitCode {
        if !self.message.is_empty() && self.exit != Exit::BrokenPipe {
            eprintln!("jobqueue: {}", escaped(&self.message));
        }
        std::process::ExitCode::from(self.exit as u8)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // An unknown outcome also is unavailable; a duplicate was refused.
        let exit = if error.is_unavailable() || error.is_too_many() {
            Exit::Unreachable
        } else if error.is_invalid() || error.is_config() {
            Exit::Usage
        } else if error.is_not_found() {
            Exit::NotFound
        } else if error.is_wrong_state()
            || error.is_duplicate()
            || error.is_id_conflict()
            || error.is_idempotency_mismatch()
            || error.is_refused()
        {
            Exit::Refused
        } else {
            Exit::Failed
        };
        let unknown = match error.is_outcome_unknown() {
            true => "; it may have been done: look before you repeat it",
            false => "",
        };
        Self::new(exit, format!("{error}{unknown}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(Exit::BrokenPipe, ""),
            _ => Self::new(Exit::Failed, error.to_string()),
        }
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;
