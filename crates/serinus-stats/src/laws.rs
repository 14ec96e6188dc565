//! The laws of the evidence: merging is order-independent, subtraction is exact, and under the null the expected gain is zero.

use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use crate::bounded_bet::{Bets, Capital, Range};
use crate::ipw_bet::{self, Counts, Design, Stratum};
use crate::moments::{Moments, Partial, Summary};
use crate::paired_bet::{self, PairedCounts, PairedStratum};
use crate::prior::Prior;
use crate::ranks::{mann_whitney, mann_whitney_binned};
use crate::rr_mix::{self, EventStratum};
use crate::side::{Null, Side};
use crate::sketch::Sketch;
use crate::special::ln_gamma;
use crate::split;

/// The possible outcomes of one case.
#[derive(Clone, Copy, Debug)]
struct Seen {
    treated: bool,
    event: bool,
    stable_event: bool,
    value: f64,
}

fn seen() -> impl Strategy<Value = Seen> {
    (any::<bool>(), any::<bool>(), any::<bool>(), -2.0..1e4_f64).prop_map(
        |(treated, event, stable_event, value)| Seen { treated, event, stable_event, value },
    )
}

/// All evidence that a stage keeps.
#[derive(Clone, Debug, Default, PartialEq)]
struct Evidence {
    counts: Counts,
    pairs: PairedCounts,
    capital: Capital,
    moments: Moments,
    sketch: Sketch,
}

fn bets() -> Bets {
    let range = Range { low: 0.0, high: 1e4, centre: 3e3, variance: 4e6 };
    Bets::split(range, 0.3, Null::greater(10.0), &Prior::planned(100.0))
}

impl Evidence {
    fn of(seen: &[Seen]) -> Self {
        let mut evidence = Self::default();
        for it in seen {
            evidence.counts.record(it.treated, it.event);
            evidence.pairs.record(it.event, it.stable_event);
            evidence.capital.add(&bets().increments(it.treated, it.value));
            evidence.moments.add(it.value);
            evidence.sketch.insert(it.value);
        }
        evidence
    }

    fn merged(mut self, other: &Self) -> Self {
        self.counts.merge(&other.counts);
        self.pairs.merge(&other.pairs);
        self.capital.merge(&other.capital);
        self.moments.merge(&other.moments);
        self.sketch.merge(&other.sketch);
        self
    }

    fn retracted(mut self, other: &Self) -> Self {
        self.counts.retract(&other.counts);
        self.pairs.retract(&other.pairs);
        self.capital.retract(&other.capital);
        self.moments.retract(&other.moments);
        self.sketch.subtract(&other.sketch);
        self
    }

    /// The bits of every conclusion drawn from it.
    fn conclusions(&self) -> Vec<u64> {
        let prior = Prior::planned(0.05);
        let stratum = Stratum { propensity: 0.3, base: 0.4, centre: 0.4, counts: self.counts };
        let pairs = PairedStratum { discordance: 0.4, counts: self.pairs };
        let null = Null::greater(0.01);
        let summary = self.moments.summary();
        [
            ipw_bet::log_e(&[stratum], null, &prior),
            paired_bet::log_e(&[pairs], null, &prior),
            self.capital.log_e(&Prior::planned(100.0)),
            summary.mean,
            summary.m2,
            self.sketch.quantile(0.9).unwrap_or(-1.0),
        ]
        .map(f64::to_bits)
        .to_vec()
    }
}

proptest! {
    #[test]
    fn merging_has_no_order(a in prop::collection::vec(seen(), 0..30), b in prop::collection::vec(seen(), 0..30), c in prop::collection::vec(seen(), 0..30)) {
        let [first, second, third] = [&a, &b, &c].map(|t| Evidence::of(t));
        let left = first.clone().merged(&second).merged(&third);
        let right = first.clone().merged(&second.clone().merged(&third));
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(&left, &third.merged(&second).merged(&first));
        let whole: Vec<Seen> = a.iter().chain(&b).chain(&c).copied().collect();
        prop_assert_eq!(&left, &Evidence::of(&whole));
    }

    #[test]
    fn order_of_records_never_changes_a_bit(seen in prop::collection::vec(seen(), 1..60).prop_flat_map(|p| (Just(p.clone()), Just(p).prop_shuffle()))) {
        let (recorded, shuffled) = seen;
        prop_assert_eq!(Evidence::of(&recorded).conclusions(), Evidence::of(&shuffled).conclusions());
    }

    #[test]
    fn taking_back_leaves_what_was(kept in prop::collection::vec(seen(), 0..40), gone in prop::collection::vec(seen(), 0..40)) {
        let (kept, gone) = (Evidence::of(&kept), Evidence::of(&gone));
        let back = kept.clone().merged(&gone).retracted(&gone);
        prop_assert_eq!(&back, &kept);
        prop_assert_eq!(back.conclusions(), kept.conclusions());
    }

    #[test]
    fn exact_moments_agree_with_recursive_ones(values in prop::collection::vec(-1e9..1e9_f64, 2..50)) {
        let mut moments = Moments::default();
        for value in &values {
            moments.add(*value);
        }
        let (exact, plain) = (moments.summary(), Summary::of(&values));
        prop_assert!((exact.mean - plain.mean).abs() < 1e-5);
        prop_assert!((exact.m2 - plain.m2).abs() <= 1e-9 * plain.m2);
    }

    #[test]
    fn merged_parts_keep_their_digits_at_a_great_mean(a in prop::collection::vec(-3.0..3.0_f64, 1..40), b in prop::collection::vec(-3.0..3.0_f64, 1..40)) {
        let far = |values: &[f64]| -> Vec<f64> { values.iter().map(|f| 1e9 + f).collect() };
        let (a, b) = (far(&a), far(&b));
        let merged = Partial::of(&a).merge(Partial::of(&b)).summary();
        // What the values are after rounding, less the mean's order of size: this loses nothing.
        let near: Vec<f64> = a.iter().chain(&b).map(|f| f - 1e9).collect();
        let exact = Summary::of(&near);
        prop_assert!((merged.m2 - exact.m2).abs() <= 1e-12 * exact.m2, "{} for {}", merged.m2, exact.m2);
    }

    #[test]
    fn sketch_survives_its_buckets(values in prop::collection::vec(0.0..1e6_f64, 0..50)) {
        let mut sketch = Sketch::default();
        for value in &values {
            sketch.insert(*value);
        }
        prop_assert_eq!(&Sketch::from_buckets(sketch.zeros(), sketch.buckets()), &sketch);
    }

    #[test]
    fn sketch_quantiles_are_within_one_per_cent(values in prop::collection::vec(1e-3..1e6_f64, 1..200), q in 0.0..=1.0_f64) {
        let mut sketch = Sketch::default();
        for value in &values {
            sketch.insert(*value);
        }
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank among 200")]
        let rank = (q * (sorted.len() - 1) as f64).floor() as usize;
        let got = sketch.quantile(q).expect("there are values");
        prop_assert!((got - sorted[rank]).abs() <= 0.0101 * sorted[rank], "{} for {}", got, sorted[rank]);
    }

    #[test]
    fn ipw_interval_holds_its_estimate_and_agrees_with_its_tests(n in 50u64..5000, p1 in 0.02..0.98_f64, p0 in 0.02..0.98_f64, rho in 0.1..0.9_f64) {
        let counts = expected_counts(n, p1, p0, rho);
        let stratum = Stratum { propensity: rho, base: p0, centre: p0, counts };
        let prior = Prior::planned(0.1);
        let wide = ipw_bet::interval(&[stratum], &prior, 0.01);
        let narrow = ipw_bet::interval(&[stratum], &prior, 0.1);
        prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
        prop_assert!(-1.0 <= wide.low && wide.low < wide.high && wide.high <= 1.0);
        prop_assert!(wide.contains(ipw_estimate(&stratum)), "{:?} without {}", wide, ipw_estimate(&stratum));
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of a test")]
fn expected_counts(n: u64, p1: f64, p0: f64, rho: f64) -> Counts {
    let treated = (n as f64 * rho).round() as u64;
    let part = |n: u64, p: f64| (n as f64 * p).round() as u64;
    let control = n - treated;
    Counts {
        treated,
        treated_events: part(treated, p1),
        control,
        control_events: part(control, p0),
    }
}

/// The mean of `x`, which the interval covers.
fn ipw_estimate(stratum: &Stratum) -> f64 {
    let counts = stratum.counts;
    let centred = |n: u64, events: u64| events as f64 - stratum.base * n as f64;
    let n = (counts.treated + counts.control) as f64;
    (centred(counts.treated, counts.treated_events) / stratum.propensity
        - centred(counts.control, counts.control_events) / (1.0 - stratum.propensity))
        / n
}

/// All ways to split `n` over four outcomes, with their log multinomial coefficients.
fn splits(n: u64) -> Vec<([u64; 4], f64)> {
    let mut all = Vec::new();
    let ln_factorial = |n: u64| ln_gamma(n as f64 + 1.0);
    for a in 0..=n {
        for b in 0..=n - a {
            for c in 0..=n - a - b {
                let split = [a, b, c, n - a - b - c];
                all.push((
                    split,
                    ln_factorial(n) - split.iter().map(|l| ln_factorial(*l)).sum::<f64>(),
                ));
            }
        }
    }
    all
}

/// The mean of `E_n` when outcomes have these probabilities.
fn mean_e(n: u64, law: [f64; 4], log_e: impl Fn([u64; 4]) -> f64) -> f64 {
    splits(n)
        .iter()
        .map(|(split, ways)| {
            let ln_p: f64 = split
                .iter()
                .zip(law)
                .filter(|(n, _)| **n > 0)
                .map(|(n, p)| *n as f64 * p.ln())
                .sum();
            (ways + ln_p + log_e(*split)).exp()
        })
        .sum()
}

#[test]
fn ipw_capital_is_one_on_average_at_the_edge_of_the_null() {
    for (rho, base, at, side) in [
        (0.5, 0.1, 0.0, Side::Greater),
        (0.05, 0.02, 0.0, Side::Greater),
        (0.3, 0.6, 0.1, Side::Less),
        (0.9, 0.5, -0.2, Side::Greater),
        (0.2, 0.0, 0.05, Side::Less),
    ] {
        let prior = Prior::planned(0.1);
        let null = Null { at, side };
        for control in [0.25, 0.45] {
            let mean = |treated: f64, n: u64| {
                let law = [
                    rho * treated,
                    rho * (1.0 - treated),
                    (1.0 - rho) * control,
                    (1.0 - rho) * (1.0 - control),
                ];
                mean_e(n, law, |[e1, f1, e0, f0]| {
                    let counts = Counts {
                        treated: e1 + f1,
                        treated_events: e1,
                        control: e0 + f0,
                        control_events: e0,
                    };
                    ipw_bet::log_e(
                        &[Stratum { propensity: rho, base, centre: base, counts }],
                        null,
                        &prior,
                    )
                })
            };
            for n in 1..=8 {
                let edge = mean(control + at, n);
                assert!((edge - 1.0).abs() < 1e-11, "rho {rho} n {n}: {edge}");
                let inside = mean(control + at - side.sign() * 0.02, n);
                assert!(inside < 1.0, "rho {rho} n {n} inside: {inside}");
                let outside = mean(control + at + side.sign() * 0.02, n);
                assert!(outside > 1.0, "rho {rho} n {n} outside: {outside}");
            }
        }
    }
}

#[test]
fn ipw_capital_is_one_on_average_when_the_data_choose_the_stage() {
    // The second half's propensity depends on the first half's outcome: this is how a ramp behaves.
    let (prior, null, p) = (Prior::planned(0.1), Null::greater(0.0), 0.3);
    let law = |rho: f64| [rho * p, rho * (1.0 - p), (1.0 - rho) * p, (1.0 - rho) * (1.0 - p)];
    let counts = |[e1, f1, e0, f0]: [u64; 4]| Counts {
        treated: e1 + f1,
        treated_events: e1,
        control: e0 + f0,
        control_events: e0,
    };
    let total: f64 = splits(4)
        .iter()
        .map(|(first, ways)| {
            let first_stratum =
                Stratum { propensity: 0.1, base: 0.2, centre: 0.2, counts: counts(*first) };
            let rho = if first[0] == 0 { 0.5 } else { 0.2 };
            let weight: f64 =
                first.iter().zip(law(0.1)).map(|(n, p)| *n as f64 * p.ln()).sum::<f64>() + ways;
            weight.exp()
                * mean_e(4, law(rho), |second| {
                    let second = Stratum {
                        propensity: rho,
                        base: 0.25,
                        centre: 0.25,
                        counts: counts(second),
                    };
                    ipw_bet::log_e(&[first_stratum, second], null, &prior)
                })
        })
        .sum();
    assert!((total - 1.0).abs() < 1e-11, "{total}");
}

#[test]
fn paired_capital_is_one_on_average_at_the_edge_of_the_null() {
    for (at, side) in [(0.0, Side::Greater), (0.05, Side::Less), (-0.1, Side::Greater)] {
        let prior = Prior::planned(0.05);
        let mean = |difference: f64, n: u64| {
            let law = [0.5 * (0.3 + difference), 0.5 * (0.3 - difference), 0.7, 0.0];
            mean_e(n, law, |[plus, minus, zero, never]| {
                if never > 0 {
                    return f64::NEG_INFINITY;
                }
                let counts = PairedCounts { plus, minus, zero };
                paired_bet::log_e(
                    &[PairedStratum { discordance: 0.2, counts }],
                    Null { at, side },
                    &prior,
                )
            })
        };
        // Impossible outcomes would give minus infinity times zero, so they are skipped above.
        for n in 1..=8 {
            assert!((mean(at, n) - 1.0).abs() < 1e-11, "{at} {n}: {}", mean(at, n));
            assert!(mean(at - side.sign() * 0.02, n) < 1.0);
        }
    }
}

#[test]
fn events_and_splits_win_nothing_on_average_under_their_nulls() {
    for n in 1..=8 {
        // Two outcomes: an event of the candidate, an event of the stable version.
        let rr = mean_e(n, [0.2, 0.8, 1e-300, 1e-300], |[e1, e0, c, d]| {
            if c + d > 0 {
                return f64::NEG_INFINITY;
            }
            let stratum = EventStratum { propensity: 0.2, treated_events: e1, control_events: e0 };
            rr_mix::log_e(&[stratum], Null::greater(0.0), &Prior::planned(0.5))
        });
        assert!((rr - 1.0).abs() < 1e-11, "{n}: {rr}");
        let weights = [0.1, 0.2, 0.3, 0.4];
        let split = mean_e(n, weights, |counts| split::multinomial_log_e(&counts, &weights, 10.0));
        assert!((split - 1.0).abs() < 1e-11, "{n}: {split}");
    }
}

#[test]
fn bounded_capital_never_wins_on_average_and_loses_only_the_flooring() {
    let (rho, at) = (0.25, 0.1);
    let range = Range { low: 0.0, high: 2.0, centre: 0.7, variance: 0.3 };
    let prior = Prior::planned(0.2);
    for side in [Side::Greater, Side::Less] {
        let bets = Bets::split(range, rho, Null { at, side }, &prior);
        // Treated: 0 or 2 with mean 0.8; control: 0 or 2 with mean 0.7.
        let outcomes = [(true, 2.0), (true, 0.0), (false, 2.0), (false, 0.0)];
        let law = [rho * 0.4, rho * 0.6, (1.0 - rho) * 0.35, (1.0 - rho) * 0.65];
        for n in 1..=6 {
            let mean = mean_e(n, law, |split| {
                let mut capital = Capital::default();
                for (times, (treated, value)) in split.iter().zip(outcomes) {
                    (0..*times).for_each(|_| capital.add(&bets.increments(treated, value)));
                }
                capital.log_e(&prior)
            });
            assert!(mean <= 1.0 + 1e-13 && mean > 1.0 - 1e-10, "{n}: {mean}");
        }
    }
}

#[test]
fn looks_through_a_design_are_the_same_as_whole_ones() {
    let prior = Prior::planned(0.02);
    let null = Null::less(0.03);
    let counts = Counts { treated: 100, treated_events: 7, control: 900, control_events: 81 };
    let mut sums = [0.0; crate::prior::GRID];
    Design::new(0.1, 0.09, null, &prior).add_to(&counts, &mut sums);
    let whole = ipw_bet::log_e(
        &[Stratum { propensity: 0.1, base: 0.09, centre: 0.09, counts }],
        null,
        &prior,
    );
    assert_eq!(prior.mixture(&sums).to_bits(), whole.to_bits());
}

#[test]
fn ranks_of_bins_are_ranks_of_values_that_tie() {
    let values = |counts: &[u64]| -> Vec<f64> {
        let each =
            |(bin, count): (usize, &u64)| vec![bin as f64; usize::try_from(*count).unwrap_or(0)];
        counts.iter().enumerate().flat_map(each).collect()
    };
    for (ours, theirs) in
        [([3, 0, 5, 2], [1, 4, 4, 0]), ([0, 0, 1, 9], [10, 0, 0, 0]), ([0, 0, 0, 0], [1, 1, 1, 1])]
    {
        let binned = mann_whitney_binned(&ours, &theirs);
        let whole = mann_whitney(&values(&ours), &values(&theirs));
        assert_eq!(
            (binned.u.to_bits(), binned.p.to_bits()),
            (whole.u.to_bits(), whole.p.to_bits())
        );
    }
}
