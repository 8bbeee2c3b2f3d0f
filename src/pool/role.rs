//! Whether a server serves, and whether it is a master.
//!
//! A server that answers is not always one to use: it may still load its data, or have become a
//! replica. With Sentinels the pool asks for the role when it dials and once a second, since the
//! news of a failover may be late. A user who may not ask is given the benefit of the doubt here:
//! the first refused write then tells.

use redis::aio::ConnectionLike;
use redis::{RedisError, RedisResult, Value};

use super::failure::{self, Meaning};

/// Asks a server what it is: `master`, `slave` or `sentinel`.
///
/// # Errors
/// The server's error, for example `NOPERM` for a user who may not send ROLE.
pub(super) async fn role(connection: &mut impl ConnectionLike) -> RedisResult<String> {
    let answer: Vec<Value> = redis::cmd("ROLE").query_async(connection).await?;
    match answer.first() {
        Some(Value::BulkString(role)) => Ok(String::from_utf8_lossy(role).into_owned()),
        _ => Err(unavailable_master("the server does not tell its role")),
    }
}

/// Fails unless that was a master. A user who may not send ROLE is given the benefit of the
/// doubt.
pub(super) fn check_master(role: RedisResult<String>) -> RedisResult<()> {
    match role {
        Ok(role) if role == "master" => Ok(()),
        Ok(_) => Err(unavailable_master("the server is no longer the master")),
        Err(error) => alive::<()>(Err(error)),
    }
}

/// Fails unless this answer to PING or ROLE shows a server that serves. A server that refuses
/// the command to this user, or because it cannot write to its disk, counts as serving.
pub(super) fn alive<T>(answer: RedisResult<T>) -> RedisResult<()> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if failure::is_shut_out(&error) => Err(error),
        Err(error) => match failure::meaning(&error) {
            Meaning::Refused(_) => Ok(()),
            Meaning::Away | Meaning::Moving | Meaning::Unknown => Err(error),
        },
    }
}

/// The error of a server that cannot be used as master. [`failure::meaning`] reads it as
/// unavailable.
pub(super) fn unavailable_master(why: &'static str) -> RedisError {
    (redis::ErrorKind::MasterNameNotFoundBySentinel, why).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_answers_and_lets_us_in_is_alive() {
        let table = [
            ("+PONG", true),
            ("-NOPERM this user has no permissions to run the 'ping' command", true),
            ("-MISCONF Redis is configured to save RDB snapshots", true),
            ("-NOAUTH Authentication required.", false),
            ("-DENIED Redis is running in protected mode", false),
            ("-LOADING Redis is loading the dataset in memory", false),
            ("-ERR max number of clients reached", false),
        ];
        for (line, expected) in table {
            let reply = redis::parse_redis_value(format!("{line}\r\n").as_bytes());
            let answer = reply.and_then(Value::extract_error);
            assert_eq!(alive(answer).is_ok(), expected, "{line}");
        }
    }
}
