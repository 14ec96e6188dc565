//! The control role: the judges of the models, by partition of commands.

pub mod topic_ownership;

pub mod commands;
pub mod records;

pub mod role;
pub mod shard;
