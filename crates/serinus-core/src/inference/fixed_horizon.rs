//! The two-sample tests of fixed size that a report shows beside the evidence: to be believed when looked at once.
//!
//! They pool the strata, and take every case for independent of the others.

use std::collections::BTreeSet;

use crate::evidence::design::Pairing;
use crate::inference::strata::{Compared, events};
use crate::inference::verdict::Classic;
use crate::plan::metric::{Metric, Shape};
use crate::plan::metric_kind::Group;
use serinus_stats::agreement::{Discordant, mcnemar};
use serinus_stats::exact::fisher;
use serinus_stats::moments::Moments;
use serinus_stats::paired_bet::PairedCounts;
use serinus_stats::ranks::mann_whitney_binned;
use serinus_stats::sketch::Sketch;
use serinus_stats::two_sample::{Rate, paired_t, two_proportion_z, welch_t};

/// With fewer events than this the normal approximation is bad, and the exact test is cheap.
const EVENTS_FEW: u64 = 20;

/// Returns a test, unless its figures are not numbers: then there is nothing to say.
pub(crate) fn test(test: &'static str, statistic: f64, p: f64) -> Option<Classic> {
    (statistic.is_finite() && p.is_finite()).then_some(Classic { test, statistic, p })
}

/// Compares a binary or bounded metric: by pairs where more cases are paired than not.
pub(crate) fn values(metric: &Metric, strata: &[Compared<'_>]) -> Option<Classic> {
    if metric.kind.group() == Group::Agreement {
        // It is a difference already: there is no second sample.
        return None;
    }
    let (mut ours, mut theirs) = (Moments::default(), Moments::default());
    let (mut differences, mut pairs) = (Moments::default(), PairedCounts::default());
    for it in strata {
        match (it.pairing, it.contrast) {
            (Pairing::Paired, Some(contrast)) => {
                differences.merge(&contrast.difference);
                pairs.merge(&contrast.pairs);
            }
            (Pairing::Split { .. }, _) => {
                ours.merge(&it.ours.moments);
                theirs.merge(&it.theirs.moments);
            }
            (Pairing::Paired | Pairing::Apart, _) => {}
        }
    }
    let is_binary = metric.kind.shape() == Shape::Binary;
    if differences.n > ours.n + theirs.n {
        if is_binary {
            let result = mcnemar(Discordant { stable: pairs.minus, candidate: pairs.plus });
            return test("mcnemar_mid_p", result.chi2, result.p_mid);
        }
        let result = paired_t(&differences.summary());
        return test("paired_t", result.t, result.p);
    }
    if is_binary {
        let rate = |m: &Moments| Rate { events: events(m), n: m.n };
        return rates(rate(&ours), rate(&theirs));
    }
    let result = welch_t(&ours.summary(), &theirs.summary());
    test("welch_t", result.t, result.p)
}

/// Compares two rates: exactly where there are few events. The statistic is the z of the pooled rate.
pub(crate) fn rates(ours: Rate, theirs: Rate) -> Option<Classic> {
    let z = two_proportion_z(ours, theirs);
    if ours.n > 0 && theirs.n > 0 && ours.events + theirs.events < EVENTS_FEW {
        return test("fisher_exact", z.z_pooled, fisher(ours, theirs).p);
    }
    test("two_proportion_z", z.z_pooled, z.p_pooled)
}

/// Compares two distributions of durations by their ranks; what is in one bucket of the sketch ties.
pub(crate) fn durations(ours: &Sketch, theirs: &Sketch) -> Option<Classic> {
    if ours.count() == 0 || theirs.count() == 0 {
        return None;
    }
    let keys: BTreeSet<i32> = ours.buckets().chain(theirs.buckets()).map(|(key, _)| key).collect();
    let counts = |sketch: &Sketch| {
        let mut left = sketch.buckets().peekable();
        let of_key = |key: &i32| left.next_if(|(n, _)| n == key).map_or(0, |(_, count)| count);
        std::iter::once(sketch.zeros()).chain(keys.iter().map(of_key)).collect::<Vec<u64>>()
    };
    let result = mann_whitney_binned(&counts(ours), &counts(theirs));
    test("mann_whitney", result.u, result.p_exact.unwrap_or(result.p))
}
