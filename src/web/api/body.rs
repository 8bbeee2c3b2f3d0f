//! Bodies, read with a limit of time as well as of size: a request that stops half-way must
//! not keep its connection, and what its handler holds, for as long as it likes.

use std::time::Duration;

#[cfg(feature = "dashboard")]
use rocket::Request;
#[cfg(feature = "dashboard")]
use rocket::data::{self, FromData};
use rocket::data::{ByteUnit, Data};
use rocket::http::Status;
use rocket::tokio::io::AsyncReadExt;
#[cfg(feature = "dashboard")]
use rocket::tokio::time::timeout;
use rocket::tokio::time::{Instant, timeout_at};

use crate::web::error::ProblemDetails;

/// How long a body may pause.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a body may take, and how many bytes a second it must bring beyond that.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const BYTES_PER_SECOND: usize = 64 * 1024;

/// The body's bytes, or 413 where there are more than `limit`, or 408 where they do not come.
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

/// What is said of a body that does not come.
pub(crate) const TOO_SLOW: &str = "the body did not arrive in time";

/// Data that Rocket reads, small forms, with a limit of time.
#[cfg(feature = "dashboard")]
pub(crate) struct Timely<T>(pub T);

#[cfg(feature = "dashboard")]
#[rocket::async_trait]
impl<'r, T: FromData<'r>> FromData<'r> for Timely<T> {
    type Error = Option<T::Error>;

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        match timeout(BODY_TIMEOUT, T::from_data(request, data)).await {
            Ok(outcome) => outcome.map(Self).map_error(|(status, error)| (status, Some(error))),
            Err(_) => data::Outcome::Error((Status::RequestTimeout, None)),
        }
    }
}
