//! The machines: pure state machines that take `(now, event)` and append effects.

pub mod counter;

pub mod reopen;
pub mod serving;

pub mod betting;
pub mod class;
pub mod document;
pub mod number;
mod placing;
pub mod score;
pub mod tally;

pub mod clock;
pub mod partial;

pub mod analyst_io;

pub mod analyst;
mod publish;
pub mod rebuild;
pub mod saved;

pub mod change;
pub mod command;
pub mod decision;
pub mod report;
pub mod standing;

pub mod judge_io;

mod apply;
mod contest;
pub mod judge;
mod touched;
mod verbs;
