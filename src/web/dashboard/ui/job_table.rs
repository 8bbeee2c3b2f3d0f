//! Jobs as rows of a table.
//!
//! A corrupt entry is a row that names the corruption, so that it can be selected and deleted like a
//! job.

use maud::{Markup, html};

use super::Reader;
use super::parts::{empty, instant, job_link, short};
use super::reader::escaped;
use super::table::{Cell, Row, TableKind, table};
use crate::broker::{JobInfo, JobRow};
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;

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
        return empty(texts.jobs_none);
    }
    let when = match state {
        Some(JobState::Scheduled | JobState::Retry) => texts.due,
        Some(JobState::Pending) => texts.pending_since,
        Some(JobState::Active) => texts.started,
        Some(JobState::Archived) => texts.archived_at,
        Some(JobState::Completed) => texts.completed_at,
        Some(JobState::Aggregating) | None => texts.when,
    };
    let columns = [texts.job_id, texts.job_type, texts.attempts, when, texts.error];
    let row = |row: &JobRow| {
        let cells = match row {
            JobRow::Job(info) => cells(reader, now, state, info),
            JobRow::Corrupt(broken) => {
                vec![Cell::Broken(html! { (format!("{:?}", broken.corruption)) })]
            }
        };
        Row::new(head(reader, row, form), cells)
    };
    table(TableKind::Jobs, texts.jobs, &columns, &rows.iter().map(row).collect::<Vec<_>>())
}

/// The job's id, linked to its page.
fn head(reader: &Reader, row: &JobRow, form: Option<&str>) -> Markup {
    let queue = queue_of(row);
    html! {
        @if let Some(form) = form {
            input.choice type="checkbox" name=(super::form::SELECTED) form=(form)
                value=(choice_value(&queue.printable(), row.id().as_str()))
                aria-label={ (reader.texts.select) " " (row.id()) };
            " "
        }
        (job_link(reader, queue, row.id(), html! { code { (row.id()) } }))
    }
}

/// Type, attempts, instant and error of a job.
fn cells(reader: &Reader, now: Timestamp, state: Option<JobState>, info: &JobInfo) -> Vec<Cell> {
    let (texts, job) = (reader.texts, &info.record);
    let when = html! {
        // In a list of several states and queues the reader wants to know which.
        @if state.is_none() {
            (super::state::state(texts, info.state)) " "
            a href=(reader.queue(&job.queue)) { (job.queue) } " "
        }
        (instant(texts, now, moment(info)))
    };
    vec![
        Cell::Value(html! { (job.job_type) }),
        Cell::Value(html! { (job.retried) " / " (job.max_retry) }),
        Cell::Value(when),
        Cell::Error(html! { (short(&job.last_error)) }),
    ]
}

/// The queue of a row.
fn queue_of(row: &JobRow) -> &QueueName {
    match row {
        JobRow::Job(info) => &info.record.queue,
        JobRow::Corrupt(broken) => &broken.queue,
    }
}

/// The instant that matters in the job's state.
fn moment(info: &JobInfo) -> Option<Timestamp> {
    match info.state {
        JobState::Scheduled | JobState::Retry => info.due,
        JobState::Pending => info.pending_since,
        JobState::Active => info.worker.as_ref().and_then(|worker| worker.started),
        JobState::Archived => info.archived_at,
        JobState::Completed => info.record.completed_at,
        JobState::Aggregating => info.grouped_since,
    }
}
