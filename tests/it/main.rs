//! The integration tests: one program, so that the crate is linked into it once.
//!
//! Its tests share a process and run side by side, two at a time on two cores. None of
//! them may set environment variables, the current folder, a panic hook or the global
//! `tracing` subscriber; a test that needs one of these starts this program again with
//! its own name (`plugin`, `config`), or belongs into another program:
//!
//! * `browser`: drives a headless Chromium.
//! * `chaos`, `interop`: no lists of functions; scripts run them with programs they build.
//! * `cluster`, `sentinel`: fleets of servers, and the store contract on them, for minutes.
//! * `costs`: counts instructions below valgrind, and no list of functions.
//! * `dev_services`: scripts and compose files; needs nothing of the crate.
//! * `foreign`: builds another crate with cargo.
//! * `lateness`: judges milliseconds, so that no other test may run beside it.
//! * `limits`: opens 800 sockets and counts what is asked of Redis in two seconds.
//! * `load`: builds and runs the load driver, which fills both cores.
//! * `logged`: its global subscriber collects what the process logs.
//! * `trace`: its global subscriber writes spans, which no other test wants.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod actions;
mod alerts;
mod api;
mod broker_contract;
mod broker_model;
mod bulk;
mod clocks;
mod config;
mod confirm;
mod damaged_store;
mod database;
mod demo;
mod disk;
mod doctor;
mod faults;
mod findings;
mod fleet;
mod format;
mod groups;
mod handlers;
mod inspector;
mod layers;
mod layout;
mod leases;
mod limited;
mod live_workers;
mod namespace;
mod on_success;
#[cfg(feature = "openapi")]
mod openapi_merge;
mod periodic;
mod plugin;
mod pool;
mod rate_limit;
mod readme;
mod recovery;
mod redis_data;
mod redis_doc;
mod redis_errors;
mod redis_groups;
mod removal;
mod rest;
mod schedule;
mod scripts;
mod speed;
#[path = "../support/mod.rs"]
mod support;
mod suspects;
mod testing;
mod transfer;
mod twins;
mod type_stats;
mod wire;
mod worker;

/// The servers that the store contract runs on in this program.
const REDIS: broker_contract::site::Kind = broker_contract::site::Kind::Single;
