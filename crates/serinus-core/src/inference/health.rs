//! The health of the measurement: no units are lost, none is in two arms, and labels arrive equally in all arms.
//!
//! Units are followed over three points: assigned, answered, labelled. Each has its own sequential test of the same shares, so
//! that a hold can say between which two points units go missing. Lost answers are compared besides, arm by arm, since one per
//! cent more of them is far less than what moves the shares. Labels are compared at three ages. Three tests share one level.
//! Where failed answers are a metric of their own, that metric says how many are too many, and only the assignment can hold; unless
//! a metric leaves out cases that are not answered.

use crate::domain::ids::Version;
use crate::evidence::design::{Pairing, Part};
use crate::evidence::units::{Basis, UnitCounts, Units};
use crate::inference::input::AnalysisInput;
use crate::inference::scoring_gaps;
use crate::inference::verdict::{Check, Health, LabelAge, SplitPoint, Trail};
use crate::plan::metric::{Metric, MetricRole, Unusable};
use crate::plan::metric_kind::Group;
use crate::plan::rollout::MissingLabels;
use serinus_stats::ipw_bet::{self, Counts, Stratum};
use serinus_stats::prior::Prior;
use serinus_stats::rr_mix::{self, Coverage};
use serinus_stats::side::{Null, Side};
use serinus_stats::special::{log_sum_exp, p_of_log_e};
use serinus_stats::split::{self, SplitStage};

/// The level at which unequal labels hold a rollout, of all ages and candidates together.
const PARITY_ALPHA: f64 = 0.001;
/// The number of points of each check.
const POINTS: f64 = 3.0;
/// By how much one arm's share of lost answers may exceed another's before the measurement counts as bad. A few answers lost
/// at a start do not count.
const LOSS_MARGIN: f64 = 0.01;
/// The loss beyond the margin that the test is planned for.
const LOSS_MDE: f64 = 0.02;
/// The share of lost answers that is assumed to be normal.
const LOSS_BASE: f64 = 0.001;

/// Checks the health of the measurement.
pub fn health(input: &AnalysisInput<'_>, no_data: bool) -> Health {
    Health {
        split: split_trail(input),
        label_parity: parity_trail(input),
        mixed_units: input.evidence.units.values().map(Units::mixed).sum(),
        without_unit: input.evidence.without_unit,
        lag: input.lag,
        unplanned: input.unplanned,
        no_data,
        scoring: scoring_gaps::gaps(input),
    }
}

/// Returns whether a missing label is a fault of the measurement, and not information about the truth.
fn are_labels_expected(input: &AnalysisInput<'_>) -> bool {
    let needs_labels = input.plan.metrics.iter().any(Metric::needs_label);
    input.plan.missing == MissingLabels::Exclude && needs_labels
}

/// Compares the units of each arm at each point with the shares, in every stratum.
///
/// That a candidate that was taken out did not answer is known by then: from the answer on, only those who are still in are
/// compared, each set of them by a test of its own.
fn split_trail(input: &AnalysisInput<'_>) -> Trail {
    let all: Vec<&Version> = std::iter::once(input.stable).chain(&input.plan.candidates).collect();
    let live: Vec<&Version> = std::iter::once(input.stable).chain(input.live).collect();
    let strata = |versions: &[&Version], reached: fn(UnitCounts) -> u64| -> Vec<Point> {
        let stratum = |(stratum, units): (_, &Units)| {
            let weight = |v: &Version| input.design.share(input.plan, stratum, v).fraction();
            let (of, dispersion, toll): (fn(&Units, &Version) -> UnitCounts, f64, f64) =
                match units.basis() {
                    Basis::Cases { dispersion, toll } => (Units::cases_of, dispersion, toll),
                    Basis::Sample { toll } => (Units::units_of, 1.0, toll),
                };
            Point {
                weights: versions.iter().map(|v| weight(v)).collect(),
                counts: versions.iter().map(|v| reached(of(units, v))).collect(),
                dispersion,
                toll,
            }
        };
        input.evidence.units.iter().map(|(u, units)| stratum((*u, units))).collect()
    };
    let assigned = strata(&all, |s| s.assigned);
    let assigned_live = strata(&live, |l| l.assigned);
    let answered = strata(&live, |l| l.answered);
    let labelled =
        if are_labels_expected(input) { strata(&live, |l| l.labelled) } else { Vec::new() };
    let log_e = [log_e(&assigned), answers_log_e(&assigned_live, &answered), log_e(&labelled)];
    let bar = (POINTS / split::ALPHA).ln();
    let bad = log_e.iter().position(|l| *l >= bar).and_then(|point| {
        let loser = match point {
            SplitPoint::ASSIGNED => most_missing(&all, &assigned, None),
            SplitPoint::ANSWERED => most_missing(&live, &answered, Some(&assigned_live)),
            _ => most_missing(&live, &labelled, Some(&answered)),
        };
        Some((point, loser?))
    });
    let decides = |m: &Metric| matches!(m.role, MetricRole::Goal | MetricRole::Guardrail);
    let measures = |m: &Metric| decides(m) && matches!(m.kind.group(), Group::Response(_));
    // A metric that leaves cases out rests on the answered ones being split as planned.
    let leaves_out = |m: &Metric| decides(m) && m.unusable == Unusable::Exclude;
    let metrics = &input.plan.metrics;
    let is_measured = metrics.iter().any(measures) && !metrics.iter().any(leaves_out);
    let bad = bad.filter(|(point, _)| *point == SplitPoint::ASSIGNED || !is_measured);
    let mut trail = trail(log_e, bar, POINTS, bad);
    if is_measured {
        trail.all = Check {
            p: (POINTS * trail.points[SplitPoint::ASSIGNED].p).min(1.0),
            is_ok: trail.points[SplitPoint::ASSIGNED].is_ok,
        };
    }
    trail
}

/// One stratum at one point: the shares, and the units that reached the point.
struct Point {
    weights: Vec<f64>,
    counts: Vec<u64>,
    /// The variance of the counts relative to independently drawn units.
    dispersion: f64,
    /// The correction of the log evidence for the choice of the counted units.
    toll: f64,
}

fn log_e(strata: &[Point]) -> f64 {
    let of_stratum = |p: &Point| {
        if p.counts.iter().all(|count| *count == 0) {
            return 0.0;
        }
        let sum: f64 = p.weights.iter().sum();
        let shares: Vec<f64> =
            p.weights.iter().map(|weight| if sum > 0.0 { weight / sum } else { 0.0 }).collect();
        let stage = SplitStage { weights: &shares, counts: &p.counts };
        split::log_e(&[stage]) / p.dispersion - p.toll
    };
    strata.iter().map(of_stratum).sum()
}

/// Returns the evidence that answers are lost: half of the capital bets on the shares of answered units, half on one arm losing
/// more than another, evenly over the candidates and both directions. The first version is the stable one.
fn answers_log_e(assigned: &[Point], answered: &[Point]) -> f64 {
    let shares = log_e(answered);
    let candidates = answered.first().map_or(0, |a| a.counts.len().saturating_sub(1));
    if candidates == 0 {
        return shares;
    }
    let part = (0.5 / (2 * candidates) as f64).ln();
    let prior = Prior::planned(LOSS_MDE);
    let mut terms = vec![0.5_f64.ln() + shares];
    for candidate in 1..=candidates {
        let strata: Vec<Stratum> =
            assigned.iter().zip(answered).map(|a| losses(candidate, a)).collect();
        let dispersion = assigned.iter().map(|a| a.dispersion).fold(1.0, f64::max);
        let toll: f64 = assigned.iter().map(|a| a.toll).sum();
        for null in [
            Null { at: LOSS_MARGIN, side: Side::Greater },
            Null { at: -LOSS_MARGIN, side: Side::Less },
        ] {
            terms.push(part + ipw_bet::log_e(&strata, null, &prior) / dispersion - toll);
        }
    }
    log_sum_exp(&terms)
}

/// Counts the units that a candidate and the stable version lost between assignment and answer.
fn losses(candidate: usize, (assigned, answered): (&Point, &Point)) -> Stratum {
    let lost = |arm: usize| assigned.counts[arm].saturating_sub(answered.counts[arm]);
    Stratum {
        propensity: assigned.weights[candidate]
            / (assigned.weights[candidate] + assigned.weights[0]),
        base: LOSS_BASE,
        centre: LOSS_BASE,
        counts: Counts {
            treated: assigned.counts[candidate],
            treated_events: lost(candidate),
            control: assigned.counts[0],
            control_events: lost(0),
        },
    }
}

/// Returns the version with the most missing units, relative to its share or to the previous point.
fn most_missing(
    versions: &[&Version],
    strata: &[Point],
    before: Option<&[Point]>,
) -> Option<Version> {
    let mut missing = vec![(0.0, 0.0); versions.len()];
    for (index, it) in strata.iter().enumerate() {
        let base: Vec<f64> = match before.and_then(|b| b.get(index)) {
            Some(before) => before.counts.iter().map(|c| *c as f64).collect(),
            None => it.weights.clone(),
        };
        let ratio = it.counts.iter().sum::<u64>() as f64 / base.iter().sum::<f64>();
        if !ratio.is_finite() {
            continue;
        }
        for ((missing, base), count) in missing.iter_mut().zip(&base).zip(&it.counts) {
            missing.0 += base * ratio - *count as f64;
            missing.1 += base * ratio;
        }
    }
    let deviation = |(missing, expected): (f64, f64)| missing / expected.max(1.0).sqrt();
    let (_, worst) = missing
        .into_iter()
        .zip(versions)
        .max_by(|(a, _), (b, _)| deviation(*a).total_cmp(&deviation(*b)))?;
    Some((*worst).clone())
}

/// Combines three tests that share one level: each may fail at `bar`, and the overall p-value is corrected for `tests`.
fn trail(log_e: [f64; 3], bar: f64, tests: f64, bad: Option<(usize, Version)>) -> Trail {
    let points = log_e.map(|l| Check { p: p_of_log_e(l), is_ok: l < bar });
    let least = points.iter().map(|p| p.p).fold(1.0, f64::min);
    let all = Check { p: (tests * least).min(1.0), is_ok: points.iter().all(|p| p.is_ok) };
    Trail { all, points, bad }
}

/// Compares how often labels are missing at three ages, candidate by candidate; the worst counts.
///
/// If only early ages fail, labels arrive later in one arm, and the labels at maturity are not comparable.
fn parity_trail(input: &AnalysisInput<'_>) -> Trail {
    let tests = POINTS * input.live.len().max(1) as f64;
    let bar = (tests / PARITY_ALPHA).ln();
    if !are_labels_expected(input) {
        return trail([0.0; 3], bar, tests, None);
    }
    let worst: [(f64, Option<Version>); 3] = std::array::from_fn(|age| {
        input
            .live
            .iter()
            .map(|candidate| {
                let strata = coverage(input, candidate, age);
                let loser = if treated_excess(&strata) > 0.0 { candidate } else { input.stable };
                (rr_mix::label_parity(&strata), Some(loser.clone()))
            })
            .fold((0.0, None), |worst, l| if l.0 > worst.0 { l } else { worst })
    });
    let is_bad = |age: &usize| worst[*age].0 >= bar;
    let telling = [LabelAge::FULL, LabelAge::QUARTER, LabelAge::HALF].into_iter().find(is_bad);
    let bad = telling.and_then(|age| Some((age, worst[age].1.clone()?)));
    trail(worst.map(|(log_e, _)| log_e), bar, tests, bad)
}

/// Returns the number of labels missing in the candidate's arm beyond its share of all missing labels.
fn treated_excess(strata: &[Coverage]) -> f64 {
    strata
        .iter()
        .map(|s| {
            let treated = s.treated.saturating_sub(s.treated_labelled) as f64;
            let control = s.control.saturating_sub(s.control_labelled) as f64;
            treated - s.propensity * (treated + control)
        })
        .sum()
}

/// Counts mature cases, and those with a label by an age; where units come again, the first mature case of each unit that is
/// remembered, because the cases of one unit are not drawn one by one.
fn coverage(input: &AnalysisInput<'_>, candidate: &Version, age: usize) -> Vec<Coverage> {
    let mature = |stratum, version| {
        let units = input.evidence.units.get(&stratum).filter(|s| s.is_sticky());
        if let Some(units) = units {
            let counts = units.units_of(version);
            return (counts.mature, counts.labelled_by[age]);
        }
        let tally = input.evidence.tally(stratum, version, Part::Chosen);
        tally.map_or((0, 0), |t| (t.mature, t.labelled_by_age()[age]))
    };
    input
        .compared(candidate)
        .into_iter()
        .filter_map(|(stratum, pairing)| match pairing {
            Pairing::Split { rho } => {
                let (treated, treated_labelled) = mature(stratum, candidate);
                let (control, control_labelled) = mature(stratum, input.stable);
                Some(Coverage {
                    propensity: rho,
                    treated,
                    treated_labelled,
                    control,
                    control_labelled,
                })
            }
            Pairing::Paired | Pairing::Apart => None,
        })
        .collect()
}
