//! What an error of Redis means for the caller: whether the command ran, and in
//! which of our own words it is told. Decided purely, by code.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::Error;

/// What an error says about the command that got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Redis does not serve now; the command did not run.
    Away,
    /// The slot of its keys moves between two servers of a Cluster, and neither serves
    /// it before the other one is done; the command did not run.
    Moving,
    /// No answer came: the command may have run.
    Unknown,
    /// Redis answered and refused, in these words of ours.
    Refused(&'static str),
}

const CREDENTIALS: &str = "not permitted by the storage (credentials)";
const REFUSED: &str = "storage refused the operation";
const WRONG_TYPE: &str = "stored data has an unexpected type";

/// Reads an error that came back for a command that was sent.
pub(super) fn meaning(error: &RedisError) -> Meaning {
    match error.kind() {
        ErrorKind::Io if error.is_connection_refusal() => return Meaning::Away,
        // Anything else on the wire, garbled answers included, leaves it open.
        ErrorKind::Io | ErrorKind::Parse => return Meaning::Unknown,
        ErrorKind::ClusterConnectionNotFound
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::NoValidReplicasFoundBySentinel => return Meaning::Away,
        ErrorKind::AuthenticationFailed => return Meaning::Refused(CREDENTIALS),
        _ => {}
    }
    let (code, detail) = server_words(error);
    match code.as_str() {
        "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "BUSY" | "NOREPLICAS" | "MOVED"
        | "UNBLOCKED" => Meaning::Away,
        "TRYAGAIN" | "ASK" => Meaning::Moving,
        "ERR" if detail.contains("max number of clients") => Meaning::Away,
        "OOM" => Meaning::Refused("storage is full"),
        "MISCONF" => Meaning::Refused("storage cannot be written"),
        "NOAUTH" | "WRONGPASS" => Meaning::Refused(CREDENTIALS),
        "NOPERM" | "DENIED" => Meaning::Refused("not permitted by the storage"),
        "WRONGTYPE" => Meaning::Refused(WRONG_TYPE),
        _ => Meaning::Refused(REFUSED),
    }
}

/// The code and text of the server's answer; of a pipeline, of its first error.
fn server_words(error: &RedisError) -> (String, String) {
    if let Some(first) = error.clone().into_server_errors().as_deref().and_then(<[_]>::first) {
        let (code, detail) = (first.1.code(), first.1.details().unwrap_or_default());
        // An error inside a script carries the code of the command that failed.
        if code != "ERR" {
            return (code.to_owned(), detail.to_owned());
        }
        return match detail.split_once(' ').map(|(word, _)| word.trim_start_matches('-')) {
            Some(inner @ ("OOM" | "MISCONF" | "WRONGTYPE" | "READONLY" | "NOPERM")) => {
                (inner.to_owned(), detail.to_owned())
            }
            _ => (code.to_owned(), detail.to_owned()),
        };
    }
    let code = error.code().unwrap_or_default();
    (code.to_owned(), error.detail().unwrap_or_default().to_owned())
}

/// The server lets nobody in without other credentials, or from elsewhere.
pub(super) fn is_shut_out(error: &RedisError) -> bool {
    let (code, _) = server_words(error);
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(code.as_str(), "NOAUTH" | "WRONGPASS" | "DENIED")
}

/// The script is not in the server's cache.
pub(super) fn is_noscript(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// The server serves again by itself within moments, once its Cluster has agreed.
pub(super) fn is_passing(error: &RedisError) -> bool {
    let (code, _) = server_words(error);
    matches!(code.as_str(), "MOVED" | "CLUSTERDOWN")
}

/// The server answered and is not the master it was.
pub(super) fn is_demoted(error: &RedisError) -> bool {
    let (code, _) = server_words(error);
    matches!(code.as_str(), "READONLY" | "MASTERDOWN" | "UNBLOCKED")
}

/// What went wrong with one attempt, and whether anything was sent.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: RedisError,
    pub sent: bool,
}

impl Failure {
    pub fn unsent(error: RedisError) -> Self {
        Self { error, sent: false }
    }

    pub fn sent(error: RedisError) -> Self {
        Self { error, sent: true }
    }

    /// As [`meaning`], knowing whether the command left.
    pub fn meaning(&self) -> Meaning {
        match meaning(&self.error) {
            Meaning::Unknown if !self.sent => Meaning::Away,
            meaning => meaning,
        }
    }
}

/// The crate's error for what Redis said about a command that was sent.
pub fn classify(error: &RedisError) -> Error {
    told(meaning(error), error)
}

/// The crate's error for this meaning, with Redis's own words as the cause.
pub(super) fn told(meaning: Meaning, error: &RedisError) -> Error {
    match meaning {
        Meaning::Away => Error::unavailable("Redis is not connected"),
        Meaning::Moving => Error::moving(),
        Meaning::Unknown => Error::outcome_unknown("Redis did not answer in time"),
        Meaning::Refused(WRONG_TYPE) => Error::damaged(WRONG_TYPE),
        Meaning::Refused(words) => Error::refused(words),
    }
    .caused_by(error.clone())
}

/// A timeout of ours, in the library's type.
pub(super) fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> RedisError {
        let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        reply.and_then(redis::Value::extract_error).expect_err("an error reply")
    }

    #[test]
    fn each_code_of_redis_has_a_class_and_words_of_ours() {
        let table = [
            ("LOADING Redis is loading the dataset in memory", Meaning::Away),
            ("READONLY You can't write against a read only replica.", Meaning::Away),
            ("MASTERDOWN Link with MASTER is down", Meaning::Away),
            ("CLUSTERDOWN The cluster is down", Meaning::Away),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Meaning::Moving),
            ("ASK 5 127.0.0.1:7001", Meaning::Moving),
            ("BUSY Redis is busy running a script.", Meaning::Away),
            ("NOREPLICAS Not enough good replicas to write.", Meaning::Away),
            ("ERR max number of clients reached", Meaning::Away),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Meaning::Refused("storage is full"),
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Meaning::Refused("storage cannot be written"),
            ),
            ("NOAUTH Authentication required.", Meaning::Refused(CREDENTIALS)),
            ("WRONGPASS invalid username-password pair", Meaning::Refused(CREDENTIALS)),
            (
                "NOPERM this user has no permissions",
                Meaning::Refused("not permitted by the storage"),
            ),
            (
                "WRONGTYPE Operation against a key",
                Meaning::Refused("stored data has an unexpected type"),
            ),
            (
                "ERR -OOM command not allowed, in a script of Redis 6",
                Meaning::Refused("storage is full"),
            ),
            ("ERR unknown command 'NOPE'", Meaning::Refused(REFUSED)),
            ("BUSYGROUP Consumer Group name already exists", Meaning::Refused(REFUSED)),
        ];
        for (line, expected) in table {
            assert_eq!(meaning(&said(line)), expected, "{line}");
        }
    }

    #[test]
    fn a_lost_answer_is_unknown_only_if_the_command_left() {
        assert_eq!(Failure::sent(timed_out()).meaning(), Meaning::Unknown);
        assert_eq!(Failure::unsent(timed_out()).meaning(), Meaning::Away);
        assert!(classify(&timed_out()).is_outcome_unknown());
    }
}
