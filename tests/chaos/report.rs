//! The result of one scenario: figures, and promises that did not hold.

use crate::checker::Figures;
use crate::ledger::Story;

/// Maximum number of entries that are shown of each list.
const SHOWN: usize = 5;

/// Filled by a scenario.
#[derive(Default)]
pub struct Report {
    pub figures: Figures,
    /// The longest time without an acknowledged enqueue, in seconds.
    pub gap: f64,
    /// More figures, as text.
    pub more: Vec<String>,
    /// Promises that did not hold; none: the scenario passed.
    pub failures: Vec<String>,
}

impl Report {
    /// Takes the checker's figures and fails for each that should be 0.
    pub fn take(&mut self, figures: Figures, story: &Story) {
        self.gap = Story::longest_gap(story.acknowledged(None));
        self.figures = figures;
        let lists = [
            ("lost", &self.figures.lost),
            ("run again without a reason", &self.figures.duplicates),
            ("run side by side", &self.figures.overlaps),
            ("", &self.figures.violations),
        ];
        let mut failures = Vec::new();
        for (what, list) in lists {
            if what.is_empty() {
                failures.extend(list.iter().take(SHOWN).cloned());
                if list.len() > SHOWN {
                    failures.push(format!("and {} more like that", list.len() - SHOWN));
                }
            } else if !list.is_empty() {
                let some = list.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
                failures.push(format!("{} {what}: {some} …", list.len()));
            }
        }
        for (process, error) in &story.failed {
            failures.push(format!("process {process} failed: {error}"));
        }
        self.failures.extend(failures);
    }

    /// A promise of this scenario.
    pub fn expect(&mut self, holds: bool, promise: impl Into<String>) {
        if !holds {
            self.failures.push(promise.into());
        }
    }

    pub fn fail(&mut self, what: impl Into<String>) {
        self.failures.push(what.into());
    }

    /// A figure for the table.
    pub fn figure(&mut self, text: impl Into<String>) {
        self.more.push(text.into());
    }

    /// A figure with its bound, which it must not exceed.
    pub fn at_most(&mut self, what: &str, found: f64, most: f64) {
        self.figure(format!("{what} {found:.1} s"));
        self.expect(found <= most, format!("{what}: {found:.1} s, at most {most:.1} s"));
    }

    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}
