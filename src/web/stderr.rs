//! Standard error for our log lines, written by a thread of its own: whoever reads it may
//! be slow, or not read at all, and the runtime's threads are for jobs and requests. A
//! bounded number of lines waits; what comes beyond is dropped, and counted in a line of its
//! own once reading goes on.
//!
//! A line that is waiting is lost where the process ends at once, so [`flush`] is called
//! where an application may end: after ignition, at liftoff and at shutdown.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait: some seconds of a busy worker, and at most a few MB.
const MAX_WAITING: usize = 4096;

/// How long [`flush`] waits for a reader.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// The writer of this process, once it was asked for.
static WRITER: OnceLock<Stderr> = OnceLock::new();

/// Takes log lines and never blocks.
#[derive(Clone)]
pub(super) struct Stderr {
    lines: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    dropped: AtomicU64,
    written: Mutex<u64>,
    progress: Condvar,
}

impl Counts {
    fn wrote_one(&self) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.progress.notify_all();
    }

    /// Waits until all lines taken so far are written.
    fn wait(&self, timeout: Duration) {
        let (end, taken) = (Instant::now() + timeout, self.taken.load(Ordering::SeqCst));
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        while *written < taken {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.progress.wait_timeout(written, left);
            written = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The process's own standard error, for a subscriber.
pub(super) fn writer() -> Stderr {
    WRITER.get_or_init(|| Stderr::start(unlocked_stderr(), MAX_WAITING)).clone()
}

/// Waits a moment until the lines so far are written, where they go to a reader.
pub(super) fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.counts.wait(FLUSH_TIMEOUT);
    }
}

/// A handle of its own, so that nobody else waits for a lock that a blocked write holds.
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
    fn start(to: Box<dyn Write + Send>, max_waiting: usize) -> Self {
        let (lines, waiting) = sync_channel(max_waiting);
        let counts = Arc::<Counts>::default();
        let of_thread = Arc::clone(&counts);
        // Without a thread nothing receives: then every line counts as dropped.
        let _ = std::thread::Builder::new()
            .name("jobqueue-log".into())
            .spawn(move || write_all(&waiting, to, &of_thread));
        Self { lines, counts }
    }
}

fn write_all(waiting: &Receiver<Vec<u8>>, mut to: Box<dyn Write + Send>, counts: &Counts) {
    for line in waiting {
        // Nobody to tell it to is no reason to stop.
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
    /// Takes one line; subscribers write each at once.
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

    /// A reader that takes a line only when it is told to.
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
    fn lines_that_nobody_reads_are_dropped_and_counted_and_nobody_waits() {
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
