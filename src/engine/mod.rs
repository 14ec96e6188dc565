//! The machines: everything is decided here, by `(now, event)` in and effects out.

pub mod change;
pub mod command;
pub mod report;

pub mod score;
