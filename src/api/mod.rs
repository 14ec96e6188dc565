//! The HTTP API of an instance: liveness and readiness probes, and metrics for Prometheus.
//!
//! A new endpoint: its function in `answers`, its route in `server`.

pub mod answers;
pub mod server;
