//! Subscriptions: one connection that only listens, and reconnects whenever it is lost.
//!
//! It sends a PING once a second, because a connection that only listens does not notice that its
//! server is gone, and with Sentinels it follows the master. A reconnect comes within about a
//! second of the server's return, with jitter.
//!
//! What may surprise. Messages published while the connection is down are lost. They may speed
//! something up, as the wake-up of the forwarder does, but no caller may depend on them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::{RedisResult, Value};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::dial::Dialer;
use super::failure::timed_out;
use super::sentinel;

use crate::chance::Chance;

/// The first pause before subscribing again, and the longest. It doubles with each attempt that
/// fails; each pause is shortened at random by up to half.
const MIN_RETRY_PAUSE: Duration = Duration::from_millis(50);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often the connection is checked with a PING.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Timeout for dialling, subscribing and a PING.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Hands every message of these channels to `on_message`, as channel and body, until `stop`. Never
/// fails: it reconnects.
pub(super) async fn listen(
    dialer: Arc<Dialer>,
    channels: Vec<String>,
    on_message: Arc<dyn Fn(String, Vec<u8>) + Send + Sync>,
    stop: CancellationToken,
) {
    let mut pause = MIN_RETRY_PAUSE;
    let mut turn = 0;
    let rounds = async {
        loop {
            let mut heard = false;
            let lost = round(&dialer, turn, &channels, &*on_message, &mut heard).await;
            if let Err(error) = lost {
                let redis = dialer.describe();
                crate::log::debug!(%redis, %error, "subscription lost, subscribing again");
            }
            turn += 1;
            pause = if heard { MIN_RETRY_PAUSE } else { (pause * 2).min(MAX_RETRY_PAUSE) };
            sleep(pause.mul_f64(0.5 + Chance::system().share() / 2.0)).await;
        }
    };
    // Only ever ended by the token.
    let _: Option<()> = stop.run_until_cancelled(rounds).await;
}

/// Subscribes and listens until the connection is lost. `turn` selects the node of a Cluster.
/// `subscribed` is set once the subscription works, so that the caller knows whether the
/// attempt failed or a working connection was lost.
///
/// # Errors
/// Why the connection was lost; `Ok` if the server closed it.
async fn round(
    dialer: &Dialer,
    turn: usize,
    channels: &[String],
    on_message: &(dyn Fn(String, Vec<u8>) + Send + Sync),
    subscribed: &mut bool,
) -> RedisResult<()> {
    let connected = timeout(ANSWER_TIMEOUT, async {
        let (connection, term) = dialer.listen(turn).await?;
        let (mut sink, stream) = connection.split();
        sink.subscribe(channels).await?;
        RedisResult::Ok((sink, stream, term))
    });
    let (mut sink, mut stream, term) = connected.await.unwrap_or_else(|_| Err(timed_out()))?;
    *subscribed = true;
    let watch = async {
        loop {
            sleep(WATCH_INTERVAL).await;
            let alive = timeout(ANSWER_TIMEOUT, sink.ping::<Value>()).await;
            if let Err(error) = alive.unwrap_or_else(|_| Err(timed_out())) {
                return error;
            }
        }
    };
    let left = async {
        match dialer.sentinels() {
            Some(sentinels) => sentinels.left(term).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(watch, left);
    loop {
        tokio::select! {
            error = &mut watch => return Err(error),
            () = &mut left => return Err(sentinel::moved()),
            message = stream.next() => match message {
                Some(message) => {
                    let body = message.get_payload_bytes().to_vec();
                    on_message(message.get_channel_name().to_owned(), body);
                }
                None => return Ok(()),
            },
        }
    }
}
