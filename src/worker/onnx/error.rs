//! Errors of ONNX files and of their features.

use std::io;
use std::path::PathBuf;

/// The reason why a model cannot be read or run. The user must fix the file or the features.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is too large.
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
        /// The reason.
        why: &'static str,
    },
    /// The graph uses an operator that is not supported in this version.
    #[error(
        "operator `{operator}` of domain `{domain}`, opset {opset}, is not supported; supported are Identity, and \
         Scaler, LinearClassifier and TreeEnsembleClassifier of ai.onnx.ml (the last up to opset 4)"
    )]
    Operator {
        /// The operator's type.
        operator: String,
        /// Its domain, with the default domain written out.
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
        /// The reason.
        why: String,
    },
    /// The operators are supported, but their graph is not a chain that ends in a classifier.
    #[error("graph: {0}")]
    Graph(String),
    /// The number of features is not the model's.
    #[error("{given} features given, but the model takes {wanted}")]
    Features {
        /// The number of given features.
        given: usize,
        /// The number of features that the model takes.
        wanted: usize,
    },
}
