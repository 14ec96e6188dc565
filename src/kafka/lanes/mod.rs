//! Code shared by the serving and the analysis role: the role loop, and the parts of their lanes.
//!
//! A lane is one partition of a model: two inputs that are read together, a machine of the core, and a journal of the lane's turns.
//! `partition_role` runs all lanes of a role: it reads a batch, lets each lane take a turn, and commits all of it in one transaction.
//! `lane` is what a lane must offer to that loop; `serving` and `analysis` implement it. `event_follower` keeps the `catalog` of models
//! up to date, `admission` decides whether a lane may open, `decode` and `dead_letters` handle consumed records.
//!
//! Deadlines: a lane reports its earliest deadline by `Lane::next_wake`; the loop waits no longer than that and then takes a turn.

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
