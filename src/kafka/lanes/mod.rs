//! What every role of partitions shares: admission, the catalog of models, decoding and encoding.

pub mod run_options;

pub mod admission;
pub mod catalog;
pub mod event_follower;
pub mod internal_topics;
pub mod spec_document;

pub mod dead_letters;
pub mod decode;
pub mod size_limit;
