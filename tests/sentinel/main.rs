//! Failovers by Sentinel as producers meet them: what is acknowledged stays, as far as each
//! setting promises it, and it goes on soon. And Sentinels that want a password, hang or lie,
//! and names that change their address.

#[path = "../support/mod.rs"]
mod support;

mod confirm;
mod failover;
mod names;
mod odd;
mod producers;
