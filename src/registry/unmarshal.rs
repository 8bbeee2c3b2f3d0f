//! The error text for a payload that does not fit its job type: what the type
//! expects and at which line and column, and nothing of the payload itself. The text
//! reaches logs, stored errors and pages.
//!
//! The texts of `serde_json` quote the payload, and so may the texts of a type's own
//! `Deserialize`. On this path, which only failures take, the payload is therefore
//! decoded once more with an error type that never receives its values as text.
//!
//! What a text may contain: names of fields and variants, which `serde` hands over as static
//! strings of the type; the kind of the value found ("a string"); and what the type says it
//! expected. The last is the type's own sentence, so it is dropped if any value of the payload
//! occurs in it. When in doubt the text is [`REFUSED`].

use std::fmt::{self, Display};

use serde::de::value::{
    MapAccessDeserializer, MapDeserializer, SeqDeserializer, StringDeserializer,
};
use serde::de::{
    self, DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde_json::Value;
use serde_json::error::Category;

/// Fallback text: anything more would quote the payload.
const REFUSED: &str = "a value is not accepted";

/// Bytes from which on a text counts as quoted: shorter ones occur in any sentence by chance.
const MIN_QUOTE_LEN: usize = 3;

/// The text to record for `error`, the result of decoding `payload` as a `T`. The line and
/// column are left out if they cannot belong to this payload.
pub(crate) fn unmarshal_text<T: DeserializeOwned>(
    payload: &[u8],
    error: &serde_json::Error,
) -> String {
    let reason = match error.classify() {
        Category::Data => reason::<T>(payload),
        // The parser's own message; it quotes nothing.
        Category::Syntax | Category::Eof | Category::Io => {
            return format!("failed to unmarshal payload: {error}");
        }
    };
    // A type's own message may end with a line and column of its own invention.
    let lines = payload.iter().filter(|byte| **byte == b'\n').count() + 1;
    let (line, column) = (error.line(), error.column());
    match (1..=lines).contains(&line) && column <= payload.len() {
        true => format!("failed to unmarshal payload: {reason} at line {line} column {column}"),
        false => format!("failed to unmarshal payload: {reason}"),
    }
}

/// Why the payload does not fit, without quoting it. A syntax error never comes here, so the
/// payload is JSON; if a second decoding does not fail in the same way, nothing is said about it.
fn reason<T: DeserializeOwned>(payload: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(payload) else { return REFUSED.to_owned() };
    match T::deserialize(PlainValue(value.clone())) {
        Err(Mismatch::Fixed(text)) => text,
        Err(Mismatch::Expected { expected, found }) if !quotes(&value, &expected) => {
            format!("expected {expected}, found {found}")
        }
        Err(Mismatch::Expected { .. } | Mismatch::Refused) | Ok(_) => REFUSED.to_owned(),
    }
}

/// Whether a text holds something of the value: what a type expects is its own
/// sentence, which it may make of what it was given.
fn quotes(value: &Value, text: &str) -> bool {
    let holds = |part: &str| part.len() >= MIN_QUOTE_LEN && text.contains(part);
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::Number(number) => holds(&number.to_string()),
        Value::String(part) => holds(part),
        Value::Array(values) => values.iter().any(|value| quotes(value, text)),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| holds(name) || quotes(value, text))
        }
    }
}

/// Why a value does not fit.
#[derive(Debug)]
enum Mismatch {
    /// Made of the type's own names only.
    Fixed(String),
    /// Another kind or value. What the type expected is its own sentence and has to be checked.
    Expected { expected: String, found: &'static str },
    /// The type's own message, which may quote the payload and is not kept.
    Refused,
}

impl Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REFUSED)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    /// A message of the type itself. It may quote the payload, so it is not even printed.
    fn custom<M: Display>(_: M) -> Self {
        Mismatch::Refused
    }

    /// Another kind of value. `found` holds the value, of which only the kind is kept.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Mismatch::Expected { expected: expected.to_string(), found: kind(found) }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Mismatch::Expected { expected: expected.to_string(), found: "another number of values" }
    }

    /// The unknown name comes from the payload; the expected ones are those of the type.
    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Mismatch::Fixed(format!("expected {}", one_of(expected)))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Mismatch::Fixed(format!("unknown field, expected {}", one_of(expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Mismatch::Fixed(format!("missing field `{field}`"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Mismatch::Fixed(format!("duplicate field `{field}`"))
    }
}

/// The names as a choice, as `serde` prints them.
fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [name] => format!("`{name}`"),
        names => format!("one of `{}`", names.join("`, `")),
    }
}

/// The kind of a value, named as in JSON. A number with an exponent is not an integer to
/// `serde`, even if its value is one.
fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number with a fraction or an exponent",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq | Unexpected::TupleVariant | Unexpected::Bytes(_) => "an array",
        Unexpected::Map | Unexpected::StructVariant => "an object",
        _ => "something else",
    }
}

/// A JSON value as a `serde` deserializer whose errors are [`Mismatch`]: whatever the type
/// complains about, its text is never kept.
struct PlainValue(Value);

impl<'de> IntoDeserializer<'de, Mismatch> for PlainValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The fields of an object, each key and value decoded without its text.
fn object<'de>(
    fields: serde_json::Map<String, Value>,
) -> MapDeserializer<'de, impl Iterator<Item = (ObjectKey, PlainValue)>, Mismatch> {
    MapDeserializer::new(
        fields.into_iter().map(|(name, value)| (ObjectKey(name), PlainValue(value))),
    )
}

impl<'de> Deserializer<'de> for PlainValue {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., Some(number)) => visitor.visit_f64(number),
                _ => Err(Mismatch::Refused),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(values) => {
                visitor.visit_seq(SeqDeserializer::new(values.into_iter().map(PlainValue)))
            }
            Value::Object(fields) => visitor.visit_map(object(fields)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(StringDeserializer::new(text)),
            Value::Object(fields) if fields.len() == 1 => {
                let map = MapAccessDeserializer::new(object(fields));
                map.deserialize_enum(name, variants, visitor)
            }
            Value::Object(_) => Err(Mismatch::Fixed("expected an object with one key".to_owned())),
            other => PlainValue(other).deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A key of an object. It is text, but a map may ask for it as a number.
struct ObjectKey(String);

impl<'de> IntoDeserializer<'de, Mismatch> for ObjectKey {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A key that is asked for as a number is read as one: JSON has only text as keys, and
/// `serde_json` does the same.
macro_rules! numbers {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match serde_json::from_str(&self.0) {
                Ok(number @ Value::Number(_)) => PlainValue(number).deserialize_any(visitor),
                _ => visitor.visit_string(self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for ObjectKey {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_enum(StringDeserializer::new(self.0))
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    serde::forward_to_deserialize_any! {
        bool char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "decoded only")]
    struct Nap {
        seconds: u32,
        #[serde(default)]
        kind: Option<Kind>,
        #[serde(default)]
        of: BTreeMap<u64, Vec<Own>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "decoded only")]
    enum Kind {
        Short,
        Long { by: u8 },
    }

    /// A type with a message of its own.
    struct Own;

    impl<'de> Deserialize<'de> for Own {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let text = String::deserialize(from)?;
            if text.starts_with('=') {
                let expected = format!("anything but {text}");
                return Err(de::Error::invalid_value(Unexpected::Str(&text), &expected.as_str()));
            }
            Err(de::Error::custom(format!("missing field `{text}` at line 4711 column 4711")))
        }
    }

    fn text(payload: &str) -> String {
        let error = serde_json::from_str::<Nap>(payload).err().unwrap();
        let text = unmarshal_text::<Nap>(payload.as_bytes(), &error);
        text.strip_prefix("failed to unmarshal payload: ").unwrap().to_owned()
    }

    #[test]
    fn what_the_type_expects_is_said_and_where() {
        for (payload, expected) in [
            (r#"{"seconds":"x, expected SECRET"}"#, "expected u32, found a string at line 1"),
            (r#"{"seconds":-4711}"#, "expected u32, found an integer at line 1"),
            (r#"{"seconds":1e99}"#, "expected u32, found a number with a fraction"),
            (r#"{}"#, "missing field `seconds` at line 1 column 2"),
            (r#"{"seconds":1,"SECRET`, expected `SECRET":1}"#, "unknown field, expected one of `s"),
            (r#"{"seconds":1,"kind":"SECRET"}"#, "expected one of `short`, `long`"),
            (r#"{"seconds":1,"kind":{"long":{"by":4711}}}"#, "expected u8, found an integer"),
            (r#"{"seconds":1,"kind":{"SECRET":1}}"#, "expected one of `short`, `long`"),
            (r#"{"seconds":1,"of":{"SECRET":[]}}"#, "invalid value: expected key to be a number"),
            (r#"{"seconds":1,"of":{"7":["SECRET"]}}"#, "a value is not accepted"),
            (r#"{"seconds":1,"of":{"7":["=SECRET"]}}"#, "a value is not accepted"),
            (r#"[]"#, "expected struct Nap with 3 elements, found another number of values"),
            (r#""SECRET"#, "EOF while parsing a string at line 1"),
            (r#"{"seconds":SECRET}"#, "expected value at line 1"),
        ] {
            let text = text(payload);
            assert!(text.starts_with(expected), "{payload}: {text}");
            assert!(!text.contains("SECRET") && !text.contains("4711"), "{payload}: {text}");
        }
    }
}
