//! When a stage is passed: the gates, the tests that support a decision, and the forecast of the evidence.

pub mod basis;
pub mod forecast;
pub mod gates;
