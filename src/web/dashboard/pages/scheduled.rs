//! What is due when: the next hour by minute, the next day by hour, and the next jobs.
//!
//! Counts come from the store by ranges of due times, so they cost the same for ten jobs and for
//! a million; only the next 50 jobs are read.

use futures_util::stream::{self, StreamExt};
use maud::{Markup, html};
use rocket::{Route, get, routes};

use crate::broker::{JobRow, Page};
use crate::error::Error;
use crate::inspector::Inspector;
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;
use crate::web::dashboard::ui::charts::{self, Bar};
use crate::web::dashboard::ui::parts::empty;
use crate::web::dashboard::ui::{HtmlPage, NavPage, Texts, View, job_table};

/// Maximum queues that are read, the first by name; the page says how many are left out.
const MAX_QUEUES: usize = 200;

/// Maximum jobs on the page.
const MAX_ROWS: usize = 50;

/// Queues that are read at the same time: each may answer with several MB.
const MAX_CONCURRENT: usize = 4;

/// Bars of the chart by minute.
const CHART_MINUTES: i64 = 60;
/// Bars of the chart by hour, of which the first is the hour above.
const CHART_HOURS: i64 = 24;

/// What is due, over all queues.
struct DueJobs {
    /// Until now, then minute by minute of an hour, then hour by hour of the rest of a day.
    counts: Vec<u64>,
    /// The next jobs, scheduled and retrying ones together, by due time.
    next: Vec<JobRow>,
    /// Number of queues beyond [`MAX_QUEUES`].
    left_out: usize,
}

/// The ends of the bars, from now on.
fn ends(now: Timestamp) -> Vec<Timestamp> {
    let after = |secs: i64| Timestamp::from_secs(now.as_secs() + secs);
    let minutes = (0..=CHART_MINUTES).map(|minute| after(60 * minute));
    minutes.chain((2..=CHART_HOURS).map(|hour| after(3600 * hour))).collect()
}

/// Two charts and the next jobs of all queues.
#[get("/ui/scheduled")]
async fn show(view: View<'_>) -> HtmlPage {
    let site = &view.site;
    let (texts, now) = (site.texts(), site.queue.now());
    let content = collect(&site.inspector(), now).await.map(|due| {
        html! {
            (timeline(texts, now, &due))
            h2 { (texts.next_jobs) }
            (job_table::of_state(&site.reader, now, JobState::Scheduled, &due.next))
            @if due.left_out > 0 { p.hint { (texts.queues_left_out) (due.left_out) } }
        }
    });
    site.respond(NavPage::Scheduled, texts.scheduled_title, content)
}

/// Reads counts and first jobs queue by queue. The next jobs are merged as they come, and what
/// is beyond [`MAX_ROWS`] is dropped at once: with many queues the rows would otherwise add up.
async fn collect(inspector: &Inspector, now: Timestamp) -> Result<DueJobs, Error> {
    let queues = inspector.queues().await?;
    let ends = ends(now);
    let page = Page::default().size(u32::try_from(MAX_ROWS).unwrap_or(1))?;
    let of = |name: &QueueName| {
        let (name, ends, page) = (name.clone(), &ends, &page);
        async move {
            let counts = inspector.upcoming(&name, ends).await?;
            let scheduled = inspector.jobs(&name, JobState::Scheduled, page).await?;
            let retry = inspector.jobs(&name, JobState::Retry, page).await?;
            Ok::<_, Error>((counts, scheduled.rows, retry.rows))
        }
    };
    let mut due = DueJobs {
        counts: vec![0; ends.len()],
        next: Vec::new(),
        left_out: queues.len().saturating_sub(MAX_QUEUES),
    };
    let shown = &queues[..queues.len().min(MAX_QUEUES)];
    // Rows that are not shown are dropped before more are read.
    let mut answers = stream::iter(shown.iter().map(of)).buffered(MAX_CONCURRENT);
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
                due.next.truncate(MAX_ROWS);
            }
            Err(error) if error.is_unavailable() => return Err(error),
            // One damaged queue must not hide the others.
            Err(error) => {
                crate::log::warn!(queue = %name, ?error, "cannot list the due jobs of a queue")
            }
        }
    }
    Ok(due)
}

/// The two charts.
fn timeline(texts: &Texts, now: Timestamp, due: &DueJobs) -> Markup {
    let after = |secs: i64| Timestamp::from_secs(now.as_secs() + secs);
    let split = usize::try_from(CHART_MINUTES).unwrap_or_default() + 1;
    let (minutes, hours) = due.counts.split_at(split);
    // Overdue jobs belong to the first bar.
    let first_hour: u64 = minutes.iter().sum();
    let bar = |at: Timestamp, all: u64| Bar {
        when: charts::clock(at),
        all,
        bad: 0,
        is_partial: false,
        note: None,
    };
    let by_minute: Vec<Bar> = (0..CHART_MINUTES)
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
    if due.counts.iter().all(|count| *count == 0) {
        return empty(texts.due_none);
    }
    html! {
        (charts::bars(texts, texts.due_hour, &by_minute))
        (charts::bars(texts, texts.due_day, &by_hour))
    }
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}
