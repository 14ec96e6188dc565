//! The worker that answers requests with a model in this process.

pub mod answering;
