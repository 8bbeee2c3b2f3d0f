//! The fields of a request to register the reference job, and everything that can be wrong with
//! them. REST and the page apply the same rules, each with its own error texts.
//!
//! All faults are reported at once, so that a client can correct its request in one go. Values of a
//! form arrive as text; `dashboard::pages::register` first converts them to the equivalent JSON.

use std::fmt;
use std::time::Duration;

use rocket::http::Status;
use serde_json::{Map, Value};

use super::json_body::kind;
use crate::web::error::{FieldProblem, ProblemDetails};

/// Maximum delay in seconds: a year.
pub(crate) const MAX_DELAY_SECONDS: u64 = 365 * 86_400;
/// Maximum retries.
pub(crate) const MAX_RETRIES: u64 = 1000;
/// Maximum message, in bytes of UTF-8.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Maximum invalid fields in one response; a body can have any number of them.
const MAX_FAULTS: usize = 50;
/// An unknown field with a longer name than this resembles none of ours.
const MAX_NAME_BYTES: usize = 64;

/// A request to register; `None` means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(rename = "JobQueueRegisterRequest", deny_unknown_fields))]
pub(crate) struct Registration {
    /// The line that the job prints; without it `Job executed successfully`.
    /// At most 64 KiB of UTF-8.
    #[cfg_attr(feature = "openapi", schemars(length(max = 65_536)))]
    pub message: Option<String>,
    /// Seconds until the job runs. Absent, null or 0: 180.
    #[cfg_attr(feature = "openapi", schemars(range(min = 0, max = 31_536_000)))]
    pub delay_seconds: Option<u64>,
    /// Maximum retries after failures. Absent, null or 0: 10.
    #[cfg_attr(feature = "openapi", schemars(range(min = 0, max = 1000)))]
    pub max_retry: Option<u32>,
}

/// The known fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Message,
    DelaySeconds,
    MaxRetry,
}

impl Field {
    /// In the order of the page.
    pub(crate) const ALL: [Field; 3] = [Field::Message, Field::DelaySeconds, Field::MaxRetry];

    /// The name in JSON and in the form.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Field::Message => "message",
            Field::DelaySeconds => "delay_seconds",
            Field::MaxRetry => "max_retry",
        }
    }
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Expected text; the kind of value that was found.
    NotText(&'static str),
    /// Expected a whole number; the kind of value that was found.
    NotWhole(&'static str),
    /// The number is below zero.
    Negative,
    /// The number is above the largest allowed.
    TooLarge(u64),
    /// The text has more bytes than this.
    TooLong(usize),
    /// The field is unknown; the nearest known one.
    Unknown(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotText(found) => write!(f, "expected a string, got {found}"),
            Fault::NotWhole(found) => write!(f, "expected a whole number, got {found}"),
            Fault::Negative => write!(f, "expected 0 or more, got a negative number"),
            Fault::TooLarge(most) => write!(f, "expected at most {most}, got more"),
            Fault::TooLong(most) => write!(f, "expected at most {most} bytes, got more"),
            Fault::Unknown(nearest) => write!(f, "unknown field; the nearest known is {nearest:?}"),
        }
    }
}

/// All faults, each with the field's name as it was sent.
pub(crate) type Faults = Vec<(String, Fault)>;

impl Registration {
    /// Reads a JSON body.
    pub(super) fn from_json(value: &Value) -> Result<Self, ProblemDetails> {
        let Value::Object(fields) = value else {
            let detail = format!("expected a JSON object, got {}", kind(value));
            return Err(ProblemDetails::new(Status::UnprocessableEntity, detail));
        };
        Self::from_fields(fields).map_err(|faults| {
            let problem = |(name, fault): (String, Fault)| FieldProblem {
                pointer: format!("/{}", name.replace('~', "~0").replace('/', "~1")),
                detail: fault.to_string(),
            };
            ProblemDetails::fields(faults.into_iter().map(problem).collect())
        })
    }

    /// Checks all fields and returns all faults at once.
    pub(crate) fn from_fields(fields: &Map<String, Value>) -> Result<Self, Faults> {
        let mut read = Self::default();
        let mut faults = Vec::new();
        for (name, value) in fields {
            let known = Field::ALL.into_iter().find(|field| field.name() == name);
            let outcome = match known {
                Some(Field::Message) => text(value).map(|message| read.message = message),
                Some(Field::DelaySeconds) => {
                    whole(value, MAX_DELAY_SECONDS).map(|delay| read.delay_seconds = delay)
                }
                Some(Field::MaxRetry) => whole(value, MAX_RETRIES)
                    .map(|retries| read.max_retry = retries.and_then(|n| u32::try_from(n).ok())),
                None => Err(Fault::Unknown(nearest(name))),
            };
            if let Err(fault) = outcome
                && faults.len() < MAX_FAULTS
            {
                faults.push((name.clone(), fault));
            }
        }
        if faults.is_empty() { Ok(read) } else { Err(faults) }
    }

    /// The requested delay, if there is one.
    pub(crate) fn delay(&self) -> Option<Duration> {
        self.delay_seconds.map(Duration::from_secs)
    }
}

/// Absent, null and empty mean the default.
fn text(value: &Value) -> Result<Option<String>, Fault> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.len() > MAX_MESSAGE_BYTES => {
            Err(Fault::TooLong(MAX_MESSAGE_BYTES))
        }
        Value::String(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        other => Err(Fault::NotText(kind(other))),
    }
}

/// Absent, null and zero mean the default.
fn whole(value: &Value, most: u64) -> Result<Option<u64>, Fault> {
    let number = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number,
        other => return Err(Fault::NotWhole(kind(other))),
    };
    match (number.as_u64(), number.as_f64()) {
        (Some(0), _) => Ok(None),
        (Some(n), _) if n <= most => Ok(Some(n)),
        (Some(_), _) => Err(Fault::TooLarge(most)),
        (None, _) if number.is_i64() => Err(Fault::Negative),
        // Whole numbers beyond 64 bits arrive as floats.
        (None, Some(huge)) if huge >= u64::MAX as f64 => Err(Fault::TooLarge(most)),
        (None, Some(huge)) if huge <= i64::MIN as f64 => Err(Fault::Negative),
        (None, _) => Err(Fault::NotWhole("a number with a fraction or exponent")),
    }
}

/// The known field with the most similar name (Jaro-Winkler, which favours a common beginning).
fn nearest(name: &str) -> &'static str {
    let given = if name.len() <= MAX_NAME_BYTES { name } else { "" };
    let names = Field::ALL.map(Field::name);
    let likeness = |known: &str| strsim::jaro_winkler(&given.to_lowercase(), known);
    names.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or(names[0])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(value: Value) -> Faults {
        Registration::from_fields(value.as_object().unwrap()).unwrap_err()
    }

    #[test]
    fn null_absent_zero_and_empty_mean_the_default() {
        for value in [
            json!({}),
            json!({"message": null, "delay_seconds": null, "max_retry": null}),
            json!({"message": "", "delay_seconds": 0, "max_retry": 0}),
        ] {
            assert_eq!(Registration::from_json(&value), Ok(Registration::default()), "{value}");
        }
    }

    #[test]
    fn the_largest_values_are_taken_and_larger_ones_are_not() {
        let most = json!({
            "message": "x".repeat(MAX_MESSAGE_BYTES), "delay_seconds": 31_536_000, "max_retry": 1000,
        });
        assert!(Registration::from_json(&most).is_ok());
        let table = [
            (
                "message",
                json!("x".repeat(MAX_MESSAGE_BYTES + 1)),
                Fault::TooLong(MAX_MESSAGE_BYTES),
            ),
            ("delay_seconds", json!(31_536_001), Fault::TooLarge(MAX_DELAY_SECONDS)),
            ("delay_seconds", json!(1e30), Fault::TooLarge(MAX_DELAY_SECONDS)),
            ("max_retry", json!(1001), Fault::TooLarge(MAX_RETRIES)),
            ("max_retry", json!(u64::MAX), Fault::TooLarge(MAX_RETRIES)),
            ("max_retry", json!(-1), Fault::Negative),
            ("max_retry", json!(2.5), Fault::NotWhole("a number with a fraction or exponent")),
            ("max_retry", json!("3"), Fault::NotWhole("a string")),
            ("message", json!(3), Fault::NotText("a number")),
            ("mesage", json!("x"), Fault::Unknown("message")),
            ("delaySeconds", json!(1), Fault::Unknown("delay_seconds")),
            ("maxretry", json!(1), Fault::Unknown("max_retry")),
        ];
        for (name, value, fault) in table {
            assert_eq!(faults(json!({ name: value })), [(name.to_owned(), fault)]);
        }
    }

    #[test]
    fn every_wrong_field_is_reported_at_once() {
        let value = json!({"message": 1, "delay_seconds": -1, "max_retry": [], "a/b~": 1});
        assert_eq!(faults(value.clone()).len(), 4);
        let problem = serde_json::to_value(Registration::from_json(&value).unwrap_err()).unwrap();
        assert!(problem["errors"].as_array().unwrap().iter().any(|e| e["pointer"] == "/a~1b~0"));
    }

    #[test]
    fn what_is_no_object_says_what_it_is() {
        let problem = Registration::from_json(&json!([1])).unwrap_err();
        assert_eq!(problem.detail(), "expected a JSON object, got an array");
    }
}
