//! The doctor: everything in the store that no operation leaves behind, and its repair.
//!
//! The check is the same as `GET {base}/doctor`. A repair tests each entry again in the
//! step that changes it, so it is safe beside running workers.

use maud::{Markup, html};
use rocket::{Route, get, post, routes};

use crate::broker::{Finding, FindingStatus};
use crate::inspector::DoctorReport;
use crate::web::dashboard::ui::access::FormResult;
use crate::web::dashboard::ui::form::FormBody;
use crate::web::dashboard::ui::parts::{empty, question};
use crate::web::dashboard::ui::table::{Cell, Row, TableKind, table};
use crate::web::dashboard::ui::{Act, Deed, HtmlPage, NavPage, Reader, View, layout};

/// Reads every queue, which takes minutes with many jobs: the request gives up its turn to
/// read, and one run of the doctor is admitted at a time.
#[get("/ui/doctor?<done>")]
async fn show(view: View<'_>, done: Option<&str>) -> HtmlPage {
    let View { access, site } = view;
    let found = async {
        let _permit = site.queue.doctor_run(access)?;
        site.inspector().doctor().await
    };
    let texts = site.texts();
    let content = found.await.map(|found| {
        html! {
            (layout::notice(texts, done))
            // A run takes long, so the page is not fetched again by itself.
            div data-report { (report(&site.reader, &found)) }
        }
    });
    site.respond(NavPage::Elsewhere, texts.doctor_title, content)
}

/// What was checked, and a table of findings with the button for the repair.
fn report(reader: &Reader, found: &DoctorReport) -> Markup {
    let texts = reader.texts;
    let columns = [
        texts.finding,
        texts.queue,
        texts.finding_place,
        texts.finding_count,
        texts.finding_examples,
    ];
    html! {
        p.hint { ((texts.doctor_looked)(found.entries_checked, found.queues.len())) }
        @if found.is_healthy() {
            (empty(texts.doctor_healthy))
        } @else {
            @let rows: Vec<Row> = found.findings.iter().map(|finding| row(reader, finding)).collect();
            (table(TableKind::Jobs, texts.finding, &columns, &rows))
            div.actions {
                (question(
                    texts,
                    &format!("{}/ui/doctor", reader.base),
                    Deed::RepairStore,
                    (texts.deed)(Deed::RepairStore).consequence,
                ))
            }
        }
    }
}

/// A finding: what, in which queue, where, how often, and some ids.
fn row(reader: &Reader, finding: &Finding) -> Row {
    let texts = reader.texts;
    let head = html! {
        ((texts.finding_name)(finding.kind))
        @if finding.status == FindingStatus::Repaired { " " span.tag { (texts.repaired) } }
    };
    let queue = html! {
        @if let Some(queue) = &finding.queue {
            a href=(reader.queue(queue)) { (queue) }
        } @else { "–" }
    };
    let cells = vec![
        Cell::Value(queue),
        Cell::Value(html! { (finding.place) }),
        Cell::Value(html! { (finding.count) }),
        Cell::Error(html! { (finding.samples.join(", ")) }),
    ];
    Row::long(head, cells)
}

/// Examines again and repairs, then shows the doctor's page.
#[post("/ui/doctor", data = "<body>")]
async fn repair(act: Act<'_>, body: FormBody<'_>) -> FormResult {
    act.expect_no_fields(body).await?;
    act.redirect(act.site.inspector().doctor().repair().await.map(|found| {
        act.audit("store repaired", "", &found.repaired().to_string());
        "/ui/doctor?done=repair".to_owned()
    }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show, repair]
}
