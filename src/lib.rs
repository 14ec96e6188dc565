//! Serinus rolls out new versions of a machine-learning model whose traffic runs over Kafka.
//!
//! Start with `ARCHITECTURE.md`. The rooms below stand in the order in which they may import: each knows only those above it.

pub mod domain;
pub mod stats;

pub mod strategy;

pub mod join;

pub mod engine;

pub mod spec;
pub mod wire;

pub mod simulate;

#[cfg(feature = "kafka")]
pub mod kafka;

pub mod worker;

#[cfg(feature = "kafka")]
pub mod api;

#[cfg(feature = "kafka")]
pub mod cli;

#[cfg(feature = "kafka")]
pub mod demo;
