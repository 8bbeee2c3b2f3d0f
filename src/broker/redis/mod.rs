//! The store in Redis, with Asynq's data.
