//! Payloads: given on the command line, in a file or in an editor, and shown with all their digits.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::args::Payload;
use crate::confirm::Change;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::store::{JobPlace, Store, text};
use crate::text::{bytes, escaped};

/// The payload that the command line names, if it does.
pub(crate) fn given(payload: &Payload) -> Outcome<Option<Vec<u8>>> {
    match (&payload.payload, &payload.file) {
        (Some(text), _) => Ok(Some(text.clone().into_bytes())),
        (None, Some(path)) => read(path).map(Some),
        (None, None) => Ok(None),
    }
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut all = Vec::new();
        std::io::stdin().lock().read_to_end(&mut all)?;
        return Ok(all);
    }
    std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A payload or result as it is stored: text as it is, other bytes as hexadecimal digits.
pub(crate) fn shown(value: &Value) -> String {
    match (value.as_str(), value["hex"].as_str()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(hex)) => format!("hex {hex}"),
        (None, None) => String::new(),
    }
}

/// Replaces the payload of a job.
pub(crate) async fn edit(
    store: &dyn Store,
    out: &Output,
    place: &JobPlace,
    payload: &Payload,
    change: Change,
) -> Outcome {
    let job = store.job(place).await?;
    let (id, state) = (&place.id, text(&job["state"]).to_owned());
    if state == "active" {
        let why = format!("job {id:?} is active: its payload cannot be edited");
        return Err(Failure::new(Exit::Refused, why));
    }
    let old = shown(&job["payload"]);
    let new = match given(payload)? {
        Some(new) => new,
        None if job["payload"].is_string() => in_editor(&old)?,
        None => {
            return Err(Failure::usage(
                "payload: expected text for an editor, found other bytes; give it with --file",
            ));
        }
    };
    if new == old.as_bytes() {
        return Err(Failure::new(Exit::Refused, "nothing was done: the payload is as it was"));
    }
    let size = bytes(new.len() as u64);
    if !change.dry_run {
        change.confirm(&format!("Replace the payload of the {state} job {id} by {size}?"))?;
        store.edit(place, &new).await?;
    }
    if out.json {
        return out.value(&json!({
            "verb": "edit", "queue": place.queue, "id": id, "bytes": new.len(), "dry_run": change.dry_run
        }));
    }
    let done = if change.dry_run { "would replace" } else { "replaced" };
    out.line(escaped(&format!("{done} the payload of job {id} by {size}")))
}

/// Lets a person edit a text. The file is readable for its owner alone, and removed.
fn in_editor(old: &str) -> Outcome<Vec<u8>> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "payload: expected --payload or --file where there is no terminal",
        ));
    }
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok());
    let editor =
        editor.filter(|editor| !editor.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    let file = Draft::create(old)?;
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program).args(words).arg(&file.0).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => return Err(Failure::new(Exit::Refused, "nothing was done: the editor failed")),
        Err(error) => return Err(Failure::new(Exit::Failed, format!("{program}: {error}"))),
    }
    let mut new = std::fs::read(&file.0)?;
    // Editors end a file with a line break.
    if !old.ends_with('\n') && new.ends_with(b"\n") {
        new.pop();
    }
    Ok(new)
}

/// A file that is removed when it is dropped.
struct Draft(std::path::PathBuf);

impl Draft {
    fn create(text: &str) -> Outcome<Self> {
        let name = format!(
            "jobqueue-{}-{}.json",
            std::process::id(),
            chrono::Utc::now().timestamp_micros()
        );
        let path = std::env::temp_dir().join(name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        let draft = Self(path);
        file.write_all(text.as_bytes())?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
