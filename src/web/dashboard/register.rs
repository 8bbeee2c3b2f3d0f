//! The registration page: a form that registers the reference job. It asks the
//! same rules as the REST route and answers with itself.

use rocket::data::{Data, ToByteUnit};
use rocket::http::{ContentType, Status};
use rocket::{Route, get, post, routes};
use serde_json::{Map, Value};

use crate::job::{Idempotency, JobId};
use crate::web::JobQueue;
use crate::web::api::registration::{Fault, Faults, Field, LONGEST_MESSAGE, Registration};
use crate::web::api::{RouteScope, read_bytes, register};
use crate::web::dashboard::{Page, Reader, form_pairs, view};
use crate::web::error::ProblemDetails;
use crate::web::guards::RegisterAccess;
use crate::web::origin::SameOrigin;

/// The name of the hidden field that tells one form from the next.
pub(crate) const TICKET: &str = "ticket";

/// What stands in the form's fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    pub message: String,
    pub delay_seconds: String,
    pub max_retry: String,
}

impl Values {
    pub fn of(&self, field: Field) -> &str {
        match field {
            Field::Message => &self.message,
            Field::DelaySeconds => &self.delay_seconds,
            Field::MaxRetry => &self.max_retry,
        }
    }
}

/// What the page says above the form.
pub(crate) enum Notice {
    /// Nothing was asked for yet.
    None,
    /// Registered now, or before by the same form.
    Registered { id: JobId, again: bool },
    /// Fields are wrong.
    Faults(Faults),
    /// Something else is wrong.
    Problem(ProblemDetails),
}

#[get("/ui/register")]
async fn show(_access: RegisterAccess, reader: Reader) -> Page {
    Page(Status::Ok, view::register(&reader, &Values::default(), &Notice::None))
}

#[post("/ui/register", data = "<body>")]
async fn submit(
    _access: RegisterAccess,
    _origin: SameOrigin,
    queue: &JobQueue,
    scope: RouteScope,
    reader: Reader,
    content: Option<&ContentType>,
    body: Data<'_>,
) -> Result<Page, ProblemDetails> {
    if !content.is_some_and(|content| content.is_form()) {
        let detail = "expected content type application/x-www-form-urlencoded";
        return Err(ProblemDetails::new(Status::UnsupportedMediaType, detail));
    }
    // Every byte of the longest message may take three, and the rest is short.
    // Rocket's own limit for forms is smaller than that.
    let limit = (3 * LONGEST_MESSAGE + 16 * 1024).bytes();
    let body = match read_bytes(body, limit).await {
        Ok(body) => body,
        Err(problem) => return Ok(refused(&reader, &Values::default(), problem)),
    };
    let form = read_form(&String::from_utf8_lossy(&body));
    let values = Values {
        message: text(&form, Field::Message.name()),
        delay_seconds: text(&form, Field::DelaySeconds.name()),
        max_retry: text(&form, Field::MaxRetry.name()),
    };
    let registration = match Registration::from_fields(&form) {
        Ok(registration) => registration,
        Err(faults) => {
            let page = view::register(&reader, &values, &Notice::Faults(faults));
            return Ok(Page(Status::UnprocessableEntity, page));
        }
    };
    // The ticket makes every form its own; sending the same one again, by a
    // second click or a reload, gives the first job's id.
    let key = String::from_utf8_lossy(&body);
    let repeat_guard = Idempotency::new(&scope.0, &key, &body);
    Ok(match register::enqueue(queue, registration, Some(repeat_guard)).await {
        Ok((id, again)) => {
            let notice = Notice::Registered { id, again };
            Page(Status::Ok, view::register(&reader, &Values::default(), &notice))
        }
        Err(problem) => refused(&reader, &values, problem),
    })
}

fn refused(reader: &Reader, values: &Values, problem: ProblemDetails) -> Page {
    let status = problem.status();
    Page(status, view::register(reader, values, &Notice::Problem(problem)))
}

/// The pairs of an urlencoded form as the JSON fields they stand for.
fn read_form(body: &str) -> Map<String, Value> {
    form_pairs(body)
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

/// What a person typed where a number is expected. Japanese input methods give
/// full-width digits.
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
        // Too long for 64 bits: only its being too large or too small matters.
        Value::from(if plain.starts_with('-') { f64::MIN } else { f64::MAX })
    } else {
        Value::String(typed.to_owned())
    }
}

fn text(form: &Map<String, Value>, name: &str) -> String {
    match form.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// The fault of one field, if it has one.
pub(crate) fn fault_of(notice: &Notice, field: Field) -> Option<&Fault> {
    let Notice::Faults(faults) = notice else { return None };
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
        let form = read_form("ticket=1&message=a+b%26%E3%81%82&delay_seconds=%EF%BC%95&max_retry=");
        let expected = json!({"message": "a b&あ", "delay_seconds": 5, "max_retry": null});
        assert_eq!(Value::Object(form), expected);
    }

    #[test]
    fn what_is_typed_as_a_number_is_one_only_where_it_is_whole() {
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
