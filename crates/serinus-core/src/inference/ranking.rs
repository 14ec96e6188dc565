//! Rankings and two-by-two tables: the area under the curve, precision, recall and F1.
//!
//! None of them is a mean over cases that could be bet on, so they are tested by asymptotic confidence sequences, stratum by
//! stratum, after a burn-in of a hundred positives in each arm. In a stratum of pairs the two arms count as independent: that
//! overstates the variance, since answers to one case resemble each other. Harm in them does not abort unless the spec sets `abort`.

use crate::domain::ids::Version;
use crate::evidence::bounds::{self, Lost, Sides};
use crate::evidence::sums::{Scores, Table};
use crate::inference::claims::{Bars, Claims};
use crate::inference::fixed_horizon;
use crate::inference::input::{AnalysisInput, Detail};
use crate::inference::planning;
use crate::inference::reading::Reading;
use crate::inference::strata::{Average, compared, tuning, unrejected, with_interval};
use crate::inference::verdict::{Classic, Estimate, LogE, LostAnswers};
use crate::plan::metric::Metric;
use crate::plan::metric_kind::{Cells, Group};
use serinus_stats::asymp::{self, POSITIVES_MIN};
use serinus_stats::interval::Interval;
use serinus_stats::ratio;
use serinus_stats::roc;
use serinus_stats::special::normal_sf;
use serinus_stats::two_sample::Rate;

/// Minimum number of cases of each class that a value needs, for a stratum to count.
const RANKED_MIN: u64 = 30;

/// One arm's value with its variance.
#[derive(Clone, Copy, Debug)]
struct Arm {
    value: f64,
    variance: f64,
    /// Cases.
    n: u64,
    /// The positives among these.
    positives: u64,
    /// The smallest of the counts that the value is a quotient of.
    fewest: u64,
}

const NOTHING_SAID: LogE = LogE { harm: 0.0, non_inferior: 0.0, superior: 0.0 };

/// Reads a ranking or a two-by-two metric.
pub(crate) fn ranked(input: &AnalysisInput<'_>, metric: &Metric, candidate: &Version) -> Reading {
    let alpha = input.plan.decide.alpha;
    let inflation = input.evidence.inflation(candidate, &metric.name);
    let mut difference = Average::default();
    let mut sides = Sides::both(Average::default());
    let (mut ours_all, mut theirs_all) = (Scores::default(), Scores::default());
    let (mut n, mut n_min) = (0, 0);
    let (mut positives, mut cases) = (0, 0);
    let mut lost = LostAnswers::default();
    for it in compared(input, metric, candidate) {
        let (Some(ours), Some(theirs)) = (arm(metric, &it.ours), arm(metric, &it.theirs)) else {
            continue;
        };
        lost.candidate += bounds::counted(metric, it.ours.lost).all();
        lost.stable += bounds::counted(metric, it.theirs.lost).all();
        ours_all.merge(&it.ours);
        theirs_all.merge(&it.theirs);
        n += ours.n + theirs.n;
        n_min += ours.n.min(theirs.n);
        if ours.fewest.min(theirs.fewest) >= RANKED_MIN {
            positives += ours.positives.min(theirs.positives);
            cases += ours.n + theirs.n;
            let weight = (ours.n as f64) * (theirs.n as f64) / (ours.n + theirs.n) as f64;
            difference.add(ours.value - theirs.value, ours.variance + theirs.variance, weight);
            let (ours, theirs) = (extremes(metric, &it.ours), extremes(metric, &it.theirs));
            for (side, ours, theirs) in [
                (&mut sides.harm, ours.best, theirs.worst),
                (&mut sides.favour, ours.worst, theirs.best),
            ] {
                if let (Some(ours), Some(theirs)) = (ours, theirs) {
                    side.add(ours.value - theirs.value, ours.variance + theirs.variance, weight);
                }
            }
        }
    }
    let one = |scores: &Scores| {
        let arm = arm(metric, scores)?;
        let mut alone = Average::default();
        alone.add(arm.value, arm.variance, 1.0);
        let interval = alone.inflated(inflation).interval(arm.n as f64, alpha);
        arm.value.is_finite().then(|| with_interval(arm.value, interval, arm.n))
    };
    let (stable, value) = (one(&theirs_all), one(&ours_all));
    let is_known = positives >= POSITIVES_MIN;
    let asymptotic =
        sides.map(|side| side.inflated(inflation).asymptotic(cases as f64).filter(|_| is_known));
    let log_e = one_sided(metric, alpha, asymptotic);
    let bars = Bars::of(input.plan);
    let interval = |one: Option<asymp::Estimate>| {
        one.map_or(Interval::WHOLE, |one| unrejected(&one, metric, alpha, bars))
    };
    let interval = bounds::ends(metric, asymptotic.map(interval));
    let claims = match (log_e, difference.mean()) {
        (Some(log_e), Some(difference)) => Claims::of(metric, bars, log_e, difference),
        (_, _) => Claims::default(),
    };
    Reading {
        n,
        n_min,
        stable,
        value,
        claims,
        difference: difference
            .mean()
            .or_else(|| raw(value, stable))
            .map(|s| with_interval(s, interval, n)),
        // Without enough positives the question is open; this is not a lack of data.
        log_e: log_e.or((n_min > 0).then_some(NOTHING_SAID)),
        classic: classic(metric, &ours_all, &theirs_all).filter(|_| input.detail == Detail::Full),
        lost: LostAnswers { worst_difference: sides.favour.mean(), ..lost },
    }
}

/// Returns the evidence against each null: harm by one bound of the difference, claims for the candidate by the other.
fn one_sided(metric: &Metric, alpha: f64, sides: Sides<Option<asymp::Estimate>>) -> Option<LogE> {
    let (harm, favour) = (sides.harm?, sides.favour?);
    let [worse, not_too_bad, better] = planning::nulls(metric);
    let log_e = |one, null| asymp::log_e_one_sided(one, null, tuning(alpha));
    Some(LogE {
        harm: log_e(&harm, worse),
        non_inferior: log_e(&favour, not_too_bad),
        superior: log_e(&favour, better),
    })
}

fn raw(value: Option<Estimate>, stable: Option<Estimate>) -> Option<f64> {
    Some(value?.value - stable?.value)
}

/// One arm's value if all answers that cannot be scored were the worst, or the best, possible.
struct Extremes {
    worst: Option<Arm>,
    best: Option<Arm>,
}

/// Returns an arm's extremes: positives that are lost are ranked last and called negative at worst, all others first and called
/// positive; at best it is the other way round.
fn extremes(metric: &Metric, scores: &Scores) -> Extremes {
    let Lost { positives, rest } = bounds::counted(metric, scores.lost);
    let table = scores.table;
    let worst = Scores {
        table: Table { misses: table.misses + positives, alarms: table.alarms + rest, ..table },
        ..scores.clone()
    };
    let best = Scores {
        table: Table { hits: table.hits + positives, rest: table.rest + rest, ..table },
        ..scores.clone()
    };
    let last = Ends { low: (positives, 0), high: (0, rest) };
    let first = Ends { low: (0, rest), high: (positives, 0) };
    Extremes { worst: arm_between(metric, &worst, last), best: arm_between(metric, &best, first) }
}

/// Returns one arm's value; `None` without cases.
fn arm(metric: &Metric, scores: &Scores) -> Option<Arm> {
    arm_between(metric, scores, Ends::default())
}

/// Positives and negatives below and above all scores.
#[derive(Clone, Copy, Default)]
struct Ends {
    low: (u64, u64),
    high: (u64, u64),
}

/// Returns one arm's value with more cases at both ends of a ranking.
fn arm_between(metric: &Metric, scores: &Scores, ends: Ends) -> Option<Arm> {
    let Group::Table(cells) = metric.kind.group() else {
        let (positives, negatives) = scores.ranks.as_ref()?.counts();
        let between = |low: u64, counts: &[u64], high: u64| [&[low], counts, &[high]].concat();
        let positives = between(ends.low.0, &positives, ends.high.0);
        let negatives = between(ends.low.1, &negatives, ends.high.1);
        let auc = roc::binned(&positives, &negatives);
        return Some(Arm {
            value: auc.area,
            variance: auc.variance,
            n: auc.positives + auc.negatives,
            positives: auc.positives,
            fewest: auc.positives.min(auc.negatives),
        });
    };
    let table = &scores.table;
    let n = table.hits + table.alarms + table.misses + table.rest;
    let quotient = quotient(cells, table);
    let value = quotient.part / quotient.whole;
    (n > 0).then_some(Arm {
        value,
        variance: quotient.variance,
        n,
        positives: table.hits + table.misses,
        fewest: quotient.fewest,
    })
}

/// The denominator of a two-by-two metric.
struct Quotient {
    part: f64,
    whole: f64,
    variance: f64,
    fewest: u64,
}

/// Half a case is added to either side for the variance, so that a value of 0 or 1 is not taken for certain.
fn quotient(cells: Cells, table: &Table) -> Quotient {
    let (hits, wrong) = (table.hits as f64, (table.alarms + table.misses) as f64);
    let share = |among: u64| {
        let whole = among as f64;
        let p = (hits + 0.5) / (whole + 1.0);
        Quotient { part: hits, whole, variance: p * (1.0 - p) / whole, fewest: among }
    };
    let called = table.hits + table.alarms;
    let positive = table.hits + table.misses;
    match cells {
        Cells::Precision => share(called),
        Cells::Recall => share(positive),
        Cells::F1 => {
            let spread = ratio::f1_variance(hits + 0.5, wrong + 0.5);
            Quotient {
                part: 2.0 * hits,
                whole: 2.0 * hits + wrong,
                variance: spread,
                fewest: called.min(positive),
            }
        }
    }
}

/// The same compared once: `DeLong`'s test of two areas of different cases, and z-tests of shares.
fn classic(metric: &Metric, ours: &Scores, theirs: &Scores) -> Option<Classic> {
    let rate = |s: &Scores, among: u64| Rate { events: s.table.hits, n: among };
    let test = match metric.kind.group() {
        Group::Table(Cells::Precision) => {
            let called = |s: &Scores| rate(s, s.table.hits + s.table.alarms);
            return fixed_horizon::rates(called(ours), called(theirs));
        }
        Group::Table(Cells::Recall) => {
            let positive = |s: &Scores| rate(s, s.table.hits + s.table.misses);
            return fixed_horizon::rates(positive(ours), positive(theirs));
        }
        Group::Ranking => "delong",
        Group::Table(Cells::F1)
        | Group::Labelled(_)
        | Group::Response(_)
        | Group::Latency
        | Group::Agreement => "delta_z",
    };
    let (ours, theirs) = (arm(metric, ours)?, arm(metric, theirs)?);
    let z = (ours.value - theirs.value) / (ours.variance + theirs.variance).sqrt();
    fixed_horizon::test(test, z, 2.0 * normal_sf(z.abs()))
}
