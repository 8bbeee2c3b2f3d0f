//! What stands before a change: it is said first, and somebody agrees.
//!
//! On a terminal the question is asked; in a script `--yes` answers it, and without `--yes` nothing
//! happens. `--dry-run` says what would be done, and does nothing.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;

use crate::failure::{Exit, Failure, Outcome};
use crate::text::escaped;

/// The options of all commands that change something.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do it without a question
    #[arg(long, short = 'y')]
    pub yes: bool,
}

impl Change {
    /// Asks with a line that names what is done, unless `--yes` has answered.
    ///
    /// # Errors
    /// [`Exit::Refused`] if nobody agrees, or nobody can be asked.
    pub fn confirm(self, question: &str) -> Outcome {
        self.ask(&format!("{question} [y/N] "), &["y", "Y", "yes"])
    }

    /// Asks for a word, for what cannot be undone.
    pub fn confirm_by(self, question: &str, word: &str) -> Outcome {
        self.ask(&format!("{question}\nType {word} to go on: "), &[word])
    }

    fn ask(self, question: &str, agreed: &[&str]) -> Outcome {
        if self.yes {
            return Ok(());
        }
        let refused =
            |why: &str| Err(Failure::new(Exit::Refused, format!("nothing was done: {why}")));
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            let first = question.lines().next().unwrap_or_default().trim_end_matches(" [y/N] ");
            return refused(&format!("{first} Nobody can be asked here; --yes agrees"));
        }
        let lines: Vec<_> = question.split('\n').map(escaped).collect();
        eprint!("{}", lines.join("\n"));
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        match agreed.contains(&answer.trim()) {
            true => Ok(()),
            false => refused("it was not confirmed"),
        }
    }
}
