//! Bridges to models: a worker that answers requests from an ONNX file.

#[cfg(feature = "kafka")]
pub mod features;
#[cfg(feature = "kafka")]
pub mod options;

#[cfg(feature = "kafka")]
pub mod bridge;

pub mod onnx;
