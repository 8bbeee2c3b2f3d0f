//! The parts of a payload, a header or a result that redaction removed, and whether a text quotes
//! one of them: as it is, as a word, or as a number of the same value.
//!
//! A text may have been cut when it was stored, and end within such a part. So the end of a text
//! that has its maximum length is compared with the beginnings of the parts too.

use std::collections::BTreeSet;
use std::ops::Bound;

use serde_json::Value;

use super::escapes::decoded_forms;
use crate::job::without_backtrace;

/// Shorter parts of a payload occur inside the words of any text, so they are matched as
/// whole words only.
const MIN_QUOTE_LEN: usize = 3;

/// Above these sizes of what was removed no text is searched: all texts are hidden.
const MAX_PARTS: usize = 2_000;
const MAX_WHOLE_BYTES: usize = 256 * 1024;

/// Longer texts are hidden without a search.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Where an escape may have been cut in two: `\u{20`, `%E`, `&quo`.
const MAX_ESCAPE_BYTES: usize = 12;

/// The parts that redaction removed.
pub(super) enum RedactedParts {
    Some {
        /// In lower case, as texts are compared.
        texts: BTreeSet<String>,
        /// Numbers are also compared by value, because a text may write them in another form.
        numbers: Vec<f64>,
    },
    TooMany,
}

impl Default for RedactedParts {
    fn default() -> Self {
        RedactedParts::Some { texts: BTreeSet::new(), numbers: Vec::new() }
    }
}

impl RedactedParts {
    /// Adds the parts of a whole value that the shown one does not have. Parts that remain visible
    /// elsewhere in the shown value are not secret.
    pub(super) fn add(&mut self, whole: &[u8], shown: &[u8]) {
        let RedactedParts::Some { texts, numbers } = self else { return };
        if whole == shown {
            return;
        }
        if whole.len() > MAX_WHOLE_BYTES {
            *self = RedactedParts::TooMany;
            return;
        }
        let (whole, shown) = (Parts::of(whole), Parts::of(shown));
        texts.extend(whole.texts.into_iter().filter(|text| !shown.texts.contains(text)));
        numbers.extend(whole.numbers.into_iter().filter(|number| !shown.numbers.contains(number)));
        if texts.len() > MAX_PARTS {
            *self = RedactedParts::TooMany;
        }
    }

    /// Whether there are none: then no text can quote one.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, RedactedParts::Some { texts, numbers } if texts.is_empty() && numbers.is_empty())
    }

    /// Whether a text contains one of them, plain or encoded. It may have been cut to this many
    /// bytes, or where it has an ellipsis: then it may also end within one.
    pub(super) fn are_in(&self, text: &str, most: usize) -> bool {
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
        let is_number = |form: &String| numbers_in(form).any(|found| numbers.contains(&found));
        forms.iter().any(quotes)
            || (!numbers.is_empty() && forms.iter().any(is_number))
            || cut_end(text, most).is_some_and(|text| {
                decoded_forms(text).iter().any(|form| self.begin_at_the_end_of(form))
            })
    }

    /// Whether the end of a text is the beginning of one of them, at least as much of it as a quote
    /// must have.
    fn begin_at_the_end_of(&self, form: &str) -> bool {
        let RedactedParts::Some { texts, .. } = self else { return true };
        let begins_one = |end: &str| {
            let mut from = texts.range::<str, _>((Bound::Included(end), Bound::Unbounded));
            from.next().is_some_and(|part| part.starts_with(end))
        };
        let escapes = form.char_indices().filter(|(_, letter)| "\\%&\u{fffd}".contains(*letter));
        let near = form.len().saturating_sub(MAX_ESCAPE_BYTES);
        let ends = escapes.map(|(at, _)| at).filter(|at| *at >= near).chain([form.len()]);
        let mut ends = ends.map(|end| &form[..end]);
        ends.any(|form| {
            let starts = form.char_indices().map(|(start, _)| start);
            let mut long = starts.take_while(|start| form.len() - start >= MIN_QUOTE_LEN);
            long.any(|start| begins_one(&form[start..]))
        })
    }
}

/// The part of a text before the place where it may have been cut.
fn cut_end(text: &str, most: usize) -> Option<&str> {
    let causes = without_backtrace(text);
    let is_cut = causes.ends_with('…') || causes.len().saturating_add(char::MAX.len_utf8()) > most;
    is_cut.then(|| causes.trim_end_matches('…'))
}

/// What a payload, a header or a result consists of.
#[derive(Default)]
struct Parts {
    /// Names, words and numbers, and whole strings, all in lower case.
    texts: BTreeSet<String>,
    numbers: Vec<f64>,
}

impl Parts {
    fn of(whole: &[u8]) -> Self {
        let mut parts = Parts::default();
        match serde_json::from_slice::<Value>(whole) {
            Ok(value) => parts.add(&value),
            Err(_) => parts.add_text(&String::from_utf8_lossy(whole)),
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
