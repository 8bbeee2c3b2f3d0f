//! The contract of a store, case by case, against each store there is. Time is
//! a hand that the cases move; what they wait for is the store alone.

mod bench;
#[path = "../support/mod.rs"]
mod support;

mod dequeue;
mod due;
mod enqueue;
mod fencing;
mod idempotency;
mod look;
mod settle;
mod store;
mod unique;
mod wait;
