//! Limits of queues in Redis.

use super::RedisBroker;
use crate::broker::Limits;

impl Limits for RedisBroker {}
