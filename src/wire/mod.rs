//! Bytes to domain and back: the records of the contract, as JSON.

pub mod malformed;

pub mod command;
pub mod event;
pub mod metrics;
pub mod state;

pub mod analysis;

pub mod checkpoint;
pub mod design;
pub mod partial;
