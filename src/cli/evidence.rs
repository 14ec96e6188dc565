//! The parts of the evidence that several commands print.

use crate::cli::say;
use crate::wire::metrics::{FindingRecord, MetricsRecord};

/// Returns every metric, and the segments that have an alert.
pub(crate) fn told(metrics: &MetricsRecord) -> impl Iterator<Item = &FindingRecord> {
    let alerts = metrics.segments.iter().filter(|m| m.verdict == "alert");
    metrics.metrics.iter().chain(alerts)
}

/// Returns the stable version; empty if no arm is stable.
pub(crate) fn stable_of(metrics: &MetricsRecord) -> &str {
    metrics.arms.iter().find(|m| m.role == "stable").map_or("", |m| &m.version)
}

/// Returns the text of a version's value in a metric.
pub(crate) fn estimate(metric: &FindingRecord, version: &str) -> String {
    say::or_dash(metric.arms.get(version).map(|value| value.estimate), say::number)
}

/// Returns the text of a difference with its interval: `-0.013 [-0.021, -0.004]`.
pub(crate) fn difference(metric: &FindingRecord) -> String {
    let Some(it) = metric.difference else { return "-".to_owned() };
    let estimate = say::signed(it.estimate);
    match (it.low, it.high) {
        (Some(low), Some(high)) => {
            format!("{estimate} [{}, {}]", say::signed(low), say::signed(high))
        }
        _ => estimate,
    }
}
