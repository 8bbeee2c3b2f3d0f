//! File descriptors reserved for connections to Redis. Clients of the application can use up all
//! descriptors of the process, for example with idle connections, and use each one again as soon
//! as it is closed. A worker that lost its connection could then not reconnect, and its leases
//! would expire. So a few files are held open, and closed when a connection has to be made and no
//! descriptor is left for it.
//!
//! What may surprise. The reserve is one for the whole process, whatever the number of pools. It is
//! filled at the first connection and again after each, as far as the limit allows.

use std::error::Error;
use std::fs::File;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use redis::{RedisError, RedisResult};

use crate::sync::lock;

/// Reserved descriptors. A worker has about six connections per server, and each one that is
/// opened while the process has no other free descriptor takes one of these.
const SPARE_DESCRIPTORS: usize = 24;

/// Descriptors lent to one attempt: a name has to be looked up as well.
const LENT_DESCRIPTORS: usize = 4;

/// "Too many open files", in this process and in the whole system: the same numbers on
/// every Unix.
const OUT_OF_FILES_CODES: [i32; 2] = [24, 23];

/// The reserve of this process.
static SPARE: Spare = Spare(Mutex::new(Vec::new()));

/// Connects, if necessary with reserved descriptors. `attempt` may be called several times.
pub(super) async fn connect<T, F>(attempt: impl FnMut() -> F) -> RedisResult<T>
where
    F: Future<Output = RedisResult<T>>,
{
    SPARE.connect(attempt).await
}

/// A reserve of open files.
struct Spare(Mutex<Vec<File>>);

impl Spare {
    fn files(&self) -> MutexGuard<'_, Vec<File>> {
        lock(&self.0)
    }

    /// Fills the reserve, as far as descriptors are available. Called before and after each
    /// connection; usually the reserve is full and nothing happens.
    fn keep(&self) {
        let mut files = self.files();
        while files.len() < SPARE_DESCRIPTORS {
            let Some(file) = open() else { return };
            files.push(file);
        }
    }

    /// Closes some and returns how many. Zero if the reserve is empty: then the connection
    /// fails with the system's error.
    fn lend(&self) -> usize {
        let mut files = self.files();
        let left = files.len().saturating_sub(LENT_DESCRIPTORS);
        files.drain(left..).count()
    }

    /// Tries to connect, and again with reserved descriptors as long as it fails for want of them
    /// and the reserve lasts.
    async fn connect<T, F>(&self, mut attempt: impl FnMut() -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.keep();
        loop {
            match attempt().await {
                // Immediately, before other code uses the descriptors just closed.
                Err(error) if is_out_of_files(&error) && self.lend() > 0 => {}
                connected => {
                    self.keep();
                    return connected;
                }
            }
        }
    }
}

/// Opens a file that every process may open any number of times.
fn open() -> Option<File> {
    File::open(if cfg!(windows) { "NUL" } else { "/dev/null" }).ok()
}

/// Whether a connection failed for want of descriptors. The library keeps only the text of the
/// system's error, and a failed name lookup hides even that.
fn is_out_of_files(error: &RedisError) -> bool {
    let number = io_error(error).and_then(std::io::Error::raw_os_error);
    number.is_some_and(|number| OUT_OF_FILES_CODES.contains(&number))
        || error.is_io_error() && open().is_none()
}

/// The system's error inside an error of the library, which keeps it as a shared source.
fn io_error(error: &RedisError) -> Option<&std::io::Error> {
    let cause = error.source()?;
    let shared = cause.downcast_ref::<Arc<dyn Error + Send + Sync>>();
    shared.map_or_else(|| cause.downcast_ref(), |shared| shared.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attempt_without_descriptors_gets_some_of_those_kept() {
        let spare = Spare(Mutex::new(Vec::new()));
        let error = || RedisError::from(std::io::Error::from_raw_os_error(24));
        let mut attempts = 0;
        let connected = spare.connect(|| {
            attempts += 1;
            let held = spare.files().len();
            async move {
                if held + 2 * LENT_DESCRIPTORS <= SPARE_DESCRIPTORS {
                    Ok(held)
                } else {
                    Err(error())
                }
            }
        });
        assert_eq!(connected.await.unwrap(), SPARE_DESCRIPTORS - 2 * LENT_DESCRIPTORS);
        assert_eq!(
            (attempts, spare.files().len()),
            (3, SPARE_DESCRIPTORS),
            "and they are taken back"
        );
        // It ends where nothing is left to give.
        let refused = spare.connect(|| async { Err::<(), _>(error()) }).await;
        assert!(is_out_of_files(&refused.unwrap_err()));
        let other = RedisError::from(std::io::Error::other("the line is dead"));
        assert!(!is_out_of_files(&other));
    }
}
