//! The bookkeeping of what is open: cases that await answers, predictions that await labels.

pub mod ledger;
//! The joins: what waits for something else to arrive, and until when.

pub mod pending;
