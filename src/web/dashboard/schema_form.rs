//! The form of a payload, made from the JSON Schema of its job type; without a schema, one field
//! for JSON. And the way back: the payload that a sent form makes.
//!
//! Only the fields of an object get inputs of their own; a nested value is typed as JSON. The
//! result is checked against the whole schema afterwards, so the form may be simpler than the
//! schema.
//!
//! | schema of a field | input |
//! | --- | --- |
//! | `enum` of strings | a list to choose from |
//! | `string` | a line of text |
//! | `integer`, `number` | a line for a number |
//! | `boolean` | a checkbox; not checked is `false` |
//! | anything else, or several types | JSON |
//!
//! An empty field that is not required is left out of the payload. `null` as a second type makes no
//! difference: a form cannot send `null`, REST can.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::registry::HandlerEntry;
use crate::web::dashboard::ui::Texts;
use crate::web::dashboard::ui::form::Form;
use crate::web::dashboard::ui::payload::compact;

/// Begins the names of payload fields, apart from the fields of the form itself.
const PREFIX: &str = "field.";

/// The field of a payload without a schema.
const JSON: &str = "json";

/// How much is named of a payload that is no object, in characters.
const MAX_LEFT_OUT_CHARS: usize = 100;

/// One field of a payload, as its schema describes it.
struct Input<'a> {
    /// Its name in the payload.
    name: &'a str,
    /// The schema's description, shown as a hint.
    about: Option<&'a str>,
    /// How it is typed in.
    kind: InputKind<'a>,
    /// Whether the payload is invalid without it.
    required: bool,
}

/// The input that suits a field.
enum InputKind<'a> {
    /// A line of text.
    Text,
    /// A number, sent with the digits that were typed.
    Number,
    /// A checkbox; absent means false.
    Flag,
    /// One of these values.
    Choice(Vec<&'a str>),
    /// A value without a suitable form field.
    Json,
}

/// The fields of an object's schema; `None` for the schema of anything else.
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

/// The input of one property, by its type and enumeration.
fn input<'a>(name: &'a str, property: &'a Value, required: bool) -> Input<'a> {
    // A schema names one type, or several such as a string or null.
    let types: Vec<&str> = match &property["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let types: Vec<&str> = types.into_iter().filter(|kind| *kind != "null").collect();
    let choices: Option<Vec<&str>> =
        property["enum"].as_array().and_then(|all| all.iter().map(Value::as_str).collect());
    let kind = match (choices, &types[..]) {
        (Some(choices), _) => InputKind::Choice(choices),
        (None, ["string"]) => InputKind::Text,
        (None, ["integer" | "number"]) => InputKind::Number,
        (None, ["boolean"]) => InputKind::Flag,
        _ => InputKind::Json,
    };
    Input { name, about: property["description"].as_str(), kind, required }
}

/// The names of the fields from which [`payload`] makes a payload.
pub(crate) fn payload_names(entry: &HandlerEntry) -> Vec<String> {
    match entry.schema().and_then(inputs) {
        Some(inputs) => inputs.iter().map(|input| format!("{PREFIX}{}", input.name)).collect(),
        None => vec![JSON.to_owned()],
    }
}

/// The payload of a sent form, as JSON on one line. Numbers keep the digits that were typed.
///
/// # Errors
/// [`Error::is_invalid`] with the field, for text that is not a value of its kind.
pub(crate) fn payload(entry: &HandlerEntry, form: &Form) -> Result<String, Error> {
    let text = |name: &str| form.get(name);
    let Some(inputs) = entry.schema().and_then(inputs) else {
        let json = text(JSON).unwrap_or_default();
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
            (InputKind::Flag, given) => given.is_some().to_string(),
            (_, None | Some("")) if !input.required => continue,
            (InputKind::Text | InputKind::Choice(_), given) => {
                Value::from(given.unwrap_or_default().replace("\r\n", "\n")).to_string()
            }
            (InputKind::Number, given) => {
                let number = compact(given.unwrap_or_default()).ok();
                let is_number =
                    |json: &String| json.starts_with(|c: char| "-0123456789".contains(c));
                number.filter(is_number).ok_or_else(|| wrong("a number"))?
            }
            (InputKind::Json, given) => {
                compact(given.unwrap_or_default()).map_err(|_| wrong("JSON"))?
            }
        };
        fields.push(format!("{}:{value}", Value::from(input.name)));
    }
    Ok(format!("{{{}}}", fields.join(",")))
}

/// The form that makes a payload like this one, and the names of its fields for which the schema
/// has no input, or none that takes such a value.
pub(crate) fn form_of(entry: &HandlerEntry, payload: &str) -> (Form, Vec<String>) {
    let Some(inputs) = entry.schema().and_then(inputs) else {
        return (Form(vec![(JSON.to_owned(), payload.to_owned())]), Vec::new());
    };
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(payload) else {
        return (Form(Vec::new()), vec![payload.chars().take(MAX_LEFT_OUT_CHARS).collect()]);
    };
    let (mut form, mut left_out) = (Vec::new(), Vec::new());
    for (name, value) in fields {
        let input = inputs.iter().find(|input| input.name == name);
        match input.and_then(|input| text_of(input, value.get())) {
            Some(Some(text)) => form.push((format!("{PREFIX}{name}"), text)),
            Some(None) => {}
            None => left_out.push(name),
        }
    }
    (Form(form), left_out)
}

/// What stands in an input for this value: `Some(None)` if nothing does, `None` if it takes no such
/// value. Numbers keep their digits.
fn text_of(input: &Input<'_>, json: &str) -> Option<Option<String>> {
    let is_number = json.starts_with(|c: char| "-0123456789".contains(c));
    match &input.kind {
        InputKind::Json => Some(Some(json.to_owned())),
        _ if json == "null" && !input.required => Some(None),
        InputKind::Number => is_number.then(|| Some(json.to_owned())),
        InputKind::Flag => match json {
            "true" => Some(Some(json.to_owned())),
            "false" => Some(None),
            _ => None,
        },
        InputKind::Text => serde_json::from_str(json).ok().map(Some),
        InputKind::Choice(choices) => {
            let text: String = serde_json::from_str(json).ok()?;
            choices.contains(&text.as_str()).then_some(Some(text))
        }
    }
}

/// The inputs of a payload, with the values that were sent before.
pub(super) fn payload_fields(texts: &Texts, entry: &HandlerEntry, form: &Form) -> Markup {
    let Some(inputs) = entry.schema().and_then(inputs) else {
        return html! {
            div.field {
                label for=(JSON) { (texts.payload_json) }
                textarea #(JSON) name=(JSON) rows="8" spellcheck="false" { (form.text(JSON)) }
            }
        };
    };
    html! {
        @for input in &inputs {
            @let key = format!("{PREFIX}{}", input.name);
            div.field {
                label for=(key) { (input.name) @if input.required { " *" } }
                @match &input.kind {
                    InputKind::Choice(choices) => {
                        select #(key) name=(key) required[input.required] {
                            @if !input.required { option value="" {} }
                            @for choice in choices {
                                option value=(choice) selected[form.text(&key) == *choice] { (choice) }
                            }
                        }
                    }
                    InputKind::Flag => {
                        input.flag #(key) name=(key) type="checkbox" value="true"
                            checked[!form.text(&key).is_empty()];
                    }
                    InputKind::Json => {
                        textarea #(key) name=(key) rows="4" spellcheck="false" placeholder="JSON" { (form.text(&key)) }
                    }
                    InputKind::Number => {
                        input #(key) name=(key) inputmode="numeric" value=(form.text(&key)) required[input.required];
                    }
                    InputKind::Text => {
                        input #(key) name=(key) type="text" value=(form.text(&key)) required[input.required];
                    }
                }
                @if let Some(about) = input.about { p.hint { (about) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::JobContext;
    use crate::job::JobError;

    fn entry(schema: Option<Value>) -> HandlerEntry {
        let mut entry =
            HandlerEntry::raw("t", async |_: Vec<u8>, _: JobContext| Ok::<_, JobError>(None));
        entry.schema = schema;
        entry
    }

    fn form(pairs: &[(&str, &str)]) -> Form {
        Form(pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
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
    fn a_form_like_a_payload_makes_it_again_and_names_what_it_cannot() {
        let schema = json!({
            "type": "object",
            "properties": {
                "user": { "type": "integer" },
                "note": { "type": "string" },
                "loud": { "type": "boolean" },
                "kind": { "enum": ["a", "b"] },
                "tags": { "type": "array" }
            }
        });
        let typed = entry(Some(schema));
        let json =
            r#"{"kind":"b","loud":true,"note":"é\n","tags":[1.00],"user":12345678901234567890}"#;
        let (form, left_out) = form_of(&typed, json);
        assert_eq!((payload(&typed, &form).unwrap().as_str(), left_out.len()), (json, 0));
        let (form, left_out) = form_of(&typed, r#"{"kind":"c","more":1,"note":null,"user":"7"}"#);
        assert_eq!(left_out, ["kind", "more", "user"]);
        assert_eq!(payload(&typed, &form).unwrap(), r#"{"loud":false}"#);
        assert_eq!(form_of(&typed, "[1]").1, ["[1]"]);
        let plain = entry(None);
        assert_eq!(payload(&plain, &form_of(&plain, "[1.00]").0).unwrap(), "[1.00]");
    }

    #[test]
    fn without_a_schema_the_payload_is_written_as_json() {
        let entry = entry(None);
        assert_eq!(payload(&entry, &form(&[("json", "[1, 2]")])).unwrap(), "[1,2]");
        assert!(payload(&entry, &form(&[("json", "{")])).is_err());
    }
}
