//! Jobs of all queues and states, found by a search (see `search`), with actions on the selected
//! jobs or on all that match.
//!
//! One page has up to 100 jobs from all lists that match. If a list has more, the page links to
//! it on the queue's own page, which has cursors.

use maud::{Markup, html};
use rocket::http::Status;
use rocket::{Route, get, routes};

use super::selected;
use crate::error::Error;
use crate::inspector::Filter;
use crate::web::dashboard::search::{Query, SearchResult, search};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::{HtmlPage, NavPage, Reader, View, job_table, layout};

/// The results of a search; all jobs without one. An invalid search is 422 and finds nothing.
#[get("/ui/jobs?<q>&<done>&<count>&<left>")]
async fn show(
    view: View<'_>,
    q: Option<&str>,
    done: Option<&str>,
    count: Option<u64>,
    left: Option<u64>,
) -> HtmlPage {
    let site = &view.site;
    let (reader, texts) = (&site.reader, site.texts());
    let text = q.unwrap_or_default().trim();
    let found = async {
        let query = Query::parse(text)?;
        Ok((search(site.queue, &query).await?, query))
    };
    match found.await {
        Err(error) if Error::is_invalid(&error) => {
            // Nothing is listed, so nothing can be acted upon.
            let content = html! {
                (form(reader, text))
                div.notice.bad role="alert" { p { (texts.search_wrong) } p { (error) } }
            };
            site.page(Status::UnprocessableEntity, NavPage::Jobs, texts.jobs_title, content)
        }
        found => {
            let content = found.map(|(found, query)| {
                html! {
                    @if let Some(count) = count { (layout::counted(texts, done, count)) }
                    @if let Some(left) = left.filter(|left| *left > 0) {
                        div.notice.bad role="status" { p { (left) " " (texts.left_alone) } }
                    }
                    (form(reader, text))
                    (job_table::choice(reader, site.queue.now(), &found.rows, selected::FORM))
                    @if !found.rows.is_empty() { (selected::buttons(reader, text)) }
                    (more(reader, &query.filter, &found))
                }
            });
            site.respond(NavPage::Jobs, texts.jobs_title, content)
        }
    }
}

/// The search field, with the filters below it.
fn form(reader: &Reader, text: &str) -> Markup {
    let texts = reader.texts;
    html! {
        form.search method="get" action={ (reader.base) "/ui/jobs" } role="search" {
            div {
                label for="q" { (texts.search_label) }
                input #q name="q" type="search" value=(text) aria-describedby="q-hint"
                    placeholder="state:archived type:mail:send error:timeout";
            }
            button.small type="submit" { (texts.search) }
            p.hint #q-hint { (texts.search_hint) }
        }
    }
}

/// Links to the lists that have more jobs of this search, on their queues' pages. Such a page
/// has one text filter, so of several the most general one goes along.
fn more(reader: &Reader, filter: &Filter, found: &SearchResult) -> Markup {
    let texts = reader.texts;
    let text = filter.text.as_ref().or(filter.error.as_ref()).or(filter.id.as_ref());
    html! {
        @if !found.more.is_empty() {
            p.more {
                (texts.more_in) " "
                @for (nth, (name, state)) in found.more.iter().enumerate() {
                    @if nth > 0 { ", " }
                    a href={ (reader.queue(name)) "?state=" (state.as_str())
                        "&type=" (escaped(filter.job_type.as_deref().unwrap_or_default()))
                        "&search=" (escaped(text.map_or("", String::as_str))) } {
                        (name) " (" ((texts.state_name)(*state)) ")"
                    }
                }
            }
        }
    }
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}
