//! The contract of a store, case by case, against each store there is. The cases move
//! the clock themselves and wait for nothing but the store.
//!
//! The `cluster` and `sentinel` test programs include this folder too and run the same
//! cases there: each root says in `REDIS` which servers `Store::Redis` means.

pub mod bench;
pub mod neighbour;
pub mod site;

mod actions;
mod archive;
mod audit;
mod control;
mod dequeue;
mod doctor;
mod due;
mod enqueue;
mod explain;
mod fencing;
mod groups;
mod idempotency;
mod limit_model;
mod limit_order;
mod limited_waiting;
mod limits;
mod lists;
mod look;
mod periodic;
mod queues;
mod servers;
mod settle;
mod store;
mod successor;
mod suspects;
mod transfer;
mod type_stats;
mod unique;
mod wait;
mod waiting;
mod workers;
