//! One lane's evidence of one rollout at one tick.

use crate::domain::ids::{ModelName, Revision, RolloutName};
use crate::domain::time::Timestamp;
use crate::evidence::sums::Evidence;
use crate::join::label_join::Clocks;

/// How far a lane has read its two inputs: the next offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inputs {
    /// Of the prediction log.
    pub predictions: i64,
    /// Of the labels by request id.
    pub labels: i64,
}

/// One lane's sums of one rollout, over its whole life so far.
///
/// The newest of a partition replaces those before it, and the sums of all partitions add up.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    /// The model.
    pub model: ModelName,
    /// The rollout.
    pub rollout: RolloutName,
    /// The partition of the prediction log.
    pub partition: i32,
    /// The tick that the lane's event time has passed.
    pub tick: Timestamp,
    /// The lane's clocks.
    pub clocks: Clocks,
    /// Whether no predictions come, so that others need not wait for this partition.
    pub is_idle: bool,
    /// The turn in which it was made.
    pub turn: u64,
    /// How far the inputs were read.
    pub inputs: Inputs,
    /// Records not yet read.
    pub lag: u64,
    /// Cases that are in no sums yet, since the plan that they were routed by is not known.
    pub unplanned: u64,
    /// The newest revision of the routing that the sums' plan is known of; 0 where that was not written down.
    pub revision: Revision,
    /// The sums.
    pub sums: Evidence,
}
