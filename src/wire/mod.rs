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
pub mod mark;

pub mod command;
pub mod event;
pub mod metrics;
pub mod rebuilt;
pub mod state;

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

mod held;
pub mod lane_file;
