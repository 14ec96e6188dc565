//! Latency: whether the candidate is slower at any of four quantiles of the stable version's distribution.
//!
//! Thresholds are the stable version's p50, p90, p99 and p99.9. They are frozen before the answers that are compared with them,
//! and frozen again in each stage, after ten times as many answers, and if they are far off. Each set has its block of answers.
//! For harm and non-inferiority, the candidate's answers are compared with the thresholds times `1 + margin`.

use std::f64::consts::LN_2;

use crate::domain::ids::Version;
use crate::evidence::design::{Exceedances, Pairing, Part, Stratum, Thresholds};
use crate::inference::claims::{Bars, Claims};
use crate::inference::fixed_horizon;
use crate::inference::input::{AnalysisInput, Detail};
use crate::inference::planning;
use crate::inference::reading::Reading;
use crate::inference::strata::{tuning, with_interval};
use crate::inference::verdict::{Estimate, LogE, LostAnswers};
use crate::plan::metric::{Metric, Unusable};
use serinus_stats::asymp;
use serinus_stats::exceedance::{Ladder, QUANTILES, RUNGS};
use serinus_stats::interval::Interval;
use serinus_stats::ipw_bet;
use serinus_stats::paired_bet::{PairedCounts, PairedDesign};
use serinus_stats::prior::{GRID, LogCapitals, Prior};
use serinus_stats::side::{Null, Side};
use serinus_stats::sketch::Sketch;
use serinus_stats::special::{log_mean_exp, log_sum_exp};

/// The growth of exceedances that the bets are planned for, as a share of the threshold's own.
const GROWTH: f64 = 0.5;
/// The part of the capital that is bet from the first block on. The rest is held back for later ones: bets at thresholds that
/// are far off, as those of a cold start are, only lose.
const FROM_THE_FIRST: f64 = 0.95;

/// Which thresholds the candidate's answers are compared with.
#[derive(Clone, Copy)]
enum Held {
    ToThresholds,
    ToLimits,
}

/// The latencies of both versions in one stratum.
struct Timed {
    ours: Sketch,
    theirs: Sketch,
}

/// The counts of both versions in one stratum and one block.
struct Counted {
    pairing: Pairing,
    ours: Exceedances,
    theirs: Exceedances,
}

/// Reads a latency metric.
pub(crate) fn duration(input: &AnalysisInput<'_>, metric: &Metric, candidate: &Version) -> Reading {
    let strata = input.compared(candidate);
    let timed: Vec<Timed> = strata.iter().map(|s| timed(input, candidate, *s)).collect();
    let (mut ours, mut theirs) = (Sketch::default(), Sketch::default());
    for it in &timed {
        ours.merge(&it.ours);
        theirs.merge(&it.theirs);
    }
    let n_min = ours.count().min(theirs.count());
    let inflation = input.evidence.inflation(candidate, &metric.name);
    let mut shown = QUANTILES[0];
    let (mut log_e, mut claims) = (None, Claims::default());
    if let Some(thresholds) = input.design.thresholds.get(&metric.name) {
        let block = |t: &Thresholds| -> Vec<Counted> {
            strata.iter().map(|at| count(input, metric, candidate, t, *at)).collect()
        };
        let blocks: Vec<Vec<Counted>> = thresholds.iter().map(block).collect();
        let slower = log_es(&blocks, Side::Greater, Held::ToLimits, inflation);
        let found = LogE {
            harm: log_mean_exp(&slower),
            non_inferior: log_es(&blocks, Side::Less, Held::ToLimits, inflation)[0],
            superior: log_es(&blocks, Side::Less, Held::ToThresholds, inflation)[0],
        };
        let bars = Bars::of(input.plan);
        claims = Claims::of_e_values(bars, found);
        if claims.harm {
            shown = tells_most(&timed, &slower, metric);
        }
        log_e = Some(found);
    }
    let n = ours.count() + theirs.count();
    let one = |sketch: &Sketch| {
        let value = sketch.quantile(shown)?;
        Some(Estimate { value, low: None, high: None, n: sketch.count() })
    };
    let range = match input.detail {
        Detail::Full => range(input, &timed, shown, inflation),
        Detail::Verdict => Interval::WHOLE,
    };
    Reading {
        n,
        n_min,
        stable: one(&theirs),
        value: one(&ours),
        difference: slowdown(&timed, shown)
            .map(|value| with_interval(claims.allowed(metric, value), range, n)),
        // Until the thresholds are frozen, the question is open.
        log_e: log_e.or((n_min > 0).then_some(LogE {
            harm: 0.0,
            non_inferior: 0.0,
            superior: 0.0,
        })),
        claims,
        classic: (input.detail == Detail::Full)
            .then(|| fixed_horizon::durations(&ours, &theirs))
            .flatten(),
        lost: LostAnswers::default(),
    }
}

fn timed(
    input: &AnalysisInput<'_>,
    candidate: &Version,
    (stratum, pairing): (Stratum, Pairing),
) -> Timed {
    let of = |version: &Version| {
        let mut sketch = Sketch::default();
        for part in parts(pairing) {
            if let Some(tally) = input.evidence.tally(stratum, version, *part) {
                sketch.merge(&tally.latency);
            }
        }
        sketch
    };
    Timed { ours: of(candidate), theirs: of(input.stable) }
}

/// Returns the fraction by which the candidate is slower at a quantile, averaged over strata; `None` without answers of both.
fn slowdown(strata: &[Timed], q: f64) -> Option<f64> {
    average(strata, |s| Some(s.ours.quantile(q)? / s.theirs.quantile(q)? - 1.0))
}

/// Returns the quantile with the strongest evidence of harm, among those slower by more than the margin if there are any.
fn tells_most(strata: &[Timed], slower: &[f64; RUNGS], metric: &Metric) -> f64 {
    let is_over = |rung: usize| {
        slowdown(strata, QUANTILES[rung]).is_some_and(|by| by > metric.margin.value())
    };
    let rung = (0..RUNGS).max_by(|left, right| {
        is_over(*left).cmp(&is_over(*right)).then(slower[*left].total_cmp(&slower[*right]))
    });
    QUANTILES[rung.unwrap_or(0)]
}

fn average(strata: &[Timed], of: impl Fn(&Timed) -> Option<f64>) -> Option<f64> {
    let (mut sum, mut whole) = (0.0, 0.0);
    for it in strata {
        let (ours, theirs) = (it.ours.count() as f64, it.theirs.count() as f64);
        let weight = ours * theirs / (ours + theirs);
        if let Some(value) = of(it).filter(|value| value.is_finite())
            && weight > 0.0
        {
            sum += weight * value;
            whole += weight;
        }
    }
    (whole > 0.0).then(|| sum / whole)
}

/// Returns an approximate range of the slowdown at a height: from the heights that each version's own may be, in every stratum.
fn range(input: &AnalysisInput<'_>, strata: &[Timed], q: f64, inflation: f64) -> Interval {
    let alpha = input.plan.decide.alpha;
    let bars = Bars::of(input.plan);
    // Two heights are uncertain, so each has half of the level.
    let off = |sketch: &Sketch, bar: f64| {
        let n = sketch.count() as f64;
        let error = (q * (1.0 - q) / n * inflation).sqrt();
        let estimate = asymp::Estimate { n, difference: q, error };
        asymp::reach_one_sided(&estimate, tuning(alpha), bar + LN_2)
    };
    let ratio = |t: &Timed, sign: f64, bar: f64| {
        let ours = at_height(&t.ours, q + sign * off(&t.ours, bar));
        let theirs = at_height(&t.theirs, q - sign * off(&t.theirs, bar));
        ours / theirs - 1.0
    };
    let end = |sign: f64, bar: f64| {
        let is_bounded = strata.iter().all(|s| {
            s.ours.count() == 0 || s.theirs.count() == 0 || ratio(s, sign, bar).is_finite()
        });
        average(strata, |s| Some(ratio(s, sign, bar))).filter(|_| is_bounded)
    };
    Interval {
        low: end(-1.0, bars.harm).unwrap_or(-1.0),
        high: end(1.0, bars.promotion).unwrap_or(f64::INFINITY),
    }
}

/// Returns a quantile; beyond the ends nothing, and anything.
fn at_height(sketch: &Sketch, q: f64) -> f64 {
    if q.is_nan() || q >= 1.0 {
        f64::INFINITY
    } else if q <= 0.0 {
        0.0
    } else {
        sketch.quantile(q).unwrap_or(f64::INFINITY)
    }
}

fn parts(pairing: Pairing) -> &'static [Part] {
    match pairing {
        Pairing::Paired => &[Part::Chosen, Part::Copied],
        Pairing::Split { .. } | Pairing::Apart => &[Part::Chosen],
    }
}

fn count(
    input: &AnalysisInput<'_>,
    metric: &Metric,
    candidate: &Version,
    thresholds: &Thresholds,
    (stratum, pairing): (Stratum, Pairing),
) -> Counted {
    let of = |version: &Version| {
        let mut sum = Exceedances::default();
        for part in parts(pairing) {
            let Some(tally) = input.evidence.tally(stratum, version, *part) else { continue };
            let key = (stratum, version.clone(), *part);
            let counted = planning::in_block(thresholds, &key, tally, metric);
            sum.n += counted.n;
            if metric.unusable == Unusable::Bounds {
                sum.unanswered += counted.unanswered;
            }
            for rung in 0..RUNGS {
                sum.above[rung] += counted.above[rung];
                sum.above_limit[rung] += counted.above_limit[rung];
            }
        }
        sum
    };
    Counted { pairing, ours: of(candidate), theirs: of(input.stable) }
}

/// Returns the evidence at each threshold, over all blocks and strata.
fn log_es(blocks: &[Vec<Counted>], side: Side, held: Held, inflation: f64) -> [f64; RUNGS] {
    let mut log_es = [0.0; RUNGS];
    let null = Null { at: 0.0, side };
    for (rung, (log_e, base)) in log_es.iter_mut().zip(Ladder::bases()).enumerate() {
        let prior = Prior::planned(GROWTH * base);
        let capitals: Vec<LogCapitals> = blocks
            .iter()
            .map(|strata| capitals(strata, rung, null, held, &prior).map(|p| p / inflation))
            .collect();
        *log_e = from_any_block(&capitals, &prior);
    }
    log_es
}

/// Returns the log-capital of each planned bet at one threshold, over the strata of a block.
fn capitals(strata: &[Counted], rung: usize, null: Null, held: Held, prior: &Prior) -> LogCapitals {
    let base = Ladder::bases()[rung];
    let mut sums = [0.0; GRID];
    for it in strata {
        // A missing answer counts as slower than all thresholds if that is against the claim, and otherwise as faster than all.
        let (lost, lost_theirs) = match null.side {
            Side::Greater => (0, it.theirs.unanswered),
            Side::Less => (it.ours.unanswered, 0),
        };
        let slow = match held {
            Held::ToThresholds => it.ours.above[rung],
            Held::ToLimits => it.ours.above_limit[rung],
        };
        let (slow, slow_theirs) = (slow + lost, it.theirs.above[rung] + lost_theirs);
        let (n, n_theirs) = (it.ours.all(), it.theirs.all());
        match it.pairing {
            Pairing::Split { rho } => {
                let counts = ipw_bet::Counts {
                    treated: n,
                    treated_events: slow,
                    control: n_theirs,
                    control_events: slow_theirs,
                };
                ipw_bet::Design::new(rho, base, null, prior).add_to(&counts, &mut sums);
            }
            Pairing::Paired => {
                let discordance = 2.0 * base * QUANTILES[rung];
                let pairs = least_favourable(n, slow, n_theirs, slow_theirs);
                PairedDesign::new(discordance, null, prior).add_to(&pairs, &mut sums);
            }
            Pairing::Apart => {}
        }
    }
    sums
}

/// Mixes bets that start with any of the blocks and continue from there: a bet that starts later loses nothing before.
///
/// The first has [`FROM_THE_FIRST`] of the capital, the `j`-th after it `1 / (j (j + 1))` of the rest, and what is left waits.
fn from_any_block(blocks: &[LogCapitals], prior: &Prior) -> f64 {
    let held_back = 1.0 - FROM_THE_FIRST;
    let mut sums = [0.0; GRID];
    let mut terms = vec![(held_back / blocks.len().max(1) as f64).ln()];
    for (index, capitals) in blocks.iter().enumerate().rev() {
        sums.iter_mut().zip(capitals).for_each(|(sum, capital)| *sum += capital);
        let index = index as f64;
        let part = if index == 0.0 { FROM_THE_FIRST } else { held_back / (index * (index + 1.0)) };
        terms.push(part.ln() + prior.mixture(&sums));
    }
    log_sum_exp(&terms)
}

/// Sketches do not say which answers belong to one case. The pairs are taken to overlap as little as they can: that gives
/// the least evidence that fits the counts, since `ln(1 + x) + ln(1 - x) < 0`.
fn least_favourable(ours: u64, slow_ours: u64, theirs: u64, slow_theirs: u64) -> PairedCounts {
    let n = ours.min(theirs);
    let (slow_ours, slow_theirs) = (slow_ours.min(n), slow_theirs.min(n));
    let both = (slow_ours + slow_theirs).saturating_sub(n);
    let (plus, minus) = (slow_ours - both, slow_theirs - both);
    PairedCounts { plus, minus, zero: n - plus - minus }
}
