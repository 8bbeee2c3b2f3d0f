//! Enqueueing by hand: a form made from the job type's JSON Schema, or a field for JSON
//! where it gives none, and the request that a program would send.

use maud::{Markup, html};
use rocket::http::Status;
use rocket::{Data, Route, State, get, post, routes};
use serde_json::Value;

use super::layout::{self, Place, escaped, say};
use super::payload::compact;
use super::{Language, Page, Reader, form_pairs};
use crate::error::Error;
use crate::job::JobId;
use crate::registry::Entry;
use crate::web::JobQueue;
use crate::web::api::enqueue::{Overrides, Schemas};
use crate::web::api::{Asked, audit, read_bytes};
use crate::web::error::ProblemDetails;
use crate::web::guards::{ActAccess, ViewAccess};
use crate::web::origin::SameOrigin;

/// The largest form that is read.
const LARGEST: u64 = 4 << 20;

/// How the fields of a payload are told from those of the form itself.
const PREFIX: &str = "field.";

/// One field of a payload, as its schema has it.
struct Input<'a> {
    name: &'a str,
    about: Option<&'a str>,
    kind: Kind<'a>,
    required: bool,
}

enum Kind<'a> {
    Text,
    Number,
    Flag,
    Choice(Vec<&'a str>),
    /// Whatever no single input can hold.
    Json,
}

/// The fields of a schema of an object; `None` where it is another one.
fn inputs(schema: &Value) -> Option<Vec<Input<'_>>> {
    let properties = schema.get("properties")?.as_object()?;
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let input = |(name, property)| {
        let required = required.contains(&String::as_str(name));
        input(name, property, required)
    };
    Some(properties.iter().map(input).collect())
}

fn input<'a>(name: &'a str, property: &'a Value, required: bool) -> Input<'a> {
    // A schema says one type, or several, of which null is one.
    let types: Vec<&str> = match &property["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let types: Vec<&str> = types.into_iter().filter(|kind| *kind != "null").collect();
    let choices: Option<Vec<&str>> =
        property["enum"].as_array().and_then(|all| all.iter().map(Value::as_str).collect());
    let kind = match (choices, &types[..]) {
        (Some(choices), _) => Kind::Choice(choices),
        (None, ["string"]) => Kind::Text,
        (None, ["integer" | "number"]) => Kind::Number,
        (None, ["boolean"]) => Kind::Flag,
        _ => Kind::Json,
    };
    Input { name, about: property["description"].as_str(), kind, required }
}

/// The payload that a form's fields make, as JSON on one line with the digits that were given.
fn payload(entry: &Entry, form: &[(String, String)]) -> Result<String, Error> {
    let text = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_str());
    let Some(inputs) = entry.schema().and_then(inputs) else {
        let json = text("json").unwrap_or_default();
        return compact(json)
            .map_err(|error| Error::invalid(format!("payload: expected JSON: {error}")));
    };
    let mut fields = Vec::new();
    for input in inputs {
        let given = text(&format!("{PREFIX}{}", input.name));
        let wrong = |expected: &str| {
            Error::invalid(format!("{}: expected {expected}, found another text", input.name))
        };
        let value = match (&input.kind, given) {
            (Kind::Flag, given) => given.is_some().to_string(),
            (_, None | Some("")) if !input.required => continue,
            (Kind::Text | Kind::Choice(_), given) => {
                Value::from(given.unwrap_or_default().replace("\r\n", "\n")).to_string()
            }
            (Kind::Number, given) => {
                let number = compact(given.unwrap_or_default()).ok();
                let is_number =
                    |json: &String| json.starts_with(|c: char| "-0123456789".contains(c));
                number.filter(is_number).ok_or_else(|| wrong("a number"))?
            }
            (Kind::Json, given) => compact(given.unwrap_or_default()).map_err(|_| wrong("JSON"))?,
        };
        fields.push(format!("{}:{value}", Value::from(input.name)));
    }
    Ok(format!("{{{}}}", fields.join(",")))
}

#[get("/ui/enqueue")]
async fn types(_access: ViewAccess, queue: &JobQueue, reader: Reader) -> Page {
    let language = reader.language;
    let content = html! {
        div.card {
            p.hint { (say(language, "このプロセスが処理するジョブタイプ", "Job types that this process runs")) }
            ul {
                @for entry in queue.runtime().registry().entries() {
                    li { a href={ (reader.base) "/ui/enqueue/" (escaped(entry.job_type())) } { (entry.job_type()) } }
                }
            }
        }
    };
    let title = say(language, "ジョブを登録", "Enqueue a job");
    Page(Status::Ok, layout::page(&reader, queue, Place::Enqueue, title, content))
}

/// What the page says above the form.
enum Notice {
    Nothing,
    Done { queue: String, id: JobId },
    Wrong(ProblemDetails),
}

#[get("/ui/enqueue/<type>")]
async fn show(_access: ViewAccess, queue: &JobQueue, reader: Reader, r#type: &str) -> Page {
    match queue.runtime().registry().get(r#type) {
        Some(entry) => form_page(queue, &reader, entry, &[], Notice::Nothing),
        None => unknown(queue, &reader),
    }
}

fn unknown(queue: &JobQueue, reader: &Reader) -> Page {
    let none = say(
        reader.language,
        "このジョブタイプを処理するハンドラーはありません。",
        "No handler here takes jobs of this type.",
    );
    layout::missing(reader, queue, none)
}

#[post("/ui/enqueue/<type>", data = "<body>")]
#[expect(clippy::too_many_arguments, reason = "a route's guards are its arguments")]
async fn submit(
    _access: ActAccess,
    _origin: SameOrigin,
    asked: Asked,
    queue: &JobQueue,
    schemas: &State<Schemas>,
    reader: Reader,
    r#type: &str,
    body: Data<'_>,
) -> Page {
    let Some(entry) = queue.runtime().registry().get(r#type) else {
        return unknown(queue, &reader);
    };
    let form = match read_bytes(body, LARGEST.into()).await {
        Ok(bytes) => form_pairs(&String::from_utf8_lossy(&bytes)).collect::<Vec<_>>(),
        Err(problem) => return form_page(queue, &reader, entry, &[], Notice::Wrong(problem)),
    };
    let done = async {
        let problem = |error: Error| ProblemDetails::of(&error, "Failed to enqueue job");
        let json = payload(entry, &form).map_err(problem)?;
        let value = serde_json::from_str(&json)
            .map_err(|error| problem(Error::invalid(format!("payload: expected JSON: {error}"))))?;
        schemas.check(r#type, &value)?;
        let bytes = json.into_bytes();
        entry.check(&bytes).map_err(problem)?;
        let draft = queue.enqueue_raw(r#type, Some(bytes)).options(entry.options.clone());
        let draft = overrides(&form).over(draft).map_err(|refused| refused.0)?;
        draft.await.map_err(problem)
    };
    let notice = match done.await {
        Ok(receipt) => {
            audit(&asked, "job enqueued", &receipt.queue.printable(), receipt.id.as_str());
            Notice::Done { queue: receipt.queue.to_string(), id: receipt.id }
        }
        Err(problem) => Notice::Wrong(problem),
    };
    form_page(queue, &reader, entry, &form, notice)
}

/// The fields that take the place of the job type's options, with their words.
const OPTIONS: [(&str, &str, &str); 4] = [
    ("queue", "キュー", "Queue"),
    ("delay_seconds", "遅延時間（秒）", "Delay in seconds"),
    ("max_retry", "最大リトライ回数", "Retries at most"),
    ("unique_seconds", "一意ロック（秒）", "Unique for seconds"),
];

fn overrides(form: &[(String, String)]) -> Overrides<'_> {
    let text = |name| Some(value_of(form, name).trim());
    Overrides {
        queue: text("queue"),
        delay_seconds: text("delay_seconds"),
        max_retry: text("max_retry"),
        unique_seconds: text("unique_seconds"),
    }
}

fn form_page(
    queue: &JobQueue,
    reader: &Reader,
    entry: &Entry,
    form: &[(String, String)],
    notice: Notice,
) -> Page {
    let (language, base) = (reader.language, &reader.base);
    let name = entry.job_type();
    let status = match &notice {
        Notice::Wrong(problem) => problem.status(),
        Notice::Nothing | Notice::Done { .. } => Status::Ok,
    };
    let content = html! {
        (said(reader, &notice))
        form method="post" action={ (base) "/ui/enqueue/" (escaped(name)) } autocomplete="off" {
            (payload_fields(language, entry, form))
            fieldset {
                legend { (say(language, "オプション", "Options")) }
                p.hint { (say(language, "空欄はジョブタイプの既定値。", "Empty is the job type's own.")) }
                div.options {
                    @for (name, japanese, english) in OPTIONS {
                        div.field {
                            label for=(name) { (say(language, japanese, english)) }
                            input #(name) name=(name) inputmode=[(name != "queue").then_some("numeric")]
                                value=(value_of(form, name))
                                placeholder=[(name == "queue").then_some(&entry.options.queue)];
                        }
                    }
                }
            }
            button type="submit" { (say(language, "登録", "Enqueue")) }
        }
        h2 { "curl" }
        pre { (curl(base, entry, form)) }
    };
    Page(status, layout::page(reader, queue, Place::Elsewhere, name, content))
}

fn said(reader: &Reader, notice: &Notice) -> Markup {
    let language = reader.language;
    match notice {
        Notice::Nothing => html! {},
        Notice::Done { queue, id } => html! {
            div.notice.good role="status" {
                p { (say(language, "ジョブを登録しました。", "The job is enqueued.")) }
                p { a href={ (reader.base) "/ui/jobs/" (escaped(queue)) "/" (escaped(id.as_str())) } { code { (id) } } }
            }
        },
        Notice::Wrong(problem) => html! {
            div.notice.bad role="alert" {
                p { (problem.detail()) }
                @for fault in problem.errors() { p { code { (fault.pointer) } " " (fault.detail) } }
            }
        },
    }
}

fn payload_fields(language: Language, entry: &Entry, form: &[(String, String)]) -> Markup {
    let Some(inputs) = entry.schema().and_then(inputs) else {
        return html! {
            div.field {
                label for="json" { (say(language, "ペイロード（JSON）", "Payload (JSON)")) }
                textarea #json name="json" rows="8" spellcheck="false" { (value_of(form, "json")) }
            }
        };
    };
    html! {
        @for input in &inputs {
            @let key = format!("{PREFIX}{}", input.name);
            div.field {
                label for=(key) { (input.name) @if input.required { " *" } }
                @match &input.kind {
                    Kind::Choice(choices) => {
                        select #(key) name=(key) required[input.required] {
                            @if !input.required { option value="" {} }
                            @for choice in choices {
                                option value=(choice) selected[value_of(form, &key) == *choice] { (choice) }
                            }
                        }
                    }
                    Kind::Flag => {
                        input.flag #(key) name=(key) type="checkbox" value="true"
                            checked[!value_of(form, &key).is_empty()];
                    }
                    Kind::Json => {
                        textarea #(key) name=(key) rows="4" spellcheck="false" placeholder="JSON" { (value_of(form, &key)) }
                    }
                    Kind::Number => {
                        input #(key) name=(key) inputmode="numeric" value=(value_of(form, &key)) required[input.required];
                    }
                    Kind::Text => {
                        input #(key) name=(key) type="text" value=(value_of(form, &key)) required[input.required];
                    }
                }
                @if let Some(about) = input.about { p.hint { (about) } }
            }
        }
    }
}

fn value_of<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter().find(|(key, _)| key == name).map_or("", |(_, text)| text.as_str())
}

/// The request of a program, in the words of a shell.
fn curl(base: &str, entry: &Entry, form: &[(String, String)]) -> String {
    let payload = payload(entry, form).unwrap_or_else(|_| "{ … }".to_owned());
    let quoted = payload.replace('\'', "'\\''");
    let name = escaped(entry.job_type());
    let given = OPTIONS.iter().map(|(option, _, _)| (option, value_of(form, option).trim()));
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
pub(super) fn routes() -> Vec<Route> {
    routes![types, show, submit]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::JobContext;
    use crate::job::JobError;

    fn entry(schema: Option<Value>) -> Entry {
        let mut entry = Entry::raw("t", async |_: Vec<u8>, _: JobContext| Ok::<_, JobError>(None));
        entry.schema = schema;
        entry
    }

    fn form(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_form_makes_the_payload_that_its_schema_describes() {
        let schema = json!({
            "type": "object",
            "required": ["user", "kind"],
            "properties": {
                "user": { "type": "integer" },
                "note": { "type": ["string", "null"] },
                "loud": { "type": "boolean" },
                "kind": { "enum": ["a", "b"] },
                "tags": { "type": "array" }
            }
        });
        let entry = entry(Some(schema));
        let given = form(&[("field.user", "7"), ("field.kind", "b"), ("field.tags", "[1]")]);
        let made = payload(&entry, &given).unwrap();
        assert_eq!(made, r#"{"kind":"b","loud":false,"tags":[1],"user":7}"#);
        let given = form(&[("field.user", "1e2"), ("field.kind", "b"), ("field.tags", "[1.00 ]")]);
        let made = payload(&entry, &given).unwrap();
        assert_eq!(made, r#"{"kind":"b","loud":false,"tags":[1.00],"user":1e2}"#);
        let wrong = form(&[("field.user", "seven"), ("field.kind", "b")]);
        assert!(
            payload(&entry, &wrong).unwrap_err().to_string().contains("user: expected a number")
        );
    }

    #[test]
    fn without_a_schema_the_payload_is_written_as_json() {
        let entry = entry(None);
        assert_eq!(payload(&entry, &form(&[("json", "[1, 2]")])).unwrap(), "[1,2]");
        assert!(payload(&entry, &form(&[("json", "{")])).is_err());
    }
}
