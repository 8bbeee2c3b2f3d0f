//! What the screen knows, and what a key does to it. Nothing here waits or asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::look::{Look, Wanted};
use crate::commands::worker;
use crate::failure::{Exit, Outcome};
use crate::store::{JobPlace, Store, Then, Verb, WorkerChange, count, text};

/// Beyond the interval between two looks, the store may be silent for this long before its figures
/// are not called live any more; and in all at least [`MIN_FRESH`].
const GRACE: Duration = Duration::from_secs(2);
const MIN_FRESH: Duration = Duration::from_secs(3);

/// What the operator looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Queues,
    Jobs,
    Failures,
    Workers,
    Alerts,
}

impl View {
    pub const ALL: [View; 5] =
        [View::Queues, View::Jobs, View::Failures, View::Workers, View::Alerts];

    pub fn title(self) -> &'static str {
        match self {
            View::Queues => "Queues",
            View::Jobs => "Jobs",
            View::Failures => "Failures",
            View::Workers => "Workers",
            View::Alerts => "Alerts",
        }
    }
}

/// The jobs that failures are counted among.
pub(crate) const FAILED: &str = "state:archived state:retry";

/// Something that is done to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Pause(String, bool),
    Job(Verb, JobPlace),
    Cancel(JobPlace),
    /// A worker process, quiet or not.
    Quiet(String, bool),
    /// All jobs that match.
    Query(Verb, String),
}

impl Action {
    /// What it came to, in a line.
    pub async fn carry_out(self, store: &dyn Store) -> Outcome<String> {
        match self {
            Action::Pause(queue, pause) => {
                store.pause(&queue, pause).await?;
                Ok(format!("queue {queue} {}", if pause { "paused" } else { "resumed" }))
            }
            Action::Job(verb, place) => {
                store.act(&place, verb).await?;
                Ok(format!("job {} {}", place.id, verb.done()))
            }
            Action::Cancel(place) => {
                let outcome = store.cancel(&place, Then::Retry).await?;
                Ok(format!("cancellation of job {} {outcome}", place.id))
            }
            Action::Quiet(id, quiet) => {
                let change = WorkerChange { quiet: Some(quiet), ..WorkerChange::default() };
                store.change_workers(Some(&id), &change).await?;
                Ok(format!(
                    "worker {id} was asked to {}",
                    if quiet { "be quiet" } else { "resume" }
                ))
            }
            Action::Query(verb, query) => {
                let found = crate::commands::job::search(store, &query, usize::MAX).await?;
                let (mut done, mut left) = (0, 0);
                for row in found.rows.iter().filter(|row| verb.permits(text(&row["state"]))) {
                    match store.act(&place_of(row), verb).await {
                        Ok(()) => done += 1,
                        Err(failure) if failure.exit == Exit::Unreachable => {
                            return Err(failure.about(&format!("{done} jobs were {}", verb.done())));
                        }
                        // It has moved on.
                        Err(_) => left += 1,
                    }
                }
                let left = if left == 0 { String::new() } else { format!(", {left} left") };
                Ok(format!("{done} jobs {}{left}", verb.done()))
            }
        }
    }
}

/// What the loop does after a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Nothing,
    Quit,
    /// Something else is wanted, or the same at once.
    Look,
    Act(Action),
}

/// Attempts a second, between two looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    pub ended: f64,
    pub failed: f64,
}

/// Failed jobs that are alike.
#[derive(Debug)]
pub(crate) struct Kind {
    pub job_type: String,
    pub error: String,
    pub jobs: u64,
    pub newest: Option<String>,
    /// The versions of the application that made the last attempts, as far as they are known.
    pub versions: BTreeSet<String>,
}

impl Kind {
    fn key(&self) -> String {
        format!("{}\n{}", self.job_type, self.error)
    }

    /// The terms that find these jobs.
    pub fn query(&self) -> String {
        let error: String = self.error.chars().take(80).collect();
        let error =
            if error.is_empty() { String::new() } else { format!(" error:{}", quoted(&error)) };
        format!("{FAILED} type:{}{error}", quoted(&self.job_type))
    }
}

/// A text as one term.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn place_of(row: &Value) -> JobPlace {
    JobPlace { queue: text(&row["queue"]).to_owned(), id: text(&row["id"]).to_owned() }
}

/// Why there are no newer figures.
pub(crate) struct Lost {
    /// Nobody answers. Otherwise the answer is a refusal, such as of a token that has expired.
    pub is_away: bool,
    pub why: String,
}

pub(crate) struct Model {
    pub store: String,
    pub color: bool,
    pub view: View,
    /// The last look that succeeded.
    pub look: Option<Look>,
    /// When it came.
    came: Instant,
    /// How long it is called live.
    fresh: Duration,
    pub rates: HashMap<String, Rate>,
    /// Since the last look that succeeded: why a later one did not.
    pub lost: Option<Lost>,
    /// The keys of the selected rows, so that a row stays selected when the list moves.
    selected: HashMap<&'static str, String>,
    pub query: String,
    /// The query while it is typed.
    pub typing: Option<String>,
    pub question: Option<(String, Action)>,
    /// What the last action came to, and whether it failed.
    pub said: Option<(String, bool)>,
    /// The job that is shown as a whole.
    pub shown: Option<JobPlace>,
    pub help: bool,
}

impl Model {
    pub fn new(store: String, color: bool, interval: Duration) -> Self {
        Self {
            store,
            color,
            view: View::Queues,
            look: None,
            came: Instant::now(),
            fresh: (interval + GRACE).max(MIN_FRESH),
            rates: HashMap::new(),
            lost: None,
            selected: HashMap::new(),
            query: "state:active".to_owned(),
            typing: None,
            question: None,
            said: None,
            shown: None,
            help: false,
        }
    }

    /// What the next look has to bring.
    pub fn wanted(&self) -> Wanted {
        let query = match self.view {
            View::Jobs => Some(self.query.clone()),
            View::Failures => Some(FAILED.to_owned()),
            View::Queues | View::Workers | View::Alerts => None,
        };
        let job = self.shown.as_ref().map(|place| (place.queue.clone(), place.id.clone()));
        Wanted { query, job, alerts: self.view == View::Alerts }
    }

    /// Takes what a look brought.
    pub fn took(&mut self, look: Outcome<Look>) {
        match look {
            Ok(look) => {
                self.rates =
                    self.look.as_ref().map_or_else(HashMap::new, |last| rates(last, &look));
                (self.look, self.lost, self.came) = (Some(look), None, Instant::now());
            }
            Err(failure) => {
                let is_away = failure.exit == Exit::Unreachable;
                self.lost = Some(Lost { is_away, why: failure.message });
            }
        }
    }

    /// Takes what an action came to.
    pub fn acted(&mut self, outcome: Outcome<String>) {
        self.said = Some(match outcome {
            Ok(text) => (text, false),
            Err(failure) => (failure.message, true),
        });
    }

    /// The instant of the figures, if they are not live: the store was silent since, or failed.
    pub fn stale_since(&self, now: Instant) -> Option<DateTime<Utc>> {
        let look = self.look.as_ref()?;
        let is_old = now.saturating_duration_since(self.came) > self.fresh;
        (self.lost.is_some() || is_old).then_some(look.at)
    }

    /// The failed jobs of the last look by type and error, the most first.
    pub fn kinds(&self) -> Vec<Kind> {
        let Some(rows) = self.rows(FAILED) else { return Vec::new() };
        let mut kinds: BTreeMap<(String, String), Kind> = BTreeMap::new();
        for row in rows.iter().filter(|row| row["row"] != "corrupt") {
            let (job_type, error) = (text(&row["job_type"]), text(&row["last_error"]));
            let key = (job_type.to_owned(), error.to_owned());
            let kind = kinds.entry(key).or_insert_with(|| Kind {
                job_type: job_type.to_owned(),
                error: error.to_owned(),
                jobs: 0,
                newest: None,
                versions: BTreeSet::new(),
            });
            kind.jobs += 1;
            let failed = row["last_failed_at"].as_str().map(str::to_owned);
            kind.versions.extend(row["version"].as_str().map(str::to_owned));
            kind.newest = kind.newest.take().max(failed);
        }
        let mut kinds: Vec<Kind> = kinds.into_values().collect();
        kinds.sort_by(|a, b| b.jobs.cmp(&a.jobs).then(b.newest.cmp(&a.newest)));
        kinds
    }

    /// The jobs of this query in the last look.
    fn rows(&self, query: &str) -> Option<&[Value]> {
        let jobs = self.look.as_ref()?.jobs.as_ref().filter(|jobs| jobs.query == query)?;
        jobs.rows.as_deref().ok()
    }

    /// The jobs that the view of jobs shows; none while they are looked for.
    pub fn jobs(&self) -> &[Value] {
        self.rows(&self.query).unwrap_or_default()
    }

    pub fn queues(&self) -> &[Value] {
        self.look.as_ref().map_or(&[], |look| &look.queues)
    }

    pub fn servers(&self) -> &[Value] {
        self.look.as_ref().map_or(&[], |look| &look.servers)
    }

    /// The keys of the view's rows.
    fn keys(&self) -> Vec<String> {
        let keyed = |values: &[Value], key: &str| -> Vec<String> {
            values.iter().map(|value| text(&value[key]).to_owned()).collect()
        };
        match self.view {
            View::Queues => keyed(self.queues(), "queue"),
            View::Jobs => self
                .jobs()
                .iter()
                .map(|row| format!("{}\n{}", text(&row["queue"]), text(&row["id"])))
                .collect(),
            View::Failures => self.kinds().iter().map(Kind::key).collect(),
            View::Workers => keyed(self.servers(), "server_id"),
            View::Alerts => Vec::new(),
        }
    }

    /// The position of the selected row; the first one if it is gone.
    pub fn position(&self) -> Option<usize> {
        let keys = self.keys();
        let wanted = self.selected.get(self.view.title());
        let at = wanted.and_then(|wanted| keys.iter().position(|key| key == wanted));
        at.or((!keys.is_empty()).then_some(0))
    }

    fn move_by(&mut self, by: isize) {
        let keys = self.keys();
        let Some(at) = self.position() else { return };
        let to = at.saturating_add_signed(by).min(keys.len() - 1);
        self.selected.insert(self.view.title(), keys[to].clone());
    }

    /// What a key does.
    pub fn key(&mut self, key: KeyEvent) -> Order {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Order::Quit;
        }
        if let Some((_, action)) = self.question.take() {
            return match key.code {
                KeyCode::Char('y' | 'Y') => Order::Act(action),
                _ => {
                    self.said = Some(("nothing was done".to_owned(), false));
                    Order::Nothing
                }
            };
        }
        if self.typing.is_some() {
            return self.type_key(key.code);
        }
        self.said = None;
        if std::mem::take(&mut self.help) {
            return Order::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Order::Quit,
            KeyCode::Char('?') => self.help = true,
            KeyCode::Esc | KeyCode::Backspace if self.shown.is_some() => {
                self.shown = None;
                return Order::Look;
            }
            KeyCode::Char(digit @ '1'..='5') => {
                return self.see(View::ALL[digit as usize - '1' as usize]);
            }
            KeyCode::Tab => return self.step(1),
            KeyCode::BackTab => return self.step(View::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::PageDown => self.move_by(10),
            KeyCode::PageUp => self.move_by(-10),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX),
            KeyCode::Char('/') => {
                self.shown = None;
                self.view = View::Jobs;
                self.typing = Some(self.query.clone());
            }
            KeyCode::Char(' ') => return Order::Look,
            code => return self.on_row(code),
        }
        Order::Nothing
    }

    fn see(&mut self, view: View) -> Order {
        (self.view, self.shown) = (view, None);
        Order::Look
    }

    fn step(&mut self, by: usize) -> Order {
        let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.see(View::ALL[(at + by) % View::ALL.len()])
    }

    fn type_key(&mut self, code: KeyCode) -> Order {
        let Some(text) = &mut self.typing else { return Order::Nothing };
        match code {
            KeyCode::Enter => {
                self.query = self.typing.take().unwrap_or_default();
                return Order::Look;
            }
            KeyCode::Esc => self.typing = None,
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char(c) if !c.is_control() => text.push(c),
            _ => {}
        }
        Order::Nothing
    }

    /// What a key does to the selected row.
    fn on_row(&mut self, code: KeyCode) -> Order {
        if self.shown.is_some() {
            // The list below may have lost it.
            return self.on_job(code, 0);
        }
        let Some(at) = self.position() else { return Order::Nothing };
        match self.view {
            View::Queues => self.on_queue(code, at),
            View::Jobs => self.on_job(code, at),
            View::Failures => self.on_kind(code, at),
            View::Workers => self.on_worker(code, at),
            View::Alerts => Order::Nothing,
        }
    }

    fn on_worker(&mut self, code: KeyCode, at: usize) -> Order {
        let server = &self.servers()[at];
        let (id, is_serving) = (text(&server["server_id"]).to_owned(), worker::is_serving(server));
        let who = format!("{}, process {}", text(&server["host"]), server["pid"]);
        if code != KeyCode::Char('s') {
            return Order::Nothing;
        }
        let question = match is_serving {
            true => format!(
                "Make {who} quiet? It dequeues no more jobs, and its jobs run to their end."
            ),
            false => format!("Resume {who}? It dequeues jobs again."),
        };
        self.ask(question, Action::Quiet(id, is_serving))
    }

    fn on_queue(&mut self, code: KeyCode, at: usize) -> Order {
        let queue = &self.queues()[at];
        let name = text(&queue["queue"]).to_owned();
        match code {
            KeyCode::Enter => {
                self.query = format!("queue:{}", quoted(&name));
                self.see(View::Jobs)
            }
            KeyCode::Char('p') => {
                let pause = queue["info"]["paused"] != true;
                let question = match pause {
                    true => format!("Pause queue {name}? Workers dequeue no more of its jobs."),
                    false => format!("Resume queue {name}? Workers dequeue its jobs again."),
                };
                self.ask(question, Action::Pause(name, pause))
            }
            _ => Order::Nothing,
        }
    }

    fn on_job(&mut self, code: KeyCode, at: usize) -> Order {
        let row = match (&self.shown, self.look.as_ref().and_then(|look| look.job.as_ref())) {
            (Some(place), Some((job, _))) if place_of(job) == *place => job,
            (Some(_), _) => return Order::Nothing,
            (None, _) => &self.jobs()[at],
        };
        let (place, state) = (place_of(row), text(&row["state"]).to_owned());
        let id = place.id.clone();
        let verb = match code {
            KeyCode::Enter if self.shown.is_none() => {
                self.shown = Some(place);
                return Order::Look;
            }
            KeyCode::Char('c') if state == "active" => {
                let question = format!("Cancel job {id}? Its attempt ends and counts as failed.");
                return self.ask(question, Action::Cancel(place));
            }
            KeyCode::Char('r') => Verb::Run,
            KeyCode::Char('a') => Verb::Archive,
            KeyCode::Char('d') => Verb::Delete,
            KeyCode::Char('c') => {
                self.said = Some((format!("job {id} is {state}: no attempt runs"), true));
                return Order::Nothing;
            }
            _ => return Order::Nothing,
        };
        if !verb.permits(&state) {
            self.said = Some((format!("job {id} is {state}: it cannot be {}", verb.done()), true));
            return Order::Nothing;
        }
        let question = match verb {
            Verb::Run => format!("Run job {id}? It becomes pending."),
            Verb::Archive => format!("Archive job {id}? No worker runs it until somebody does."),
            Verb::Delete => format!("Delete job {id}? This cannot be undone."),
        };
        self.ask(question, Action::Job(verb, place))
    }

    fn on_kind(&mut self, code: KeyCode, at: usize) -> Order {
        let kinds = self.kinds();
        let query = kinds[at].query();
        match code {
            KeyCode::Enter => {
                self.query = query;
                self.see(View::Jobs)
            }
            KeyCode::Char('r') => {
                let question = format!("Run all jobs that match {query}? They become pending.");
                self.ask(question, Action::Query(Verb::Run, query))
            }
            KeyCode::Char('a') => {
                let question = format!("Archive all jobs that match {query}?");
                self.ask(question, Action::Query(Verb::Archive, query))
            }
            _ => Order::Nothing,
        }
    }

    fn ask(&mut self, question: String, action: Action) -> Order {
        self.question = Some((question, action));
        Order::Nothing
    }
}

/// Attempts a second of each queue between two looks. A counter that went back says nothing.
fn rates(last: &Look, now: &Look) -> HashMap<String, Rate> {
    let seconds = now.began.saturating_duration_since(last.began).as_secs_f64();
    if seconds <= 0.0 {
        return HashMap::new();
    }
    let counters =
        |queue: &Value| (count(&queue["info"]["processed"]), count(&queue["info"]["failed"]));
    let before: HashMap<&str, (u64, u64)> =
        last.queues.iter().map(|queue| (text(&queue["queue"]), counters(queue))).collect();
    let rate = |queue: &Value| {
        let ((ended, failed), name) = (counters(queue), text(&queue["queue"]));
        let (ended_before, failed_before) = before.get(name)?;
        let a_second = |now: u64, before: u64| Some(now.checked_sub(before)? as f64 / seconds);
        let rate = Rate {
            ended: a_second(ended, *ended_before)?,
            failed: a_second(failed, *failed_before)?,
        };
        Some((name.to_owned(), rate))
    };
    now.queues.iter().filter(|queue| !queue["info"].is_null()).filter_map(rate).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::failure::Failure;
    use crate::top::look::Jobs;

    fn look(query: &str, rows: Value, ended: u64) -> Look {
        Look {
            at: Utc::now(),
            began: Instant::now(),
            queues: vec![
                json!({ "queue": "a", "info": { "processed": ended, "failed": 0, "paused": true } }),
                json!({ "queue": "b", "info": { "processed": 1, "failed": 0, "paused": false } }),
            ],
            servers: Vec::new(),
            jobs: Some(Jobs {
                query: query.to_owned(),
                rows: Ok(rows.as_array().unwrap().clone()),
                more: false,
            }),
            job: None,
            alerts: None,
        }
    }

    fn press(model: &mut Model, code: KeyCode) -> Order {
        model.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn job(id: &str, state: &str, error: &str) -> Value {
        json!({ "row": "job", "queue": "a", "id": id, "state": state, "job_type": "t", "last_error": error })
    }

    #[test]
    fn a_selected_row_stays_selected_when_the_list_moves() {
        let mut model = Model::new("x".into(), false, Duration::from_secs(1));
        model.see(View::Jobs);
        model.took(Ok(look(
            "state:active",
            json!([job("1", "active", ""), job("2", "active", "")]),
            0,
        )));
        press(&mut model, KeyCode::Down);
        let three = json!([job("0", "active", ""), job("1", "active", ""), job("2", "active", "")]);
        model.took(Ok(look("state:active", three, 0)));
        assert_eq!(model.position(), Some(2));
        press(&mut model, KeyCode::Char('c'));
        let (question, action) = model.question.clone().unwrap();
        assert!(question.contains("job 2"), "{question}");
        // The list moves again below the question, which keeps its job.
        model.took(Ok(look("state:active", json!([job("9", "active", "")]), 0)));
        assert_eq!(press(&mut model, KeyCode::Char('y')), Order::Act(action));
    }

    #[test]
    fn only_y_agrees() {
        let mut model = Model::new("x".into(), false, Duration::from_secs(1));
        model.took(Ok(look("", json!([]), 0)));
        for no in [KeyCode::Enter, KeyCode::Char('n'), KeyCode::Esc, KeyCode::Char('p')] {
            assert_eq!(press(&mut model, KeyCode::Char('p')), Order::Nothing);
            assert!(model.question.as_ref().unwrap().0.starts_with("Resume queue a?"));
            assert_eq!(press(&mut model, no), Order::Nothing);
            assert!(model.question.is_none());
        }
    }

    #[test]
    fn figures_are_stale_as_soon_as_a_look_fails_or_none_comes() {
        let mut model = Model::new("x".into(), false, Duration::from_secs(1));
        model.took(Ok(look("", json!([]), 0)));
        let now = Instant::now();
        assert_eq!(model.stale_since(now), None);
        assert!(model.stale_since(now + MIN_FRESH * 2).is_some());
        model.took(Err(Failure::new(Exit::Unreachable, "gone")));
        assert!(model.stale_since(now).is_some());
        model.took(Ok(look("", json!([]), 0)));
        assert_eq!(model.stale_since(Instant::now()), None);
    }

    #[test]
    fn failures_are_counted_by_kind_and_run_by_kind() {
        let mut model = Model::new("x".into(), false, Duration::from_secs(1));
        model.see(View::Failures);
        let rows = json!([
            job("1", "archived", "smtp \"down\""),
            job("2", "retry", "smtp \"down\""),
            job("3", "archived", "other"),
        ]);
        model.took(Ok(look(FAILED, rows, 0)));
        assert_eq!(model.kinds()[0].jobs, 2);
        press(&mut model, KeyCode::Char('r'));
        let query = r#"state:archived state:retry type:"t" error:"smtp \"down\"""#;
        let action = Action::Query(Verb::Run, query.to_owned());
        assert_eq!(press(&mut model, KeyCode::Char('y')), Order::Act(action));
    }

    #[test]
    fn a_rate_needs_two_looks_and_a_counter_that_grows() {
        let (mut first, mut second) = (look("", json!([]), 100), look("", json!([]), 150));
        second.began = first.began + Duration::from_secs(10);
        assert_eq!(rates(&first, &second)["a"], Rate { ended: 5.0, failed: 0.0 });
        std::mem::swap(&mut first.queues, &mut second.queues);
        assert!(!rates(&first, &second).contains_key("a"));
    }
}
