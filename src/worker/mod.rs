//! Model workers: `serinus worker` answers requests with the model of an ONNX file.

#[cfg(feature = "kafka")]
pub mod features;
#[cfg(feature = "kafka")]
pub mod options;

#[cfg(feature = "kafka")]
pub mod bridge;

pub mod onnx;
