//! The machines: pure state machines that take `(now, event)` and append effects.

pub mod counter;

pub mod case_recovery;
pub mod serving;

pub mod partial;

pub mod analyst;

pub mod judge;
