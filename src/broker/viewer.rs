//! Redaction. This module alone decides what REST, pages, streams, status links and log lines
//! show of a job if the application redacts jobs.
//!
//! The application's own function comes first. Then everything that reveals what the
//! function hid is hidden too: the unique lock, whose name ends in the MD5 of the payload,
//! and errors, progress, headers and results that quote hidden parts of the payload, of headers or
//! of the result. If the function panics, everything that it might hide is hidden.
//!
//! What may surprise. A text is hidden as a whole, not only the part that quotes the payload: a
//! rest would tell how long the part was. Texts are compared without regard to upper and lower
//! case, with the usual escapes decoded, and numbers by their value. What an application encrypts,
//! hashes or encodes otherwise is not recognised. When in doubt a text is hidden: payloads with many parts and very long texts are not
//! searched at all, because a viewer must not be able to keep the process busy. The store's
//! data is never changed.

mod escapes;
mod redacted_parts;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redacted_parts::RedactedParts;

use super::view::MAX_ERROR_BYTES;
use super::{JobInfo, JobPage, JobRow, LimitUse, LimitUses, PeriodicJobInfo, Servers};
use crate::job::{JobRecord, JobState, MAX_MESSAGE_BYTES, Transition};

/// The text that replaces a hidden one.
const HIDDEN: &str = "hidden";

/// The application's function that redacts a job.
pub(crate) type Redact = Arc<dyn Fn(&mut JobInfo) + Send + Sync>;

/// A viewer of jobs. The default viewer sees everything.
#[derive(Clone, Default)]
pub(crate) struct Viewer(Option<Redact>);

impl Viewer {
    /// A viewer that sees redacted jobs; without a function, one that sees everything.
    pub(crate) fn redacted(redact: Option<Redact>) -> Self {
        Self(redact)
    }

    /// Whether jobs are redacted for this viewer.
    pub(crate) fn is_restricted(&self) -> bool {
        self.0.is_some()
    }

    /// A job as the viewer sees it.
    pub(crate) fn job(&self, mut info: JobInfo) -> JobInfo {
        self.redact(&mut info);
        info
    }

    /// The rows of a list.
    pub(crate) fn page(&self, mut page: JobPage) -> JobPage {
        for row in &mut page.rows {
            match row {
                JobRow::Job(info) => self.redact(info),
                // A corrupt entry has no payload, result or error.
                JobRow::Corrupt(_) => {}
            }
        }
        page
    }

    /// Worker processes; their jobs in flight without payload.
    pub(crate) fn servers(&self, mut servers: Servers) -> Servers {
        if self.is_restricted() {
            let running = servers.servers.iter_mut().flat_map(|server| &mut server.running);
            running.for_each(|job| job.payload.clear());
        }
        servers
    }

    /// Periodic jobs, without payload and headers: the function is written for stored jobs.
    pub(crate) fn periodic_jobs(&self, mut entries: Vec<PeriodicJobInfo>) -> Vec<PeriodicJobInfo> {
        if self.is_restricted() {
            for entry in &mut entries {
                entry.payload.clear();
                // A digest of a few values gives them away.
                let is_secret = |option: &str| {
                    ["Header(", "UniqueKey("].iter().any(|name| option.starts_with(name))
                };
                entry.options.retain(|option| !is_secret(option));
            }
        }
        entries
    }

    /// A transition as a log line may show it.
    pub(crate) fn transition<'a>(
        &self,
        job: &JobRecord,
        transition: &'a Transition,
    ) -> Cow<'a, Transition> {
        use Transition::{Archive, Complete, PutBack, Reclaim, Requeue, Retry, Revoke};
        let has_error = match transition {
            Retry { .. } | Archive { .. } | Reclaim { .. } | PutBack { .. } => true,
            Complete { .. } | Revoke | Requeue => false,
        };
        if !self.is_restricted() || !has_error {
            return Cow::Borrowed(transition);
        }
        let mut shown = transition.clone();
        if let Retry { error, .. } | Archive { error } | Reclaim { error } | PutBack { error, .. } =
            &mut shown
        {
            let mut info = JobInfo::new(job.clone(), JobState::Active);
            info.record.last_error = std::mem::take(error);
            *error = self.job(info).record.last_error;
        }
        Cow::Owned(shown)
    }

    /// The keys of a limit, which are parts of payloads or headers.
    pub(crate) fn limit_uses(&self, mut uses: LimitUses) -> LimitUses {
        self.limit_keys(&mut uses.uses);
        uses
    }

    /// The same of a page of them.
    pub(crate) fn limit_keys(&self, keys: &mut [LimitUse]) {
        for one in keys.iter_mut().filter(|one| !one.key.is_empty()) {
            one.key = self.text(std::mem::take(&mut one.key));
        }
    }

    /// A text that may quote the payloads of several jobs.
    pub(crate) fn text(&self, text: String) -> String {
        if self.is_restricted() { HIDDEN.to_owned() } else { text }
    }

    /// Calls the application's function, and hides what still reveals what it hid. It runs once
    /// per job that is shown, so a page of 100 jobs calls it 100 times.
    fn redact(&self, info: &mut JobInfo) {
        let Some(redact) = &self.0 else { return };
        let before = info.clone();
        let is_shown = catch_unwind(AssertUnwindSafe(|| redact(info))).is_ok();
        if is_shown {
            hide_what_quotes(&before, info);
        } else {
            // It may have stopped before it hid what it should.
            info.record.payload = None;
            hide(info, |_, _| true);
        }
        if !info.record.unique_key.is_empty() {
            info.record.unique_key = HIDDEN.to_owned();
        }
        // A part of the payload or of a header, and hidden in lists of keys too.
        if let Some(wait) = info.waiting_for.as_mut().filter(|wait| !wait.key.is_empty()) {
            HIDDEN.clone_into(&mut wait.key);
        }
    }
}

/// Hides the texts that quote parts of the payload, of headers or of the result that the
/// application's function took away, and the failure log if it took away the last error.
fn hide_what_quotes(before: &JobInfo, info: &mut JobInfo) {
    let mut hidden = RedactedParts::default();
    hidden.add(before.record.payload_bytes(), info.record.payload_bytes());
    for (name, value) in &before.record.headers {
        let shown = info.record.headers.get(name).map_or("", String::as_str);
        hidden.add(value.as_bytes(), shown.as_bytes());
    }
    let [whole, shown] = [before, &*info].map(|info| info.result.as_deref().unwrap_or_default());
    hidden.add(whole, shown);
    if info.record.last_error != before.record.last_error {
        // The log of failures has the same text, and those of earlier attempts are like it.
        let is_as_before =
            |error: &String| before.failures.iter().any(|other| other.error == *error);
        let errors = info.failures.iter_mut().map(|failure| &mut failure.error);
        errors.filter(|error| is_as_before(error)).for_each(|error| HIDDEN.clone_into(error));
    }
    if !hidden.is_empty() {
        hide(info, |text, most| hidden.are_in(text, most));
    }
}

/// Hides all texts of a job that may quote what is hidden. The closure gets a text, and to how many
/// bytes it may have been cut.
fn hide(info: &mut JobInfo, is_secret: impl Fn(&str, usize) -> bool) {
    let hide = |text: &mut String, most| {
        if !text.is_empty() && is_secret(text, most) {
            *text = HIDDEN.to_owned();
        }
    };
    hide(&mut info.record.last_error, usize::MAX);
    info.failures.iter_mut().for_each(|failure| hide(&mut failure.error, MAX_ERROR_BYTES));
    info.record.headers.values_mut().for_each(|value| hide(value, usize::MAX));
    if let Some(progress) = &mut info.progress {
        hide(&mut progress.message, MAX_MESSAGE_BYTES);
    }
    if let Some(result) = &mut info.result
        && is_secret(&String::from_utf8_lossy(result), usize::MAX)
    {
        *result = format!("\"{HIDDEN}\"").into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{AttemptNote, JobFailure};
    use crate::job::{Progress, QueueName, failure_text};
    use crate::time::Timestamp;

    fn seen(redact: impl Fn(&mut JobInfo) + Send + Sync + 'static, error: &str) -> JobInfo {
        let queue = QueueName::new("mail").unwrap();
        let payload = br#"{"user":"ann","pin":4711,"token":"S3\"cret"}"#.to_vec();
        let mut job = JobRecord::new("mail:send", Some(payload), queue);
        job.last_error = error.to_owned();
        job.unique_key = "lock:mail:send:0cc175b9c0f1b6a831c399e269772661".into();
        job.headers.insert("tenant".into(), "4711".into());
        Viewer::redacted(Some(Arc::new(redact))).job(JobInfo::new(job, JobState::Retry))
    }

    fn hide_payload(info: &mut JobInfo) {
        info.record.payload = Some(br#"{"user":"ann"}"#.to_vec());
    }

    #[test]
    fn what_quotes_a_hidden_part_of_the_payload_is_hidden_too() {
        for error in ["wrong pin 4711", "no: S3\"cret", "no: \"S3\\\"cret\"", "s3\"CRET"] {
            assert_eq!(seen(hide_payload, error).record.last_error, HIDDEN, "{error}");
        }
        // With escapes, as a name, as a word of a text, and where it is a part of what is shown.
        let secret = |whole: &str, shown: &str, text: &str| {
            let mut parts = RedactedParts::default();
            parts.add(whole.as_bytes(), shown.as_bytes());
            parts.are_in(text, usize::MAX)
        };
        assert!(secret(r#"{"token":"p&ss<1>"}"#, "{}", r#""p\u0026ss\u003c1\u003e""#));
        assert!(secret(r#"{"cards":{"4111":1}}"#, r#"{"cards":{}}"#, "card 4111 refused"));
        assert!(secret(r#"{"dsn":"user:S3CRET@db"}"#, "{}", "login with s3cret failed"));
        assert!(secret(r#"{"user":"ann4711","pin":4711}"#, r#"{"user":"ann4711"}"#, "pin 4711"));
        assert!(secret(r#"{"pin":42}"#, "{}", "pin 42 is wrong"));
        assert!(!secret(r#"{"pin":42}"#, "{}", "after 420 ms"));
        assert!(!secret(r#"{"pin":1}"#, "{}", "line 1"));
        // Numbers in another form than the payload's.
        let large = r#"{"n":123456789012345678901234567890}"#;
        assert!(secret(large, "{}", "found 123456789012345678901234567890"));
        assert!(secret(r#"{"n":1e21}"#, "{}", "invalid 1000000000000000000000, expected"));
        assert!(secret(r#"{"n":5e-7}"#, "{}", "floating point `0.0000005`"));
        assert!(secret(r#"{"n":-4711}"#, "{}", "no account -4,711."));
        assert!(secret(r#"{"n":4711}"#, "{}", "no account 4.711E3"));
        assert!(!secret(r#"{"n":4711}"#, "{}", "line 4 column 711"));
        // With the escapes of Rust, of URLs and of HTML, also one in the other.
        assert!(secret(r#"{"pin":"a\nb"}"#, "{}", r#"invalid "a\nb""#));
        assert!(secret(r#"{"pin":"a\\b"}"#, "{}", r#"invalid "a\\b""#));
        assert!(secret(r#"{"pin":"a\u200bb"}"#, "{}", r#"invalid "a\u{200b}b""#));
        assert!(secret(r#"{"pin":"a\u0001b"}"#, "{}", r"bytes a\x01b"));
        assert!(secret(r#"{"pin":"😀é"}"#, "{}", r#""\ud83d\ude00\u00e9""#));
        assert!(secret(r#"{"name":"é å"}"#, "{}", "GET /find?name=%C3%A9%20%C3%A5"));
        assert!(secret(r#"{"pin":"<\"&"}"#, "{}", "no &lt;&quot;&#38; there"));
        assert!(secret(r#"{"pin":"a\nb"}"#, "{}", r#"called with "{\"pin\":\"a\\nb\"}""#));
        let other = seen(hide_payload, "ann is not there");
        assert_eq!(other.record.last_error, "ann is not there");
        assert_eq!(
            (other.record.headers["tenant"].as_str(), &*other.record.unique_key),
            (HIDDEN, HIDDEN)
        );
    }

    #[test]
    fn a_text_that_was_cut_within_a_hidden_part_is_hidden() {
        let token = "0f".repeat(5_000);
        let job = || {
            let queue = QueueName::new("mail").unwrap();
            let payload = format!(r#"{{"token":"{token}","pin":"a\"b c-d","name":"Zoë 😀!"}}"#);
            JobRecord::new("mail:send", Some(payload.into_bytes()), queue)
        };
        let shown = |error: &str| {
            let mut info = JobInfo::new(job(), JobState::Retry);
            let record = job();
            let note = AttemptNote::default();
            info.failures.push(JobFailure::of(&record, error, Timestamp::from_secs(0), &note));
            info.progress = Some(Progress::default().message(error));
            info.record.last_error = failure_text(&error.into());
            let info =
                Viewer::redacted(Some(Arc::new(|info| info.record.payload = None))).job(info);
            let progress = info.progress.unwrap().message;
            [info.record.last_error, info.failures[0].error.clone(), progress]
        };
        // A part that is longer than the texts.
        assert_eq!(shown(&format!("with {token}")), [HIDDEN; 3]);
        // Parts whose beginning just fits, as they are and with escapes that are cut; and how many
        // bytes of the text it takes to quote three of the part.
        let ends = [
            (&token[..40], 3),
            ("a\"b c-d", 3),
            (r#"a\"b c-d"#, 4),
            (r"zo\u00eb \ud83d\ude00!", 8),
            ("Zo%C3%AB%20%F0%9F%98%80!", 8),
            ("zo&#235; 😀!", 8),
            ("a&quot;b c-d", 8),
        ];
        for (end, least) in ends {
            for (at, room) in [(0, 8 * 1024 - 3), (1, 1_000), (2, 1_024)] {
                for part in least..end.len() {
                    let text = "-".repeat(room - part - 1) + " " + end + &"-".repeat(20);
                    assert!(shown(&text)[at] == HIDDEN, "{part} bytes of {end:?} in {room}");
                }
            }
        }
        // A text of its maximum length that quotes nothing.
        let text = "no such address, ".repeat(1_000);
        assert!(shown(&text).iter().all(|text| text.starts_with("no such address")));
    }

    #[test]
    fn what_quotes_a_hidden_header_or_result_is_hidden_too() {
        let error = "token s3cret-1 refused";
        let with = |redact: fn(&mut JobInfo)| {
            let mut job = JobRecord::new("t", None, QueueName::new("mail").unwrap());
            job.last_error = error.to_owned();
            job.headers.insert("authorization".into(), "Bearer s3cret-1".into());
            let mut info = JobInfo::new(job, JobState::Retry);
            info.result = Some(br#"{"key":"s3cret-1"}"#.to_vec());
            let record = info.record.clone();
            let note = AttemptNote::default();
            info.failures.push(JobFailure::of(&record, error, Timestamp::from_secs(0), &note));
            let info = Viewer::redacted(Some(Arc::new(redact))).job(info);
            (info.record.last_error, info.failures[0].error.clone())
        };
        let hidden = (HIDDEN.to_owned(), HIDDEN.to_owned());
        assert_eq!(with(|info| info.record.headers.clear()), hidden);
        assert_eq!(with(|info| info.result = None), hidden);
        assert_eq!(with(|info| info.record.last_error = "refused".into()).1, HIDDEN);
        assert_eq!(with(|_| ()), (error.to_owned(), error.to_owned()));
    }

    #[test]
    fn where_the_function_panics_nothing_is_shown_of_what_it_may_hide() {
        let info = seen(|_| panic!("redact"), "anything");
        assert_eq!((info.record.payload, info.record.last_error.as_str()), (None, HIDDEN));
    }

    #[test]
    fn who_is_not_restricted_sees_everything() {
        let queue = QueueName::new("mail").unwrap();
        let mut job = JobRecord::new("t", Some(b"x".to_vec()), queue);
        job.unique_key = "key".into();
        let info = JobInfo::new(job, JobState::Pending);
        assert_eq!(Viewer::default().job(info.clone()), info);
    }
}
