//! The options of a worker.

use std::path::PathBuf;

use crate::kafka::client::settings::Settings;

/// The options of a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerOptions {
    /// The connection to Kafka.
    pub settings: Settings,
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// The ONNX file.
    pub onnx: PathBuf,
    /// The features in the model's order, as `FeatureList::parse` reads them.
    pub features: String,
    /// The name of the answer's field for the predicted class.
    pub decision: String,
    /// The consumer group.
    pub group: String,
    /// The request topic.
    pub topic: String,
    /// The partitions to read, or empty to let the consumer group assign them.
    pub partitions: Vec<i32>,
}
