//! The core of Serinus without Kafka: state machines that take `(now, event)` and append effects, and what they are made of.
//!
//! Nothing here reads a clock, draws a random number or does I/O; `simulate` draws from seeded generators only. The rooms stand in the
//! order in which they may import: each knows only those above it.

#![warn(missing_docs)]

pub mod domain;

pub mod plan;

pub mod evidence;

pub mod inference;

pub mod decision;

pub mod join;

pub mod engine;

pub mod spec;

pub mod simulate;
