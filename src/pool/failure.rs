//! What an error of Redis means for the caller: whether the command ran, and the text with
//! which it is reported. A pure decision by error code: Redis's own text goes to the log and to
//! [`Error`]'s source, never to a client.
//!
//! The question matters most for commands that must not run twice. An error *reply* means that
//! Redis refused the command. No reply proves nothing: the connection may have broken before the
//! command arrived or after it ran. So everything that is not an error reply counts as unknown,
//! unless the request never left this process ([`RequestFailure::unsent`]).
//!
//! What may surprise. A code is more specific than it looks:
//! - `MOVED` counts as [`Meaning::Away`]: the redirection was followed once already, or cannot
//!   be.
//! - `BUSY` and `LOADING` are passing states, so the command is repeated; `OOM` and `MISCONF`
//!   last until somebody acts, so it is refused.
//! - Redis before 7 hides the code of an error inside a script; see [`inner_code`].

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind, Value};

use crate::error::Error;

/// What an error says about the command that failed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Redis does not serve now; the command did not run.
    Away,
    /// The slot of its keys moves between two servers of a Cluster, and neither serves
    /// it before the other one is done; the command did not run.
    Moving,
    /// No answer came, or one that cannot be read: the command may have run.
    Unknown,
    /// Redis answered and refused; the text is ours. Repeating does not help.
    Refused(&'static str),
}

/// Texts for clients. None of them repeats what Redis said.
const CREDENTIALS: &str = "not permitted by the storage (credentials)";
/// Our own error code: too few replicas have the write.
pub(super) const UNCONFIRMED: &str = "UNCONFIRMED";
/// For every code that this module does not know.
const REFUSED: &str = "storage refused the operation";
/// A key has another type than ours: other software writes there.
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
        UNCONFIRMED => Meaning::Unknown,
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
        return words_of(first.1.code(), first.1.details());
    }
    words_of(error.code().unwrap_or_default(), error.detail())
}

/// The code and text of an error, unwrapped from a script or transaction.
fn words_of(code: &str, detail: Option<&str>) -> (String, String) {
    let detail = detail.unwrap_or_default();
    let code = match code {
        "ERR" | "EXECABORT" => inner_code(detail).unwrap_or(code),
        _ => code,
    };
    (code.to_owned(), detail.to_owned())
}

/// The code of the error that a command met inside a script or transaction.
///
/// Redis 7 answers with that code itself. Redis 6.2 wraps it: `ERR Error running script
/// (call to f_…): @user_script:25: @user_script: 25: -READONLY You can't write …`, with or
/// without the dash, and so does every server EXEC: `EXECABORT Transaction discarded
/// because of: OOM …`. Such a text may quote a user's own command, so only a code behind
/// the wrapping's last colon counts.
fn inner_code(detail: &str) -> Option<&str> {
    const WRAPPINGS: [&str; 4] =
        ["Error running script", "Error compiling script", "Transaction discarded", "user_script"];
    if NOT_PERMITTED.iter().any(|words| detail.contains(words)) {
        return Some("NOPERM");
    }
    if CLUSTER_IS_DOWN.iter().any(|words| detail.contains(words)) {
        return Some("CLUSTERDOWN");
    }
    let is_wrapped = WRAPPINGS.iter().any(|wrapping| detail.contains(wrapping));
    let mut before = ":";
    detail.split(' ').find_map(|word| {
        let follows = before.ends_with(':');
        before = word;
        let is_first = std::ptr::eq(word.as_ptr(), detail.as_ptr());
        let code = word.strip_prefix('-').unwrap_or(word);
        let may_be = if is_first { word.starts_with('-') } else { is_wrapped && follows };
        (may_be && CODES.contains(&code)).then_some(code)
    })
}

/// The codes that this module distinguishes. A code that is missing here is not found inside
/// the text of a script's error, and counts as a refusal.
const CODES: [&str; 18] = [
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "NOREPLICAS",
    "MOVED",
    "ASK",
    "UNBLOCKED",
    "OOM",
    "MISCONF",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "DENIED",
    "WRONGTYPE",
    "NOSCRIPT",
];

/// The text that scripts of Redis 6.2 and 7.0 get instead of the code `NOPERM`.
const NOT_PERMITTED: [&str; 1] = ["The user executing the script"];
/// The same for `CLUSTERDOWN`, for reading and for writing scripts.
const CLUSTER_IS_DOWN: [&str; 2] = [
    "Script attempted to execute a command while the cluster is down",
    "Script attempted to execute a write command while the cluster is down",
];

/// The server does not let this client in, because of its credentials or its address. The
/// connection is given up: a new one may be let in, once the credentials are right.
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

/// It was written, and too few replicas have it.
pub(super) fn is_unconfirmed(error: &RedisError) -> bool {
    error.code() == Some(UNCONFIRMED)
}

/// The server answered, and is no longer the master; of a pipeline, any of its answers says so. The
/// connection is given up, so that the next dial finds the new master.
pub(super) fn is_demoted(error: &RedisError) -> bool {
    if let Some(all) = error.clone().into_server_errors() {
        return all.iter().any(|(_, one)| says_demoted(one));
    }
    is_code_of_demoted(&server_words(error).0)
}

/// Whether one of these answers, in which errors stay, is of a demoted server.
pub(super) fn has_demoted(answers: &[Value]) -> bool {
    answers.iter().any(|answer| match answer {
        Value::ServerError(error) => says_demoted(error),
        Value::Array(inner) => has_demoted(inner),
        _ => false,
    })
}

/// Whether this error comes from a server that is no longer the master.
fn says_demoted(error: &ServerError) -> bool {
    is_code_of_demoted(&words_of(error.code(), error.details()).0)
}

/// Whether a server with another role answers with this code.
fn is_code_of_demoted(code: &str) -> bool {
    matches!(code, "READONLY" | "MASTERDOWN" | "UNBLOCKED")
}

/// What went wrong with one attempt, and whether anything was sent.
#[derive(Debug)]
pub(super) struct RequestFailure {
    /// The error of the attempt.
    pub error: RedisError,
    /// Whether the request left this process. If not, it certainly did not run.
    pub sent: bool,
}

impl RequestFailure {
    /// A failure before anything was sent, such as no connection.
    pub(super) fn unsent(error: RedisError) -> Self {
        Self { error, sent: false }
    }

    /// A failure after sending; the command may have run.
    pub(super) fn sent(error: RedisError) -> Self {
        Self { error, sent: true }
    }

    /// As [`meaning`], knowing whether the command left.
    pub(super) fn meaning(&self) -> Meaning {
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

/// The crate's error for this meaning, with Redis's error as its source.
pub(super) fn told(meaning: Meaning, error: &RedisError) -> Error {
    match meaning {
        Meaning::Away => Error::unavailable("Redis is not connected"),
        Meaning::Moving => Error::moving(),
        Meaning::Unknown if is_unconfirmed(error) => {
            Error::outcome_unknown("too few replicas confirmed in time")
        }
        Meaning::Unknown => Error::outcome_unknown("Redis did not answer in time"),
        Meaning::Refused(WRONG_TYPE) => Error::damaged(WRONG_TYPE),
        Meaning::Refused(words) => Error::refused(words),
    }
    .caused_by(error.clone())
}

/// A timeout of ours, in the library's type. [`meaning`] reads it as unknown, like any I/O
/// error.
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
            (
                "EXECABORT Transaction discarded because of: OOM command not allowed",
                Meaning::Refused("storage is full"),
            ),
            ("ERR unknown command 'NOPE'", Meaning::Refused(REFUSED)),
            ("BUSYGROUP Consumer Group name already exists", Meaning::Refused(REFUSED)),
        ];
        for (line, expected) in table {
            assert_eq!(meaning(&said(line)), expected, "{line}");
        }
    }

    /// As Redis 6.2.14 wraps them; `tests/it/pool.rs` shows that the connection is left.
    #[test]
    fn an_error_that_a_script_met_has_the_class_of_that_error() {
        const WRAPPING: &str = "ERR Error running script (call to \
                                f_01815836314e46b22a5da0911e651485b9473802): @user_script:25: ";
        let not_permitted = Meaning::Refused("not permitted by the storage");
        let table = [
            (
                "@user_script: 25: -READONLY You can't write against a read only replica.",
                Meaning::Away,
            ),
            ("@user_script: 25: -NOREPLICAS Not enough good replicas to write.", Meaning::Away),
            (
                "@user_script: 25: -OOM command not allowed when used memory > 'maxmemory'.",
                Meaning::Refused("storage is full"),
            ),
            (
                "@user_script: 25: -MISCONF Redis is configured to save RDB snapshots",
                Meaning::Refused("storage cannot be written"),
            ),
            // Without a dash if the command itself found it.
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                Meaning::Refused("stored data has an unexpected type"),
            ),
            (
                "@user_script: 25: The user executing the script can't run this command or subcommand",
                not_permitted,
            ),
            (
                "@user_script: 25: Script attempted to execute a command while the cluster is down",
                Meaning::Away,
            ),
            (
                "@user_script: 25: Unknown Redis command called from Lua script",
                Meaning::Refused(REFUSED),
            ),
            ("user_script:1: the job READONLY is odd", Meaning::Refused(REFUSED)),
        ];
        for (inner, expected) in table {
            let error = said(&format!("{WRAPPING}{inner}"));
            assert_eq!(meaning(&error), expected, "{inner}");
            assert_eq!(is_demoted(&error), inner.contains("-READONLY"), "{inner}");
        }
        // Redis 7 has the text without the code.
        let error =
            said("ERR The user executing the script can't run this command script: a, on b");
        assert_eq!(meaning(&error), not_permitted);
    }

    #[test]
    fn any_answer_of_a_pipeline_may_tell_of_a_demotion() {
        let values = |lines: &[&str]| -> Vec<Value> {
            let reply = |line: &&str| redis::parse_redis_value(format!("{line}\r\n").as_bytes());
            lines.iter().map(reply).collect::<Result<_, _>>().expect("replies")
        };
        let wrapped = "-ERR Error running script (call to f_0): @user_script: 2: -READONLY no";
        for (lines, demoted) in [
            (vec!["+OK", wrapped, "-OOM full"], true),
            (vec!["-OOM full", wrapped], true),
            (vec!["-OOM full", "+OK"], false),
        ] {
            assert_eq!(has_demoted(&values(&lines)), demoted, "{lines:?}");
        }
    }

    #[test]
    fn a_lost_answer_is_unknown_only_if_the_command_left() {
        assert_eq!(RequestFailure::sent(timed_out()).meaning(), Meaning::Unknown);
        assert_eq!(RequestFailure::unsent(timed_out()).meaning(), Meaning::Away);
        assert!(classify(&timed_out()).is_outcome_unknown());
    }
}
