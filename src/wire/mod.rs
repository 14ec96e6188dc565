//! Bytes to domain and back: records, headers, schemas.
//!
//! Each record has one file with its serde type, its conversion from and to the domain, and its Avro codec. Published records (`label`,
//! `prediction`, `analysis`, `rollout-metrics`, `rollout-event`, `rollout-state`, `command`) have schemas in `schemas/`; their doc
//! comments become the descriptions there. Private records (journals, partials, watermarks, snapshots) have none, and only this program
//! reads them. Records can contain any bytes, so no decoder panics.

pub mod headers;
pub mod json;
pub mod placement;
pub mod traces;

pub mod avro;
mod avro_json;
mod avro_schema;
mod codec;
mod json_schema;
pub mod malformed;
pub mod schema;

pub mod any;

pub mod label;
pub mod prediction;

pub mod analysis;

pub mod command;
pub mod decision;
pub mod design;
pub mod event;
pub mod metrics;
pub mod state;
pub mod state_from_events;

pub mod bets;
pub mod partial;
mod partial_parts;
pub mod scores;
pub mod units;

pub mod checkpoint;
pub mod journal;
pub mod snapshot;
mod snapshot_entry;
pub mod watermark;
