//! The serving role: one lane for each partition of requests, which routes each request and serves one answer by its deadline.
//!
//! `role` connects the lanes to the loop in `lanes::partition_role`. `lane` is one partition: the core's serving machine, which holds
//! the open cases and their deadlines, and how far it has read. `encode` writes its effects. Requests go to the versions as copies,
//! outside of the transaction: `copies` tracks the versions' topics, `copy_producer` delivers to one of them, `write_failures` publishes
//! which of them cannot be written. After a restart a lane replays its journal; `offset_recovery` finds the position if the group's
//! offsets are gone, and `case_recovery` reopens cases if the journal has a gap.

pub mod copies;
pub mod copy_producer;
pub mod encode;
pub mod write_failures;

pub mod case_recovery;
pub mod lane;
pub mod offset_recovery;

pub mod role;
