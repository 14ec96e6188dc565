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

/// One lane's sums of one rollout since its start.
///
/// The newest partial of a partition replaces earlier ones, and the sums of all partitions are added up.
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
    /// The lane's watermarks.
    pub clocks: Clocks,
    /// Whether the prediction log is idle, so that the judge does not wait for this partition.
    pub is_idle: bool,
    /// The turn in which it was made.
    pub turn: u64,
    /// How far the inputs were read.
    pub inputs: Inputs,
    /// Records not yet read.
    pub lag: u64,
    /// Cases that are not in the sums yet because their plan is not known.
    pub unplanned: u64,
    /// The newest routing revision with a known plan; 0 if it was not recorded.
    pub revision: Revision,
    /// The sums.
    pub sums: Evidence,
}
