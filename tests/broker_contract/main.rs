//! The contract of a store, case by case, against each store there is. Time is
//! a hand that the cases move; what they wait for is the store alone.

pub mod bench;
pub mod site;
#[path = "../support/mod.rs"]
pub mod support;

/// The same cases run on a cluster and under Sentinel in binaries of their own,
/// which include this file.
#[allow(dead_code)]
const REDIS: site::Kind = site::Kind::Single;

mod actions;
mod admission;
mod control;
mod dequeue;
mod doctor;
mod due;
mod enqueue;
mod entries;
mod fencing;
mod groups;
mod idempotency;
mod lists;
mod look;
mod queues;
mod servers;
mod settle;
mod store;
mod suspects;
mod unique;
mod wait;
