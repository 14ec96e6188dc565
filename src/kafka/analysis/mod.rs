//! The analysis role: one lane for each partition of predictions.

pub mod partials;
pub mod rows;

pub mod inputs;
pub mod lane;
pub mod recovery;
pub mod snapshots;

pub mod missing_plans;
pub mod role;
