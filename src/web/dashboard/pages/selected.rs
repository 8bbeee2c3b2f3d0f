//! Actions on jobs that were selected by hand, or on all that a search finds. A first request
//! answers with a question that names their number; the second, which repeats the number, acts.
//!
//! The number protects from a surprise in between. If more jobs match by the time of the second
//! request, only as many as the operator has agreed to are acted upon. At most [`MAX_JOBS`]
//! jobs are covered by one action; the question says if there are more.
//!
//! What may surprise. Jobs are acted upon one by one, each in a step of its own and with its
//! own line in the audit log. A job that has moved on meanwhile, or whose state forbids the
//! action, stays as it is and is counted as left alone. If the store goes away in the middle,
//! the page shows the error, and what was done before stays done.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use maud::{Markup, html};
use rocket::http::{RawStr, Status};
use rocket::{Route, post, routes};

use crate::broker::Page;
use crate::error::Error;
use crate::inspector::Inspector;
use crate::inspector::search::{Query, lists};
use crate::job::{JobId, QueueName};
use crate::web::dashboard::ui::access::FormResult;
use crate::web::dashboard::ui::follow::Followed;
use crate::web::dashboard::ui::form::{Form, FormBody, SELECTED};
use crate::web::dashboard::ui::job_table::choice_value;
use crate::web::dashboard::ui::parts::{CONFIRM, empty, expect_typed, typed};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::{Act, Deed, HtmlPage, NavPage, Reader, Site, Texts};

/// The id of the form that the checkboxes of rows belong to.
pub(super) const FORM: &str = "selected";

/// The largest form that is read, in bytes.
const MAX_FORM_BYTES: u64 = 1 << 20;

/// The fields of the form.
const FIELDS: [&str; 6] = ["q", "action", "all", "sure", CONFIRM, SELECTED];

/// Maximum jobs of one action.
const MAX_JOBS: usize = 10_000;

/// How long the jobs of an action are searched for.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum concurrent actions: each is a round trip to the store.
const MAX_CONCURRENT: usize = 32;

/// An action on a job.
#[derive(Clone, Copy, PartialEq)]
enum SelectedVerb {
    /// Move to pending.
    Run,
    /// Move to the archive.
    Archive,
    /// Delete with its unique lock.
    Delete,
}

impl SelectedVerb {
    /// In the order of the buttons.
    const ALL: [SelectedVerb; 3] = [SelectedVerb::Run, SelectedVerb::Archive, SelectedVerb::Delete];

    /// The name in forms and in the audit log.
    fn name(self) -> &'static str {
        match self {
            SelectedVerb::Run => "run",
            SelectedVerb::Archive => "archive",
            SelectedVerb::Delete => "delete",
        }
    }

    /// The action with this name.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == text)
    }

    /// The deed that it is.
    fn deed(self) -> Deed {
        match self {
            SelectedVerb::Run => Deed::RunJobs,
            SelectedVerb::Archive => Deed::ArchiveJobs,
            SelectedVerb::Delete => Deed::DeleteJobs,
        }
    }

    /// The button, in the reader's language.
    fn label(self, texts: &Texts) -> &'static str {
        (texts.deed)(self.deed()).label
    }
}

/// The job that a checkbox names; see [`choice_value`].
pub(super) fn place(text: &str) -> Result<(QueueName, JobId), Error> {
    let (queue, id) = text
        .split_once('/')
        .ok_or_else(|| Error::invalid("job: expected a queue and an id, found another text"))?;
    let decode = |text: &str| RawStr::new(text).url_decode_lossy().into_owned();
    Ok((decode(queue).parse()?, decode(id).parse()?))
}

/// The bar below rows with checkboxes, which stays at the bottom of the window; `query` is the
/// search that found them.
pub(crate) fn buttons(reader: &Reader, query: &str) -> Markup {
    bar(reader, query, true)
}

/// The same without the buttons for all that match.
pub(crate) fn buttons_for_selected(reader: &Reader, query: &str) -> Markup {
    bar(reader, query, false)
}

fn bar(reader: &Reader, query: &str, with_all: bool) -> Markup {
    let texts = reader.texts;
    html! {
        form.action.select id=(FORM) method="post" action={ (reader.base) "/ui/jobs/act" } {
            input type="hidden" name="q" value=(query);
            fieldset {
                legend { (texts.selected_jobs) " " span.count data-selected {} }
                // The script shows it: without one, nothing could be done with it.
                label.all hidden data-all { input.choice type="checkbox"; (texts.select_page) }
                @for verb in SelectedVerb::ALL {
                    button.small type="submit" name="action" value=(verb.name()) { (verb.label(texts)) } " "
                }
            }
            @if with_all {
                fieldset {
                    legend { (texts.all_matching) }
                    @for verb in SelectedVerb::ALL {
                        button.small type="submit" name="all" value=(verb.name()) { (verb.label(texts)) } " "
                    }
                }
            }
        }
    }
}

/// The form as it was sent.
struct SelectedForm {
    /// What to do.
    verb: SelectedVerb,
    /// The selected jobs; `None` for all that match the query.
    jobs: Option<Vec<(QueueName, JobId)>>,
    /// The search, as text; shown again after the action.
    query: String,
    /// The number of jobs that the operator agreed to.
    sure: Option<usize>,
}

impl SelectedForm {
    /// Reads the form.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for an unknown action, a job that cannot be read, or an action on all
    /// results without a search: it would be an action on all jobs.
    fn of(form: &Form) -> Result<Self, Error> {
        let text = |name: &str| form.text(name);
        let all = !text("all").is_empty();
        let verb = SelectedVerb::parse(if all { text("all") } else { text("action") })
            .ok_or_else(|| Error::invalid("action: expected run, archive or delete"))?;
        let chosen =
            form.0.iter().filter(|(name, _)| name == SELECTED).map(|(_, text)| place(text));
        if all && !text("action").is_empty() {
            let wrong = "action: expected it without all, found both";
            return Err(Error::invalid(wrong));
        }
        if all && form.get("q").is_none() {
            return Err(Error::invalid(
                "q: expected the search that found the jobs, found nothing",
            ));
        }
        let jobs = match all {
            true => None,
            false => Some(chosen.collect::<Result<Vec<_>, _>>()?),
        };
        let sure = match text("sure") {
            "" => None,
            count => Some(count.parse::<usize>().map_err(|_| {
                Error::invalid("sure: expected the number of jobs, found another text")
            })?),
        };
        // What is selected was seen; all that match may be anything.
        if let (SelectedVerb::Delete, None, Some(count)) = (verb, &jobs, sure) {
            expect_typed(form, &count.to_string())?;
        }
        Ok(Self { verb, jobs, query: text("q").to_owned(), sure })
    }
}

/// The jobs that a search finds, at most [`MAX_JOBS`], and whether there may be more.
async fn matching(
    inspector: &Inspector,
    query: &Query,
) -> Result<(Vec<(QueueName, JobId)>, bool), Error> {
    let (mut found, began) = (Vec::new(), Instant::now());
    for (name, state) in lists(inspector, query).await? {
        let mut page = Page::default().size(100)?;
        loop {
            if found.len() >= MAX_JOBS || began.elapsed() > SEARCH_TIMEOUT {
                found.truncate(MAX_JOBS);
                return Ok((found, true));
            }
            let some = match inspector.jobs_where(&name, state, &query.filter, &page).await {
                Ok(some) => some,
                Err(error) if error.is_unavailable() => return Err(error),
                // One damaged queue must not block the others.
                Err(_) => break,
            };
            found.extend(some.rows.iter().map(|row| (name.clone(), row.id().clone())));
            let Some(next) = some.next else { break };
            page = Page::after(next).size(100)?;
        }
    }
    Ok((found, false))
}

/// Asks, or acts if the form repeats the number of jobs that the question named.
#[post("/ui/jobs/act", data = "<body>")]
async fn act(act: Act<'_>, body: FormBody<'_>) -> FormResult {
    let site = &act.site;
    let form = Form::read(body, MAX_FORM_BYTES, &FIELDS).await;
    let form = form.map_err(|problem| site.refused(&problem))?;
    let trouble = |error: Error| site.trouble(&error);
    let wanted = SelectedForm::of(&form).map_err(trouble)?;
    let inspector = site.inspector();
    let (mut jobs, more) = match &wanted.jobs {
        Some(jobs) => (jobs.clone(), false),
        None => {
            let query =
                Query::parse(&wanted.query, site.queue.now(), site.reader.zone).map_err(trouble)?;
            matching(&inspector, &query).await.map_err(trouble)?
        }
    };
    let Some(agreed) = wanted.sure.filter(|_| !jobs.is_empty()) else {
        return Err(question(site, &wanted, jobs.len(), more));
    };
    // More may match by now, and the operator has not confirmed those.
    jobs.truncate(agreed);
    let verb = wanted.verb;
    let outcomes = stream::iter(jobs)
        .map(|(name, id)| {
            let (inspector, act) = (&inspector, &act);
            async move {
                let acted = match verb {
                    SelectedVerb::Run => inspector.run(&name, &id).await,
                    SelectedVerb::Archive => inspector.archive(&name, &id).await,
                    SelectedVerb::Delete => inspector.delete(&name, &id).await,
                };
                if acted.is_ok() {
                    act.audit(verb.name(), &name.printable(), id.as_str());
                }
                acted.map(|()| (name, id))
            }
        })
        .buffer_unordered(MAX_CONCURRENT)
        .collect::<Vec<_>>()
        .await;
    // A job that has moved on meanwhile, or whose state forbids the action, stays as it is.
    let total = outcomes.len();
    let (done, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let mut failed = failed.into_iter().filter_map(Result::err);
    if let Some(error) = failed.find(Error::is_unavailable) {
        return Err(trouble(error));
    }
    let mut done: Vec<_> = done.into_iter().flatten().collect();
    // By queue: their names stand in the address once.
    done.sort_by(|(one, _), (other, _)| one.cmp(other));
    let follow = match verb {
        SelectedVerb::Run => Followed::first(done.iter()).parameter(),
        SelectedVerb::Archive | SelectedVerb::Delete => String::new(),
    };
    let (query, verb, count, left) =
        (escaped(&wanted.query), verb.name(), done.len(), total - done.len());
    act.redirect(Ok(format!("/ui/jobs?q={query}&done={verb}&count={count}&left={left}{follow}")))
}

/// Asks before anything happens, with the number of jobs.
fn question(site: &Site<'_>, wanted: &SelectedForm, count: usize, more: bool) -> HtmlPage {
    let (reader, texts, verb) = (&site.reader, site.texts(), wanted.verb);
    let back = format!("{}/ui/jobs?q={}", reader.base, escaped(&wanted.query));
    let words = (texts.deed)(verb.deed());
    let title = (texts.deed_for)(verb.deed(), count as u64);
    let content = html! {
        @if count == 0 {
            (empty(texts.selected_none))
        } @else {
            form method="post" action={ (reader.base) "/ui/jobs/act" } {
                p { (title) ". " (words.consequence) }
                @if more { p.hint { (texts.more_match) } }
                input type="hidden" name="q" value=(wanted.query);
                input type="hidden" name="sure" value=(count);
                @match &wanted.jobs {
                    Some(jobs) => {
                        input type="hidden" name="action" value=(verb.name());
                        @for (name, id) in jobs {
                            input type="hidden" name=(SELECTED) value=(choice_value(&name.printable(), id.as_str()));
                        }
                    }
                    None => {
                        input type="hidden" name="all" value=(verb.name());
                        p { (texts.all_matching) ": " code { (wanted.query) } }
                        @if verb == SelectedVerb::Delete { (typed(texts, &count.to_string())) }
                    }
                }
                div.actions {
                    button.small.grave type="submit" { (title) }
                    a.small href=(back) role="button" { (words.keep) }
                }
            }
        }
        @if count == 0 { p.more { a href=(back) { (texts.back) } } }
    };
    let title = if count == 0 { words.label } else { title.as_str() };
    site.page(Status::Ok, NavPage::Elsewhere, title, content)
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![act]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Form {
        Form(pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn a_checkbox_names_its_job_for_every_id() {
        for named in [&b"a/b c%20\xe6\x97\xa5"[..], b"\xff%\n/ "] {
            let named = JobId::stored(named);
            let (queue, id) = place(&choice_value("mail", named.as_str())).unwrap();
            assert_eq!((queue.as_str(), id), ("mail", named));
        }
        assert!(place("mail").is_err());
        assert!(place("/c").is_err());
    }

    #[test]
    fn a_form_is_for_the_selected_jobs_or_for_all_that_match() {
        let wanted = SelectedForm::of(&form(&[("action", "run"), ("job", "q/1"), ("job", "q/2")]));
        let wanted = wanted.unwrap();
        assert!(wanted.verb == SelectedVerb::Run && wanted.sure.is_none());
        assert_eq!(wanted.jobs.map(|jobs| jobs.len()), Some(2));
        let mut all = vec![("all", "delete"), ("q", "x"), ("job", "q/1"), ("sure", "7")];
        assert!(SelectedForm::of(&form(&all)).is_err(), "the number has to be typed");
        all.push((CONFIRM, "7"));
        let wanted = SelectedForm::of(&form(&all)).unwrap();
        assert!(
            wanted.verb == SelectedVerb::Delete && wanted.sure == Some(7) && wanted.jobs.is_none()
        );
        assert!(SelectedForm::of(&form(&[("all", "delete"), ("q", ""), ("sure", "yes")])).is_err());
        assert!(SelectedForm::of(&form(&[("all", "delete"), ("Q", "x")])).is_err());
        assert!(SelectedForm::of(&form(&[("action", "explode")])).is_err());
        let both = form(&[("all", "delete"), ("action", "run"), ("q", "x")]);
        assert!(SelectedForm::of(&both).is_err());
    }
}
