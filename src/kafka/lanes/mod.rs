//! What every role of partitions shares: admission, the catalog of models, decoding and encoding.

pub mod run_options;

pub mod admission;
pub mod catalog;
pub mod event_follower;

pub mod decode;
pub mod encode;
pub mod size_limit;
