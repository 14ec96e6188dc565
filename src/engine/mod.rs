//! The machines: everything is decided here, by `(now, event)` in and effects out.

pub mod score;
pub mod tally;

pub mod partial;

pub mod analyst;

pub mod change;
pub mod command;
pub mod report;

pub mod judge;
mod verbs;
