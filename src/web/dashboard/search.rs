//! The search language of the jobs page: `state:archived type:mail:send error:"timed out"
//! queue:mail id:4e37 anything`.
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
//! | other text | that contain it in id, type, payload or error |
//! | `"…"` | text with spaces or colons, as one piece |
//!
//! A search reads lists in the order of [`STATES`], queue by queue, and stops at 100 rows, at 200
//! lists, at 8 MiB or after two seconds, whichever comes first. It says which lists have more.

use std::time::{Duration, Instant};

use crate::broker::{JobRow, MAX_PAGE_BYTES, Page};
use crate::error::Error;
use crate::inspector::{Filter, Inspector, bytes_of};
use crate::job::{JobState, QueueName};
use crate::web::JobQueue;

/// Maximum rows of one page of results.
pub(crate) const MAX_ROWS: usize = 100;

/// Maximum lists (one per queue and state) that are read for one page.
pub(super) const MAX_LISTS: usize = 200;

/// How long a page searches; it then shows what it has found.
pub(super) const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);

/// States in the order in which an operator usually looks for a job.
const STATES: [JobState; 6] = [
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
    queues: Vec<String>,
    /// Only these states; empty for all that have a list.
    states: Vec<JobState>,
    /// Job type, id, error and free text.
    pub(crate) filter: Filter,
}

/// The filters, each written before a colon.
const FILTERS: [&str; 6] = ["queue", "state", "type", "id", "error", "version"];

impl Query {
    /// Parses a search.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for an unknown filter or state, an empty text, a filter given
    /// twice, or a quote that does not end.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
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
fn once(filter: &str, place: &mut Option<String>, text: String) -> Result<(), Error> {
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

/// A text in the form that a filter accepts.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The result of a search: rows, and the lists that may have more.
pub(crate) struct SearchResult {
    /// At most [`MAX_ROWS`] jobs.
    pub(crate) rows: Vec<JobRow>,
    /// The position at which the search stopped.
    pub(crate) more: Vec<(QueueName, JobState)>,
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
fn is_named(name: &QueueName, wanted: &str) -> bool {
    name.as_str() == wanted || name.printable() == wanted
}

/// Reads list after list until a page is full or [`SEARCH_TIMEOUT`] has passed. A damaged queue
/// is logged and left out.
pub(crate) async fn search(queue: &JobQueue, query: &Query) -> Result<SearchResult, Error> {
    let (inspector, began) = (queue.redacted_inspector(), Instant::now());
    let (mut found, mut bytes) = (SearchResult { rows: Vec::new(), more: Vec::new() }, 0);
    for (nth, (name, state)) in lists(&inspector, query).await?.into_iter().enumerate() {
        let room = MAX_ROWS - found.rows.len();
        if room == 0
            || bytes >= MAX_PAGE_BYTES
            || nth >= MAX_LISTS
            || began.elapsed() > SEARCH_TIMEOUT
        {
            found.more.push((name, state));
            break;
        }
        let page = Page::default().size(u32::try_from(room).unwrap_or(1))?;
        match inspector.jobs_where(&name, state, &query.filter, &page).await {
            Ok(page) => {
                bytes += page.rows.iter().map(bytes_of).sum::<usize>();
                found.rows.extend(page.rows);
                if page.next.is_some() {
                    found.more.push((name, state));
                }
            }
            Err(error) if error.is_unavailable() => return Err(error),
            // One damaged queue must not hide the others.
            Err(error) => {
                crate::log::warn!(queue = %name, ?error, "cannot list the jobs of a queue")
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filters_or_text() {
        let text = "  state:archived queue:mail type:mail:send hello  error:no state:retry world";
        let query = Query::parse(text).unwrap();
        assert_eq!(query.states, [JobState::Archived, JobState::Retry]);
        assert_eq!(query.queues, ["mail"]);
        assert_eq!(query.filter.job_type.as_deref(), Some("mail:send"));
        assert_eq!(query.filter.error.as_deref(), Some("no"));
        assert_eq!(query.filter.text.as_deref(), Some("hello world"));
        let query = Query::parse("version:2.4.1 state:archived").unwrap();
        assert_eq!(query.filter.version.as_deref(), Some("2.4.1"));
        assert_eq!(Query::parse(" ").unwrap(), Query::default());
        let text = "error:\"timed out\" type：\"a b\" \"mail:send\" it's 5\" \\ 説明：二";
        let query = Query::parse(text).unwrap();
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
            ("foo:bar", "expected one of queue, state, type, id, error, version, found \"foo\""),
            ("mail:send", "in quotes: \"mail:…\""),
            (":x", "found \"\""),
            ("type:a type:b", "type: expected once"),
            ("error:\"日本 x", "expected a second \""),
            ("\"\"", "expected text"),
        ] {
            let error = Query::parse(text).unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains(found), "{text}: {error}");
        }
    }

    #[test]
    fn a_quoted_text_is_read_back() {
        for text in ["a b", "say \"x\"", "\\", "a\\\"", "state:x"] {
            let query = Query::parse(&format!("error:{0} {0}", quoted(text))).unwrap();
            assert_eq!(query.filter.error.as_deref(), Some(text));
            assert_eq!(query.filter.text.as_deref(), Some(text));
        }
    }
}
