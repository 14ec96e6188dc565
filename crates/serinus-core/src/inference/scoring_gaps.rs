//! Which cases a metric could not score, as a check of the measurement: from a share of one per cent on it holds the rollout.
//!
//! Scores of the cases that are left say nothing of the others, and a version may look better by what is left out.

use crate::domain::ids::{MetricName, RequestId, Version};
use crate::evidence::sums::Scores;
use crate::evidence::unscored::{Reason, Side};
use crate::inference::interim::AnalysisInput;
use crate::inference::verdict::{Finding, InterimAnalysis};
use crate::plan::metric::{Metric, MetricKind, MetricRole, Shape};
use serinus_stats::ranking::Ranking;

/// From which share of a version's labelled cases on a gap holds.
const SHARE_MAX: f64 = 0.01;
/// From which share of all pairs of a positive and a negative on ties hold: they may hide half of it from the area.
const TIED_MAX: f64 = 0.05;

/// Cases of one version that one metric could not score for one reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// The metric.
    pub metric: MetricName,
    /// The version.
    pub version: Version,
    /// Why.
    pub reason: Reason,
    /// The share of the version's labelled cases with an answer, of the rollout or of its present stage: the greater one.
    pub share: f64,
    /// The request ids of a few of them.
    pub sample: Vec<RequestId>,
    /// Whether it holds the rollout.
    pub holds: bool,
}

/// The shares of values that were clipped to the metric's range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clipped {
    /// Of the stable version's values.
    pub stable: f64,
    /// Of the candidate's.
    pub candidate: f64,
}

impl Gap {
    /// Returns whether a finding rests on scores that this gap leaves open; a clipped value is scored all the same.
    pub fn opens(&self, look: &InterimAnalysis<'_>, finding: &Finding) -> bool {
        self.holds
            && self.reason != Reason::OutsideRange
            && self.metric == finding.metric
            && (self.version == *look.stable || self.version == finding.candidate)
    }
}

/// Returns what could not be scored, by metric, version and reason.
pub fn gaps(sight: &AnalysisInput<'_>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for metric in sight.plan.metrics.iter().filter(|metric| metric.segment.is_none()) {
        for version in std::iter::once(sight.stable).chain(sight.live) {
            of_version(sight, metric, version, &mut gaps);
        }
    }
    gaps
}

fn of_version(sight: &AnalysisInput<'_>, metric: &Metric, version: &Version, gaps: &mut Vec<Gap>) {
    let whole = sum(sight, metric, version, |_| true);
    let stage = sum(sight, metric, version, |stage| stage == sight.stage.0);
    let is_deciding = metric.role != MetricRole::Watch;
    let tied = whole.ranks.as_ref().map_or(0.0, Ranking::tied);
    if tied >= TIED_MAX {
        gaps.push(Gap {
            metric: metric.name.clone(),
            version: version.clone(),
            reason: Reason::Tied,
            share: tied,
            sample: Vec::new(),
            holds: is_deciding,
        });
    }
    for (reason, fault) in &whole.unscored.reasons {
        let part = |scores: &Scores| {
            let n = scores.unscored.reasons.get(reason).map_or(0, |fault| fault.n);
            share(n, scores.unscored.cases)
        };
        let share = part(&whole).max(part(&stage));
        gaps.push(Gap {
            metric: metric.name.clone(),
            version: version.clone(),
            reason: *reason,
            share,
            sample: fault.sample.iter().map(|(_, id)| id.clone()).collect(),
            holds: is_deciding && share >= SHARE_MAX,
        });
    }
}

fn sum(
    sight: &AnalysisInput<'_>,
    metric: &Metric,
    version: &Version,
    wanted: impl Fn(u32) -> bool,
) -> Scores {
    let mut sum = Scores::default();
    for ((stratum, of, _, name), scores) in &sight.evidence.scores {
        if of == version && *name == metric.name && wanted(stratum.stage.0) {
            sum.merge(scores);
        }
    }
    sum
}

/// Returns the shares of clipped values, for a metric with a range.
pub fn clipped(sight: &AnalysisInput<'_>, metric: &Metric, candidate: &Version) -> Option<Clipped> {
    if metric.kind.shape() != Shape::Bounded {
        return None;
    }
    let of = |version| {
        let scores = sum(sight, metric, version, |_| true);
        share(scores.clipped, scores.moments.n)
    };
    Some(Clipped { stable: of(sight.stable), candidate: of(candidate) })
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Returns whether values outside of the range leave a gap: a loss in nats has no greatest value, and its range is a convention.
pub fn is_range_declared(kind: MetricKind) -> bool {
    match kind {
        MetricKind::SquaredError | MetricKind::AbsoluteError | MetricKind::Value => true,
        MetricKind::Accuracy
        | MetricKind::ErrorRate
        | MetricKind::LogLoss
        | MetricKind::Brier
        | MetricKind::Precision
        | MetricKind::Recall
        | MetricKind::F1
        | MetricKind::Auc
        | MetricKind::ResponseError
        | MetricKind::Timeout
        | MetricKind::Latency
        | MetricKind::Disagreement => false,
    }
}

/// Says a gap in words: `brier: 50.0% of the labels of v1's cases are no outcomes (0, 1 or between), as of r1, r5 and r9`.
pub fn words(gap: &Gap) -> String {
    let version = &gap.version;
    let what = match gap.reason.side() {
        Side::Answer => format!("{version}'s answers {}", phrase(gap.reason)),
        Side::Label => format!("the labels of {version}'s cases {}", phrase(gap.reason)),
        Side::Limits => format!("{version}'s {}", phrase(gap.reason)),
    };
    let ids: Vec<&str> = gap.sample.iter().map(RequestId::as_str).collect();
    let such = match ids.as_slice() {
        [] => String::new(),
        ids => format!(", such as of {}", ids.join(", ")),
    };
    format!("{}: {} of {what}{such}", gap.metric, percent(gap.share))
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 { format!("{percent:.1}%") } else { format!("{percent:.2}%") }
}

fn phrase(reason: Reason) -> &'static str {
    match reason {
        Reason::NotJson => "are not JSON",
        Reason::Nothing | Reason::LabelNothing => "have nothing at the pointer",
        Reason::Null | Reason::LabelNull => "are null",
        Reason::NotNumber | Reason::LabelNotNumber => "are not numbers",
        Reason::NotFinite => "are not finite (NaN or infinite)",
        Reason::OutsideUnit => "are outside [0, 1]",
        Reason::NotClass | Reason::LabelNotClass => "are no classes (text, number, true or false)",
        Reason::NotComparable => "cannot be compared with the label",
        Reason::LabelNoOutcome => {
            "are no outcomes (0, 1, true, false or between; `positive` can name one)"
        }
        Reason::LabelTooLong => "are numbers with too many digits for a class",
        Reason::OutsideRange => "values are outside the range and clipped to it",
        Reason::Tied => "pairs of a positive and a negative have scores too close together to rank",
    }
}
