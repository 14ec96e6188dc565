//! Process-wide services: the clock, deadlines, shutdown, liveness, failpoints, and metrics.
//!
//! Roles report to `liveness` and `metrics`; the HTTP API and the watchdog read both. Only `clock` reads the time.

pub mod clock;
pub mod wait;

pub mod liveness;
pub mod shutdown;

pub mod failpoints;
pub mod metrics;
