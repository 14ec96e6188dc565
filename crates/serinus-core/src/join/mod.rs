//! Open cases that await answers, and predictions that await labels.

pub mod open_cases;

pub mod entry;
pub mod interner;
pub mod small_map;

pub mod closed_ids;
pub mod label_join;
pub mod label_repeats;
