//! One queue: its jobs by state, filtered, page by page, and actions on the queue and on all of
//! these jobs.
//!
//! The tab of each state shows its number of jobs. Aggregating jobs are listed by group. A filter
//! by text reads at most ten pages of the list at a time, so a page of results can be short.

use futures_util::future::join;
use maud::{Markup, html};
use rocket::{Route, get, post, routes};

use super::{limits, page_from, selected};
use crate::broker::{JobPage, QueueInfo};
use crate::error::Error;
use crate::inspector::Filter;
use crate::inspector::search::quoted;
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;
use crate::web::api::queues::state_of;
use crate::web::dashboard::ui::access::FormResult;
use crate::web::dashboard::ui::bulk_form::{self, Which};
use crate::web::dashboard::ui::charts::Uncounted;
use crate::web::dashboard::ui::form::{Form, FormBody};
use crate::web::dashboard::ui::group_table::group_table;
use crate::web::dashboard::ui::parts::{
    CONFIRM, asked, deed, expect_typed, fact, grouped, instant, more, oldest, typed,
};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::{
    Act, Deed, HtmlPage, NavPage, Site, Texts, View, charts, follow, job_table, layout, state,
};

/// The largest form that deletes a queue, in bytes: a name has at most 128 characters unless another
/// program made it.
const MAX_DELETE_FORM_BYTES: u64 = 16 * 1024;

/// The query of the address: which part of the queue is shown, and what was done before.
struct QueueQuery<'r> {
    /// The tab.
    state: Option<&'r str>,
    /// The filter by job type; empty for none.
    r#type: Option<&'r str>,
    /// The filter by text; empty for none.
    search: Option<&'r str>,
    /// The begin of the page of the list.
    cursor: Option<&'r str>,
    /// The action that led here.
    done: Option<&'r str>,
    /// How many jobs an action on many changed.
    count: Option<u64>,
    /// The jobs to follow after it.
    follow: Option<&'r str>,
}

/// The page of one state, the first with jobs if none is asked for.
#[get("/ui/queues/<name>?<state>&<type>&<search>&<cursor>&<done>&<count>&<follow>")]
#[expect(clippy::too_many_arguments, reason = "a route's parameters are its arguments")]
async fn show(
    view: View<'_>,
    name: &str,
    state: Option<&str>,
    r#type: Option<&str>,
    search: Option<&str>,
    cursor: Option<&str>,
    done: Option<&str>,
    count: Option<u64>,
    follow: Option<&str>,
) -> HtmlPage {
    let shown = QueueQuery { state, r#type, search, cursor, done, count, follow };
    let title = format!("{} {name}", view.site.texts().queue);
    let content = content(&view.site, name, &shown).await;
    view.site.respond(NavPage::Elsewhere, &title, content)
}

/// Reads the queue, its history and one page of jobs. The history and the last hour are read at
/// the same time; the jobs come after, because the state to show may depend on the queue's
/// sizes.
async fn content(site: &Site<'_>, name: &str, shown: &QueueQuery<'_>) -> Result<Markup, Error> {
    let (inspector, known) = (site.inspector(), name.parse()?);
    let info = inspector.queue(&known).await?;
    let (days, minutes) =
        join(inspector.history(&known, 90), inspector.covered_hour(&known, &info)).await;
    let (days, (minutes, coverage)) = (days?, minutes?);
    let mut uncounted = Uncounted::default();
    uncounted.add(&known, coverage);
    let limits = limits::read(&inspector, &known).await?;
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let state = match given(shown.state) {
        Some(word) => state_of(&word)?,
        None => fullest(&info),
    };
    let filter =
        Filter { job_type: given(shown.r#type), text: given(shown.search), ..Filter::default() };
    let page = page_from(shown.cursor)?;
    // What ended last is looked for first; what waits is listed in the order of its turn.
    let page = match state {
        JobState::Archived | JobState::Completed => page.backward(),
        _ => page,
    };
    let jobs = match state {
        JobState::Aggregating => JobPage { rows: Vec::new(), total: 0, next: None },
        state => inspector.jobs_where(&known, state, &filter, &page).await?,
    };
    let grouped = match state {
        JobState::Aggregating => Some(inspector.groups(&known, &page).await?),
        _ => None,
    };
    let (reader, texts) = (&site.reader, site.texts());
    let followed = follow::section(reader, &inspector, shown.follow, shown.count).await?;
    let here = format!("{}/ui/queues/{}", reader.base, escaped(name));
    let now = site.queue.now();
    Ok(html! {
        @if let Some(count) = shown.count {
            (layout::counted(texts, shown.done, count))
        } @else {
            (layout::notice(texts, shown.done))
        }
        (followed)
        (summary(texts, &here, &known.printable(), now, &info))
        (charts::counted_hour(texts, now, &minutes, &uncounted))
        (charts::days(texts, &days))
        (limits::section(texts, &here, &limits))
        (tabs(texts, &here, state, &info))
        @if let Some(groups) = &grouped {
            (group_table(reader, now, &known, groups))
            (bulk_form::buttons(reader, name, &Which::of(state, None, size(&info, state))))
        } @else {
            (search(texts, &here, state, &filter))
            div.results {
                (job_table::choice_of_state(reader, now, state, &jobs.rows, selected::FORM))
                @if !jobs.rows.is_empty() {
                    (selected::buttons_for_selected(reader, &searched(&known, state, &filter)))
                }
            }
            @if let Some(next) = &jobs.next {
                (more(&next_page(&here, state, &filter, &next.to_string()), texts.next_page))
            }
            // A text is searched page by page, so the number of jobs is not known.
            @if filter.text.is_none() {
                (bulk_form::buttons(reader, name, &Which::of(state, filter.job_type.as_deref(), jobs.total)))
            }
        }
    })
}

/// A tab for each state, with the number of its jobs.
fn tabs(texts: &Texts, here: &str, state: JobState, info: &QueueInfo) -> Markup {
    html! {
        nav.tabs aria-label=(texts.states) {
            @for one in JobState::ALL {
                a href={ (here) "?state=" (one.as_str()) } aria-current=[(one == state).then_some("page")] {
                    (state::state(texts, one)) " "
                    span.count { (grouped(size(info, one))) }
                }
            }
        }
    }
}

/// The address of the next page of a list, with its filter.
fn next_page(here: &str, state: JobState, filter: &Filter, cursor: &str) -> String {
    let text = |text: &Option<String>| escaped(text.as_deref().unwrap_or_default());
    format!(
        "{here}?state={}&cursor={cursor}&type={}&search={}",
        state.as_str(),
        text(&filter.job_type),
        text(&filter.text)
    )
}

/// The search that lists the same jobs, to come back to after an action on some of them.
fn searched(queue: &QueueName, state: JobState, filter: &Filter) -> String {
    let mut text = format!("queue:{} state:{}", quoted(&queue.printable()), state.as_str());
    if let Some(job_type) = &filter.job_type {
        text.push_str(&format!(" type:{}", quoted(job_type)));
    }
    if let Some(words) = &filter.text {
        text.push_str(&format!(" {}", quoted(words)));
    }
    text
}

/// The state that is shown if none is asked for: the first with jobs, in the order in which an
/// operator cares.
fn fullest(info: &QueueInfo) -> JobState {
    use JobState::{Active, Archived, Completed, Pending, Retry, Scheduled};
    let has = |state: &JobState| size(info, *state) > 0;
    let order = [Pending, Active, Retry, Archived, Scheduled, Completed];
    order.into_iter().find(has).unwrap_or(Pending)
}

/// The number of jobs in a state.
fn size(info: &QueueInfo, state: JobState) -> u64 {
    info.sizes.get(state.as_str()).copied().unwrap_or_default()
}

/// The facts of the queue, and the buttons to pause, resume and delete it.
fn summary(texts: &Texts, here: &str, name: &str, now: Timestamp, info: &QueueInfo) -> Markup {
    html! {
        div.card.facts {
            dl {
                (fact(texts.latency, oldest(texts, info.latency)))
                (fact(texts.next_due, instant(texts, now, info.next_due)))
                (fact(texts.processed_today, html! { (info.processed_today) }))
                (fact(texts.failed_today, html! { (info.failed_today) }))
                (fact(texts.state, html! {
                    @if info.paused { span.tag { (texts.paused) } }
                    @else { (texts.queue_running) }
                }))
            }
        }
        div.deeds {
            @if info.paused {
                (deed(texts, &format!("{here}/resume"), Deed::ResumeQueue))
            } @else {
                (deed(texts, &format!("{here}/pause"), Deed::PauseQueue))
            }
            @let consequence = html! { p { ((texts.delete_queue_sure)(info.size)) } };
            @let form = html! {
                form.action method="post" action={ (here) "/delete" } {
                    (typed(texts, name))
                    button.small.grave type="submit" { ((texts.deed)(Deed::DeleteQueue).label) }
                }
            };
            (asked(texts, Deed::DeleteQueue, consequence, form))
        }
    }
}

/// The filters by job type and by text.
fn search(texts: &Texts, here: &str, state: JobState, filter: &Filter) -> Markup {
    html! {
        form.search method="get" action=(here) role="search" aria-label=(texts.filter) {
            input type="hidden" name="state" value=(state.as_str());
            div {
                label for="type" { (texts.job_type_filter) }
                input #type name="type" value=(filter.job_type.as_deref().unwrap_or_default());
            }
            div {
                label for="search" { (texts.text) }
                input #search name="search" type="search" value=(filter.text.as_deref().unwrap_or_default())
                    placeholder=(texts.text_hint);
            }
            button.small type="submit" { (texts.filter) }
        }
    }
}

/// Stops workers from dequeueing jobs; jobs in flight continue.
#[post("/ui/queues/<name>/pause", data = "<body>")]
async fn pause(act: Act<'_>, name: &str, body: FormBody<'_>) -> FormResult {
    act.expect_no_fields(body).await?;
    set_paused(&act, name, true).await
}

/// Lets workers dequeue jobs again.
#[post("/ui/queues/<name>/resume", data = "<body>")]
async fn resume(act: Act<'_>, name: &str, body: FormBody<'_>) -> FormResult {
    act.expect_no_fields(body).await?;
    set_paused(&act, name, false).await
}

/// Deletes the queue with its jobs, if its name was typed; refused while jobs are active.
#[post("/ui/queues/<name>/delete", data = "<body>")]
async fn remove(act: Act<'_>, name: &str, body: FormBody<'_>) -> FormResult {
    let form = Form::read(body, MAX_DELETE_FORM_BYTES, &[CONFIRM]).await;
    let form = form.map_err(|problem| act.site.refused(&problem))?;
    let done = async {
        let known: QueueName = name.parse()?;
        expect_typed(&form, &known.printable())?;
        act.site.inspector().delete_queue(&known, true).await
    };
    act.redirect(done.await.map(|()| {
        act.audit("queue removed", name, "with its jobs");
        "/ui?done=remove".to_owned()
    }))
}

/// Pauses or resumes, and goes back to the queue.
async fn set_paused(act: &Act<'_>, name: &str, paused: bool) -> FormResult {
    let (word, line) = match paused {
        true => ("pause", "queue paused"),
        false => ("resume", "queue resumed"),
    };
    let done = async {
        let (inspector, known) = (act.site.inspector(), name.parse()?);
        // A queue that does not exist is an error, not one that is paused in advance.
        inspector.queue(&known).await?;
        match paused {
            true => inspector.pause(&known).await,
            false => inspector.resume(&known).await,
        }
    };
    act.redirect(done.await.map(|_| {
        act.audit(line, name, "");
        format!("/ui/queues/{}?done={word}", escaped(name))
    }))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show, pause, resume, remove]
}
