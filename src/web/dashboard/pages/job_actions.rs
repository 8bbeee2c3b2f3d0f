//! What a job's page links to: actions, downloads, and the search by id.
//!
//! The store checks the state of a job in the step that changes it. So a button on an outdated
//! page can do nothing worse than to answer with an error.

use maud::html;
use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{Route, State, get, post, routes};
use serde::de::IgnoredAny;

use crate::broker::JobInfo;
use crate::error::Error;
use crate::inspector::Cancelled;
use crate::inspector::moment::parse;
use crate::job::{AfterCancel, JobId, Placement, QueueName};
use crate::time::Timestamp;
use crate::web::dashboard::ui::access::FormResult;
use crate::web::dashboard::ui::display::local_text;
use crate::web::dashboard::ui::form::{Form, FormBody};
use crate::web::dashboard::ui::parts::{empty, instant, more};
use crate::web::dashboard::ui::payload::{self, Download, Part};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::{Act, Deed, HtmlPage, NavPage, Site, View};
use crate::web::schemas::Schemas;

/// The largest form that is read, in bytes: the longest payload that can be edited, with each
/// of its bytes escaped.
const MAX_FORM_BYTES: u64 = 4 * payload::MAX_WHOLE_BYTES as u64;

/// A part of a job as it is stored, to be saved as a file.
#[get("/ui/jobs/<name>/<id>/<part>")]
async fn download(view: View<'_>, name: &str, id: &str, part: &str) -> Result<Download, HtmlPage> {
    let found = async {
        let part = Part::parse(part).ok_or_else(|| Error::not_found("a job has no such part"))?;
        let (known, id) = (name.parse()?, id.parse()?);
        let info = view.site.inspector().job(&known, &id).await?;
        let info = info.ok_or_else(|| Error::not_found("there is no such job"))?;
        Ok(Download { name: part.name(), bytes: part.of(&info) })
    };
    found.await.map_err(|error| view.site.trouble(&error))
}

/// Goes to the page of the job with this id, in whichever queue it is. A request searches a
/// bounded number of queues; if none has the job, the page links to a search of the next ones.
#[get("/ui/find?<id>&<after>")]
async fn find(view: View<'_>, id: Option<&str>, after: Option<&str>) -> Result<Redirect, HtmlPage> {
    let site = &view.site;
    let (reader, texts) = (&site.reader, site.texts());
    let found = async {
        let id: JobId = id.unwrap_or_default().trim().parse()?;
        let after = after.filter(|after| !after.is_empty()).map(str::parse).transpose()?;
        let found = site.inspector().find_after(&id, after.as_ref()).await?;
        Ok((id, found))
    };
    let (id, found) = found.await.map_err(|error| site.trouble(&error))?;
    if let Some(JobInfo { record: job, .. }) = found.jobs.first() {
        return match reader.reachable_job(&job.queue, &job.id) {
            Some(path) => Ok(Redirect::to(path)),
            None => Err(site.missing(&(texts.id_too_long)(job.id.as_str().len()))),
        };
    }
    let Some(next) = found.next else { return Err(site.missing(texts.job_id_unknown)) };
    let (id, next) = (escaped(id.as_str()), escaped(&next.printable()));
    let content = html! {
        (empty(texts.job_id_not_yet))
        (more(&format!("{}/ui/find?id={id}&after={next}", reader.base), texts.find_more))
    };
    Err(site.page(Status::NotFound, NavPage::Elsewhere, texts.not_found, content))
}

/// What an action did beside what its name says.
enum Done {
    /// Nothing else.
    Plain,
    /// It made this job.
    Made(JobId),
    /// The job waited, so that its cancellation archived it.
    CancelledWaiting,
}

/// Carries out one action on a job, and redirects to its page: to the duplicate if one was made, or
/// to the queue if the job was deleted.
#[post("/ui/jobs/<name>/<id>/<verb>", data = "<body>")]
async fn act(
    act: Act<'_>,
    schemas: &State<Schemas>,
    name: &str,
    id: &str,
    verb: &str,
    body: FormBody<'_>,
) -> FormResult {
    let site = &act.site;
    let known: &[&str] = match verb {
        "reschedule" => &["when", "at"],
        "edit" => &["payload"],
        _ => &[],
    };
    let form = Form::read(body, MAX_FORM_BYTES, known).await;
    let form = form.map_err(|problem| site.refused(&problem))?;
    // What the words mean is shown before it is done.
    if verb == "reschedule" && form.get("at").is_none() {
        let at = parse(form.text("when"), site.queue.now(), site.reader.zone);
        return Err(at.map_or_else(|error| site.trouble(&error), |at| when(site, name, id, at)));
    }
    let done = async {
        let (queue, job) = (name.parse()?, id.parse()?);
        if verb == "edit" {
            check_edited(&act, schemas, &queue, &job, &form).await?;
        }
        carry_out(&act, &queue, &job, verb, &form).await
    };
    act.redirect(done.await.map(|done| {
        act.audit(verb, name, id);
        let (name, id, verb) = (escaped(name), escaped(id), escaped(verb));
        match done {
            Done::Plain if verb == "delete" => format!("/ui/queues/{name}?done=delete"),
            Done::Plain => format!("/ui/jobs/{name}/{id}?done={verb}"),
            Done::Made(made) => format!("/ui/jobs/{name}/{}?done={verb}", escaped(made.as_str())),
            Done::CancelledWaiting => format!("/ui/jobs/{name}/{id}?done=cancel_waiting"),
        }
    }))
}

/// Asks whether the moment is the one that was meant.
fn when(site: &Site<'_>, name: &str, id: &str, at: Timestamp) -> HtmlPage {
    let (reader, texts) = (&site.reader, site.texts());
    let job = format!("{}/ui/jobs/{}/{}", reader.base, escaped(name), escaped(id));
    let content = html! {
        form method="post" action={ (job) "/reschedule" } {
            p { (texts.reschedule_as) }
            p.moment {
                strong { (local_text(at, reader.zone)) } " (" (instant(texts, site.queue.now(), Some(at))) ")"
            }
            input type="hidden" name="at" value=(at);
            @let words = (texts.deed)(Deed::RescheduleJob);
            button.small.main type="submit" { (words.label) }
            " " a href=(job) { (words.keep) }
        }
    };
    site.page(Status::Ok, NavPage::Elsewhere, (texts.deed)(Deed::RescheduleJob).label, content)
}

/// Carries out the action.
async fn carry_out(
    act: &Act<'_>,
    queue: &QueueName,
    job: &JobId,
    verb: &str,
    form: &Form,
) -> Result<Done, Error> {
    let inspector = act.site.inspector();
    match verb {
        "duplicate" => return inspector.duplicate(queue, job).await.map(Done::Made),
        "run" => inspector.run(queue, job).await,
        "run_next" => inspector.run_next(queue, job).await,
        "archive" => inspector.archive(queue, job).await,
        "delete" => inspector.delete(queue, job).await,
        "cancel" => match inspector.cancel(queue, job, AfterCancel::Archive).await? {
            Cancelled::NotRunning(state) => Err(Error::wrong_state(format!(
                "job {job:?} is {state}: there is no attempt to end"
            ))),
            Cancelled::Requested => Ok(()),
            Cancelled::Done => return Ok(Done::CancelledWaiting),
        },
        "reschedule" => inspector.reschedule(queue, job, confirmed(form)?).await,
        "edit" => inspector.edit_payload(queue, job, edited(form)?).await,
        _ => Err(Error::not_found("there is no such action")),
    }
    .map(|()| Done::Plain)
}

/// When a rescheduled job is due: the moment that the question named.
fn confirmed(form: &Form) -> Result<Placement, Error> {
    let at = Timestamp::parse(form.text("at"));
    at.map(Placement::At).ok_or_else(|| Error::invalid("at: expected a moment, found another text"))
}

/// Checks an edited payload as an enqueued one is: against the schema of its type, and whether its
/// handler can read it. A type that has no handler here has neither.
async fn check_edited(
    act: &Act<'_>,
    schemas: &Schemas,
    queue: &QueueName,
    job: &JobId,
    form: &Form,
) -> Result<(), Error> {
    let payload = edited(form)?;
    // The action itself says that there is no such job.
    let Some(info) = act.site.inspector().job(queue, job).await? else { return Ok(()) };
    let job_type = &info.record.job_type;
    let Some(entry) = act.site.queue.runtime().registry().get(job_type) else { return Ok(()) };
    if let Ok(value) = serde_json::from_str(&payload) {
        schemas.check(job_type, &value).map_err(|problem| {
            let faults = problem.errors().iter();
            let faults: Vec<_> =
                faults.map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect();
            Error::invalid(format!("payload: {}: {}", problem.detail(), faults.join("; ")))
        })?;
    }
    entry.check(payload.as_bytes()).map(drop)
}

/// The payload of an edit form. Forms end lines with CR LF, whatever the textarea had.
fn edited(form: &Form) -> Result<String, Error> {
    let payload = form.text("payload").replace("\r\n", "\n");
    match serde_json::from_str::<IgnoredAny>(&payload) {
        Ok(_) => Ok(payload),
        Err(error) => Err(Error::invalid(format!("payload: expected JSON: {error}"))),
    }
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![download, find, act]
}
