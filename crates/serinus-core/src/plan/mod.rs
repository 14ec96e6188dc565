//! The plan language: models, rollouts, stages and metrics, once their specs have been parsed.

pub mod metric_kind;

pub mod metric;
pub mod rollout;
