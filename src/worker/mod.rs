//! Bridges to models: a worker that answers requests from an ONNX file.

pub mod features;
pub mod options;

pub mod bridge;

pub mod onnx;
