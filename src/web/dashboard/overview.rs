//! The overview: every queue with its jobs by state, and the way to the other
//! pages. It asks the store and shows; it changes nothing.

use maud::{Markup, html};
use rocket::http::Status;
use rocket::{Route, get, routes};

use crate::broker::QueueInfo;
use crate::job::{JobState, QueueName};
use crate::web::JobQueue;
use crate::web::dashboard::{Language, Page, Reader, view};
use crate::web::error::ProblemDetails;
use crate::web::guards::AdminAccess;

#[get("/ui")]
async fn show(_access: AdminAccess, queue: &JobQueue, reader: Reader) -> Page {
    let (status, content) = match queue.all_queues().await {
        Ok(queues) => (Status::Ok, table(reader.language, &queues)),
        Err(error) => {
            let problem = ProblemDetails::of(&error, "Failed to read the job queue");
            (problem.status(), view::trouble(reader.language, &problem))
        }
    };
    Page(status, view::frame(&reader, words(reader.language).title, page(&reader, queue, content)))
}

fn page(reader: &Reader, queue: &JobQueue, content: Markup) -> Markup {
    let words = words(reader.language);
    let (base, config) = (&reader.base, queue.config());
    let docs = cfg!(feature = "openapi") && config.openapi && config.docs;
    html! {
        main.broad {
            header { h1 { (words.title) } }
            nav aria-label=(words.pages) {
                a href={ (base) "/ui" } { (words.refresh) }
                @if config.register_route { a href={ (base) "/ui/register" } { (words.register) } }
                @if docs { a href={ (base) "/docs" } { "API" } }
            }
            (content)
        }
    }
}

fn table(language: Language, queues: &[(QueueName, QueueInfo)]) -> Markup {
    let words = words(language);
    if queues.is_empty() {
        return html! { div.card { p { (words.empty) } } };
    }
    html! {
        div.card.wide tabindex="0" role="region" aria-label=(words.queue) {
            table {
                thead {
                    tr {
                        th scope="col" { (words.queue) }
                        @for state in JobState::ALL { th scope="col" { (state_word(language, state)) } }
                        th scope="col" { (words.processed) }
                        th scope="col" { (words.failed) }
                    }
                }
                tbody {
                    @for (name, info) in queues {
                        tr {
                            th scope="row" {
                                (name)
                                @if info.paused { " " span.tag { (words.paused) } }
                            }
                            @for state in JobState::ALL {
                                @let jobs = info.sizes.get(state.as_str()).copied();
                                (cell(state_word(language, state), jobs.unwrap_or_default()))
                            }
                            (cell(words.processed, info.processed_today))
                            (cell(words.failed, info.failed_today))
                        }
                    }
                }
            }
        }
    }
}

/// A number that carries its column's name, for screens without room for columns.
fn cell(label: &str, number: u64) -> Markup {
    html! { td data-label=(label) { (number) } }
}

/// The words of one language.
struct Words {
    title: &'static str,
    pages: &'static str,
    refresh: &'static str,
    register: &'static str,
    empty: &'static str,
    queue: &'static str,
    processed: &'static str,
    failed: &'static str,
    paused: &'static str,
}

fn words(language: Language) -> Words {
    match language {
        Language::Japanese => Words {
            title: "ジョブキュー",
            pages: "ページ",
            refresh: "再読み込み",
            register: "ジョブを登録（参考コード）",
            empty: "キューはまだありません。最初のジョブを登録すると表示されます。",
            queue: "キュー",
            processed: "本日の処理数",
            failed: "本日の失敗数",
            paused: "停止中",
        },
        Language::English => Words {
            title: "Job queue",
            pages: "Pages",
            refresh: "Refresh",
            register: "Register a job (reference code)",
            empty: "There is no queue yet; the first job makes one.",
            queue: "Queue",
            processed: "Processed today",
            failed: "Failed today",
            paused: "paused",
        },
    }
}

fn state_word(language: Language, state: JobState) -> &'static str {
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

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}
