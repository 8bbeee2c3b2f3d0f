//! One queue: its jobs by state, searched, page by page, and what is done to the queue
//! and to all of them.

use maud::{Markup, html};
use rocket::form::Form;
use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{FromForm, Route, get, post, routes};

use super::layout::{self, Place, escaped, instant, say, state_word};
use super::{Language, Page, Reader, rows};
use crate::broker::{DayStats, JobPage, QueueInfo, Selection};
use crate::error::Error;
use crate::inspector::Filter;
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::{Asked, audit, page as page_of};
use crate::web::guards::{ActAccess, ViewAccess};
use crate::web::origin::SameOrigin;

/// What of a queue is shown, as the address says it.
#[derive(FromForm)]
struct Shown<'r> {
    state: Option<&'r str>,
    r#type: Option<&'r str>,
    search: Option<&'r str>,
    cursor: Option<&'r str>,
    done: Option<&'r str>,
    count: Option<u64>,
}

#[get("/ui/queues/<name>?<shown..>")]
async fn show(
    _access: ViewAccess,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
    shown: Shown<'_>,
) -> Page {
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
    let (inspector, known) = (queue.shown(), QueueName::new(name)?);
    let info = inspector.queue(&known).await?;
    let days = inspector.history(&known, 30).await?;
    let state = shown.state.and_then(JobState::parse).unwrap_or_else(|| fullest(&info));
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let filter =
        Filter { job_type: given(shown.r#type), text: given(shown.search), ..Filter::default() };
    let page = page_of(None, None, shown.cursor);
    let page = page.map_err(|refused| Error::invalid(refused.0.detail().to_owned()))?;
    let jobs = match state {
        JobState::Aggregating => JobPage { rows: Vec::new(), total: 0, next: None },
        state => inspector.jobs_where(&known, state, &filter, &page).await?,
    };
    let groups = match state {
        JobState::Aggregating => Some(inspector.groups(&known, &page).await?),
        _ => None,
    };
    let language = reader.language;
    let here = format!("{}/ui/queues/{}", reader.base, escaped(name));
    let now = queue.now();
    let content = html! {
        (layout::notice(language, shown.done))
        @if let Some(count) = shown.count {
            div.notice.good role="status" { p { (count) " " (say(language, "件のジョブを処理しました。", "jobs done.")) } }
        }
        (summary(language, &here, &info))
        (chart(language, &days))
        nav.tabs aria-label=(say(language, "状態", "States")) {
            @for one in JobState::ALL {
                a href={ (here) "?state=" (one.as_str()) } aria-current=[(one == state).then_some("page")] {
                    (state_word(language, one)) " "
                    span.count { (info.sizes.get(one.as_str()).copied().unwrap_or_default()) }
                }
            }
        }
        @if let Some(groups) = &groups {
            (group_table(language, now, groups))
            @if let Some(next) = &groups.next {
                p.more {
                    a href={ (here) "?state=aggregating&cursor=" (next) } {
                        (say(language, "次のページ", "Next page"))
                    }
                }
            }
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
            @if filter.text.is_none() { (bulk(language, &here, state, &filter, jobs.total)) }
        }
    };
    let title = format!("{} {name}", say(language, "キュー", "Queue"));
    Ok(Page(Status::Ok, layout::page(reader, queue, Place::Elsewhere, &title, content)))
}

/// The state that is shown where none is asked for: the first that needs a person.
fn fullest(info: &QueueInfo) -> JobState {
    use JobState::{Active, Archived, Completed, Pending, Retry, Scheduled};
    let has = |state: &JobState| info.sizes.get(state.as_str()).copied().unwrap_or_default() > 0;
    let order = [Pending, Active, Retry, Archived, Scheduled, Completed];
    order.into_iter().find(has).unwrap_or(Pending)
}

fn summary(language: Language, here: &str, info: &QueueInfo) -> Markup {
    let fact = |label: &str, value: Markup| html! { div { dt { (label) } dd { (value) } } };
    html! {
        div.card.facts {
            dl {
                (fact(say(language, "最長待ち時間", "Next has waited"), html! { (layout::span(info.latency)) }))
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
            }
        }
    }
}

/// Attempts by day, today at the right: what ended above, what failed within.
fn chart(language: Language, days: &[DayStats]) -> Markup {
    const WIDTH: usize = 20;
    const HEIGHT: u64 = 80;
    let most = days.iter().map(|day| day.processed).max().unwrap_or_default();
    if most == 0 {
        return html! {};
    }
    let high = |count: u64| (count * HEIGHT).div_ceil(most).min(HEIGHT);
    let title = say(language, "直近30日の処理数", "Attempts in the last 30 days");
    html! {
        figure.card.chart {
            figcaption { (title) }
            svg viewBox={ "0 0 " (days.len() * WIDTH) " " (HEIGHT) } role="img" aria-label=(title)
                preserveAspectRatio="none" {
                @for (nth, day) in days.iter().rev().enumerate() {
                    g {
                        title { (day.date) ": " (day.processed) ", " (say(language, "失敗", "failed")) " " (day.failed) }
                        rect.ended x=(nth * WIDTH + 2) width=(WIDTH - 4)
                            y=(HEIGHT - high(day.processed)) height=(high(day.processed)) {}
                        rect.failed x=(nth * WIDTH + 2) width=(WIDTH - 4)
                            y=(HEIGHT - high(day.failed)) height=(high(day.failed)) {}
                    }
                }
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

fn group_table(language: Language, now: Timestamp, groups: &crate::broker::GroupPage) -> Markup {
    let labels = [
        say(language, "グループ", "Group"),
        say(language, "ジョブ数", "Jobs"),
        say(language, "最初の参加", "First joined"),
        say(language, "最後の参加", "Last joined"),
    ];
    html! {
        div.card.wide tabindex="0" role="region" aria-label=(labels[0]) {
            table {
                thead { tr { @for label in labels { th scope="col" { (label) } } } }
                tbody {
                    @for group in &groups.groups {
                        tr {
                            th scope="row" { (group.group) }
                            td data-label=(labels[1]) { (group.size) }
                            td data-label=(labels[2]) { (instant(language, now, group.oldest)) }
                            td data-label=(labels[3]) { (instant(language, now, group.newest)) }
                        }
                    }
                }
            }
        }
    }
}

/// Actions on all that match; a text is looked for page by page and cannot be acted upon.
fn bulk(language: Language, here: &str, state: JobState, filter: &Filter, total: u64) -> Markup {
    let verbs: &[(&str, &str)] = match state {
        JobState::Pending => &[("archive", "delete")],
        JobState::Scheduled | JobState::Retry => &[("run", "archive"), ("delete", "")],
        JobState::Archived => &[("run", "delete")],
        JobState::Completed => &[("delete", "")],
        JobState::Active | JobState::Aggregating => &[],
    };
    let verbs: Vec<&str> =
        verbs.iter().flat_map(|(a, b)| [*a, *b]).filter(|verb| !verb.is_empty()).collect();
    if total == 0 || verbs.is_empty() {
        return html! {};
    }
    let of_type = filter.job_type.as_deref();
    html! {
        div.actions aria-label=(say(language, "一括操作", "Actions on all")) {
            @for verb in verbs {
                details.sure {
                    summary.small { (verb_words(language, verb)) }
                    div {
                        p {
                            @match (language, of_type) {
                                (Language::Japanese, None) => { (state_word(language, state)) "のジョブ" (total) "件すべてが対象です。" },
                                (Language::Japanese, Some(name)) => { (state_word(language, state)) "のジョブ" (total) "件のうち、タイプ" (name) "のすべてが対象です。" },
                                (Language::English, None) => { "All " (total) " " (state.as_str()) " jobs." },
                                (Language::English, Some(name)) => { "All of type " (name) " among " (total) " " (state.as_str()) " jobs." },
                            }
                        }
                        form.action method="post" action={ (here) "/actions" } {
                            input type="hidden" name="state" value=(state.as_str());
                            input type="hidden" name="action" value=(verb);
                            input type="hidden" name="type" value=(of_type.unwrap_or_default());
                            button.small.grave type="submit" { (verb_words(language, verb)) }
                        }
                    }
                }
            }
        }
    }
}

fn verb_words(language: Language, verb: &str) -> &'static str {
    match verb {
        "run" => say(language, "すべて今すぐ実行", "Run all now"),
        "archive" => say(language, "すべてアーカイブ", "Archive all"),
        _ => say(language, "すべて削除", "Delete all"),
    }
}

#[derive(FromForm)]
struct Wanted<'r> {
    state: &'r str,
    action: &'r str,
    r#type: Option<&'r str>,
}

#[post("/ui/queues/<name>/actions", data = "<form>")]
async fn act(
    _access: ActAccess,
    _origin: SameOrigin,
    asked: Asked,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
    form: Form<Wanted<'_>>,
) -> Result<Redirect, Page> {
    let done = async {
        let (inspector, known) = (queue.shown(), QueueName::new(name)?);
        let wrong = || Error::invalid("state: expected one of those there are, found another");
        let state = JobState::parse(form.state).ok_or_else(wrong)?;
        let mut selection = Selection::from(state);
        if let Some(job_type) = form.r#type.filter(|name| !name.is_empty()) {
            selection = selection.of_type(job_type);
        }
        let bulk = match form.action {
            "run" => inspector.run_all(&known, selection),
            "archive" => inspector.archive_all(&known, selection),
            "delete" => inspector.delete_all(&known, selection),
            _ => return Err(Error::invalid("action: expected run, archive or delete")),
        };
        bulk.await
    };
    match done.await {
        Ok(progress) => {
            audit(&asked, form.action, name, &format!("{} {} jobs", progress.done, form.state));
            let here = format!("{}/ui/queues/{}", reader.base, escaped(name));
            let state = escaped(form.state);
            Ok(layout::back(format!("{here}?state={state}&count={}", progress.done)))
        }
        Err(error) => Err(layout::trouble(&reader, queue, &error)),
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

async fn set_paused(
    queue: &JobQueue,
    reader: &Reader,
    asked: &Asked,
    name: &str,
    paused: bool,
) -> Result<Redirect, Page> {
    let done = async {
        let (inspector, known) = (queue.shown(), QueueName::new(name)?);
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
    routes![show, act, pause, resume]
}
