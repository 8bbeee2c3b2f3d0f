//! Reads the ledgers of all processes of a scenario: what was asked for, answered,
//! begun, ended and settled, by the clock since boot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// What the producer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Ok,
    Refused,
    Unknown,
}

/// One enqueue.
#[derive(Clone, Debug)]
pub struct Call {
    pub queue: String,
    pub sent: u64,
    /// When and what; `None` if the producer died in the call.
    pub answer: Option<(u64, Answer)>,
    /// The text of a refusal.
    pub text: String,
}

impl Call {
    pub fn is(&self, answer: Answer) -> bool {
        self.answer.is_some_and(|(_, found)| found == answer)
    }
}

/// One run of a handler.
#[derive(Clone, Debug)]
pub struct Run {
    pub process: u32,
    pub number: u64,
    pub begun: u64,
    /// When and how; `None` if the process died in it, or it still runs.
    pub end: Option<(u64, String)>,
}

impl Run {
    pub fn ended_as(&self, outcome: &str) -> bool {
        self.end.as_ref().is_some_and(|(_, found)| found == outcome)
    }
}

/// An end that Redis has, as the process was told.
#[derive(Clone, Debug)]
pub struct Settled {
    pub process: u32,
    pub at: u64,
    pub transition: String,
}

/// Everything the ledgers of one scenario say.
#[derive(Default)]
pub struct Story {
    pub calls: BTreeMap<String, Call>,
    /// By id, in the order they began.
    pub runs: BTreeMap<String, Vec<Run>>,
    pub settled: HashMap<String, Vec<Settled>>,
    /// The members that a batch stands for.
    pub batches: BTreeMap<String, Vec<String>>,
    /// What operators did: what, status.
    pub operations: Vec<(String, String)>,
    /// Processes that said that they are done, and those that failed.
    pub done: BTreeSet<u32>,
    pub failed: BTreeMap<u32, String>,
}

impl Story {
    /// Reads `<number>.ledger` files.
    pub fn read(dir: &Path) -> Self {
        let mut ledgers = Vec::new();
        for entry in std::fs::read_dir(dir).expect("the scenario's folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "ledger") {
                continue;
            }
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let process = name.parse().expect("a number");
            ledgers.push((process, std::fs::read_to_string(&path).expect("a ledger")));
        }
        Self::of(&ledgers)
    }

    /// What the ledgers of these processes say.
    pub fn of(ledgers: &[(u32, impl AsRef<str>)]) -> Self {
        let mut story = Self::default();
        for (process, text) in ledgers {
            text.as_ref().lines().for_each(|line| story.add(*process, line));
        }
        for runs in story.runs.values_mut() {
            runs.sort_by_key(|run| run.begun);
        }
        story
    }

    fn add(&mut self, process: u32, line: &str) {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let at: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let id = words.next().unwrap_or_default().to_owned();
        let rest: Vec<&str> = words.collect();
        let text = || rest.join(" ");
        match kind {
            "P" => {
                let call = Call { queue: text(), sent: at, answer: None, text: String::new() };
                self.calls.insert(id, call);
            }
            "A" => {
                let answer = match rest.first() {
                    Some(&"ok") => Answer::Ok,
                    Some(&"refused") => Answer::Refused,
                    _ => Answer::Unknown,
                };
                if let Some(call) = self.calls.get_mut(&id) {
                    call.answer = Some((at, answer));
                    call.text = rest[1..].join(" ");
                }
            }
            "B" => {
                let number = rest.first().and_then(|word| word.parse().ok()).unwrap_or(0);
                let run = Run { process, number, begun: at, end: None };
                self.runs.entry(id).or_default().push(run);
            }
            "E" => {
                let number = rest.first().and_then(|word| word.parse().ok()).unwrap_or(0);
                let runs = self.runs.entry(id).or_default();
                let run = runs
                    .iter_mut()
                    .rev()
                    .find(|run| run.process == process && run.number == number);
                if let Some(run) = run {
                    run.end = Some((at, rest[1..].join(" ")));
                }
            }
            "S" => {
                let settled = Settled { process, at, transition: text() };
                self.settled.entry(id).or_default().push(settled);
            }
            "G" => {
                let members = rest.iter().map(|&member| member.to_owned()).collect();
                self.batches.insert(id, members);
            }
            "O" => self.operations.push((id, text())),
            "D" => {
                self.done.insert(process);
            }
            "X" => {
                self.failed.insert(process, format!("{id} {}", text()));
            }
            _ => {}
        }
    }

    /// What the process of this run was told of its end; an attempt before it, or after
    /// it, in the same process has an answer of its own.
    pub fn settlement(&self, id: &str, run: &Run) -> Option<&Settled> {
        let end = run.end.as_ref()?.0;
        let runs = self.runs.get(id).into_iter().flatten();
        let next = runs.filter(|next| next.process == run.process && next.begun > end);
        let next = next.map(|next| next.begun).min().unwrap_or(u64::MAX);
        let told = self.settled.get(id).into_iter().flatten();
        told.filter(|told| told.process == run.process && (end..next).contains(&told.at))
            .min_by_key(|told| told.at)
    }

    /// How many calls were answered so.
    pub fn count(&self, answer: Answer) -> usize {
        self.calls.values().filter(|call| call.is(answer)).count()
    }

    /// Whether a run of the job ended well, alone or in a batch.
    pub fn is_done(&self, id: &str) -> bool {
        let done = |id: &str| {
            self.runs.get(id).is_some_and(|runs| runs.iter().any(|run| run.ended_as("done")))
        };
        done(id)
            || self
                .batches
                .iter()
                .any(|(batch, members)| members.iter().any(|member| member == id) && done(batch))
    }

    /// The longest time without an event, in seconds, between the first and the
    /// last of these instants.
    pub fn longest_gap(instants: impl Iterator<Item = u64>) -> f64 {
        let mut all: Vec<u64> = instants.collect();
        all.sort_unstable();
        let longest = all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        longest as f64 / 1e6
    }

    /// When enqueues were acknowledged, of one queue or all.
    pub fn acknowledged(&self, queue: Option<&str>) -> impl Iterator<Item = u64> {
        self.calls
            .values()
            .filter(move |call| queue.is_none_or(|queue| call.queue == queue))
            .filter_map(|call| call.answer)
            .filter(|(_, answer)| *answer == Answer::Ok)
            .map(|(at, _)| at)
    }

    /// When runs began.
    pub fn begun(&self) -> impl Iterator<Item = u64> {
        self.runs.values().flatten().map(|run| run.begun)
    }
}
