//! One group of a queue: its jobs, and actions on all of them.
//!
//! The actions are the same as on any list; running a group moves its jobs to pending one by
//! one, without aggregating them.

use maud::{Markup, html};
use rocket::{Route, get, routes};

use super::page_from;
use crate::error::Error;
use crate::job::JobState;
use crate::web::dashboard::ui::bulk_form::{self, Which};
use crate::web::dashboard::ui::parts::more;
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::{HtmlPage, NavPage, Site, View, follow, job_table, layout};

/// The jobs of a group, page by page. The group is a query parameter, because its name may contain
/// any character.
#[get("/ui/queues/<name>/group?<group>&<cursor>&<done>&<count>&<follow>")]
async fn show(
    view: View<'_>,
    name: &str,
    group: Option<&str>,
    cursor: Option<&str>,
    done: Option<&str>,
    count: Option<u64>,
    follow: Option<&str>,
) -> HtmlPage {
    let site = &view.site;
    let Some(group) = group.filter(|group| !group.is_empty()) else {
        return site.trouble(&Error::invalid("group: expected a group's name, found nothing"));
    };
    let title = format!("{} {group}", site.texts().group);
    let content = async {
        let followed = follow::section(&site.reader, &site.inspector(), follow, count).await?;
        let content = content(site, (name, group), cursor).await?;
        Ok(html! {
            @if let Some(count) = count { (layout::counted(site.texts(), done, count)) }
            (followed)
            (content)
        })
    };
    let content = content.await;
    site.respond(NavPage::Elsewhere, &title, content)
}

/// The list, its next page, and the buttons for all jobs of the group.
async fn content(
    site: &Site<'_>,
    (name, group): (&str, &str),
    cursor: Option<&str>,
) -> Result<Markup, Error> {
    let known = name.parse()?;
    let page = page_from(cursor)?;
    let found = site.inspector().group_jobs(&known, group, &page).await?;
    let (reader, texts) = (&site.reader, site.texts());
    let here = format!("{}/ui/queues/{}", reader.base, escaped(name));
    Ok(html! {
        p.hint {
            (texts.queue_prefix)
            a href={ (here) "?state=aggregating" } { (name) }
            ", " (found.total) " " (texts.jobs_unit)
        }
        (job_table::of_state(reader, site.queue.now(), JobState::Aggregating, &found.rows))
        @if let Some(next) = &found.next {
            (more(&format!("{here}/group?group={}&cursor={next}", escaped(group)), texts.next_page))
        }
        (bulk_form::buttons(reader, name, &Which::group(group, found.total)))
    })
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}
