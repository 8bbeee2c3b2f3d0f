//! Actions on all jobs of a state, a type or a group of a queue, batch by batch.
//!
//! A short action answers with a redirect to the list. A longer one answers with a page that
//! grows while the work goes on, without scripts: each step is a `div`, of which the style
//! sheet shows the last. The work runs in a task of its own, so it ends even if the browser
//! goes away.
//!
//! The buttons that start an action are in `ui::bulk_form`, for the pages of a queue and
//! of a group.

use std::time::Duration;

use maud::{Markup, PreEscaped, html};
use rocket::response::stream::TextStream;
use rocket::response::{self, Redirect, Responder};
use rocket::{Request, Route, post, routes};
use tokio::sync::watch;

use crate::broker::Page;
use crate::error::Error;
use crate::inspector::{Bulk, Filter, Inspector};
use crate::job::{JobState, QueueName};
use crate::web::api::audit;
use crate::web::api::bulk::selection;
use crate::web::api::queues::state_of;
use crate::web::dashboard::ui::follow::Followed;
use crate::web::dashboard::ui::form::{Form, FormBody};
use crate::web::dashboard::ui::layout::deed_to_jobs;
use crate::web::dashboard::ui::page::{document, marked, sent_as_page, trouble};
use crate::web::dashboard::ui::parts::{CONFIRM, expect_typed};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::{Act, HtmlPage, Reader};
use crate::web::error::ProblemDetails;

/// An action that ends within this time needs no page of its own.
const SHORT_ACTION_TIMEOUT: Duration = Duration::from_millis(700);

/// Interval between two steps of a page that shows progress.
const STEP_INTERVAL: Duration = Duration::from_millis(500);

/// The fields of the form, by their names in REST.
const FIELDS: [&str; 5] = ["state", "action", "type", "group", CONFIRM];

/// The largest form that is read, in bytes.
const MAX_FORM_BYTES: u64 = 64 * 1024;

/// The action of a form, as the inspector carries it out.
///
/// # Errors
/// [`Error::is_invalid`] for an unknown state or action, and for an empty filter.
fn bulk_of(form: &Form, inspector: &Inspector, name: &QueueName) -> Result<Bulk, Error> {
    let selection = selection(form.get("state"), form.get("group"), form.get("type"))?;
    match form.text("action") {
        "run" => Ok(inspector.run_all(name, selection)),
        "archive" => Ok(inspector.archive_all(name, selection)),
        "delete" => {
            expect_typed(form, &name.printable())?;
            Ok(inspector.delete_all(name, selection))
        }
        _ => Err(Error::invalid("action: expected run, archive or delete")),
    }
}

/// The progress of an action.
#[derive(Clone, Default)]
struct StepProgress {
    /// Jobs changed so far.
    done: u64,
    /// Jobs at the start.
    total: u64,
    /// How it ended; `None` while it runs.
    ended: Option<Result<(), Error>>,
}

/// A page that is sent piece by piece, and its destination.
struct StreamedPage {
    reader: Reader,
    /// The action and the queue.
    title: String,
    /// The name of the action in REST.
    action: String,
    /// The address of the list that the action was started from.
    back: String,
    /// The jobs to follow there, as a parameter.
    follow: String,
    /// Receives each batch from the task that does the work.
    states: watch::Receiver<StepProgress>,
}

/// A page that grows while the work goes on, or the way back if it has ended.
enum Acting {
    /// It ended within [`SHORT_ACTION_TIMEOUT`].
    Over(Redirect),
    /// It goes on.
    Shown(StreamedPage),
}

impl<'r> Responder<'r, 'r> for Acting {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'r> {
        let mut shown = match self {
            Acting::Over(redirect) => return redirect.respond_to(request),
            Acting::Shown(shown) => shown,
        };
        /// The position of the steps within the page.
        const HERE: &str = "<!-- steps -->";
        let around = document(
            &shown.reader,
            &shown.title,
            html! {
                main.broad {
                    header { h1 { (shown.title) } }
                    // The style sheet shows the last step only.
                    div.card.steps aria-live="polite" { (PreEscaped(HERE)) }
                    p.hint {
                        (shown.reader.texts.bulk_continues)
                    }
                }
            },
        );
        let around = marked(&around);
        let (head, tail) = around.split_once(HERE).unwrap_or((&around, ""));
        let (head, tail) = (head.to_owned(), tail.to_owned());
        let stream = TextStream! {
            yield head;
            loop {
                let state = shown.states.borrow_and_update().clone();
                yield marked(&step(&shown, &state));
                if state.ended.is_some() || shown.states.changed().await.is_err() {
                    break;
                }
                if shown.states.borrow().ended.is_none() {
                    tokio::time::sleep(STEP_INTERVAL).await;
                }
            }
            yield tail;
        };
        sent_as_page(stream.respond_to(request)?)
    }
}

/// One step: the number of jobs so far, or how it ended.
fn step(shown: &StreamedPage, state: &StepProgress) -> Markup {
    let StreamedPage { reader: Reader { texts, .. }, action, back, follow, .. } = shown;
    let StepProgress { done, total, ended } = state;
    let count = html! {
        ((texts.done_to_some)(deed_to_jobs(action), *done, *total))
    };
    html! {
        div {
            p { progress max=(total.max(&1)) value=(done) {} " " (count) }
            @match ended {
                None => {}
                Some(Ok(())) => {
                    // Goes back without a script.
                    @let back = over(back, action, *done, follow);
                    meta http-equiv="refresh" content={ "1;url=" (back) };
                    p { a href=(back) { (texts.back) } }
                }
                Some(Err(error)) => {
                    (trouble(texts, &ProblemDetails::of_stored(error, "The request could not be completed")))
                    p { a href=(back) { (texts.back) } }
                }
            }
        }
    }
}

/// The address to go to after the action: the list, with what was done and whom to follow.
fn over(back: &str, action: &str, done: u64, follow: &str) -> String {
    format!("{back}&done={}&count={done}{follow}", escaped(action))
}

/// The first jobs of an action that moves them to pending, as a parameter of the address. They are
/// read before it begins: afterwards the list does not have them.
async fn followed(form: &Form, inspector: &Inspector, name: &QueueName) -> Result<String, Error> {
    if form.text("action") != "run" {
        return Ok(String::new());
    }
    let page = Page::default().size(100)?;
    let found = match (form.get("group"), form.get("state")) {
        (Some(group), _) => inspector.group_jobs(name, group, &page).await?,
        (None, Some(state)) => {
            let job_type = form.get("type").map(str::to_owned);
            let filter = Filter { job_type, ..Filter::default() };
            inspector.jobs_where(name, state_of(state)?, &filter, &page).await?
        }
        (None, None) => return Ok(String::new()),
    };
    let jobs: Vec<_> = found.rows.iter().map(|row| (name.clone(), row.id().clone())).collect();
    Ok(Followed::first(jobs.iter()).parameter())
}

/// Starts the action and waits a moment for its end. Two lines go to the audit log, one at the
/// start and one at the end.
#[post("/ui/queues/<name>/actions", data = "<body>")]
async fn act(act: Act<'_>, name: &str, body: FormBody<'_>) -> Result<Acting, HtmlPage> {
    let Act { site, asked } = act;
    let form = Form::read(body, MAX_FORM_BYTES, &FIELDS).await;
    let form = form.map_err(|problem| site.refused(&problem))?;
    let begun = async {
        let (known, inspector) = (name.parse()?, site.inspector());
        let bulk = bulk_of(&form, &inspector, &known)?;
        Ok((bulk, followed(&form, &inspector, &known).await?))
    };
    let (mut bulk, follow) = begun.await.map_err(|error| site.trouble(&error))?;
    let (action, queue) = (form.text("action").to_owned(), name.to_owned());
    let state = form.get("state").unwrap_or(JobState::Aggregating.as_str()).to_owned();
    // Logged before it starts too: the process may end in between.
    audit(&asked, "action on many jobs begins", name, &format!("{action}: {state}"));
    let (tell, mut states) = watch::channel(StepProgress::default());
    tokio::spawn(async move {
        let ended = run(&mut bulk, &tell).await;
        let done = tell.borrow().done;
        // The page may have been closed.
        if let Err(error) = &ended {
            crate::log::warn!(%queue, %action, done, %error, "an action on many jobs ended early");
        }
        audit(&asked, &action, &queue, &format!("{done} {state} jobs"));
        tell.send_modify(|progress| progress.ended = Some(ended));
    });
    let here = format!("{}/ui/queues/{}", site.reader.base, escaped(name));
    let back = match form.get("group") {
        Some(group) => format!("{here}/group?group={}", escaped(group)),
        None => format!("{here}?state={}", escaped(form.text("state"))),
    };
    let short = states.wait_for(|progress| progress.ended.is_some());
    let short = tokio::time::timeout(SHORT_ACTION_TIMEOUT, short).await;
    let progress = short.ok().and_then(Result::ok).map(|progress| progress.clone());
    match progress {
        Some(StepProgress { ended: Some(Err(error)), .. }) => Err(site.trouble(&error)),
        Some(StepProgress { done, .. }) => {
            Ok(Acting::Over(Redirect::to(over(&back, form.text("action"), done, &follow))))
        }
        None => {
            let action = form.text("action").to_owned();
            let label = (site.texts().deed)(deed_to_jobs(&action)).label;
            let title = format!("{label}: {name}");
            let reader = site.reader;
            Ok(Acting::Shown(StreamedPage { reader, title, action, back, follow, states }))
        }
    }
}

/// Carries out the action batch by batch and reports its progress. Between two batches other
/// clients of the store are served.
///
/// # Errors
/// The error of the first batch that failed. The batches before it are done.
async fn run(bulk: &mut Bulk, tell: &watch::Sender<StepProgress>) -> Result<(), Error> {
    while let Some(step) = bulk.step().await? {
        tell.send_modify(|progress| (progress.done, progress.total) = (step.done, step.total));
    }
    Ok(())
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![act]
}
