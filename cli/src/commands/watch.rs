//! Follows one job to its end. The exit status says which end it was.
//!
//! While the store is away it says so, with the time of what it knows, and goes on by itself.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::job::{archived, has_ended, progress};
use crate::args::Watch;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::store::{JobPlace, Store, place, text};
use crate::text::{cut, escaped, local};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

pub(crate) async fn run(store: &Arc<dyn Store>, out: &Output, watch: Watch) -> Outcome {
    let end = watch.timeout.map(|timeout| Instant::now() + timeout);
    let place = place(&**store, watch.job.queue.as_deref(), &watch.job.id).await?;
    let mut shown = Shown { out, last: String::new(), live: out.color || out.columns.is_some() };
    let mut known = store.job(&place).await?;
    let mut seen = Utc::now();
    loop {
        shown.job(&known)?;
        if has_ended(&known) {
            return ended(&shown, &known);
        }
        let pause = Instant::now() + INTERVAL;
        tokio::time::sleep_until(end.map_or(pause, |end| end.min(pause))).await;
        if end.is_some_and(|end| Instant::now() >= end) {
            return timed_out(&shown, &known);
        }
        match store.job(&place).await {
            Ok(job) => (known, seen) = (job, Utc::now()),
            Err(failure) if failure.exit == Exit::NotFound => {
                return gone(&shown, &place, watch.gone_is_success);
            }
            Err(failure) if failure.exit == Exit::Unreachable => {
                let at = local(seen, Utc::now());
                shown.line(&format!("connection lost, as of {at}: {}", line(&known)))?;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// A job's state and progress in a line.
fn line(job: &Value) -> String {
    let state = text(&job["state"]);
    let progress = progress(&job["progress"]).filter(|_| state == "active");
    let error =
        Some(text(&job["last_error"])).filter(|error| !error.is_empty() && state != "active");
    let more: Vec<String> = [progress, error.map(str::to_owned)].into_iter().flatten().collect();
    if more.is_empty() { state.to_owned() } else { format!("{state}: {}", more.join(", ")) }
}

/// What was printed last: on a terminal it is written over, elsewhere each change is a line.
struct Shown<'a> {
    out: &'a Output,
    last: String,
    live: bool,
}

impl Shown<'_> {
    fn job(&mut self, job: &Value) -> Outcome {
        if !self.out.json {
            return self.line(&line(job));
        }
        // One object a line: a program reads them as they come.
        let now = json!({
            "state": job["state"], "progress": job["progress"], "retried": job["retried"],
            "last_error": job["last_error"]
        });
        let now = now.to_string();
        if now != self.last {
            self.out.line(escaped_json(&now))?;
            self.last = now;
        }
        Ok(())
    }

    fn line(&mut self, text: &str) -> Outcome {
        if text == self.last {
            return Ok(());
        }
        self.last = text.to_owned();
        let text = escaped(text);
        if self.out.json {
            // Standard output has objects only.
            self.out.note(&text);
            return Ok(());
        }
        if !self.live || !std::io::stdout().is_terminal() {
            return self.out.line(text);
        }
        let columns = self.out.columns.unwrap_or(80).saturating_sub(1);
        let mut out = std::io::stdout().lock();
        write!(out, "\r{}\u{1b}[K", cut(&text, columns))?;
        Ok(out.flush()?)
    }

    /// Ends the line that was written over.
    fn finish(&self) -> Outcome {
        match self.live && !self.out.json {
            true => self.out.line(""),
            false => Ok(()),
        }
    }
}

/// JSON without characters that a terminal obeys; `serde_json` escapes control characters already.
fn escaped_json(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    crate::text::json(&value).lines().map(str::trim_start).collect::<Vec<_>>().join("")
}

fn ended(shown: &Shown<'_>, job: &Value) -> Outcome {
    shown.finish()?;
    match text(&job["state"]) {
        "completed" => Ok(()),
        _ => Err(archived(job)),
    }
}

fn timed_out(shown: &Shown<'_>, job: &Value) -> Outcome {
    shown.finish()?;
    let (id, state) = (text(&job["id"]), text(&job["state"]));
    Err(Failure::new(Exit::TimedOut, format!("job {id} is still {state}")))
}

fn gone(shown: &Shown<'_>, place: &JobPlace, is_success: bool) -> Outcome {
    shown.finish()?;
    let id = &place.id;
    let what = format!("job {id} is gone: it succeeded without retention, or was deleted");
    match is_success {
        true => {
            shown.out.note(what);
            Ok(())
        }
        false => Err(Failure::new(Exit::Gone, what)),
    }
}
