//! An own reader of the ONNX files that scikit-learn's linear and tree classifiers are exported to.
//!
//! It decodes the protobuf (`wire`, `proto`), turns the graph into a short chain of operators (`model`, `linear`, `tree`)
//! and computes as onnxruntime does, in `f32`. Any bytes give a model or a clear error; what is not known is refused by name.

pub mod error;

pub mod wire;

pub mod proto;

pub mod attributes;

pub mod transform;

pub mod linear;

pub mod tree;

pub mod model;

#[cfg(all(test, feature = "kafka"))]
mod tests;
