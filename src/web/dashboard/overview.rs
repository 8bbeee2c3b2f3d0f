//! The overview: what needs a person, what happened lately, and every queue with its jobs
//! by state. It asks the store and shows; it changes nothing.

use std::collections::BTreeMap;

use futures_util::future::{join, join_all};
use maud::{Markup, html};
use rocket::http::Status;
use rocket::{Route, get, routes};

use super::charts;
use super::layout::{self, Place, escaped, fact, instant, say, state_word};
use super::store::finding_words;
use super::{Language, Page, Reader};
use crate::broker::{DayStats, Finding, MinuteStats, QueueSummary, Servers};
use crate::error::Error;
use crate::inspector::Inspector;
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::guards::ViewAccess;

/// Queues on one page.
const MAX_QUEUES: usize = 100;

/// Of more queues than this, what happened lately is on their own pages only: it costs two
/// scripts a queue.
const MOST_CHARTED: usize = 50;

/// A job that waits longer than this is worth a word.
const LONG_WAIT: std::time::Duration = std::time::Duration::from_secs(300);

/// What the page tells.
struct Told {
    queues: Vec<QueueSummary>,
    /// The last of them, where there are more.
    next: Option<QueueName>,
    /// Names of queues that are not UTF-8.
    unnamable: Vec<String>,
    servers: Servers,
    findings: Vec<Finding>,
    minutes: Vec<MinuteStats>,
    days: Vec<DayStats>,
}

#[get("/ui?<done>&<after>")]
async fn show(
    _access: ViewAccess,
    queue: &JobQueue,
    reader: Reader,
    done: Option<&str>,
    after: Option<&str>,
) -> Page {
    let language = reader.language;
    let after = after.filter(|after| !after.is_empty()).map(QueueName::stored);
    match ask(&queue.redacted_inspector(), after.as_ref()).await {
        Ok(told) => {
            let title = say(language, "ジョブキュー", "Job queue");
            let now = queue.now();
            let content = html! {
                (layout::notice(language, done))
                (warnings(&reader, &told))
                (sums(language, now, &told.queues))
                (charts::hour(language, now, &told.minutes))
                (table(&reader, now, &told.queues))
                @if let Some(next) = &told.next {
                    p.more {
                        a href={ (reader.base) "/ui?after=" (escaped(next.as_str())) } {
                            (say(language, "次のキュー", "Next queues"))
                        }
                    }
                }
                (charts::days(language, &told.days))
            };
            Page(Status::Ok, layout::page(&reader, queue, Place::Overview, title, content))
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

async fn ask(inspector: &Inspector, after: Option<&QueueName>) -> Result<Told, Error> {
    let queues = inspector.some_queues(after, MAX_QUEUES + 1);
    let ((queues, unnamable), (servers, findings)) = join(
        join(queues, inspector.unnamable_queues()),
        join(inspector.servers(), inspector.check_store()),
    )
    .await;
    let (mut queues, unnamable, servers) = (queues?, unnamable?, servers?);
    let has_more = queues.len() > MAX_QUEUES;
    queues.truncate(MAX_QUEUES);
    let next = queues.last().filter(|_| has_more).map(|last| last.queue.clone());
    // What cannot be examined is no reason to show nothing.
    let findings = findings.unwrap_or_default();
    let (mut minutes, mut days) = (BTreeMap::new(), BTreeMap::new());
    if queues.len() <= MOST_CHARTED {
        let read = queues.iter().filter(|summary| summary.info.is_some()).map(|summary| {
            join(inspector.last_hour(&summary.queue), inspector.history(&summary.queue, 90))
        });
        // One damaged queue must not hide what another has done.
        for (lately, history) in join_all(read).await {
            for minute in lately.unwrap_or_default() {
                let sum = minutes.entry(minute.at).or_insert(MinuteStats {
                    processed: 0,
                    failed: 0,
                    waiting: 0,
                    ..minute
                });
                // Other programs write these counters too: they may be near the end of an integer.
                sum.processed = sum.processed.saturating_add(minute.processed);
                sum.failed = sum.failed.saturating_add(minute.failed);
                sum.waiting = sum.waiting.saturating_add(minute.waiting);
            }
            for day in history.unwrap_or_default() {
                let sum = days.entry(std::cmp::Reverse(day.date.clone())).or_insert(DayStats {
                    date: day.date,
                    processed: 0,
                    failed: 0,
                });
                sum.processed = sum.processed.saturating_add(day.processed);
                sum.failed = sum.failed.saturating_add(day.failed);
            }
        }
    }
    let (minutes, days) = (minutes.into_values().collect(), days.into_values().collect());
    Ok(Told { queues, next, unnamable, servers, findings, minutes, days })
}

/// What needs a person, in the order in which it hurts.
fn warnings(reader: &Reader, told: &Told) -> Markup {
    let language = reader.language;
    let link = |summary: &QueueSummary| {
        let to = format!("{}/ui/queues/{}", reader.base, escaped(&summary.queue.printable()));
        html! { a href=(to) { (summary.queue) } }
    };
    let mut lines: Vec<Markup> = Vec::new();
    for finding in &told.findings {
        lines.push(html! { (finding_words(language, finding.kind)) });
    }
    for name in &told.unnamable {
        lines.push(html! {
            code { (name) } ": "
            (say(
                language,
                "キュー名がUTF-8ではないため、ここでは表示・操作できません。作成したプログラムから処理・削除してください。",
                "the name of this queue is not UTF-8, so it cannot be looked at or served here; \
                 drain or delete it with the program that made it.",
            ))
        });
    }
    let serving = |summary: &&QueueSummary| {
        let served =
            |server: &crate::broker::ServerInfo| server.queues.contains_key(&summary.queue);
        told.servers.servers.iter().any(served)
    };
    for summary in &told.queues {
        let Some(info) = &summary.info else {
            lines.push(
                html! { (link(summary)) ": " (summary.problem.as_deref().unwrap_or_default()) },
            );
            continue;
        };
        let pending = info.sizes.get(JobState::Pending.as_str()).copied().unwrap_or_default();
        if pending == 0 {
            continue;
        }
        let waits = layout::span(language, info.latency);
        if info.paused {
            lines.push(html! {
                (link(summary)) ": "
                (say(language, "停止中に待機しているジョブ: ", "paused, jobs that wait: ")) (pending)
            });
        } else if !serving(&summary) {
            lines.push(html! {
                (link(summary)) ": "
                (say(language, "処理するワーカーがありません。待機中: ", "no worker takes its jobs; waiting: ")) (pending)
            });
        } else if info.latency >= LONG_WAIT {
            lines.push(html! {
                (link(summary)) ": "
                (say(language, "次のジョブの待ち時間: ", "its next job has waited ")) (waits)
            });
        }
    }
    if lines.is_empty() {
        return html! {};
    }
    html! {
        section.notice.bad role="status" {
            p { (say(language, "要確認", "Needs a look")) }
            ul { @for line in lines.iter().take(20) { li { (line) } } }
        }
    }
}

/// All queues together.
fn sums(language: Language, now: Timestamp, queues: &[QueueSummary]) -> Markup {
    let infos: Vec<_> = queues.iter().filter_map(|summary| summary.info.as_ref()).collect();
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
    let state = |state: JobState| -> u64 {
        sum(&mut infos.iter().filter_map(|info| info.sizes.get(state.as_str()).copied()))
    };
    let waited = infos.iter().map(|info| info.latency).max().unwrap_or_default();
    let due = infos.iter().filter_map(|info| info.next_due).min();
    let processed = sum(&mut infos.iter().map(|info| info.processed_today));
    let failed = sum(&mut infos.iter().map(|info| info.failed_today));
    html! {
        div.card.facts.sums {
            dl {
                (fact(state_word(language, JobState::Pending), html! { (state(JobState::Pending)) }))
                (fact(state_word(language, JobState::Active), html! { (state(JobState::Active)) }))
                (fact(say(language, "最長待ち時間", "Longest wait"), html! { (layout::span(language, waited)) }))
                (fact(say(language, "次の予定", "Next due"), instant(language, now, due)))
                (fact(say(language, "本日の処理数", "Processed today"), html! { (processed) }))
                (fact(say(language, "本日の失敗数", "Failed today"), html! { (failed) }))
            }
        }
    }
}

fn table(reader: &Reader, now: Timestamp, queues: &[QueueSummary]) -> Markup {
    let language = reader.language;
    if queues.is_empty() {
        let none = say(
            language,
            "キューはまだありません。最初のジョブを登録すると表示されます。",
            "There is no queue yet; the first job makes one.",
        );
        return html! { div.card { p { (none) } } };
    }
    let title = say(language, "キュー", "Queue");
    let waited = say(language, "最長待ち時間", "Next has waited");
    let due = say(language, "次の予定", "Next due");
    let processed = say(language, "本日の処理数", "Processed today");
    let failed = say(language, "本日の失敗数", "Failed today");
    html! {
        div.card.wide tabindex="0" role="region" aria-label=(title) {
            table {
                thead {
                    tr {
                        th scope="col" { (title) }
                        @for state in JobState::ALL { th scope="col" { (state_word(language, state)) } }
                        @for label in [waited, due, processed, failed] { th scope="col" { (label) } }
                    }
                }
                tbody {
                    @for QueueSummary { queue, info, problem, .. } in queues {
                        @let here = format!("{}/ui/queues/{}", reader.base, escaped(&queue.printable()));
                        tr {
                            th scope="row" {
                                a href=(here) { (queue) }
                                @if info.as_ref().is_some_and(|info| info.paused) {
                                    " " span.tag { (say(language, "停止中", "paused")) }
                                }
                            }
                            @if let Some(info) = info {
                                @for state in JobState::ALL {
                                    @let jobs = info.sizes.get(state.as_str()).copied().unwrap_or_default();
                                    td data-label=(state_word(language, state)) {
                                        @if jobs > 0 {
                                            a href={ (here) "?state=" (state.as_str()) } { (jobs) }
                                        } @else { "0" }
                                    }
                                }
                                td data-label=(waited) { (layout::span(language, info.latency)) }
                                td data-label=(due) { (instant(language, now, info.next_due)) }
                                td data-label=(processed) { (info.processed_today) }
                                td data-label=(failed) { (info.failed_today) }
                            } @else {
                                td.error colspan="11" { (problem.as_deref().unwrap_or_default()) }
                            }
                        }
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
