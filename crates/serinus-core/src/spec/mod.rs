//! The specification: the YAML as it is written, as it is meant, and what is wrong with it.

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
