//! Moves everything of a job queue's store into another one, or into a file and back.
//!
//! ```sh
//! cargo run --example move -- export redis://localhost:6379 jobs.ndjson
//! cargo run --example move -- import jobs.ndjson data/jobqueue --dry-run
//! cargo run --example move -- copy data/jobqueue redis://localhost:6379
//! ```
//!
//! A store is a Redis URL, the folder of a store on disk, or `configured`: what `Rocket.toml`,
//! `config/` and the variables of this folder say, which may be a Cluster or Sentinels. A file
//! is its path, or `-` for standard output and input. Stop producers and workers first.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

use std::io::{IsTerminal, stdin, stdout};
use std::process::ExitCode;

use rocket_jobqueue::transfer::{Transfer, TransferReport};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: move export STORE FILE | import FILE STORE | copy STORE STORE
            [--dry-run] [--while-running]
STORE: redis://host:port, the folder of a store on disk, or `configured`
FILE:  a path, or - for standard output and input";

/// What the command line says.
struct Order {
    command: String,
    from: String,
    to: String,
    dry_run: bool,
    while_running: bool,
}

impl Order {
    fn read(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let (flags, words): (Vec<_>, Vec<_>) =
            arguments.partition(|argument| argument.starts_with("--"));
        let known = ["--dry-run", "--while-running"];
        let has = |flag: &str| flags.iter().any(|found| found == flag);
        if flags.iter().any(|flag| !known.contains(&flag.as_str())) {
            return None;
        }
        let (dry_run, while_running) = (has(known[0]), has(known[1]));
        let [command, from, to] = words.try_into().ok()?;
        Some(Self { command, from, to, dry_run, while_running })
    }

    /// Opens the store that is moved from. A folder must exist: one that is misspelt would be made,
    /// and empty.
    async fn source(&self, name: &str) -> Result<Transfer, Failure> {
        let is_folder = name != "configured" && !name.contains("://");
        if is_folder && !std::path::Path::new(name).is_dir() {
            return Err(
                format!("{name}: expected the folder of a store on disk, found none").into()
            );
        }
        self.store(name).await
    }

    /// Opens the store that is moved to.
    async fn target(&self, name: &str) -> Result<Transfer, Failure> {
        // `localhost:6379` or `redis:/…` would become a folder.
        let is_new = !std::path::Path::new(name).exists();
        if name != "configured" && !name.contains("://") && name.contains(':') && is_new {
            let expected = "expected redis://host:port, or a folder without a colon in its name";
            return Err(format!("{name}: {expected}").into());
        }
        self.store(name).await
    }

    /// Opens a store.
    async fn store(&self, name: &str) -> Result<Transfer, Failure> {
        let store = match name {
            "configured" => Transfer::from_figment(&rocket::Config::figment()).await,
            url if url.contains("://") => Transfer::redis(url),
            folder => Transfer::disk(folder).await,
        };
        // There may be two of them, and a URL is not repeated: it may have a password.
        let which = if name == self.from { "store to move from" } else { "store to move to" };
        let store = store.map_err(|error| format!("{which}: {error}"))?;
        let store = store.dry_run(self.dry_run).while_running(self.while_running);
        // One line that is written again and again, for a person.
        let shown = std::io::stderr().is_terminal();
        Ok(store.on_progress(move |report| {
            if shown {
                eprint!("\r{report}   ");
            }
        }))
    }

    async fn carry_out(&self) -> Result<Option<TransferReport>, Failure> {
        Ok(Some(match self.command.as_str() {
            "export" => {
                let from = self.source(&self.from).await?;
                match self.to.as_str() {
                    "-" => from.export(std::io::BufWriter::new(stdout())).await?,
                    path => from.export_file(path).await?,
                }
            }
            "import" => {
                let to = self.target(&self.to).await?;
                match self.from.as_str() {
                    "-" => to.import(std::io::BufReader::new(stdin())).await?,
                    path => to.import_file(path).await?,
                }
            }
            "copy" => {
                let from = self.source(&self.from).await?;
                from.copy_to(&self.target(&self.to).await?).await?
            }
            _ => return Ok(None),
        }))
    }
}

#[rocket::main]
async fn main() -> ExitCode {
    let Some(order) = Order::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match order.carry_out().await {
        Ok(None) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Ok(Some(report)) => {
            if std::io::stderr().is_terminal() {
                eprintln!();
            }
            for problem in &report.problems {
                eprintln!("{problem}");
            }
            let done = if order.dry_run { "would be done" } else { "done" };
            eprintln!("{done}: {report}");
            match report.conflicts + report.unreadable {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
