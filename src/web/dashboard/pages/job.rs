//! One job: everything that is known about it, and the buttons for what can be done to it.
//! `job_actions` carries these out.
//!
//! The page costs as much as `Inspector::explain`, whatever the size of the job: of long payloads,
//! results and errors only the beginning is shown, and the rest is a download. What the
//! application hides ([`redact`](crate::JobQueueFairing::redact)) is missing here too, and then
//! the payload cannot be edited: saving it would lose what is hidden.
//!
//! What may surprise. A job without retention disappears when it succeeds. Its page then says
//! so with status 404, since that is by far the most common reason. The timeline has what is
//! stored, which for a job of a Go worker is only the last failure.

use maud::{Markup, html};
use rocket::{Route, get, routes};

use crate::broker::{JobFailure, JobInfo, MAX_FAILURES};
use crate::inspector::Reason;
use crate::job::JobState;
use crate::time::Timestamp;
use crate::trace::Trace;
use crate::web::dashboard::ui::job_table::choice_value;
use crate::web::dashboard::ui::parts::{asked, cut, deed, fact, instant, question, short};
use crate::web::dashboard::ui::payload::{self, Part};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::{
    Deed, HtmlPage, NavPage, Site, Texts, View, layout, state, states,
};

/// Maximum headers on the page; all of them can be downloaded.
const MAX_HEADERS: usize = 100;

/// How much of a header or another short text is shown, in characters.
const MAX_TEXT_CHARS: usize = 1000;

/// The job, or 404 with the usual reason: it has succeeded without retention.
#[get("/ui/jobs/<name>/<id>?<done>&<edit>")]
async fn show(
    view: View<'_>,
    name: &str,
    id: &str,
    done: Option<&str>,
    edit: Option<&str>,
) -> HtmlPage {
    let (site, texts) = (&view.site, view.site.texts());
    let found = async {
        let (known, id) = (name.parse()?, id.parse()?);
        site.inspector().job_with_reasons(&known, &id).await
    };
    match found.await {
        Ok(Some((info, reasons))) => {
            let title = format!("{} {}", texts.job, cut(&info.record.job_type, MAX_TEXT_CHARS));
            let content = html! {
                (layout::notice(texts, done))
                (detail(site, &info, &reasons, edit == Some("payload")))
            };
            site.respond(NavPage::Elsewhere, &title, Ok(content))
        }
        Ok(None) => site.missing(texts.job_gone),
        Err(error) => site.trouble(&error),
    }
}

/// Facts, actions, error, timeline, payload, result and headers, each only if the job has it.
fn detail(site: &Site<'_>, info: &JobInfo, reasons: &[Reason], editing: bool) -> Markup {
    let (texts, now, job) = (site.texts(), site.queue.now(), &info.record);
    let here = site.reader.job(&job.queue, &job.id);
    html! {
        div.card.facts {
            dl { (facts(site, info, reasons)) }
        }
        (actions(texts, &here, info.state, again(site, info).as_deref()))
        @if !job.last_error.is_empty() {
            section {
                h2 { (texts.last_error) }
                (payload::shown(texts, &here, Part::Error, job.last_error.as_bytes()))
            }
        }
        (states::picture(texts, now, info))
        (timeline(texts, now, info))
        section {
            h2 { (texts.payload) }
            (payload::shown(texts, &here, Part::Payload, job.payload_bytes()))
            // Saving a redacted payload would lose what is hidden.
            @if editable(info.state) && !site.queue.redacts() { (edit(texts, &here, job.payload_bytes(), editing)) }
        }
        @if let Some(result) = &info.result {
            section {
                h2 { (texts.result) }
                (payload::shown(texts, &here, Part::Result, result))
            }
        }
        @if !job.headers.is_empty() {
            section {
                h2 { (texts.headers) }
                (headers(texts, &here, info))
            }
        }
    }
}

/// Names and values, each only if it is known or set.
fn facts(site: &Site<'_>, info: &JobInfo, reasons: &[Reason]) -> Markup {
    let (texts, now, job) = (site.texts(), site.queue.now(), &info.record);
    let time = |at: Option<Timestamp>| instant(texts, now, at);
    html! {
        (fact(texts.job_id, html! { code { (job.id) } }))
        (fact(texts.queue, html! {
            a href=(site.reader.queue(&job.queue)) { (job.queue) }
        }))
        (fact(texts.state, html! {
            (state::state(texts, info.state))
            @if info.orphaned { " " span.tag { (texts.worker_lost) } }
            @if let Some(after) = info.cancelling {
                " " span.tag { (texts.cancelling) " (" (format!("{after:?}").to_lowercase()) ")" }
            }
        }))
        (fact(texts.explanation, html! {
            @for reason in reasons { div { (cut(&(texts.reason)(reason), MAX_TEXT_CHARS)) } }
        }))
        @if !info.failures.is_empty() {
            (fact(texts.failed_attempts, html! {
                (info.failures.len()) @if info.failures.len() == MAX_FAILURES { "+" }
            }))
        }
        (fact(texts.retries_used, html! { ((texts.of)(job.retried, job.max_retry)) }))
        @if info.due.is_some() { (fact(texts.due, time(info.due))) }
        @if info.start_by.is_some() { (fact(texts.start_by, time(info.start_by))) }
        @if info.pending_since.is_some() { (fact(texts.pending_since, time(info.pending_since))) }
        @if let Some(worker) = &info.worker {
            (fact(texts.worker, html! { (worker.host) ":" (worker.pid) ", " (time(worker.started)) }))
        }
        @if info.lease_ends.is_some() { (fact(texts.lease_ends, time(info.lease_ends))) }
        @if job.last_failed_at.is_some() { (fact(texts.last_failure, time(job.last_failed_at))) }
        @if info.archived_at.is_some() { (fact(texts.archived_at, time(info.archived_at))) }
        @if job.completed_at.is_some() { (fact(texts.completed_at, time(job.completed_at))) }
        @if info.expires.is_some() { (fact(texts.removed_at, time(info.expires))) }
        @if !job.timeout.is_zero() { (fact(texts.timeout, html! { ((texts.span)(job.timeout)) })) }
        @if job.deadline.is_some() { (fact(texts.deadline, time(job.deadline))) }
        @if !job.group.is_empty() { (fact(texts.group, html! { (cut(&job.group, MAX_TEXT_CHARS)) })) }
        @if let Some(version) = &info.version { (fact(texts.version, html! { (version) })) }
        @if info.losses > 0 { (fact(texts.workers_lost, html! { (info.losses) })) }
        @if let Some(trace) = Trace::of(&job.headers) {
            (fact(texts.trace, html! {
                @match site.queue.config().trace_link(trace.id()) {
                    Some(link) => { a href=(link) rel="noreferrer" { code { (trace.id()) } } }
                    None => { code { (trace.id()) } }
                }
            }))
        }
        @if let Some(progress) = &info.progress {
            (fact(texts.progress, html! {
                @if let Some(percent) = progress.percent() {
                    progress max="100" value=(percent) { (percent) "%" } " " (percent) "% "
                }
                (cut(&progress.message, MAX_TEXT_CHARS))
            }))
        }
    }
}

/// Past and planned events, the oldest first, as far as they are stored.
fn timeline(texts: &Texts, now: Timestamp, info: &JobInfo) -> Markup {
    let job = &info.record;
    let mut events: Vec<(Timestamp, Markup)> = Vec::new();
    for failure in &info.failures {
        events.push((
            failure.at,
            html! {
                ((texts.attempt_number_failed)(failure.attempt))
                (attempt_facts(texts, failure))
                @let line = short(&failure.error);
                @if line == failure.error { ": " code { (line) } } @else {
                    details { summary { code { (line) } } pre.bad { (cut(&failure.error, MAX_TEXT_CHARS)) } }
                }
            },
        ));
    }
    // A Go worker keeps no list of failures, but the time of the last one.
    if let (true, Some(at)) = (info.failures.is_empty(), job.last_failed_at) {
        events.push((at, html! { (texts.attempt_failed) }));
    }
    let mut note = |at: Option<Timestamp>, event: &'static str| {
        if let Some(at) = at {
            events.push((at, html! { (event) }));
        }
    };
    note(info.pending_since, texts.event_pending);
    note(info.worker.as_ref().and_then(|worker| worker.started), texts.event_started);
    note(info.grouped_since, texts.event_grouped);
    note(info.archived_at, texts.event_archived);
    note(job.completed_at, texts.event_completed);
    note(info.due, texts.event_next);
    note(job.deadline, texts.deadline);
    note(info.expires, texts.event_removed);
    // Some instants are whole seconds: within one second the order above holds.
    events.sort_by_key(|(at, _)| at.as_secs());
    html! {
        @if events.len() > 1 || !info.failures.is_empty() {
            section {
                h2 { (texts.timeline) }
                ol.timeline {
                    @for (at, what) in &events {
                        li class=[(*at > now).then_some("later")] { (instant(texts, now, Some(*at))) div { (what) } }
                    }
                }
            }
        }
    }
}

/// Who made an attempt, how long its job waited for it, and how long it took, as far as it is known.
fn attempt_facts(texts: &Texts, failure: &JobFailure) -> Markup {
    let span = |length| (texts.span)(length);
    let facts = [
        failure.worker.clone(),
        failure.version.as_ref().map(|version| format!("{} {version}", texts.version)),
        failure.waited.map(|waited| (texts.attempt_waited)(&span(waited))),
        failure.ran.map(|ran| (texts.attempt_ran)(&span(ran))),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    html! { @if !facts.is_empty() { p.hint { (facts.join(" · ")) } } }
}

/// Whether the payload can be edited: the worker of an active job has read it already.
fn editable(state: JobState) -> bool {
    matches!(state, JobState::Pending | JobState::Scheduled | JobState::Retry | JobState::Archived)
}

/// The buttons for what the state allows, each with what it does. The store checks the state again
/// when one is used.
fn actions(texts: &Texts, here: &str, state: JobState, again: Option<&str>) -> Markup {
    use JobState::{Active, Aggregating, Archived, Completed, Pending, Retry, Scheduled};
    let to = |verb: &str| format!("{here}/{verb}");
    let ask =
        |verb: &str, deed: Deed| question(texts, &to(verb), deed, (texts.deed)(deed).consequence);
    html! {
        div.deeds role="group" aria-label=(texts.act_on_job) {
            @if state == Active { (ask("cancel", Deed::CancelJob)) }
            @if matches!(state, Scheduled | Retry | Archived | Completed | Aggregating) {
                (deed(texts, &to("run"), Deed::RunJob))
            }
            @if matches!(state, Pending | Scheduled | Retry | Aggregating) {
                (deed(texts, &to("run_next"), Deed::RunJobNext))
            }
            @if matches!(state, Pending | Scheduled | Retry | Archived) {
                (reschedule(texts, &to("reschedule")))
            }
            @if matches!(state, Pending | Scheduled | Retry | Completed | Aggregating) {
                (deed(texts, &to("archive"), Deed::ArchiveJob))
            }
            (deed(texts, &to("duplicate"), Deed::DuplicateJob))
            @if let Some(again) = again {
                @let words = (texts.deed)(Deed::RunJobChanged);
                div.deed { a.small href=(again) { (words.label) } p { (words.consequence) } }
            }
            @if state != Active { (ask("delete", Deed::DeleteJob)) }
        }
    }
}

/// The form for a new job like this one, if this process has its type. What is hidden from viewers
/// cannot be copied.
fn again(site: &Site<'_>, info: &JobInfo) -> Option<String> {
    let job = &info.record;
    let can_show = !site.queue.redacts() && job.payload_bytes().len() <= payload::MAX_WHOLE_BYTES;
    let entry = site.queue.runtime().registry().get(&job.job_type).filter(|_| can_show)?;
    let like = escaped(&choice_value(&job.queue.printable(), job.id.as_str()));
    Some(format!("{}/ui/enqueue/{}?like={like}", site.reader.base, escaped(entry.job_type())))
}

/// The question for another due time.
fn reschedule(texts: &Texts, to: &str) -> Markup {
    let words = (texts.deed)(Deed::RescheduleJob);
    let form = html! {
        form.action method="post" action=(to) {
            label for="when" { (texts.reschedule_when) }
            input #when name="when" required aria-describedby="when-hint" autocomplete="off";
            p.hint #when-hint { (texts.reschedule_hint) }
            button.small type="submit" { (words.label) }
        }
    };
    asked(texts, Deed::RescheduleJob, html! { p { (words.consequence) } }, form)
}

/// The form to edit the payload, or a link to it. Nothing for bytes that are not text, and for
/// a payload too long to be shown whole.
fn edit(texts: &Texts, here: &str, payload: &[u8], asked: bool) -> Markup {
    let (Ok(text), false) =
        (std::str::from_utf8(payload), payload.len() > payload::MAX_WHOLE_BYTES)
    else {
        return html! {};
    };
    if !asked {
        return html! {
            p { a href={ (here) "?edit=payload" } { (texts.edit_payload) } }
        };
    }
    html! {
        form method="post" action={ (here) "/edit" } {
            label for="payload" { "JSON" }
            // Browsers drop one line break at the beginning of a textarea.
            textarea #payload name="payload" rows="8" spellcheck="false" { "\n" (text) }
            @let words = (texts.deed)(Deed::SavePayload);
            p.hint { (words.consequence) }
            button.small type="submit" { (words.label) }
            " " a href=(here) { (words.keep) }
        }
    }
}

/// The first headers, and a link to all of them.
fn headers(texts: &Texts, here: &str, info: &JobInfo) -> Markup {
    let headers = &info.record.headers;
    let more = headers.len() > MAX_HEADERS
        || headers.iter().any(|(name, value)| name.len() + value.len() > MAX_TEXT_CHARS);
    html! {
        div.card.facts { dl {
            @for (name, value) in headers.iter().take(MAX_HEADERS) {
                (fact(&cut(name, MAX_TEXT_CHARS), html! { code { (cut(value, MAX_TEXT_CHARS)) } }))
            }
        } }
        @if more {
            p.hint {
                (headers.len()) " " (texts.headers_unit) ". "
                a href={ (here) "/headers" } download { (texts.download) }
            }
        }
    }
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}
