//! Bytes to domain and back: records, headers, schemas.

pub mod headers;
pub mod json;
pub mod placement;
pub mod traces;

pub mod avro;
mod avro_json;
mod avro_schema;

pub mod label;
pub mod prediction;

mod codec;
mod json_schema;
pub mod schema;

pub mod any;

pub mod malformed;
pub mod watermark;

pub mod command;
pub mod event;
pub mod metrics;
pub mod state;
pub mod state_from_events;

pub mod analysis;

pub mod bets;
pub mod checkpoint;
pub mod decision;
pub mod design;
pub mod journal;
pub mod partial;
mod partial_parts;
pub mod scores;
pub mod units;

pub mod snapshot;
mod snapshot_entry;
