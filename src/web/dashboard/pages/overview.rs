//! The overview: what needs an operator's attention, what happened lately, and every queue with
//! its jobs by state. It only reads.
//!
//! It costs one script per queue and two more for the charts, for at most 100 queues, charts for at
//! most 50. What needs attention is the look that all readers of alerts share.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{join, join_all};
use maud::{Markup, html};
use rocket::{Route, get, routes};

use crate::broker::{Coverage, DayStats, MinuteStats, QueueInfo, QueueSummaries, QueueSummary};
use crate::error::Error;
use crate::inspector::{Alert, AlertRule, AlertSince, Alerts, Inspector};
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::alerts::page_of;
use crate::web::dashboard::ui::charts::Uncounted;
use crate::web::dashboard::ui::parts::{empty, fact, grouped, instant, more, oldest};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::table::{Cell, Row, TableKind, table};
use crate::web::dashboard::ui::{HtmlPage, NavPage, Reader, Texts, View, charts, layout};

/// Maximum queues on one page.
const MAX_QUEUES: usize = 100;

/// Maximum queues for which the page draws charts, because they cost two scripts a queue. With
/// more, charts are on the pages of the queues only.
const MAX_CHARTED: usize = 50;

/// Maximum alerts on the page.
const MAX_ALERTS: usize = 20;

/// What the page shows.
struct Told {
    /// The queues of this page.
    queues: Vec<QueueSummary>,
    /// The last of them, if there are more.
    next: Option<QueueName>,
    /// What needs attention.
    alerts: Arc<Alerts>,
    /// The last hour of all queues together.
    minutes: Vec<MinuteStats>,
    /// What is missing in it.
    uncounted: Uncounted,
    /// The last 90 days of all queues together, newest first.
    days: Vec<DayStats>,
}

/// The queues `after` a name, and everything that concerns all of them.
#[get("/ui?<done>&<after>")]
async fn show(view: View<'_>, done: Option<&str>, after: Option<&str>) -> HtmlPage {
    let site = &view.site;
    let (reader, texts, now) = (&site.reader, site.texts(), site.queue.now());
    let after = after.filter(|after| !after.is_empty()).map(QueueName::stored);
    let content = ask(site.queue, after.as_ref()).await.map(|told| {
        html! {
            (layout::notice(texts, done))
            (attention(reader, &told.alerts))
            (sums(texts, now, &told.queues))
            (charts::counted_hour(texts, now, &told.minutes, &told.uncounted))
            (list(reader, now, &told.queues))
            @if let Some(next) = &told.next {
                (more(&format!("{}/ui?after={}", reader.base, escaped(next.as_str())), texts.next_queues))
            }
            (charts::days(texts, &told.days))
        }
    });
    site.respond(NavPage::Overview, texts.title, content)
}

/// Reads what the page shows, as far as possible at the same time.
async fn ask(queue: &JobQueue, after: Option<&QueueName>) -> Result<Told, Error> {
    let inspector = &queue.redacted_inspector();
    let queues = inspector.some_queues(after, MAX_QUEUES + 1);
    let (summaries, alerts) = join(queues, queue.shared_alerts()).await;
    let (QueueSummaries { mut queues, .. }, alerts) = (summaries?, alerts?);
    let has_more = queues.len() > MAX_QUEUES;
    queues.truncate(MAX_QUEUES);
    let next = queues.last().filter(|_| has_more).map(|last| last.queue.clone());
    let (minutes, uncounted, days) = match queues.len() {
        0..=MAX_CHARTED => history(inspector, &queues).await,
        _ => Default::default(),
    };
    Ok(Told { queues, next, alerts, minutes, uncounted, days })
}

/// The attempts of all queues together, by minute and by day. Queues that cannot be read are
/// left out: a damaged queue must not hide the others.
async fn history(
    inspector: &Inspector,
    queues: &[QueueSummary],
) -> (Vec<MinuteStats>, Uncounted, Vec<DayStats>) {
    let (mut minutes, mut days) = (BTreeMap::new(), BTreeMap::new());
    let mut uncounted = Uncounted::default();
    let readable = queues.iter().filter_map(|one| Some((&one.queue, one.info.as_ref()?)));
    let read = readable.map(|(queue, info)| async move {
        let hour = inspector.covered_hour(queue, info);
        (queue, join(hour, inspector.history(queue, 90)).await)
    });
    // Other programs write these counters too, so they may be near the end of an integer.
    for (queue, (lately, history)) in join_all(read).await {
        let (lately, coverage) = lately.unwrap_or((Vec::new(), Coverage::Nothing));
        uncounted.add(queue, coverage);
        for minute in lately {
            let none = MinuteStats { processed: 0, failed: 0, waiting: 0, ..minute };
            let sum = minutes.entry(minute.at).or_insert(none);
            sum.processed = sum.processed.saturating_add(minute.processed);
            sum.failed = sum.failed.saturating_add(minute.failed);
            sum.waiting = sum.waiting.saturating_add(minute.waiting);
        }
        for day in history.unwrap_or_default() {
            let none = DayStats { date: day.date.clone(), processed: 0, failed: 0 };
            let sum = days.entry(Reverse(day.date)).or_insert(none);
            sum.processed = sum.processed.saturating_add(day.processed);
            sum.failed = sum.failed.saturating_add(day.failed);
        }
    }
    (minutes.into_values().collect(), uncounted, days.into_values().collect())
}

/// What needs attention, at most [`MAX_ALERTS`] lines, each with a link to the page that shows it.
fn attention(reader: &Reader, alerts: &Alerts) -> Markup {
    let texts = reader.texts;
    if alerts.alerts.is_empty() && alerts.unchecked.is_empty() && !alerts.more_queues {
        return html! {};
    }
    let unlisted = alerts.unlisted() + alerts.alerts.len().saturating_sub(MAX_ALERTS) as u64;
    html! {
        section.notice.bad role="status" {
            p { (texts.needs_attention) }
            ul {
                @for alert in alerts.alerts.iter().take(MAX_ALERTS) {
                    li { (line(reader, alerts.at, alert)) }
                }
                @if unlisted > 0 { li { ((texts.alerts_more)(unlisted)) } }
                @for rule in &alerts.unchecked {
                    li { (texts.alerts_unchecked) code { (rule.as_str()) } }
                }
                @if alerts.more_queues {
                    li { ((texts.alerts_bounded)(alerts.queues_checked)) }
                }
            }
        }
    }
}

/// One alert: what it is about, what was found, and for how long.
fn line(reader: &Reader, now: Timestamp, alert: &Alert) -> Markup {
    let texts = reader.texts;
    let (page, found) = (format!("{}{}", reader.base, page_of(alert)), (texts.alert)(&alert.found));
    let lasted = alert.lasted(now);
    let lasted = match (alert.since_is, lasted.as_secs()) {
        (AlertSince::Known, _) => (texts.alert_for)(&(texts.span)(lasted)),
        (AlertSince::Seen, 0) => texts.alert_now.to_owned(),
        (AlertSince::Seen, _) => (texts.alert_for_at_least)(&(texts.span)(lasted)),
    };
    html! {
        @match (&alert.queue, &alert.subject) {
            (Some(queue), _) => { a href=(page) { (queue) } ": " (found) }
            (None, Some(subject)) if alert.rule == AlertRule::QueueUnreadable => {
                a href=(page) { code { (subject) } } ": " (found)
            }
            (None, _) => { a href=(page) { (found) } }
        }
        " " span.hint { time datetime=(alert.since) title=(alert.since) { (lasted) } }
    }
}

/// The number of jobs in a state.
fn size(info: &QueueInfo, state: JobState) -> u64 {
    info.sizes.get(state.as_str()).copied().unwrap_or_default()
}

/// All queues together.
fn sums(texts: &Texts, now: Timestamp, queues: &[QueueSummary]) -> Markup {
    let infos: Vec<_> = queues.iter().filter_map(|summary| summary.info.as_ref()).collect();
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
    let state = |state: JobState| -> u64 { sum(&mut infos.iter().map(|info| size(info, state))) };
    let waited = infos.iter().map(|info| info.latency).max().unwrap_or_default();
    let due = infos.iter().filter_map(|info| info.next_due).min();
    let processed = sum(&mut infos.iter().map(|info| info.processed_today));
    let failed = sum(&mut infos.iter().map(|info| info.failed_today));
    html! {
        div.card.facts.sums {
            dl {
                (fact((texts.state_name)(JobState::Pending), html! { (grouped(state(JobState::Pending))) }))
                (fact((texts.state_name)(JobState::Active), html! { (grouped(state(JobState::Active))) }))
                (fact(texts.longest_wait, oldest(texts, waited)))
                (fact(texts.next_due, instant(texts, now, due)))
                (fact(texts.processed_today, html! { (grouped(processed)) }))
                (fact(texts.failed_today, html! { (grouped(failed)) }))
            }
        }
    }
}

/// All queues as a table, each number linked to its list.
fn list(reader: &Reader, now: Timestamp, queues: &[QueueSummary]) -> Markup {
    let texts = reader.texts;
    if queues.is_empty() {
        return empty(texts.queues_none);
    }
    let mut columns = vec![texts.queue];
    columns.extend(JobState::ALL.map(texts.state_name));
    columns.extend([texts.latency, texts.next_due, texts.processed_today, texts.failed_today]);
    let rows: Vec<Row> = queues.iter().map(|summary| row(reader, now, summary)).collect();
    table(TableKind::Plain, texts.queue, &columns, &rows)
}

/// A queue, or the reason why it cannot be read.
fn row(reader: &Reader, now: Timestamp, summary: &QueueSummary) -> Row {
    let (texts, here) = (reader.texts, reader.queue(&summary.queue));
    let head = html! {
        a href=(here) { (summary.queue) }
        @if summary.info.as_ref().is_some_and(|info| info.paused) {
            " " span.tag { (texts.paused) }
        }
    };
    let Some(info) = &summary.info else {
        let problem = summary.problem.as_deref().unwrap_or_default();
        return Row::new(head, vec![Cell::Unreadable(html! { (problem) })]);
    };
    let jobs = |state: JobState| {
        Cell::Value(html! {
            @match size(info, state) {
                0 => { span.zero { "0" } }
                jobs => { a href={ (here) "?state=" (state.as_str()) } { (grouped(jobs)) } }
            }
        })
    };
    let mut cells: Vec<Cell> = JobState::ALL.into_iter().map(jobs).collect();
    cells.extend([
        Cell::Value(oldest(texts, info.latency)),
        Cell::Value(instant(texts, now, info.next_due)),
        Cell::Value(html! { (grouped(info.processed_today)) }),
        Cell::Value(html! { (grouped(info.failed_today)) }),
    ]);
    Row::new(head, cells)
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}
