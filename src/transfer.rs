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
//! ```no_run
//! use rocket_jobqueue::transfer::Transfer;
//! # use rocket_jobqueue::Error;
//!
//! # #[cfg(feature = "disk")]
//! # async fn move_all() -> Result<(), Error> {
//! let disk = Transfer::disk("data/jobqueue").await?;
//! let redis = Transfer::redis("redis://localhost:6379")?;
//! let counted = disk.copy_to(&redis.clone().dry_run(true)).await?;
//! assert_eq!(counted.conflicts, 0);
//! println!("{}", disk.copy_to(&redis).await?);
//! # Ok(())
//! # }
//! ```

mod file;
mod job_line;
mod line;
mod lines;
mod report;
mod store;
mod values;

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;

use crate::broker::{Broker, Entry, Imported, TRANSFER_PAGE, TRANSFER_PAGE_BYTES};
use crate::client::Client;
use crate::error::Error;
use line::Line;
pub use report::TransferReport;
pub(crate) use store::Opening;
use store::Store;

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
    store: Store,
    while_running: bool,
    dry_run: bool,
    progress: Option<Progress>,
}

/// Shows the store, without credentials.
impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transfer({})", self.store.describe())
    }
}

impl Transfer {
    /// The store of a client.
    pub fn of(client: &Client) -> Self {
        Self::new(client.broker())
    }

    /// This store.
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self::with(Store::Open(broker))
    }

    /// A store that does not exist. `open` makes it once something is stored there; until then it
    /// is as empty as `none`.
    pub(crate) fn not_made(
        description: String,
        none: Arc<dyn Broker>,
        open: impl Fn() -> Opening + Send + Sync + 'static,
    ) -> Self {
        Self::with(Store::not_made(description, none, open))
    }

    fn with(store: Store) -> Self {
        Self { store, while_running: false, dry_run: false, progress: None }
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
    /// in memory, and blocks its thread while it writes. A job whose line would be longer
    /// than 256 MiB is reported and left out, as one that cannot be read is.
    ///
    /// # Errors
    /// [`Error::is_wrong_state`] if processes are announced that work on the store, or if its data
    /// has a format that this version does not know; if there is no store; the store's errors, which
    /// name it;
    /// [`Error::is_refused`] if writing fails.
    pub async fn export(&self, mut to: impl Write + Send) -> Result<TransferReport, Error> {
        let broker = self.source().await?;
        let (mut export, mut report) = (broker.export(), TransferReport::default());
        let mut write = |text: &[u8]| -> Result<(), Error> {
            let written = to.write_all(text).and_then(|()| to.write_all(b"\n"));
            written.map_err(|error| file::failed("writing the export", &error))
        };
        if !self.dry_run {
            write(&Line::begin(broker.now(), broker.describe()).to_json())?;
        }
        while let Some(page) = self.named(export.next_page().await)? {
            for entry in page {
                report.read(&entry);
                let Some(line) = Line::of(entry) else { continue };
                let text = line.to_json();
                if text.len() > lines::MAX_LINE_BYTES {
                    report.too_long(&line, text.len());
                } else if !self.dry_run {
                    write(&text)?;
                }
            }
            self.tell(&report);
        }
        if !self.dry_run {
            write(&Line::end(&report).to_json())?;
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
    /// format or longer than 256 MiB, and at the end if the closing line is missing or its counts differ: the file was
    /// cut. The lines before are stored then. Otherwise as of [`export`](Self::export).
    pub async fn import(&self, mut from: impl BufRead + Send) -> Result<TransferReport, Error> {
        let broker = self.target().await?;
        let mut lines = lines::Lines::new(&mut from);
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
                self.store(&*broker, std::mem::take(&mut page), &mut report).await?;
                bytes = 0;
                self.tell(&report);
            }
            if is_end {
                lines.expect_counts(&report)?;
                return Ok(report);
            }
        }
    }

    /// [Imports](Self::import) a file, if it begins and ends with the lines of an export: a file
    /// that was cut, or of another kind, stores nothing.
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
        let (from, target) = (self.source().await?, to.target().await?);
        let (mut export, mut report) = (from.export(), TransferReport::default());
        while let Some(page) = self.named(export.next_page().await)? {
            page.iter().for_each(|entry| report.read(entry));
            let page = page.into_iter().filter(|entry| !matches!(entry, Entry::Unreadable { .. }));
            to.store(&*target, page.map(|entry| (0, entry)).collect(), &mut report).await?;
            to.tell(&report);
        }
        Ok(report)
    }

    /// Stores one page, and counts the results. Each entry comes with the number of its line, for
    /// the description of a conflict; 0 if there is no file.
    async fn store(
        &self,
        broker: &dyn Broker,
        page: Vec<(u64, Entry)>,
        report: &mut TransferReport,
    ) -> Result<(), Error> {
        let (numbers, entries): (Vec<u64>, Vec<Entry>) = page.into_iter().unzip();
        let results = self.named(broker.import(&entries, self.dry_run).await)?;
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

    /// The store to move from, which is not changed. A wrong path must not look like an empty store.
    async fn source(&self) -> Result<Arc<dyn Broker>, Error> {
        if self.store.is_missing() {
            let found = Error::config("expected a store to move from, found none");
            return self.named(Err(found));
        }
        self.reader().await
    }

    /// The store as it is, empty if it does not exist.
    async fn reader(&self) -> Result<Arc<dyn Broker>, Error> {
        let broker = self.store.to_read();
        self.named(self.expect_ready(&*broker).await)?;
        Ok(broker)
    }

    /// The store to move to. It is made if it does not exist, but not to count.
    async fn target(&self) -> Result<Arc<dyn Broker>, Error> {
        if self.dry_run {
            return self.reader().await;
        }
        let broker = self.named(self.store.to_write().await)?;
        self.named(self.expect_ready(&*broker).await)?;
        Ok(broker)
    }

    /// Names this store in an error of its own: a move has two.
    fn named<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        let name = |words: &str| format!("store {}: {words}", self.store.describe());
        result.map_err(|error| error.reworded(name))
    }

    /// Refuses to move data in an unknown format, and while workers run unless that is allowed. An
    /// announcement that cannot be read counts as a worker: a newer version may have written it.
    ///
    /// # Errors
    /// [`Error::is_wrong_state`] if the data has a format that this version does not know, or if
    /// processes are announced that work on the store.
    async fn expect_ready(&self, broker: &dyn Broker) -> Result<(), Error> {
        if let Some(found) = broker.foreign_format().await? {
            return Err(Error::wrong_state(format!(
                "expected data in a format that this version knows, found format {found}: move it \
                 with the version of rocket_jobqueue that wrote it"
            )));
        }
        if self.while_running {
            return Ok(());
        }
        let found = broker.servers().await?;
        let found = match found.servers.first() {
            Some(one) => {
                let all = found.servers.len();
                format!("found {all} (host {}, process {})", one.host, one.pid)
            }
            None if found.unreadable == 0 => return Ok(()),
            None => format!(
                "found {} with announcements that this version cannot read",
                found.unreadable
            ),
        };
        Err(Error::wrong_state(format!(
            "expected no worker process, {found}: stop producers and workers first, or allow a \
             move while they run"
        )))
    }
}
