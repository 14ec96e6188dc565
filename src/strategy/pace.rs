//! Latency: whether the candidate is slower at any of four heights of the stable version's distribution.
//!
//! Thresholds are the stable version's p50, p90, p99 and p99.9, frozen early; only answers after that count. The candidate may
//! take the margin longer: its answers are held against the thresholds times `1 + margin`, for harm and for non-inferiority.

use crate::domain::ids::Version;
use crate::stats::exceedance::{Ladder, QUANTILES, RUNGS};
use crate::stats::ipw_bet;
use crate::stats::paired_bet::{PairedCounts, PairedDesign};
use crate::stats::prior::{GRID, Prior};
use crate::stats::side::{Null, Side};
use crate::stats::sketch::Sketch;
use crate::stats::special::log_mean_exp;
use crate::strategy::design::{Exceedances, Pairing, Part, Stratum, Thresholds};
use crate::strategy::finding::Reading;
use crate::strategy::look::{Detail, Sight};
use crate::strategy::metric::Metric;
use crate::strategy::verdict::{Estimate, LogE};
use crate::strategy::{classic, planning};

/// The growth of exceedances that the bets are planned for, as a share of the threshold's own.
const GROWTH: f64 = 0.5;

/// Which thresholds the candidate's answers are held against.
#[derive(Clone, Copy)]
enum Held {
    ToThresholds,
    ToLimits,
}

/// What was counted of both versions in one stratum, since the thresholds were frozen.
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
            let counted: Vec<Counted> =
                strata.iter().map(|it| count(sight, metric, candidate, thresholds, *it)).collect();
            Some(LogE {
                harm: log_mean_exp(&log_es(&counted, Side::Greater, Held::ToLimits, inflation)),
                non_inferior: log_es(&counted, Side::Less, Held::ToLimits, inflation)[0],
                superior: log_es(&counted, Side::Less, Held::ToThresholds, inflation)[0],
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
            let all = planning::exceedances(&tally.latency, thresholds, metric);
            let key = (stratum, version.clone(), *part);
            let before = thresholds.counted.get(&key).copied().unwrap_or_default();
            sum.n += all.n - before.n;
            for rung in 0..RUNGS {
                sum.above[rung] += all.above[rung] - before.above[rung];
                sum.above_limit[rung] += all.above_limit[rung] - before.above_limit[rung];
            }
        }
        sum
    };
    Counted { pairing, ours: of(candidate), theirs: of(sight.stable) }
}

/// Returns the evidence at each threshold, over all strata.
fn log_es(strata: &[Counted], side: Side, held: Held, inflation: f64) -> [f64; RUNGS] {
    let mut log_es = [0.0; RUNGS];
    let null = Null { at: 0.0, side };
    for (rung, (log_e, base)) in log_es.iter_mut().zip(Ladder::bases()).enumerate() {
        let prior = Prior::planned(GROWTH * base);
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
                    ipw_bet::Design::new(rho, base, null, &prior).add_to(&counts, &mut sums);
                }
                Pairing::Paired => {
                    let discordance = 2.0 * base * QUANTILES[rung];
                    let pairs =
                        least_favourable(it.ours.n, slow, it.theirs.n, it.theirs.above[rung]);
                    PairedDesign::new(discordance, null, &prior).add_to(&pairs, &mut sums);
                }
                Pairing::Apart => {}
            }
        }
        *log_e = prior.mixture(&sums.map(|it| it / inflation));
    }
    log_es
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
