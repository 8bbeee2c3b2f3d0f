//! The search language of the jobs page, of REST and of the terminal: `state:archived
//! type:mail:send error:"timed out" queue:mail id:4e37 anything`.
//!
//! Everything a search finds can be acted upon, so nothing is guessed: an unknown filter, a
//! misspelled state or an empty text is an error, never a wider search.
//!
//! | part | finds jobs |
//! | --- | --- |
//! | `queue:mail` | of this queue; several queues may be named |
//! | `state:retry` | in this state; several may be named |
//! | `type:`, `id:`, `error:` | whose type is this; whose id or error contains this; once each |
//! | `version:2.4.1` | whose last attempt was made by this version of the application; once |
//! | `since:1h`, `until:2026-12-01`, `since:"yesterday 18:00"` | whose own time is in this range: when it is due, was archived, and so on; see `moment` |
//! | other text | that contain it in id, type, payload or error |
//! | `"…"` | text with spaces or colons, as one piece |
//!
//! The dashboard's `results` reads what a page shows, `found` walks all there is.
#![cfg_attr(not(feature = "dashboard"), allow(dead_code, reason = "the rest is for pages"))]

use std::time::Duration;

use chrono_tz::Tz;

use super::moment::parse_past;
use super::{Filter, Inspector};
use crate::error::Error;
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;

/// Maximum rows of one page of results.
pub(crate) const MAX_ROWS: usize = 100;

/// Maximum lists (one per queue and state) that are read for one page.
pub(crate) const MAX_LISTS: usize = 200;

/// How long a page searches; it then shows what it has found.
pub(crate) const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);

/// States in the order in which an operator usually looks for a job.
pub(crate) const STATES: [JobState; 6] = [
    JobState::Archived,
    JobState::Retry,
    JobState::Active,
    JobState::Pending,
    JobState::Scheduled,
    JobState::Completed,
];

/// A parsed search.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Only these queues; empty for all.
    pub(crate) queues: Vec<String>,
    /// Only these states; empty for all that have a list.
    pub(crate) states: Vec<JobState>,
    /// Job type, id, error and free text.
    pub(crate) filter: Filter,
}

/// The filters, each written before a colon.
const FILTERS: [&str; 8] = ["queue", "state", "type", "id", "error", "version", "since", "until"];

impl Query {
    /// Parses a search; times are of this zone, and counted from `now`.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for an unknown filter or state, an empty text, a filter given
    /// twice, a time that means none, or a quote that does not end.
    pub(crate) fn parse(text: &str, now: Timestamp, zone: Tz) -> Result<Self, Error> {
        let mut query = Self::default();
        let mut free: Vec<String> = Vec::new();
        for Word { filter, text } in words(text)? {
            if text.is_empty() {
                let name = filter.as_deref().unwrap_or("quotes");
                return Err(Error::invalid(format!("{name}: expected text, found nothing")));
            }
            let Some(filter) = filter else {
                free.push(text);
                continue;
            };
            match filter.as_str() {
                "queue" => query.queues.push(text),
                "state" => query.states.push(listed_state(&text)?),
                "type" => once(&filter, &mut query.filter.job_type, text)?,
                "id" => once(&filter, &mut query.filter.id, text)?,
                "error" => once(&filter, &mut query.filter.error, text)?,
                "version" => once(&filter, &mut query.filter.version, text)?,
                "since" => {
                    once(&filter, &mut query.filter.since, parse_past(&text, now, zone)?)?;
                }
                "until" => {
                    once(&filter, &mut query.filter.until, parse_past(&text, now, zone)?)?;
                }
                _ => return Err(unknown(&filter)),
            }
        }
        if !free.is_empty() {
            query.filter.text = Some(free.join(" "));
        }
        Ok(query)
    }
}

/// A state that a search covers. Aggregating jobs are listed by group instead.
fn listed_state(name: &str) -> Result<JobState, Error> {
    let states = || STATES.map(JobState::as_str).join(", ");
    let found = || name.chars().take(40).collect::<String>();
    JobState::parse(name).filter(|state| STATES.contains(state)).ok_or_else(|| {
        Error::invalid(format!("state: expected one of {}, found {:?}", states(), found()))
    })
}

/// Sets a filter that may be given once.
fn once<T>(filter: &str, place: &mut Option<T>, text: T) -> Result<(), Error> {
    match place.replace(text) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!("{filter}: expected once, found twice"))),
    }
}

/// The error for an unknown filter, with the nearest known one.
fn unknown(filter: &str) -> Error {
    let found: String = filter.chars().take(40).collect();
    let likeness = |known: &&str| strsim::jaro_winkler(&filter.to_lowercase(), known);
    let nearest = FILTERS.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let nearest = nearest.unwrap_or_default();
    Error::invalid(format!(
        "filter: expected one of {}, found {found:?}; the nearest is {nearest:?}. Text with a \
         colon stands in quotes: \"{found}:…\"",
        FILTERS.join(", ")
    ))
}

/// The part between two spaces: text, or a filter and its text.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    /// The filter before the colon.
    filter: Option<String>,
    /// The text, without its quotes.
    text: String,
}

/// Splits a search at its spaces. Within `"…"` spaces and colons are part of the text, and `\`
/// escapes `"` and `\`.
fn words(text: &str) -> Result<Vec<Word>, Error> {
    let (mut words, mut rest) = (Vec::new(), text.trim_start().chars().peekable());
    while rest.peek().is_some() {
        let mut word = Word { filter: None, text: String::new() };
        let (mut quoted, mut was_quoted) = (false, false);
        while let Some(c) = rest.next_if(|c| quoted || !c.is_whitespace()) {
            match c {
                '\\' if quoted => {
                    word.text.extend(rest.next_if(|next| ['"', '\\'].contains(next)).or(Some(c)));
                }
                '"' if quoted || word.text.is_empty() && !was_quoted => {
                    (quoted, was_quoted) = (!quoted, true);
                }
                ':' if word.filter.is_none() && !was_quoted => {
                    word.filter = Some(std::mem::take(&mut word.text));
                }
                // The colon of a Japanese keyboard, after a filter; elsewhere it is text.
                '：' if word.filter.is_none() && FILTERS.contains(&word.text.as_str()) => {
                    word.filter = Some(std::mem::take(&mut word.text));
                }
                c => word.text.push(c),
            }
        }
        if quoted {
            return Err(Error::invalid("quotes: expected a second \", found none"));
        }
        words.push(word);
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
    }
    Ok(words)
}

/// A search in which this filter has this value, or is missing: what a facet links to. The other
/// words stay as they were written.
pub(crate) fn with_filter(text: &str, filter: &str, value: Option<&str>) -> String {
    let kept = pieces(text).into_iter().filter(|piece| {
        let name = piece.split_once([':', '：']).map(|(name, _)| name);
        name != Some(filter)
    });
    let set = value.map(|value| {
        match value.contains(|c: char| c.is_whitespace() || "\"\\".contains(c)) {
            true => format!("{filter}:{}", quoted(value)),
            false => format!("{filter}:{value}"),
        }
    });
    kept.map(str::to_owned).chain(set).collect::<Vec<_>>().join(" ")
}

/// The pieces of a search between its spaces, as they were written.
fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                pieces.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    pieces.push(&text[start..]);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// A text in the form that a filter accepts.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The lists that a search reads, in its order. Jobs in groups are not among them.
///
/// # Errors
/// [`Error::is_invalid`] for a queue that does not exist.
pub(crate) async fn lists(
    inspector: &Inspector,
    query: &Query,
) -> Result<Vec<(QueueName, JobState)>, Error> {
    let mut names = inspector.queues().await?;
    if let Some(missing) =
        query.queues.iter().find(|wanted| !names.iter().any(|name| is_named(name, wanted)))
    {
        let found: String = missing.chars().take(128).collect();
        return Err(Error::invalid(format!("queue: expected an existing queue, found {found:?}")));
    }
    if !query.queues.is_empty() {
        names.retain(|name| query.queues.iter().any(|wanted| is_named(name, wanted)));
    }
    let states = if query.states.is_empty() { &STATES[..] } else { &query.states[..] };
    Ok(states.iter().flat_map(|state| names.iter().map(|name| (name.clone(), *state))).collect())
}

/// Whether the text names this queue, as it is stored or as pages show it.
pub(crate) fn is_named(name: &QueueName, wanted: &str) -> bool {
    name.as_str() == wanted || name.printable() == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Query, Error> {
        Query::parse(text, Timestamp::from_secs(1_800_000_000), Tz::UTC)
    }

    #[test]
    fn words_are_filters_or_text() {
        let text = "  state:archived queue:mail type:mail:send hello  error:no state:retry world";
        let query = parse(text).unwrap();
        assert_eq!(query.states, [JobState::Archived, JobState::Retry]);
        assert_eq!(query.queues, ["mail"]);
        assert_eq!(query.filter.job_type.as_deref(), Some("mail:send"));
        assert_eq!(query.filter.error.as_deref(), Some("no"));
        assert_eq!(query.filter.text.as_deref(), Some("hello world"));
        let query = parse("version:2.4.1 state:archived").unwrap();
        assert_eq!(query.filter.version.as_deref(), Some("2.4.1"));
        assert_eq!(parse(" ").unwrap(), Query::default());
        let text = "error:\"timed out\" type：\"a b\" \"mail:send\" it's 5\" \\ 説明：二";
        let query = parse(text).unwrap();
        assert_eq!(query.filter.error.as_deref(), Some("timed out"));
        assert_eq!(query.filter.job_type.as_deref(), Some("a b"));
        assert_eq!(query.filter.text.as_deref(), Some("mail:send it's 5\" \\ 説明：二"));
    }

    #[test]
    fn a_word_that_means_nothing_is_an_error() {
        for (text, found) in [
            ("state:archved", "\"archved\""),
            ("state:Archived", "\"Archived\""),
            ("state:aggregating state:retry", "aggregating"),
            ("state:", "state: expected text"),
            ("sate:archived", "the nearest is \"state\""),
            ("State:archived", "the nearest is \"state\""),
            ("-state:archived", "\"-state\""),
            (
                "foo:bar",
                "expected one of queue, state, type, id, error, version, since, until, found \"foo\"",
            ),
            ("mail:send", "in quotes: \"mail:…\""),
            (":x", "found \"\""),
            ("type:a type:b", "type: expected once"),
            ("error:\"日本 x", "expected a second \""),
            ("\"\"", "expected text"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains(found), "{text}: {error}");
        }
    }

    #[test]
    fn a_quoted_text_is_read_back() {
        for text in ["a b", "say \"x\"", "\\", "a\\\"", "state:x"] {
            let query = parse(&format!("error:{0} {0}", quoted(text))).unwrap();
            assert_eq!(query.filter.error.as_deref(), Some(text));
            assert_eq!(query.filter.text.as_deref(), Some(text));
        }
    }

    #[test]
    fn a_search_has_a_range_of_time() {
        let query = parse("since:1h until:\"2027-01-15 08:00\"").unwrap();
        assert_eq!(query.filter.since, Some(Timestamp::from_secs(1_800_000_000 - 3600)));
        assert_eq!(query.filter.until, Some(Timestamp::from_secs(1_800_000_000)));
        assert!(parse("since:soon").unwrap_err().to_string().contains("found \"soon\""));
        assert!(parse("since:1h since:2h").unwrap_err().is_invalid());
    }

    #[test]
    fn a_facet_sets_one_filter_and_leaves_the_rest() {
        for (text, filter, value, expected) in [
            ("", "state", Some("retry"), "state:retry"),
            ("state:archived state:retry hello", "state", Some("retry"), "hello state:retry"),
            ("type:mail:send error:\"timed out: 7\"", "type", None, "error:\"timed out: 7\""),
            ("error:\"a \\\" b\" x", "error", Some("c d"), "x error:\"c d\""),
            ("x", "type", Some("say \"a\""), "x type:\"say \\\"a\\\"\""),
        ] {
            let found = with_filter(text, filter, value);
            assert_eq!(found, expected);
            assert!(parse(&found).is_ok(), "{found}");
        }
    }
}
