//! Paints the model. Foreign text is escaped in [`line`] and [`cell`], through which all of it passes.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};
use serde_json::Value;

use super::model::{FAILED, Model, View};
use crate::commands::alerts::{since, unchecked};
use crate::commands::job::progress;
use crate::commands::payload::shown;
use crate::commands::queue::STATES;
use crate::commands::worker;
use crate::store::{count, list, text};
use crate::text::{away, escaped, instant, local, span};

/// Broken queues whose problem is named below the list.
const MAX_BROKEN: usize = 3;

/// What the colours mean; none of them without colours.
struct Paint {
    color: bool,
    /// The figures are old.
    stale: bool,
}

impl Paint {
    fn of(&self, color: Color) -> Style {
        match self.color && !self.stale {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    fn base(&self) -> Style {
        match self.stale {
            true => Style::new().add_modifier(Modifier::DIM),
            false => Style::new(),
        }
    }

    fn state(&self, state: &str) -> Style {
        match state {
            "archived" => self.of(Color::Red),
            "retry" => self.of(Color::Yellow),
            "active" | "completed" => self.of(Color::Green),
            _ => Style::new(),
        }
    }

    /// Bad unless it is 0.
    fn bad(&self, count: u64) -> Style {
        if count > 0 { self.of(Color::Red) } else { Style::new() }
    }
}

fn line(text: impl AsRef<str>) -> Line<'static> {
    Line::from(escaped(text.as_ref()).into_owned())
}

fn cell(text: impl AsRef<str>) -> Cell<'static> {
    Cell::from(line(text))
}

/// A cell with its text at the right.
fn number(text: impl AsRef<str>) -> Cell<'static> {
    Cell::from(line(text).right_aligned())
}

pub(crate) fn draw(model: &mut Model, frame: &mut Frame<'_>) {
    let now = Utc::now();
    let stale = model.stale_since(Instant::now());
    let paint = Paint { color: model.color, stale: stale.is_some() };
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(2),
    ]);
    let [head, totals, tabs, body, foot] = areas.areas(frame.area());
    frame.render_widget(headline(model, stale, now), head);
    frame.render_widget(Paragraph::new(summary(model, &paint)).style(paint.base()), totals);
    frame.render_widget(views(model), tabs);
    match (model.view, &model.shown) {
        (_, Some(_)) => frame.render_widget(job(model, &paint, now), body),
        (View::Queues, None) => queues(model, &paint, frame, body),
        (View::Jobs, None) => jobs(model, &paint, now, frame, body),
        (View::Failures, None) => failures(model, &paint, now, frame, body),
        (View::Workers, None) => workers(model, &paint, now, frame, body),
        (View::Alerts, None) => alerts(model, &paint, now, frame, body),
    }
    frame.render_widget(footer(model), foot);
    if model.help {
        help(frame);
    }
}

/// Which store, and of when the figures are.
fn headline(model: &Model, stale: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Line<'static> {
    let at = model.look.as_ref().map(|look| local(look.at, now)).unwrap_or_default();
    let (words, style) = match (stale, &model.lost) {
        (None, _) => (format!("live, {at}"), Style::new()),
        (Some(_), Some(lost)) => {
            let what = if lost.is_away { "connection lost" } else { "refused" };
            (format!("{what}, as of {at}: {}", lost.why), alarm(model.color))
        }
        (Some(at), None) => {
            let silent = span(Duration::from_secs((now - at).num_seconds().unsigned_abs()));
            let at = local(at, now);
            (format!("connection lost, as of {at}: no answer for {silent}"), alarm(model.color))
        }
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    Line::from(vec![
        Span::styled("jobqueue ", bold),
        Span::raw(format!("{}  ", escaped(&model.store))),
        Span::styled(escaped(&words).into_owned(), style),
    ])
}

fn alarm(color: bool) -> Style {
    let style = Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED);
    if color { style.fg(Color::Red) } else { style }
}

/// All queues together.
fn summary(model: &Model, paint: &Paint) -> Vec<Line<'static>> {
    let infos = || model.queues().iter().map(|queue| &queue["info"]);
    let sum = |value: &dyn Fn(&Value) -> u64| infos().map(value).sum::<u64>();
    let mut sizes = Vec::new();
    for state in STATES {
        let size = sum(&|info| count(&info["sizes"][state]));
        sizes.push(Span::raw(format!("{state} ")));
        let style = if size == 0 { Style::new() } else { paint.state(state) };
        sizes.push(Span::styled(format!("{size}  "), style.add_modifier(Modifier::BOLD)));
    }
    let (ended, failed) =
        (sum(&|info| count(&info["processed_today"])), sum(&|info| count(&info["failed_today"])));
    let rate = match model.rates.is_empty() {
        true => "rate not known yet".to_owned(),
        false => {
            let ended: f64 = model.rates.values().map(|rate| rate.ended).sum();
            let failed: f64 = model.rates.values().map(|rate| rate.failed).sum();
            format!("now {ended:.1}/s, {failed:.1}/s failed")
        }
    };
    let servers = model.servers();
    let slots: i64 = servers.iter().filter_map(|one| one["concurrency"].as_i64()).sum();
    let used: u64 = servers.iter().map(worker::busy).sum();
    let unreadable = infos().filter(|info| info.is_null()).count();
    let mut second = vec![
        Span::raw(format!("today {ended} ended, ")),
        Span::styled(format!("{failed} failed"), paint.bad(failed)),
        Span::raw(format!("; {rate}; ")),
    ];
    second.push(match servers.len() {
        0 => Span::styled("no worker", paint.of(Color::Red)),
        many => Span::raw(format!("{many} workers, {used} of {slots} slots")),
    });
    if unreadable > 0 {
        let text = format!("; {unreadable} queues cannot be read");
        second.push(Span::styled(text, paint.of(Color::Red)));
    }
    vec![Line::from(sizes), Line::from(second)]
}

fn views(model: &Model) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, view) in View::ALL.into_iter().enumerate() {
        let style = match view == model.view {
            true => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
            false => Style::new(),
        };
        spans.push(Span::styled(format!(" {} {} ", at + 1, view.title()), style));
        spans.push(Span::raw(" "));
    }
    if matches!(model.view, View::Jobs) && model.typing.is_none() {
        let query = if model.query.is_empty() { "all jobs" } else { model.query.as_str() };
        spans.push(Span::raw(format!(" {}", escaped(query))));
    }
    Line::from(spans)
}

/// A table with the selected row marked.
fn table(
    model: &Model,
    paint: &Paint,
    frame: &mut Frame<'_>,
    area: Rect,
    (titles, widths, rows): (Vec<&'static str>, Vec<Constraint>, Vec<Row<'static>>),
) {
    let header = Row::new(titles).style(Style::new().add_modifier(Modifier::BOLD));
    let table = Table::new(rows, widths)
        .header(header)
        .column_spacing(2)
        .style(paint.base())
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(model.position());
    frame.render_stateful_widget(table, area, &mut state);
}

fn empty(frame: &mut Frame<'_>, area: Rect, words: &str) {
    let words = Paragraph::new(vec![Line::default(), line(words)]).wrap(Wrap { trim: false });
    frame.render_widget(words, area);
}

fn queues(model: &Model, paint: &Paint, frame: &mut Frame<'_>, area: Rect) {
    if model.queues().is_empty() {
        return empty(frame, area, "No queue has had a job yet.");
    }
    let rows = model.queues().iter().map(|queue| {
        let (name, info) = (text(&queue["queue"]), &queue["info"]);
        if info.is_null() {
            let unknown = std::iter::repeat_with(|| number("?")).take(9);
            let damaged = cell("broken").style(paint.of(Color::Red));
            return Row::new([cell(name), damaged].into_iter().chain(unknown));
        }
        let size = |state: &str| count(&info["sizes"][state]);
        let rate = match model.rates.get(name) {
            Some(rate) => format!("{:.1}", rate.ended),
            None => "?".to_owned(),
        };
        let failing = model.rates.get(name).filter(|rate| rate.failed > 0.0);
        let failing = failing.map(|rate| format!("{:.1}", rate.failed)).unwrap_or_default();
        let oldest = match size("pending") {
            0 => "-".to_owned(),
            _ => span(Duration::from_secs_f64(
                info["latency_seconds"].as_f64().unwrap_or(0.0).max(0.0),
            )),
        };
        let paused = if info["paused"] == true { "paused" } else { "" };
        let figure = |state: &str| number(size(state).to_string());
        Row::new(vec![
            cell(name),
            cell(paused).style(paint.of(Color::Yellow)),
            figure("pending"),
            figure("active"),
            figure("scheduled"),
            figure("retry"),
            figure("archived").style(paint.bad(size("archived"))),
            number(oldest),
            number(rate),
            number(failing).style(paint.of(Color::Red)),
            number(count(&info["failed_today"]).to_string()),
        ])
    });
    let titles = vec![
        "QUEUE",
        "",
        "PENDING",
        "ACTIVE",
        "SCHEDULED",
        "RETRY",
        "ARCHIVED",
        "OLDEST",
        "ENDED/S",
        "FAILED/S",
        "FAILED TODAY",
    ];
    let mut widths = vec![Constraint::Min(12), Constraint::Length(6)];
    widths.extend([7, 6, 9, 6, 8, 8, 7, 8, 12].map(Constraint::Length));
    let broken = model.queues().iter().filter(|queue| queue["info"].is_null());
    let broken: Vec<Line<'static>> = broken
        .take(MAX_BROKEN)
        .map(|queue| {
            line(format!("{} cannot be read: {}", text(&queue["queue"]), text(&queue["problem"])))
        })
        .collect();
    let lines = broken.len() as u16;
    let [list, note] =
        Layout::vertical([Constraint::Min(1), Constraint::Length(lines)]).areas(area);
    table(model, paint, frame, list, (titles, widths, rows.collect()));
    frame.render_widget(Paragraph::new(broken).style(paint.of(Color::Red)), note);
}

fn jobs(model: &Model, paint: &Paint, now: DateTime<Utc>, frame: &mut Frame<'_>, area: Rect) {
    let jobs = model.look.as_ref().and_then(|look| look.jobs.as_ref());
    let found = jobs.filter(|jobs| jobs.query == model.query);
    match found.map(|jobs| &jobs.rows) {
        None => return empty(frame, area, "Searching…"),
        Some(Err(wrong)) => return empty(frame, area, wrong),
        Some(Ok(rows)) if rows.is_empty() => return empty(frame, area, "No job matches."),
        Some(Ok(_)) => {}
    }
    let rows = model.jobs().iter().map(|row| {
        if row["row"] == "corrupt" {
            let damaged = cell("damaged").style(paint.of(Color::Red));
            return Row::new(vec![
                damaged,
                cell(text(&row["queue"])),
                cell(""),
                cell(text(&row["id"])),
            ]);
        }
        let state = text(&row["state"]);
        let error = text(&row["last_error"]);
        let detail = match (state, progress(&row["progress"])) {
            ("active", Some(progress)) => cell(progress),
            ("archived" | "retry", _) if !error.is_empty() => {
                cell(error).style(paint.of(Color::Red))
            }
            _ => cell(shown(&row["payload"])),
        };
        Row::new(vec![
            cell(state).style(paint.state(state)),
            cell(text(&row["queue"])),
            cell(text(&row["job_type"])),
            cell(text(&row["id"])),
            cell(moment(row).map(|at| away(at, now)).unwrap_or_default()),
            detail,
        ])
    });
    let titles = vec!["STATE", "QUEUE", "TYPE", "ID", "SINCE", "ERROR, PROGRESS OR PAYLOAD"];
    let widths = vec![
        Constraint::Length(9),
        Constraint::Max(14),
        Constraint::Max(22),
        Constraint::Length(36),
        Constraint::Length(11),
        Constraint::Min(10),
    ];
    let more = jobs.is_some_and(|jobs| jobs.more);
    let [list, note] =
        Layout::vertical([Constraint::Min(1), Constraint::Length(u16::from(more))]).areas(area);
    table(model, paint, frame, list, (titles, widths, rows.collect()));
    if more {
        let words = format!("the first {} are shown, there are more", model.jobs().len());
        frame.render_widget(line(words), note);
    }
}

/// The instant that matters in a job's state.
fn moment(job: &Value) -> Option<DateTime<Utc>> {
    let value = match text(&job["state"]) {
        "scheduled" | "retry" => &job["due"],
        "archived" => &job["archived_at"],
        "completed" => &job["completed_at"],
        "active" => &job["worker"]["started"],
        _ => &job["pending_since"],
    };
    value.as_str().and_then(instant)
}

fn failures(model: &Model, paint: &Paint, now: DateTime<Utc>, frame: &mut Frame<'_>, area: Rect) {
    let jobs = model.look.as_ref().and_then(|look| look.jobs.as_ref());
    let Some(jobs) = jobs.filter(|jobs| jobs.query == FAILED) else {
        return empty(frame, area, "Searching…");
    };
    let kinds = model.kinds();
    if kinds.is_empty() {
        return empty(frame, area, "No job is archived or waits for a retry.");
    }
    let rows = kinds.iter().map(|kind| {
        let newest = kind.newest.as_deref().and_then(instant);
        Row::new(vec![
            number(kind.jobs.to_string()),
            cell(&kind.job_type),
            cell(newest.map(|at| away(at, now)).unwrap_or_default()),
            cell(kind.versions.iter().cloned().collect::<Vec<_>>().join(" ")),
            cell(if kind.error.is_empty() { "(no error)" } else { &kind.error })
                .style(paint.of(Color::Red)),
        ])
    });
    let titles = vec!["JOBS", "TYPE", "NEWEST", "VERSIONS", "ERROR"];
    let widths = vec![
        Constraint::Length(5),
        Constraint::Max(30),
        Constraint::Length(11),
        Constraint::Max(16),
        Constraint::Min(20),
    ];
    let [list, note] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(area);
    table(model, paint, frame, list, (titles, widths, rows.collect()));
    let seen: u64 = kinds.iter().map(|kind| kind.jobs).sum();
    let sizes = |state: &str| -> u64 {
        model.queues().iter().map(|queue| count(&queue["info"]["sizes"][state])).sum()
    };
    let all = sizes("archived") + sizes("retry");
    let words = match jobs.more {
        true => format!("counted among {seen} of {all} archived and retrying jobs"),
        false => format!("all {seen} archived and retrying jobs"),
    };
    frame.render_widget(line(words), note);
}

fn workers(model: &Model, paint: &Paint, now: DateTime<Utc>, frame: &mut Frame<'_>, area: Rect) {
    if model.servers().is_empty() {
        return empty(frame, area, "No worker process is announced: no job runs.");
    }
    let rows = model.servers().iter().map(|server| {
        let is_serving = worker::is_serving(server);
        let style = if is_serving { paint.of(Color::Green) } else { paint.of(Color::Yellow) };
        let started = server["started"].as_str().and_then(instant);
        let running: Vec<&str> =
            list(&server["running"]).iter().map(|job| text(&job["job_type"])).collect();
        Row::new(vec![
            cell(text(&server["host"])),
            number(server["pid"].to_string()),
            cell(worker::state(server)).style(style),
            cell(server["details"]["version"].as_str().unwrap_or("-")),
            number(format!("{}/{}", worker::busy(server), server["concurrency"])),
            cell(started.map(|at| away(at, now)).unwrap_or_default()),
            cell(worker::queues(&server["queues"])),
            cell(running.join(" ")),
        ])
    });
    let titles = vec!["HOST", "PID", "STATE", "VERSION", "SLOTS", "STARTED", "QUEUES", "RUNS"];
    let widths = vec![
        Constraint::Max(20),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Max(12),
        Constraint::Length(9),
        Constraint::Length(11),
        Constraint::Max(30),
        Constraint::Min(10),
    ];
    table(model, paint, frame, area, (titles, widths, rows.collect()));
}

fn alerts(model: &Model, paint: &Paint, now: DateTime<Utc>, frame: &mut Frame<'_>, area: Rect) {
    let Some(found) = model.look.as_ref().and_then(|look| look.alerts.as_ref()) else {
        return empty(frame, area, "Looking…");
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => return empty(frame, area, why),
    };
    let warnings = unchecked(found);
    let rows = list(&found["alerts"]).iter().map(|alert| {
        Row::new(vec![
            cell(text(&alert["rule"])).style(paint.of(Color::Red)),
            cell(alert["queue"].as_str().unwrap_or("-")),
            cell(since(alert, now)),
            cell(text(&alert["message"])),
        ])
    });
    let rows: Vec<Row<'static>> = rows.collect();
    if rows.is_empty() && warnings.is_empty() {
        return empty(frame, area, "No alert.");
    }
    let titles = vec!["ALERT", "QUEUE", "SINCE", "WHAT"];
    let widths = vec![
        Constraint::Length(17),
        Constraint::Max(20),
        Constraint::Length(15),
        Constraint::Min(20),
    ];
    let lines = u16::try_from(warnings.len()).unwrap_or(2);
    let [list, note] =
        Layout::vertical([Constraint::Min(1), Constraint::Length(lines)]).areas(area);
    table(model, paint, frame, list, (titles, widths, rows));
    frame.render_widget(Paragraph::new(warnings.iter().map(line).collect::<Vec<_>>()), note);
}

/// One job as a whole.
fn job(model: &Model, paint: &Paint, now: DateTime<Utc>) -> Paragraph<'static> {
    let place = model.shown.as_ref();
    let found = model.look.as_ref().and_then(|look| look.job.as_ref());
    let found = found.filter(|(job, _)| place.is_some_and(|place| text(&job["id"]) == place.id));
    let Some((job, why)) = found else {
        let id = place.map(|place| place.id.as_str()).unwrap_or_default();
        let words =
            format!("Job {id} is not there: it succeeded without retention, or was deleted.");
        return Paragraph::new(vec![Line::default(), line(words)]);
    };
    let state = text(&job["state"]);
    let fact = |name: &str, words: String| {
        let name = Span::styled(format!("{name:<14}"), Style::new().add_modifier(Modifier::DIM));
        Line::from(vec![name, Span::raw(escaped(&words).into_owned())])
    };
    let mut lines = vec![
        fact("id", text(&job["id"]).to_owned()),
        fact("queue", text(&job["queue"]).to_owned()),
        fact("type", text(&job["job_type"]).to_owned()),
        fact("state", state.to_owned()).style(paint.state(state)),
    ];
    lines.extend(why.as_ref().map(|why| fact("why", why.clone())));
    lines.push(fact(
        "retries used",
        format!("{} of {}", count(&job["retried"]), count(&job["max_retry"])),
    ));
    let at = moment(job).map(|at| format!("{} ({})", local(at, now), away(at, now)));
    lines.extend(at.map(|at| fact("since", at)));
    lines.extend(progress(&job["progress"]).map(|words| fact("progress", words)));
    if !text(&job["last_error"]).is_empty() {
        lines.push(fact("error", text(&job["last_error"]).to_owned()).style(paint.of(Color::Red)));
    }
    lines.push(fact("payload", shown(&job["payload"])));
    if !job["result"].is_null() {
        lines.push(fact("result", shown(&job["result"])));
    }
    for one in list(&job["failures"]).iter().rev() {
        let at = one["at"].as_str().and_then(instant).map(|at| away(at, now)).unwrap_or_default();
        let words = format!("{at}, attempt {}: {}", count(&one["attempt"]), text(&one["error"]));
        lines.push(fact("failure", words));
    }
    Paragraph::new(lines).wrap(Wrap { trim: false }).style(paint.base())
}

/// The question, what the last action came to, or the keys.
fn footer(model: &Model) -> Paragraph<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    if let Some((question, _)) = &model.question {
        let words = format!("{} [y/N]", escaped(question));
        return Paragraph::new(words).style(bold).wrap(Wrap { trim: false });
    }
    if let Some(query) = &model.typing {
        let hint = "queue: state: type: id: error: version: since: until: and text; Enter searches, Esc leaves";
        return Paragraph::new(vec![line(format!("/{query}▏")).style(bold), line(hint)]);
    }
    let keys = match (model.view, model.shown.is_some()) {
        (_, true) => "Esc back  r run  a archive  d delete  c cancel  q quit",
        (View::Queues, _) => "Enter jobs  p pause or resume  / search  1-5 views  ? help  q quit",
        (View::Jobs, _) => {
            "Enter job  r run  a archive  d delete  c cancel  / search  ? help  q quit"
        }
        (View::Failures, _) => "Enter jobs  r run all of a kind  a archive them  ? help  q quit",
        (View::Alerts, _) => "1-5 views  ? help  q quit",
        (View::Workers, _) => "s quiet or resume  1-5 views  ? help  q quit",
    };
    let said = match &model.said {
        Some((words, true)) => line(format!("failed: {words}")).style(alarm(model.color)),
        Some((words, false)) => line(words).style(bold),
        None => Line::default(),
    };
    Paragraph::new(vec![said, line(keys)])
}

const HELP: &str = "\
1 2 3 4 5, Tab    queues, jobs, failures, workers, alerts
j k, arrows, g G  select a row
Enter             the jobs of a queue or a kind of failure; a job
/                 search: queue: state: type: id: error: version:
p                 pause or resume a queue
r a d c           run, archive, delete, cancel a job
s                 make a worker quiet (it drains), or resume it
r a               in the failures: all jobs of the kind
Space             look now
q, Ctrl-C         end

Each change asks first, and only y agrees.";

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let lines: Vec<Line<'static>> = HELP.lines().map(Line::from).collect();
    let height = (lines.len() as u16 + 2).min(area.height);
    let width = 78.min(area.width);
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Keys ")), place);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;
    use crate::failure::{Exit, Failure};
    use crate::top::look::Look;

    fn screen(model: &mut Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(model, frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row =
            |y: u16| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(row).collect::<Vec<_>>().join("\n")
    }

    fn model() -> Model {
        let mut model = Model::new("Redis at x".into(), true, Duration::from_secs(1));
        let info = json!({
            "sizes": { "pending": 3, "archived": 7 }, "latency_seconds": 61, "paused": true,
            "processed_today": 854, "failed_today": 721
        });
        model.took(Ok(Look {
            at: Utc::now(),
            began: Instant::now(),
            queues: vec![
                json!({ "queue": "mail\u{1b}[31m\u{202e}", "info": info }),
                json!({ "queue": "broken", "info": null, "problem": "keys of other types" }),
            ],
            servers: Vec::new(),
            jobs: None,
            job: None,
            alerts: None,
        }));
        model
    }

    #[test]
    fn the_screen_says_what_is_known_and_what_is_not() {
        let mut model = model();
        let text = screen(&mut model, 120, 24);
        for words in [
            "live, ",
            "pending 3",
            "archived 7",
            "today 854 ended, 721 failed",
            "rate not known yet",
            "no worker",
            "1 queues cannot be read",
            "mail\\u{1b}[31m\\u{202e}",
            "paused",
            "1 m",
            "broken cannot be read: keys of other types",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        model.took(Err(Failure::new(Exit::Unreachable, "Redis is not connected")));
        let text = screen(&mut model, 120, 24);
        assert!(text.contains("connection lost, as of ") && !text.contains("live, "), "{text}");
        assert!(text.contains("Redis is not connected"), "{text}");
    }

    #[test]
    fn it_can_be_drawn_in_any_size() {
        let mut model = model();
        for view in View::ALL {
            model.view = view;
            for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 80)] {
                model.help = !model.help;
                screen(&mut model, width, height);
            }
        }
    }
}
