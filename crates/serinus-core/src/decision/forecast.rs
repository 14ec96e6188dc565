//! How long a rollout will take: stage by stage, from the growth of its bets, the traffic, and the age of labels.
//!
//! A bet's log-capital grows by the same amount with every case on average; it decides when it has reached `ln(1/alpha)`, half of
//! all times after 0.95 of the cases that this takes on average, four fifths after 1.75 (measured over seven scenarios, within
//! 8 %). What a stage adds counts for all later ones, at that stage's own growth.

use crate::domain::ids::{StageIndex, Version};
use crate::domain::time::Span;
use crate::evidence::design::{Design, Pairing, Stratum};
use crate::inference::planning;
use crate::plan::metric::{Metric, MetricRole, Shape};
use crate::plan::rollout::{PromoteWhen, RolloutPlan};
use serinus_stats::side::Null;

/// How much of `ln(1/alpha) / growth` half of all tests take.
const MEDIAN: f64 = 0.95;
/// How much four fifths take.
const LIKELY: f64 = 1.75;

/// The traffic that is to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// Requests per second.
    pub rate: f64,
    /// The share of cases whose label comes in time.
    pub coverage: f64,
}

/// When a candidate that is as planned leaves a stage, counted from the rollout's first request.
#[derive(Clone, Debug, PartialEq)]
pub struct StageForecast {
    /// The stage.
    pub stage: StageIndex,
    /// Half of all such candidates have left it by now; never where nothing grows.
    pub median: Option<Span>,
    /// Four fifths have.
    pub likely: Option<Span>,
    /// The metric that takes longest, where one takes longer than the hold.
    pub slowest: Option<String>,
    /// How long it takes in this stage, half of the time, until harm of twice the margin is proved.
    pub harm: Option<Span>,
}

/// What a deciding metric can show within the time that the spec allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Reach {
    /// The metric.
    pub metric: String,
    /// The smallest harm that four fifths of all worlds find in time; nothing where none is found.
    pub harm: Option<f64>,
    /// The margin, to compare it with.
    pub margin: f64,
}

/// A plan's forecast.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// By stage.
    pub stages: Vec<StageForecast>,
    /// By deciding metric.
    pub reach: Vec<Reach>,
}

/// Forecasts a rollout's first candidate against a stable version.
pub fn forecast(plan: &RolloutPlan, traffic: Traffic) -> Forecast {
    let stable = Version::new("");
    let outlook = Outlook { plan, design: planning::initial(plan), stable, traffic };
    Forecast { stages: outlook.stages(), reach: outlook.reach() }
}

struct Outlook<'a> {
    plan: &'a RolloutPlan,
    design: Design,
    stable: Version,
    traffic: Traffic,
}

/// What is asked of a metric, and how the candidate really is.
#[derive(Clone, Copy)]
struct Question<'a> {
    metric: &'a Metric,
    null: Null,
    /// Candidate minus stable.
    truth: f64,
}

impl Outlook<'_> {
    fn stages(&self) -> Vec<StageForecast> {
        let (median, likely) = (self.leave(MEDIAN), self.leave(LIKELY));
        (0..)
            .zip(median.into_iter().zip(likely))
            .map(|(index, ((median, _), (likely, slowest)))| StageForecast {
                stage: StageIndex(index),
                median,
                likely,
                slowest,
                harm: self.harm_after(StageIndex(index)),
            })
            .collect()
    }

    /// Returns when each stage is left, and which metric it waited for longer than its hold.
    fn leave(&self, factor: f64) -> Vec<(Option<Span>, Option<String>)> {
        let mut lengths = Vec::new();
        let mut left = Some(Span::ZERO);
        let mut out = Vec::new();
        for (stage, index) in self.plan.stages.iter().zip(0..) {
            let index = StageIndex(index);
            let is_last = index.0 as usize + 1 == self.plan.stages.len();
            let mut length = stage.hold.max(self.exposure(index, stage.exposures_min));
            let mut slowest = None;
            for question in self.questions(is_last) {
                let proved = self.proved_after(question, index, &lengths, factor);
                if proved.is_none_or(|p| p > length) {
                    slowest = Some(question.metric.name.to_string());
                }
                match proved {
                    Some(it) => length = length.max(it),
                    None => left = None,
                }
            }
            left = left.map(|at| at + length);
            lengths.push(length);
            out.push((left, slowest));
        }
        out
    }

    /// Returns what must be proved to leave a stage, of a candidate that is as good (or, for superiority, better by the mde).
    fn questions(&self, is_last: bool) -> Vec<Question<'_>> {
        let decides = |m: &&Metric| {
            matches!(m.role, MetricRole::Goal | MetricRole::Guardrail) && is_forecast(m)
        };
        self.plan
            .metrics
            .iter()
            .filter(decides)
            .map(|metric| {
                let [_, non_inferior, superior] = planning::nulls(metric);
                let wants_better = is_last
                    && metric.role == MetricRole::Goal
                    && self.plan.decide.promote == PromoteWhen::Superior;
                if wants_better {
                    let truth = -metric.direction.harm_sign() * metric.mde;
                    Question { metric, null: superior, truth }
                } else {
                    Question { metric, null: non_inferior, truth: 0.0 }
                }
            })
            .collect()
    }

    /// Returns how long into a stage a question is answered, given how long the stages before it took.
    fn proved_after(
        &self,
        question: Question<'_>,
        stage: StageIndex,
        before: &[Span],
        factor: f64,
    ) -> Option<Span> {
        let mut wanted = -self.plan.decide.alpha.ln() * factor;
        for (length, index) in before.iter().zip(0..) {
            wanted -= self.growth(question, StageIndex(index))? * length.0 as f64;
        }
        if wanted <= 0.0 {
            return Some(Span::ZERO);
        }
        let growth = self.growth(question, stage)?;
        let age = if question.metric.needs_label() { self.plan.maturity } else { Span::ZERO };
        span(wanted / growth).map(|g| g + age)
    }

    fn harm_after(&self, stage: StageIndex) -> Option<Span> {
        let decides = |m: &&Metric| m.aborts;
        let times = self.plan.metrics.iter().filter(decides).filter_map(|metric| {
            self.harm_of(metric, 2.0 * metric.margin.value().max(0.5 * metric.mde), stage, MEDIAN)
        });
        times.min()
    }

    /// Returns how long it takes in a stage until harm of this size is proved.
    fn harm_of(&self, metric: &Metric, by: f64, stage: StageIndex, factor: f64) -> Option<Span> {
        let [harm, ..] = planning::nulls(metric);
        let truth = metric.direction.harm_sign() * by;
        let question = Question { metric, null: harm, truth };
        let ways = self.plan.metrics.iter().filter(|m| m.aborts).count().max(1)
            * self.plan.candidates.len().max(1);
        let wanted = (ways as f64 / self.plan.decide.alpha).ln() * factor;
        let age = if metric.needs_label() { self.plan.maturity } else { Span::ZERO };
        span(wanted / self.growth(question, stage)?).map(|s| s + age)
    }

    fn reach(&self) -> Vec<Reach> {
        let Some(by) = self.plan.decide.by else { return Vec::new() };
        let last = StageIndex(u32::try_from(self.plan.stages.len().saturating_sub(1)).unwrap_or(0));
        let metrics = self.plan.metrics.iter().filter(|m| m.aborts && is_forecast(m));
        metrics
            .map(|metric| {
                let is_found =
                    |size: f64| self.harm_of(metric, size, last, LIKELY).is_some_and(|s| s <= by);
                let (mut low, mut high) = (metric.mde / 64.0, metric.mde * 64.0);
                let harm = is_found(high).then(|| {
                    for _ in 0..40 {
                        let middle = (low * high).sqrt();
                        if is_found(middle) { high = middle } else { low = middle }
                    }
                    high
                });
                Reach { metric: metric.name.to_string(), harm, margin: metric.margin.value() }
            })
            .collect()
    }

    /// Returns how long a stage takes until its candidates have had so many cases.
    fn exposure(&self, stage: StageIndex, wanted: u64) -> Span {
        let Some(plan) = self.plan.stage(stage) else { return Span::ZERO };
        let shares = self.plan.candidates.iter().map(|c| {
            let copied = plan.shadows.iter().find(|(shadow, _)| shadow == c);
            let copied = copied.map_or(0.0, |(_, share)| share.fraction());
            plan.share_of(c).fraction().max(copied)
        });
        let least = shares.fold(1.0, f64::min);
        let per_ms = self.traffic.rate / 1000.0 * least;
        span(wanted as f64 / per_ms).unwrap_or(Span::ZERO)
    }

    /// Returns the log-capital won in a millisecond of a stage; nothing where the metric is not planned for or nothing grows.
    fn growth(&self, question: Question<'_>, stage: StageIndex) -> Option<f64> {
        let candidate = self.plan.candidates.first()?;
        let stratum = Stratum { stage, drops: 0 };
        let pairing = self.design.pairing(self.plan, stratum, candidate, &self.stable);
        let ours = self.design.share(self.plan, stratum, candidate).fraction();
        let theirs = self.design.share(self.plan, stratum, &self.stable).fraction();
        let compared = match pairing {
            Pairing::Split { .. } => ours + theirs,
            Pairing::Paired if ours > 0.0 => 1.0,
            Pairing::Paired => {
                let plan = self.plan.stage(stage)?;
                let copied = plan.shadows.iter().find(|(s, _)| s == candidate);
                theirs * copied.map_or(0.0, |(_, share)| share.fraction())
            }
            Pairing::Apart => return None,
        };
        let metric = question.metric;
        let assumption = planning::assumption(&self.design, metric, stage);
        let each = match metric.kind.shape() {
            Shape::Binary => {
                planning::rate_growth(metric, assumption, pairing, question.null, question.truth)
            }
            Shape::Bounded => {
                planning::mean_growth(metric, assumption, pairing, question.null, question.truth)
            }
            Shape::Ranking | Shape::Duration | Shape::Confusion => return None,
        };
        let coverage = if metric.needs_label() { self.traffic.coverage } else { 1.0 };
        let per_ms = each * compared * coverage * self.traffic.rate / 1000.0;
        (per_ms > 0.0).then_some(per_ms)
    }
}

/// Returns whether a metric's growth is known beforehand: of rankings, durations and two-by-two tables it is not.
pub fn is_forecast(metric: &Metric) -> bool {
    matches!(metric.kind.shape(), Shape::Binary | Shape::Bounded)
}

#[expect(clippy::cast_possible_truncation, reason = "bounded before")]
fn span(ms: f64) -> Option<Span> {
    (0.0..1e15).contains(&ms).then_some(Span(ms.ceil() as i64))
}
