//! Job types: a list that finds the slowest, the most failing and the busiest, and a page for each.
//!
//! Figures come from the statistics that workers of this crate store every 10 s. The list costs 27
//! commands, a type's page 55 and one script for each remembered attempt.

use std::time::Duration;

use futures_util::future::join_all;
use maud::{Markup, html};
use rocket::{Route, get, routes};

use crate::broker::{JobInfo, VersionSeen};
use crate::error::Error;
use crate::inspector::search::quoted;
use crate::inspector::{JobTypeDetail, JobTypeSummary, TypeFigures, TypePoint, TypeTimes};
use crate::job::TypeAttempt;
use crate::time::Timestamp;
use crate::web::dashboard::ui::charts::{Bar, bars, clock};
use crate::web::dashboard::ui::parts::{empty, instant, job_link, short, short_type};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::table::{Cell, Row, TableKind, table};
use crate::web::dashboard::ui::{HtmlPage, NavPage, Reader, Site, Texts, View};

/// What the list is sorted by.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// The 95th percentile of the run time, in the last hour or else in 14 days.
    Slowest,
    /// The share of attempts that failed.
    Failing,
    /// The number of attempts.
    Busiest,
}

impl Order {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Slowest, "slowest"), (Self::Failing, "failing"), (Self::Busiest, "busiest")];

    fn parse(word: Option<&str>) -> Result<Self, Error> {
        let Some(word) = word else { return Ok(Self::Slowest) };
        let known = Self::ALL.into_iter().find(|(_, name)| *name == word);
        let found: String = word.chars().take(40).collect();
        known.map(|(order, _)| order).ok_or_else(|| {
            Error::invalid(format!("sort: expected slowest, failing or busiest, found {found:?}"))
        })
    }

    /// Types that ran within the hour come before those that did not.
    fn sort(self, types: &mut [JobTypeSummary]) {
        types.sort_by(|a, b| {
            let by = |figures: &TypeFigures| match self {
                Self::Slowest => figures.run.as_ref().map_or(0.0, |run| run.p95.as_secs_f64()),
                Self::Failing => figures.failure_rate.unwrap_or_default(),
                Self::Busiest => figures.attempts() as f64,
            };
            let key = |one: &JobTypeSummary| (by(&one.last_hour), by(&one.last_14_days));
            let ((hour, days), (other_hour, other_days)) = (key(a), key(b));
            other_hour
                .total_cmp(&hour)
                .then(other_days.total_cmp(&days))
                .then(b.last_14_days.attempts().cmp(&a.last_14_days.attempts()))
                .then_with(|| a.job_type.cmp(&b.job_type))
        });
    }
}

/// The list of job types.
#[get("/ui/types?<sort>")]
async fn list(view: View<'_>, sort: Option<&str>) -> HtmlPage {
    let site = &view.site;
    let texts = site.texts();
    let content = async {
        let order = Order::parse(sort)?;
        let mut types = site.inspector().job_types().await?.types;
        order.sort(&mut types);
        Ok(html! {
            p.hint { (texts.types_hint) }
            @if types.is_empty() { (empty(texts.types_none)) } @else {
                (tabs(&site.reader, order))
                (type_table(&site.reader, &types))
            }
        })
    };
    site.respond(NavPage::Types, texts.types_title, content.await)
}

/// The orders to choose from.
fn tabs(reader: &Reader, order: Order) -> Markup {
    let texts = reader.texts;
    html! {
        nav.tabs aria-label=(texts.types_sorted) {
            @for (one, word) in Order::ALL {
                a href={ (reader.base) "/ui/types?sort=" (word) } aria-current=[(one == order).then_some("page")] {
                    @match one {
                        Order::Slowest => { (texts.types_slowest) }
                        Order::Failing => { (texts.types_failing) }
                        Order::Busiest => { (texts.types_busiest) }
                    }
                }
            }
        }
    }
}

fn type_table(reader: &Reader, types: &[JobTypeSummary]) -> Markup {
    let texts = reader.texts;
    let columns = [
        texts.job_type,
        texts.types_run_hour,
        texts.types_wait_hour,
        texts.types_attempts_hour,
        texts.types_failed_hour,
        texts.types_run_days,
        texts.types_attempts_days,
        texts.types_failed_days,
    ];
    let row = |one: &JobTypeSummary| {
        let head = html! {
            a href={ (reader.base) "/ui/types/" (escaped(&one.job_type)) } { (short_type(&one.job_type)) }
        };
        let (hour, days) = (&one.last_hour, &one.last_14_days);
        let cells = vec![
            Cell::Value(times(texts, hour.run.as_ref())),
            Cell::Value(times(texts, hour.wait.as_ref())),
            Cell::Value(html! { (hour.attempts()) }),
            Cell::Value(failed(hour)),
            Cell::Value(times(texts, days.run.as_ref())),
            Cell::Value(html! { (days.attempts()) }),
            Cell::Value(failed(days)),
        ];
        Row::new(head, cells)
    };
    let rows: Vec<Row> = types.iter().map(row).collect();
    table(TableKind::Plain, texts.types_title, &columns, &rows)
}

/// The three percentiles of a time; a dash if nothing is known.
fn times(texts: &Texts, times: Option<&TypeTimes>) -> Markup {
    let Some(TypeTimes { p50, p95, p99 }) = times else { return html! { "–" } };
    html! { (brief(texts, *p50)) " / " (brief(texts, *p95)) " / " (brief(texts, *p99)) }
}

/// A length of time in two or three digits; minutes and more as elsewhere.
fn brief(texts: &Texts, length: Duration) -> String {
    let millis = length.as_secs_f64() * 1e3;
    match length.as_millis() {
        0..10 => format!("{millis:.1} ms"),
        10..1_000 => format!("{millis:.0} ms"),
        1_000..10_000 => format!("{:.1} s", millis / 1e3),
        _ => (texts.span)(length),
    }
}

/// Failed attempts and their share; a dash without attempts.
fn failed(figures: &TypeFigures) -> Markup {
    let Some(rate) = figures.failure_rate else { return html! { "–" } };
    html! {
        (figures.failed)
        @if figures.failed > 0 { " (" (percent(rate)) ")" }
    }
}

/// A share in percent; one that is not zero is never shown as that.
fn percent(share: f64) -> String {
    let hundredths = share * 100.0;
    if share == 0.0 {
        "0 %".to_owned()
    } else if hundredths < 0.1 {
        "< 0.1 %".to_owned()
    } else if hundredths < 10.0 {
        format!("{hundredths:.1} %")
    } else {
        format!("{hundredths:.0} %")
    }
}

/// One job type.
#[get("/ui/types/<type>")]
async fn one(view: View<'_>, r#type: &str) -> HtmlPage {
    let site = &view.site;
    match site.inspector().job_type(r#type).await {
        Ok(Some(found)) => {
            let content = detail(site, &found).await;
            site.respond(NavPage::Types, r#type, Ok(content))
        }
        Ok(None) => site.missing(site.texts().types_missing),
        Err(error) => site.trouble(&error),
    }
}

/// Figures, charts, remembered attempts, and versions.
async fn detail(site: &Site<'_>, found: &JobTypeDetail) -> Markup {
    let (reader, texts, now) = (&site.reader, site.texts(), site.queue.now());
    let name = &found.summary.job_type;
    let (slowest, failures) =
        (attempts(site, &found.slowest).await, attempts(site, &found.failures).await);
    let search = |states: &str| {
        format!("{}/ui/jobs?q={}", reader.base, escaped(&format!("{states}type:{}", quoted(name))))
    };
    html! {
        (figures(texts, &found.summary))
        p {
            a href=(search("")) { (texts.types_jobs) } " · "
            a href=(search("state:archived state:retry ")) { (texts.types_failed_jobs) }
        }
        (chart(texts, texts.chart_hour, &found.five_minutes, &found.versions, 300))
        (chart(texts, &(texts.chart_days)(found.days.len()), &found.days, &found.versions, 86_400))
        (by_hour(texts, &found.hours))
        section {
            h2 { (texts.types_slowest_attempts) }
            (attempt_table(reader, now, &found.slowest, &slowest))
        }
        section {
            h2 { (texts.types_newest_failures) }
            (attempt_table(reader, now, &found.failures, &failures))
        }
        @if !found.versions.is_empty() {
            section {
                h2 { (texts.types_versions) }
                (versions(reader, now, &found.versions))
            }
        }
    }
}

fn figures(texts: &Texts, summary: &JobTypeSummary) -> Markup {
    let columns = [
        texts.types_time,
        texts.types_attempts,
        texts.types_failed,
        texts.types_run,
        texts.types_wait,
    ];
    let row = |label: &str, figures: &TypeFigures| {
        let cells = vec![
            Cell::Value(html! { (figures.attempts()) }),
            Cell::Value(failed(figures)),
            Cell::Value(times(texts, figures.run.as_ref())),
            Cell::Value(times(texts, figures.wait.as_ref())),
        ];
        Row::new(html! { (label) }, cells)
    };
    let rows = [
        row(texts.types_last_hour, &summary.last_hour),
        row(texts.types_last_days, &summary.last_14_days),
    ];
    table(TableKind::Plain, texts.types_title, &columns, &rows)
}

/// Attempts over time. The bar in which a version was seen first says so.
fn chart(
    texts: &Texts,
    caption: &str,
    points: &[TypePoint],
    versions: &[VersionSeen],
    seconds: i64,
) -> Markup {
    let bar = |point: &TypePoint| {
        let when = match seconds {
            86_400 => point.at.date(),
            _ => clock(point.at),
        };
        let end = point.at.as_secs() + seconds;
        let is_new =
            |seen: &&VersionSeen| (point.at.as_secs()..end).contains(&seen.first_seen.as_secs());
        let new: Vec<&str> =
            versions.iter().rev().filter(is_new).map(|seen| &*seen.version).collect();
        Bar {
            when,
            all: point.figures.attempts(),
            bad: point.figures.failed,
            is_partial: false,
            note: (!new.is_empty()).then(|| (texts.types_since)(&new.join(", "))),
        }
    };
    bars(texts, caption, &points.iter().map(bar).collect::<Vec<_>>())
}

/// The times of the last 24 hours, as far as there were attempts, the newest first.
fn by_hour(texts: &Texts, hours: &[TypePoint]) -> Markup {
    let columns = [
        texts.types_hour,
        texts.types_attempts,
        texts.types_failed,
        texts.types_run,
        texts.types_wait,
    ];
    let row = |point: &TypePoint| {
        let figures = &point.figures;
        let cells = vec![
            Cell::Value(html! { (figures.attempts()) }),
            Cell::Value(failed(figures)),
            Cell::Value(times(texts, figures.run.as_ref())),
            Cell::Value(times(texts, figures.wait.as_ref())),
        ];
        Row::new(html! { time datetime=(point.at) { (clock(point.at)) } }, cells)
    };
    let rows: Vec<Row> =
        hours.iter().rev().filter(|point| point.figures.attempts() > 0).map(row).collect();
    html! {
        @if !rows.is_empty() {
            section {
                h2 { (texts.types_hours) }
                (table(TableKind::Plain, texts.types_hours, &columns, &rows))
            }
        }
    }
}

/// What is known of the jobs of these attempts: the error of one that failed, `None` for a job
/// that is gone.
async fn attempts(site: &Site<'_>, attempts: &[TypeAttempt]) -> Vec<Option<String>> {
    let inspector = site.inspector();
    let look = attempts.iter().map(|one| {
        let inspector = &inspector;
        async move { inspector.job(&one.queue, &one.id).await }
    });
    let known =
        |job: Result<Option<JobInfo>, Error>| Some(short(&job.ok().flatten()?.record.last_error));
    join_all(look).await.into_iter().map(known).collect()
}

/// Attempts with links to their jobs.
fn attempt_table(
    reader: &Reader,
    now: Timestamp,
    attempts: &[TypeAttempt],
    errors: &[Option<String>],
) -> Markup {
    let texts = reader.texts;
    if attempts.is_empty() {
        return empty(texts.types_no_attempts);
    }
    let columns = [texts.job_id, texts.types_ran, texts.types_ended, texts.queue, texts.error];
    let row = |(one, error): (&TypeAttempt, &Option<String>)| {
        let id = html! { code { (one.id) } };
        let head = match error {
            Some(_) => job_link(reader, &one.queue, &one.id, id),
            None => id,
        };
        let error = match error {
            None => texts.types_gone,
            Some(_) if !one.failed => "–",
            Some(error) => error.as_str(),
        };
        let cells = vec![
            Cell::Value(html! { (brief(texts, one.ran)) }),
            Cell::Value(instant(texts, now, Some(one.at))),
            Cell::Value(html! { a href=(reader.queue(&one.queue)) { (one.queue) } }),
            Cell::Error(html! { (error) }),
        ];
        Row::new(head, cells)
    };
    let rows: Vec<Row> = attempts.iter().zip(errors).map(row).collect();
    table(TableKind::Jobs, texts.job_id, &columns, &rows)
}

/// When each version was seen.
fn versions(reader: &Reader, now: Timestamp, versions: &[VersionSeen]) -> Markup {
    let texts = reader.texts;
    let columns = [texts.version, texts.types_first_seen, texts.types_last_seen, ""];
    let row = |seen: &VersionSeen| {
        let query = format!("version:{}", quoted(&seen.version));
        let link = html! {
            a href={ (reader.base) "/ui/jobs?q=" (escaped(&query)) } { (texts.types_jobs) }
        };
        let cells = vec![
            Cell::Value(instant(texts, now, Some(seen.first_seen))),
            Cell::Value(instant(texts, now, Some(seen.last_seen))),
            Cell::Button(link),
        ];
        Row::new(html! { code { (seen.version) } }, cells)
    };
    let rows: Vec<Row> = versions.iter().map(row).collect();
    table(TableKind::Plain, texts.types_versions, &columns, &rows)
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![list, one]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_are_short_and_never_nothing() {
        let texts = Texts::preferred(Some("en"));
        let of = |micros| brief(texts, Duration::from_micros(micros));
        assert_eq!([of(100), of(12_340), of(2_345_000)], ["0.1 ms", "12 ms", "2.3 s"]);
        assert_eq!(of(125_000_000), "2 min 5 s");
        assert_eq!([0.0, 0.0001, 0.034, 0.5].map(percent), ["0 %", "< 0.1 %", "3.4 %", "50 %"]);
    }
}
