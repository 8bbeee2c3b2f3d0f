//! One job: everything that is known of it, and what can be done to it.

use std::borrow::Cow;
use std::time::Duration;

use maud::{Markup, html};
use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{Data, Route, get, post, routes};
use serde::de::IgnoredAny;

use super::layout::{self, Place, escaped, fact, instant, say, state_word};
use super::payload::{self, Download, Part};
use super::{Language, Page, Reader, form_pairs, rows};
use crate::broker::JobInfo;
use crate::error::Error;
use crate::inspector::Cancelled;
use crate::job::{AfterCancel, JobId, JobState, Placement};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::registration::MOST_DELAY_SECONDS;
use crate::web::api::{Asked, audit, read_bytes};
use crate::web::guards::{ActAccess, ViewAccess};
use crate::web::origin::SameOrigin;

/// The largest form that is read: the largest payload that is edited, each byte of it escaped.
const LARGEST: u64 = 4 * payload::WHOLE as u64;

/// Of headers and other short texts, so many are shown, up to so many characters.
const MOST_HEADERS: usize = 100;
const LONGEST_HEADER: usize = 1000;

#[get("/ui/jobs/<name>/<id>?<done>&<edit>")]
async fn show(
    _access: ViewAccess,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
    id: &str,
    done: Option<&str>,
    edit: Option<&str>,
) -> Page {
    let found = async {
        let (known, id) = (name.parse()?, id.parse()?);
        queue.redacted_inspector().job(&known, &id).await
    };
    let language = reader.language;
    match found.await {
        Ok(Some(info)) => {
            let title =
                format!("{} {}", say(language, "ジョブ", "Job"), cut(&info.record.job_type));
            let content = html! {
                (layout::notice(language, done))
                (detail(&reader, queue, &info, edit == Some("payload")))
            };
            Page(Status::Ok, layout::page(&reader, queue, Place::Elsewhere, &title, content))
        }
        Ok(None) => {
            let gone = say(
                language,
                "このジョブは存在しません。保持期間のないジョブは成功すると消えます。",
                "There is no such job. One that is not retained is gone once it succeeds.",
            );
            layout::missing(&reader, queue, gone)
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

fn detail(reader: &Reader, queue: &JobQueue, info: &JobInfo, editing: bool) -> Markup {
    let (language, job, now) = (reader.language, &info.record, queue.now());
    let here = format!(
        "{}/ui/jobs/{}/{}",
        reader.base,
        escaped(&job.queue.printable()),
        escaped(job.id.as_str())
    );
    let time = |at: Option<Timestamp>| instant(language, now, at);
    html! {
        div.card.facts {
            dl {
                (fact(say(language, "ジョブID", "Job id"), html! { code { (job.id) } }))
                (fact(say(language, "キュー", "Queue"), html! {
                    a href={ (reader.base) "/ui/queues/" (escaped(&job.queue.printable())) } { (job.queue) }
                }))
                (fact(say(language, "状態", "State"), html! {
                    span.tag { (state_word(language, info.state)) }
                    @if info.orphaned { " " span.tag { (say(language, "ワーカー不明", "worker lost")) } }
                    @if let Some(after) = info.cancelling {
                        " " span.tag { (say(language, "キャンセル中", "cancelling")) " (" (format!("{after:?}").to_lowercase()) ")" }
                    }
                }))
                (fact(say(language, "試行", "Attempts"), html! { (job.retried) " / " (job.max_retry) }))
                @if info.due.is_some() { (fact(say(language, "実行予定", "Due"), time(info.due))) }
                @if info.pending_since.is_some() { (fact(say(language, "待機開始", "Pending since"), time(info.pending_since))) }
                @if let Some(worker) = &info.worker {
                    (fact(say(language, "ワーカー", "Worker"), html! { (worker.host) ":" (worker.pid) ", " (time(worker.started)) }))
                }
                @if info.lease_ends.is_some() { (fact(say(language, "リース期限", "Lease ends"), time(info.lease_ends))) }
                @if job.last_failed_at.is_some() { (fact(say(language, "最後の失敗", "Failed last"), time(job.last_failed_at))) }
                @if info.archived_at.is_some() { (fact(say(language, "アーカイブ日時", "Archived"), time(info.archived_at))) }
                @if job.completed_at.is_some() { (fact(say(language, "完了日時", "Completed"), time(job.completed_at))) }
                @if info.expires.is_some() { (fact(say(language, "削除予定", "Removed"), time(info.expires))) }
                @if !job.timeout.is_zero() { (fact(say(language, "時間制限", "Time limit"), html! { (layout::span(language, job.timeout)) })) }
                @if job.deadline.is_some() { (fact(say(language, "期限", "Deadline"), time(job.deadline))) }
                @if !job.group.is_empty() { (fact(say(language, "グループ", "Group"), html! { (cut(&job.group)) })) }
                @if info.losses > 0 { (fact(say(language, "ワーカー消失", "Workers lost"), html! { (info.losses) })) }
                @if let Some(progress) = &info.progress {
                    (fact(say(language, "進捗", "Progress"), html! {
                        @if let Some(percent) = progress.percent() {
                            progress max="100" value=(percent) { (percent) "%" } " " (percent) "% "
                        }
                        (cut(&progress.message))
                    }))
                }
            }
            div.actions { (actions(language, &here, info.state)) }
        }
        @if !job.last_error.is_empty() {
            section {
                h2 { (say(language, "最後のエラー", "Last error")) }
                (payload::shown(language, &here, Part::Error, job.last_error.as_bytes()))
            }
        }
        (timeline(language, now, info))
        section {
            h2 { (say(language, "ペイロード", "Payload")) }
            (payload::shown(language, &here, Part::Payload, job.payload_bytes()))
            // Who edits what is not whole would lose the rest.
            @if editable(info.state) && !queue.redacts() { (edit(language, &here, job.payload_bytes(), editing)) }
        }
        @if let Some(result) = &info.result {
            section {
                h2 { (say(language, "結果", "Result")) }
                (payload::shown(language, &here, Part::Result, result))
            }
        }
        @if !job.headers.is_empty() {
            section {
                h2 { (say(language, "ヘッダー", "Headers")) }
                (headers(language, &here, info))
            }
        }
    }
}

/// What happened to it and what will, the oldest first, as far as that is kept.
fn timeline(language: Language, now: Timestamp, info: &JobInfo) -> Markup {
    let job = &info.record;
    let mut events: Vec<(Timestamp, Markup)> = Vec::new();
    for failure in &info.failures {
        events.push((
            failure.at,
            html! {
                @match language {
                    Language::Japanese => { (failure.attempt) "回目の試行が失敗" }
                    Language::English => { "Attempt " (failure.attempt) " failed" }
                }
                @let line = rows::short(&failure.error);
                @if line == failure.error { ": " code { (line) } } @else {
                    details { summary { code { (line) } } pre.bad { (cut(&failure.error)) } }
                }
            },
        ));
    }
    // Of a worker that keeps no list, the last one is known.
    if let (true, Some(at)) = (info.failures.is_empty(), job.last_failed_at) {
        events.push((at, html! { (say(language, "試行が失敗", "An attempt failed")) }));
    }
    let mut note = |at: Option<Timestamp>, japanese, english| {
        if let Some(at) = at {
            events.push((at, html! { (say(language, japanese, english)) }));
        }
    };
    note(info.pending_since, "待機開始", "In line");
    note(info.worker.as_ref().and_then(|worker| worker.started), "試行を開始", "Attempt began");
    note(info.grouped_since, "グループに参加", "Joined its group");
    note(info.archived_at, "アーカイブ", "Archived");
    note(job.completed_at, "完了", "Completed");
    note(info.due, "次の試行の予定", "Next attempt due");
    note(job.deadline, "期限", "Deadline");
    note(info.expires, "削除予定", "To be removed");
    // Some instants are whole seconds: within one, what was noted first comes first.
    events.sort_by_key(|(at, _)| at.as_secs());
    html! {
        @if events.len() > 1 || !info.failures.is_empty() {
            section {
                h2 { (say(language, "経過", "Timeline")) }
                ol.timeline {
                    @for (at, what) in &events {
                        li class=[(*at > now).then_some("later")] { (instant(language, now, Some(*at))) div { (what) } }
                    }
                }
            }
        }
    }
}

fn editable(state: JobState) -> bool {
    matches!(state, JobState::Pending | JobState::Scheduled | JobState::Retry | JobState::Archived)
}

fn actions(language: Language, here: &str, state: JobState) -> Markup {
    use JobState::{Active, Aggregating, Archived, Completed, Pending, Retry, Scheduled};
    let to = |verb: &str| format!("{here}/{verb}");
    html! {
        @if matches!(state, Scheduled | Retry | Archived | Completed | Aggregating) {
            (layout::button(&to("run"), say(language, "今すぐ実行", "Run now"), None))
        }
        @if state == Active {
            (layout::button(&to("cancel"), say(language, "キャンセル", "Cancel"), Some(say(
                language,
                "この試行を終了し、ジョブをアーカイブします。",
                "Ends this attempt and archives the job.",
            ))))
        }
        @if matches!(state, Pending | Scheduled | Retry | Archived) {
            details.sure {
                summary.small { (say(language, "予定を変更", "Reschedule")) }
                div {
                    form.action method="post" action=(to("reschedule")) {
                        label for="delay" { (say(language, "今から（秒）", "Seconds from now")) }
                        input #delay name="delay_seconds" inputmode="numeric" value="60" required;
                        button.small type="submit" { (say(language, "予定を変更", "Reschedule")) }
                    }
                }
            }
        }
        @if matches!(state, Pending | Scheduled | Retry | Completed | Aggregating) {
            (layout::button(&to("archive"), say(language, "アーカイブ", "Archive"), None))
        }
        (layout::button(&to("duplicate"), say(language, "複製", "Duplicate"), None))
        @if state != Active {
            (layout::button(&to("delete"), say(language, "削除", "Delete"), Some(say(
                language,
                "削除したジョブは元に戻せません。",
                "A deleted job cannot be brought back.",
            ))))
        }
    }
}

/// The form to change the payload with, where it is asked for and can be whole in it.
fn edit(language: Language, here: &str, payload: &[u8], asked: bool) -> Markup {
    let (Ok(text), false) = (std::str::from_utf8(payload), payload.len() > payload::WHOLE) else {
        return html! {};
    };
    if !asked {
        return html! {
            p { a href={ (here) "?edit=payload" } { (say(language, "ペイロードを編集", "Edit payload")) } }
        };
    }
    html! {
        form method="post" action={ (here) "/edit" } {
            label for="payload" { "JSON" }
            // A browser leaves out one line break at the beginning.
            textarea #payload name="payload" rows="8" spellcheck="false" { "\n" (text) }
            button.small type="submit" { (say(language, "保存", "Save")) }
            " " a href=(here) { (say(language, "戻る", "Back")) }
        }
    }
}

/// The first headers; all of them can be downloaded.
fn headers(language: Language, here: &str, info: &JobInfo) -> Markup {
    let headers = &info.record.headers;
    let more = headers.len() > MOST_HEADERS
        || headers.iter().any(|(name, value)| name.len() + value.len() > LONGEST_HEADER);
    html! {
        div.card.facts { dl {
            @for (name, value) in headers.iter().take(MOST_HEADERS) {
                (fact(&cut(name), html! { code { (cut(value)) } }))
            }
        } }
        @if more {
            p.hint {
                (headers.len()) " " (say(language, "件のヘッダー", "headers")) ". "
                a href={ (here) "/headers" } download { (say(language, "ダウンロード", "Download")) }
            }
        }
    }
}

/// A text that has its place among others.
fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST_HEADER) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// A part of a job, as it is stored.
#[get("/ui/jobs/<name>/<id>/<part>")]
async fn download(
    _access: ViewAccess,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
    id: &str,
    part: &str,
) -> Result<Download, Page> {
    let found = async {
        let part = Part::parse(part).ok_or_else(|| Error::not_found("a job has no such part"))?;
        let (known, id) = (name.parse()?, id.parse()?);
        let info = queue.redacted_inspector().job(&known, &id).await?;
        let info = info.ok_or_else(|| Error::not_found("there is no such job"))?;
        Ok(Download { name: part.name(), bytes: part.of(&info) })
    };
    found.await.map_err(|error| layout::trouble(&reader, queue, &error))
}

#[get("/ui/find?<id>&<after>")]
async fn find(
    _access: ViewAccess,
    queue: &JobQueue,
    reader: Reader,
    id: Option<&str>,
    after: Option<&str>,
) -> Result<Redirect, Page> {
    let found = async {
        let id: JobId = id.unwrap_or_default().trim().parse()?;
        let after = after.filter(|after| !after.is_empty()).map(str::parse).transpose()?;
        let found = queue.redacted_inspector().find_after(&id, after.as_ref()).await?;
        Ok((id, found))
    };
    let (id, found) = match found.await {
        Ok(found) => found,
        Err(error) => return Err(layout::trouble(&reader, queue, &error)),
    };
    if let Some(info) = found.jobs.first() {
        let (name, id) = (info.record.queue.printable(), info.record.id.as_str());
        return match layout::job_path(&reader, &name, id) {
            Some(path) => Ok(layout::back(path)),
            None => Err(layout::missing(&reader, queue, &layout::too_long(reader.language, id))),
        };
    }
    let none = say(reader.language, "このIDのジョブはありません。", "No job has this id.");
    let Some(next) = found.next else { return Err(layout::missing(&reader, queue, none)) };
    let to = format!(
        "{}/ui/find?id={}&after={}",
        reader.base,
        escaped(id.as_str()),
        escaped(&next.printable())
    );
    let content = html! {
        div.card { p { (say(
            reader.language,
            "ここまでのキューには、このIDのジョブはありません。",
            "None of the queues so far has a job with this id.",
        )) } }
        p.more { a href=(to) { (say(reader.language, "続きを検索", "Search the next queues")) } }
    };
    let title = say(reader.language, "見つかりません", "Not found");
    let page = layout::page(&reader, queue, layout::Place::Elsewhere, title, content);
    Err(Page(Status::NotFound, page))
}

#[post("/ui/jobs/<name>/<id>/<verb>", data = "<body>")]
#[expect(clippy::too_many_arguments, reason = "a route's guards are its arguments")]
async fn act(
    _access: ActAccess,
    _origin: SameOrigin,
    asked: Asked,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
    id: &str,
    verb: &str,
    body: Data<'_>,
) -> Result<Redirect, Page> {
    let base = &reader.base;
    let form = match read_bytes(body, LARGEST.into()).await {
        Ok(bytes) => form_pairs(&String::from_utf8_lossy(&bytes)).collect::<Vec<_>>(),
        Err(problem) => return Err(layout::refused(&reader, queue, &problem)),
    };
    let text =
        |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, text)| text.as_str());
    // Where a job was made of it: that one.
    let mut made = None;
    let done = async {
        let (inspector, known, job) = (queue.redacted_inspector(), name.parse()?, id.parse()?);
        match verb {
            "duplicate" => {
                made = Some(inspector.duplicate(&known, &job).await?);
                Ok(())
            }
            "run" => inspector.run(&known, &job).await,
            "archive" => inspector.archive(&known, &job).await,
            "delete" => inspector.delete(&known, &job).await,
            "cancel" => match inspector.cancel(&known, &job, AfterCancel::Archive).await? {
                Cancelled::NotRunning(state) => Err(Error::wrong_state(format!(
                    "job {job:?} is {state}: there is no attempt to end"
                ))),
                Cancelled::Requested | Cancelled::Done => Ok(()),
            },
            "reschedule" => {
                let seconds = text("delay_seconds").trim().parse::<u64>().ok();
                let seconds = seconds.filter(|seconds| *seconds <= MOST_DELAY_SECONDS);
                let seconds = seconds.ok_or_else(|| {
                    Error::invalid(format!(
                        "delay_seconds: expected a whole number from 0 to {MOST_DELAY_SECONDS}"
                    ))
                })?;
                let placement = Placement::After(Duration::from_secs(seconds));
                inspector.reschedule(&known, &job, placement).await
            }
            "edit" => {
                // A form's lines end as those of the oldest terminals did.
                let payload = text("payload").replace("\r\n", "\n");
                if let Err(error) = serde_json::from_str::<IgnoredAny>(&payload) {
                    return Err(Error::invalid(format!("payload: expected JSON: {error}")));
                }
                inspector.edit_payload(&known, &job, payload).await
            }
            _ => Err(Error::not_found("there is no such action")),
        }
    };
    match done.await {
        Ok(()) => {
            audit(&asked, verb, name, id);
            let id = made.as_ref().map_or(id, JobId::as_str);
            let (name, id) = (escaped(name), escaped(id));
            Ok(layout::back(match verb {
                "delete" => format!("{base}/ui/queues/{name}?done=delete"),
                _ => format!("{base}/ui/jobs/{name}/{id}?done={}", escaped(verb)),
            }))
        }
        Err(error) => Err(layout::trouble(&reader, queue, &error)),
    }
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![show, download, find, act]
}
