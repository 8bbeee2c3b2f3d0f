//! The parts of a payload that redaction removed, and whether a text quotes one of them: as it
//! is, as a word, or as a number of the same value.

use std::collections::BTreeSet;

use serde_json::Value;

use super::escapes::decoded_forms;

/// Shorter parts of a payload occur inside the words of any text, so they are matched as
/// whole words only.
const MIN_QUOTE_LEN: usize = 3;

/// Above these sizes of a payload no text is searched: all texts are hidden.
const MAX_PARTS: usize = 2_000;
const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Longer texts are hidden without a search.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The parts of a payload that redaction removed.
pub(super) enum RedactedParts {
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
    pub(super) fn between(whole: &[u8], shown: &[u8]) -> Self {
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
    pub(super) fn are_in(&self, text: &str) -> bool {
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
