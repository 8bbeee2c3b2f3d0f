//! One queue: its jobs by state, searched, page by page, and what is done to the queue
//! and to all of them.

use futures_util::future::join;
use maud::{Markup, html};
use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{Route, get, post, routes};

use super::bulk::{self, Which};
use super::layout::{self, Place, escaped, fact, instant, say, state_word};
use super::{Language, Page, Reader, charts, groups, rows};
use crate::broker::{JobPage, QueueInfo};
use crate::error::Error;
use crate::inspector::Filter;
use crate::job::JobState;
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::queues::state_of;
use crate::web::api::{Asked, audit, page as page_of};
use crate::web::guards::{ActAccess, ViewAccess};
use crate::web::origin::SameOrigin;

/// What of a queue is shown, as the address says it.
struct Shown<'r> {
    state: Option<&'r str>,
    r#type: Option<&'r str>,
    search: Option<&'r str>,
    cursor: Option<&'r str>,
    done: Option<&'r str>,
    count: Option<u64>,
}

#[get("/ui/queues/<name>?<state>&<type>&<search>&<cursor>&<done>&<count>")]
#[expect(clippy::too_many_arguments, reason = "a route's parameters are its arguments")]
async fn show(
    _access: ViewAccess,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
    state: Option<&str>,
    r#type: Option<&str>,
    search: Option<&str>,
    cursor: Option<&str>,
    done: Option<&str>,
    count: Option<u64>,
) -> Page {
    let shown = Shown { state, r#type, search, cursor, done, count };
    match look(queue, &reader, name, &shown).await {
        Ok(page) => page,
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

async fn look(
    queue: &JobQueue,
    reader: &Reader,
    name: &str,
    shown: &Shown<'_>,
) -> Result<Page, Error> {
    let (inspector, known) = (queue.redacted_inspector(), name.parse()?);
    let info = inspector.queue(&known).await?;
    let (days, minutes) = join(inspector.history(&known, 90), inspector.last_hour(&known)).await;
    let (days, minutes) = (days?, minutes?);
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let state = match given(shown.state) {
        Some(word) => state_of(&word)?,
        None => fullest(&info),
    };
    let filter =
        Filter { job_type: given(shown.r#type), text: given(shown.search), ..Filter::default() };
    let page = page_of(None, None, shown.cursor);
    let page = page.map_err(|refused| Error::invalid(refused.0.detail().to_owned()))?;
    let jobs = match state {
        JobState::Aggregating => JobPage { rows: Vec::new(), total: 0, next: None },
        state => inspector.jobs_where(&known, state, &filter, &page).await?,
    };
    let grouped = match state {
        JobState::Aggregating => Some(inspector.groups(&known, &page).await?),
        _ => None,
    };
    let language = reader.language;
    let here = format!("{}/ui/queues/{}", reader.base, escaped(name));
    let now = queue.now();
    let content = html! {
        (layout::notice(language, shown.done))
        (layout::counted(language, shown.count))
        (summary(language, &here, now, &info))
        (charts::hour(language, now, &minutes))
        (charts::days(language, &days))
        nav.tabs aria-label=(say(language, "状態", "States")) {
            @for one in JobState::ALL {
                a href={ (here) "?state=" (one.as_str()) } aria-current=[(one == state).then_some("page")] {
                    (state_word(language, one)) " "
                    span.count { (size(&info, one)) }
                }
            }
        }
        @if let Some(groups) = &grouped {
            (groups::table(reader, now, &known, groups))
            (bulk::buttons(reader, name, &Which::of(state, None, size(&info, state))))
        } @else {
            (search(language, &here, state, &filter))
            (rows::table(reader, now, Some(state), &jobs.rows))
            @if let Some(next) = &jobs.next {
                p.more {
                    a href={ (here) "?state=" (state.as_str()) "&cursor=" (next)
                        "&type=" (escaped(filter.job_type.as_deref().unwrap_or_default()))
                        "&search=" (escaped(filter.text.as_deref().unwrap_or_default())) } {
                        (say(language, "次のページ", "Next page"))
                    }
                }
            }
            // A text is looked for page by page.
            @if filter.text.is_none() {
                (bulk::buttons(reader, name, &Which::of(state, filter.job_type.as_deref(), jobs.total)))
            }
        }
    };
    let title = format!("{} {name}", say(language, "キュー", "Queue"));
    Ok(Page(Status::Ok, layout::page(reader, queue, Place::Elsewhere, &title, content)))
}

/// The state that is shown where none is asked for: the first that needs a person.
fn fullest(info: &QueueInfo) -> JobState {
    use JobState::{Active, Archived, Completed, Pending, Retry, Scheduled};
    let has = |state: &JobState| size(info, *state) > 0;
    let order = [Pending, Active, Retry, Archived, Scheduled, Completed];
    order.into_iter().find(has).unwrap_or(Pending)
}

fn size(info: &QueueInfo, state: JobState) -> u64 {
    info.sizes.get(state.as_str()).copied().unwrap_or_default()
}

fn summary(language: Language, here: &str, now: Timestamp, info: &QueueInfo) -> Markup {
    html! {
        div.card.facts {
            dl {
                (fact(say(language, "最長待ち時間", "Next has waited"), html! { (layout::span(language, info.latency)) }))
                (fact(say(language, "次の予定", "Next due"), instant(language, now, info.next_due)))
                (fact(say(language, "本日の処理数", "Processed today"), html! { (info.processed_today) }))
                (fact(say(language, "本日の失敗数", "Failed today"), html! { (info.failed_today) }))
                (fact(say(language, "状態", "State"), html! {
                    @if info.paused { span.tag { (say(language, "停止中", "paused")) } }
                    @else { (say(language, "稼働中", "running")) }
                }))
            }
            div.actions {
                @if info.paused {
                    (layout::button(&format!("{here}/resume"), say(language, "再開", "Resume"), None))
                } @else {
                    (layout::button(&format!("{here}/pause"), say(language, "停止", "Pause"), None))
                }
                (layout::button(
                    &format!("{here}/delete"),
                    say(language, "キューを削除", "Delete queue"),
                    Some(&match language {
                        Language::Japanese => format!("キューとジョブ{}件を削除します。元に戻せません。", info.size),
                        Language::English => format!(
                            "Deletes the queue with its jobs ({}). They cannot be brought back.",
                            info.size
                        ),
                    }),
                ))
            }
        }
    }
}

fn search(language: Language, here: &str, state: JobState, filter: &Filter) -> Markup {
    html! {
        form.search method="get" action=(here) role="search" {
            input type="hidden" name="state" value=(state.as_str());
            div {
                label for="type" { (say(language, "ジョブタイプ", "Job type")) }
                input #type name="type" value=(filter.job_type.as_deref().unwrap_or_default());
            }
            div {
                label for="search" { (say(language, "テキスト", "Text")) }
                input #search name="search" type="search" value=(filter.text.as_deref().unwrap_or_default())
                    placeholder=(say(language, "ID、ペイロード、エラー", "id, payload, error"));
            }
            button.small type="submit" { (say(language, "絞り込む", "Filter")) }
        }
    }
}

#[post("/ui/queues/<name>/pause")]
async fn pause(
    _access: ActAccess,
    _origin: SameOrigin,
    asked: Asked,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
) -> Result<Redirect, Page> {
    set_paused(queue, &reader, &asked, name, true).await
}

#[post("/ui/queues/<name>/resume")]
async fn resume(
    _access: ActAccess,
    _origin: SameOrigin,
    asked: Asked,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
) -> Result<Redirect, Page> {
    set_paused(queue, &reader, &asked, name, false).await
}

#[post("/ui/queues/<name>/delete")]
async fn remove(
    _access: ActAccess,
    _origin: SameOrigin,
    asked: Asked,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
) -> Result<Redirect, Page> {
    let done = async { queue.redacted_inspector().delete_queue(&name.parse()?, true).await };
    match done.await {
        Ok(()) => {
            audit(&asked, "queue removed", name, "with its jobs");
            Ok(layout::back(format!("{}/ui?done=remove", reader.base)))
        }
        Err(error) => Err(layout::trouble(&reader, queue, &error)),
    }
}

async fn set_paused(
    queue: &JobQueue,
    reader: &Reader,
    asked: &Asked,
    name: &str,
    paused: bool,
) -> Result<Redirect, Page> {
    let done = async {
        let (inspector, known) = (queue.redacted_inspector(), name.parse()?);
        inspector.queue(&known).await?;
        match paused {
            true => inspector.pause(&known).await,
            false => inspector.resume(&known).await,
        }
    };
    match done.await {
        Ok(_) => {
            let (word, line) = match paused {
                true => ("pause", "queue paused"),
                false => ("resume", "queue resumed"),
            };
            audit(asked, line, name, "");
            Ok(layout::back(format!("{}/ui/queues/{}?done={word}", reader.base, escaped(name))))
        }
        Err(error) => Err(layout::trouble(reader, queue, &error)),
    }
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![show, pause, resume, remove]
}
