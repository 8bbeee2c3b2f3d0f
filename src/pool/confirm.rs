//! Waiting until replicas have what a script wrote: `wait_replicas` of the configuration.
//!
//! Redis replicates asynchronously, so a master that dies may take acknowledged writes with it.
//! An enqueue that waits for replicas is acknowledged only when that many have it. This does not
//! make Redis consistent (a replica without the write may still be promoted), but it narrows the
//! window to failures of several servers.
//!
//! `WAIT` blocks its whole connection, so scripts that are confirmed have connections of
//! their own. It counts the replicas that have reached its connection's own last write, and
//! on a connection that has not written yet it says yes at once. Therefore a write, the
//! script and `WAIT` are sent in one pipeline: also a script that found its work done
//! already, perhaps by a call whose replicas never confirmed, is confirmed only once they
//! have everything up to now. A pipeline belongs to one connection; if that breaks, the
//! outcome is unknown.

use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};

use super::failure::UNCONFIRMED;
use super::link::Link;

/// How long the key of the additional write lives, in milliseconds.
const WITNESS_TTL_MILLIS: u64 = 1000;
/// Maximum time that replicas are given; less if the read timeout is shorter.
const MAX_REPLICA_WAIT: Duration = Duration::from_secs(2);

/// What one call asks of the replicas.
#[derive(Clone, Debug)]
pub(super) struct Confirmation {
    /// A key of the script's slot, written only so that `WAIT` has a write to wait for.
    pub witness: String,
    /// Number of replicas that must have the writes.
    pub replicas: u32,
    /// Maximum time to wait for them. Not zero: Redis would block forever.
    pub timeout: Duration,
}

impl Confirmation {
    /// Waits for two thirds of `answer`, the time that a reply may take, and at most 2 s. The rest
    /// is left for the script and the network.
    pub(super) fn new(witness: String, replicas: u32, answer: Duration) -> Self {
        Self { witness, replicas, timeout: MAX_REPLICA_WAIT.min(answer * 2 / 3) }
    }

    /// Runs the script's command and waits for the replicas.
    ///
    /// # Errors
    /// - `TRYAGAIN`, without sending anything, while the slot moves between two servers of a
    ///   Cluster (`asking`).
    /// - Any error of the script itself.
    /// - [`UNCONFIRMED`] if too few replicas have the write in time. The job is stored all the
    ///   same, so the caller reports an unknown outcome.
    pub(super) async fn run(
        &self,
        link: &mut Link,
        script: &Cmd,
        asking: bool,
    ) -> RedisResult<Value> {
        if asking {
            // The new server would take the write and refuse the script, and both servers
            // could have the witness then: the move would stop at it.
            let moving = Some("the slot is being moved".to_owned());
            return Err(redis::make_extension_error("TRYAGAIN".to_owned(), moving));
        }
        let mut write = redis::cmd("SET");
        write.arg(&self.witness).arg("").arg("PX").arg(WITNESS_TTL_MILLIS);
        let mut wait = redis::cmd("WAIT");
        // Zero would block forever.
        wait.arg(self.replicas).arg((self.timeout.as_millis() as u64).max(1));
        let mut pipeline = Pipeline::with_capacity(3);
        pipeline.add_command(write).add_command(script.clone()).add_command(wait);
        let answers = link.req_packed_commands(&pipeline, 0, pipeline.len()).await?;
        self.judge(answers)
    }

    /// The script's answer, if the write succeeded and enough replicas confirmed. An error of the
    /// script itself comes first.
    fn judge(&self, answers: Vec<Value>) -> RedisResult<Value> {
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let (written, script, replicas) = (next(), next().extract_error()?, next());
        match (written, replicas) {
            (Value::Okay, Value::Int(reached)) if reached >= i64::from(self.replicas) => Ok(script),
            _ => Err(unconfirmed()),
        }
    }
}

/// The error if fewer replicas than required confirmed. As far as is known, the write happened
/// on the master.
fn unconfirmed() -> RedisError {
    redis::make_extension_error(UNCONFIRMED.to_owned(), Some("by too few replicas".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::classify;

    #[test]
    fn only_a_written_script_that_enough_replicas_have_is_confirmed() {
        let confirmation = Confirmation::new("k".to_owned(), 2, Duration::from_secs(3));
        assert_eq!(confirmation.timeout, Duration::from_secs(2));
        let error = || {
            let reply = redis::parse_redis_value(b"-OOM no memory\r\n");
            reply.expect("an error is a value")
        };
        let judged = |answers: [Value; 3]| confirmation.judge(answers.to_vec());
        let (ok, done) = (Value::Okay, Value::Int(7));
        assert_eq!(judged([ok.clone(), done.clone(), Value::Int(2)]).unwrap(), done);
        for answers in [
            [ok.clone(), done.clone(), Value::Int(1)],
            [error(), done.clone(), Value::Int(2)],
            [ok.clone(), done.clone(), error()],
        ] {
            let error = judged(answers).unwrap_err();
            assert!(classify(&error).is_outcome_unknown(), "{error:?}");
        }
        let refused = judged([error(), error(), Value::Int(2)]).unwrap_err();
        assert!(classify(&refused).is_refused(), "{refused:?}");
    }
}
