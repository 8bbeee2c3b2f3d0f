//! Jobs of all queues and states, found by a search (see `search`), with actions on the selected
//! jobs or on all that match.
//!
//! A page has up to 100 jobs, and counts beside them: how many there are in each state and queue,
//! of which types and with which errors. Each count is a link that narrows the search. After ten
//! pages the queues' own pages go on, which have cursors.

use maud::{Markup, html};
use rocket::http::Status;
use rocket::{Route, get, routes};

use super::selected;
use crate::error::Error;
use crate::inspector::Filter;
use crate::inspector::search::{Query, with_filter};
use crate::web::dashboard::results::{Facets, MAX_PAGES, Order, SearchResult, search};
use crate::web::dashboard::ui::parts::{grouped, is_linkable, short, short_type};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::{
    HtmlPage, NavPage, Reader, Texts, View, follow, job_table, layout, state,
};

/// Maximum values of one facet.
const MAX_VALUES: usize = 8;

/// Ranges of time that one click selects.
const RANGES: [&str; 4] = ["15m", "1h", "24h", "7d"];

/// What the address asks for.
struct JobsQuery<'r> {
    /// The search, without spaces around it.
    text: &'r str,
    /// The order of the rows.
    order: Order,
    /// The page, from 1.
    page: usize,
}

impl JobsQuery<'_> {
    /// The address of this search with another text, order or page.
    fn to(&self, reader: &Reader, text: &str, order: Order, page: usize) -> String {
        let mut path = format!("{}/ui/jobs?q={}", reader.base, escaped(text));
        if order == Order::Oldest {
            path.push_str("&sort=oldest");
        }
        if page > 1 {
            path.push_str(&format!("&page={page}"));
        }
        path
    }
}

/// The page of this number; without one, the first.
fn page_number(text: Option<&str>) -> Result<usize, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(1) };
    let number = text.parse().ok().filter(|page| (1..=MAX_PAGES).contains(page));
    number.ok_or_else(|| {
        Error::invalid(format!("page: expected a number from 1 to {MAX_PAGES}, found {text:?}"))
    })
}

/// The results of a search; all jobs without one. An invalid search, order or page is 422 and finds
/// nothing.
#[get("/ui/jobs?<q>&<sort>&<page>&<done>&<count>&<left>&<follow>")]
#[expect(clippy::too_many_arguments, reason = "a route's parameters are its arguments")]
async fn show(
    view: View<'_>,
    q: Option<&str>,
    sort: Option<&str>,
    page: Option<&str>,
    done: Option<&str>,
    count: Option<u64>,
    left: Option<u64>,
    follow: Option<&str>,
) -> HtmlPage {
    let site = &view.site;
    let (reader, texts) = (&site.reader, site.texts());
    let (order, page) = (Order::parse(sort), page_number(page));
    let asked = JobsQuery {
        text: q.unwrap_or_default().trim(),
        order: *order.as_ref().unwrap_or(&Order::Newest),
        page: *page.as_ref().unwrap_or(&1),
    };
    let found = async {
        let (order, page) = (order?, page?);
        let query = Query::parse(asked.text, site.queue.now(), reader.zone)?;
        let followed = follow::section(reader, &site.inspector(), follow, count).await?;
        Ok((search(&site.inspector(), &query, order, page).await?, query, followed))
    };
    match found.await {
        Err(error) if Error::is_invalid(&error) => {
            // Nothing is listed, so nothing can be acted upon.
            let content = html! {
                (form(reader, &asked))
                div.notice.bad role="alert" { p { (texts.search_wrong) } p { (error) } }
            };
            site.page(Status::UnprocessableEntity, NavPage::Jobs, texts.jobs_title, content)
        }
        found => {
            let content = found.map(|(found, query, followed)| {
                html! {
                    @if let Some(count) = count { (layout::counted(texts, done, count)) }
                    @if let Some(left) = left.filter(|left| *left > 0) {
                        div.notice.bad role="status" { p { (left) " " (texts.left_alone) } }
                    }
                    (followed)
                    (form(reader, &asked))
                    div.explorer {
                        (facets(reader, &asked, &query, &found.facets))
                        div.results {
                            (job_table::choice(reader, site.queue.now(), &found.rows, selected::FORM))
                            @if !found.rows.is_empty() {
                                (selected::buttons(reader, asked.text))
                            }
                            (pages(reader, &asked, &found))
                            (more(reader, &query.filter, &found))
                        }
                    }
                }
            });
            site.respond(NavPage::Jobs, texts.jobs_title, content)
        }
    }
}

/// The search field, with the filters below it, the ranges of time and the order.
fn form(reader: &Reader, asked: &JobsQuery<'_>) -> Markup {
    let texts = reader.texts;
    html! {
        form.search method="get" action={ (reader.base) "/ui/jobs" } role="search" aria-label=(texts.search_label) {
            div {
                label for="q" { (texts.search_label) }
                input #q name="q" type="search" value=(asked.text) aria-describedby="q-hint"
                    placeholder="state:archived type:mail:send error:timeout since:1h";
            }
            @if asked.order == Order::Oldest { input type="hidden" name="sort" value="oldest"; }
            button.small.main type="submit" { (texts.search) }
            p.hint #q-hint { (texts.search_hint) }
        }
        nav.choices aria-label=(texts.time_and_order) {
            span.choice-group {
                @let since = asked.text.split_whitespace().find_map(|word| word.strip_prefix("since:"));
                (choice(asked.to(reader, &with_filter(asked.text, "since", None), asked.order, 1), since.is_none(), html! { (texts.any_time) }))
                @for range in RANGES {
                    (choice(asked.to(reader, &with_filter(asked.text, "since", Some(range)), asked.order, 1), since == Some(range), html! { ((texts.last_range)(range)) }))
                }
            }
            span.choice-group {
                @for (order, label) in [(Order::Newest, texts.newest_first), (Order::Oldest, texts.oldest_first)] {
                    (choice(asked.to(reader, asked.text, order, 1), order == asked.order, html! { (label) }))
                }
            }
        }
    }
}

/// One of several links, of which one is where the reader is.
fn choice(to: String, is_here: bool, label: Markup) -> Markup {
    html! { a.pick href=(to) aria-current=[is_here.then_some("true")] { (label) } }
}

/// The counts beside the rows.
fn facets(reader: &Reader, asked: &JobsQuery<'_>, query: &Query, facets: &Facets) -> Markup {
    let texts = reader.texts;
    let to = |filter: &str, value: Option<&str>| {
        asked.to(reader, &with_filter(asked.text, filter, value), asked.order, 1)
    };
    let states: Vec<_> = facets
        .states
        .iter()
        .map(|(one, jobs)| {
            let is_here = query.states.contains(one);
            let word = Some(one.as_str()).filter(|_| !is_here);
            (Some(to("state", word)), is_here, state::state(texts, *one), *jobs)
        })
        .collect();
    let queues: Vec<_> = facets
        .queues
        .iter()
        .map(|(name, jobs)| {
            let printable = name.printable();
            let is_here = query.queues.iter().any(|queue| *queue == printable);
            let word = Some(&*printable).filter(|_| !is_here);
            (Some(to("queue", word)), is_here, html! { (printable) }, *jobs)
        })
        .collect();
    let types: Vec<_> = facets
        .types
        .iter()
        .map(|(name, jobs)| {
            let is_here = query.filter.job_type.as_ref() == Some(name);
            let word = Some(name.as_str()).filter(|_| !is_here);
            let to = is_linkable(name).then(|| to("type", word));
            (to, is_here, html! { (short_type(name)) }, *jobs)
        })
        .collect();
    let errors: Vec<_> = facets
        .errors
        .iter()
        .map(|(common, jobs)| {
            let is_here = query.filter.error.as_ref() == Some(common);
            let word = Some(common.as_str()).filter(|_| !is_here);
            (Some(to("error", word)), is_here, html! { (short(common)) }, *jobs)
        })
        .collect();
    let sampled = Some((facets.sample, facets.all));
    let exact = if facets.exact { None } else { sampled };
    html! {
        aside.facets aria-label=(texts.facets) {
            (facet(texts, texts.state, &states, exact))
            (facet(texts, texts.queue, &queues, exact))
            (facet(texts, texts.job_type, &types, sampled))
            (facet(texts, texts.error, &errors, sampled))
        }
    }
}

/// One group of counts. A count among the first jobs only says so. A value without an address is
/// not linked.
fn facet(
    texts: &Texts,
    label: &str,
    values: &[(Option<String>, bool, Markup, u64)],
    sampled: Option<(usize, bool)>,
) -> Markup {
    if values.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { (label) }
            @if let Some((sample, false)) = sampled { p.hint { ((texts.of_the_first)(sample)) } }
            ul {
                @for (to, is_here, label, jobs) in values.iter().take(MAX_VALUES) {
                    li { a href=[to.as_deref()] aria-current=[is_here.then_some("true")] {
                        span.value { (label) } " " span.count { (grouped(*jobs)) }
                    } }
                }
            }
            @if values.len() > MAX_VALUES { p.hint { ((texts.more_values)(values.len() - MAX_VALUES)) } }
        }
    }
}

/// Links to the pages before and after this one.
fn pages(reader: &Reader, asked: &JobsQuery<'_>, found: &SearchResult) -> Markup {
    let texts = reader.texts;
    let has_next = found.has_next && asked.page < MAX_PAGES;
    html! {
        @if asked.page > 1 || has_next {
            nav.pager aria-label=(texts.result_pages) {
                @if asked.page > 1 {
                    a.small href=(asked.to(reader, asked.text, asked.order, asked.page - 1)) { (texts.previous_page) }
                }
                span.count { ((texts.page_number)(asked.page)) }
                @if has_next {
                    a.small href=(asked.to(reader, asked.text, asked.order, asked.page + 1)) { (texts.next_page) }
                }
            }
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
            p.more.hint {
                (texts.more_in) " "
                @for (nth, (name, state)) in found.more.iter().take(MAX_VALUES).enumerate() {
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
