//! Failovers by Sentinel as producers meet them: what is acknowledged stays, as far as each
//! setting promises it, and it goes on soon. And Sentinels that want a password, hang or lie,
//! and names that change their address.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

#[path = "../it/broker_contract/mod.rs"]
mod broker_contract;
mod changes;
mod confirm;
mod failover;
mod names;
mod odd;
mod producers;
#[path = "../support/mod.rs"]
mod support;

/// The store contract runs on a pair whose master and replica change places now and then
/// between cases.
const REDIS: broker_contract::site::Kind = broker_contract::site::Kind::Sentinel;
