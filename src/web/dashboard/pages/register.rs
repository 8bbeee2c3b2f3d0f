//! The registration page: a form that registers the reference job. It checks the same rules as
//! the REST route and answers with itself.
//!
//! It does not have the guard of the other pages: it is public unless the application sets a
//! `register_guard`, so it has neither the navigation nor anything about other jobs.

use maud::{Markup, html};
use rocket::data::ToByteUnit;
use rocket::http::{ContentType, Status};
use rocket::{Route, get, post, routes};
use serde_json::{Map, Value};

use crate::job::{Idempotency, JobId};
use crate::web::JobQueue;
use crate::web::api::registration::{Fault, Faults, Field, MAX_MESSAGE_BYTES, Registration};
use crate::web::api::{RouteScope, register};
use crate::web::dashboard::ui::form::{Form, FormBody};
use crate::web::dashboard::ui::page::{document, reason};
use crate::web::dashboard::ui::{HtmlPage, Reader, Texts};
use crate::web::error::ProblemDetails;
use crate::web::guards::RegisterAccess;
use crate::web::origin::SameOrigin;

/// The hidden field that makes each form different from the next. The form as a whole is the
/// idempotency key, so a second click or a reload enqueues nothing, while two people who type
/// the same get two jobs.
const TICKET: &str = "ticket";

/// The values of the form's fields.
#[derive(Clone, Debug, Default)]
struct Values {
    /// The line to print.
    message: String,
    /// The delay as it was typed.
    delay_seconds: String,
    /// The retries as they were typed.
    max_retry: String,
}

impl Values {
    /// The value of a field.
    fn of(&self, field: Field) -> &str {
        match field {
            Field::Message => &self.message,
            Field::DelaySeconds => &self.delay_seconds,
            Field::MaxRetry => &self.max_retry,
        }
    }
}

/// What the page says above the form.
enum RegisterNotice {
    /// The form has not been sent yet.
    None,
    /// Registered now, or before by the same form.
    Registered { id: JobId, again: bool },
    /// Fields are wrong.
    Faults(Faults),
    /// Something else is wrong.
    Problem(ProblemDetails),
}

/// The empty form.
#[get("/ui/register")]
async fn show(_access: RegisterAccess, reader: Reader) -> HtmlPage {
    HtmlPage(Status::Ok, page(&reader, &Values::default(), &RegisterNotice::None))
}

/// Registers the job and answers with the page, whatever the result.
///
/// # Errors
/// 415 for a body that is not a form.
#[post("/ui/register", data = "<body>")]
async fn submit(
    _access: RegisterAccess,
    _origin: SameOrigin,
    queue: &JobQueue,
    scope: RouteScope,
    reader: Reader,
    content: Option<&ContentType>,
    body: FormBody<'_>,
) -> Result<HtmlPage, ProblemDetails> {
    if !content.is_some_and(|content| content.is_form()) {
        let detail = "expected content type application/x-www-form-urlencoded";
        return Err(ProblemDetails::new(Status::UnsupportedMediaType, detail));
    }
    // Each byte of the longest message may be escaped into three; the rest is short. Rocket's
    // own limit for forms is smaller than that.
    let limit = (3 * MAX_MESSAGE_BYTES + 16 * 1024).bytes();
    let body = match body.bytes(limit).await {
        Ok(body) => body,
        Err(problem) => return Ok(refused(&reader, &Values::default(), problem)),
    };
    let form = match Form::parse(&body) {
        Ok(form) => read_form(form),
        Err(problem) => return Ok(refused(&reader, &Values::default(), problem)),
    };
    let values = Values {
        message: text(&form, Field::Message.name()),
        delay_seconds: text(&form, Field::DelaySeconds.name()),
        max_retry: text(&form, Field::MaxRetry.name()),
    };
    let registration = match Registration::from_fields(&form) {
        Ok(registration) => registration,
        Err(faults) => {
            let page = page(&reader, &values, &RegisterNotice::Faults(faults));
            return Ok(HtmlPage(Status::UnprocessableEntity, page));
        }
    };
    // The ticket makes every form different, so the same form sent again, by a second click or a
    // reload, answers with the first job's id.
    let key = String::from_utf8_lossy(&body);
    let repeat_guard = Idempotency::new(&scope.0, &key, &body);
    Ok(match register::enqueue(queue, registration, Some(repeat_guard)).await {
        Ok((id, again)) => {
            let notice = RegisterNotice::Registered { id, again };
            HtmlPage(Status::Ok, page(&reader, &Values::default(), &notice))
        }
        Err(problem) => refused(&reader, &values, problem),
    })
}

/// The page with the values that were sent and the problem.
fn refused(reader: &Reader, values: &Values, problem: ProblemDetails) -> HtmlPage {
    let status = problem.status();
    HtmlPage(status, page(reader, values, &RegisterNotice::Problem(problem)))
}

/// The page: the notice, and the form with these values.
fn page(reader: &Reader, values: &Values, notice: &RegisterNotice) -> Markup {
    let texts = reader.texts;
    let first_wrong = Field::ALL.into_iter().find(|field| fault_of(notice, *field).is_some());
    let form = html! {
        // `novalidate`: the browser's own messages would hide the server's, which are in the
        // page's language and read aloud.
        form method="post" action={ (reader.base) "/ui/register" } novalidate autocomplete="off" {
            input type="hidden" name=(TICKET) value=(crate::chance::uuid());
            @for field in Field::ALL {
                (entry(
                    texts,
                    field,
                    values.of(field),
                    fault_of(notice, field),
                    first_wrong == Some(field),
                ))
            }
            button type="submit" { (texts.register_button) }
        }
    };
    let content = html! {
        main {
            header {
                h1 { (texts.register_title) }
                p { (texts.register_intro) }
            }
            (announcement(texts, notice))
            (form)
        }
    };
    document(reader, texts.register_title, content)
}

/// The result of the form that was sent.
fn announcement(texts: &Texts, notice: &RegisterNotice) -> Markup {
    match notice {
        RegisterNotice::None => html! {},
        RegisterNotice::Registered { id, again } => html! {
            div.notice.good role="status" {
                p { @if *again { (texts.registered_before) } @else { (texts.registered) } }
                p { (texts.registered_id) " " code #job-id { (id) } }
            }
        },
        RegisterNotice::Faults(faults) => html! {
            div.notice.bad role="alert" {
                p { (texts.fields_wrong) }
                @for (name, fault) in faults {
                    @if let Fault::Unknown(_) = fault {
                        p { code { (name) } ": " ((texts.fault)(fault)) }
                    }
                }
            }
        },
        RegisterNotice::Problem(problem) => html! {
            div.notice.bad role="alert" {
                p { (texts.not_registered) }
                (reason(texts, problem))
            }
        },
    }
}

/// One field: label, input, fault and hint, tied together for screen readers.
fn entry(texts: &Texts, field: Field, value: &str, fault: Option<&Fault>, focused: bool) -> Markup {
    let name = field.name();
    let (label, placeholder) = match field {
        Field::Message => (texts.message, crate::demo::DEFAULT_MESSAGE),
        Field::DelaySeconds => (texts.delay_seconds, "180"),
        Field::MaxRetry => (texts.max_retry, "10"),
    };
    let numeric = field != Field::Message;
    let (hint_id, fault_id) = (format!("{name}-hint"), format!("{name}-error"));
    let described = if fault.is_some() { format!("{fault_id} {hint_id}") } else { hint_id.clone() };
    html! {
        div.field {
            label for=(name) { (label) }
            input #(name) name=(name) type="text" value=(value) placeholder=(placeholder)
                inputmode=[numeric.then_some("numeric")] aria-describedby=(described)
                aria-invalid=[fault.map(|_| "true")] autofocus[focused];
            @if let Some(fault) = fault {
                p.fault #(fault_id) { ((texts.fault)(fault)) }
            }
            p.hint #(hint_id) { ((texts.field_hint)(field)) }
        }
    }
}

/// The fields of the form as the JSON fields they stand for. [`Registration`] refuses unknown ones.
fn read_form(form: Form) -> Map<String, Value> {
    form.0
        .into_iter()
        .filter(|(name, _)| name != TICKET)
        .map(|(name, value)| {
            let number = [Field::DelaySeconds, Field::MaxRetry].map(Field::name);
            let value = match number.contains(&name.as_str()) {
                true => number_or_text(&value),
                false => Value::String(value),
            };
            (name, value)
        })
        .collect()
}

/// What was typed into a field for a number. Japanese input methods give full-width digits.
fn number_or_text(typed: &str) -> Value {
    let half_width = |c: char| match c {
        '０'..='９' => char::from_digit(u32::from(c) - u32::from('０'), 10).unwrap_or(c),
        '－' | '−' => '-',
        other => other,
    };
    let plain: String = typed.trim().chars().map(half_width).collect();
    if plain.is_empty() {
        return Value::Null;
    }
    let digits = plain.strip_prefix('-').unwrap_or(&plain);
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if let Ok(number) = plain.parse::<u64>() {
        Value::from(number)
    } else if let Ok(number) = plain.parse::<i64>() {
        Value::from(number)
    } else if whole {
        // Too long for 64 bits: all that matters is that it is out of range.
        Value::from(if plain.starts_with('-') { f64::MIN } else { f64::MAX })
    } else {
        Value::String(typed.to_owned())
    }
}

/// A value as it goes back into its field.
fn text(form: &Map<String, Value>, name: &str) -> String {
    match form.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// The fault of one field, if it has one.
fn fault_of(notice: &RegisterNotice, field: Field) -> Option<&Fault> {
    let RegisterNotice::Faults(faults) = notice else { return None };
    faults.iter().find(|(name, _)| name == field.name()).map(|(_, fault)| fault)
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show, submit]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_form_says_what_a_json_body_would() {
        let sent = b"ticket=1&message=a+b%26%E3%81%82&delay_seconds=%EF%BC%95&max_retry=";
        let form = read_form(Form::parse(sent).unwrap());
        let expected = json!({"message": "a b&あ", "delay_seconds": 5, "max_retry": null});
        assert_eq!(Value::Object(form), expected);
    }

    #[test]
    fn only_whole_numbers_are_read_as_numbers() {
        for (typed, expected) in [
            ("007", json!(7)),
            (" 12 ", json!(12)),
            ("−3", json!(-3)),
            ("2.5", json!("2.5")),
            ("ten", json!("ten")),
            ("-", json!("-")),
            ("99999999999999999999", json!(f64::MAX)),
        ] {
            assert_eq!(number_or_text(typed), expected, "{typed}");
        }
    }
}
