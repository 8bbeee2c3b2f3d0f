//! The counts, as a file for people to read in a diff, and their comparison.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, server, valgrind};

/// How much a count may grow, in percent: tables with random seeds vary by less.
const TOLERANCE: u64 = 5;

/// From how much on a difference is printed, in percent.
const SHOWN: f64 = 2.0;

const HEAD: &str = "\
# What work costs by count; tests/costs/main.rs says how. Written, not edited:
#     cargo test --all-features --test costs -- --write
# commands: Redis commands of all calls of a step, those of scripts included.
# script: the server's instructions in scripts, for each job or call of a step.
# function: instructions of a function, built as tests are.
";

/// How often each command ran.
pub type Commands = BTreeMap<String, u64>;

/// Everything that was counted here.
pub struct Counts {
    /// What the instructions of functions depend on.
    compiler: String,
    /// What all instructions depend on.
    machine: String,
    /// What the instructions of scripts depend on.
    server: String,
    pub commands: Vec<(String, Commands)>,
    pub scripts: Vec<(String, u64)>,
    pub functions: Vec<(String, u64)>,
}

impl Counts {
    /// Nothing is counted yet, on this machine.
    pub fn here() -> Outcome<Self> {
        Ok(Self {
            compiler: said("rustc", &["--version"])?,
            machine: format!(
                "{} {}, {}, avx2 {}",
                std::env::consts::ARCH,
                said("getconf", &["GNU_LIBC_VERSION"])?,
                valgrind::version()?,
                if has_avx2() { "yes" } else { "no" },
            ),
            server: server::version()?,
            commands: Vec::new(),
            scripts: Vec::new(),
            functions: Vec::new(),
        })
    }

    pub fn write(&self, path: &Path) -> Outcome<()> {
        std::fs::write(path, self.text())?;
        println!("written: {}", path.display());
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let mut line = |kind: &str, name: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{kind} | {name} | {value}");
        };
        line("made with", "compiler", &self.compiler);
        line("made with", "machine", &self.machine);
        line("made with", "server", &self.server);
        for (step, commands) in &self.commands {
            let each = commands.iter().map(|(name, calls)| format!("{name} {calls}"));
            line("commands", step, &each.collect::<Vec<_>>().join(", "));
        }
        for (kind, counts) in [("script", &self.scripts), ("function", &self.functions)] {
            for (name, count) in counts {
                line(kind, name, count);
            }
        }
        text
    }

    /// Prints every count beside the baseline's; whether none grew too much.
    pub fn compare(&self, path: &Path) -> Outcome<bool> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}; --write makes it", path.display()))?;
        let baseline = Baseline::read(&text)?;
        let mut report = Report::default();
        for (step, commands) in &self.commands {
            let known = baseline.commands(step);
            for (name, count) in commands {
                let before = known.as_ref().map(|known| known.get(name).copied().unwrap_or(0));
                report.judge(&format!("commands of \"{step}\": {name}"), *count, before, true);
            }
        }
        let same = |name: &str, here: &str| baseline.find("made with", name) == Some(here);
        let (compiler, machine) =
            (same("compiler", &self.compiler), same("machine", &self.machine));
        let server = same("server", &self.server);
        for (kind, counts, judged, here) in [
            ("script", &self.scripts, machine && server, &self.server),
            ("function", &self.functions, machine && compiler, &self.compiler),
        ] {
            if !judged {
                println!(
                    "{kind}: reported, not judged: here is {here}, {}; the baseline has {}, {}",
                    self.machine,
                    baseline
                        .find("made with", if kind == "script" { "server" } else { "compiler" })
                        .unwrap_or("none"),
                    baseline.find("made with", "machine").unwrap_or("none"),
                );
            }
            for (name, count) in counts {
                let before = baseline.find(kind, name).and_then(|count| count.parse().ok());
                report.judge(&format!("{kind} \"{name}\""), *count, before, judged);
            }
        }
        for (kind, name) in baseline.names() {
            let counted = match kind {
                "commands" => self.commands.iter().any(|(step, _)| step == name),
                "script" => self.scripts.iter().any(|(step, _)| step == name),
                _ => self.functions.iter().any(|(function, _)| function == name),
            };
            if !counted {
                report
                    .fail(format!("{kind} \"{name}\": in the baseline, but not counted any more"));
            }
        }
        Ok(report.end())
    }
}

/// What was judged.
#[derive(Default)]
struct Report {
    judged: usize,
    lower: usize,
    failures: Vec<String>,
}

impl Report {
    fn judge(&mut self, what: &str, count: u64, before: Option<u64>, judged: bool) {
        let Some(before) = before else {
            return self.fail(format!("{what}: {count}, not in the baseline"));
        };
        let grown = (count as f64 - before as f64) / (before.max(1) as f64) * 100.0;
        if grown.abs() >= SHOWN {
            println!("{what}: {before} → {count} ({grown:+.1} %)");
        }
        if !judged {
            return;
        }
        self.judged += 1;
        if grown > TOLERANCE as f64 {
            self.fail(format!("{what}: {before} → {count} ({grown:+.1} %)"));
        } else if grown < -(TOLERANCE as f64) {
            self.lower += 1;
        }
    }

    fn fail(&mut self, text: String) {
        self.failures.push(text);
    }

    fn end(self) -> bool {
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        if self.lower > 0 {
            println!("{} counts are lower than the baseline: --write keeps that", self.lower);
        }
        if !self.failures.is_empty() {
            println!("more than {TOLERANCE} % is too much; on purpose: --write, and say why");
        }
        println!("costs: {} counts judged, {} failed", self.judged, self.failures.len());
        self.failures.is_empty()
    }
}

/// The lines of the file.
struct Baseline<'a>(Vec<[&'a str; 3]>);

impl<'a> Baseline<'a> {
    fn read(text: &'a str) -> Outcome<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let read = |line: &'a str| {
            let mut parts = line.splitn(3, " | ");
            match (parts.next(), parts.next(), parts.next()) {
                (Some(kind), Some(name), Some(value)) => Ok([kind, name, value]),
                _ => Err(format!("baseline: expected \"kind | name | value\", found {line:?}")),
            }
        };
        Ok(Self(lines.map(read).collect::<Result<_, _>>()?))
    }

    fn find(&self, kind: &str, name: &str) -> Option<&'a str> {
        self.0.iter().find(|line| line[0] == kind && line[1] == name).map(|line| line[2])
    }

    fn commands(&self, step: &str) -> Option<Commands> {
        let each = self.find("commands", step)?.split(", ");
        let count = |one: &str| {
            let (name, calls) = one.rsplit_once(' ')?;
            Some((name.to_owned(), calls.parse().ok()?))
        };
        each.filter(|one| !one.is_empty()).map(count).collect()
    }

    fn names(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter(|line| line[0] != "made with").map(|line| (line[0], line[1]))
    }
}

/// What a program prints, in one line.
fn said(program: &str, args: &[&str]) -> Outcome<String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program} does not start: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether valgrind can show programs a processor with AVX2, which some of them look for.
fn has_avx2() -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.split_whitespace().any(|word| word == "avx2")
}
