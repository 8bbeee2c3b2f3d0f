//! The program as a person and a script use it: against a real Redis, a real application, and in a
//! terminal by tmux.
//!
//! `ways` runs the same commands directly and through REST, on the same store: both must say the
//! same. `screen` is what happens on a terminal. `asynq` compares the verbs with Asynq's own program.

mod asynq;
mod bench;
mod ends;
mod screen;
mod ways;
