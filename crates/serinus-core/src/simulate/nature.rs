//! The truth in a synthetic world.

use crate::domain::time::Span;
use crate::plan::metric::{Metric, Shape};
use crate::plan::rollout::RolloutPlan;

/// The truth about one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// The stable version's mean.
    pub base: f64,
    /// Candidate minus stable, the same for every candidate; for latency a fraction.
    pub effect: f64,
    /// How often two binary answers to one case differ. Default: as often as planned.
    pub apart: Option<f64>,
    /// The variance of a bounded value. Default: as planned.
    pub variance: Option<f64>,
}

/// How the stable version's rates change during a world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Drift {
    /// They are constant.
    None,
    /// They change linearly to this multiple of their initial value.
    To(f64),
    /// They oscillate around their initial value.
    Wave {
        /// The amplitude, as a share of the initial value.
        by: f64,
        /// The period.
        period: Span,
    },
}

impl Drift {
    /// Returns the factor on the rates after `elapsed` of a world that lasts for `whole`.
    pub fn factor(self, elapsed: Span, whole: Span) -> f64 {
        match self {
            Self::None => 1.0,
            Self::To(end) => {
                let share = elapsed.0 as f64 / (whole.0.max(1) as f64);
                1.0 + (end - 1.0) * share.min(1.0)
            }
            Self::Wave { by, period } => {
                let turn = elapsed.0 as f64 / (period.0.max(1) as f64);
                1.0 + by * (std::f64::consts::TAU * turn).sin()
            }
        }
    }
}

/// The delay of labels: exponential, with separate means for cases with and without the event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delay {
    /// The mean delay of cases with the event.
    pub event: Span,
    /// The mean delay of the other cases.
    pub rest: Span,
    /// The share of cases that never get a label.
    pub never: f64,
}

impl Delay {
    /// No delay.
    pub const NONE: Self = Self { event: Span::ZERO, rest: Span::ZERO, never: 0.0 };

    /// Returns the probability that a label is still missing at this age.
    pub fn missing(self, is_event: bool, age: Span) -> f64 {
        let mean = if is_event { self.event } else { self.rest };
        let late = if mean.0 <= 0 { 0.0 } else { (-(age.0 as f64) / mean.0 as f64).exp() };
        self.never + (1.0 - self.never) * late
    }
}

/// Units with several requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sticky {
    /// The number of units.
    pub units: u32,
    /// The intraclass correlation of the cases of one unit, in [0, 1).
    pub likeness: f64,
}

/// Answers and labels that are missing at random for candidates. The health checks do not see them, so only the tests are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gaps {
    /// The share of the candidates' cases without an answer.
    pub answers: f64,
    /// The share of the candidates' cases without a label.
    pub labels: f64,
}

/// The truth in a world.
#[derive(Clone, Debug, PartialEq)]
pub struct Nature {
    /// The name.
    pub name: String,
    /// The truth about each metric, in the plan's order.
    pub truths: Vec<Truth>,
    /// How rates change.
    pub drift: Drift,
    /// The delay of labels.
    pub delay: Delay,
    /// Units with several requests; `None` if every request is its own unit.
    pub sticky: Option<Sticky>,
    /// Missing answers and labels of candidates, for metrics that score answers against labels.
    pub gaps: Gaps,
}

impl Nature {
    /// Returns a world in which every version performs as the spec assumes of the stable one.
    pub fn alike(name: &str, plan: &RolloutPlan) -> Self {
        let truths = plan
            .metrics
            .iter()
            .map(|metric| Truth { base: metric.base, effect: 0.0, apart: None, variance: None })
            .collect();
        Self {
            name: name.to_owned(),
            truths,
            drift: Drift::None,
            delay: Delay::NONE,
            sticky: None,
            gaps: Gaps::default(),
        }
    }

    /// Returns the same world with effects; the argument gives each metric's effect in the unit of the metric.
    #[must_use]
    pub fn with_effects(
        mut self,
        plan: &RolloutPlan,
        effect: impl Fn(&Metric) -> Option<f64>,
    ) -> Self {
        for (truth, metric) in self.truths.iter_mut().zip(&plan.metrics) {
            truth.effect = effect(metric).unwrap_or(truth.effect);
        }
        self
    }

    /// Returns whether all metrics of the plan can be drawn as counts.
    pub fn is_countable(&self, plan: &RolloutPlan) -> bool {
        self.sticky.is_none()
            && self.gaps == Gaps::default()
            && plan.candidates.len() == 1
            && plan.metrics.iter().all(|m| m.kind.shape() == Shape::Binary)
    }
}
