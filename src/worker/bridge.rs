//! From requests on a topic to a model's answers: what `serinus worker` runs.

use crate::kafka::client::error::ShellError;
use crate::kafka::client::settings::Settings;
use crate::kafka::model_worker::answering::{Requests, Tally, answer_all};
use crate::kafka::process::shutdown::Shutdown;
use crate::worker::features::{FeatureError, FeatureList, answer_body};
use crate::worker::onnx::error::OnnxError;
use crate::worker::onnx::model::{Model, Prediction};
use crate::worker::options::WorkerOptions;

/// Why a worker cannot start, or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The model's file cannot be used.
    #[error("the model cannot be used")]
    Model(#[from] OnnxError),
    /// The list of features cannot be used.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// Model and list do not fit each other.
    #[error("the model takes {wanted} features, and {named} are named")]
    Width {
        /// How many the model takes.
        wanted: usize,
        /// How many are named.
        named: usize,
    },
    /// Kafka does not let it.
    #[error(transparent)]
    Shell(#[from] ShellError),
}

/// A model that answers requests.
#[derive(Debug)]
pub struct Oracle {
    model: Model,
    features: FeatureList,
    decision: String,
    row: Vec<f32>,
    prediction: Prediction,
}

impl Oracle {
    /// Puts a model and the list of its features together.
    pub fn new(model: Model, features: FeatureList, decision: &str) -> Result<Self, WorkerError> {
        let (wanted, named) = (model.inputs(), features.len());
        if wanted != named {
            return Err(WorkerError::Width { wanted, named });
        }
        let (row, prediction) = (Vec::new(), Prediction::default());
        Ok(Self { model, features, decision: decision.to_owned(), row, prediction })
    }

    /// Answers one request, or says why it cannot.
    pub fn answer(&mut self, request: &[u8]) -> Result<Vec<u8>, String> {
        self.features.read(request, &mut self.row).map_err(|r| r.to_string())?;
        self.model.predict(&self.row, &mut self.prediction).map_err(|p| p.to_string())?;
        Ok(answer_body(&self.prediction, &self.decision))
    }
}

/// Runs a worker until it is asked to stop, and tells what became of the requests.
pub fn run(options: &WorkerOptions, stop: &Shutdown) -> Result<Tally, WorkerError> {
    let model = Model::load(&options.onnx)?;
    let features = FeatureList::parse(&options.features)?;
    let mut oracle = Oracle::new(model, features, &options.decision)?;
    let requests = Requests {
        topic: options.topic.clone(),
        group: options.group.clone(),
        partitions: options.partitions.clone(),
    };
    Ok(answer(&options.settings, &requests, &mut oracle, stop)?)
}

/// Answers requests from a model that is there already.
pub fn answer(
    settings: &Settings,
    requests: &Requests,
    oracle: &mut Oracle,
    stop: &Shutdown,
) -> Result<Tally, ShellError> {
    answer_all(settings, requests, stop, &mut |request| oracle.answer(request))
}

#[cfg(test)]
mod tests {
    use super::{Oracle, WorkerError};
    use crate::worker::features::FeatureList;
    use crate::worker::onnx::model::Model;

    const TREES: &[u8] = include_bytes!("../demo/data/flights_v2.onnx");

    #[test]
    fn a_list_of_another_length_is_refused_before_anything_is_read() {
        let model = Model::from_bytes(TREES).expect("the model is read");
        let list = FeatureList::under("/features", &["mins", "distance"]);
        let error = Oracle::new(model, list, "late").expect_err("the model takes 13");
        assert!(matches!(error, WorkerError::Width { wanted: 13, named: 2 }), "{error}");
    }
}
