//! What the tests of a rollout were planned with, frozen before the data they are used on.

use std::collections::BTreeMap;

use crate::domain::ids::{MetricName, StageIndex, Version};
use crate::domain::time::Timestamp;

/// What the bets of one metric assume at one stage. A wrong guess costs power, never validity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assumption {
    /// The stable version's mean, around which values are centred.
    pub centre: f64,
    /// The variance around it (unpaired), or of the paired difference.
    pub variance: f64,
    /// For paired binary outcomes: the share of cases in which the two versions differ.
    pub discordance: f64,
}

/// Latency thresholds, frozen from the stable version's own history.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// The stable version's p50, p90, p99 and p99.9, in milliseconds.
    pub latency_ms: [f64; 4],
    /// The tick at which they were frozen: only what came after it counts.
    pub since: Timestamp,
}

/// Everything frozen so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Design {
    /// By stage and metric.
    pub assumptions: BTreeMap<(StageIndex, MetricName), Assumption>,
    /// By metric, for latency.
    pub thresholds: BTreeMap<MetricName, Thresholds>,
}

/// Names a comparison: a candidate against the stable version, in one metric, at one stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContrastKey {
    /// The stage.
    pub stage: StageIndex,
    /// The candidate.
    pub candidate: Version,
    /// The metric.
    pub metric: MetricName,
}
