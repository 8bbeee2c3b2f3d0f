//! The command line. What its help says is also the manual page.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::confirm::Change;
use crate::connect::Connect;
use crate::store::Then;
use crate::text::duration;

/// Look at a job queue, act on it and repair it.
///
/// A store is reached directly (Redis, Cluster, Sentinel, or a folder on disk) or through the REST
/// interface of an application. Without an option it is the store that the application in this folder
/// is configured for.
#[derive(Parser, Debug)]
#[command(name = "jobqueue", version, max_term_width = 100, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub connect: Connect,
    /// Print JSON, with the names of the REST interface
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "\
Exit status: 0 done, 1 failed, 2 wrong command line or value, 3 not found, 4 refused or not confirmed,
5 unreachable, 6 bad (the watched job was archived, the doctor has findings, an alert holds), 7 the watched job is gone,
8 --timeout passed.

Variables: JOBQUEUE_URL, JOBQUEUE_API, JOBQUEUE_TOKEN, NO_COLOR; those of the application's configuration.";

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Queues
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Jobs
    #[command(subcommand)]
    Job(JobCommand),
    /// Periodic jobs
    #[command(subcommand)]
    Periodic(PeriodicCommand),
    /// Worker processes
    #[command(subcommand)]
    Worker(WorkerCommand),
    /// The queues, today's counts, the workers and the store at a glance
    Stats,
    /// What needs attention; exit status 6 if anything does
    Alerts,
    /// The queue live on the whole screen, with keys to act
    Top {
        /// Between two looks, at least 1s
        #[arg(long, default_value = "1s", value_parser = interval)]
        interval: Duration,
    },
    /// Follow a job to its end: exit status 0 completed, 6 archived, 7 gone, 8 timeout
    Watch(Watch),
    /// Search the store for what no operation leaves behind
    Doctor {
        /// Repair what can be repaired; jobs that are in no list may run a second time
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Write everything in the store to a new file, or to standard output (-)
    Export {
        file: PathBuf,
        /// Although processes work on the store
        #[arg(long)]
        while_running: bool,
        /// Count only
        #[arg(long)]
        dry_run: bool,
    },
    /// Store what an export wrote, from a file or from standard input (-)
    Import {
        file: PathBuf,
        /// Although processes work on the store
        #[arg(long)]
        while_running: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Print a script that completes commands in a shell
    Completion { shell: Shell },
    /// Print the manual page
    Man,
}

/// How often `top` looks. A look at many queues is not free.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    match (1..=60).contains(&interval.as_secs()) {
        true => Ok(interval),
        false => Err(format!("expected 1s to 60s, found {text:?}")),
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum QueueCommand {
    /// All queues with their sizes
    #[command(visible_alias = "ls")]
    List,
    /// One queue: sizes, counters, the last hour
    Show { queue: String },
    /// Attempts by day
    History {
        queue: String,
        /// Days, today included
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=90))]
        days: u32,
    },
    /// The groups of jobs that wait to be aggregated
    Groups { queue: String },
    /// Workers dequeue no more jobs; jobs in flight go on
    Pause {
        #[arg(required = true)]
        queues: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Workers dequeue jobs again
    Resume {
        #[arg(required = true)]
        queues: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Delete an empty queue
    Delete {
        queue: String,
        /// Also with its jobs, if none of them runs
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        change: Change,
    },
}

/// Jobs by id, by query or by group.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// Their ids
    #[arg(required_unless_present_any = ["query", "group"], conflicts_with_all = ["query", "group"])]
    pub ids: Vec<String>,
    /// The queue of these ids or of the group; ids are otherwise searched in all queues
    #[arg(long, short = 'q')]
    pub queue: Option<String>,
    /// All jobs that match terms such as 'state:archived type:mail:send'
    #[arg(long, conflicts_with_all = ["queue", "group"])]
    pub query: Option<String>,
    /// All jobs that wait in this group
    #[arg(long, requires = "queue")]
    pub group: Option<String>,
}

/// One job.
#[derive(Args, Debug)]
pub(crate) struct One {
    /// Its id
    pub id: String,
    /// Its queue; otherwise it is searched in all queues
    #[arg(long, short = 'q')]
    pub queue: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum JobCommand {
    /// Jobs of all queues that match terms: queue: state: type: id: error: version: since: until: and text
    #[command(visible_alias = "ls")]
    List {
        /// Terms, such as state:archived 'error:"timed out"'; without any, all jobs
        terms: Vec<String>,
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// All of them
        #[arg(long, conflicts_with = "limit")]
        all: bool,
        /// The jobs that wait in this group of --queue, instead of a search
        #[arg(long, requires = "queue", conflicts_with = "terms")]
        group: Option<String>,
        /// The queue of --group
        #[arg(long, short = 'q', requires = "group")]
        queue: Option<String>,
    },
    /// One job: its state, why it is not running, payload, result and failures
    Show(One),
    /// Why a job is not running
    Explain(One),
    /// Make jobs pending now
    Run {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// Archive jobs: no worker runs them
    Archive {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// Delete jobs
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// End the running attempts of jobs
    Cancel {
        #[command(flatten)]
        which: Which,
        /// What becomes of them
        #[arg(long, value_enum, default_value_t = Then::Retry)]
        then: Then,
        #[command(flatten)]
        change: Change,
    },
    /// Replace the payload of a job that does not run; without --payload or --file, in $EDITOR
    Edit {
        #[command(flatten)]
        job: One,
        #[command(flatten)]
        payload: Payload,
        #[command(flatten)]
        change: Change,
    },
    /// Enqueue a job; through --api of a registered type
    Enqueue {
        /// Its type, such as mail:send
        job_type: String,
        #[command(flatten)]
        payload: Payload,
        /// Instead of the queue of the type, or of `default`
        #[arg(long, short = 'q')]
        queue: Option<String>,
        /// Due this long from now
        #[arg(long, value_parser = duration)]
        delay: Option<Duration>,
        /// Maximum retries
        #[arg(long)]
        max_retry: Option<u32>,
        /// Archived unless it has started this long after it is due
        #[arg(long, value_parser = duration)]
        expires: Option<Duration>,
        /// No other job of this type and payload for this long
        #[arg(long, value_parser = duration)]
        unique: Option<Duration>,
        #[command(flatten)]
        change: Change,
    },
}

/// A payload. On the command line others see it while the command runs.
#[derive(Args, Debug, Default)]
#[group(multiple = false)]
pub(crate) struct Payload {
    /// The payload, such as '{"user":7}'
    #[arg(long)]
    pub payload: Option<String>,
    /// A file that is the payload, or standard input (-)
    #[arg(long)]
    pub file: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum PeriodicCommand {
    /// Periodic jobs of all running processes
    #[command(visible_alias = "ls")]
    List,
    /// The runs of one, the newest first
    Runs {
        /// Its id, as listed
        id: String,
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// Run one now; its schedule does not change
    Run {
        /// Its id, as listed
        id: String,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum WorkerCommand {
    /// Worker processes and the jobs they run
    #[command(visible_alias = "ls")]
    List,
    /// Dequeue no more jobs; those in flight run to their end
    Quiet {
        #[command(flatten)]
        workers: Workers,
        #[command(flatten)]
        change: Change,
    },
    /// Dequeue jobs again
    Resume {
        #[command(flatten)]
        workers: Workers,
        #[command(flatten)]
        change: Change,
    },
    /// Change slots and queue weights while the process runs
    Scale {
        #[command(flatten)]
        workers: Workers,
        /// Concurrent jobs, at most the process's concurrency_max; `configured` as before
        #[arg(long, short = 'c', required_unless_present = "weights")]
        concurrency: Option<Setting>,
        /// QUEUE=WEIGHT, 0 to serve it no more, `configured` as before; may be repeated
        #[arg(long = "weight", short = 'w', value_name = "QUEUE=WEIGHT", value_parser = weight)]
        weights: Vec<(String, Setting)>,
        /// Ends after this long instead of with the process; of --all it then holds for new ones too
        #[arg(long, value_parser = duration)]
        lasting: Option<Duration>,
        #[command(flatten)]
        change: Change,
    },
}

/// Worker processes.
#[derive(Args, Debug)]
pub(crate) struct Workers {
    /// Their ids, as listed
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// Every process
    #[arg(long)]
    pub all: bool,
}

/// A number, or as the process is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting(pub Option<u32>);

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "configured" {
            return Ok(Self(None));
        }
        let number =
            text.parse().map_err(|_| format!("expected a number or configured, found {text:?}"));
        number.map(|number| Self(Some(number)))
    }
}

fn weight(text: &str) -> Result<(String, Setting), String> {
    let (queue, weight) =
        text.rsplit_once('=').ok_or_else(|| format!("expected QUEUE=WEIGHT, found {text:?}"))?;
    Ok((queue.to_owned(), weight.parse()?))
}

#[derive(Args, Debug)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub job: One,
    /// Give up after this long
    #[arg(long, value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Count a job that is gone as success: types without retention leave nothing
    #[arg(long)]
    pub gone_is_success: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The words of a line, with the quotes that the manual uses.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut quoted) = (vec![String::new()], false);
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words
    }

    #[test]
    fn every_command_of_the_manual_is_one() {
        Cli::command().debug_assert();
        let (manual, mut seen) = (include_str!("../../docs/terminal.md"), Vec::new());
        for block in manual.split("```sh\n").skip(1) {
            let lines = block.split("```").next().unwrap().lines();
            for line in lines.filter(|line| !line.is_empty()) {
                let cli = Cli::try_parse_from(words(line));
                assert!(cli.is_ok(), "{line}: {}", cli.unwrap_err());
                seen.push(line);
            }
        }
        // And every command is in the manual.
        for noun in Cli::command().get_subcommands() {
            let mut below = noun.get_subcommands().peekable();
            let names: Vec<String> = match below.peek() {
                None => vec![noun.get_name().to_owned()],
                Some(_) => {
                    below.map(|verb| format!("{} {}", noun.get_name(), verb.get_name())).collect()
                }
            };
            for name in names {
                let start = format!("jobqueue {name}");
                assert!(
                    seen.iter().any(|line| line.starts_with(&start)),
                    "the manual lacks {start}"
                );
            }
        }
    }
}
