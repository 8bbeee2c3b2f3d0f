//! YAML files as figment's values: aliases and merge keys (`<<`) are resolved at every
//! depth, and a key given twice is reported. Scalars follow the core schema of YAML 1.2,
//! so `yes` and `0123` are text. What the keys mean is decided elsewhere.
//!
//! The parser gives events; [`YamlReader`] builds values from them and remembers what has an
//! anchor. Values are built here, not by a library, because it is up to this crate what merge
//! keys and repeated keys mean, and because messages name the line but never quote a value.
//!
//! What may surprise. A file is not trusted to be small: aliases multiply, so values and depth are
//! bounded ([`MAX_VALUES`], [`MAX_DEPTH`]). A tag of the application's own (`!vault`) is ignored
//! with a warning, because this crate cannot carry it out. A second document in a file is an error.

use std::borrow::Cow;
use std::collections::HashMap;

use figment::value::{Dict, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

/// Maximum values of a file after its aliases are replaced. Each alias copies the value it
/// names, so a short file could otherwise exhaust the memory.
const MAX_VALUES: usize = 100_000;

/// Maximum depth of nested lists and tables.
const MAX_DEPTH: usize = 100;

/// What a file holds.
pub struct YamlDocument {
    /// The value itself; empty if the file holds none.
    pub value: Value,
    /// What is legal and probably a mistake, a line each, with its line in the file.
    pub warnings: Vec<String>,
}

/// Without the value, which may hold credentials.
impl std::fmt::Debug for YamlDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

/// Reads one document.
///
/// An explicit key is stronger than a merged one wherever it stands. Of several merged
/// tables (`<<: [*a, *b]`, or `<<` repeated) the first one that has a key gives its value.
///
/// # Errors
/// What was expected and found, and in which line. Values are never quoted.
pub fn parse_yaml(text: &str) -> Result<YamlDocument, String> {
    let mut reader = YamlReader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        path: Vec::new(),
        values: 0,
        warnings: Vec::new(),
    };
    let value = reader.document()?;
    Ok(YamlDocument { value, warnings: reader.warnings })
}

/// A value behind an anchor, and how many values it holds.
struct Anchored {
    value: Value,
    /// A scalar as written, for its use as a key.
    text: Option<String>,
    size: usize,
}

/// Builds the value of a document from the parser's events.
struct YamlReader<'input> {
    parser: Parser<'input, StrInput<'input>>,
    /// By the parser's number of the anchor.
    anchors: HashMap<usize, Anchored>,
    /// The keys of the tables being read, for warnings.
    path: Vec<String>,
    /// Number of values so far, aliases replaced.
    values: usize,
    warnings: Vec<String>,
}

impl<'input> YamlReader<'input> {
    /// The next event, and where it stands in the file.
    fn next(&mut self) -> Result<(Event<'input>, Span), String> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the end of the file".to_owned()),
        }
    }

    /// The value of the file. Exactly one document, or none.
    fn document(&mut self) -> Result<Value, String> {
        let mut document = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(document.unwrap_or_else(nothing)),
                (Event::DocumentStart(_), span) if document.is_some() => {
                    return Err(format!("a second document in line {}", span.start.line()));
                }
                (Event::Nothing | Event::StreamStart | Event::DocumentStart(_), _)
                | (Event::DocumentEnd, _) => {}
                (event, span) => document = Some(self.node(event, &span)?),
            }
        }
    }

    /// The value that begins with this event. Remembers it if it has an anchor.
    fn node(&mut self, event: Event<'input>, span: &Span) -> Result<Value, String> {
        let before = self.values;
        self.count(1, span)?;
        let (value, anchor, text) = match event {
            Event::Alias(anchor) => {
                let anchored = self.anchored(anchor, span)?;
                let (value, size) = (anchored.value.clone(), anchored.size);
                self.count(size, span)?;
                return Ok(value);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), span)?;
                (value, anchor, (anchor > 0).then(|| text.into_owned()))
            }
            Event::SequenceStart(anchor, tag) => {
                self.warn_of_tag(tag.as_deref(), span);
                (self.list(span)?, anchor, None)
            }
            Event::MappingStart(anchor, tag) => {
                self.warn_of_tag(tag.as_deref(), span);
                (self.table(span)?, anchor, None)
            }
            _ => return Err(format!("no value in line {}", span.start.line())),
        };
        if anchor > 0 {
            let size = self.values - before;
            self.anchors.insert(anchor, Anchored { value: value.clone(), text, size });
        }
        Ok(value)
    }

    /// Counts values, up to [`MAX_VALUES`].
    fn count(&mut self, values: usize, span: &Span) -> Result<(), String> {
        self.values += values;
        if self.values > MAX_VALUES {
            let line = span.start.line();
            return Err(format!("more than {MAX_VALUES} values, aliases replaced, at line {line}"));
        }
        Ok(())
    }

    /// The value of an anchor. An alias inside its own value is an error.
    fn anchored(&self, anchor: usize, span: &Span) -> Result<&Anchored, String> {
        self.anchors.get(&anchor).ok_or_else(|| {
            format!("an alias inside the value that it names, in line {}", span.start.line())
        })
    }

    /// A list. `start` is where it begins, for the message about its depth.
    fn list(&mut self, start: &Span) -> Result<Value, String> {
        self.enter(start, "-".to_owned())?;
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                self.path.pop();
                return Ok(items.into());
            }
            items.push(self.node(event, &span)?);
        }
    }

    /// A table, with merged tables filled in below its own keys. That is done at the end of the
    /// table, so it does not matter where `<<` stands.
    fn table(&mut self, start: &Span) -> Result<Value, String> {
        let mut dict = Dict::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        let mut merged: Vec<Dict> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let is_merge = is_merge_key(&event);
            let key = self.key(event, &span)?;
            let line = span.start.line();
            self.enter(start, key.clone())?;
            let (event, span) = self.next()?;
            let value = self.node(event, &span)?;
            if is_merge {
                merge(value, &mut merged)
                    .map_err(|found| format!("{found} behind {} in line {line}", self.at()))?;
            } else {
                if let Some(first) = lines.insert(key.clone(), line) {
                    self.warnings.push(format!(
                        "{} is given twice, in lines {first} and {line}; the last one counts",
                        self.at()
                    ));
                }
                dict.insert(key, value);
            }
            self.path.pop();
        }
        for (key, value) in merged.into_iter().flatten() {
            dict.entry(key).or_insert(value);
        }
        Ok(dict.into())
    }

    /// A key: a scalar, or an alias of one.
    fn key(&mut self, event: Event<'input>, span: &Span) -> Result<String, String> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, _, anchor, _) => {
                let text = text.into_owned();
                if anchor > 0 {
                    let value = Value::from(text.clone());
                    let anchored = Anchored { value, text: Some(text.clone()), size: 1 };
                    self.anchors.insert(anchor, anchored);
                }
                Ok(text)
            }
            Event::Alias(anchor) => {
                let text = self.anchored(anchor, span)?.text.clone();
                text.ok_or_else(|| format!("a list or a table as key in line {line}"))
            }
            _ => Err(format!("a list or a table as key in line {line}")),
        }
    }

    /// Goes one level deeper, up to [`MAX_DEPTH`].
    fn enter(&mut self, span: &Span, key: String) -> Result<(), String> {
        if self.path.len() >= MAX_DEPTH {
            let line = span.start.line();
            return Err(format!("more than {MAX_DEPTH} tables in each other at line {line}"));
        }
        self.path.push(key);
        Ok(())
    }

    /// The path of the current key, for messages.
    fn at(&self) -> String {
        self.path.join(".")
    }

    /// A scalar. Quotes make it text; a tag of the core schema demands a type, and a value that
    /// does not have it is an error; without either it is read by its form.
    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<Value, String> {
        let Some(suffix) = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| &*tag.suffix)
        else {
            self.warn_of_tag(tag, span);
            let is_text = style != ScalarStyle::Plain || tag.is_some();
            return Ok(if is_text { text.into() } else { plain(text) });
        };
        let value = plain(text);
        let fits = match (suffix, &value) {
            ("str", _) => return Ok(text.into()),
            ("null", Value::Empty(..)) | ("bool", Value::Bool(..)) => true,
            ("int", Value::Num(_, number)) => number.to_f64().is_none(),
            ("float", Value::Num(..)) => true,
            ("null" | "bool" | "int" | "float", _) => false,
            // Of types that no option has.
            _ => return Ok(text.into()),
        };
        let line = span.start.line();
        if fits { Ok(value) } else { Err(format!("a value that is no !!{suffix} in line {line}")) }
    }

    /// A tag of the application's own changes nothing here, and may have been meant to.
    fn warn_of_tag(&mut self, tag: Option<&Tag>, span: &Span) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() && tag.to_string() != "!") {
            let (at, line) = (self.at(), span.start.line());
            self.warnings.push(format!("{at} has the unknown tag {tag} in line {line}: ignored"));
        }
    }
}

/// Whether this key is an unquoted `<<`.
fn is_merge_key(event: &Event<'_>) -> bool {
    let is_merge_tag = |tag: &Option<Cow<'_, Tag>>| match tag {
        Some(tag) => tag.is_yaml_core_schema() && tag.suffix == "merge",
        None => true,
    };
    match event {
        Event::Scalar(text, ScalarStyle::Plain, _, tag) => text == "<<" && is_merge_tag(tag),
        _ => false,
    }
}

/// Adds the tables behind a merge key; an error says what stands there instead.
fn merge(value: Value, merged: &mut Vec<Dict>) -> Result<(), String> {
    let expected = "expected a table or a list of tables, found ";
    match value {
        Value::Dict(_, dict) => merged.push(dict),
        // An anchor whose lines are all comments.
        Value::Empty(..) => {}
        Value::Array(_, items) => {
            for item in items {
                match item {
                    Value::Dict(_, dict) => merged.push(dict),
                    Value::Empty(..) => {}
                    other => return Err(format!("{expected}{} in it", super::value::kind(&other))),
                }
            }
        }
        other => return Err(format!("{expected}{}", super::value::kind(&other))),
    }
    Ok(())
}

/// A key without a value, or a file without one.
fn nothing() -> Value {
    Value::from(figment::value::Empty::None)
}

/// A scalar without quotes and without a tag.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => nothing(),
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => number(text).unwrap_or_else(|| text.into()),
    }
}

/// A number of the core schema; `None` for text such as `0123`.
fn number(text: &str) -> Option<Value> {
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = text.strip_prefix(prefix).filter(|digits| !digits.starts_with('+')) {
            return u128::from_str_radix(digits, radix).ok().map(fit);
        }
    }
    let (sign, rest) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (&text[..1], rest),
        None => ("", text),
    };
    match rest {
        ".inf" | ".Inf" | ".INF" if sign == "-" => return Some(f64::NEG_INFINITY.into()),
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY.into()),
        ".nan" | ".NaN" | ".NAN" if sign.is_empty() => return Some(f64::NAN.into()),
        _ => {}
    }
    let digits = rest.bytes().all(|byte| byte.is_ascii_digit());
    if digits && rest.len() > 1 && rest.starts_with('0') {
        return None;
    }
    if digits {
        return match sign {
            "-" => text.parse::<i128>().ok().map(signed),
            _ => rest.parse::<u128>().ok().map(fit),
        }
        .or_else(|| text.parse::<f64>().ok().map(Value::from));
    }
    // Rust also reads `inf` and `nan`, which are text here.
    let looks = rest.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && rest.bytes().any(|byte| byte.is_ascii_digit());
    looks.then(|| text.parse::<f64>().ok().map(Value::from)).flatten()
}

/// The smallest type that holds it, as figment's other providers give it.
fn fit(number: u128) -> Value {
    match u64::try_from(number) {
        Ok(number) => number.into(),
        Err(_) => number.into(),
    }
}

/// As [`fit`], for a number with a minus sign.
fn signed(number: i128) -> Value {
    match i64::try_from(number) {
        Ok(number) => number.into(),
        Err(_) => number.into(),
    }
}
