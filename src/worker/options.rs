//! What a worker is started with.

use std::path::PathBuf;

use crate::kafka::client::settings::Settings;

/// What a worker is started with.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerOptions {
    /// How to reach Kafka.
    pub settings: Settings,
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// The model's file.
    pub onnx: PathBuf,
    /// The features in the model's order, as `FeatureList::parse` reads them.
    pub features: String,
    /// What the answer calls the model's decision.
    pub decision: String,
    /// The consumer group.
    pub group: String,
    /// The topic of the requests.
    pub topic: String,
    /// Only these partitions; empty: those that the group gives.
    pub partitions: Vec<i32>,
}
