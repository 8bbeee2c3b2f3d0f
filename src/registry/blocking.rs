//! Handlers that are not async. They run on Tokio's threads for blocking work, so that they keep no
//! thread from other tasks.
//!
//! A blocking handler becomes an async one that waits for such a thread, and is an ordinary
//! [`HandlerEntry`] from then on: same options, same middleware. Two differences remain. Dropping
//! the attempt does not stop the thread, see [`JobHandler::blocking`](super::JobHandler::blocking).
//! And the function starts when a thread is free, which with hundreds of blocking jobs may be later
//! than the attempt's beginning; the job's timeout runs meanwhile.

use std::panic::resume_unwind;
use std::sync::Arc;

use serde::Serialize;
use tracing::Span;

use super::{FromContext, HandlerEntry, IntoEntry};
use crate::job::{Job, JobError};

/// A function that runs jobs of one type and blocks its thread: `fn(job, extractors…) ->
/// Result<T, E>`. [`JobHandler::blocking`](super::JobHandler::blocking) makes a handler of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job handler that blocks",
    label = "expected `fn(job: J, extractors..) -> Result<T, E>`, not async",
    note = "the job comes first, and `J: Job`; `T: Serialize + Send`; `E` is an error (`std::error::Error + Send + Sync`), a text, `anyhow::Error` or `JobError`",
    note = "extractors are `JobContext` and `Managed<T>`, where `T: Clone`: add `#[derive(Clone)]` to `T`, also beside `#[derive(Database)]`, or manage an `Arc<T>`",
    note = "an async function is attached without `.blocking()`"
)]
pub trait IntoBlockingEntry<Marker>: Send + Sync + 'static {
    /// Erases the types of the job and of the handler.
    fn blocking_entry(self) -> HandlerEntry;
}

/// Runs this on a thread for blocking work, within the span of the attempt. A panic there is the
/// attempt's panic.
async fn on_a_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JobError> + Send + 'static,
) -> Result<T, JobError> {
    let span = Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => {
                Err(JobError::failed("the runtime stopped before the handler began").uncounted())
            }
        },
    }
}

/// Implements [`IntoBlockingEntry`] for functions with the job and this many parameters after it.
macro_rules! blocking_handlers {
    ($($part:ident)*) => {
        impl<F, J, T, E, $($part,)*> IntoBlockingEntry<fn(J, $($part,)*) -> (T, E)> for F
        where
            F: Fn(J, $($part,)*) -> Result<T, E> + Send + Sync + 'static,
            J: Job,
            T: Serialize + Send + 'static,
            E: Into<JobError>,
            $($part: FromContext,)*
        {
            fn blocking_entry(self) -> HandlerEntry {
                let function = Arc::new(self);
                #[allow(non_snake_case)]
                let handler = move |job: J, $($part: $part,)*| {
                    let function = Arc::clone(&function);
                    on_a_blocking_thread(move || function(job, $($part,)*).map_err(Into::into))
                };
                IntoEntry::<fn(J, $($part,)*) -> (T, JobError)>::entry(handler)
            }
        }
    };
}

blocking_handlers!();
blocking_handlers!(A);
blocking_handlers!(A B);
blocking_handlers!(A B C);
blocking_handlers!(A B C D);
blocking_handlers!(A B C D G);
blocking_handlers!(A B C D G H);
