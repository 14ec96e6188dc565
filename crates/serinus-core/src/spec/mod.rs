//! The spec: its YAML as written (`raw`), the conversion to plans, and the errors.
//!
//! `plan` reads a text with `tree`, `read` deserializes the tree into the structs of `raw`, and `model`, `rollout` and `metric` check them
//! and return plans. All errors of a file are reported at once, each with its place and with help. Texts of errors reach the topics when a
//! command with an invalid spec is refused.

pub mod error;
mod path;
mod suggest;

mod tree;

pub mod raw;
mod read;
pub mod scalar;

mod metric;
mod model;
pub mod plan;
mod rollout;
