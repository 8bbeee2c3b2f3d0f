//! Whether a pool is connected, and the log lines about it: one for each change, so that a long
//! outage does not fill the log.
//!
//! The lines: "connected to Redis" (info) at the first connection, "connection to Redis lost"
//! (warning) with the error, "connected to Redis again" (info). If TLS prevents the
//! reconnection, one more warning says what is wrong. A quiet pool writes the same at debug
//! level: the pool it was made from, or its owner, reports for it.

use std::sync::Mutex;

use redis::RedisError;

use super::dial::Dialer;
use super::handshake::handshake_failure;
use crate::sync::lock;

/// Whether the pool is connected. Logs each change once.
pub(super) struct LinkHealth {
    state: Mutex<LinkState>,
    /// Whether changes are logged at debug level only.
    pub quiet: bool,
}

/// What the log has said about a connection, so that it says each change once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkState {
    /// Not dialled yet.
    New,
    /// Connected.
    Up,
    /// Lost, or never connected; logged.
    Down,
    /// Down, and the log says why.
    Explained,
}

impl LinkHealth {
    /// Pools made from another one are quiet, because that one logs.
    pub(super) fn new(quiet: bool) -> Self {
        Self { state: Mutex::new(LinkState::New), quiet }
    }

    /// A connection works.
    pub(super) fn up(&self, dialer: &Dialer) {
        let before = std::mem::replace(&mut *lock(&self.state), LinkState::Up);
        let redis = dialer.describe();
        match before {
            LinkState::Up => {}
            LinkState::New | LinkState::Down | LinkState::Explained if self.quiet => {
                crate::log::debug!(%redis, "connected to Redis");
            }
            LinkState::New => crate::log::info!(%redis, "connected to Redis"),
            LinkState::Down | LinkState::Explained => {
                crate::log::info!(%redis, "connected to Redis again");
            }
        }
    }

    /// Logs once why a lost connection cannot be made again, if TLS is the reason.
    pub(super) fn explain(&self, dialer: &Dialer, error: &RedisError) {
        let Some(reason) = handshake_failure(error).filter(|_| !self.quiet) else { return };
        let mut state = lock(&self.state);
        if *state == LinkState::Down {
            *state = LinkState::Explained;
            crate::log::warn!(redis = %dialer.describe(), "cannot connect to Redis: {reason}");
        }
    }

    /// A connection was lost or could not be made.
    pub(super) fn down(&self, dialer: &Dialer, error: &RedisError) {
        let before = std::mem::replace(&mut *lock(&self.state), LinkState::Down);
        let redis = dialer.describe();
        match before {
            LinkState::Down | LinkState::Explained => {}
            LinkState::New | LinkState::Up if self.quiet => {
                crate::log::debug!(%redis, %error, "connection to Redis lost");
            }
            LinkState::New | LinkState::Up => {
                crate::log::warn!(%redis, %error, "connection to Redis lost")
            }
        }
    }
}
