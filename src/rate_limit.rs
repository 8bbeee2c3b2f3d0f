//! Limits for the requests of one client, in any Rocket application.
//!
//! Attach [`RateLimit::fairing`] with or without a job queue. It counts in Redis, so that
//! all processes share a limit, or in the process; `docs/rate-limit.md` has its
//! configuration.
//!
//! ```no_run
//! use rocket_jobqueue::rate_limit::RateLimit;
//!
//! #[rocket::launch]
//! fn rocket() -> _ {
//!     rocket::build().attach(RateLimit::fairing())
//! }
//! ```

pub use crate::web::{RateLimit, RateLimitFairing};
