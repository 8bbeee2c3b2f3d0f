//! The groups of all queues: jobs that wait to be aggregated into one.
//!
//! Up to 500 queues are asked whether they have groups, and those that do for their groups, ten at
//! a time, until 50 are found. A set that is being aggregated is shown with the deadline at which its jobs return to the group.

use futures_util::future::join_all;
use maud::{Markup, html};
use rocket::{Route, get, routes};

use crate::broker::{AggregationSet, GroupPage, Page};
use crate::error::Error;
use crate::job::QueueName;
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::dashboard::ui::group_table::group_table;
use crate::web::dashboard::ui::parts::{empty, instant, more};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::{HtmlPage, NavPage, Texts, View};

/// Maximum queues on one page, maximum queues that are asked whether they have groups, and
/// maximum queues whose groups are read concurrently.
const MAX_QUEUES: usize = 50;
const MAX_ASKED: usize = 500;
const MAX_CONCURRENT: usize = 10;

/// The groups of the next queues `after` a name.
#[get("/ui/groups?<after>")]
async fn show(view: View<'_>, after: Option<&str>) -> HtmlPage {
    let site = &view.site;
    let (reader, texts, now) = (&site.reader, site.texts(), site.queue.now());
    let after = after.filter(|after| !after.is_empty()).map(QueueName::stored);
    let content = collect(site.queue, after.as_ref()).await.map(|(found, next)| {
        html! {
            @if found.is_empty() && next.is_none() { (empty(texts.groups_none)) }
            @for (name, groups, sets) in &found {
                h2 { a href={ (reader.queue(name)) "?state=aggregating" } { (name) } }
                (group_table(reader, now, name, groups))
                (running(texts, now, sets))
            }
            @if let Some(next) = &next {
                p.hint { (texts.queues_up_to) (next) }
                (more(&format!("{}/ui/groups?after={}", reader.base, escaped(next.as_str())), texts.next_queues))
            }
        }
    });
    site.respond(NavPage::Groups, texts.groups_title, content)
}

/// A queue with its groups and the sets that are being aggregated.
type QueueGroups = (QueueName, GroupPage, Vec<AggregationSet>);

/// The queues with groups among those after this name, and the last queue that was asked if
/// there are more.
async fn collect(
    queue: &JobQueue,
    after: Option<&QueueName>,
) -> Result<(Vec<QueueGroups>, Option<QueueName>), Error> {
    let (inspector, page) = (queue.redacted_inspector(), Page::default());
    let (names, has_more) = inspector.queues_after(after, MAX_ASKED).await?;
    let with_groups = inspector.with_groups(&names).await?;
    let of = |name: &QueueName| {
        let (inspector, page, name) = (&inspector, &page, name.clone());
        async move {
            let groups = inspector.groups(&name, page).await?;
            let sets = inspector.aggregations(&name).await?;
            Ok::<_, Error>((name, groups, sets))
        }
    };
    let (mut found, mut asked) = (Vec::new(), 0);
    for some in with_groups.chunks(MAX_CONCURRENT) {
        if found.len() >= MAX_QUEUES {
            break;
        }
        for answer in join_all(some.iter().map(of)).await {
            match answer {
                Ok((name, groups, sets)) if groups.total > 0 || !sets.is_empty() => {
                    found.push((name, groups, sets));
                }
                Ok(_) => {}
                Err(error) if error.is_unavailable() => return Err(error),
                // One damaged queue must not hide the others.
                Err(error) => crate::log::warn!(?error, "cannot list the groups of a queue"),
            }
        }
        asked += some.len();
    }
    let next = match asked < with_groups.len() {
        true => with_groups[..asked].last(),
        false => names.last().filter(|_| has_more),
    };
    let next = next.cloned();
    Ok((found, next))
}

/// The sets that workers are aggregating now.
fn running(texts: &Texts, now: Timestamp, sets: &[AggregationSet]) -> Markup {
    html! {
        @if !sets.is_empty() {
            p.hint { (texts.aggregating_now) }
            ul.running {
                @for set in sets {
                    li {
                        (set.group) ": " (set.size) " "
                        (texts.jobs_until) (instant(texts, now, Some(set.expires)))
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
