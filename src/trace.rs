//! The trace a job belongs to: W3C Trace Context, which a job carries in its headers from
//! the request that enqueued it to the jobs that it enqueues itself. This crate adds no
//! ids of its own: the trace is passed on unchanged. Source:
//! <https://www.w3.org/TR/trace-context/>.
//!
//! The road of a trace. The web layer reads it from the request, and the client adds it to the
//! job's headers. The worker reads it from there, makes it [current](Trace::current) on the
//! task of the handler, and names it in the span `run`. A job that the handler enqueues gets it
//! too, unless the caller sets the header itself.
//!
//! What may surprise. The current trace belongs to the task: a handler that spawns another task
//! leaves it behind there. A header that does not follow the standard counts as no trace at
//! all. A job that carries such a header keeps it: headers are stored as they came.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

/// The header that names trace and parent.
pub(crate) const PARENT: &str = "traceparent";
/// The header with what single systems add to it. Meaningless without the first.
pub(crate) const STATE: &str = "tracestate";

/// A longer `tracestate` is left out, as the standard allows.
const MAX_STATE_BYTES: usize = 512;

tokio::task_local! {
    static CURRENT: Trace;
}

/// A trace and the parent of the next span. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    parent: Arc<str>,
    state: Option<Arc<str>>,
}

impl Trace {
    /// Reads both headers; `None` if the first does not follow the standard.
    pub(crate) fn parse(parent: &str, state: &str) -> Option<Self> {
        let hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = parent.trim().split('-');
        let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        let (flags, more) = (parts.next()?, parts.next().is_some());
        let sound = hex(version, 2)
            && version != "ff"
            && hex(trace, 32)
            && trace.contains(|c| c != '0')
            && hex(span, 16)
            && span.contains(|c| c != '0')
            && hex(flags, 2)
            // Later versions may append to it.
            && !(more && version == "00");
        let state = state.trim();
        let keeps = !state.is_empty()
            && state.len() <= MAX_STATE_BYTES
            && state.bytes().all(|b| matches!(b, b' '..=b'~'));
        sound.then(|| Self { parent: parent.trim().into(), state: keeps.then(|| state.into()) })
    }

    /// The trace a job's headers name. Go programs may write the names as HTTP does.
    pub(crate) fn of(headers: &BTreeMap<String, String>) -> Option<Self> {
        if headers.is_empty() {
            return None;
        }
        let find = |name: &str| {
            let is_it = |(found, value): (&String, &String)| {
                found.eq_ignore_ascii_case(name).then(|| value.clone())
            };
            headers.get(name).cloned().or_else(|| headers.iter().find_map(is_it))
        };
        Self::parse(&find(PARENT)?, &find(STATE).unwrap_or_default())
    }

    /// The trace of the job whose handler runs on this task.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The id that all its spans share: 32 hexadecimal digits.
    pub(crate) fn id(&self) -> &str {
        self.parent.split('-').nth(1).unwrap_or_default()
    }

    /// Adds it to a job's headers, unless they have a trace already: what the caller set is
    /// deliberate.
    pub(crate) fn add_to(&self, headers: &mut BTreeMap<String, String>) {
        if headers.keys().any(|name| name.eq_ignore_ascii_case(PARENT)) {
            return;
        }
        headers.insert(PARENT.to_owned(), self.parent.to_string());
        if let Some(state) = &self.state {
            headers.insert(STATE.to_owned(), state.to_string());
        }
    }
}

/// Runs a handler so that what it enqueues belongs to its job's trace.
pub(crate) async fn within<F: Future>(trace: Option<Trace>, running: F) -> F::Output {
    match trace {
        Some(trace) => CURRENT.scope(trace, running).await,
        None => running.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT_TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_that_follows_the_standard_is_read() {
        let trace = Trace::parse(PARENT_TEXT, "congo=t61rcWkgMzE").unwrap();
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = format!("cc{}-what-comes-later", &PARENT_TEXT[2..]);
        assert!(Trace::parse(&later, "").is_some());
    }

    #[test]
    fn what_is_no_trace_is_left_alone() {
        for wrong in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Trace::parse(wrong, ""), None, "{wrong}");
        }
    }

    #[test]
    fn a_state_that_is_too_long_or_not_text_is_left_out() {
        for state in ["a=".repeat(257), "a=\u{7}".to_owned(), String::new()] {
            let mut headers = BTreeMap::new();
            Trace::parse(PARENT_TEXT, &state).unwrap().add_to(&mut headers);
            assert_eq!(headers.len(), 1, "{state:?}");
        }
    }

    #[test]
    fn headers_of_the_callers_own_stay() {
        let mut headers = BTreeMap::from([("Traceparent".to_owned(), "mine".to_owned())]);
        Trace::parse(PARENT_TEXT, "a=b").unwrap().add_to(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(Trace::of(&headers), None);
        headers.insert("TraceParent".to_owned(), PARENT_TEXT.to_owned());
        headers.remove("Traceparent");
        assert!(Trace::of(&headers).is_some());
    }
}
