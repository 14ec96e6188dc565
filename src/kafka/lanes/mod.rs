//! What the roles share that work by partition: the loop, the catalog of models, admission of lanes, decoding, dead letters.

pub mod run_options;

pub mod lane;
pub mod partition_role;
pub mod replay_window;

pub mod admission;
pub mod catalog;
pub mod event_follower;
pub mod internal_topics;
pub mod spec_document;

pub mod dead_letters;
pub mod decode;
pub mod size_limit;
