//! The analyst lane: joins predictions with labels, scores them, and keeps the sums of one partition.

pub mod io;

pub mod class;
pub mod document;
pub mod number;
pub mod score;

pub mod case_value;

pub mod accumulator;
pub mod bets;
pub mod ranking;

pub mod publish;
pub mod rollout_books;
pub mod watermark;

pub mod lane;
pub mod rebuild;
pub mod snapshot;
