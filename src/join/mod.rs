//! The bookkeeping of what is open: cases that await answers, predictions that await labels.

pub mod ledger;

pub mod entry;
pub mod names;
pub mod pending;
pub mod twins;
