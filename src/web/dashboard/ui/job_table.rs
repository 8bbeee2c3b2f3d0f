//! Jobs as rows of a table: what a job is and what it works on, what went wrong, when, and its
//! state, from left to right as an operator asks.
//!
//! A corrupt entry is a row that names the corruption, so that it can be selected and deleted like a
//! job. Each column has a key, by which the script hides those that a reader does not want.

use std::borrow::Cow;

use maud::{Markup, html};

use super::parts::{cut, instant, job_link, short, short_type};
use super::reader::escaped;
use super::state;
use super::table::{Cell, Column, Row, TableKind, keyed};
use super::{Reader, parts};
use crate::broker::{JobInfo, JobRow};
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;

/// The longest beginning of a payload in a row, in characters.
const MAX_PAYLOAD_CHARS: usize = 120;

/// How much of an id is shown; copying it takes the whole.
const SHORT_ID_CHARS: usize = 8;

/// Jobs of one state, whose instant has a name of its own.
pub(crate) fn of_state(
    reader: &Reader,
    now: Timestamp,
    state: JobState,
    rows: &[JobRow],
) -> Markup {
    draw(reader, now, Some(state), rows, None)
}

/// Jobs of any state and queue, each with a checkbox of the form with this id.
pub(crate) fn choice(reader: &Reader, now: Timestamp, rows: &[JobRow], form: &str) -> Markup {
    draw(reader, now, None, rows, Some(form))
}

/// Jobs of one state, each with a checkbox of the form with this id.
pub(crate) fn choice_of_state(
    reader: &Reader,
    now: Timestamp,
    state: JobState,
    rows: &[JobRow],
    form: &str,
) -> Markup {
    draw(reader, now, Some(state), rows, Some(form))
}

/// The value of a job's checkbox: its queue and its id.
pub(crate) fn choice_value(queue: &str, id: &str) -> String {
    format!("{}/{}", escaped(queue), escaped(id))
}

/// The table. Without a state, each row names its own, and its queue.
fn draw(
    reader: &Reader,
    now: Timestamp,
    state: Option<JobState>,
    rows: &[JobRow],
    form: Option<&str>,
) -> Markup {
    let texts = reader.texts;
    if rows.is_empty() {
        return parts::empty(texts.jobs_none);
    }
    let when = match state {
        Some(JobState::Scheduled | JobState::Retry) => texts.due,
        Some(JobState::Pending) => texts.pending_since,
        Some(JobState::Active) => texts.started,
        Some(JobState::Archived) => texts.archived_at,
        Some(JobState::Completed) => texts.completed_at,
        Some(JobState::Aggregating) | None => texts.when,
    };
    let mut columns = vec![
        Column { key: "job", label: texts.job },
        Column { key: "payload", label: texts.payload },
        Column { key: "error", label: texts.error },
        Column { key: "when", label: when },
    ];
    if state.is_none() {
        columns.push(Column { key: "state", label: texts.state });
        columns.push(Column { key: "queue", label: texts.queue });
    }
    columns.push(Column { key: "attempts", label: texts.retries_used });
    columns.push(Column { key: "id", label: texts.job_id });
    let row = |row: &JobRow| {
        let cells = match row {
            JobRow::Job(info) => cells(reader, now, state, info),
            JobRow::Corrupt(broken) => {
                vec![Cell::Broken(html! { (format!("{:?}", broken.corruption)) })]
            }
        };
        Row::new(head(reader, row, form), cells)
    };
    keyed(TableKind::Jobs, texts.jobs, &columns, &rows.iter().map(row).collect::<Vec<_>>())
}

/// The beginning of the job's type, linked to its page; the id of an entry that has none.
fn head(reader: &Reader, row: &JobRow, form: Option<&str>) -> Markup {
    let queue = queue_of(row);
    let name = match row {
        JobRow::Job(info) if !info.record.job_type.is_empty() => {
            html! { (short_type(&info.record.job_type)) }
        }
        JobRow::Job(_) | JobRow::Corrupt(_) => html! { code { (row.id()) } },
    };
    // One that no address can name cannot be chosen either: the link says what to do.
    let form = form.filter(|_| reader.reachable_job(queue, row.id()).is_some());
    html! {
        @if let Some(form) = form {
            input.choice type="checkbox" name=(super::form::SELECTED) form=(form)
                value=(choice_value(&queue.printable(), row.id().as_str()))
                aria-label={ (reader.texts.select) " " (row.id()) };
            " "
        }
        (job_link(reader, queue, row.id(), name))
    }
}

/// Everything but the type.
fn cells(reader: &Reader, now: Timestamp, of: Option<JobState>, info: &JobInfo) -> Vec<Cell> {
    let (texts, job) = (reader.texts, &info.record);
    let mut cells = vec![
        Cell::Clipped(html! { code { (beginning(job.payload_bytes())) } }),
        Cell::Error(html! { (short(&job.last_error)) }),
        Cell::Value(instant(texts, now, info.moment())),
    ];
    // In a list of several states and queues the reader wants to know which.
    if of.is_none() {
        cells.push(Cell::Value(state::state(texts, info.state)));
        cells.push(Cell::Value(html! { a href=(reader.queue(&job.queue)) { (job.queue) } }));
    }
    cells.push(Cell::Value(html! { ((texts.of)(job.retried, job.max_retry)) }));
    cells.push(Cell::Value(id(job.id.as_str())));
    cells
}

/// An id whose beginning is seen and whose whole is copied.
fn id(id: &str) -> Markup {
    html! {
        @match id.char_indices().nth(SHORT_ID_CHARS) {
            Some((end, _)) if id.len() <= 256 => {
                code.id title=(id) { (&id[..end]) span.rest { (&id[end..]) } }
            }
            Some((end, _)) => { code.id { (&id[..end]) "…" } }
            None => { code.id { (id) } }
        }
    }
}

/// The first fields of a payload, on one line. Braces and quotes around the names of fields are
/// left out; values stay as they are written.
fn beginning(payload: &[u8]) -> String {
    // A character has at most four bytes, and white space is left out.
    let begin = &payload[..payload.len().min(8 * MAX_PAYLOAD_CHARS)];
    let text = String::from_utf8_lossy(begin);
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let inner = match text.trim().strip_prefix('{') {
        Some(fields) => named(fields.strip_suffix('}').unwrap_or(fields)),
        None => text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    match cut(&inner, MAX_PAYLOAD_CHARS) {
        Cow::Owned(shown) => shown,
        Cow::Borrowed(_) if begin.len() < payload.len() => format!("{inner}…"),
        Cow::Borrowed(_) => inner,
    }
}

/// The fields of an object without the quotes of their names.
fn named(fields: &str) -> String {
    let (mut out, mut depth, mut rest) = (String::new(), 0_usize, fields.trim_start());
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let end = string_end(rest);
            let (string, after) = rest.split_at(end);
            let is_name = depth == 0 && after.trim_start().starts_with(':');
            match is_name {
                true => out.push_str(string.trim_matches('"')),
                false => out.push_str(string),
            }
            rest = after;
            continue;
        }
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let is_space = c.is_whitespace();
        if !is_space {
            out.push(c);
        }
        if depth == 0 && matches!(c, ':' | ',') {
            out.push(' ');
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// The bytes of the JSON string that a text begins with, its quotes included.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The queue of a row.
fn queue_of(row: &JobRow) -> &QueueName {
    match row {
        JobRow::Job(info) => &info.record.queue,
        JobRow::Corrupt(broken) => &broken.queue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fields_of_a_payload_stand_on_one_line() {
        for (payload, expected) in [
            ("", ""),
            (
                r#"{"to":"a:b, c","n":12345678901234567890.50}"#,
                r#"to: "a:b, c", n: 12345678901234567890.50"#,
            ),
            ("{\n  \"to\" : \"x\",\n  \"in\": {\"a\": [1, 2]}\n}", r#"to: "x", in: {"a":[1,2]}"#),
            (r#"{"say":"\"hi\", she: said"}"#, r#"say: "\"hi\", she: said""#),
            ("[1, 2]", "[1, 2]"),
            ("plain  text", "plain text"),
            ("{", ""),
            ("{\"open", "\"open"),
        ] {
            assert_eq!(beginning(payload.as_bytes()), expected, "{payload}");
        }
        let long = beginning(format!("{{\"text\":\"{}\"}}", "語".repeat(5000)).as_bytes());
        assert!(long.ends_with('…') && long.chars().count() == MAX_PAYLOAD_CHARS + 1, "{long}");
        beginning(&[0xff, 0xfe, b'{']);
    }
}
