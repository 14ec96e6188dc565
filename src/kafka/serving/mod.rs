//! The serving role: one lane for each partition of requests.

pub mod copies;
pub mod copy_producer;
pub mod encode;
pub mod write_failures;

pub mod case_recovery;
pub mod lane;
pub mod offset_recovery;

pub mod role;
