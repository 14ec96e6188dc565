//! What a rollout measures: its metrics with their roles and limits. The kinds are in `metric_kind`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::ids::{MetricName, Version};
pub use crate::plan::metric_kind::{Direction, MetricKind, Shape};

/// What a metric may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MetricRoleWord")]
pub enum MetricRole {
    /// What the rollout is for: promotes when proved, aborts when harm is proved.
    Goal,
    /// What must not get worse: blocks and aborts.
    Guardrail,
    /// Holds while it is bad and lets go by itself.
    Signal,
    /// Measured, never decides.
    Watch,
}

/// What a case counts as whose answer cannot be scored.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "UnusableWord")]
pub enum Unusable {
    /// As bad as it can be for what is claimed, so that every claim holds whatever the answer would have been.
    #[default]
    Bounds,
    /// As nothing; then units must not go missing between assignment and answer.
    Exclude,
}

/// How much worse the candidate may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Margin {
    /// In the metric's own unit; a percentage of a rate is percentage points.
    Absolute(f64),
    /// As a fraction of the stable version's value; for latency only.
    Relative(f64),
}

impl Margin {
    /// Returns the number, whatever it is of.
    pub fn value(self) -> f64 {
        match self {
            Self::Absolute(value) | Self::Relative(value) => value,
        }
    }
}

/// One metric of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name, unique in the rollout.
    pub name: MetricName,
    /// The kind.
    pub kind: MetricKind,
    /// The role.
    pub role: MetricRole,
    /// Which way is better.
    pub direction: Direction,
    /// How much worse is still acceptable.
    pub margin: Margin,
    /// The smallest effect worth detecting, in the metric's own unit (for latency: as a fraction).
    pub mde: f64,
    /// The JSON pointer to the prediction in the answer.
    pub prediction: Option<String>,
    /// The JSON pointer to the truth in the label's value.
    pub label: Option<String>,
    /// The score from which a prediction is positive, if the spec sets one; otherwise the larger probability decides.
    pub threshold: Option<f64>,
    /// The label that counts as 1, while all others count as 0; without it, a label must be an outcome by itself.
    pub positive: Option<serde_json::Value>,
    /// The range of a bounded metric; values outside are clipped to it, counted.
    pub range: (f64, f64),
    /// The stable version's expected value, used to plan bets: a wrong one costs power, never validity.
    pub base: f64,
    /// The center of bets on single answers before there is data: `base`, or 0 for rare events if the spec has no base.
    pub centre: f64,
    /// Numbers closer than this agree (disagreement).
    pub tolerance: f64,
    /// JSON pointers that are not compared (disagreement).
    pub ignore: Vec<String>,
    /// A second instance of the stable version; its disagreement with the stable version is subtracted (disagreement).
    pub twin: Option<Version>,
    /// The segment to which it is limited: the segmentation, and the segment.
    pub segment: Option<(Arc<str>, Arc<str>)>,
    /// Whether harm in this metric may abort by itself.
    pub aborts: bool,
    /// How to count a case whose answer cannot be scored.
    pub unusable: Unusable,
}

impl Metric {
    /// Returns whether it waits for labels. A `value` of the answer does not.
    pub fn needs_label(&self) -> bool {
        self.kind.needs_label() && (self.kind != MetricKind::Value || self.label.is_some())
    }

    /// Returns whether it counts cases of these segments.
    pub fn counts(&self, segments: &[(Arc<str>, Arc<str>)]) -> bool {
        self.segment.as_ref().is_none_or(|s| segments.contains(s))
    }

    /// Returns the same metric limited to one watched segment.
    #[must_use]
    pub fn within(&self, by: &str, value: &str) -> Self {
        Self {
            name: MetricName::new(format!("{}[{by}={value}]", self.name)),
            role: MetricRole::Watch,
            segment: Some((Arc::from(by), Arc::from(value))),
            aborts: false,
            ..self.clone()
        }
    }
}

impl MetricRole {
    /// Returns the contract's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Goal => "goal",
            Self::Guardrail => "guardrail",
            Self::Signal => "signal",
            Self::Watch => "watch",
        }
    }
}
