//! The lines an operator reads about jobs: one for each attempt that ended.
//! They hold what names a job and its error, never its payload or headers.

use std::time::Duration;

use crate::job::{JobRecord, Transition};
use crate::time::Timestamp;

/// Writes the line of a transition that the store has carried out.
pub(crate) fn report(job: &JobRecord, transition: &Transition, took: Duration, now: Timestamp) {
    let (kind, id, queue) = (plain(&job.job_type), plain(job.id.as_str()), job.queue.as_str());
    let attempt = job.retried.saturating_add(1);
    let attempts = job.max_retry.saturating_add(1);
    match transition {
        Transition::Complete { .. } => {
            tracing::info!("job completed: type={kind} id={id} queue={queue} took={took:.1?}");
        }
        Transition::Revoke => {
            tracing::info!("job revoked: type={kind} id={id} queue={queue} took={took:.1?}");
        }
        Transition::Retry { after, error, counted: true } => {
            let (error, next) = (plain(error), (now + *after).local_text());
            tracing::warn!(
                "job attempt failed: type={kind} id={id} queue={queue} attempt={attempt} of \
                 {attempts} error=\"{error}\" next try in {after:.1?} at {next}"
            );
        }
        Transition::Retry { after, error, counted: false } => {
            let error = plain(error);
            tracing::info!(
                "job postponed: type={kind} id={id} queue={queue} for {after:.1?} \
                 without counting an attempt, reason=\"{error}\""
            );
        }
        Transition::Archive { error } => {
            let error = plain(error);
            tracing::error!(
                "job archived: type={kind} id={id} queue={queue} attempt={attempt} of {attempts} \
                 error=\"{error}\" next try never"
            );
        }
        Transition::Requeue => {
            tracing::info!("job requeued at shutdown: type={kind} id={id} queue={queue}");
        }
        Transition::PutBack { error, .. } if error.is_empty() => {
            tracing::debug!("suspected job put back: type={kind} id={id} queue={queue}");
        }
        Transition::Reclaim { error } | Transition::PutBack { error, .. } => {
            let error = plain(error);
            tracing::warn!(
                "job recovered: type={kind} id={id} queue={queue} attempt={attempt} of {attempts} \
                 error=\"{error}\" next try at once"
            );
        }
    }
}

/// Control characters escaped and cut to a length a terminal can bear.
fn plain(text: &str) -> String {
    const LONGEST: usize = 500;
    let mut plain: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_error_text_cannot_forge_a_line_of_the_log() {
        assert_eq!(super::plain("a\nERROR job"), "a\\nERROR job");
        assert_eq!(super::plain(&"x".repeat(600)).chars().count(), 501);
    }
}
