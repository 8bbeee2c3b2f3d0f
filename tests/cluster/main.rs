//! A Redis Cluster whose slots move and whose servers hang, under load: what happens to
//! one queue's server does not disturb the other queues, and no job is lost or doubled.
//!
//! `JOBQUEUE_CLUSTER_LONG=1` runs the same at full length: slots held open for 90 s, a
//! server that hangs for 40 s, a whole master's slots.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod atomic;
#[path = "../it/broker_contract/mod.rs"]
mod broker_contract;
mod hang;
mod keys;
mod load;
mod moving;
mod reshard;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

/// The store contract runs on six nodes, with two queues in slots of different nodes
/// where a case has two.
const REDIS: broker_contract::site::Kind = broker_contract::site::Kind::Cluster;

/// More than a busy machine needs; reached only if something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// A duration of the gate, or the one of the long run.
fn length(gate: u64, long: u64) -> Duration {
    let is_long = std::env::var_os("JOBQUEUE_CLUSTER_LONG").is_some();
    Duration::from_secs(if is_long { long } else { gate })
}
