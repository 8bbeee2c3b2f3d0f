//! Groups: jobs that wait to be made into one, by queue, and what is done to a whole group.

use futures_util::future::join_all;
use maud::{Markup, html};
use rocket::http::Status;
use rocket::{Route, get, routes};

use super::layout::{self, Place, escaped, instant, say};
use super::{Page, Reader, bulk, rows};
use crate::broker::{AggregationSet, GroupPage, Page as ListPage};
use crate::error::Error;
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::api::page as page_of;
use crate::web::guards::ViewAccess;

/// Queues whose groups are shown on one page, queues that are asked for them, and how many
/// of these side by side.
const MOST_QUEUES: usize = 50;
const MAX_ASKED: usize = 500;
const ABREAST: usize = 10;

#[get("/ui/groups?<after>")]
async fn all(_access: ViewAccess, queue: &JobQueue, reader: Reader, after: Option<&str>) -> Page {
    let (language, now) = (reader.language, queue.now());
    let after = after.filter(|after| !after.is_empty()).map(QueueName::stored);
    match collect(queue, after.as_ref()).await {
        Ok((found, next)) => {
            let content = html! {
                @if found.is_empty() && next.is_none() {
                    div.card { p { (say(language, "集約待ちのジョブはありません。", "No job waits in a group.")) } }
                }
                @for (name, groups, sets) in &found {
                    h2 { a href={ (reader.base) "/ui/queues/" (escaped(&name.printable())) "?state=aggregating" } { (name) } }
                    (table(&reader, now, name, groups))
                    (running(&reader, now, sets))
                }
                @if let Some(next) = &next {
                    p.hint { (say(language, "ここまでのキュー: ", "Queues up to ")) (next) }
                    p.more {
                        a href={ (reader.base) "/ui/groups?after=" (escaped(next.as_str())) } {
                            (say(language, "次のキュー", "Next queues"))
                        }
                    }
                }
            };
            let title = say(language, "グループ", "Groups");
            Page(Status::Ok, layout::page(&reader, queue, Place::Groups, title, content))
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

/// The groups of a queue that has some, and the sets that are being aggregated.
type Found = (QueueName, GroupPage, Vec<AggregationSet>);

/// What is found in the queues after this one, and the last one asked, where there are more.
async fn collect(
    queue: &JobQueue,
    after: Option<&QueueName>,
) -> Result<(Vec<Found>, Option<QueueName>), Error> {
    let (inspector, page) = (queue.redacted_inspector(), ListPage::default());
    let mut names = inspector.queues().await?;
    names.retain(|name| after.is_none_or(|after| name > after));
    let of = |name: &QueueName| {
        let (inspector, page, name) = (&inspector, &page, name.clone());
        async move {
            let groups = inspector.groups(&name, page).await?;
            let sets = inspector.aggregations(&name).await?;
            Ok::<_, Error>((name, groups, sets))
        }
    };
    let (mut found, mut asked) = (Vec::new(), 0);
    for some in names[..names.len().min(MAX_ASKED)].chunks(ABREAST) {
        if found.len() >= MOST_QUEUES {
            break;
        }
        for answer in join_all(some.iter().map(of)).await {
            match answer {
                Ok((name, groups, sets)) if groups.total > 0 || !sets.is_empty() => {
                    found.push((name, groups, sets));
                }
                Ok(_) => {}
                Err(error) if error.is_unavailable() => return Err(error),
                // One damaged queue must not hide what another has.
                Err(error) => crate::log::warn!(?error, "could not list the groups of a queue"),
            }
        }
        asked += some.len();
    }
    let next = names.get(asked.saturating_sub(1)).filter(|_| asked < names.len()).cloned();
    Ok((found, next))
}

/// Groups of one queue, each with the way to its jobs.
pub(super) fn table(
    reader: &Reader,
    now: Timestamp,
    queue: &QueueName,
    groups: &GroupPage,
) -> Markup {
    let language = reader.language;
    if groups.groups.is_empty() {
        return html! {};
    }
    let labels = [
        say(language, "グループ", "Group"),
        say(language, "ジョブ数", "Jobs"),
        say(language, "最初の参加", "First joined"),
        say(language, "最後の参加", "Last joined"),
    ];
    let here = format!("{}/ui/queues/{}", reader.base, escaped(&queue.printable()));
    html! {
        div.card.wide tabindex="0" role="region" aria-label=(labels[0]) {
            table {
                thead { tr { @for label in labels { th scope="col" { (label) } } } }
                tbody {
                    @for group in &groups.groups {
                        tr {
                            th scope="row" {
                                a href={ (here) "/group?group=" (escaped(&group.group)) } { (group.group) }
                            }
                            td data-label=(labels[1]) { (group.size) }
                            td data-label=(labels[2]) { (instant(language, now, group.oldest)) }
                            td data-label=(labels[3]) { (instant(language, now, group.newest)) }
                        }
                    }
                }
            }
        }
        @if let Some(next) = &groups.next {
            p.more {
                a href={ (here) "?state=aggregating&cursor=" (next) } {
                    (say(language, "次のページ", "Next page"))
                }
            }
        }
    }
}

/// Sets that a worker is just making into one job.
fn running(reader: &Reader, now: Timestamp, sets: &[AggregationSet]) -> Markup {
    let language = reader.language;
    html! {
        @if !sets.is_empty() {
            p.hint { (say(language, "集約中", "Being aggregated")) }
            ul.running {
                @for set in sets {
                    li {
                        (set.group) ": " (set.size) " "
                        (say(language, "件、期限 ", "jobs, until ")) (instant(language, now, Some(set.expires)))
                    }
                }
            }
        }
    }
}

#[get("/ui/queues/<name>/group?<group>&<cursor>&<count>")]
async fn one(
    _access: ViewAccess,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
    group: Option<&str>,
    cursor: Option<&str>,
    count: Option<u64>,
) -> Page {
    let Some(group) = group.filter(|group| !group.is_empty()) else {
        let error = Error::invalid("group: expected a group's name, found nothing");
        return layout::trouble(&reader, queue, &error);
    };
    match look(queue, &reader, (name, group), cursor, count).await {
        Ok(page) => page,
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

async fn look(
    queue: &JobQueue,
    reader: &Reader,
    (name, group): (&str, &str),
    cursor: Option<&str>,
    count: Option<u64>,
) -> Result<Page, Error> {
    let known = name.parse()?;
    let page = page_of(None, None, cursor);
    let page = page.map_err(|refused| Error::invalid(refused.0.detail().to_owned()))?;
    let found = queue.redacted_inspector().group_jobs(&known, group, &page).await?;
    let language = reader.language;
    let content = html! {
        (layout::counted(language, count))
        p.hint {
            (say(language, "キュー ", "Queue "))
            a href={ (reader.base) "/ui/queues/" (escaped(name)) "?state=aggregating" } { (name) }
            ", " (found.total) " " (say(language, "件のジョブ", "jobs"))
        }
        (rows::table(reader, queue.now(), Some(JobState::Aggregating), &found.rows))
        @if let Some(next) = &found.next {
            p.more {
                a href={ (reader.base) "/ui/queues/" (escaped(name)) "/group?group=" (escaped(group)) "&cursor=" (next) } {
                    (say(language, "次のページ", "Next page"))
                }
            }
        }
        (bulk::buttons(reader, name, &bulk::Which::group(group, found.total)))
    };
    let title = format!("{} {group}", say(language, "グループ", "Group"));
    Ok(Page(Status::Ok, layout::page(reader, queue, Place::Elsewhere, &title, content)))
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![all, one]
}
