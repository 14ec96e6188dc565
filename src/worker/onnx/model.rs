//! A model: its graph as a chain of scalers with a classifier at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::worker::onnx::error::OnnxError;
use crate::worker::onnx::linear::{LinearClassifier, Scaler};
use crate::worker::onnx::proto::{GraphProto, ModelProto, NodeProto};
use crate::worker::onnx::tree::TreeEnsemble;

/// The largest model file: 64 MiB, well above the size of exported linear models and forests.
pub const MODEL_BYTES_MAX: usize = 64 << 20;

/// ONNX's number of the element type float, the only supported input.
const FLOAT: i64 = 1;

/// A classifier that is ready to predict.
#[derive(Debug)]
pub struct Model {
    width: usize,
    scalers: Vec<Scaler>,
    classifier: Classifier,
}

/// The answer of a model. Pass the same value to each `predict`, so that it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Prediction {
    /// The label of the predicted class.
    pub label: i64,
    /// The probability of each class, in the model's order.
    pub probabilities: Vec<f32>,
    scaled: Vec<f32>,
    seen: Vec<bool>,
}

// A new classifier: its file, its line here, its line in `Chain::add`.
#[derive(Debug)]
enum Classifier {
    Linear(LinearClassifier),
    Trees(TreeEnsemble),
}

impl Model {
    pub fn load(path: &Path) -> Result<Self, OnnxError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(MODEL_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|source| OnnxError::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OnnxError> {
        if bytes.len() > MODEL_BYTES_MAX {
            return Err(OnnxError::TooLarge { bytes_max: MODEL_BYTES_MAX });
        }
        let mut model = ModelProto::read(bytes)?;
        let nodes = std::mem::take(&mut model.graph.nodes);
        let mut chain = Chain::begin(&model.graph)?;
        for mut node in nodes {
            let opset = model.opset(node.domain).unwrap_or(0);
            chain.add(&mut node, opset)?;
        }
        chain.end(&model.graph)
    }

    /// Returns the number of features.
    pub fn inputs(&self) -> usize {
        self.width
    }

    /// Predicts for one row of features.
    pub fn predict(&self, features: &[f32], out: &mut Prediction) -> Result<(), OnnxError> {
        if features.len() != self.width {
            return Err(OnnxError::Features { given: features.len(), wanted: self.width });
        }
        out.scaled.clear();
        out.scaled.extend_from_slice(features);
        for scaler in &self.scalers {
            scaler.apply(&mut out.scaled);
        }
        out.label = match &self.classifier {
            Classifier::Linear(linear) => linear.classify(&out.scaled, &mut out.probabilities),
            Classifier::Trees(trees) => {
                trees.classify(&out.scaled, &mut out.probabilities, &mut out.seen)
            }
        };
        Ok(())
    }
}

impl Prediction {
    /// Returns the probability of the last class, which is the positive one of two.
    pub fn score(&self) -> f32 {
        self.probabilities.last().copied().unwrap_or(0.0)
    }
}

/// The part of the graph that has been read.
#[derive(Debug)]
struct Chain<'a> {
    width: usize,
    scalers: Vec<Scaler>,
    classifier: Option<Classifier>,
    values: BTreeMap<&'a str, Meaning>,
}

/// The meaning of a named value of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The features after `scalers` scalers.
    Features {
        scalers: usize,
    },
    Label,
    Probabilities,
}

impl<'a> Chain<'a> {
    fn begin(graph: &GraphProto<'a>) -> Result<Self, OnnxError> {
        let [input] = &graph.inputs[..] else {
            let names: Vec<_> = graph.inputs.iter().map(|input| input.name).collect();
            return Err(OnnxError::Graph(format!(
                "expected one input, found {}: {names:?}",
                names.len()
            )));
        };
        if input.element != Some(FLOAT) {
            return Err(OnnxError::Graph(format!(
                "input `{}` is not a tensor of 32-bit floats",
                input.name
            )));
        }
        let width = match input.shape[..] {
            [Some(width)] | [_, Some(width)] => usize::try_from(width).ok().filter(|w| *w > 0),
            _ => None,
        };
        let Some(width) = width else {
            return Err(OnnxError::Graph(format!(
                "input `{}` does not declare its number of features",
                input.name
            )));
        };
        let values = BTreeMap::from([(input.name, Meaning::Features { scalers: 0 })]);
        Ok(Chain { width, scalers: Vec::new(), classifier: None, values })
    }

    // A new operator: its line here and in the message of `OnnxError::Operator`.
    fn add(&mut self, node: &mut NodeProto<'a>, opset: i64) -> Result<(), OnnxError> {
        match (node.domain, node.operator, opset) {
            ("" | "ai.onnx", "Identity", 1..) => {
                let meaning = self.meaning_of_input(node)?;
                self.name_outputs(node, &[meaning])
            }
            ("ai.onnx.ml", "Scaler", 1..) => {
                self.take_features(node)?;
                self.scalers.push(Scaler::read(node, self.width)?);
                self.name_outputs(node, &[Meaning::Features { scalers: self.scalers.len() }])
            }
            ("ai.onnx.ml", "LinearClassifier", 1..) => {
                self.take_features(node)?;
                let linear = LinearClassifier::read(node, self.width)?;
                self.classify_by(Classifier::Linear(linear), node)
            }
            ("ai.onnx.ml", "TreeEnsembleClassifier", 1..=4) => {
                self.take_features(node)?;
                let trees = TreeEnsemble::read(node, self.width)?;
                self.classify_by(Classifier::Trees(trees), node)
            }
            (domain, operator, opset) => Err(OnnxError::Operator {
                operator: operator.to_owned(),
                domain: if domain.is_empty() { "ai.onnx" } else { domain }.to_owned(),
                opset,
            }),
        }
    }

    fn end(self, graph: &GraphProto<'_>) -> Result<Model, OnnxError> {
        let classifier =
            self.classifier.ok_or_else(|| OnnxError::Graph("it has no classifier".to_owned()))?;
        for output in &graph.outputs {
            if !matches!(self.values.get(output), Some(Meaning::Label | Meaning::Probabilities)) {
                return Err(OnnxError::Graph(format!("output `{output}` is not the classifier's")));
            }
        }
        if !graph
            .outputs
            .iter()
            .any(|output| self.values.get(output) == Some(&Meaning::Probabilities))
        {
            return Err(OnnxError::Graph("it has no output of probabilities".to_owned()));
        }
        Ok(Model { width: self.width, scalers: self.scalers, classifier })
    }

    fn meaning_of_input(&self, node: &NodeProto<'_>) -> Result<Meaning, OnnxError> {
        let [input] = node.inputs[..] else {
            return Err(OnnxError::Graph(format!(
                "`{}` has {} inputs, not one",
                node.operator,
                node.inputs.len()
            )));
        };
        self.values.get(input).copied().ok_or_else(|| {
            OnnxError::Graph(format!(
                "`{}` takes `{input}`, which is not the output of an earlier operator",
                node.operator
            ))
        })
    }

    /// Checks that a node takes the features at the end of the chain: `predict` keeps only one copy of them.
    fn take_features(&self, node: &NodeProto<'_>) -> Result<(), OnnxError> {
        let end = Meaning::Features { scalers: self.scalers.len() };
        if self.meaning_of_input(node)? == end && self.classifier.is_none() {
            return Ok(());
        }
        Err(OnnxError::Graph(format!(
            "`{}` branches off; only a chain that ends in one classifier is supported",
            node.operator
        )))
    }

    fn classify_by(
        &mut self,
        classifier: Classifier,
        node: &NodeProto<'a>,
    ) -> Result<(), OnnxError> {
        self.classifier = Some(classifier);
        self.name_outputs(node, &[Meaning::Label, Meaning::Probabilities])
    }

    fn name_outputs(
        &mut self,
        node: &NodeProto<'a>,
        meanings: &[Meaning],
    ) -> Result<(), OnnxError> {
        if node.outputs.len() > meanings.len() {
            return Err(OnnxError::Graph(format!(
                "`{}` has {} outputs",
                node.operator,
                node.outputs.len()
            )));
        }
        for (output, meaning) in node.outputs.iter().zip(meanings) {
            // An unused optional output has an empty name.
            if !output.is_empty() && self.values.insert(output, *meaning).is_some() {
                return Err(OnnxError::Graph(format!("two operators have the output `{output}`")));
            }
        }
        Ok(())
    }
}
