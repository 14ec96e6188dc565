//! The operators `Scaler` and `LinearClassifier`, to which scikit-learn exports standard scalers and logistic regressions.

use crate::worker::onnx::attributes::Attributes;
use crate::worker::onnx::error::OnnxError;
use crate::worker::onnx::proto::NodeProto;
use crate::worker::onnx::transform::Transform;

/// Shifts and scales the features: `(x - offset) * scale`.
#[derive(Debug)]
pub struct Scaler {
    /// Offset and scale of each feature, or one pair for all.
    steps: Vec<(f32, f32)>,
}

impl Scaler {
    /// Reads the operator's settings for `width` features.
    pub fn read(node: &mut NodeProto<'_>, width: usize) -> Result<Self, OnnxError> {
        let mut attributes = Attributes::of("Scaler", node);
        let offset = attributes.floats("offset")?;
        let scale = attributes.floats("scale")?;
        if offset.len() != scale.len() || !(scale.len() == 1 || scale.len() == width) {
            let why = format!(
                "has {} members, offset {}; the features are {width}",
                scale.len(),
                offset.len()
            );
            return Err(attributes.wrong("scale", why));
        }
        attributes.finish()?;
        Ok(Self { steps: offset.into_iter().zip(scale).collect() })
    }

    /// Scales the features in place.
    pub fn apply(&self, features: &mut [f32]) {
        // There is one pair for all features or one for each.
        for (feature, (offset, scale)) in features.iter_mut().zip(self.steps.iter().cycle()) {
            *feature = (*feature - offset) * scale;
        }
    }
}

/// A weighted sum of the features for each class.
#[derive(Debug)]
pub struct LinearClassifier {
    labels: Vec<i64>,
    intercepts: Vec<f32>,
    /// One row of `width` for each intercept.
    coefficients: Vec<f32>,
    width: usize,
    transform: Transform,
}

impl LinearClassifier {
    /// Reads the operator's settings for `width` features.
    pub fn read(node: &mut NodeProto<'_>, width: usize) -> Result<Self, OnnxError> {
        let mut attributes = Attributes::of("LinearClassifier", node);
        let labels = attributes.ints("classlabels_ints")?;
        let intercepts = attributes.floats("intercepts")?;
        let coefficients = attributes.floats("coefficients")?;
        let transform = attributes.transform()?;
        attributes.ignore("multi_class");
        // A single row for two classes scores the second class.
        if labels.len() < 2
            || !(intercepts.len() == labels.len() || intercepts.len() == 1 && labels.len() == 2)
        {
            let why = format!("has {} members for {} classes", intercepts.len(), labels.len());
            return Err(attributes.wrong("intercepts", why));
        }
        if intercepts.len().checked_mul(width) != Some(coefficients.len()) {
            let why = format!(
                "has {} members, but {width} features and {} intercepts",
                coefficients.len(),
                intercepts.len()
            );
            return Err(attributes.wrong("coefficients", why));
        }
        attributes.finish()?;
        Ok(Self { labels, intercepts, coefficients, width, transform })
    }

    /// Computes the probability of each class and returns the label of the most likely one.
    pub fn classify(&self, features: &[f32], probabilities: &mut Vec<f32>) -> i64 {
        probabilities.clear();
        let rows = self.coefficients.chunks_exact(self.width);
        for (row, intercept) in rows.zip(&self.intercepts) {
            let sum: f32 = row.iter().zip(features).map(|(weight, feature)| weight * feature).sum();
            probabilities.push(sum + intercept);
        }
        if let [score] = probabilities[..] {
            probabilities.clear();
            probabilities.extend(self.transform.split_share(score));
            return self.labels[usize::from(score > 0.0)];
        }
        let mut best = 0;
        for (class, score) in probabilities.iter().enumerate() {
            if *score > probabilities[best] {
                best = class;
            }
        }
        self.transform.apply(probabilities);
        self.labels[best]
    }
}
