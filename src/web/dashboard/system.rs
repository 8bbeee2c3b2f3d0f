//! Who works, and what is enqueued by itself.

use maud::{Markup, html};
use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{Route, get, post, routes};

use super::layout::{self, Place, escaped, instant, say};
use super::{Page, Reader};
use crate::broker::{PeriodicJobInfo, Servers};
use crate::job::JobId;
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::{Asked, audit};
use crate::web::guards::{ActAccess, ViewAccess};
use crate::web::origin::SameOrigin;

#[get("/ui/servers")]
async fn servers(_access: ViewAccess, queue: &JobQueue, reader: Reader) -> Page {
    match queue.redacted_inspector().servers().await {
        Ok(servers) => {
            let content = workers(&reader, queue.now(), &servers);
            let title = say(reader.language, "ワーカー", "Workers");
            Page(Status::Ok, layout::page(&reader, queue, Place::Servers, title, content))
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

fn workers(reader: &Reader, now: Timestamp, servers: &Servers) -> Markup {
    let language = reader.language;
    if servers.servers.is_empty() {
        let none = say(language, "稼働中のワーカーはありません。", "No worker process is running.");
        return html! { div.card { p { (none) } } };
    }
    let labels = [
        say(language, "プロセス", "Process"),
        say(language, "状態", "Status"),
        say(language, "実行中", "Running"),
        say(language, "キュー", "Queues"),
        say(language, "開始", "Started"),
    ];
    html! {
        div.card.wide tabindex="0" role="region" aria-label=(labels[0]) {
            table {
                thead { tr { @for label in labels { th scope="col" { (label) } } } }
                tbody {
                    @for server in &servers.servers {
                        tr {
                            th scope="row" { (server.host) ":" (server.pid) }
                            td data-label=(labels[1]) { (server.status) }
                            td data-label=(labels[2]) { (server.running.len() as u64 + server.more_running) " / " (server.concurrency) }
                            td data-label=(labels[3]) {
                                @for (nth, (name, weight)) in server.queues.iter().enumerate() {
                                    @if nth > 0 { ", " } (name) "=" (weight)
                                }
                            }
                            td data-label=(labels[4]) { (instant(language, now, server.started)) }
                        }
                    }
                }
            }
        }
        @for server in servers.servers.iter().filter(|server| !server.running.is_empty()) {
            h2 { (server.host) ":" (server.pid) }
            @if server.more_running > 0 {
                p.hint {
                    (say(language, "表示されていないジョブ: ", "Running jobs that are not shown: "))
                    (server.more_running)
                }
            }
            ul.running {
                @for job in &server.running {
                    li {
                        (layout::job_link(reader, &job.queue.printable(), job.id.as_str(), html! {
                            (job.job_type) " " code { (job.id) }
                        }))
                        " " (instant(language, now, job.started))
                    }
                }
            }
        }
    }
}

#[get("/ui/periodic?<done>")]
async fn schedules(
    _access: ViewAccess,
    queue: &JobQueue,
    reader: Reader,
    done: Option<&str>,
) -> Page {
    let language = reader.language;
    match queue.redacted_inspector().periodic_jobs().await {
        Ok(entries) => {
            let content = html! {
                (layout::notice(language, done))
                (table(&reader, queue.now(), &entries))
            };
            let title = say(language, "定期実行", "Periodic jobs");
            Page(Status::Ok, layout::page(&reader, queue, Place::Periodic, title, content))
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

fn table(reader: &Reader, now: Timestamp, entries: &[PeriodicJobInfo]) -> Markup {
    let language = reader.language;
    if entries.is_empty() {
        let none =
            say(language, "定期実行の設定はありません。", "No process has periodic entries.");
        return html! { div.card { p { (none) } } };
    }
    let labels = [
        say(language, "タイプ", "Type"),
        say(language, "設定", "Specification"),
        say(language, "キュー", "Queue"),
        say(language, "次回", "Next"),
        say(language, "前回", "Last"),
        "",
    ];
    html! {
        div.card.wide tabindex="0" role="region" aria-label=(labels[0]) {
            table {
                thead { tr { @for label in labels { th scope="col" { (label) } } } }
                tbody {
                    @for entry in entries {
                        tr {
                            th scope="row" { (entry.job_type) }
                            td data-label=(labels[1]) { code { (entry.spec) } }
                            td data-label=(labels[2]) { (entry.queue) }
                            td data-label=(labels[3]) { (instant(language, now, entry.next)) }
                            td data-label=(labels[4]) { (instant(language, now, entry.prev)) }
                            td { (layout::button(
                                &format!("{}/ui/periodic/{}/run", reader.base, escaped(JobId::stored(&entry.id).as_str())),
                                say(language, "今すぐ実行", "Run now"),
                                None,
                            )) }
                        }
                    }
                }
            }
        }
    }
}

#[post("/ui/periodic/<id>/run")]
async fn fire(
    _access: ActAccess,
    _origin: SameOrigin,
    asked: Asked,
    queue: &JobQueue,
    reader: Reader,
    id: &str,
) -> Result<Redirect, Page> {
    match queue.redacted_inspector().fire(id).await {
        Ok(job) => {
            audit(&asked, "periodic entry run now", id, job.as_str());
            Ok(layout::back(format!("{}/ui/periodic?done=fire", reader.base)))
        }
        Err(error) => Err(layout::trouble(&reader, queue, &error)),
    }
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![servers, schedules, fire]
}
