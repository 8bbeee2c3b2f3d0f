//! What is written to the log, in tests that launch whole applications: their tasks run on
//! many threads, so that only the subscriber of the whole process sees their lines.

mod eviction;
#[path = "../support/mod.rs"]
mod support;
mod unreadable;

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

/// What this crate has logged in this process, all tests together: each has a server, and
/// hence an address, of its own.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines with all of these words.
    fn lines(&self, words: &[&str]) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        let has = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().filter(has).map(str::to_owned).collect()
    }
}

/// The log of this process, from the first call on.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    })
}
