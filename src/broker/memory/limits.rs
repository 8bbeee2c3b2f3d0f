//! Limits of queues in this process' memory: not built yet.

use super::MemoryBroker;
use crate::broker::Limits;

impl Limits for MemoryBroker {}
