//! The judge of one model: merges the sums of its lanes, decides, and answers commands.

pub mod command;
pub mod event;
pub mod state;

pub mod decision;
pub mod report;

pub mod io;

pub mod apply;
pub mod commands;
pub mod contest;
pub mod model_change;

pub mod judge;
