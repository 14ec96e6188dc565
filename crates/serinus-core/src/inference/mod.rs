//! Interim analyses: estimates and e-values by metric, and the health of the measurement.

pub mod format;
pub mod verdict;

pub mod bet_cache;
pub mod input;
pub mod planning;

pub mod claims;
pub mod scoring_gaps;

pub mod strata;

pub mod fixed_horizon;
pub mod latency;
pub mod ranking;
pub mod reading;

pub mod finding;
pub mod health;

pub mod interim;
