//! The options of a periodic job as the texts that Asynq's tools read and write, such as
//! `MaxRetry(3)`. Every text has a parenthesis: without one all Go readers panic.
//!
//! They are display only, with one exception: running a periodic job now builds its job from
//! the announcement, that is from type, payload and these texts. So everything that [`of`]
//! writes, [`job`] can read. An option of a Go scheduler that this crate does not know is left
//! out.

use std::time::Duration;

use chrono::NaiveDateTime;

use crate::job::{
    DEFAULT_MAX_RETRY, DEFAULT_TIMEOUT, JobId, JobRecord, NewJob, OnConflict, Placement, QueueName,
    Until, duration_text, parse_duration,
};
use crate::time::Timestamp;

/// Go's `Mon Jan _2 15:04:05 MST 2006`, in UTC. Whole seconds: a fraction is lost here, which
/// no announcement needs.
const DATE: &str = "%a %b %e %H:%M:%S UTC %Y";

/// The options of a job. Options at Asynq's zero value are left out, as there.
pub(super) fn of(job: &NewJob) -> Vec<String> {
    let record = &job.record;
    let mut texts = vec![
        format!("Queue({})", quoted(record.queue.as_str())),
        format!("MaxRetry({})", record.max_retry),
    ];
    let mut duration = |name: &str, duration: Duration| {
        if !duration.is_zero() {
            texts.push(format!("{name}({})", duration_text(duration)));
        }
    };
    duration("Timeout", record.timeout);
    duration("Unique", job.unique_for.unwrap_or_default());
    duration("Retention", record.retention);
    if let Placement::After(delay) = job.placement {
        duration("ProcessIn", delay);
    }
    // From here ours, which Go's readers leave out.
    duration("ExpiresIn", job.expires_in.unwrap_or_default());
    if job.until != Until::default() {
        texts.push(format!("UniqueUntil({})", job.until.as_str()));
    }
    texts.extend(job.unique_key.as_ref().map(|digest| format!("UniqueKey({digest})")));
    if job.on_conflict != OnConflict::default() {
        texts.push(format!("OnConflict({})", job.on_conflict.as_str()));
    }
    let date = |at: Timestamp| at.to_utc().map(|utc| utc.format(DATE).to_string());
    if let Placement::At(at) = job.placement {
        texts.extend(date(at).map(|date| format!("ProcessAt({date})")));
    }
    texts.extend(record.deadline.and_then(date).map(|date| format!("Deadline({date})")));
    if !record.group.is_empty() {
        texts.push(format!("Group({})", quoted(&record.group)));
    }
    for (name, value) in &record.headers {
        texts.push(format!("Header([{},{}])", quoted(name), quoted(value)));
    }
    texts
}

/// Quotes a text as JSON does, which for plain text is also Go's way. Readers end an
/// argument at the first closing parenthesis, so those are escaped.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace(')', "\\u0029")
}

/// A job with these options. Unknown options are ignored, as in Go. So is an id: the job
/// gets an id of its own.
pub(super) fn job(job_type: &str, payload: Option<Vec<u8>>, texts: &[String]) -> NewJob {
    let record = JobRecord::new(job_type, payload, queue(texts));
    let mut job = NewJob::now(record);
    job.record.max_retry = DEFAULT_MAX_RETRY;
    for (name, argument) in texts.iter().filter_map(|text| parts(text)) {
        let duration = || u64::try_from(parse_duration(argument)?).ok().map(Duration::from_nanos);
        match name {
            "MaxRetry" => {
                let retries = argument.parse::<i32>().ok().map(|n| u32::try_from(n).unwrap_or(0));
                job.record.max_retry = retries.unwrap_or(job.record.max_retry);
            }
            "Timeout" => job.record.timeout = duration().map_or(Duration::ZERO, whole),
            "Deadline" => job.record.deadline = date(argument),
            "Unique" => job.unique_for = duration().filter(|lock| lock.as_secs() > 0),
            "ExpiresIn" => job.expires_in = duration().filter(|limit| !limit.is_zero()),
            "UniqueUntil" => job.until = Until::parse(argument).unwrap_or_default(),
            "UniqueKey" => {
                let is_digest = argument.len() == 64 && is_hex(argument);
                job.unique_key = is_digest.then(|| argument.to_owned());
            }
            "OnConflict" => job.on_conflict = OnConflict::parse(argument).unwrap_or_default(),
            "Retention" => job.record.retention = duration().map_or(Duration::ZERO, whole),
            "ProcessIn" => job.placement = Placement::After(duration().unwrap_or_default()),
            "ProcessAt" => {
                job.placement = date(argument).map_or(Placement::Now, Placement::At);
            }
            "Group" => job.record.group = serde_json::from_str(argument).unwrap_or_default(),
            "Header" => {
                if let Ok((name, value)) = serde_json::from_str::<(String, String)>(argument) {
                    job.record.headers.insert(name, value);
                }
            }
            _ => {}
        }
    }
    if job.record.timeout.is_zero() && job.record.deadline.is_none() {
        job.record.timeout = DEFAULT_TIMEOUT;
    }
    job.record.id = JobId::random();
    job
}

/// The queue that the options name, or the default queue.
pub(super) fn queue(texts: &[String]) -> QueueName {
    let named =
        texts.iter().rev().filter_map(|text| parts(text)).find(|(name, _)| *name == "Queue");
    let name = named.and_then(|(_, argument)| serde_json::from_str::<String>(argument).ok());
    QueueName::stored(name.as_deref().unwrap_or(crate::job::DEFAULT_QUEUE))
}

/// The same options with another queue.
pub(super) fn with_queue(mut texts: Vec<String>, queue: &QueueName) -> Vec<String> {
    let is_queue = |text: &&mut String| parts(text).is_some_and(|(name, _)| name == "Queue");
    for text in texts.iter_mut().filter(is_queue) {
        *text = format!("Queue({})", quoted(queue.as_str()));
    }
    texts
}

/// Name and argument of a text such as `MaxRetry(3)`; `None` without a parenthesis.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once('(')?;
    Some((name, rest.split_once(')').map_or(rest, |(argument, _)| argument)))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An instant in the form of [`DATE`]; `None` for any other text.
fn date(text: &str) -> Option<Timestamp> {
    let date = NaiveDateTime::parse_from_str(text, DATE).ok()?;
    Some(Timestamp::from_secs(date.and_utc().timestamp()))
}

/// Whole seconds, rounded up: no limit becomes shorter than it was.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> NewJob {
        let mut record = JobRecord::new("tick", None, QueueName::stored("low"));
        record.max_retry = 3;
        record.timeout = Duration::from_secs(30);
        record.deadline = Some(Timestamp::from_secs(1_767_409_445));
        record.retention = Duration::from_secs(86_400);
        record.headers.insert("trace".to_owned(), "a(b)\"c\"".to_owned());
        let mut job = NewJob::now(record).placed(Placement::After(Duration::from_secs(600)));
        job.unique_for = Some(Duration::from_secs(3600));
        (job.until, job.unique_key) = (Until::Expiry, Some("0c".repeat(32)));
        job.on_conflict = OnConflict::Replace;
        job
    }

    #[test]
    fn options_are_written_in_asynqs_words() {
        assert_eq!(
            of(&full()),
            [
                r#"Queue("low")"#,
                "MaxRetry(3)",
                "Timeout(30s)",
                "Unique(1h0m0s)",
                "Retention(24h0m0s)",
                "ProcessIn(10m0s)",
                "UniqueUntil(expiry)",
                &format!("UniqueKey({})", "0c".repeat(32)),
                "OnConflict(replace)",
                "Deadline(Sat Jan  3 03:04:05 UTC 2026)",
                r#"Header(["trace","a(b\u0029\"c\""])"#,
            ]
        );
    }

    #[test]
    fn options_are_read_back_and_what_is_unknown_is_left_out() {
        let mut texts = of(&full());
        texts.extend(["TaskID(\"a\")", "Strange(5)", "broken"].map(str::to_owned));
        let mut read = job("tick", None, &texts);
        let expected = full();
        read.record.id = expected.record.id.clone();
        assert_eq!(read, expected);

        let plain = job("tick", None, &[]);
        assert_eq!(plain.record.queue.as_str(), "default");
        assert_eq!(plain.record.timeout, DEFAULT_TIMEOUT);
    }
}
