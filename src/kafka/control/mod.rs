//! The control role: judges rollouts and carries out commands.
//!
//! Each partition of commands is a `shard` with one transactional producer and one judge per model. The role feeds
//! commands and partial evidence to the judges and publishes states, events, and metrics in one transaction.

pub mod topic_ownership;

pub mod commands;
pub mod records;

pub mod role;
pub mod shard;
