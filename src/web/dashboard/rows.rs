//! Jobs as rows of a table.

use std::borrow::Cow;

use maud::{Markup, html};

use super::Reader;
use super::layout::{escaped, instant, job_link, say, state_word};
use super::selected::place_of;
use crate::broker::{JobInfo, JobRow};
use crate::job::JobState;
use crate::time::Timestamp;

/// The rows as a table; with a state, its instant has a name of its own.
pub(super) fn table(
    reader: &Reader,
    now: Timestamp,
    state: Option<JobState>,
    rows: &[JobRow],
) -> Markup {
    draw(reader, now, state, rows, None)
}

/// The same, with a box in each row for this form.
pub(super) fn choice(reader: &Reader, now: Timestamp, rows: &[JobRow], form: &str) -> Markup {
    draw(reader, now, None, rows, Some(form))
}

fn draw(
    reader: &Reader,
    now: Timestamp,
    state: Option<JobState>,
    rows: &[JobRow],
    form: Option<&str>,
) -> Markup {
    let language = reader.language;
    if rows.is_empty() {
        return html! { div.card { p { (say(language, "該当するジョブはありません。", "No job here.")) } } };
    }
    let when = match state {
        Some(JobState::Scheduled | JobState::Retry) => say(language, "実行予定", "Due"),
        Some(JobState::Pending) => say(language, "待機開始", "Pending since"),
        Some(JobState::Active) => say(language, "開始", "Started"),
        Some(JobState::Archived) => say(language, "アーカイブ日時", "Archived"),
        Some(JobState::Completed) => say(language, "完了日時", "Completed"),
        Some(JobState::Aggregating) | None => say(language, "日時", "When"),
    };
    let labels = [
        say(language, "ジョブID", "Job id"),
        say(language, "タイプ", "Type"),
        say(language, "試行", "Attempts"),
        when,
        say(language, "エラー", "Error"),
    ];
    html! {
        div.card.wide tabindex="0" role="region" aria-label=(say(language, "ジョブ", "Jobs")) {
            table.jobs {
                thead { tr { @for label in labels { th scope="col" { (label) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" {
                                @if let Some(form) = form {
                                    input.choice type="checkbox" name="job" form=(form)
                                        value=(place_of(&queue_of(row), row.id().as_str()))
                                        aria-label={ (say(language, "選択", "Select")) " " (row.id()) };
                                    " "
                                }
                                (job_link(reader, &queue_of(row), row.id().as_str(), html! { code { (row.id()) } }))
                            }
                            @match row {
                                JobRow::Job(info) => {
                                    td data-label=(labels[1]) { (info.record.job_type) }
                                    td data-label=(labels[2]) { (info.record.retried) " / " (info.record.max_retry) }
                                    td data-label=(labels[3]) {
                                        @if state.is_none() {
                                            span.tag { (state_word(language, info.state)) } " "
                                            a href={ (reader.base) "/ui/queues/" (escaped(&info.record.queue.printable())) } { (info.record.queue) } " "
                                        }
                                        (instant(language, now, moment(info)))
                                    }
                                    td.error data-label=(labels[4]) { (short(&info.record.last_error)) }
                                }
                                JobRow::Corrupt(broken) => {
                                    td.error colspan="4" data-label=(labels[4]) { (format!("{:?}", broken.corruption)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn queue_of(row: &JobRow) -> Cow<'_, str> {
    match row {
        JobRow::Job(info) => info.record.queue.printable(),
        JobRow::Corrupt(broken) => broken.queue.printable(),
    }
}

/// The instant that matters in the job's state.
pub(super) fn moment(info: &JobInfo) -> Option<Timestamp> {
    match info.state {
        JobState::Scheduled | JobState::Retry => info.due,
        JobState::Pending => info.pending_since,
        JobState::Active => info.worker.as_ref().and_then(|worker| worker.started),
        JobState::Archived => info.archived_at,
        JobState::Completed => info.record.completed_at,
        JobState::Aggregating => info.grouped_since,
    }
}

pub(super) fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
