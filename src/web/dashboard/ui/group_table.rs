//! The groups of a queue as a table.
//!
//! A group is linked to its jobs by a query parameter, because its name may contain any character.

use maud::{Markup, html};

use super::Reader;
use super::parts::{instant, more};
use super::reader::escaped;
use super::table::{Cell, Row, TableKind, table};
use crate::broker::GroupPage;
use crate::job::QueueName;
use crate::time::Timestamp;

/// Groups of one queue, each linked to its jobs, and a link to the next page of them; nothing
/// if there are none.
pub(crate) fn group_table(
    reader: &Reader,
    now: Timestamp,
    queue: &QueueName,
    groups: &GroupPage,
) -> Markup {
    let texts = reader.texts;
    if groups.groups.is_empty() {
        return html! {};
    }
    let columns = [texts.group, texts.group_jobs, texts.group_oldest, texts.group_newest];
    let here = reader.queue(queue);
    let rows: Vec<Row> = groups
        .groups
        .iter()
        .map(|group| {
            let head = html! {
                a href={ (here) "/group?group=" (escaped(&group.group)) } { (group.group) }
            };
            let cells = vec![
                Cell::Value(html! { (group.size) }),
                Cell::Value(instant(texts, now, group.oldest)),
                Cell::Value(instant(texts, now, group.newest)),
            ];
            Row::new(head, cells)
        })
        .collect();
    html! {
        (table(TableKind::Plain, texts.group, &columns, &rows))
        @if let Some(next) = &groups.next {
            (more(&format!("{here}?state=aggregating&cursor={next}"), texts.next_page))
        }
    }
}
