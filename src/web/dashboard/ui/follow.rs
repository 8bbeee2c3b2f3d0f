//! Jobs that a page follows to their ends, after an action moved them to pending: what it says at
//! once is only what has happened, and what becomes of the jobs is seen as it comes.
//!
//! Which jobs these are stands in the address, so that every process can answer, a reload shows the
//! present, and scripts are not needed. At most 100 jobs are followed, fewer if their names are long.
//! A page reads the states alone, one command for each job.

use futures_util::future::try_join_all;
use maud::{Markup, html};
use rocket::http::RawStr;

use super::Texts;
use super::parts::job_link;
use super::reader::{Reader, escaped};
use super::state::state as draw_state;
use crate::error::Error;
use crate::inspector::Inspector;
use crate::job::{JobId, JobState, QueueName};

/// Maximum jobs that are followed.
const MAX_FOLLOWED: usize = 100;

/// The longest list in an address, in bytes. Proxies refuse requests whose first line has more than
/// 8 KiB, and each byte may take three there.
const MAX_BYTES: usize = 5_000;

/// How many jobs of a state are named.
const MAX_NAMED: usize = 5;

/// How often a page with jobs that have not ended is fetched, in seconds.
const INTERVAL_SECONDS: u32 = 1;

/// The jobs that are followed, by queue.
pub(crate) struct Followed(Vec<(QueueName, Vec<JobId>)>);

impl Followed {
    /// The first of these jobs.
    pub(crate) fn first<'a>(jobs: impl Iterator<Item = &'a (QueueName, JobId)>) -> Self {
        let (mut followed, mut bytes) = (Self(Vec::new()), 0);
        for (queue, id) in jobs.take(MAX_FOLLOWED) {
            let is_new = followed.0.last().is_none_or(|(last, _)| last != queue);
            bytes += in_address(&format!(",{}", name(id.as_str())));
            if is_new {
                bytes += in_address(&format!(";{}/", name(&queue.printable())));
            }
            if bytes > MAX_BYTES {
                break;
            }
            if is_new {
                followed.0.push((queue.clone(), Vec::new()));
            }
            followed.0.last_mut().into_iter().for_each(|(_, ids)| ids.push(id.clone()));
        }
        followed
    }

    /// The parameter of an address that stands for them, with its `&`; empty for none.
    pub(crate) fn parameter(&self) -> String {
        let one = |(queue, ids): &(QueueName, Vec<JobId>)| {
            let ids: Vec<_> = ids.iter().map(|id| name(id.as_str())).collect();
            format!("{}/{}", name(&queue.printable()), ids.join(","))
        };
        match self.0.iter().map(one).collect::<Vec<_>>().join(";") {
            none if none.is_empty() => none,
            all => format!("&follow={}", escaped(&all)),
        }
    }

    /// Reads the parameter.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for another text, and for more jobs than are followed.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let (mut queues, mut number) = (Vec::new(), 0);
        let plain = |text: &str| RawStr::new(text).url_decode_lossy().into_owned();
        for part in text.split(';') {
            let (queue, ids) = part.split_once('/').ok_or_else(|| {
                Error::invalid("follow: expected queues and ids, found another text")
            })?;
            let ids: Vec<JobId> =
                ids.split(',').map(|id| plain(id).parse()).collect::<Result<_, _>>()?;
            number += ids.len();
            queues.push((plain(queue).parse()?, ids));
        }
        match number {
            0..=MAX_FOLLOWED => Ok(Self(queues)),
            _ => Err(Error::invalid(format!(
                "follow: expected at most {MAX_FOLLOWED} jobs, found {number}"
            ))),
        }
    }

    /// Reads their states.
    async fn states(&self, inspector: &Inspector) -> Result<Vec<FollowedJob<'_>>, Error> {
        let read = self.0.iter().map(|(queue, ids)| async move {
            let states = inspector.states(queue, ids).await?;
            let jobs = ids.iter().zip(states);
            Ok::<_, Error>(jobs.map(move |(id, state)| (queue, id, state)).collect::<Vec<_>>())
        });
        Ok(try_join_all(read).await?.concat())
    }
}

/// A job and its state, `None` if it is not stored any more.
type FollowedJob<'a> = (&'a QueueName, &'a JobId, Option<JobState>);

/// A name without the marks between names, which an address may have as they are.
fn name(text: &str) -> String {
    escaped(text).replace(',', "%2C").replace(';', "%3B")
}

/// How many bytes a text takes as part of an address.
fn in_address(text: &str) -> usize {
    escaped(text).len()
}

/// Where the jobs of an address are now; nothing without the parameter. `count` is how many jobs the
/// action was for.
pub(crate) async fn section(
    reader: &Reader,
    inspector: &Inspector,
    follow: Option<&str>,
    count: Option<u64>,
) -> Result<Markup, Error> {
    let Some(text) = follow.filter(|text| !text.is_empty()) else { return Ok(html! {}) };
    let followed = Followed::parse(text)?;
    let jobs = followed.states(inspector).await?;
    Ok(draw(reader, &jobs, count))
}

fn draw(reader: &Reader, jobs: &[FollowedJob<'_>], count: Option<u64>) -> Markup {
    let texts = reader.texts;
    let ended = jobs.iter().filter(|(_, _, state)| has_ended(*state)).count();
    let states = JobState::ALL.into_iter().map(Some).chain([None]);
    html! {
        section.card.followed data-every=[(ended < jobs.len()).then_some(INTERVAL_SECONDS)] {
            h2 { (texts.followed_title) }
            p {
                progress max=(jobs.len()) value=(ended) aria-label=(texts.followed_title) {} " "
                ((texts.followed_ended)(ended, jobs.len())) " "
                a href="" { (texts.refresh) }
            }
            ul.bare {
                @for state in states {
                    @let some: Vec<_> = jobs.iter().filter(|job| job.2 == state).collect();
                    @if !some.is_empty() { li { (line(reader, state, &some)) } }
                }
            }
            @if let Some(count) = count.filter(|count| *count > jobs.len() as u64) {
                p.hint { ((texts.followed_first)(jobs.len(), count)) }
            }
        }
    }
}

/// Whether a job that was moved to pending has run since, or cannot any more.
fn has_ended(state: Option<JobState>) -> bool {
    match state {
        None | Some(JobState::Completed | JobState::Archived | JobState::Retry) => true,
        Some(
            JobState::Pending | JobState::Active | JobState::Scheduled | JobState::Aggregating,
        ) => false,
    }
}

/// The jobs of one state: how many, what that means, and the first ones.
fn line(reader: &Reader, state: Option<JobState>, jobs: &[&FollowedJob<'_>]) -> Markup {
    let texts = reader.texts;
    html! {
        strong { (jobs.len()) } " "
        @match state {
            Some(state) => { (draw_state(texts, state)) }
            None => { span.tag { (texts.followed_gone) } }
        }
        " "
        @if let Some(hint) = hint(texts, state) { span.count { (hint) } " " }
        @if state.is_some() {
            @for (queue, id, _) in jobs.iter().take(MAX_NAMED) {
                (job_link(reader, queue, id, html! { code { (id) } })) " "
            }
            @if jobs.len() > MAX_NAMED { "…" }
        }
    }
}

/// What it means that a job which was run has this state.
fn hint(texts: &Texts, state: Option<JobState>) -> Option<&'static str> {
    match state {
        None => Some(texts.followed_gone_hint),
        Some(JobState::Retry) => Some(texts.followed_retry_hint),
        Some(JobState::Archived) => Some(texts.followed_archived_hint),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(names: &[(&str, &str)]) -> Vec<(QueueName, JobId)> {
        let one = |(queue, id): &(&str, &str)| (QueueName::stored(queue), JobId::stored(id));
        names.iter().map(one).collect()
    }

    /// The parameter as a server decodes it.
    fn decoded(followed: &Followed) -> String {
        let text = followed.parameter();
        let text = text.strip_prefix("&follow=").unwrap_or_default();
        RawStr::new(text).url_decode().unwrap().into_owned()
    }

    #[test]
    fn the_jobs_of_an_address_are_those_that_went_into_it() {
        let all = jobs(&[("mail", "a"), ("mail", "b,c;d/e%2C"), ("日本", "..")]);
        let read = Followed::parse(&decoded(&Followed::first(all.iter()))).unwrap();
        let read = read
            .0
            .into_iter()
            .flat_map(|(queue, ids)| ids.into_iter().map(move |id| (queue.clone(), id)));
        assert_eq!(read.collect::<Vec<_>>(), all);
        assert_eq!(Followed::first([].iter()).parameter(), "");
    }

    #[test]
    fn an_address_stays_short_whatever_the_names_are() {
        for id in ["x".repeat(36), "日".repeat(300)] {
            let all: Vec<_> = (0..300)
                .map(|n| (QueueName::stored("mail"), JobId::stored(format!("{id}{n}"))))
                .collect();
            let followed = Followed::first(all.iter());
            let number: usize = followed.0.iter().map(|(_, ids)| ids.len()).sum();
            assert!((1..=MAX_FOLLOWED).contains(&number), "{number}");
            assert!(followed.parameter().len() <= MAX_BYTES + 20, "{}", followed.parameter().len());
        }
    }

    #[test]
    fn another_text_and_too_many_jobs_are_refused() {
        assert!(Followed::parse("mail").is_err());
        assert!(Followed::parse(&format!("mail/{}x", "x,".repeat(MAX_FOLLOWED))).is_err());
    }
}
