//! Enqueueing by hand: a form made from the job type's schema, the options of the job, and the
//! request with which a program would do the same.
//!
//! A job is enqueued exactly as `POST {base}/jobs/{type}` does it: the payload is checked against
//! the schema and decoded as the handler will decode it, so what a page accepts a handler can read.

use maud::{Markup, html};
use rocket::http::Status;
use rocket::{Route, State, get, post, routes};

use super::selected::place;
use crate::error::Error;
use crate::job::JobId;
use crate::registry::HandlerEntry;
use crate::web::api::enqueue::{Overrides, audited};
use crate::web::dashboard::schema_form::{form_of, payload, payload_fields, payload_names};
use crate::web::dashboard::ui::form::{Form, FormBody};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::{Act, HtmlPage, NavPage, Reader, Site, Texts, View};
use crate::web::error::ProblemDetails;
use crate::web::schemas::Schemas;

/// The largest form that is read, in bytes.
const MAX_FORM_BYTES: u64 = 4 << 20;

/// The job types that have a handler here.
#[get("/ui/enqueue")]
async fn types(view: View<'_>) -> HtmlPage {
    let site = &view.site;
    let texts = site.texts();
    let content = html! {
        div.card {
            p.hint { (texts.enqueue_types) }
            ul {
                @for entry in site.queue.runtime().registry().entries() {
                    li { a href={ (site.reader.base) "/ui/enqueue/" (escaped(entry.job_type())) } { (entry.job_type()) } }
                }
            }
        }
    };
    site.respond(NavPage::Enqueue, texts.enqueue_title, Ok(content))
}

/// What the page says above the form.
enum EnqueueNotice {
    /// The form has not been sent yet.
    Nothing,
    /// The form has the values of a job, except for these fields of its payload.
    Copied(Vec<String>),
    /// The job is enqueued.
    Done { queue: String, id: JobId },
    /// Nothing was stored: this job has the unique lock.
    Held { queue: String, id: JobId },
    /// The payload or an option is invalid, or the store refused.
    Wrong(ProblemDetails),
}

/// A form for one job type; 404 if it has no handler here. `like` names a job whose payload, queue
/// and retries it begins with. Nothing is copied where viewers do not see all of a job.
#[get("/ui/enqueue/<type>?<like>")]
async fn show(view: View<'_>, r#type: &str, like: Option<&str>) -> HtmlPage {
    let site = &view.site;
    let Some(entry) = site.queue.runtime().registry().get(r#type) else {
        return site.missing(site.texts().enqueue_no_handler);
    };
    let Some(like) = like.filter(|_| !site.queue.redacts()) else {
        return form_page(site, entry, &Form(Vec::new()), EnqueueNotice::Nothing);
    };
    let found = async {
        let (queue, id) = place(like)?;
        site.inspector().job(&queue, &id).await
    };
    match found.await {
        Ok(Some(info)) if info.record.job_type == r#type => {
            let job = info.record;
            let payload = String::from_utf8_lossy(job.payload_bytes()).into_owned();
            let (mut form, left_out) = form_of(entry, &payload);
            form.0.push(("queue".to_owned(), job.queue.to_string()));
            form.0.push(("max_retry".to_owned(), job.max_retry.to_string()));
            form_page(site, entry, &form, EnqueueNotice::Copied(left_out))
        }
        Ok(_) => site.missing(site.texts().job_gone),
        Err(error) => site.trouble(&error),
    }
}

/// Enqueues, and answers with the form as it was sent and its result.
#[post("/ui/enqueue/<type>", data = "<body>")]
async fn submit(
    act: Act<'_>,
    schemas: &State<Schemas>,
    r#type: &str,
    body: FormBody<'_>,
) -> HtmlPage {
    let site = &act.site;
    let Some(entry) = site.queue.runtime().registry().get(r#type) else {
        return site.missing(site.texts().enqueue_no_handler);
    };
    let names = payload_names(entry);
    let known: Vec<&str> = names.iter().map(String::as_str).chain(OPTIONS).collect();
    let form = match Form::read(body, MAX_FORM_BYTES, &known).await {
        Ok(form) => form,
        Err(problem) => {
            return form_page(site, entry, &Form(Vec::new()), EnqueueNotice::Wrong(problem));
        }
    };
    let done = async {
        let problem = |error: Error| ProblemDetails::of(&error, "Failed to enqueue job");
        let json = payload(entry, &form).map_err(problem)?;
        let value = serde_json::from_str(&json)
            .map_err(|error| problem(Error::invalid(format!("payload: expected JSON: {error}"))))?;
        schemas.check(r#type, &value)?;
        let bytes = json.into_bytes();
        let own_key = entry.check(&bytes).map_err(problem)?;
        let draft = site.queue.enqueue_raw(r#type, Some(bytes)).options(entry.options.clone());
        let draft = draft.own_key(own_key);
        let draft = overrides(&form).over(draft).map_err(|refused| refused.0)?;
        draft.await.map_err(problem)
    };
    let notice = match done.await {
        Ok(receipt) => {
            let deed = audited(&receipt, form.text("on_conflict").trim());
            if let Some(deed) = deed {
                act.audit(deed, &receipt.queue.printable(), receipt.id.as_str());
            }
            let queue = receipt.queue.to_string();
            match receipt.existing {
                true => EnqueueNotice::Held { queue, id: receipt.id },
                false => EnqueueNotice::Done { queue, id: receipt.id },
            }
        }
        Err(problem) => EnqueueNotice::Wrong(problem),
    };
    form_page(site, entry, &form, notice)
}

/// The fields that override the job type's options, by their names in REST.
const OPTIONS: [&str; 8] = [
    "queue",
    "delay_seconds",
    "max_retry",
    "expires_seconds",
    "unique_seconds",
    "unique_until",
    "unique_key",
    "on_conflict",
];

/// The options with a text; the others are numbers.
const TEXT_OPTIONS: [&str; 4] = ["queue", "unique_until", "unique_key", "on_conflict"];

/// The label of an option.
fn option_label(texts: &Texts, option: &str) -> &'static str {
    match option {
        "queue" => texts.queue,
        "delay_seconds" => texts.delay_seconds,
        "max_retry" => texts.max_retry,
        "expires_seconds" => texts.expires_seconds,
        "unique_until" => texts.unique_until,
        "unique_key" => texts.unique_key,
        "on_conflict" => texts.on_conflict,
        _ => texts.unique_seconds,
    }
}

/// What an empty field stands for, or what it takes.
fn placeholder<'a>(entry: &'a HandlerEntry, option: &str) -> Option<&'a str> {
    match option {
        "queue" => Some(&entry.options.queue),
        "unique_until" => Some("start, success, expiry"),
        "on_conflict" => Some("reject, existing, replace, extend"),
        _ => None,
    }
}

/// The options that were sent, for REST's own checks.
fn overrides(form: &Form) -> Overrides<'_> {
    let text = |name| Some(form.text(name).trim());
    Overrides {
        queue: text("queue"),
        delay_seconds: text("delay_seconds"),
        max_retry: text("max_retry"),
        expires_seconds: text("expires_seconds"),
        unique_seconds: text("unique_seconds"),
        unique_until: text("unique_until"),
        unique_key: text("unique_key"),
        on_conflict: text("on_conflict"),
    }
}

/// The notice, the form, and the same request as a command.
fn form_page(
    site: &Site<'_>,
    entry: &HandlerEntry,
    form: &Form,
    notice: EnqueueNotice,
) -> HtmlPage {
    let (reader, texts) = (&site.reader, site.texts());
    let name = entry.job_type();
    let status = match &notice {
        EnqueueNotice::Wrong(problem) => problem.status(),
        EnqueueNotice::Nothing
        | EnqueueNotice::Copied(_)
        | EnqueueNotice::Done { .. }
        | EnqueueNotice::Held { .. } => Status::Ok,
    };
    let content = html! {
        (said(reader, &notice))
        form method="post" action={ (reader.base) "/ui/enqueue/" (escaped(name)) } autocomplete="off" {
            (payload_fields(texts, entry, form))
            fieldset {
                legend { (texts.enqueue_options) }
                p.hint { (texts.enqueue_defaults) }
                div.options {
                    @for name in OPTIONS {
                        div.field {
                            label for=(name) { (option_label(texts, name)) }
                            input #(name) name=(name) inputmode=[(!TEXT_OPTIONS.contains(&name)).then_some("numeric")]
                                value=(form.text(name))
                                placeholder=[placeholder(entry, name)];
                        }
                    }
                }
            }
            button type="submit" { (texts.enqueue) }
        }
        h2 { "curl" }
        pre { (curl(&reader.base, entry, form)) }
    };
    site.page(status, NavPage::Elsewhere, name, content)
}

/// The result of the form: the job's id, or what is wrong with which field.
fn said(reader: &Reader, notice: &EnqueueNotice) -> Markup {
    let texts = reader.texts;
    let linked = |text: &str, queue: &str, id: &JobId| {
        html! {
            div.notice.good role="status" {
                p { (text) }
                p { a href={ (reader.base) "/ui/jobs/" (escaped(queue)) "/" (escaped(id.as_str())) } { code { (id) } } }
            }
        }
    };
    match notice {
        EnqueueNotice::Nothing => html! {},
        EnqueueNotice::Copied(left_out) => html! {
            @if !left_out.is_empty() {
                div.notice.bad role="alert" { p { (texts.fields_left_out) (left_out.join(", ")) } }
            }
        },
        EnqueueNotice::Done { queue, id } => linked(texts.enqueued, queue, id),
        EnqueueNotice::Held { queue, id } => linked(texts.enqueue_held, queue, id),
        EnqueueNotice::Wrong(problem) => html! {
            div.notice.bad role="alert" {
                p { (problem.detail()) }
                @for fault in problem.errors() { p { code { (fault.pointer) } " " (fault.detail) } }
            }
        },
    }
}

/// The same request as a shell command.
fn curl(base: &str, entry: &HandlerEntry, form: &Form) -> String {
    let payload = payload(entry, form).unwrap_or_else(|_| "{ … }".to_owned());
    let quoted = payload.replace('\'', "'\\''");
    let name = escaped(entry.job_type());
    let given = OPTIONS.iter().map(|option| (option, form.text(option).trim()));
    let given = given.filter(|(_, value)| !value.is_empty());
    let query: Vec<String> =
        given.map(|(option, value)| format!("{option}={}", escaped(value))).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    format!(
        "curl -X POST -H 'Content-Type: application/json' \\\n  -d '{quoted}' \\\n  \
         \"$ORIGIN{base}/jobs/{name}{query}\""
    )
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![types, show, submit]
}
