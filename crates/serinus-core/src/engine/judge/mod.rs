//! The judge of one model: merges the sums of its lanes, decides, and answers commands.

pub mod command;
pub mod event;
pub mod state;

pub mod decision;
pub mod report;

pub mod io;

pub mod model_change;
pub mod partial_set;

pub mod apply;
pub mod commands;
pub mod contest;
pub mod model_judge;
pub mod recovery;
pub mod transition;

pub mod judge;
