//! The periodic jobs that running processes announce, and a run by hand.
//!
//! A process announces its periodic jobs while it runs, so a job that no running process has is
//! not on the page.

use maud::{Markup, html};
use rocket::{Route, get, post, routes};

use crate::broker::PeriodicJobInfo;
use crate::job::JobId;
use crate::time::Timestamp;
use crate::web::dashboard::ui::access::FormResult;
use crate::web::dashboard::ui::form::FormBody;
use crate::web::dashboard::ui::parts::{button, empty, instant, short_type};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::table::{Cell, Row, TableKind, table};
use crate::web::dashboard::ui::{Act, Deed, HtmlPage, NavPage, Reader, View, layout};

/// The table of periodic jobs of all processes.
#[get("/ui/periodic?<done>&<job>")]
async fn show(view: View<'_>, done: Option<&str>, job: Option<&str>) -> HtmlPage {
    let site = &view.site;
    let texts = site.texts();
    let content = site.inspector().periodic_jobs().await.map(|periodic| {
        html! {
            @if let (Some("fire"), Some(job)) = (done, job) {
                div.notice role="status" {
                    p {
                        (texts.done_run_periodic) " "
                        a href={ (site.reader.base) "/ui/find?id=" (escaped(job)) } { code { (job) } }
                    }
                }
            } @else {
                (layout::notice(texts, done))
            }
            (list(&site.reader, site.queue.now(), &periodic))
        }
    });
    site.respond(NavPage::Periodic, texts.periodic_title, content)
}

/// One row for each periodic job: type, schedule, queue, next and last run, and a button.
fn list(reader: &Reader, now: Timestamp, periodic: &[PeriodicJobInfo]) -> Markup {
    let texts = reader.texts;
    if periodic.is_empty() {
        return empty(texts.periodic_none);
    }
    let columns = [texts.job_type, texts.schedule, texts.queue, texts.next_run, texts.last_run, ""];
    let row = |periodic: &PeriodicJobInfo| {
        let id = JobId::stored(&periodic.id);
        let run = format!("{}/ui/periodic/{}/run", reader.base, escaped(id.as_str()));
        let cells = vec![
            Cell::Value(html! { code { (periodic.spec) } }),
            Cell::Value(html! { (periodic.queue) }),
            Cell::Value(instant(texts, now, periodic.next)),
            Cell::Value(instant(texts, now, periodic.prev)),
            Cell::Button(button(texts, &run, Deed::RunPeriodic)),
        ];
        Row::new(html! { (short_type(&periodic.job_type)) }, cells)
    };
    table(TableKind::Plain, texts.job_type, &columns, &periodic.iter().map(row).collect::<Vec<_>>())
}

/// Enqueues one job as the next run would; the schedule does not change.
#[post("/ui/periodic/<id>/run", data = "<body>")]
async fn run(act: Act<'_>, id: &str, body: FormBody<'_>) -> FormResult {
    act.expect_no_fields(body).await?;
    act.redirect(act.site.inspector().fire(id).await.map(|job| {
        act.audit("periodic job run now", id, job.as_str());
        format!("/ui/periodic?done=fire&job={}", escaped(job.as_str()))
    }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show, run]
}
