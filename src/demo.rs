//! The reference job `demo:delay_print`: it prints a line after a delay. It shows how to write a
//! job type, and its names do not collide with an application's own.
//!
//! Its handler takes bytes rather than a `DelayPrint`, because a Go producer may send no payload
//! at all, and it prints from a thread of its own: a pipe without a reader must not block the
//! runtime.
//!
//! It exists so that a new installation can be tried without writing code: `POST {base}/register`
//! enqueues it, and after three minutes a line appears. An application that is open to the public
//! switches that route off (`register_route = false`); the handler stays, because jobs may wait.

use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::oneshot;

use crate::job::{Job, JobError, JobOptions};
use crate::registry::unmarshal_text;
use crate::sync::lock;
use crate::time::Clock;

/// The reference job's stored type.
pub const TYPE: &str = "demo:delay_print";

/// The delay of the reference job if the caller gives none: 3 minutes.
pub const DEFAULT_DELAY: Duration = Duration::from_secs(180);

/// The line that is printed if the caller gives no message.
pub const DEFAULT_MESSAGE: &str = "Job executed successfully";

/// The payload of the reference job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DelayPrint {
    /// The text to print; [`DEFAULT_MESSAGE`] if it is absent or empty.
    pub message: Option<String>,
}

impl Job for DelayPrint {
    const TYPE: &'static str = TYPE;

    fn options() -> JobOptions {
        JobOptions::new().delay(DEFAULT_DELAY)
    }

    /// Only if it is checked: without it [`DelayPrint`] refuses the same payloads by itself.
    #[cfg(feature = "json-schema")]
    fn schema() -> Option<serde_json::Value> {
        Some(serde_json::json!({
            "type": "object",
            "properties": { "message": { "type": ["string", "null"] } }
        }))
    }
}

/// Accepts a JSON object only: serde's derived implementation would accept an array too.
impl<'de> Deserialize<'de> for DelayPrint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut object = serde_json::Map::deserialize(from)?;
        match object.remove("message") {
            None | Some(serde_json::Value::Null) => Ok(Self { message: None }),
            Some(serde_json::Value::String(text)) => Ok(Self { message: Some(text) }),
            Some(_) => Err(D::Error::custom("message: expected a string")),
        }
    }
}

impl DelayPrint {
    /// A job that prints this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()) }
    }

    /// The text to print.
    fn text(&self) -> &str {
        self.message.as_deref().filter(|text| !text.is_empty()).unwrap_or(DEFAULT_MESSAGE)
    }
}

/// The reference job's handler: prints `[YYYY-MM-DD HH:MM:SS] message` in local
/// time on standard output.
///
/// The payload comes as bytes, because a Go producer may send none at all.
pub(crate) async fn delay_print(payload: Vec<u8>) -> Result<Option<Vec<u8>>, JobError> {
    let job = parse(&payload)?;
    let line = line(&Clock::system().now().local_text(), job.text());
    print(line).await?;
    Ok(None)
}

/// How long a line may wait for a reader of standard output. The attempt then fails and is
/// retried, so that an unread pipe does not hold the worker's slots.
const PRINT_TIMEOUT: Duration = Duration::from_secs(10);

/// A line to print, and the channel that reports the result.
type PrintRequest = (String, oneshot::Sender<io::Result<()>>);

/// Prints a line and flushes it, on a thread of its own: the reader may be slow, the runtime's
/// threads have other work, and a process that ends must not wait for it.
async fn print(line: String) -> io::Result<()> {
    static PRINTER: OnceLock<Mutex<mpsc::Sender<PrintRequest>>> = OnceLock::new();
    let (done, printed) = oneshot::channel();
    let printer = PRINTER.get_or_init(|| Mutex::new(start_printer()));
    let sent = lock(printer).send((line, done));
    if sent.is_err() {
        return Err(io::Error::other("the printing thread could not be started"));
    }
    match tokio::time::timeout(PRINT_TIMEOUT, printed).await {
        Ok(Ok(printed)) => printed,
        Ok(Err(_)) => Err(io::Error::other("the printing thread has ended")),
        Err(_) => Err(io::Error::other("standard output is not read")),
    }
}

/// Starts the printing thread, which lives as long as the process. A line whose attempt has
/// given up is skipped.
fn start_printer() -> mpsc::Sender<PrintRequest> {
    let (printer, lines) = mpsc::channel::<PrintRequest>();
    let print_all = move || {
        for (line, done) in lines {
            // The attempt has ended without waiting for it; its retry prints the line.
            if done.is_closed() {
                continue;
            }
            let mut out = io::stdout().lock();
            let _ = done.send(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
        }
    };
    // If the thread cannot be started, the channel is closed, and senders get an error.
    let _ = std::thread::Builder::new().name("jobqueue-print".into()).spawn(print_all);
    printer
}

/// The payload as a job; no payload at all means the default message.
fn parse(payload: &[u8]) -> Result<DelayPrint, JobError> {
    if payload.is_empty() {
        return Ok(DelayPrint::default());
    }
    serde_json::from_slice(payload)
        .map_err(|error| JobError::failed(unmarshal_text::<DelayPrint>(payload, &error)))
}

/// One line, whatever the text contains: a job must not forge a second line or send control
/// sequences to the terminal.
fn line(time: &str, text: &str) -> String {
    let mut line = format!("[{time}] ");
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::error_text;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(line("T", "a\r\nb\u{1b}[31m\u{2028}"), "[T] a\\r\\nb\\u{1b}[31m\\u{2028}\n");
        assert_eq!(line("T", "日本語 \"ok\""), "[T] 日本語 \"ok\"\n");
    }

    #[test]
    fn without_a_message_the_default_text_is_printed() {
        for payload in ["", "{}", r#"{"message":null}"#, r#"{"message":""}"#] {
            assert_eq!(parse(payload.as_bytes()).unwrap().text(), DEFAULT_MESSAGE, "{payload}");
        }
        assert_eq!(parse(br#"{"message":"hi","more":1}"#).unwrap().text(), "hi");
    }

    #[test]
    fn a_payload_that_is_not_an_object_fails_to_unmarshal() {
        for payload in ["[]", "1", "null", "{", r#"{"message":1}"#, "\"x\""] {
            let error = error_text(parse(payload.as_bytes()).unwrap_err());
            assert!(error.starts_with("failed to unmarshal payload"), "{payload}: {error}");
        }
    }
}
