//! Moves everything of a store into another one, directly or through a file.
//!
//! A [`Transfer`] is a store that is moved from or to: jobs in every state with their ids, due
//! times, attempts, errors, results and headers; unique locks and idempotency keys; groups;
//! pauses and counters; claimed ticks and the history of periodic jobs. A file has a line of
//! JSON for each (NDJSON), a first line with the format's version and a last one with counts.
//!
//! Stop producers and workers first. Then a move can be made again after it was interrupted:
//! nothing is overwritten, and what is there already is counted and left alone. [The
//! guide](crate::guide::moving) has the steps.
//!
//! ```
//! use rocket_jobqueue::transfer::Transfer;
//! # use rocket_jobqueue::Error;
//!
//! # #[rocket::main]
//! # async fn main() -> Result<(), Error> {
//! # let folder = std::env::temp_dir().join(format!("transfer-{}", std::process::id()));
//! # #[cfg(feature = "disk")] {
//! let disk = Transfer::disk(folder.join("jobs")).await?;
//! let report = disk.export_file(folder.join("jobs.ndjson")).await?;
//! println!("{report}");
//! # let redis = disk.clone();
//! // Elsewhere: `Transfer::redis("redis://localhost:6379")?`
//! let report = redis.dry_run(true).import_file(folder.join("jobs.ndjson")).await?;
//! assert_eq!(report.conflicts, 0);
//! # }
//! # let _ = std::fs::remove_dir_all(folder);
//! # Ok(())
//! # }
//! ```

mod file;
mod line;
mod report;

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;

use crate::broker::{Broker, Entry, Imported, TRANSFER_PAGE, TRANSFER_PAGE_BYTES};
use crate::client::Client;
use crate::error::Error;
use line::Line;
pub use report::TransferReport;

/// Called with the counts so far after each page.
type Progress = Arc<dyn Fn(&TransferReport) + Send + Sync>;

/// A store to move from or to.
///
/// Create it [`of`](Self::of) a client, by URL ([`redis`](Self::redis)), by folder
/// ([`disk`](Self::disk)), or as an application is configured
/// ([`from_figment`](Self::from_figment)). The setters [`while_running`](Self::while_running),
/// [`dry_run`](Self::dry_run) and [`on_progress`](Self::on_progress) apply to every move from then
/// on. Cloning is cheap.
#[derive(Clone)]
pub struct Transfer {
    broker: Arc<dyn Broker>,
    while_running: bool,
    dry_run: bool,
    progress: Option<Progress>,
}

/// Shows the store, without credentials.
impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transfer({})", self.broker.describe())
    }
}

impl Transfer {
    /// The store of a client.
    pub fn of(client: &Client) -> Self {
        Self::new(client.broker())
    }

    /// This store.
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, while_running: false, dry_run: false, progress: None }
    }

    /// Whether to move although processes are announced that work on this store. Default false:
    /// such a move is an error, because what they change meanwhile may be missed or moved twice.
    pub fn while_running(self, allowed: bool) -> Self {
        Self { while_running: allowed, ..self }
    }

    /// Whether to count only: nothing is stored, and no file is written. Default false. Use it to
    /// see the conflicts before a move.
    pub fn dry_run(self, counts_only: bool) -> Self {
        Self { dry_run: counts_only, ..self }
    }

    /// Calls this after each page, with the counts so far.
    pub fn on_progress(self, call: impl Fn(&TransferReport) + Send + Sync + 'static) -> Self {
        Self { progress: Some(Arc::new(call)), ..self }
    }

    /// Writes everything in this store, one line of JSON for each entry. It keeps one page of jobs
    /// in memory, and blocks its thread while it writes.
    ///
    /// # Errors
    /// [`Error::is_wrong_state`] if processes are announced that work on the store; the
    /// store's errors; [`Error::is_refused`] if writing fails.
    pub async fn export(&self, mut to: impl Write + Send) -> Result<TransferReport, Error> {
        self.expect_idle().await?;
        let (mut export, mut report) = (self.broker.export(), TransferReport::default());
        let mut write = |line: &Line| -> Result<(), Error> {
            let mut text = line.to_json();
            text.push(b'\n');
            to.write_all(&text).map_err(|error| file::failed("writing the export", &error))
        };
        if !self.dry_run {
            write(&Line::begin(self.broker.now(), self.broker.describe()))?;
        }
        while let Some(page) = export.next_page().await? {
            for entry in page {
                report.read(&entry);
                if let Some(line) = Line::of(entry).filter(|_| !self.dry_run) {
                    write(&line)?;
                }
            }
            self.tell(&report);
        }
        if !self.dry_run {
            write(&Line::end(&report))?;
            to.flush().map_err(|error| file::failed("writing the export", &error))?;
        }
        Ok(report)
    }

    /// [Exports](Self::export) into a new file, which only its owner can read (mode 0600), because
    /// it holds payloads. Until the file is complete, its name ends in `.part`.
    ///
    /// # Errors
    /// Also if there is a file of this name.
    pub async fn export_file(&self, path: impl AsRef<Path>) -> Result<TransferReport, Error> {
        if self.dry_run {
            return self.export(std::io::sink()).await;
        }
        let new = file::NewFile::create(path.as_ref())?;
        let report = self.export(std::io::BufWriter::new(new.file())).await?;
        new.finish()?;
        Ok(report)
    }

    /// Stores what an export wrote. An entry that is there already is compared: if it is the same,
    /// it counts as [`already_there`](TransferReport::already_there), otherwise as one of the
    /// [`conflicts`](TransferReport::conflicts), and it is left as it is. So an import that was
    /// interrupted can simply be made again.
    ///
    /// # Errors
    /// [`Error::is_invalid`] with the number of the line for text that is not of this version's
    /// format, and at the end if the closing line is missing or its counts differ: the file was
    /// cut. The lines before are stored then. Otherwise as of [`export`](Self::export).
    pub async fn import(&self, mut from: impl BufRead + Send) -> Result<TransferReport, Error> {
        self.expect_idle().await?;
        let mut lines = line::Lines::new(&mut from);
        lines.begin()?;
        let mut report = TransferReport::default();
        let (mut page, mut bytes) = (Vec::new(), 0);
        loop {
            let next = lines.next()?;
            let is_end = next.is_none();
            if let Some((number, length, entry)) = next {
                report.read(&entry);
                bytes += length;
                page.push((number, entry));
            }
            if is_end || page.len() >= TRANSFER_PAGE || bytes >= TRANSFER_PAGE_BYTES {
                self.store(std::mem::take(&mut page), &mut report).await?;
                bytes = 0;
                self.tell(&report);
            }
            if is_end {
                lines.expect_counts(&report)?;
                return Ok(report);
            }
        }
    }

    /// [Imports](Self::import) a file. Its closing line is looked for first, so a file that was cut
    /// off stores nothing.
    ///
    /// # Errors
    /// Also if the file cannot be read.
    pub async fn import_file(&self, path: impl AsRef<Path>) -> Result<TransferReport, Error> {
        let file = file::open_whole(path.as_ref())?;
        self.import(std::io::BufReader::new(file)).await
    }

    /// Moves everything in this store to another one, without a file between them; this store keeps
    /// it too. Dry run and progress are taken from the settings of `to`. Whether running processes
    /// are allowed is asked of each store for itself.
    ///
    /// # Errors
    /// As of [`export`](Self::export) and [`import`](Self::import).
    pub async fn copy_to(&self, to: &Transfer) -> Result<TransferReport, Error> {
        self.expect_idle().await?;
        to.expect_idle().await?;
        let (mut export, mut report) = (self.broker.export(), TransferReport::default());
        while let Some(page) = export.next_page().await? {
            page.iter().for_each(|entry| report.read(entry));
            let page = page.into_iter().filter(|entry| !matches!(entry, Entry::Unreadable { .. }));
            to.store(page.map(|entry| (0, entry)).collect(), &mut report).await?;
            to.tell(&report);
        }
        Ok(report)
    }

    /// Stores one page, and counts the results. Each entry comes with the number of its line, for
    /// the description of a conflict; 0 if there is no file.
    async fn store(
        &self,
        page: Vec<(u64, Entry)>,
        report: &mut TransferReport,
    ) -> Result<(), Error> {
        let (numbers, entries): (Vec<u64>, Vec<Entry>) = page.into_iter().unzip();
        let results = self.broker.import(&entries, self.dry_run).await?;
        for (number, result) in numbers.into_iter().zip(results) {
            match result {
                Imported::New => report.new += 1,
                Imported::AlreadyThere => report.already_there += 1,
                Imported::Expired => report.expired += 1,
                Imported::Conflict(what) => {
                    report.conflicts += 1;
                    report.note(number, what);
                }
            }
        }
        Ok(())
    }

    /// Reports the counts to the caller.
    fn tell(&self, report: &TransferReport) {
        if let Some(progress) = &self.progress {
            progress(report);
        }
    }

    /// Refuses to move while workers run, unless that is allowed. An announcement that cannot be
    /// read counts as a worker: a newer version may have written it.
    ///
    /// # Errors
    /// [`Error::is_wrong_state`] if processes are announced that work on the store.
    async fn expect_idle(&self) -> Result<(), Error> {
        if self.while_running {
            return Ok(());
        }
        let found = self.broker.servers().await?;
        let servers = found.servers;
        let Some(one) = servers.first() else {
            return match found.unreadable {
                0 => Ok(()),
                unreadable => Err(Error::wrong_state(format!(
                    "store {}: expected no worker process, found {unreadable} with announcements \
                     that this version cannot read: stop producers and workers first, or allow a \
                     move while they run",
                    self.broker.describe(),
                ))),
            };
        };
        Err(Error::wrong_state(format!(
            "store {}: expected no worker process, found {} (host {}, process {}): stop producers \
             and workers first, or allow a move while they run",
            self.broker.describe(),
            servers.len(),
            one.host,
            one.pid
        )))
    }
}
