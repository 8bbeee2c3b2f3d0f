//! The worker processes, this crate's and Go's: what they do, the jobs they have in flight, and forms
//! that change them while they run.
//!
//! Processes announce themselves every 5 s, so a job or a process may be missing for that long, and
//! one that died is shown until its announcement expires. A change is asked first and applied by the
//! process within a heartbeat. The form waits a moment for that, so that the page after it mostly
//! says *applied*; otherwise it says *asked*, and never more than is known.

use std::time::Duration;

use maud::{Markup, html};
use rocket::{Route, get, post, routes};

use crate::broker::{ServerInfo, Servers, WorkerChangeInfo, WorkerDetails, WorkerState};
use crate::error::Error;
use crate::inspector::{Inspector, WorkerUpdate};
use crate::job::QueueName;
use crate::time::Timestamp;
use crate::web::dashboard::ui::access::FormResult;
use crate::web::dashboard::ui::form::{Form, FormBody};
use crate::web::dashboard::ui::parts::{
    asked, button, empty, instant, job_link, question, short_type,
};
use crate::web::dashboard::ui::reader::escaped;
use crate::web::dashboard::ui::table::{Cell, Row, TableKind, table};
use crate::web::dashboard::ui::{Act, Deed, HtmlPage, NavPage, Reader, Texts, View, layout};
use crate::web::query::expect_known;

/// The largest form that is read, in bytes: a process may have many queues.
const MAX_FORM_BYTES: u64 = 256 << 10;

/// How often and how long a form waits for the processes to apply it.
const APPLIED_CHECKS: u32 = 10;
const APPLIED_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a change may hold, in hours; 0 is until the process ends.
const HOURS: [u32; 5] = [0, 1, 8, 24, 168];

/// All worker processes that have announced themselves within their expiry.
#[get("/ui/servers?<done>")]
async fn show(view: View<'_>, done: Option<&str>) -> HtmlPage {
    let site = &view.site;
    let inspector = site.inspector();
    let found = async { Ok((inspector.servers().await?, inspector.worker_changes().await?)) };
    let texts = site.texts();
    let content = found.await.map(|(servers, of_all)| {
        let now = site.queue.now();
        html! {
            (layout::notice(texts, done))
            (workers(&site.reader, now, &servers, &of_all))
        }
    });
    site.respond(NavPage::Servers, texts.workers_title, content)
}

/// The table, the forms for all processes, and the jobs in flight of each.
fn workers(
    reader: &Reader,
    now: Timestamp,
    servers: &Servers,
    of_all: &[WorkerChangeInfo],
) -> Markup {
    let texts = reader.texts;
    let here = format!("{}/ui/servers", reader.base);
    let columns = [
        texts.process,
        texts.process_status,
        texts.worker_slots,
        texts.queues,
        texts.worker_memory,
        texts.started,
    ];
    let rows: Vec<Row> = servers.servers.iter().map(|server| row(texts, now, server)).collect();
    html! {
        @if rows.is_empty() {
            (empty(texts.workers_none))
        } @else {
            (table(TableKind::Plain, texts.process, &columns, &rows))
        }
        (all(texts, &here, now, servers, of_all))
        @for server in &servers.servers { (process(reader, &here, now, server)) }
    }
}

/// What can be done with a process, and its jobs in flight. Below the table, whose cells have no
/// room for forms.
fn process(reader: &Reader, here: &str, now: Timestamp, server: &ServerInfo) -> Markup {
    let texts = reader.texts;
    html! {
        div.worker {
            h2 { (server.host) ":" (server.pid) }
            @match &server.details {
                Some(details) => div.actions { (actions(texts, here, server, details)) },
                None => p.hint { (texts.worker_fixed) },
            }
            @if server.more_running > 0 {
                p.hint { (texts.more_running) (server.more_running) }
            }
            @if !server.running.is_empty() {
                ul.running {
                    @for job in &server.running {
                        li {
                            (job_link(reader, &job.queue, &job.id, html! {
                                (short_type(&job.job_type)) " " code { (job.id) }
                            }))
                            " " (instant(texts, now, job.started))
                        }
                    }
                }
            }
        }
    }
}

/// A process with its queues and their weights, and what was changed in it.
fn row(texts: &Texts, now: Timestamp, server: &ServerInfo) -> Row {
    let queues = html! {
        @for (nth, (name, weight)) in server.queues.iter().enumerate() {
            @if nth > 0 { ", " } (name) "=" (weight)
        }
    };
    let running = server.running.len() as u64 + server.more_running;
    let details = server.details.as_ref();
    let version = details.and_then(|details| details.version.as_deref());
    let head = html! {
        (server.host) ":" (server.pid)
        @if let Some(version) = version { br; span.hint { (version) } }
    };
    let status = html! {
        // One child: on a telephone, each child of a cell is a column.
        div {
            @match details {
                Some(details) => span.tag { ((texts.worker_state)(details.state)) },
                None => (server.status)
            }
            (changes(texts, now, &server.changes))
        }
    };
    let memory = details.and_then(|details| details.memory);
    let cells = vec![
        Cell::Value(status),
        Cell::Value(html! { (running) " / " (server.concurrency) }),
        Cell::Value(queues),
        Cell::Value(html! { @match memory { Some(bytes) => (mebibytes(bytes)), None => "–" } }),
        Cell::Value(instant(texts, now, server.started)),
    ];
    Row::new(head, cells)
}

/// The marks of what was changed or asked: value, who, until when.
fn changes(texts: &Texts, now: Timestamp, changes: &[WorkerChangeInfo]) -> Markup {
    html! {
        @for change in changes.iter().filter(|change| !is_state(change)) {
            div.hint {
                ((texts.worker_changed)(change))
                @if change.until.is_some() {
                    " · " (texts.worker_until) " " (instant(texts, now, change.until))
                }
            }
        }
    }
}

/// Whether a change says no more than the state of the process.
fn is_state(change: &WorkerChangeInfo) -> bool {
    let is_plain = change.until.is_none() && change.by.is_none() && !change.for_all;
    change.setting == "quiet" && change.applied && is_plain
}

/// The buttons and the form for one process.
fn actions(texts: &Texts, here: &str, server: &ServerInfo, details: &WorkerDetails) -> Markup {
    let here = format!("{here}/{}", escaped(&server.server_id));
    let is_quiet = matches!(details.state, WorkerState::Quiet | WorkerState::Draining);
    html! {
        @if is_quiet {
            (button(texts, &format!("{here}/resume"), Deed::ResumeWorker))
        } @else if details.state == WorkerState::Running {
            (question(
                texts,
                &format!("{here}/quiet"),
                Deed::QuietWorker,
                (texts.deed)(Deed::QuietWorker).consequence,
            ))
        }
        @if details.state != WorkerState::Stopping {
            (asked(texts, Deed::ChangeWorker, html! {}, form(texts, &here, server, details)))
        }
    }
}

/// The form that changes slots and weights. Each field comes with what it was, so that only what the
/// reader has changed is asked for.
fn form(texts: &Texts, here: &str, server: &ServerInfo, details: &WorkerDetails) -> Markup {
    let id = |name: &str| format!("{name}-{}", server.server_id);
    let most = details.concurrency_max;
    html! {
        form method="post" action={ (here) "/change" } autocomplete="off" {
            p { ((texts.deed)(Deed::ChangeWorker).consequence) }
            div.field {
                label for=(id("concurrency")) { ((texts.worker_concurrency)(most)) }
                input id=(id("concurrency")) name="concurrency" type="number" min="1" max=(most)
                    value=(server.concurrency) placeholder=(details.configured_concurrency);
                input type="hidden" name="was.concurrency" value=(server.concurrency);
            }
            @for (queue, configured) in &details.configured_queues {
                @let name = format!("weight.{queue}");
                @let weight = server.queues.get(queue).copied().unwrap_or(0);
                div.field {
                    label for=(id(&name)) { ((texts.worker_weight)(queue)) }
                    input id=(id(&name)) name=(name) type="number" min="0" max=(u32::MAX)
                        value=(weight) placeholder=(configured);
                    input type="hidden" name={ "was." (name) } value=(weight);
                }
            }
            (time_field(texts, &id("hours"), false))
            div.actions {
                button.small type="submit" { ((texts.deed)(Deed::ChangeWorker).label) }
            }
        }
    }
}

/// How long a change holds.
fn time_field(texts: &Texts, id: &str, for_all: bool) -> Markup {
    html! {
        div.field {
            label for=(id) { (texts.worker_how_long) }
            select id=(id) name="hours" {
                @for hours in HOURS {
                    option value=(hours) { ((texts.worker_hours)(hours, for_all)) }
                }
            }
        }
    }
}

/// The forms for all processes, and what all of them were asked until some instant.
fn all(
    texts: &Texts,
    here: &str,
    now: Timestamp,
    servers: &Servers,
    of_all: &[WorkerChangeInfo],
) -> Markup {
    let details = || servers.servers.iter().filter_map(|server| server.details.as_ref());
    let Some(most) = details().map(|details| details.concurrency_max).max() else {
        return html! {};
    };
    html! {
        h2 { (texts.workers_all) }
        @if !of_all.is_empty() {
            p { (texts.workers_all_asked) }
            (changes(texts, now, of_all))
        }
        div.actions {
            @let quiet = (texts.deed)(Deed::QuietWorkers);
            (asked(texts, Deed::QuietWorkers, html! {}, html! {
                form method="post" action={ (here) "/quiet" } autocomplete="off" {
                    p { (quiet.consequence) }
                    (time_field(texts, "all-quiet-hours", true))
                    div.actions { button."small grave" type="submit" { (quiet.label) } }
                }
            }))
            (question(
                texts,
                &format!("{here}/resume"),
                Deed::ResumeWorkers,
                (texts.deed)(Deed::ResumeWorkers).consequence,
            ))
            @let change = (texts.deed)(Deed::ChangeWorkers);
            (asked(texts, Deed::ChangeWorkers, html! {}, html! {
                form method="post" action={ (here) "/change" } autocomplete="off" {
                    p { (change.consequence) }
                    div.field {
                        label for="all-concurrency" { ((texts.worker_concurrency)(most)) }
                        input id="all-concurrency" name="concurrency" type="number" min="1"
                            max=(most) placeholder=(texts.worker_as_configured);
                    }
                    (time_field(texts, "all-hours", true))
                    div.actions { button.small type="submit" { (change.label) } }
                }
            }))
        }
    }
}

/// A size in MiB.
fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Makes one process quiet.
#[post("/ui/servers/<id>/quiet", data = "<body>")]
async fn quiet(act: Act<'_>, id: &str, body: FormBody<'_>) -> FormResult {
    act.expect_no_fields(body).await?;
    one(&act, id, WorkerUpdate::new().quiet(), "worker made quiet", "quiet").await
}

/// Lets one process dequeue again.
#[post("/ui/servers/<id>/resume", data = "<body>")]
async fn resume(act: Act<'_>, id: &str, body: FormBody<'_>) -> FormResult {
    act.expect_no_fields(body).await?;
    one(&act, id, WorkerUpdate::new().resume(), "worker resumed", "unquiet").await
}

/// Changes slots and weights of one process.
#[post("/ui/servers/<id>/change", data = "<body>")]
async fn change(act: Act<'_>, id: &str, body: FormBody<'_>) -> FormResult {
    let form = read(&act, body).await?;
    match update(&form) {
        Ok(update) => one(&act, id, update, "worker changed", "worker").await,
        Err(error) => act.redirect(Err(error)),
    }
}

/// Makes all processes quiet.
#[post("/ui/servers/quiet", data = "<body>")]
async fn quiet_all(act: Act<'_>, body: FormBody<'_>) -> FormResult {
    let form = Form::read(body, MAX_FORM_BYTES, &["hours"]).await;
    let form = form.map_err(|problem| act.site.refused(&problem))?;
    match for_hours(&form, WorkerUpdate::new().quiet()) {
        Ok(update) => of_all(&act, update, "all workers made quiet", "quiet").await,
        Err(error) => act.redirect(Err(error)),
    }
}

/// Lets all processes dequeue again.
#[post("/ui/servers/resume", data = "<body>")]
async fn resume_all(act: Act<'_>, body: FormBody<'_>) -> FormResult {
    act.expect_no_fields(body).await?;
    of_all(&act, WorkerUpdate::new().resume(), "all workers resumed", "unquiet").await
}

/// Changes the slots of all processes.
#[post("/ui/servers/change", data = "<body>")]
async fn change_all(act: Act<'_>, body: FormBody<'_>) -> FormResult {
    let form = read(&act, body).await?;
    match update(&form) {
        Ok(update) => of_all(&act, update, "all workers changed", "worker").await,
        Err(error) => act.redirect(Err(error)),
    }
}

/// The fields of a form that changes something, beside one for each queue.
const CHANGE_FIELDS: [&str; 2] = ["concurrency", "hours"];

/// Reads a form whose fields depend on the queues of a process.
async fn read(act: &Act<'_>, body: FormBody<'_>) -> Result<Form, HtmlPage> {
    let form = async { Form::parse(&body.bytes(MAX_FORM_BYTES).await?) };
    form.await.map_err(|problem| act.site.refused(&problem))
}

/// What the form asks for: each setting that differs from what it was. An empty field is the
/// configured value.
fn update(form: &Form) -> Result<WorkerUpdate, Error> {
    let mut update = WorkerUpdate::new();
    for (name, text) in &form.0 {
        let text = text.trim();
        if form.get(&format!("was.{name}")).is_some_and(|was| was == text) {
            continue;
        }
        let number = || -> Result<Option<u32>, Error> {
            let shown: String = text.chars().take(40).collect();
            let wrong =
                |_| Error::invalid(format!("{name}: expected a whole number, found {shown:?}"));
            Some(text).filter(|text| !text.is_empty()).map(str::parse).transpose().map_err(wrong)
        };
        update = match (name.as_str(), name.strip_prefix("weight.")) {
            ("concurrency", _) => match number()? {
                Some(jobs) => update.concurrency(jobs),
                None => update.configured_concurrency(),
            },
            (_, Some(queue)) => {
                let queue: QueueName = queue.parse()?;
                match number()? {
                    Some(weight) => update.weight(queue, weight),
                    None => update.configured_weight(queue),
                }
            }
            _ if name.starts_with("was.") => update,
            _ => {
                expect_known("form field", name, &CHANGE_FIELDS)?;
                update
            }
        };
    }
    for_hours(form, update)
}

/// The same for the time that the form names.
fn for_hours(form: &Form, update: WorkerUpdate) -> Result<WorkerUpdate, Error> {
    match form.text("hours") {
        "" | "0" => Ok(update),
        text => match text.parse::<u32>() {
            Ok(hours) => Ok(update.lasting(Duration::from_secs(u64::from(hours) * 3600))),
            Err(_) => {
                let shown: String = text.chars().take(40).collect();
                Err(Error::invalid(format!("hours: expected a whole number, found {shown:?}")))
            }
        },
    }
}

/// Asks one process, waits a moment for it, and goes back to the list.
async fn one(
    act: &Act<'_>,
    id: &str,
    update: WorkerUpdate,
    action: &str,
    done: &str,
) -> FormResult {
    let inspector = act.site.inspector();
    let update = update.by(act.asked.actor());
    let asked = inspector.update_worker(id, &update).await;
    if asked.is_ok() {
        await_applied(&inspector, Some(id)).await;
    }
    act.redirect(asked.map(|()| {
        act.audit(action, "", id);
        format!("/ui/servers?done={done}")
    }))
}

/// Asks all processes, waits a moment for them, and goes back to the list.
async fn of_all(act: &Act<'_>, update: WorkerUpdate, action: &str, done: &str) -> FormResult {
    let inspector = act.site.inspector();
    let update = update.by(act.asked.actor());
    let asked = inspector.update_workers(&update).await;
    if asked.is_ok() {
        await_applied(&inspector, None).await;
    }
    act.redirect(asked.map(|workers| {
        act.audit(action, "", &workers.to_string());
        format!("/ui/servers?done={done}")
    }))
}

/// Returns when the process, or all of them, have applied what they were asked, or after a second.
async fn await_applied(inspector: &Inspector, id: Option<&str>) {
    for _ in 0..APPLIED_CHECKS {
        let Ok(found) = inspector.servers().await else { return };
        let concerned = |server: &&ServerInfo| id.is_none_or(|id| server.server_id == id);
        let mut changes = found.servers.iter().filter(concerned).flat_map(|server| &server.changes);
        if changes.all(|change| change.applied) {
            return;
        }
        tokio::time::sleep(APPLIED_CHECK_INTERVAL).await;
    }
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show, quiet, resume, change, quiet_all, resume_all, change_all]
}
