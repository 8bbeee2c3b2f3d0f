//! Jobs of all queues and states, found by words: `state:archived type:mail:send
//! error:"timed out" queue:mail id:4e37 anything`. And failures, put together by what went
//! wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use maud::{Markup, html};
use rocket::http::Status;
use rocket::{Route, get, routes};

use super::layout::{self, Place, escaped, instant, say, state_word};
use super::{Language, Page, Reader, rows, selected};
use crate::broker::{JobRow, PAGE_BYTES, Page as ListPage};
use crate::error::Error;
use crate::inspector::{Filter, Inspector, bytes_of};
use crate::job::{JobState, QueueName};
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::guards::ViewAccess;

/// Most rows of one page of results.
const MOST_ROWS: usize = 100;

/// Most lists that are looked through for one page.
const MOST_LISTS: usize = 200;

/// How long a page looks for jobs: what it has found by then is shown.
const PATIENCE: Duration = Duration::from_secs(2);

/// States in the order in which an operator looks for a job.
const STATES: [JobState; 6] = [
    JobState::Archived,
    JobState::Retry,
    JobState::Active,
    JobState::Pending,
    JobState::Scheduled,
    JobState::Completed,
];

/// What is looked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    queues: Vec<String>,
    states: Vec<JobState>,
    pub(super) filter: Filter,
}

/// The words before a colon.
const FILTERS: [&str; 5] = ["queue", "state", "type", "id", "error"];

impl Query {
    /// # Errors
    /// Nothing is guessed: a word that means nothing here would be a wider search than the
    /// one that was meant, and all that it finds can be acted upon.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut query = Self::default();
        let mut free: Vec<String> = Vec::new();
        for Word { filter, text } in words(text)? {
            if text.is_empty() {
                let place = filter.as_deref().unwrap_or("quotes");
                return Err(Error::invalid(format!("{place}: expected text, found nothing")));
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
                _ => return Err(unknown(&filter)),
            }
        }
        if !free.is_empty() {
            query.filter.text = Some(free.join(" "));
        }
        Ok(query)
    }
}

/// A state whose jobs a search goes through. Aggregating ones are listed by group.
fn listed_state(name: &str) -> Result<JobState, Error> {
    let states = || STATES.map(JobState::as_str).join(", ");
    let found = || name.chars().take(40).collect::<String>();
    JobState::parse(name).filter(|state| STATES.contains(state)).ok_or_else(|| {
        Error::invalid(format!("state: expected one of {}, found {:?}", states(), found()))
    })
}

fn once(filter: &str, place: &mut Option<String>, text: String) -> Result<(), Error> {
    match place.replace(text) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!("{filter}: expected once, found twice"))),
    }
}

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

/// What stands between spaces: text, or a filter and its text.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    filter: Option<String>,
    text: String,
}

/// A text may be within `"…"`, where spaces and colons are part of it and `\` stands before
/// `"` and `\`.
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
                // As a Japanese keyboard writes it; in other words it is a part of the text.
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

/// A text as a filter takes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What was found: rows, and the lists that may have more.
struct Found {
    rows: Vec<JobRow>,
    more: Vec<(QueueName, JobState)>,
}

/// The lists of jobs that a search goes through, in its order. Jobs in groups have lists of
/// their own.
pub(super) async fn lists(
    inspector: &Inspector,
    query: &Query,
) -> Result<Vec<(QueueName, JobState)>, Error> {
    let mut names = inspector.queues().await?;
    if let Some(missing) =
        query.queues.iter().find(|wanted| !names.iter().any(|name| is_named(name, wanted)))
    {
        let found: String = missing.chars().take(128).collect();
        return Err(Error::invalid(format!("queue: expected one that there is, found {found:?}")));
    }
    if !query.queues.is_empty() {
        names.retain(|name| query.queues.iter().any(|wanted| is_named(name, wanted)));
    }
    let states = if query.states.is_empty() { &STATES[..] } else { &query.states[..] };
    Ok(states.iter().flat_map(|state| names.iter().map(|name| (name.clone(), *state))).collect())
}

/// A name may be written as it is or as pages show it.
fn is_named(name: &QueueName, wanted: &str) -> bool {
    name.as_str() == wanted || name.printable() == wanted
}

async fn search(queue: &JobQueue, query: &Query) -> Result<Found, Error> {
    let (inspector, began) = (queue.redacted_inspector(), Instant::now());
    let (mut found, mut bytes) = (Found { rows: Vec::new(), more: Vec::new() }, 0);
    for (nth, (name, state)) in lists(&inspector, query).await?.into_iter().enumerate() {
        let room = MOST_ROWS - found.rows.len();
        if room == 0 || bytes >= PAGE_BYTES || nth >= MOST_LISTS || began.elapsed() > PATIENCE {
            found.more.push((name, state));
            break;
        }
        let page = ListPage::default().size(u32::try_from(room).unwrap_or(1))?;
        match inspector.jobs_where(&name, state, &query.filter, &page).await {
            Ok(page) => {
                bytes += page.rows.iter().map(bytes_of).sum::<usize>();
                found.rows.extend(page.rows);
                if page.next.is_some() {
                    found.more.push((name, state));
                }
            }
            Err(error) if error.is_unavailable() => return Err(error),
            // One damaged queue must not hide what another has.
            Err(error) => crate::log::warn!(queue = %name, ?error, "could not list its jobs"),
        }
    }
    Ok(found)
}

#[get("/ui/jobs?<q>&<count>&<left>")]
async fn show(
    _access: ViewAccess,
    queue: &JobQueue,
    reader: Reader,
    q: Option<&str>,
    count: Option<u64>,
    left: Option<u64>,
) -> Page {
    let text = q.unwrap_or_default().trim();
    let language = reader.language;
    let found = async {
        let query = Query::parse(text)?;
        Ok((search(queue, &query).await?, query))
    };
    let title = say(language, "ジョブ検索", "Jobs");
    match found.await {
        Ok((found, query)) => {
            let content = html! {
                (layout::counted(language, count))
                @if let Some(left) = left.filter(|left| *left > 0) {
                    div.notice.bad role="status" {
                        p { (left) " " (say(language, "件はそのままです（すでに移動したか、状態が操作を許しません）。", "are left as they are: they have moved on, or their state does not allow it.")) }
                    }
                }
                (form(&reader, text))
                (rows::choice(&reader, queue.now(), &found.rows, selected::FORM))
                @if !found.rows.is_empty() { (selected::buttons(&reader, text)) }
                (more(&reader, &query.filter, &found))
            };
            Page(Status::Ok, layout::page(&reader, queue, Place::Jobs, title, content))
        }
        // Nothing is listed, and so nothing can be acted upon.
        Err(error) if Error::is_invalid(&error) => {
            let content = html! {
                (form(&reader, text))
                div.notice.bad role="alert" {
                    p { (say(language, "検索語に誤りがあります。", "The search is wrong, and nothing was looked for.")) }
                    p { (error) }
                }
            };
            let page = layout::page(&reader, queue, Place::Jobs, title, content);
            Page(Status::UnprocessableEntity, page)
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

fn form(reader: &Reader, text: &str) -> Markup {
    let language = reader.language;
    html! {
        form.search method="get" action={ (reader.base) "/ui/jobs" } role="search" {
            div {
                label for="q" { (say(language, "検索語", "Words")) }
                input #q name="q" type="search" value=(text) aria-describedby="q-hint"
                    placeholder="state:archived type:mail:send error:timeout";
            }
            button.small type="submit" { (say(language, "検索", "Search")) }
            p.hint #q-hint {
                (say(
                    language,
                    "queue: state: type: id: error: と、ID・タイプ・ペイロード・エラーに含まれるテキスト。",
                    "queue: state: type: id: error: and text in id, type, payload or error.",
                ))
            }
        }
    }
}

fn more(reader: &Reader, filter: &Filter, found: &Found) -> Markup {
    let language = reader.language;
    let text = filter.text.as_ref().or(filter.error.as_ref()).or(filter.id.as_ref());
    html! {
        @if !found.more.is_empty() {
            p.more {
                (say(language, "続き: ", "More in ")) " "
                @for (nth, (name, state)) in found.more.iter().enumerate() {
                    @if nth > 0 { ", " }
                    a href={ (reader.base) "/ui/queues/" (escaped(&name.printable())) "?state=" (state.as_str())
                        "&type=" (escaped(filter.job_type.as_deref().unwrap_or_default()))
                        "&search=" (escaped(text.map_or("", String::as_str))) } {
                        (name) " (" (state_word(language, *state)) ")"
                    }
                }
            }
        }
    }
}

/// Failures that look alike.
struct Failure {
    count: usize,
    /// What all of them say, as far as one can look for it.
    common: String,
    sample: String,
    last: Option<Timestamp>,
}

/// An error without what differs from job to job: numbers, ids and quoted words.
fn fingerprint(error: &str) -> String {
    let mut print = String::new();
    let mut quote = None;
    for word in error.split_inclusive(|c: char| c.is_whitespace() || "\"'`".contains(c)) {
        let ends = word.chars().last().filter(|c| "\"'`".contains(*c));
        match (quote, ends) {
            (Some(open), Some(close)) if open == close => {
                quote = None;
                print.push('…');
                continue;
            }
            (Some(_), _) => continue,
            (None, Some(open)) => quote = Some(open),
            (None, None) => {}
        }
        if word.chars().any(|c| c.is_ascii_digit()) {
            print.push_str("# ")
        } else {
            print.push_str(word)
        }
    }
    print.chars().take(200).collect()
}

/// The longest part of a fingerprint that stands in the error as it is.
fn common(print: &str) -> String {
    let parts = print.split(['#', '…', '"', '\n', '\r']).map(str::trim);
    parts.max_by_key(|part| part.len()).unwrap_or_default().to_owned()
}

#[get("/ui/failures")]
async fn failures(_access: ViewAccess, queue: &JobQueue, reader: Reader) -> Page {
    match collect(queue).await {
        Ok((failures, looked)) => {
            let language = reader.language;
            let content = html! {
                p.hint { (say(language, "調べたジョブ数: ", "Newest failed jobs that were looked at: ")) (looked) }
                (table(&reader, queue.now(), &failures))
            };
            let title = say(language, "失敗", "Failures");
            Page(Status::Ok, layout::page(&reader, queue, Place::Failures, title, content))
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

/// The newest archived jobs of each queue and those that wait for a retry, by type and
/// fingerprint; how many were looked at.
async fn collect(queue: &JobQueue) -> Result<(Vec<(String, Failure)>, usize), Error> {
    let (inspector, mut looked, began) = (queue.redacted_inspector(), 0, Instant::now());
    let mut groups: BTreeMap<(String, String), Failure> = BTreeMap::new();
    for name in inspector.queues().await?.into_iter().take(MOST_LISTS) {
        for state in [JobState::Archived, JobState::Retry] {
            let mut page = ListPage::default().size(100)?;
            // Enough to see a pattern, and bounded.
            for _ in 0..5 {
                if began.elapsed() > PATIENCE {
                    break;
                }
                let found = match inspector.jobs(&name, state, &page).await {
                    Ok(found) => found,
                    Err(error) if error.is_unavailable() => return Err(error),
                    Err(_) => break,
                };
                for info in found.rows.iter().filter_map(JobRow::job) {
                    looked += 1;
                    let error = &info.record.last_error;
                    let key = (info.record.job_type.clone(), fingerprint(error));
                    let failure = groups.entry(key).or_insert_with(|| Failure {
                        count: 0,
                        common: common(&fingerprint(error)),
                        sample: rows::short(error),
                        last: None,
                    });
                    failure.count += 1;
                    failure.last = failure.last.max(info.record.last_failed_at);
                }
                let Some(next) = found.next else { break };
                page = ListPage::after(next).size(100)?;
            }
        }
    }
    let mut failures: Vec<(String, Failure)> =
        groups.into_iter().map(|((job_type, _), failure)| (job_type, failure)).collect();
    failures.sort_by_key(|(_, failure)| std::cmp::Reverse(failure.count));
    failures.truncate(MOST_ROWS);
    Ok((failures, looked))
}

impl Failure {
    /// The search that finds them, to be acted upon.
    fn query(&self, job_type: &str) -> String {
        let words = format!("state:archived state:retry type:{}", quoted(job_type));
        match self.common.as_str() {
            "" => words,
            common => format!("{words} error:{}", quoted(common)),
        }
    }
}

fn table(reader: &Reader, now: Timestamp, failures: &[(String, Failure)]) -> Markup {
    let language: Language = reader.language;
    if failures.is_empty() {
        return html! { div.card { p { (say(language, "失敗したジョブはありません。", "No job has failed.")) } } };
    }
    let labels = [
        say(language, "エラー", "Error"),
        say(language, "タイプ", "Type"),
        say(language, "件数", "Jobs"),
        say(language, "最後の失敗", "Failed last"),
    ];
    html! {
        div.card.wide tabindex="0" role="region" aria-label=(labels[0]) {
            table.jobs {
                thead { tr { @for label in labels { th scope="col" { (label) } } } }
                tbody {
                    @for (job_type, failure) in failures {
                        tr {
                            th.error scope="row" {
                                a href={ (reader.base) "/ui/jobs?q=" (escaped(&failure.query(job_type))) } {
                                    (if failure.sample.is_empty() { "–" } else { &failure.sample })
                                }
                            }
                            td data-label=(labels[1]) { (job_type) }
                            td data-label=(labels[2]) { (failure.count) }
                            td data-label=(labels[3]) { (instant(language, now, failure.last)) }
                        }
                    }
                }
            }
        }
    }
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![show, failures]
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
            ("foo:bar", "expected one of queue, state, type, id, error, found \"foo\""),
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

    #[test]
    fn errors_that_differ_in_numbers_and_names_are_alike() {
        let alike = |a: &str, b: &str| assert_eq!(fingerprint(a), fingerprint(b));
        alike("order 7: the shop is closed", "order 8123: the shop is closed");
        alike("no user \"a b\" here", "no user \"c\" here");
        assert_ne!(fingerprint("timed out"), fingerprint("refused"));
        // An open quote swallows the rest, and nothing panics.
        fingerprint("it's \"");
        fingerprint("日本語 7 エラー");
        assert_eq!(common(&fingerprint("order 7: the shop is closed")), "the shop is closed");
        assert_eq!(common("# …"), "");
    }
}
