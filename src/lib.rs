//! Serinus rolls out new versions of a machine-learning model whose traffic runs over Kafka.
//!
//! Start with `ARCHITECTURE.md`. The statistics are in `serinus-stats`, the machines in `serinus-core`; here are the records, the shell
//! around the machines, and what people use. The rooms below stand in the order in which they may import: each knows only those above it.

pub mod wire;

#[cfg(feature = "kafka")]
pub mod kafka;

pub mod worker;

#[cfg(feature = "kafka")]
pub mod api;

#[cfg(feature = "kafka")]
pub mod cli;

#[cfg(feature = "kafka")]
pub mod demo;
