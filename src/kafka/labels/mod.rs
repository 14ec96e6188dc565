//! Labels on their way to the analyst lanes: repartitioning by request id, and watermarks that say how far each source was read.
//!
//! Others write labels to a topic with keys and partitions of their choice; a lane needs the labels of its own predictions.
//! `repartition` copies each label to the partition of its request id. `source` tracks one partition of a label topic, and `end_probe`
//! asks the brokers for its end: once everything before that end was read, a watermark reports that to every lane. `readers` handles label
//! topics that several models share.

pub mod end_probe;
pub mod readers;
pub mod repartition;
pub mod source;
