//! The machines: pure state machines that take `(now, event)` and append effects.

pub mod counter;

pub mod serving;
