//! What operators did by REST and pages, the newest first: for administrators only, because it names
//! people.

use maud::{Markup, html};
use rocket::{Route, get, routes};

use crate::broker::AuditEntry;
use crate::time::Timestamp;
use crate::web::api::page as page_of;
use crate::web::dashboard::ui::parts::{empty, instant, more};
use crate::web::dashboard::ui::table::{Cell, Row, TableKind, table};
use crate::web::dashboard::ui::{HtmlPage, NavPage, Site, Texts};
use crate::web::guards::AuditAccess;

/// Entries of a page.
const PAGE_ENTRIES: usize = 100;

/// A page of the last 1,000 actions.
#[get("/ui/audit?<page>")]
async fn show(_access: AuditAccess, site: Site<'_>, page: Option<&str>) -> HtmlPage {
    let texts = site.texts();
    let size = PAGE_ENTRIES.to_string();
    let number = match page_of(page, Some(&size), None) {
        Ok(number) => number,
        Err(refused) => return site.refused(&refused.0),
    };
    let entries = site.inspector().audit(&number).await;
    let next = page.and_then(|page| page.parse().ok()).unwrap_or(1_u32).saturating_add(1);
    let content = entries.map(|entries| {
        let is_full = entries.len() == PAGE_ENTRIES;
        html! {
            (list(texts, site.queue.now(), &entries))
            @if is_full {
                (more(&format!("{}/ui/audit?page={next}", site.reader.base), texts.next_page))
            }
        }
    });
    site.respond(NavPage::Audit, texts.audit_title, content)
}

/// The table.
fn list(texts: &Texts, now: Timestamp, entries: &[AuditEntry]) -> Markup {
    if entries.is_empty() {
        return empty(texts.audit_none);
    }
    let columns = [
        texts.when,
        texts.audit_actor,
        texts.audit_action,
        texts.queue,
        texts.audit_what,
        texts.audit_from,
    ];
    let row = |entry: &AuditEntry| {
        let cells = vec![
            Cell::Value(html! { (entry.actor.as_deref().unwrap_or("–")) }),
            Cell::Value(html! { (entry.action) }),
            Cell::Value(html! { (entry.queue) }),
            Cell::Value(html! { (entry.what) }),
            Cell::Value(html! { (entry.from) }),
        ];
        Row::new(instant(texts, now, Some(entry.at)), cells)
    };
    let rows: Vec<Row> = entries.iter().map(row).collect();
    table(TableKind::Plain, texts.audit_title, &columns, &rows)
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}
