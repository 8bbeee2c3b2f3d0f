//! What is done to all jobs of a state, a type or a group of a queue: asked for once more with
//! their number, carried out batch by batch, and shown while it goes on.

use std::time::Duration;

use maud::{Markup, PreEscaped, html};
use rocket::form::{Form, Strict};
use rocket::response::stream::TextStream;
use rocket::response::{self, Redirect, Responder};
use rocket::{FromForm, Request, Route, post, routes};
use tokio::sync::watch;

use super::layout::{self, escaped, say, state_word};
use super::{Language, Page, Reader, marks, sent_as_page, view};
use crate::broker::Selection;
use crate::error::Error;
use crate::inspector::Bulk;
use crate::job::{JobState, QueueName};
use crate::web::JobQueue;
use crate::web::api::queues::state_of;
use crate::web::api::{Asked, Timely, audit};
use crate::web::error::ProblemDetails;
use crate::web::guards::ActAccess;
use crate::web::origin::SameOrigin;

/// What is over by then needs no page of its own.
const SHORT: Duration = Duration::from_millis(700);

/// How often a page that shows progress is added to.
const STEP: Duration = Duration::from_millis(500);

/// Which jobs of a queue, and about how many these are.
pub(super) struct Which<'a> {
    state: JobState,
    job_type: Option<&'a str>,
    group: Option<&'a str>,
    total: u64,
}

impl<'a> Which<'a> {
    /// Those of a state, or of a type among them.
    pub fn of(state: JobState, job_type: Option<&'a str>, total: u64) -> Self {
        Self { state, job_type, group: None, total }
    }

    /// Those of a group.
    pub fn group(group: &'a str, total: u64) -> Self {
        Self { state: JobState::Aggregating, job_type: None, group: Some(group), total }
    }

    fn verbs(&self) -> &'static [&'static str] {
        match self.state {
            JobState::Pending => &["archive", "delete"],
            JobState::Scheduled | JobState::Retry => &["run", "archive", "delete"],
            JobState::Aggregating => &["run", "archive", "delete"],
            JobState::Archived => &["run", "delete"],
            JobState::Completed => &["delete"],
            JobState::Active => &[],
        }
    }

    fn sentence(&self, language: Language) -> String {
        let (total, state) = (self.total, state_word(language, self.state));
        match (language, self.job_type, self.group) {
            (Language::Japanese, _, Some(group)) => {
                format!("グループ{group}のジョブ{total}件すべてが対象です。")
            }
            (Language::Japanese, Some(name), None) => {
                format!("{state}のジョブ{total}件のうち、タイプ{name}のすべてが対象です。")
            }
            (Language::Japanese, None, None) => {
                format!("{state}のジョブ{total}件すべてが対象です。")
            }
            (Language::English, _, Some(group)) => format!("All {total} jobs of group {group}."),
            (Language::English, Some(name), None) => {
                format!("All of type {name} among {total} {state} jobs.")
            }
            (Language::English, None, None) => format!("All {total} {state} jobs."),
        }
    }
}

/// A button for each thing that can be done to all of them.
pub(super) fn buttons(reader: &Reader, queue: &str, which: &Which<'_>) -> Markup {
    let (language, verbs) = (reader.language, which.verbs());
    if which.total == 0 || verbs.is_empty() {
        return html! {};
    }
    let to = format!("{}/ui/queues/{}/actions", reader.base, escaped(queue));
    html! {
        div.actions role="group" aria-label=(say(language, "一括操作", "Actions on all")) {
            @for verb in verbs {
                details.sure {
                    summary.small { (verb_words(language, verb)) }
                    div {
                        p { (which.sentence(language)) }
                        form.action method="post" action=(to) {
                            input type="hidden" name="state" value=(which.state.as_str());
                            input type="hidden" name="action" value=(verb);
                            input type="hidden" name="type" value=(which.job_type.unwrap_or_default());
                            input type="hidden" name="group" value=(which.group.unwrap_or_default());
                            button.small.grave type="submit" { (verb_words(language, verb)) }
                        }
                    }
                }
            }
        }
    }
}

fn verb_words(language: Language, verb: &str) -> &'static str {
    match verb {
        "run" => say(language, "すべて今すぐ実行", "Run all now"),
        "archive" => say(language, "すべてアーカイブ", "Archive all"),
        _ => say(language, "すべて削除", "Delete all"),
    }
}

#[derive(FromForm)]
struct Wanted<'r> {
    state: &'r str,
    action: &'r str,
    r#type: Option<&'r str>,
    group: Option<&'r str>,
}

impl Wanted<'_> {
    fn bulk(&self, queue: &JobQueue, name: &QueueName) -> Result<Bulk, Error> {
        let state = state_of(self.state)?;
        let mut selection = match self.group.filter(|group| !group.is_empty()) {
            Some(group) => Selection::group(group),
            None => Selection::from(state),
        };
        if let Some(job_type) = self.r#type.filter(|name| !name.is_empty()) {
            selection = selection.of_type(job_type);
        }
        let inspector = queue.redacted_inspector();
        match self.action {
            "run" => Ok(inspector.run_all(name, selection)),
            "archive" => Ok(inspector.archive_all(name, selection)),
            "delete" => Ok(inspector.delete_all(name, selection)),
            _ => Err(Error::invalid("action: expected run, archive or delete")),
        }
    }
}

/// How far it is.
#[derive(Clone, Default)]
struct State {
    done: u64,
    total: u64,
    over: Option<Result<(), Error>>,
}

/// A page that grows while the work goes on, or the way back where it is over.
enum Acting {
    Over(Redirect),
    Shown { reader: Reader, title: String, back: String, states: watch::Receiver<State> },
}

impl<'r> Responder<'r, 'r> for Acting {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'r> {
        let (reader, title, back, mut states) = match self {
            Acting::Over(redirect) => return redirect.respond_to(request),
            Acting::Shown { reader, title, back, states } => (reader, title, back, states),
        };
        const HERE: &str = "<!-- steps -->";
        let around = view::frame(
            &reader,
            &title,
            html! {
                main.broad {
                    header { h1 { (title) } }
                    // Of the steps, the last is seen.
                    div.card.steps aria-live="polite" { (PreEscaped(HERE)) }
                    p.hint {
                        (say(
                            reader.language,
                            "このページを閉じても処理は続きます。",
                            "It goes on when this page is closed.",
                        ))
                    }
                }
            },
        );
        let around = marks::shown(&around.into_string()).into_owned();
        let (head, tail) = around.split_once(HERE).unwrap_or((&around, ""));
        let (head, tail) = (head.to_owned(), tail.to_owned());
        let stream = TextStream! {
            yield head;
            loop {
                let state = states.borrow_and_update().clone();
                let step = step(&reader, &state, &back).into_string();
                yield marks::shown(&step).into_owned();
                if state.over.is_some() || states.changed().await.is_err() {
                    break;
                }
                if states.borrow().over.is_none() {
                    tokio::time::sleep(STEP).await;
                }
            }
            yield tail;
        };
        sent_as_page(stream.respond_to(request)?)
    }
}

fn step(reader: &Reader, state: &State, back: &str) -> Markup {
    let language = reader.language;
    let State { done, total, over } = state;
    let count = html! {
        (done) @if *total > 0 { " / " (total) } " "
        (say(language, "件のジョブを処理しました。", "jobs done."))
    };
    html! {
        div {
            p { progress max=(total.max(&1)) value=(done) {} " " (count) }
            @match over {
                None => {}
                Some(Ok(())) => {
                    // It needs no script.
                    meta http-equiv="refresh" content={ "1;url=" (back) "&count=" (done) };
                    p { a href={ (back) "&count=" (done) } { (say(language, "戻る", "Back")) } }
                }
                Some(Err(error)) => {
                    (view::trouble(language, &ProblemDetails::of_stored(error, "The request could not be completed")))
                    p { a href=(back) { (say(language, "戻る", "Back")) } }
                }
            }
        }
    }
}

#[post("/ui/queues/<name>/actions", data = "<form>")]
async fn act(
    _access: ActAccess,
    _origin: SameOrigin,
    asked: Asked,
    queue: &JobQueue,
    reader: Reader,
    name: &str,
    form: Timely<Form<Strict<Wanted<'_>>>>,
) -> Result<Acting, Page> {
    let form = form.0;
    let bulk = name.parse().and_then(|known| form.bulk(queue, &known));
    let mut bulk = bulk.map_err(|error| layout::trouble(&reader, queue, &error))?;
    let (verb, what, place) = (form.action.to_owned(), form.state.to_owned(), name.to_owned());
    // Also of one whose client goes away there is a line.
    audit(&asked, "action on many jobs begins", name, &format!("{verb}: {what}"));
    let (tell, mut states) = watch::channel(State::default());
    // A task of its own: whoever asked may go.
    tokio::spawn(async move {
        let over = loop {
            match bulk.step().await {
                Ok(Some(progress)) => tell.send_modify(|state| {
                    (state.done, state.total) = (progress.done, progress.total);
                }),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let done = tell.borrow().done;
        // Nobody may be looking at the page any more.
        if let Err(error) = &over {
            crate::log::warn!(queue = %place, action = %verb, done, %error, "an action on many jobs ended early");
        }
        audit(&asked, &verb, &place, &format!("{done} {what} jobs"));
        tell.send_modify(|state| state.over = Some(over));
    });
    let short = tokio::time::timeout(SHORT, states.wait_for(|state| state.over.is_some())).await;
    let state = short.ok().and_then(Result::ok).map(|state| state.clone());
    let here = format!("{}/ui/queues/{}", reader.base, escaped(name));
    let back = match form.group.filter(|group| !group.is_empty()) {
        Some(group) => format!("{here}/group?group={}", escaped(group)),
        None => format!("{here}?state={}", escaped(form.state)),
    };
    match state {
        Some(State { over: Some(Err(error)), .. }) => Err(layout::trouble(&reader, queue, &error)),
        Some(State { done, .. }) => Ok(Acting::Over(layout::back(format!("{back}&count={done}")))),
        None => {
            let title = format!("{}: {name}", verb_words(reader.language, form.action));
            Ok(Acting::Shown { reader, title, back, states })
        }
    }
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![act]
}
