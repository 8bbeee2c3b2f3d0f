//! The worker processes, this crate's and Go's, and the jobs they have in flight.
//!
//! Processes announce themselves every 5 s, so a job or a process may be missing for that long, and
//! one that died is shown until its announcement expires.

use maud::{Markup, html};
use rocket::{Route, get, routes};

use crate::broker::{ServerInfo, Servers};
use crate::time::Timestamp;
use crate::web::dashboard::ui::parts::{empty, instant, job_link};
use crate::web::dashboard::ui::table::{Cell, Row, TableKind, table};
use crate::web::dashboard::ui::{HtmlPage, NavPage, Reader, Texts, View};

/// All worker processes that have announced themselves within their expiry.
#[get("/ui/servers")]
async fn show(view: View<'_>) -> HtmlPage {
    let site = &view.site;
    let servers = site.inspector().servers().await;
    let content = servers.map(|servers| workers(&site.reader, site.queue.now(), &servers));
    site.respond(NavPage::Servers, site.texts().workers_title, content)
}

/// The table, and below it the jobs in flight of each process.
fn workers(reader: &Reader, now: Timestamp, servers: &Servers) -> Markup {
    let texts = reader.texts;
    if servers.servers.is_empty() {
        return empty(texts.workers_none);
    }
    let columns =
        [texts.process, texts.process_status, texts.running_jobs, texts.queues, texts.started];
    let rows: Vec<Row> = servers.servers.iter().map(|server| row(texts, now, server)).collect();
    html! {
        (table(TableKind::Plain, texts.process, &columns, &rows))
        @for server in servers.servers.iter().filter(|server| !server.running.is_empty()) {
            h2 { (server.host) ":" (server.pid) }
            @if server.more_running > 0 {
                p.hint { (texts.more_running) (server.more_running) }
            }
            ul.running {
                @for job in &server.running {
                    li {
                        (job_link(reader, &job.queue, &job.id, html! {
                            (job.job_type) " " code { (job.id) }
                        }))
                        " " (instant(texts, now, job.started))
                    }
                }
            }
        }
    }
}

/// A process with its queues and their weights.
fn row(texts: &Texts, now: Timestamp, server: &ServerInfo) -> Row {
    let queues = html! {
        @for (nth, (name, weight)) in server.queues.iter().enumerate() {
            @if nth > 0 { ", " } (name) "=" (weight)
        }
    };
    let running = server.running.len() as u64 + server.more_running;
    let cells = vec![
        Cell::Value(html! { (server.status) }),
        Cell::Value(html! { (running) " / " (server.concurrency) }),
        Cell::Value(queues),
        Cell::Value(instant(texts, now, server.started)),
    ];
    Row::new(html! { (server.host) ":" (server.pid) }, cells)
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}
