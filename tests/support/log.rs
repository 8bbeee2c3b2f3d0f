//! What is logged, for tests that look at it.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Level};
use tracing_subscriber::fmt::format::FmtSpan;

/// The lines of a log, as text without colors.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Lines from this level on that this thread logs, while the guard lives.
    pub fn of_this_thread(level: Level) -> (Self, DefaultGuard) {
        // While a process has one subscriber, `tracing` asks the first thread that reaches a
        // log line whether the line is wanted, and remembers the answer. That may be another
        // test's thread, which has no subscriber. Two more make it ask all of them.
        static OTHERS: OnceLock<[Dispatch; 2]> = OnceLock::new();
        OTHERS.get_or_init(|| [(); 2].map(|()| Dispatch::new(NoSubscriber::new())));
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(level)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// What this process logs from the first call on. All tests of the process share it:
    /// each has a server, and hence an address, of its own.
    ///
    /// Only for test programs in which nothing else sets the global subscriber.
    pub fn of_this_process() -> &'static Self {
        Self::global(FmtSpan::NONE)
    }

    /// The same, and the ends of spans.
    pub fn of_this_process_with_spans() -> &'static Self {
        Self::global(FmtSpan::CLOSE)
    }

    fn global(spans: FmtSpan) -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_span_events(spans)
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
            log
        })
    }

    /// All of it so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// The lines with all of these words.
    pub fn lines(&self, words: &[&str]) -> Vec<String> {
        let has = |line: &&str| words.iter().all(|word| line.contains(word));
        self.text().lines().filter(has).map(str::to_owned).collect()
    }
}
