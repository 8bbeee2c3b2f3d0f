//! Request bodies, read with a timeout and a size limit: a client that stops half-way must not keep
//! its connection, and what its handler holds, indefinitely.
//!
//! Two bounds apply: a pause between two pieces, and a total time that grows with the bytes that
//! have arrived. So a slow but steady client may send a large body, and one that sends a byte now
//! and then may not.

use std::time::Duration;

use rocket::data::{ByteUnit, Data};
use rocket::http::Status;
use rocket::tokio::io::AsyncReadExt;
use rocket::tokio::time::{Instant, timeout_at};

use crate::web::error::ProblemDetails;

/// Maximum pause between two pieces of a body.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time for a body. Every [`BYTES_PER_SECOND`] received extend it by a second.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// 64 KiB per second: a body of 1 MiB may take 16 s longer than [`BODY_TIMEOUT`].
const BYTES_PER_SECOND: usize = 64 * 1024;

/// Reads a body.
///
/// # Errors
/// 413 if it is longer than `limit`, 408 if it is sent too slowly, 400 if the connection fails.
pub(crate) async fn read_bytes(data: Data<'_>, limit: ByteUnit) -> Result<Vec<u8>, ProblemDetails> {
    let mut stream = data.open(limit + 1);
    let (mut bytes, began) = (Vec::new(), Instant::now());
    loop {
        let more = u64::try_from(bytes.len() / BYTES_PER_SECOND).unwrap_or(u64::MAX);
        let end = began + BODY_TIMEOUT + Duration::from_secs(more);
        let read = timeout_at(end.min(Instant::now() + PAUSE_TIMEOUT), stream.read_buf(&mut bytes));
        match read.await {
            Ok(Ok(0)) => return Ok(bytes),
            Ok(Ok(_)) if bytes.len() as u64 > limit => {
                let detail = format!("the body is larger than {limit}");
                return Err(ProblemDetails::new(Status::PayloadTooLarge, detail));
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) => {
                let detail = "the body could not be read";
                return Err(ProblemDetails::new(Status::BadRequest, detail));
            }
            Err(_) => return Err(ProblemDetails::new(Status::RequestTimeout, TOO_SLOW)),
        }
    }
}

/// The detail of a 408.
pub(crate) const TOO_SLOW: &str = "the body did not arrive in time";
