//! The bookkeeping of what is open: cases that await answers, predictions that await labels.

pub mod ledger;

mod closed;
pub mod entry;
pub mod names;
pub mod pending;
mod repeats;
pub mod twins;
