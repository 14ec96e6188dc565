//! The joins: what waits for something else to arrive, and until when.

pub mod pending;
