//! What is true in a synthetic world.

use crate::domain::time::Span;
use crate::plan::metric::{Metric, Shape};
use crate::plan::rollout::RolloutPlan;

/// What is true of one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// The stable version's mean.
    pub base: f64,
    /// Candidate minus stable, the same for every candidate; for latency a fraction.
    pub effect: f64,
    /// Of two binary answers to one case, how often they differ; as often as was planned for where nothing is said.
    pub apart: Option<f64>,
    /// The variance of a bounded value; as was planned for where nothing is said.
    pub variance: Option<f64>,
}

/// How the stable version's rates move while the world lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Drift {
    /// They stay.
    None,
    /// They move evenly to this multiple of what they were.
    To(f64),
    /// They swing around what they were by this share of it, once in each period.
    Wave {
        /// The share.
        by: f64,
        /// The period.
        period: Span,
    },
}

impl Drift {
    /// Returns what rates are multiplied by, `elapsed` into a world that lasts for `whole`.
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

/// How long labels take: exponential, and apart for cases in which it happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delay {
    /// The mean where it happened.
    pub event: Span,
    /// The mean where it did not.
    pub rest: Span,
    /// The share of cases that never get one.
    pub never: f64,
}

impl Delay {
    /// Labels are there at once.
    pub const NONE: Self = Self { event: Span::ZERO, rest: Span::ZERO, never: 0.0 };

    /// Returns how likely a label is still missing at this age.
    pub fn missing(self, is_event: bool, age: Span) -> f64 {
        let mean = if is_event { self.event } else { self.rest };
        let late = if mean.0 <= 0 { 0.0 } else { (-(age.0 as f64) / mean.0 as f64).exp() };
        self.never + (1.0 - self.never) * late
    }
}

/// Units that come again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sticky {
    /// How many units there are.
    pub units: u32,
    /// How alike the cases of one unit are: the intraclass correlation, in [0, 1).
    pub likeness: f64,
}

/// What candidates leave out, at random. The checks of the measurement are not told, so that the tests alone are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gaps {
    /// The share of their cases that they do not answer.
    pub answers: f64,
    /// The share of their cases that never get a label.
    pub labels: f64,
}

/// What is true in a world.
#[derive(Clone, Debug, PartialEq)]
pub struct Nature {
    /// What it is called.
    pub name: String,
    /// Of each metric, in the plan's order.
    pub truths: Vec<Truth>,
    /// How rates move.
    pub drift: Drift,
    /// How long labels take.
    pub delay: Delay,
    /// Units that come again; without it every request is a unit of its own.
    pub sticky: Option<Sticky>,
    /// What candidates leave out, of metrics that score answers against labels.
    pub gaps: Gaps,
}

impl Nature {
    /// Returns a world in which every version does as well as the spec says of the stable one.
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

    /// Returns the same world with effects, given in each metric's own unit by what makes one.
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

    /// Returns whether all that the plan measures can be drawn as counts.
    pub fn is_countable(&self, plan: &RolloutPlan) -> bool {
        self.sticky.is_none()
            && self.gaps == Gaps::default()
            && plan.candidates.len() == 1
            && plan.metrics.iter().all(|m| m.kind.shape() == Shape::Binary)
    }
}
