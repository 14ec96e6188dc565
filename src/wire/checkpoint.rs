//! The private record of an analyst lane's clocks, written at the start of every turn for a replay to begin with.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::watermark::{Checkpoint, InputWatermark, PartitionWatermark};

/// An analyst lane's clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointRecord {
    /// The prediction clock.
    pub predictions: ClockRecord,
    /// The label clock.
    pub labels: ClockRecord,
    /// The clocks of the partitions that labels come from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<i32, SourceRecord>,
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

/// The clock of one partition that labels come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceRecord {
    /// The newest time among its labels.
    pub reached: i64,
    /// When that last moved.
    pub moved: i64,
    /// Every label that stood in the partition at this time has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_to: Option<i64>,
    /// Whether no label had come for a while before that time.
    #[serde(default)]
    pub quiet: bool,
}

impl From<&Checkpoint> for CheckpointRecord {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self {
            predictions: checkpoint.predictions.into(),
            labels: checkpoint.labels.into(),
            sources: checkpoint.sources.iter().map(|(id, s)| (*id, (*s).into())).collect(),
            idle: checkpoint.is_idle,
            ticks: checkpoint.ticks.iter().map(|(t, tick)| (t.to_string(), tick.0)).collect(),
        }
    }
}

impl From<&CheckpointRecord> for Checkpoint {
    fn from(record: &CheckpointRecord) -> Self {
        Self {
            predictions: record.predictions.into(),
            labels: record.labels.into(),
            sources: record.sources.iter().map(|(id, s)| (*id, (*s).into())).collect(),
            is_idle: record.idle,
            ticks: record
                .ticks
                .iter()
                .map(|(t, tick)| (t.as_str().into(), Timestamp(*tick)))
                .collect(),
        }
    }
}

impl From<PartitionWatermark> for SourceRecord {
    fn from(clock: PartitionWatermark) -> Self {
        Self {
            reached: clock.newest.0,
            moved: clock.moved.0,
            read_to: (clock.read_to > Timestamp::MIN).then_some(clock.read_to.0),
            quiet: clock.is_quiet,
        }
    }
}

impl From<SourceRecord> for PartitionWatermark {
    fn from(record: SourceRecord) -> Self {
        Self {
            newest: Timestamp(record.reached),
            moved: Timestamp(record.moved),
            read_to: record.read_to.map_or(Timestamp::MIN, Timestamp),
            is_quiet: record.quiet,
        }
    }
}

impl From<InputWatermark> for ClockRecord {
    fn from(clock: InputWatermark) -> Self {
        Self {
            seen: clock.seen.map(|s| s.0),
            arrived: clock.arrived.map(|a| a.0),
            reached: clock.reached.0,
        }
    }
}

impl From<ClockRecord> for InputWatermark {
    fn from(record: ClockRecord) -> Self {
        Self {
            seen: record.seen.map(Timestamp),
            arrived: record.arrived.map(Timestamp),
            reached: Timestamp(record.reached),
        }
    }
}
