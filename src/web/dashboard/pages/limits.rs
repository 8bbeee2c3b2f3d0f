//! The limits of a queue, a part of the queue's page: how full they are, and forms that set and
//! remove them. All keys of a limit are on pages of their own.

use maud::{Markup, html};
use rocket::{Route, get, post, routes};

use super::page_from;
use crate::broker::{LimitInfo, LimitKeyPage, LimitUse, LimitUses};
use crate::error::Error;
use crate::inspector::Inspector;
use crate::job::{Limit, LimitKey, QueueName, Rate};
use crate::web::dashboard::ui::access::FormResult;
use crate::web::dashboard::ui::form::{Form, FormBody};
use crate::web::dashboard::ui::parts::{asked, empty, more, question};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::table::{Cell, Row, TableKind, table};
use crate::web::dashboard::ui::{Act, Deed, HtmlPage, NavPage, Site, Texts, View};

/// Keys of each limit that the page shows.
const SHOWN_KEYS: usize = 5;

/// Keys of a page that shows those of one limit.
const KEYS_OF_PAGE: u32 = 100;

/// The largest form that is read, in bytes.
const MAX_FORM_BYTES: u64 = 64 << 10;

/// The fields of the form that sets a limit.
const FIELDS: [&str; 5] = ["name", "types", "key", "concurrency", "rate"];

/// A limit, and its fullest keys if it has keys.
pub(super) type ShownLimit = (LimitInfo, LimitUses);

/// The limits of a queue, as the page shows them.
pub(super) async fn read(
    inspector: &Inspector,
    queue: &QueueName,
) -> Result<Vec<ShownLimit>, Error> {
    let mut shown = Vec::new();
    for info in inspector.limits(queue).await? {
        let uses = match &info.limit.key {
            Some(_) => inspector.limit_uses(queue, &info.limit.name, SHOWN_KEYS).await?,
            None => LimitUses::default(),
        };
        shown.push((info, uses));
    }
    Ok(shown)
}

/// The table of the limits, and the form that sets one.
pub(super) fn section(texts: &Texts, here: &str, limits: &[ShownLimit]) -> Markup {
    let columns = [
        texts.limit,
        texts.limit_of,
        texts.limit_in_use,
        texts.limit_waiting,
        texts.limit_rate,
        texts.limit_keys,
        "",
    ];
    let rows: Vec<Row> = limits.iter().map(|shown| row(texts, here, shown)).collect();
    html! {
        @if !rows.is_empty() {
            h2 { (texts.limits) }
            (table(TableKind::Plain, texts.limits, &columns, &rows))
        }
        div.deeds { (asked(texts, Deed::SetLimit, html! {}, form(texts, here))) }
    }
}

fn row(texts: &Texts, here: &str, (info, uses): &ShownLimit) -> Row {
    let limit = &info.limit;
    let page = format!("{here}/limits/{}", escaped(&limit.name));
    let of = html! {
        @if limit.types.is_empty() { (texts.limit_all_types) } @else { (limit.types.join(", ")) }
        @if let Some(key) = &limit.key { " · " code { (key) } }
    };
    let in_use = html! {
        (info.in_use)
        @if let Some(max) = limit.concurrency { " / " (max) }
        @if info.is_partial { "+" }
    };
    let keys = html! {
        @if limit.key.is_some() {
            (info.keys)
            @for one in &uses.uses {
                br; code { (one.key) } ": " (one.in_use) " + " (one.waiting)
            }
            @if uses.more { br; a href=(page) { "…" } }
        } @else { "–" }
    };
    let rate = limit.rate.map(|rate| rate.to_string());
    let remove = format!("{page}/delete");
    Row::new(
        html! { @if limit.key.is_some() { a href=(page) { (limit.name) } } @else { (limit.name) } },
        vec![
            Cell::Value(of),
            Cell::Value(in_use),
            Cell::Value(html! { (info.waiting) @if info.is_partial { "+" } }),
            Cell::Value(html! { (rate.as_deref().unwrap_or("–")) }),
            Cell::Value(keys),
            Cell::Button(question(
                texts,
                &remove,
                Deed::DeleteLimit,
                (texts.deed)(Deed::DeleteLimit).consequence,
            )),
        ],
    )
}

/// The form that sets a limit, or replaces the one of its name.
fn form(texts: &Texts, here: &str) -> Markup {
    let fields = [
        ("name", texts.limit, "stripe", true),
        ("types", texts.limit_types, "stripe:charge, stripe:refund", false),
        ("key", texts.limit_key, "payload.account_id", false),
        ("concurrency", texts.limit_concurrency, "2", false),
        ("rate", texts.limit_rate, "100/1m", false),
    ];
    html! {
        form method="post" action={ (here) "/limits" } autocomplete="off" {
            p.hint { ((texts.deed)(Deed::SetLimit).consequence) }
            div.options {
                @for (name, label, example, required) in fields {
                    div.field {
                        label for={ "limit-" (name) } { (label) }
                        input id={ "limit-" (name) } name=(name) placeholder=(example)
                            required[required];
                    }
                }
            }
            button.small type="submit" { ((texts.deed)(Deed::SetLimit).label) }
        }
    }
}

/// The keys of a limit with jobs that run or wait, page by page.
#[get("/ui/queues/<name>/limits/<limit>?<cursor>")]
async fn show(view: View<'_>, name: &str, limit: &str, cursor: Option<&str>) -> HtmlPage {
    let site = &view.site;
    let title = format!("{} {limit}", site.texts().limit);
    let content = keys(site, (name, limit), cursor).await;
    site.respond(NavPage::Elsewhere, &title, content)
}

/// A page of keys, the fullest of them first, and a link to the next one.
async fn keys(
    site: &Site<'_>,
    (name, limit): (&str, &str),
    cursor: Option<&str>,
) -> Result<Markup, Error> {
    let (inspector, known) = (site.inspector(), name.parse()?);
    let page = page_from(cursor)?;
    let all = inspector.limits(&known).await?;
    if !all.iter().any(|info| info.limit.name == limit) {
        return Err(missing(name, limit));
    }
    let page = page.with_rows(KEYS_OF_PAGE);
    let LimitKeyPage { mut keys, next } = inspector.limit_keys(&known, limit, &page).await?;
    keys.sort_by(LimitUse::fullest_first);
    let (reader, texts) = (&site.reader, site.texts());
    let columns = [texts.limit_key, texts.limit_in_use, texts.limit_waiting];
    let rows: Vec<Row> = keys.iter().map(key_row).collect();
    let here = format!("{}/ui/queues/{}", reader.base, escaped(name));
    Ok(html! {
        p.hint { (texts.queue_prefix) a href=(here) { (name) } }
        @if !rows.is_empty() {
            (table(TableKind::Plain, texts.limit_keys, &columns, &rows))
        } @else if next.is_none() {
            (empty(texts.jobs_none))
        }
        @if let Some(next) = &next {
            (more(&format!("{here}/limits/{}?cursor={next}", escaped(limit)), texts.next_page))
        }
    })
}

fn key_row(one: &LimitUse) -> Row {
    let head = html! { @if one.key.is_empty() { "–" } @else { code { (one.key) } } };
    let number = |number: u64| Cell::Value(html! { (number) });
    Row::new(head, vec![number(one.in_use), number(one.waiting)])
}

/// The error that names the queue and the limit.
fn missing(queue: &str, limit: &str) -> Error {
    let limit: String = limit.chars().take(64).collect();
    Error::not_found(format!("queue {queue:?} has no limit {limit:?}"))
}

/// Sets a limit, and goes back to the queue.
#[post("/ui/queues/<name>/limits", data = "<body>")]
async fn set(act: Act<'_>, name: &str, body: FormBody<'_>) -> FormResult {
    let form = Form::read(body, MAX_FORM_BYTES, &FIELDS).await;
    let form = form.map_err(|problem| act.site.refused(&problem))?;
    let done = async {
        let (inspector, known) = (act.site.inspector(), name.parse()?);
        let limit = limit(&form)?;
        // A queue that does not exist is an error, not one that is limited in advance.
        inspector.queue(&known).await?;
        inspector.set_limit(&known, &limit).await?;
        Ok(limit)
    };
    act.redirect(done.await.map(|limit: Limit| {
        act.audit("limit set", name, &limit.name);
        format!("/ui/queues/{}?done=limit", escaped(name))
    }))
}

/// The limit of the form. An empty field is one that was not given.
fn limit(form: &Form) -> Result<Limit, Error> {
    let text = |name| Some(form.text(name).trim()).filter(|text: &&str| !text.is_empty());
    let types = form.text("types").split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut limit = Limit::new(form.text("name").trim()).types(types);
    limit.key = text("key").map(LimitKey::parse).transpose()?;
    limit.rate = text("rate").map(Rate::parse).transpose()?;
    limit.concurrency = text("concurrency")
        .map(|text| {
            text.parse().map_err(|_| {
                Error::invalid(format!(
                    "concurrency: expected a whole number of 1 or more, found {:?}",
                    text.chars().take(40).collect::<String>()
                ))
            })
        })
        .transpose()?;
    limit.check()?;
    Ok(limit)
}

/// Removes a limit, and goes back to the queue.
#[post("/ui/queues/<name>/limits/<limit>/delete", data = "<body>")]
async fn remove(act: Act<'_>, name: &str, limit: &str, body: FormBody<'_>) -> FormResult {
    act.expect_no_fields(body).await?;
    let done = async {
        if act.site.inspector().remove_limit(&name.parse()?, limit).await? {
            return Ok(());
        }
        Err(missing(name, limit))
    };
    act.redirect(done.await.map(|()| {
        act.audit("limit removed", name, limit);
        format!("/ui/queues/{}?done=unlimit", escaped(name))
    }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show, set, remove]
}
