//! What is done to jobs that were selected by hand, or to all that a search finds: first the
//! question with their number, then the deed.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use maud::{Markup, html};
use rocket::http::{RawStr, Status};
use rocket::response::Redirect;
use rocket::{Data, Route, post, routes};

use super::explorer::{Query, lists};
use super::layout::{self, Place, escaped, say};
use super::{Language, Page, Reader, form_pairs};
use crate::broker::Page as ListPage;
use crate::error::Error;
use crate::inspector::Inspector;
use crate::job::{JobId, QueueName};
use crate::web::JobQueue;
use crate::web::api::{Asked, audit, read_bytes};
use crate::web::guards::ActAccess;
use crate::web::origin::SameOrigin;

/// The form that rows with a box belong to.
pub(super) const FORM: &str = "selected";

/// The largest form that is read.
const LARGEST: u64 = 1 << 20;

/// Most jobs that are acted upon at once.
const MOST: usize = 10_000;

/// How long jobs are looked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Jobs acted upon side by side.
const ABREAST: usize = 32;

/// What can be done.
#[derive(Clone, Copy, PartialEq)]
enum Verb {
    Run,
    Archive,
    Delete,
}

impl Verb {
    const ALL: [Verb; 3] = [Verb::Run, Verb::Archive, Verb::Delete];

    fn name(self) -> &'static str {
        match self {
            Verb::Run => "run",
            Verb::Archive => "archive",
            Verb::Delete => "delete",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == text)
    }

    fn words(self, language: Language) -> &'static str {
        match self {
            Verb::Run => say(language, "今すぐ実行", "Run now"),
            Verb::Archive => say(language, "アーカイブ", "Archive"),
            Verb::Delete => say(language, "削除", "Delete"),
        }
    }
}

/// A job's place as the value of its box.
pub(super) fn place_of(queue: &str, id: &str) -> String {
    format!("{}/{}", escaped(queue), escaped(id))
}

fn place(text: &str) -> Result<(QueueName, JobId), Error> {
    let (queue, id) = text
        .split_once('/')
        .ok_or_else(|| Error::invalid("job: expected a queue and an id, found another text"))?;
    let decode = |text: &str| RawStr::new(text).url_decode_lossy().into_owned();
    Ok((decode(queue).parse()?, decode(id).parse()?))
}

/// The buttons below rows with boxes; `query` is the search that found them.
pub(super) fn buttons(reader: &Reader, query: &str) -> Markup {
    let language = reader.language;
    html! {
        form.action.select id=(FORM) method="post" action={ (reader.base) "/ui/jobs/act" } {
            input type="hidden" name="q" value=(query);
            fieldset {
                legend { (say(language, "選択したジョブ", "Selected jobs")) }
                @for verb in Verb::ALL {
                    button.small type="submit" name="action" value=(verb.name()) { (verb.words(language)) } " "
                }
            }
            fieldset {
                legend { (say(language, "検索に一致するすべて", "All that match")) }
                @for verb in Verb::ALL {
                    button.small type="submit" name="all" value=(verb.name()) { (verb.words(language)) } " "
                }
            }
        }
    }
}

/// What the form says.
struct Wanted {
    verb: Verb,
    /// Or all that match.
    jobs: Option<Vec<(QueueName, JobId)>>,
    query: String,
    /// The number of jobs that the question named, once it was answered with yes.
    sure: Option<usize>,
}

impl Wanted {
    fn of(form: &[(String, String)]) -> Result<Self, Error> {
        let text = |name: &str| {
            form.iter().find(|(key, _)| key == name).map_or("", |(_, text)| text.as_str())
        };
        let all = !text("all").is_empty();
        let verb = Verb::parse(if all { text("all") } else { text("action") })
            .ok_or_else(|| Error::invalid("action: expected run, archive or delete"))?;
        let chosen = form.iter().filter(|(name, _)| name == "job").map(|(_, text)| place(text));
        if all && !form.iter().any(|(name, _)| name == "q") {
            return Err(Error::invalid(
                "q: expected the search that found the jobs, found nothing",
            ));
        }
        let jobs = match all {
            true => None,
            false => Some(chosen.collect::<Result<Vec<_>, _>>()?),
        };
        let sure = match text("sure") {
            "" => None,
            count => Some(count.parse().map_err(|_| {
                Error::invalid("sure: expected the number of jobs, found another text")
            })?),
        };
        Ok(Self { verb, jobs, query: text("q").to_owned(), sure })
    }
}

/// The jobs that a search finds, and whether there are more.
async fn matching(
    inspector: &Inspector,
    query: &Query,
) -> Result<(Vec<(QueueName, JobId)>, bool), Error> {
    let (mut found, began) = (Vec::new(), Instant::now());
    for (name, state) in lists(inspector, query).await? {
        let mut page = ListPage::default().size(100)?;
        loop {
            if found.len() >= MOST || began.elapsed() > PATIENCE {
                found.truncate(MOST);
                return Ok((found, true));
            }
            let some = match inspector.jobs_where(&name, state, &query.filter, &page).await {
                Ok(some) => some,
                Err(error) if error.is_unavailable() => return Err(error),
                // One damaged queue must not keep the others from being acted upon.
                Err(_) => break,
            };
            found.extend(some.rows.iter().map(|row| (name.clone(), row.id().clone())));
            let Some(next) = some.next else { break };
            page = ListPage::after(next).size(100)?;
        }
    }
    Ok((found, false))
}

#[post("/ui/jobs/act", data = "<body>")]
async fn act(
    _access: ActAccess,
    _origin: SameOrigin,
    asked: Asked,
    queue: &JobQueue,
    reader: Reader,
    body: Data<'_>,
) -> Result<Redirect, Page> {
    let form = match read_bytes(body, LARGEST.into()).await {
        Ok(bytes) => form_pairs(&String::from_utf8_lossy(&bytes)).collect::<Vec<_>>(),
        Err(problem) => return Err(layout::refused(&reader, queue, &problem)),
    };
    let trouble = |error: Error| layout::trouble(&reader, queue, &error);
    let wanted = Wanted::of(&form).map_err(trouble)?;
    let inspector = queue.redacted_inspector();
    let (mut jobs, more) = match &wanted.jobs {
        Some(jobs) => (jobs.clone(), false),
        None => {
            let query = Query::parse(&wanted.query).map_err(trouble)?;
            matching(&inspector, &query).await.map_err(trouble)?
        }
    };
    let Some(agreed) = wanted.sure.filter(|_| !jobs.is_empty()) else {
        return Err(question(queue, &reader, &wanted, jobs.len(), more));
    };
    // More may match by now: nobody agreed to these.
    jobs.truncate(agreed);
    let verb = wanted.verb;
    let outcomes = stream::iter(jobs)
        .map(|(name, id)| {
            let (inspector, asked) = (&inspector, &asked);
            async move {
                let acted = match verb {
                    Verb::Run => inspector.run(&name, &id).await,
                    Verb::Archive => inspector.archive(&name, &id).await,
                    Verb::Delete => inspector.delete(&name, &id).await,
                };
                if acted.is_ok() {
                    audit(asked, verb.name(), &name.printable(), id.as_str());
                }
                acted
            }
        })
        .buffer_unordered(ABREAST)
        .collect::<Vec<_>>()
        .await;
    // What has moved on meanwhile, or cannot be acted upon so, is left as it is.
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let left = outcomes.len() - done;
    if let Some(Err(error)) =
        outcomes.into_iter().find(|outcome| outcome.as_ref().is_err_and(Error::is_unavailable))
    {
        return Err(trouble(error));
    }
    let query = escaped(&wanted.query);
    Ok(layout::back(format!("{}/ui/jobs?q={query}&count={done}&left={left}", reader.base)))
}

/// How many jobs it is about, before anything happens.
fn question(queue: &JobQueue, reader: &Reader, wanted: &Wanted, count: usize, more: bool) -> Page {
    let (language, verb) = (reader.language, wanted.verb);
    let back = format!("{}/ui/jobs?q={}", reader.base, escaped(&wanted.query));
    let title = verb.words(language);
    let content = html! {
        @if count == 0 {
            div.card { p { (say(language, "対象のジョブがありません。", "No job is selected.")) } }
        } @else {
            form method="post" action={ (reader.base) "/ui/jobs/act" } {
                p {
                    @match language {
                        Language::Japanese => { (count) "件のジョブを対象に「" (title) "」を行います。" }
                        Language::English => { (title) ": " (count) @if count == 1 { " job." } @else { " jobs." } }
                    }
                }
                @if more {
                    p.hint {
                        (say(
                            language,
                            "一致するジョブはさらにあります。今回はここまでを処理します。ある状態のすべてのジョブは、キューのページで操作できます。",
                            "More jobs match: these are done now. All jobs of a state are acted upon on the page of their queue.",
                        ))
                    }
                }
                input type="hidden" name="q" value=(wanted.query);
                input type="hidden" name="sure" value=(count);
                @match &wanted.jobs {
                    Some(jobs) => {
                        input type="hidden" name="action" value=(verb.name());
                        @for (name, id) in jobs {
                            input type="hidden" name="job" value=(place_of(&name.printable(), id.as_str()));
                        }
                    }
                    None => { input type="hidden" name="all" value=(verb.name()); }
                }
                button type="submit" { (title) }
            }
        }
        p.more { a href=(back) { (say(language, "戻る", "Back")) } }
    };
    Page(Status::Ok, layout::page(reader, queue, Place::Elsewhere, title, content))
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![act]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_box_names_its_job_whatever_its_id_is_like() {
        for named in [&b"a/b c%20\xe6\x97\xa5"[..], b"\xff%\n/ "] {
            let named = JobId::stored(named);
            let (queue, id) = place(&place_of("mail", named.as_str())).unwrap();
            assert_eq!((queue.as_str(), id), ("mail", named));
        }
        assert!(place("mail").is_err());
        assert!(place("/c").is_err());
    }

    #[test]
    fn a_form_is_for_the_selected_jobs_or_for_all_that_match() {
        let wanted = Wanted::of(&form(&[("action", "run"), ("job", "q/1"), ("job", "q/2")]));
        let wanted = wanted.unwrap();
        assert!(wanted.verb == Verb::Run && wanted.sure.is_none());
        assert_eq!(wanted.jobs.map(|jobs| jobs.len()), Some(2));
        let all = form(&[("all", "delete"), ("q", "x"), ("job", "q/1"), ("sure", "7")]);
        let wanted = Wanted::of(&all).unwrap();
        assert!(wanted.verb == Verb::Delete && wanted.sure == Some(7) && wanted.jobs.is_none());
        assert!(Wanted::of(&form(&[("all", "delete"), ("q", ""), ("sure", "yes")])).is_err());
        assert!(Wanted::of(&form(&[("all", "delete"), ("Q", "x")])).is_err());
        assert!(Wanted::of(&form(&[("action", "explode")])).is_err());
    }
}
