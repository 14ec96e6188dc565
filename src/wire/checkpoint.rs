//! The private record of an analyst lane's clocks, written at the start of every turn for a replay to begin with.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;
use crate::engine::clock::{Checkpoint, InputClock};

/// An analyst lane's clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointRecord {
    /// The prediction clock.
    pub predictions: ClockRecord,
    /// The label clock.
    pub labels: ClockRecord,
    /// Whether the lane has said that it is idle.
    pub idle: bool,
    /// The newest tick published of each rollout.
    pub ticks: BTreeMap<String, i64>,
}

/// One input's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockRecord {
    /// The newest time seen in a record.
    pub seen: Option<i64>,
    /// When the last record came.
    pub arrived: Option<i64>,
    /// How far the clock had come.
    pub reached: i64,
}

impl From<&Checkpoint> for CheckpointRecord {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self {
            predictions: checkpoint.predictions.into(),
            labels: checkpoint.labels.into(),
            idle: checkpoint.is_idle,
            ticks: checkpoint.ticks.iter().map(|(it, tick)| (it.to_string(), tick.0)).collect(),
        }
    }
}

impl From<&CheckpointRecord> for Checkpoint {
    fn from(record: &CheckpointRecord) -> Self {
        Self {
            predictions: record.predictions.into(),
            labels: record.labels.into(),
            is_idle: record.idle,
            ticks: record
                .ticks
                .iter()
                .map(|(it, tick)| (it.as_str().into(), Timestamp(*tick)))
                .collect(),
        }
    }
}

impl From<InputClock> for ClockRecord {
    fn from(clock: InputClock) -> Self {
        Self {
            seen: clock.seen.map(|it| it.0),
            arrived: clock.arrived.map(|it| it.0),
            reached: clock.reached.0,
        }
    }
}

impl From<ClockRecord> for InputClock {
    fn from(record: ClockRecord) -> Self {
        Self {
            seen: record.seen.map(Timestamp),
            arrived: record.arrived.map(Timestamp),
            reached: Timestamp(record.reached),
        }
    }
}
