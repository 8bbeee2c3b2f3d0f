//! What is written to the log, in tests that launch whole applications: their tasks run on
//! many threads, so that only the subscriber of the whole process sees their lines.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod eviction;
mod on_success;
#[path = "../support/mod.rs"]
mod support;
mod unreadable;
