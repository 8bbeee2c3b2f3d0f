//! One log line per finished attempt: type, id, queue and error, never payload or headers.
//!
//! | What happened | Level |
//! |---|---|
//! | completed, revoked, requeued at shutdown | info |
//! | postponed without counting an attempt | info |
//! | failed and tried again; recovered from a lost worker | warn |
//! | archived | error |
//! | a suspect that did not start and is pending again | debug |
//!
//! The line is written only after the store has carried the transition out. An attempt whose
//! lease was lost has none of these: a warning says where the loss was noticed, and that
//! nothing was written.

use std::time::Duration;

use crate::job::{JobRecord, Parked, Transition, parked, without_backtrace};
use crate::time::Timestamp;

/// Writes the line of a transition that the store has carried out. `job` is the record as it
/// was dequeued, so the attempt is the one that has just ended; `now` is the store's time, from
/// which the time of the next attempt is shown in local time.
pub(crate) fn report(job: &JobRecord, transition: &Transition, took: Duration, now: Timestamp) {
    let (kind, id, queue) = (cut(&job.job_type), cut(job.id.as_str()), job.queue.as_str());
    let attempt = job.retried.saturating_add(1);
    let attempts = job.max_retry.saturating_add(1);
    match transition {
        Transition::Complete { .. } => {
            crate::log::info!("job completed: type={kind} id={id} queue={queue} took={took:.1?}");
        }
        Transition::Revoke => {
            crate::log::info!("job revoked: type={kind} id={id} queue={queue} took={took:.1?}");
        }
        Transition::Retry { after, error, counted: true } => {
            let (error, next) = (cut(error), (now + *after).local_text());
            crate::log::warn!(
                "job attempt failed: type={kind} id={id} queue={queue} attempt={attempt} of \
                 {attempts} error={error:?} next try in {after:.1?} at {next}"
            );
        }
        Transition::Retry { after, error, counted: false } => {
            // The same words as the `kind` of an explanation.
            let why = match parked(job, error) {
                Some(Parked::NoHandler) => "no_handler",
                Some(Parked::Undecodable { .. }) => "undecodable",
                None if error.is_empty() => "snoozed",
                None => "waits_for_retry",
            };
            let error = cut(error);
            crate::log::info!(
                "job postponed: type={kind} id={id} queue={queue} for {after:.1?} \
                 without counting an attempt, why={why} reason={error:?}"
            );
        }
        Transition::Archive { error } => {
            let error = cut(error);
            crate::log::error!(
                "job archived: type={kind} id={id} queue={queue} attempt={attempt} of {attempts} \
                 error={error:?} next try never"
            );
        }
        Transition::Requeue => {
            crate::log::info!("job requeued at shutdown: type={kind} id={id} queue={queue}");
        }
        Transition::PutBack { error, .. } if error.is_empty() => {
            crate::log::debug!("suspected job put back: type={kind} id={id} queue={queue}");
        }
        Transition::Reclaim { error } | Transition::PutBack { error, .. } => {
            let error = cut(error);
            crate::log::warn!(
                "job recovered: type={kind} id={id} queue={queue} attempt={attempt} of {attempts} \
                 error={error:?} next try at once"
            );
        }
    }
}

/// Without a backtrace, which is kept with the job, and cut to 500 characters. The log escapes
/// invisible characters.
fn cut(text: &str) -> &str {
    let text = without_backtrace(text);
    const MAX_REPORT_BYTES: usize = 500;
    text.char_indices().nth(MAX_REPORT_BYTES).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(super::cut("é"), "é");
        assert_eq!(super::cut(&"é".repeat(600)).chars().count(), 500);
    }
}
