//! HTTP, for probes and for those who gather metrics: what an instance is doing and what it has counted.

pub mod answers;
pub mod server;
