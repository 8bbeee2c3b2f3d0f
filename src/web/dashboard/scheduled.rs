//! What is due when: the next hour by the minute, the next day by the hour, and the jobs
//! that come next.

use futures_util::stream::{self, StreamExt};
use maud::{Markup, html};
use rocket::http::Status;
use rocket::{Route, get, routes};

use super::charts::{self, Bar};
use super::layout::{self, Place, say};
use super::{Page, Reader, rows};
use crate::broker::{JobRow, Page as ListPage};
use crate::error::Error;
use crate::inspector::Inspector;
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::guards::ViewAccess;

/// Of more queues than this, the first in order are looked at.
const MOST_QUEUES: usize = 200;

/// Jobs shown.
const MOST_ROWS: usize = 50;

/// Queues asked side by side: each may answer with several MB.
const ABREAST: usize = 4;

const MINUTES: i64 = 60;
const HOURS: i64 = 24;

/// What is due, over all queues.
struct Due {
    /// Until now, then minute by minute of an hour, then hour by hour of the rest of a day.
    counts: Vec<u64>,
    next: Vec<JobRow>,
    left_out: usize,
}

fn ends(now: Timestamp) -> Vec<Timestamp> {
    let after = |secs: i64| Timestamp::from_secs(now.as_secs() + secs);
    let minutes = (0..=MINUTES).map(|minute| after(60 * minute));
    minutes.chain((2..=HOURS).map(|hour| after(3600 * hour))).collect()
}

#[get("/ui/scheduled")]
async fn show(_access: ViewAccess, queue: &JobQueue, reader: Reader) -> Page {
    let (language, now) = (reader.language, queue.now());
    match collect(&queue.redacted_inspector(), now).await {
        Ok(due) => {
            let content = html! {
                (timeline(&reader, now, &due))
                h2 { (say(language, "次のジョブ", "Next jobs")) }
                (rows::table(&reader, now, Some(JobState::Scheduled), &due.next))
                @if due.left_out > 0 {
                    p.hint {
                        (say(language, "表示していないキュー: ", "Queues that are not shown here: ")) (due.left_out)
                    }
                }
            };
            let title = say(language, "予定", "Scheduled");
            Page(Status::Ok, layout::page(&reader, queue, Place::Scheduled, title, content))
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

async fn collect(inspector: &Inspector, now: Timestamp) -> Result<Due, Error> {
    let queues = inspector.queues().await?;
    let ends = ends(now);
    let page = ListPage::default().size(u32::try_from(MOST_ROWS).unwrap_or(1))?;
    let of = |name: &QueueName| {
        let (name, ends, page) = (name.clone(), &ends, &page);
        async move {
            let counts = inspector.upcoming(&name, ends).await?;
            let scheduled = inspector.jobs(&name, JobState::Scheduled, page).await?;
            let retry = inspector.jobs(&name, JobState::Retry, page).await?;
            Ok::<_, Error>((counts, scheduled.rows, retry.rows))
        }
    };
    let mut due = Due {
        counts: vec![0; ends.len()],
        next: Vec::new(),
        left_out: queues.len().saturating_sub(MOST_QUEUES),
    };
    let shown = &queues[..queues.len().min(MOST_QUEUES)];
    // What is not shown is let go of before more is read.
    let mut answers = stream::iter(shown.iter().map(of)).buffered(ABREAST);
    for name in shown {
        let Some(found) = answers.next().await else { break };
        match found {
            Ok((counts, scheduled, retry)) => {
                due.counts
                    .iter_mut()
                    .zip(counts)
                    .for_each(|(sum, some)| *sum = sum.saturating_add(some));
                due.next.extend(scheduled.into_iter().chain(retry));
                due.next.sort_by_key(|row| row.job().and_then(|info| info.due));
                due.next.truncate(MOST_ROWS);
            }
            Err(error) if error.is_unavailable() => return Err(error),
            // One damaged queue must not hide what another has.
            Err(error) => crate::log::warn!(queue = %name, ?error, "could not list what is due"),
        }
    }
    Ok(due)
}

fn timeline(reader: &Reader, now: Timestamp, due: &Due) -> Markup {
    let language = reader.language;
    let after = |secs: i64| Timestamp::from_secs(now.as_secs() + secs);
    let split = usize::try_from(MINUTES).unwrap_or_default() + 1;
    let (minutes, hours) = due.counts.split_at(split);
    // Those that are due already belong to the first bar.
    let first_hour: u64 = minutes.iter().sum();
    let bar = |at: Timestamp, all: u64| Bar { when: charts::clock(at), all, bad: 0 };
    let by_minute: Vec<Bar> = (0..MINUTES)
        .zip(&minutes[1..])
        .map(|(nth, count)| {
            let overdue = if nth == 0 { minutes[0] } else { 0 };
            bar(after(60 * nth), count + overdue)
        })
        .collect();
    let by_hour: Vec<Bar> = [first_hour]
        .into_iter()
        .chain(hours.iter().copied())
        .zip(0..)
        .map(|(count, nth)| bar(after(3600 * nth), count))
        .collect();
    let hour = say(language, "今後1時間の予定数", "Due in the next hour");
    let day = say(language, "今後24時間の予定数", "Due in the next 24 hours");
    if due.counts.iter().all(|count| *count == 0) {
        let none = say(
            language,
            "今後24時間に予定されているジョブはありません。",
            "No job is due in the next 24 hours.",
        );
        return html! { div.card { p { (none) } } };
    }
    html! { (charts::bars(language, hour, &by_minute)) (charts::bars(language, day, &by_hour)) }
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![show]
}
