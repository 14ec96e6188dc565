//! Runs `serinus worker`: answers the requests of a topic with a model.

use crate::kafka::client::error::ShellError;
use crate::kafka::client::settings::Settings;
use crate::kafka::model_worker::answering::{Requests, Tally, answer_all};
use crate::kafka::process::shutdown::Shutdown;
use crate::worker::features::{FeatureError, FeatureList, answer_body};
use crate::worker::onnx::error::OnnxError;
use crate::worker::onnx::model::{Model, Prediction};
use crate::worker::options::WorkerOptions;

/// The reason why a worker cannot start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The ONNX file cannot be used.
    #[error("cannot use the model")]
    Model(#[from] OnnxError),
    /// The feature list cannot be used.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// The feature list does not have the model's number of features.
    #[error("the model takes {wanted} features, but the feature list names {named}")]
    Width {
        /// The number of features that the model takes.
        wanted: usize,
        /// The number of features in the list.
        named: usize,
    },
    /// Kafka returned an error.
    #[error(transparent)]
    Shell(#[from] ShellError),
}

/// A model with its feature list, which answers requests.
#[derive(Debug)]
pub struct Predictor {
    model: Model,
    features: FeatureList,
    decision: String,
    row: Vec<f32>,
    prediction: Prediction,
}

impl Predictor {
    /// Combines a model with the list of its features.
    pub fn new(model: Model, features: FeatureList, decision: &str) -> Result<Self, WorkerError> {
        let (wanted, named) = (model.inputs(), features.len());
        if wanted != named {
            return Err(WorkerError::Width { wanted, named });
        }
        let (row, prediction) = (Vec::new(), Prediction::default());
        Ok(Self { model, features, decision: decision.to_owned(), row, prediction })
    }

    /// Returns the answer to a request, or the reason why there is none.
    pub fn answer(&mut self, request: &[u8]) -> Result<Vec<u8>, String> {
        self.features.read(request, &mut self.row).map_err(|r| r.to_string())?;
        self.model.predict(&self.row, &mut self.prediction).map_err(|p| p.to_string())?;
        Ok(answer_body(&self.prediction, &self.decision))
    }
}

/// Runs a worker until it is stopped, and returns the counts of its requests.
pub fn run(options: &WorkerOptions, stop: &Shutdown) -> Result<Tally, WorkerError> {
    let model = Model::load(&options.onnx)?;
    let features = FeatureList::parse(&options.features)?;
    let mut predictor = Predictor::new(model, features, &options.decision)?;
    let requests = Requests {
        topic: options.topic.clone(),
        group: options.group.clone(),
        partitions: options.partitions.clone(),
    };
    Ok(answer(&options.settings, &requests, &mut predictor, stop)?)
}

/// Answers requests with a model that is already loaded.
pub fn answer(
    settings: &Settings,
    requests: &Requests,
    predictor: &mut Predictor,
    stop: &Shutdown,
) -> Result<Tally, ShellError> {
    answer_all(settings, requests, stop, &mut |request| predictor.answer(request))
}

#[cfg(test)]
mod tests {
    use super::{Predictor, WorkerError};
    use crate::worker::features::FeatureList;
    use crate::worker::onnx::model::Model;

    const TREES: &[u8] = include_bytes!("../demo/data/flights_v2.onnx");

    #[test]
    fn a_list_of_another_length_is_refused_before_anything_is_read() {
        let model = Model::from_bytes(TREES).expect("the model is read");
        let list = FeatureList::under("/features", &["mins", "distance"]);
        let error = Predictor::new(model, list, "late").expect_err("the model takes 13");
        assert!(matches!(error, WorkerError::Width { wanted: 13, named: 2 }), "{error}");
    }
}
