//! The labels on their way to the lanes: repartitioning by request id, and how far each source was read.

pub mod end_probe;
pub mod readers;
pub mod repartition;
pub mod source;
