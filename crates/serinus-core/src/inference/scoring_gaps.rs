//! Which cases a metric could not score, as a check of the measurement: from a share of one per cent on it holds the rollout.
//!
//! The scores of the other cases carry no information about these, and a version may look better because they are missing.

use crate::domain::ids::{RequestId, Version};
use crate::evidence::sums::Scores;
use crate::evidence::unscored::{Reason, Side};
use crate::inference::input::AnalysisInput;
use crate::inference::verdict::{Clipped, Gap};
use crate::plan::metric::{Metric, MetricKind, MetricRole, Shape};
use serinus_stats::ranking::Ranking;

/// Minimum share of a version's labelled cases for a gap to hold the rollout.
const SHARE_MAX: f64 = 0.01;
/// Minimum share of tied pairs of a positive and a negative to hold the rollout: ties may hide half of it from the area.
const TIED_MAX: f64 = 0.05;

/// Returns the cases that could not be scored, by metric, version and reason.
pub fn gaps(input: &AnalysisInput<'_>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for metric in input.plan.metrics.iter().filter(|metric| metric.segment.is_none()) {
        for version in std::iter::once(input.stable).chain(input.live) {
            of_version(input, metric, version, &mut gaps);
        }
    }
    gaps
}

fn of_version(input: &AnalysisInput<'_>, metric: &Metric, version: &Version, gaps: &mut Vec<Gap>) {
    let whole = sum(input, metric, version, |_| true);
    let stage = sum(input, metric, version, |stage| stage == input.stage.0);
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
    input: &AnalysisInput<'_>,
    metric: &Metric,
    version: &Version,
    wanted: impl Fn(u32) -> bool,
) -> Scores {
    let mut sum = Scores::default();
    for ((stratum, of, _, name), scores) in &input.evidence.scores {
        if of == version && *name == metric.name && wanted(stratum.stage.0) {
            sum.merge(scores);
        }
    }
    sum
}

/// Returns the shares of clipped values, for a metric with a range.
pub fn clipped(input: &AnalysisInput<'_>, metric: &Metric, candidate: &Version) -> Option<Clipped> {
    if metric.kind.shape() != Shape::Bounded {
        return None;
    }
    let of = |version| {
        let scores = sum(input, metric, version, |_| true);
        share(scores.clipped, scores.moments.n)
    };
    Some(Clipped { stable: of(input.stable), candidate: of(candidate) })
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Returns whether values outside of the range are a gap: a loss in nats has no maximum, and its range is a convention.
pub fn is_range_declared(kind: MetricKind) -> bool {
    kind.traits().range.is_none()
}

/// Describes a gap in words: `brier: 50.0% of the labels of v1's cases are no outcomes (0, 1 or between), as of r1, r5 and r9`.
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
