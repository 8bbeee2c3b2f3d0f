//! What all operator pages share: the way between them, small parts, and how times and
//! lengths of time read.

use std::time::Duration;

use maud::{Markup, html};
use rocket::http::{RawStr, Status};

use super::{Language, Page, Reader, view};
use crate::error::Error;
use crate::job::JobState;
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::error::ProblemDetails;

/// The longest path of a page that is linked to. HTTP servers take addresses of up to 64 KiB;
/// below a job's page are its actions.
const LONGEST_PATH: usize = 60_000;

/// How much is shown of an id that is too long for a link, in characters.
const LONG_ID_SHOWN: usize = 64;

/// The pages that the navigation names.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    Overview,
    Jobs,
    Failures,
    Scheduled,
    Periodic,
    Groups,
    Servers,
    Store,
    Enqueue,
    /// A page below one of these.
    Elsewhere,
}

/// The one of two wordings in the reader's language.
pub(super) fn say(
    language: Language,
    japanese: &'static str,
    english: &'static str,
) -> &'static str {
    match language {
        Language::Japanese => japanese,
        Language::English => english,
    }
}

/// A page for operators.
pub(super) fn page(
    reader: &Reader,
    queue: &JobQueue,
    place: Place,
    title: &str,
    content: Markup,
) -> Markup {
    let (base, language, config) = (&reader.base, reader.language, queue.config());
    let docs = cfg!(feature = "openapi") && config.openapi && config.docs;
    let link = |to: Place, path: &str, words: &str| {
        html! { a href={ (base) (path) } aria-current=[(to == place).then_some("page")] { (words) } }
    };
    let body = html! {
        main.broad {
            nav aria-label=(say(language, "ページ", "Pages")) {
                (link(Place::Overview, "/ui", say(language, "概要", "Overview")))
                (link(Place::Jobs, "/ui/jobs", say(language, "ジョブ検索", "Jobs")))
                (link(Place::Failures, "/ui/failures", say(language, "失敗", "Failures")))
                (link(Place::Scheduled, "/ui/scheduled", say(language, "予定", "Scheduled")))
                (link(Place::Periodic, "/ui/periodic", say(language, "定期実行", "Periodic")))
                (link(Place::Groups, "/ui/groups", say(language, "グループ", "Groups")))
                (link(Place::Servers, "/ui/servers", say(language, "ワーカー", "Workers")))
                (link(Place::Store, "/ui/store", say(language, "ストア", "Store")))
                (link(Place::Enqueue, "/ui/enqueue", say(language, "登録", "Enqueue")))
                form.find method="get" action={ (base) "/ui/find" } role="search" {
                    label.hidden for="find" { (say(language, "ジョブID", "Job id")) }
                    input #find name="id" type="search" placeholder=(say(language, "ジョブID", "Job id"));
                    button.small type="submit" { (say(language, "検索", "Find")) }
                }
            }
            header { h1 { (title) } }
            button.small.live type="button" hidden data-events={ (base) "/ui/events" }
                data-live=(say(language, "自動更新中", "Live"))
                data-paused=(say(language, "一時停止中", "Paused")) {}
            div data-content { (content) }
            @if docs || config.register_route {
                footer {
                    nav aria-label=(say(language, "その他", "More")) {
                        @if config.register_route {
                            a href={ (base) "/ui/register" } { (say(language, "参考コード", "Reference job")) }
                        }
                        @if docs { a href={ (base) "/docs" } { "API" } }
                    }
                }
            }
            script src={ (base) "/ui/live.js?v=" (env!("CARGO_PKG_VERSION")) } defer {}
        }
    };
    view::frame(reader, title, body)
}

/// A page that says what went wrong, with the status that it means.
pub(crate) fn trouble(reader: &Reader, queue: &JobQueue, error: &Error) -> Page {
    let problem = ProblemDetails::of_stored(error, "Failed to read the job queue");
    let title = say(reader.language, "ジョブキュー", "Job queue");
    let content = html! {
        (view::trouble(reader.language, &problem))
        @if error.is_damaged() {
            p.more {
                a href={ (reader.base) "/ui/doctor" } {
                    (say(reader.language, "データを検査", "Check the data"))
                }
            }
        }
    };
    Page(problem.status(), page(reader, queue, Place::Elsewhere, title, content))
}

/// A page about a request that could not be read.
pub(super) fn refused(reader: &Reader, queue: &JobQueue, problem: &ProblemDetails) -> Page {
    let title = say(reader.language, "ジョブキュー", "Job queue");
    let content = view::trouble(reader.language, problem);
    Page(problem.status(), page(reader, queue, Place::Elsewhere, title, content))
}

/// What an operator did, as the page after it says; any other word says nothing.
pub(super) fn notice(language: Language, done: Option<&str>) -> Markup {
    let words = match done {
        Some("run") => ("ジョブを実行待ちに移しました。", "The job runs now."),
        Some("archive") => ("ジョブをアーカイブしました。", "The job is archived."),
        Some("delete") => ("ジョブを削除しました。", "The job is deleted."),
        Some("cancel") => ("キャンセルを要求しました。", "The job is asked to end."),
        Some("reschedule") => ("予定を変更しました。", "The job is rescheduled."),
        Some("edit") => ("ペイロードを変更しました。", "The payload is changed."),
        Some("pause") => ("キューを停止しました。", "The queue is paused."),
        Some("resume") => ("キューを再開しました。", "The queue is resumed."),
        Some("duplicate") => ("このジョブを複製しました。", "This is the duplicate."),
        Some("remove") => ("キューを削除しました。", "The queue is deleted."),
        Some("repair") => ("修復しました。", "What could be mended is mended."),
        Some("fire") => ("ジョブを登録しました。", "A job is enqueued."),
        _ => return html! {},
    };
    html! { div.notice.good role="status" { p { (say(language, words.0, words.1)) } } }
}

/// How many jobs an action was carried out on.
pub(super) fn counted(language: Language, count: Option<u64>) -> Markup {
    html! {
        @if let Some(count) = count {
            div.notice.good role="status" {
                p { (count) " " (say(language, "件のジョブを処理しました。", "jobs done.")) }
            }
        }
    }
}

/// A name and a value, within a `dl`.
pub(super) fn fact(label: &str, value: Markup) -> Markup {
    html! { div { dt { (label) } dd { (value) } } }
}

/// A button that does something. What cannot be undone opens first and asks again.
pub(super) fn button(action: &str, label: &str, sure: Option<&str>) -> Markup {
    let form = |words: &str, class: &str| {
        html! { form.action method="post" action=(action) { button.small class=(class) type="submit" { (words) } } }
    };
    match sure {
        None => form(label, "plain"),
        Some(question) => html! {
            details.sure {
                summary.small { (label) }
                div { p { (question) } (form(label, "grave")) }
            }
        },
    }
}

/// An instant: in words how far away, and in full for whoever points at it.
pub(super) fn instant(language: Language, now: Timestamp, at: Option<Timestamp>) -> Markup {
    let Some(at) = at else { return html! { "–" } };
    let text = if at > now {
        let length = span(language, at.since(now));
        match language {
            Language::Japanese => format!("{length}後"),
            Language::English => format!("in {length}"),
        }
    } else {
        let length = span(language, now.since(at));
        match language {
            Language::Japanese => format!("{length}前"),
            Language::English => format!("{length} ago"),
        }
    };
    html! { time datetime=(at) title=(at) { (text) } }
}

/// A length of time, short: two units at most.
pub(super) fn span(language: Language, length: Duration) -> String {
    let seconds = length.as_secs();
    let (day, hour, minute) = (seconds / 86_400, seconds / 3600, seconds / 60);
    match (language, seconds) {
        (Language::Japanese, 0) => format!("{}ミリ秒", length.as_millis()),
        (Language::Japanese, 1..60) => format!("{seconds}秒"),
        (Language::Japanese, 60..3600) => format!("{minute}分{}秒", seconds % 60),
        (Language::Japanese, 3600..86_400) => format!("{hour}時間{}分", minute % 60),
        (Language::Japanese, _) => format!("{day}日{}時間", hour % 24),
        (Language::English, 0) => format!("{} ms", length.as_millis()),
        (Language::English, 1..60) => format!("{seconds} s"),
        (Language::English, 60..3600) => format!("{minute} min {} s", seconds % 60),
        (Language::English, 3600..86_400) => format!("{hour} h {} min", minute % 60),
        (Language::English, _) => format!("{day} d {} h", hour % 24),
    }
}

pub(super) fn state_word(language: Language, state: JobState) -> &'static str {
    if language == Language::English {
        return state.as_str();
    }
    match state {
        JobState::Pending => "待機中",
        JobState::Active => "実行中",
        JobState::Scheduled => "予約",
        JobState::Retry => "再試行待ち",
        JobState::Archived => "アーカイブ",
        JobState::Completed => "完了",
        JobState::Aggregating => "集約待ち",
    }
}

/// A text as one segment of a path or one value of a query.
pub(super) fn escaped(text: &str) -> String {
    RawStr::new(text).percent_encode().to_string()
}

/// The path of a job's page; `None` for an id that is too long for an address.
pub(super) fn job_path(reader: &Reader, queue: &str, id: &str) -> Option<String> {
    let path = format!("{}/ui/jobs/{}/{}", reader.base, escaped(queue), escaped(id));
    (path.len() <= LONGEST_PATH).then_some(path)
}

/// A link to a job's page, if its id fits an address, or what to do about it.
pub(super) fn job_link(reader: &Reader, queue: &str, id: &str, text: Markup) -> Markup {
    match job_path(reader, queue, id) {
        Some(path) => html! { a href=(path) { (text) } },
        None => html! {
            code { (id.chars().take(LONG_ID_SHOWN).collect::<String>()) "…" }
            p.hint { (too_long(reader.language, id)) }
        },
    }
}

/// Why a job has no page of its own.
pub(super) fn too_long(language: Language, id: &str) -> String {
    let length = id.len();
    match language {
        Language::Japanese => format!(
            "IDが長すぎるため（{length}バイト）、このジョブのページはありません。\
             ジョブ検索で選択すると、実行・アーカイブ・削除できます。"
        ),
        Language::English => format!(
            "This id is too long for an address ({length} bytes), so the job has no page of its \
             own. Select it in the job search to run, archive or delete it."
        ),
    }
}

/// After a form: the page to go to.
pub(super) fn back(to: String) -> rocket::response::Redirect {
    rocket::response::Redirect::to(to)
}

/// Where nothing is.
pub(super) fn missing(reader: &Reader, queue: &JobQueue, what: &str) -> Page {
    let title = say(reader.language, "見つかりません", "Not found");
    let content = html! { div.card { p { (what) } } };
    Page(Status::NotFound, page(reader, queue, Place::Elsewhere, title, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        for (millis, english, japanese) in [
            (0, "0 ms", "0ミリ秒"),
            (999, "999 ms", "999ミリ秒"),
            (1_000, "1 s", "1秒"),
            (61_000, "1 min 1 s", "1分1秒"),
            (3_600_000, "1 h 0 min", "1時間0分"),
            (90_000_000, "1 d 1 h", "1日1時間"),
        ] {
            let length = Duration::from_millis(millis);
            assert_eq!(span(Language::English, length), english);
            assert_eq!(span(Language::Japanese, length), japanese);
        }
    }
}
