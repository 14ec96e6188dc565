//! What the process as a whole has: the clock, shutdown, liveness, failpoints and metrics.

pub mod clock;
pub mod wait;

pub mod liveness;
pub mod shutdown;

pub mod failpoints;
pub mod metrics;
