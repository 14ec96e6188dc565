//! The private record of an analyst lane's watermarks at the start of a turn, from which a replay starts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::watermark::{Checkpoint, InputWatermark, PartitionWatermark};

/// The watermarks of an analyst lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// The watermark of the predictions.
    pub predictions: InputWatermarkRecord,
    /// The watermark of the labels.
    pub labels: InputWatermarkRecord,
    /// The watermarks of the partitions of the label topic.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<i32, PartitionWatermarkRecord>,
    /// Whether the lane has published that it is idle.
    pub idle: bool,
    /// The newest published tick of each rollout.
    pub ticks: BTreeMap<String, i64>,
}

/// The watermark of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputWatermarkRecord {
    /// The newest time of a record.
    pub seen: Option<i64>,
    /// When the last record arrived.
    pub arrived: Option<i64>,
    /// The watermark.
    pub reached: i64,
}

/// The watermark of one partition of the label topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionWatermarkRecord {
    /// The newest time of its labels.
    pub reached: i64,
    /// When the newest time last changed.
    pub moved: i64,
    /// Every label that was in the partition at this time has been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_to: Option<i64>,
    /// Whether the partition was idle before that time.
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

impl From<PartitionWatermark> for PartitionWatermarkRecord {
    fn from(watermark: PartitionWatermark) -> Self {
        Self {
            reached: watermark.newest.0,
            moved: watermark.moved.0,
            read_to: (watermark.read_to > Timestamp::MIN).then_some(watermark.read_to.0),
            quiet: watermark.is_quiet,
        }
    }
}

impl From<PartitionWatermarkRecord> for PartitionWatermark {
    fn from(record: PartitionWatermarkRecord) -> Self {
        Self {
            newest: Timestamp(record.reached),
            moved: Timestamp(record.moved),
            read_to: record.read_to.map_or(Timestamp::MIN, Timestamp),
            is_quiet: record.quiet,
        }
    }
}

impl From<InputWatermark> for InputWatermarkRecord {
    fn from(watermark: InputWatermark) -> Self {
        Self {
            seen: watermark.seen.map(|s| s.0),
            arrived: watermark.arrived.map(|a| a.0),
            reached: watermark.reached.0,
        }
    }
}

impl From<InputWatermarkRecord> for InputWatermark {
    fn from(record: InputWatermarkRecord) -> Self {
        Self {
            seen: record.seen.map(Timestamp),
            arrived: record.arrived.map(Timestamp),
            reached: Timestamp(record.reached),
        }
    }
}
