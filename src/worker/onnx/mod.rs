//! Reads and runs the ONNX files that scikit-learn exports for linear and tree classifiers.
//!
//! It decodes the protobuf (`wire`, `proto`), turns the graph into a short chain of operators (`model`, `linear`, `tree`) and computes in
//! `f32`, as onnxruntime does. Arbitrary bytes give a model or an error; unsupported operators and attributes are named in the error.

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
