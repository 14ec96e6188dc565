//! What can be wrong with an ONNX file, or with the features that it is asked about.

use std::io;
use std::path::PathBuf;

/// Why a model cannot be read or asked. Every variant is the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than any model that this reader is for.
    #[error("model is over the limit of {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// The bytes are not the protobuf of an ONNX model.
    #[error("not an ONNX model: {message}: {why}")]
    Malformed {
        /// The protobuf message that was being read.
        message: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The graph uses an operator that is not known here, in that version.
    #[error(
        "operator `{operator}` of domain `{domain}`, opset {opset}, is not supported; supported are Identity, and \
         Scaler, LinearClassifier and TreeEnsembleClassifier of ai.onnx.ml (the last up to opset 4)"
    )]
    Operator {
        /// The operator's type.
        operator: String,
        /// Its domain, with the default one spelt out.
        domain: String,
        /// The version of the domain's operator set that the model imports.
        opset: i64,
    },
    /// An operator's attribute is absent, unknown, of the wrong type, or at odds with another.
    #[error("operator `{operator}`: attribute `{attribute}`: {why}")]
    Attribute {
        /// The operator's type.
        operator: &'static str,
        /// The attribute.
        attribute: String,
        /// What is wrong with it.
        why: String,
    },
    /// The operators are known, but they are not joined into a classifier.
    #[error("graph: {0}")]
    Graph(String),
    /// The model was asked about another number of features than it takes.
    #[error("{given} features given, but the model takes {wanted}")]
    Features {
        /// How many were given.
        given: usize,
        /// How many the model takes.
        wanted: usize,
    },
}
