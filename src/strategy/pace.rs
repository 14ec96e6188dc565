//! Latency: whether the candidate is slower at any of four heights of the stable version's distribution.
//!
//! Thresholds are the stable version's p50, p90, p99 and p99.9, frozen from answers that came before those they are used on, and
//! frozen again in each stage, as answers multiply, and when they turn out far off. Each set has its block of answers. The
//! candidate may take the margin longer: its answers are held against the thresholds times `1 + margin`, for harm and for
//! non-inferiority.

use crate::domain::ids::Version;
use crate::stats::exceedance::{Ladder, QUANTILES, RUNGS};
use crate::stats::ipw_bet;
use crate::stats::paired_bet::{PairedCounts, PairedDesign};
use crate::stats::prior::{GRID, LogCapitals, Prior};
use crate::stats::side::{Null, Side};
use crate::stats::sketch::Sketch;
use crate::stats::special::{log_mean_exp, log_sum_exp};
use crate::strategy::design::{Exceedances, Pairing, Part, Stratum, Thresholds};
use crate::strategy::finding::Reading;
use crate::strategy::look::{Detail, Sight};
use crate::strategy::metric::Metric;
use crate::strategy::verdict::{Estimate, LogE};
use crate::strategy::{classic, planning};

/// The growth of exceedances that the bets are planned for, as a share of the threshold's own.
const GROWTH: f64 = 0.5;
/// The part of the capital that is bet from the first block on. The rest is held back for later ones: bets at thresholds that
/// are far off, as those of a cold start are, only lose.
const FROM_THE_FIRST: f64 = 0.95;

/// Which thresholds the candidate's answers are held against.
#[derive(Clone, Copy)]
enum Held {
    ToThresholds,
    ToLimits,
}

/// What was counted of both versions in one stratum, in one block.
struct Counted {
    pairing: Pairing,
    ours: Exceedances,
    theirs: Exceedances,
}

/// Reads a latency metric.
pub(super) fn duration(sight: &Sight<'_>, metric: &Metric, candidate: &Version) -> Reading {
    let strata = sight.compared(candidate);
    let (mut ours, mut theirs) = (Sketch::default(), Sketch::default());
    for (stratum, pairing) in &strata {
        for part in parts(*pairing) {
            for (sketch, version) in [(&mut ours, candidate), (&mut theirs, sight.stable)] {
                if let Some(tally) = sight.evidence.tally(*stratum, version, *part) {
                    sketch.merge(&tally.latency);
                }
            }
        }
    }
    let median = |sketch: &Sketch| {
        let value = sketch.quantile(0.5)?;
        Some(Estimate { value, low: None, high: None, n: sketch.count() })
    };
    let (value, stable) = (median(&ours), median(&theirs));
    let difference = match (value, stable) {
        (Some(ours), Some(theirs)) if theirs.value > 0.0 => Some(Estimate {
            value: ours.value / theirs.value - 1.0,
            low: None,
            high: None,
            n: ours.n + theirs.n,
        }),
        (_, _) => None,
    };
    let n_min = ours.count().min(theirs.count());
    let log_e = match sight.design.thresholds.get(&metric.name) {
        // Until the thresholds are frozen nothing is said: an open question.
        None => (n_min > 0).then_some(LogE { harm: 0.0, non_inferior: 0.0, superior: 0.0 }),
        Some(thresholds) => {
            let inflation = sight.evidence.inflation(candidate, &metric.name);
            let block = |it: &Thresholds| -> Vec<Counted> {
                strata.iter().map(|at| count(sight, metric, candidate, it, *at)).collect()
            };
            let blocks: Vec<Vec<Counted>> = thresholds.iter().map(block).collect();
            Some(LogE {
                harm: log_mean_exp(&log_es(&blocks, Side::Greater, Held::ToLimits, inflation)),
                non_inferior: log_es(&blocks, Side::Less, Held::ToLimits, inflation)[0],
                superior: log_es(&blocks, Side::Less, Held::ToThresholds, inflation)[0],
            })
        }
    };
    Reading {
        n: ours.count() + theirs.count(),
        n_min,
        stable,
        value,
        difference,
        log_e,
        classic: (sight.detail == Detail::Full)
            .then(|| classic::durations(&ours, &theirs))
            .flatten(),
    }
}

fn parts(pairing: Pairing) -> &'static [Part] {
    match pairing {
        Pairing::Paired => &[Part::Chosen, Part::Copied],
        Pairing::Split { .. } | Pairing::Apart => &[Part::Chosen],
    }
}

fn count(
    sight: &Sight<'_>,
    metric: &Metric,
    candidate: &Version,
    thresholds: &Thresholds,
    (stratum, pairing): (Stratum, Pairing),
) -> Counted {
    let of = |version: &Version| {
        let mut sum = Exceedances::default();
        for part in parts(pairing) {
            let Some(tally) = sight.evidence.tally(stratum, version, *part) else { continue };
            let key = (stratum, version.clone(), *part);
            let counted = planning::in_block(thresholds, &key, tally, metric);
            sum.n += counted.n;
            for rung in 0..RUNGS {
                sum.above[rung] += counted.above[rung];
                sum.above_limit[rung] += counted.above_limit[rung];
            }
        }
        sum
    };
    Counted { pairing, ours: of(candidate), theirs: of(sight.stable) }
}

/// Returns the evidence at each threshold, over all blocks and strata.
fn log_es(blocks: &[Vec<Counted>], side: Side, held: Held, inflation: f64) -> [f64; RUNGS] {
    let mut log_es = [0.0; RUNGS];
    let null = Null { at: 0.0, side };
    for (rung, (log_e, base)) in log_es.iter_mut().zip(Ladder::bases()).enumerate() {
        let prior = Prior::planned(GROWTH * base);
        let capitals: Vec<LogCapitals> = blocks
            .iter()
            .map(|strata| capitals(strata, rung, null, held, &prior).map(|it| it / inflation))
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
        let slow = match held {
            Held::ToThresholds => it.ours.above[rung],
            Held::ToLimits => it.ours.above_limit[rung],
        };
        match it.pairing {
            Pairing::Split { rho } => {
                let counts = ipw_bet::Counts {
                    treated: it.ours.n,
                    treated_events: slow,
                    control: it.theirs.n,
                    control_events: it.theirs.above[rung],
                };
                ipw_bet::Design::new(rho, base, null, prior).add_to(&counts, &mut sums);
            }
            Pairing::Paired => {
                let discordance = 2.0 * base * QUANTILES[rung];
                let pairs = least_favourable(it.ours.n, slow, it.theirs.n, it.theirs.above[rung]);
                PairedDesign::new(discordance, null, prior).add_to(&pairs, &mut sums);
            }
            Pairing::Apart => {}
        }
    }
    sums
}

/// Mixes bets that begin with any of the blocks and run on from there: what begins later loses nothing before.
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
