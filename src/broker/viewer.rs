//! Redaction. This module alone decides what REST, pages, streams, status links and log lines
//! show of a job if the application redacts jobs.
//!
//! The application's own function comes first. Then everything that reveals what the
//! function hid is hidden too: the unique lock, whose name ends in the MD5 of the payload,
//! and errors, progress, headers and results that quote parts of the payload. If the
//! function panics, everything that it might hide is hidden.
//!
//! What may surprise. A text is hidden as a whole, not only the part that quotes the payload: a
//! rest would tell how long the part was. Texts are compared without regard to upper and lower
//! case, with the usual escapes decoded, and numbers by their value. What an application encrypts,
//! hashes or encodes otherwise is not recognised. When in doubt a text is hidden: payloads with many parts and very long texts are not
//! searched at all, because a viewer must not be able to keep the process busy. The store's
//! data is never changed.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::Value;

use super::{JobInfo, JobPage, JobRow, PeriodicJobInfo, Servers};
use crate::job::{JobRecord, JobState, Transition};

/// The text that replaces a hidden one.
const HIDDEN: &str = "hidden";

/// Shorter parts of a payload occur inside the words of any text, so they are matched as
/// whole words only.
const MIN_QUOTE_LEN: usize = 3;

/// Above these sizes of a payload no text is searched: all texts are hidden.
const MAX_PARTS: usize = 2_000;
const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Longer texts are hidden without a search.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The application's function that redacts a job.
pub(crate) type Redact = Arc<dyn Fn(&mut JobInfo) + Send + Sync>;

/// A viewer of jobs. The default viewer sees everything.
#[derive(Clone, Default)]
pub(crate) struct Viewer(Option<Redact>);

impl Viewer {
    /// A viewer that sees redacted jobs; without a function, one that sees everything.
    pub(crate) fn redacted(redact: Option<Redact>) -> Self {
        Self(redact)
    }

    /// Whether jobs are redacted for this viewer.
    pub(crate) fn is_restricted(&self) -> bool {
        self.0.is_some()
    }

    /// A job as the viewer sees it.
    pub(crate) fn job(&self, mut info: JobInfo) -> JobInfo {
        self.redact(&mut info);
        info
    }

    /// The rows of a list.
    pub(crate) fn page(&self, mut page: JobPage) -> JobPage {
        for row in &mut page.rows {
            match row {
                JobRow::Job(info) => self.redact(info),
                // A corrupt entry has no payload, result or error.
                JobRow::Corrupt(_) => {}
            }
        }
        page
    }

    /// Worker processes; their jobs in flight without payload.
    pub(crate) fn servers(&self, mut servers: Servers) -> Servers {
        if self.is_restricted() {
            let running = servers.servers.iter_mut().flat_map(|server| &mut server.running);
            running.for_each(|job| job.payload.clear());
        }
        servers
    }

    /// Periodic jobs, without payload and headers: the function is written for stored jobs.
    pub(crate) fn periodic_jobs(&self, mut entries: Vec<PeriodicJobInfo>) -> Vec<PeriodicJobInfo> {
        if self.is_restricted() {
            for entry in &mut entries {
                entry.payload.clear();
                // A digest of a few values gives them away.
                let is_secret = |option: &str| {
                    ["Header(", "UniqueKey("].iter().any(|name| option.starts_with(name))
                };
                entry.options.retain(|option| !is_secret(option));
            }
        }
        entries
    }

    /// A transition as a log line may show it.
    pub(crate) fn transition<'a>(
        &self,
        job: &JobRecord,
        transition: &'a Transition,
    ) -> Cow<'a, Transition> {
        use Transition::{Archive, Complete, PutBack, Reclaim, Requeue, Retry, Revoke};
        let has_error = match transition {
            Retry { .. } | Archive { .. } | Reclaim { .. } | PutBack { .. } => true,
            Complete { .. } | Revoke | Requeue => false,
        };
        if !self.is_restricted() || !has_error {
            return Cow::Borrowed(transition);
        }
        let mut shown = transition.clone();
        if let Retry { error, .. } | Archive { error } | Reclaim { error } | PutBack { error, .. } =
            &mut shown
        {
            let mut info = JobInfo::new(job.clone(), JobState::Active);
            info.record.last_error = std::mem::take(error);
            *error = self.job(info).record.last_error;
        }
        Cow::Owned(shown)
    }

    /// A text that may quote the payloads of several jobs.
    pub(crate) fn text(&self, text: String) -> String {
        if self.is_restricted() { HIDDEN.to_owned() } else { text }
    }

    /// Calls the application's function, and hides what still reveals what it hid. It runs once
    /// per job that is shown, so a page of 100 jobs calls it 100 times.
    fn redact(&self, info: &mut JobInfo) {
        let Some(redact) = &self.0 else { return };
        let whole = info.record.payload.clone().unwrap_or_default();
        let is_shown = catch_unwind(AssertUnwindSafe(|| redact(info))).is_ok();
        if !is_shown {
            // It may have stopped before it hid what it should.
            info.record.payload = None;
            hide(info, |_| true);
        } else if info.record.payload_bytes() != whole {
            let hidden = RedactedParts::between(&whole, info.record.payload_bytes());
            hide(info, |text| hidden.are_in(text));
        }
        if !info.record.unique_key.is_empty() {
            info.record.unique_key = HIDDEN.to_owned();
        }
    }
}

/// Hides all texts of a job that may quote its payload.
fn hide(info: &mut JobInfo, is_secret: impl Fn(&str) -> bool) {
    let hide = |text: &mut String| {
        if !text.is_empty() && is_secret(text) {
            *text = HIDDEN.to_owned();
        }
    };
    hide(&mut info.record.last_error);
    info.failures.iter_mut().for_each(|failure| hide(&mut failure.error));
    info.record.headers.values_mut().for_each(hide);
    if let Some(progress) = &mut info.progress {
        hide(&mut progress.message);
    }
    if let Some(result) = &mut info.result
        && is_secret(&String::from_utf8_lossy(result))
    {
        *result = format!("\"{HIDDEN}\"").into();
    }
}

/// The parts of a payload that redaction removed.
enum RedactedParts {
    Some {
        /// In lower case, as texts are compared.
        texts: Vec<String>,
        /// Numbers are also compared by value, because a text may write them in another form.
        numbers: Vec<f64>,
    },
    TooMany,
}

impl RedactedParts {
    /// The parts of the whole payload that the shown one does not have. Parts that remain
    /// visible elsewhere in the shown payload are not secret.
    fn between(whole: &[u8], shown: &[u8]) -> Self {
        if whole.len() > MAX_PAYLOAD_BYTES {
            return RedactedParts::TooMany;
        }
        let (mut parts, shown) = (Parts::of(whole), Parts::of(shown));
        parts.texts.retain(|text| !shown.texts.contains(text));
        parts.numbers.retain(|number| !shown.numbers.contains(number));
        if parts.texts.len() > MAX_PARTS {
            return RedactedParts::TooMany;
        }
        let texts = parts.texts.into_iter().collect();
        RedactedParts::Some { texts, numbers: parts.numbers }
    }

    /// Whether a text contains one of them, plain or encoded.
    fn are_in(&self, text: &str) -> bool {
        let RedactedParts::Some { texts, numbers } = self else { return true };
        if text.len() > MAX_TEXT_BYTES {
            return true;
        }
        let has = |form: &String, part: &String| match part.len() < MIN_QUOTE_LEN {
            true => has_word(form, part),
            false => form.contains(part.as_str()),
        };
        let forms = decoded_forms(text);
        let quotes = |form: &String| texts.iter().any(|part| has(form, part));
        forms.iter().any(quotes)
            || (!numbers.is_empty()
                && forms.iter().any(|form| numbers_in(form).any(|found| numbers.contains(&found))))
    }
}

/// What a payload consists of.
#[derive(Default)]
struct Parts {
    /// Names, words and numbers, and whole strings, all in lower case.
    texts: BTreeSet<String>,
    numbers: Vec<f64>,
}

impl Parts {
    fn of(payload: &[u8]) -> Self {
        let mut parts = Parts::default();
        match serde_json::from_slice::<Value>(payload) {
            Ok(value) => parts.add(&value),
            Err(_) => parts.add_text(&String::from_utf8_lossy(payload)),
        }
        parts
    }

    /// Collects names as well as values: a hidden field's name may be what is secret.
    fn add(&mut self, value: &Value) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                let text = number.to_string();
                // A single digit reveals nothing.
                if text.len() > 1 {
                    self.numbers.extend(number.as_f64());
                }
                self.add_text(&text);
            }
            Value::String(text) => self.add_text(text),
            Value::Array(values) => values.iter().for_each(|value| self.add(value)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.add_text(name);
                    self.add(value);
                }
            }
        }
    }

    /// A text and its words: an error may quote the password of a URL.
    fn add_text(&mut self, text: &str) {
        let text = text.to_lowercase();
        let words = text.split(|letter: char| !letter.is_alphanumeric());
        self.texts.extend(words.filter(|word| word.len() >= MIN_QUOTE_LEN).map(str::to_owned));
        // A single letter or digit reveals nothing.
        if text.len() > 1 {
            self.texts.insert(text);
        }
    }
}

/// Whether a text contains this part as a whole word.
fn has_word(text: &str, part: &str) -> bool {
    text.match_indices(part).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + part.len()..]);
        !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
    })
}

/// How often a text is decoded: a JSON string may stand in a Rust string.
const MAX_DECODINGS: usize = 2;

/// A text as it is, and with its escapes decoded, in lower case.
fn decoded_forms(text: &str) -> Vec<String> {
    let mut forms = vec![text.to_lowercase()];
    let mut last = text.to_owned();
    for _ in 0..MAX_DECODINGS {
        let decoded = decoded(&last);
        if decoded == last {
            break;
        }
        forms.push(decoded.to_lowercase());
        last = decoded;
    }
    forms
}

/// Decodes what texts are usually encoded with: the escapes of JSON and of Rust's `{:?}`, the
/// percent signs of URLs, and the entities of HTML. What is none of these stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '%', '&']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let escape = backslash(rest).or_else(|| percent(rest)).or_else(|| entity(rest));
        let (decoded, length) = escape.unwrap_or((Decoded::Byte(rest.as_bytes()[0]), 1));
        match decoded {
            Decoded::Byte(byte) => bytes.push(byte),
            Decoded::Letter(letter) => {
                bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What an escape stands for.
enum Decoded {
    /// A byte of a UTF-8 sequence.
    Byte(u8),
    Letter(char),
}

fn hex(digits: Option<&str>) -> Option<u32> {
    u32::from_str_radix(digits?, 16).ok()
}

/// `\n`, `\x41`, `\u0041`, `\ud83d\ude00` or `\u{41}` at the beginning, and its length.
fn backslash(text: &str) -> Option<(Decoded, usize)> {
    let escape = text.strip_prefix('\\')?;
    let kind = escape.chars().next()?;
    if kind == 'x' {
        let byte = u8::try_from(hex(escape.get(1..3))?).ok()?;
        return Some((Decoded::Byte(byte), 4));
    }
    if kind == 'u' {
        if let Some(braced) = escape.strip_prefix("u{") {
            let digits = braced.split_once('}')?.0;
            let letter = char::from_u32(hex(Some(digits))?)?;
            return Some((Decoded::Letter(letter), digits.len() + 4));
        }
        let first = hex(escape.get(1..5))?;
        let low = escape.get(5..).and_then(|more| more.strip_prefix("\\u"));
        let units = [first, low.and_then(|low| hex(low.get(..4))).unwrap_or_default()];
        let units = units.map(|unit| u16::try_from(unit).unwrap_or_default());
        let letter = char::decode_utf16(units).next()?.ok()?;
        return Some((Decoded::Letter(letter), if letter.len_utf16() == 2 { 12 } else { 6 }));
    }
    let letter = match kind {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'b' => '\u{8}',
        'f' => '\u{c}',
        '0' => '\0',
        other => other,
    };
    Some((Decoded::Letter(letter), 1 + kind.len_utf8()))
}

/// `%41` at the beginning, and its length.
fn percent(text: &str) -> Option<(Decoded, usize)> {
    let byte = u8::try_from(hex(text.strip_prefix('%')?.get(..2))?).ok()?;
    Some((Decoded::Byte(byte), 3))
}

/// `&lt;`, `&#60;` or `&#x3c;` at the beginning, and its length.
fn entity(text: &str) -> Option<(Decoded, usize)> {
    let name = text.strip_prefix('&')?.split_once(';')?.0;
    let letter = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let code = name.strip_prefix('#')?;
            char::from_u32(match code.strip_prefix(['x', 'X']) {
                Some(digits) => hex(Some(digits))?,
                None => code.parse().ok()?,
            })?
        }
    };
    Some((Decoded::Letter(letter), name.len() + 2))
}

/// The numbers of a text, such as those of `-4711`, `4,711.0`, `4_711` and `4.711e3`. A run of
/// digits and signs is read as a whole, without its separators, and in pieces.
fn numbers_in(text: &str) -> impl Iterator<Item = f64> {
    let is_part = |letter: char| letter.is_ascii_digit() || ",._+-eE".contains(letter);
    let runs = text.split(move |letter| !is_part(letter));
    let runs = runs.filter(|run| run.contains(|letter: char| letter.is_ascii_digit()));
    runs.flat_map(|run| {
        let whole: String = run.chars().filter(|letter| !",_".contains(*letter)).collect();
        let pieces = run.split([',', '_', '+', '-']).map(str::to_owned);
        let all: Vec<String> = std::iter::once(whole).chain(pieces).collect();
        all.into_iter().filter_map(|number| {
            let trimmed = number.trim_matches(|letter: char| "._+eE".contains(letter));
            trimmed.trim_end_matches('-').parse().ok()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::QueueName;

    fn seen(redact: impl Fn(&mut JobInfo) + Send + Sync + 'static, error: &str) -> JobInfo {
        let queue = QueueName::new("mail").unwrap();
        let payload = br#"{"user":"ann","pin":4711,"token":"S3\"cret"}"#.to_vec();
        let mut job = JobRecord::new("mail:send", Some(payload), queue);
        job.last_error = error.to_owned();
        job.unique_key = "lock:mail:send:0cc175b9c0f1b6a831c399e269772661".into();
        job.headers.insert("tenant".into(), "4711".into());
        Viewer::redacted(Some(Arc::new(redact))).job(JobInfo::new(job, JobState::Retry))
    }

    fn hide_payload(info: &mut JobInfo) {
        info.record.payload = Some(br#"{"user":"ann"}"#.to_vec());
    }

    #[test]
    fn what_quotes_a_hidden_part_of_the_payload_is_hidden_too() {
        for error in ["wrong pin 4711", "no: S3\"cret", "no: \"S3\\\"cret\"", "s3\"CRET"] {
            assert_eq!(seen(hide_payload, error).record.last_error, HIDDEN, "{error}");
        }
        // With escapes, as a name, as a word of a text, and where it is a part of what is shown.
        let secret = |whole: &str, shown: &str, text: &str| {
            RedactedParts::between(whole.as_bytes(), shown.as_bytes()).are_in(text)
        };
        assert!(secret(r#"{"token":"p&ss<1>"}"#, "{}", r#""p\u0026ss\u003c1\u003e""#));
        assert!(secret(r#"{"cards":{"4111":1}}"#, r#"{"cards":{}}"#, "card 4111 refused"));
        assert!(secret(r#"{"dsn":"user:S3CRET@db"}"#, "{}", "login with s3cret failed"));
        assert!(secret(r#"{"user":"ann4711","pin":4711}"#, r#"{"user":"ann4711"}"#, "pin 4711"));
        assert!(secret(r#"{"pin":42}"#, "{}", "pin 42 is wrong"));
        assert!(!secret(r#"{"pin":42}"#, "{}", "after 420 ms"));
        assert!(!secret(r#"{"pin":1}"#, "{}", "line 1"));
        // Numbers in another form than the payload's.
        let large = r#"{"n":123456789012345678901234567890}"#;
        assert!(secret(large, "{}", "found 123456789012345678901234567890"));
        assert!(secret(r#"{"n":1e21}"#, "{}", "invalid 1000000000000000000000, expected"));
        assert!(secret(r#"{"n":5e-7}"#, "{}", "floating point `0.0000005`"));
        assert!(secret(r#"{"n":-4711}"#, "{}", "no account -4,711."));
        assert!(secret(r#"{"n":4711}"#, "{}", "no account 4.711E3"));
        assert!(!secret(r#"{"n":4711}"#, "{}", "line 4 column 711"));
        // With the escapes of Rust, of URLs and of HTML, also one in the other.
        assert!(secret(r#"{"pin":"a\nb"}"#, "{}", r#"invalid "a\nb""#));
        assert!(secret(r#"{"pin":"a\\b"}"#, "{}", r#"invalid "a\\b""#));
        assert!(secret(r#"{"pin":"a\u200bb"}"#, "{}", r#"invalid "a\u{200b}b""#));
        assert!(secret(r#"{"pin":"a\u0001b"}"#, "{}", r"bytes a\x01b"));
        assert!(secret(r#"{"pin":"😀é"}"#, "{}", r#""\ud83d\ude00\u00e9""#));
        assert!(secret(r#"{"name":"é å"}"#, "{}", "GET /find?name=%C3%A9%20%C3%A5"));
        assert!(secret(r#"{"pin":"<\"&"}"#, "{}", "no &lt;&quot;&#38; there"));
        assert!(secret(r#"{"pin":"a\nb"}"#, "{}", r#"called with "{\"pin\":\"a\\nb\"}""#));
        let other = seen(hide_payload, "ann is not there");
        assert_eq!(other.record.last_error, "ann is not there");
        assert_eq!(
            (other.record.headers["tenant"].as_str(), &*other.record.unique_key),
            (HIDDEN, HIDDEN)
        );
    }

    #[test]
    fn where_the_function_panics_nothing_is_shown_of_what_it_may_hide() {
        let info = seen(|_| panic!("redact"), "anything");
        assert_eq!((info.record.payload, info.record.last_error.as_str()), (None, HIDDEN));
    }

    #[test]
    fn who_is_not_restricted_sees_everything() {
        let queue = QueueName::new("mail").unwrap();
        let mut job = JobRecord::new("t", Some(b"x".to_vec()), queue);
        job.unique_key = "key".into();
        let info = JobInfo::new(job, JobState::Pending);
        assert_eq!(Viewer::default().job(info.clone()), info);
    }
}
