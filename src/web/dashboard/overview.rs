//! The overview: every queue with its jobs by state, and the way to the other
//! pages. It asks the store and shows; it changes nothing.

use maud::{Markup, html};
use rocket::http::Status;
use rocket::{Route, get, routes};

use super::layout::{self, Place, escaped, say, state_word};
use super::{Page, Reader};
use crate::broker::QueueSummary;
use crate::job::JobState;
use crate::web::JobQueue;
use crate::web::guards::ViewAccess;

#[get("/ui")]
async fn show(_access: ViewAccess, queue: &JobQueue, reader: Reader) -> Page {
    let language = reader.language;
    match queue.shown().all_queues().await {
        Ok(queues) => {
            let title = say(language, "ジョブキュー", "Job queue");
            let content = table(&reader, &queues);
            Page(Status::Ok, layout::page(&reader, queue, Place::Overview, title, content))
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

fn table(reader: &Reader, queues: &[QueueSummary]) -> Markup {
    let language = reader.language;
    if queues.is_empty() {
        let none = say(
            language,
            "キューはまだありません。最初のジョブを登録すると表示されます。",
            "There is no queue yet; the first job makes one.",
        );
        return html! { div.card { p { (none) } } };
    }
    let title = say(language, "キュー", "Queue");
    let waited = say(language, "最長待ち時間", "Next has waited");
    let processed = say(language, "本日の処理数", "Processed today");
    let failed = say(language, "本日の失敗数", "Failed today");
    html! {
        div.card.wide tabindex="0" role="region" aria-label=(title) {
            table {
                thead {
                    tr {
                        th scope="col" { (title) }
                        @for state in JobState::ALL { th scope="col" { (state_word(language, state)) } }
                        @for label in [waited, processed, failed] { th scope="col" { (label) } }
                    }
                }
                tbody {
                    @for QueueSummary { queue, info, problem, .. } in queues {
                        tr {
                            th scope="row" {
                                a href={ (reader.base) "/ui/queues/" (escaped(queue.as_str())) } { (queue) }
                                @if info.as_ref().is_some_and(|info| info.paused) {
                                    " " span.tag { (say(language, "停止中", "paused")) }
                                }
                            }
                            @if let Some(info) = info {
                                @for state in JobState::ALL {
                                    @let jobs = info.sizes.get(state.as_str()).copied();
                                    (cell(state_word(language, state), jobs.unwrap_or_default()))
                                }
                                td data-label=(waited) { (layout::span(info.latency)) }
                                (cell(processed, info.processed_today))
                                (cell(failed, info.failed_today))
                            } @else {
                                td.error colspan="10" { (problem.as_deref().unwrap_or_default()) }
                            }
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

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}
