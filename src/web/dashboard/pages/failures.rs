//! Failures grouped by what went wrong: which error of which job type is common, with a search
//! that finds the jobs of each row.
//!
//! It reads at most 500 archived and 500 retrying jobs of each queue, for at most two seconds, so
//! that it stays cheap beside a million failed jobs; the newest come first and show the pattern.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use maud::{Markup, html};
use rocket::{Route, get, routes};

use crate::broker::{JobInfo, JobRow, Page};
use crate::error::Error;
use crate::inspector::search::{MAX_LISTS, MAX_ROWS, SEARCH_TIMEOUT, quoted};
use crate::job::{JobState, without_backtrace};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::dashboard::failure::{common, fingerprint};
use crate::web::dashboard::ui::parts::{empty, instant, is_linkable, short, short_type};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::table::{Cell, Row, TableKind, table};
use crate::web::dashboard::ui::{Deed, HtmlPage, NavPage, Reader, View};

/// Pages of 100 jobs that are read of each list: enough to see a pattern, and bounded.
const MAX_PAGES: usize = 5;

/// Failures of the same kind.
struct FailureGroup {
    /// Number of jobs among those that were read.
    count: usize,
    /// The text that all of these errors contain, for a search.
    common: String,
    /// The error of one of them, cut to a line.
    sample: String,
    /// When the last of them failed.
    last: Option<Timestamp>,
    versions: FailureVersions,
}

/// Which versions of the application failed so.
#[derive(Default)]
struct FailureVersions {
    /// The versions in which jobs failed first.
    first: BTreeSet<String>,
    /// When a job last failed in each version, the earliest of all jobs.
    seen: BTreeMap<String, Timestamp>,
    /// Some job failed first in an unknown version.
    is_unknown: bool,
}

impl FailureVersions {
    fn add(&mut self, info: &JobInfo) {
        match &info.first_failed_version {
            Some(version) => _ = self.first.insert(version.clone()),
            None => self.is_unknown = true,
        }
        if let (Some(version), Some(at)) = (&info.version, info.record.last_failed_at) {
            let seen = self.seen.entry(version.clone()).or_insert(at);
            *seen = at.min(*seen);
        }
    }

    /// The first version that failed so. A version in which no job failed last is older than all
    /// others: its jobs have been tried by later ones. `None` if a job failed in an unknown
    /// version, which may have been earlier.
    fn since(&self) -> Option<&str> {
        let oldest = self.first.iter().min_by_key(|version| self.seen.get(*version));
        oldest.filter(|_| !self.is_unknown).map(String::as_str)
    }
}

/// The table of failures, and how many jobs it was made of.
#[get("/ui/failures")]
async fn show(view: View<'_>) -> HtmlPage {
    let site = &view.site;
    let texts = site.texts();
    let content = collect(site.queue).await.map(|(failures, looked)| {
        html! {
            p.hint { (texts.failures_looked) (looked) }
            (list(&site.reader, site.queue.now(), &failures))
        }
    });
    site.respond(NavPage::Failures, texts.failures_title, content)
}

/// Groups the newest archived and retrying jobs of each queue by type and fingerprint, the most
/// frequent first. Also the number of jobs that were read.
async fn collect(queue: &JobQueue) -> Result<(Vec<(String, FailureGroup)>, usize), Error> {
    let (inspector, mut looked, began) = (queue.redacted_inspector(), 0, Instant::now());
    let mut groups: BTreeMap<(String, String), FailureGroup> = BTreeMap::new();
    for name in inspector.queues().await?.into_iter().take(MAX_LISTS) {
        for state in [JobState::Archived, JobState::Retry] {
            // The newest failures: an archive lists its oldest first.
            let turned = |page: Page| match state {
                JobState::Archived => page.backward(),
                _ => page,
            };
            let mut page = turned(Page::default().size(100)?);
            for _ in 0..MAX_PAGES {
                if began.elapsed() > SEARCH_TIMEOUT {
                    break;
                }
                let found = match inspector.jobs(&name, state, &page).await {
                    Ok(found) => found,
                    Err(error) if error.is_unavailable() => return Err(error),
                    Err(_) => break,
                };
                for info in found.rows.iter().filter_map(JobRow::job) {
                    looked += 1;
                    let error = without_backtrace(&info.record.last_error);
                    let key = (info.record.job_type.clone(), fingerprint(error));
                    let failure = groups.entry(key).or_insert_with(|| FailureGroup {
                        count: 0,
                        common: common(&fingerprint(error)),
                        sample: short(error),
                        last: None,
                        versions: FailureVersions::default(),
                    });
                    failure.count += 1;
                    failure.last = failure.last.max(info.record.last_failed_at);
                    failure.versions.add(info);
                }
                let Some(next) = found.next else { break };
                page = turned(Page::after(next).size(100)?);
            }
        }
    }
    let mut failures: Vec<(String, FailureGroup)> =
        groups.into_iter().map(|((job_type, _), failure)| (job_type, failure)).collect();
    failures.sort_by_key(|(_, failure)| std::cmp::Reverse(failure.count));
    failures.truncate(MAX_ROWS);
    Ok((failures, looked))
}

impl FailureGroup {
    /// The search that finds these jobs.
    fn query(&self, job_type: &str) -> String {
        let words = format!("state:archived state:retry type:{}", quoted(job_type));
        match self.common.as_str() {
            "" => words,
            common => format!("{words} error:{}", quoted(common)),
        }
    }
}

/// One row for each kind of failure, the most frequent first, linked to a search for its jobs.
fn list(reader: &Reader, now: Timestamp, failures: &[(String, FailureGroup)]) -> Markup {
    let texts = reader.texts;
    if failures.is_empty() {
        return empty(texts.failures_none);
    }
    let columns = [
        texts.error,
        texts.job_type,
        texts.failures_count,
        texts.since_version,
        texts.last_failure,
        "",
    ];
    let row = |(job_type, failure): &(String, FailureGroup)| {
        let sample = if failure.sample.is_empty() { "–" } else { &failure.sample };
        let head = match is_linkable(job_type) {
            true => {
                let query = escaped(&failure.query(job_type));
                html! { a href={ (reader.base) "/ui/jobs?q=" (query) } { (sample) } }
            }
            false => html! { (sample) },
        };
        let cells = vec![
            Cell::Value(html! { (short_type(job_type)) }),
            Cell::Value(html! { (failure.count) }),
            Cell::Value(html! { (failure.versions.since().unwrap_or("–")) }),
            Cell::Value(instant(texts, now, failure.last)),
            Cell::Button(run(reader, job_type, failure)),
        ];
        Row::long(head, cells)
    };
    table(TableKind::Jobs, texts.error, &columns, &failures.iter().map(row).collect::<Vec<_>>())
}

/// The button that leads to the question whether to run all jobs of this kind. There is none if
/// these errors have no text in common: the search would find every failed job of the type.
fn run(reader: &Reader, job_type: &str, failure: &FailureGroup) -> Markup {
    if failure.common.is_empty() || !is_linkable(job_type) {
        return html! {};
    }
    let words = (reader.texts.deed)(Deed::RunJobs);
    html! {
        form.action method="post" action={ (reader.base) "/ui/jobs/act" } {
            input type="hidden" name="q" value=(failure.query(job_type));
            button.small.plain type="submit" name="all" value="run" title=(words.consequence) { (words.label) }
        }
    }
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobRecord, QueueName};

    #[test]
    fn a_kind_of_failure_is_since_the_first_version_that_failed_so() {
        let failed = |first: Option<&str>, last: &str, second: i64| {
            let mut job = JobRecord::new("t", None, QueueName::stored("q"));
            job.last_failed_at = Some(Timestamp::from_secs(second));
            let mut info = JobInfo::new(job, JobState::Retry);
            info.first_failed_version = first.map(str::to_owned);
            info.version = Some(last.to_owned());
            info
        };
        let since = |jobs: &[JobInfo]| {
            let mut versions = FailureVersions::default();
            jobs.iter().for_each(|info| versions.add(info));
            versions.since().map(str::to_owned)
        };
        let (new, old) = (failed(Some("2.10"), "2.10", 20), failed(Some("2.9"), "2.9", 10));
        assert_eq!(since(&[new.clone(), old.clone()]).as_deref(), Some("2.9"));
        // The one that failed in 2.8 has been tried by 2.10 since.
        let tried = failed(Some("2.8"), "2.10", 30);
        assert_eq!(since(&[new.clone(), old, tried]).as_deref(), Some("2.8"));
        assert_eq!(since(&[new, failed(None, "2.9", 5)]), None);
    }
}
