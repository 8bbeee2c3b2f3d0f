//! Limits on the jobs of a queue: how many run at once, how many start in a time, and how
//! many may wait.
//!
//! A [`Limit`] counts the jobs of a queue, of some types or of each key of them, over all
//! processes; a job over its limit waits without using a slot or an attempt. Declare it with
//! [`JobQueueFairing::limit`](crate::JobQueueFairing::limit) or in the configuration
//! ([`QueueLimit`]), or set it at run time with
//! [`Inspector::set_limit`](crate::Inspector::set_limit). [`MaxWaiting`] bounds how many jobs
//! wait in a queue: one more is refused, or displaces the oldest. The
//! [guide](crate::guide::limits) has the rules.
//!
//! ```
//! # use rocket_jobqueue::JobQueue;
//! use rocket_jobqueue::limits::{Limit, LimitKey};
//!
//! let per_account = Limit::new("stripe").key(LimitKey::parse("payload.account_id")?).concurrency(2);
//! let queue = JobQueue::fairing().limit("default", per_account);
//! # Ok::<(), rocket_jobqueue::Error>(())
//! ```

pub use crate::config::QueueLimit;
pub use crate::job::{Limit, LimitKey, MaxWaiting, Rate, WhenFull};
