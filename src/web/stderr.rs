//! Standard error for our log lines, written by a thread of its own: its reader may be slow or
//! not read at all, and the runtime's threads are for jobs and requests. A bounded number of
//! lines waits. Lines beyond it are dropped and counted in a line of its own once reading
//! resumes.
//!
//! Waiting lines are lost if the process ends, so [`flush`] is called wherever an application may
//! end: after ignition, at liftoff and at shutdown.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::sync::{lock, wait_timeout};

/// Maximum waiting lines: a few seconds of a busy worker, at most a few MB.
const MAX_WAITING: usize = 4096;

/// How long [`flush`] waits for a reader.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// The writer of this process, started at its first use.
static WRITER: OnceLock<Stderr> = OnceLock::new();

/// A writer that accepts log lines and never blocks.
#[derive(Clone)]
pub(super) struct Stderr {
    lines: SyncSender<Vec<u8>>,
    counts: Arc<LineCounts>,
}

/// What the writers and the thread know of each other.
#[derive(Default)]
struct LineCounts {
    /// Lines that were handed to a writer.
    taken: AtomicU64,
    /// Lines dropped since the last report about it.
    dropped: AtomicU64,
    /// Lines that are written or dropped. [`flush`] waits until it reaches `taken`.
    written: Mutex<u64>,
    /// Notified for each of them.
    progress: Condvar,
}

impl LineCounts {
    /// Counts a line as written, or as dropped, and wakes those that flush.
    fn wrote_one(&self) {
        *lock(&self.written) += 1;
        self.progress.notify_all();
    }

    /// Waits until all lines accepted so far are written, at most for this long.
    fn wait(&self, timeout: Duration) {
        let (end, taken) = (Instant::now() + timeout, self.taken.load(Ordering::SeqCst));
        let mut written = lock(&self.written);
        while *written < taken {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            written = wait_timeout(&self.progress, written, left);
        }
    }
}

/// The process's own standard error, for a subscriber.
pub(super) fn writer() -> Stderr {
    WRITER.get_or_init(|| Stderr::start(unlocked_stderr(), MAX_WAITING)).clone()
}

/// Waits until the lines so far are written, at most 200 ms: a terminal that is stopped must
/// not hold up launch or shutdown.
pub(super) fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.counts.wait(FLUSH_TIMEOUT);
    }
}

/// A separate handle: a blocked write must not hold the lock of `std::io::stderr`.
fn unlocked_stderr() -> Box<dyn Write + Send> {
    #[cfg(unix)]
    let own = std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned();
    #[cfg(windows)]
    let own = std::os::windows::io::AsHandle::as_handle(&io::stderr()).try_clone_to_owned();
    match own {
        Ok(own) => Box::new(File::from(own)),
        Err(_) => Box::new(io::stderr()),
    }
}

impl Stderr {
    /// Starts the thread.
    fn start(to: Box<dyn Write + Send>, max_waiting: usize) -> Self {
        let (lines, waiting) = sync_channel(max_waiting);
        let counts = Arc::<LineCounts>::default();
        let of_thread = Arc::clone(&counts);
        // If the thread cannot be started, every line counts as dropped.
        let _ = std::thread::Builder::new()
            .name("jobqueue-log".into())
            .spawn(move || write_all(&waiting, to, &of_thread));
        Self { lines, counts }
    }
}

/// The thread: writes line after line, and reports dropped ones.
fn write_all(waiting: &Receiver<Vec<u8>>, mut to: Box<dyn Write + Send>, counts: &LineCounts) {
    for line in waiting {
        // A closed standard error must not end the thread.
        let _ = to.write_all(&line);
        let dropped = counts.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(
                to,
                "rocket_jobqueue: {dropped} log lines were dropped, because standard error was \
                 not read"
            );
        }
        counts.wrote_one();
    }
}

impl Write for Stderr {
    /// Accepts one line; subscribers write each line in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.counts.taken.fetch_add(1, Ordering::SeqCst);
        match self.lines.try_send(line.to_vec()) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                self.counts.wrote_one();
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that takes a line only on command.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<String>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            let _ = self.1.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn unread_lines_are_dropped_and_counted_without_blocking() {
        let (go, wait) = mpsc::channel();
        let (read, lines) = mpsc::channel();
        let mut writer = Stderr::start(Box::new(Slow(wait, read)), 10);
        for n in 0..100 {
            writer.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        writer.counts.wait(Duration::from_millis(10));
        let dropped = writer.counts.dropped.load(Ordering::Relaxed);
        assert!((89..=90).contains(&dropped), "{dropped}");
        // One write may have several parts.
        (0..50).for_each(|_| go.send(()).unwrap());
        writer.counts.wait(Duration::from_secs(10));
        let text: String = lines.try_iter().collect();
        assert!(text.starts_with("line 0\n"), "{text}");
        assert!(text.contains(&format!("{dropped} log lines were dropped")), "{text}");
        assert!(text.contains("line 9\n"), "{text}");
    }
}
