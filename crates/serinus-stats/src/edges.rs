//! The results of every function in edge cases: no data, no events, no variance, one arm, NaN.

use crate::agreement::{Discordant, mcnemar};
use crate::asymp::{self, Estimate, Tuning};
use crate::bayes;
use crate::bounded_bet::{Bets, Capital, Range};
use crate::drift;
use crate::exact;
use crate::exceedance::{self, Ladder};
use crate::interval::Interval;
use crate::ipw_bet::{self, Counts, Stratum};
use crate::moments::{self, Moments, Summary};
use crate::multiple;
use crate::paired_bet::{self, PairedCounts, PairedStratum};
use crate::planning::{self, RatePlan};
use crate::prior::{GRID, Prior};
use crate::ranks;
use crate::ratio::{self, CovariateSums};
use crate::reference;
use crate::roc;
use crate::rr_mix::{self, Coverage, EventStratum};
use crate::side::Null;
use crate::sketch::Sketch;
use crate::special::{self, normal_cdf, normal_quantile};
use crate::split::{self, SplitStage};
use crate::two_sample::{self, Rate};

const NOTHING: Counts = Counts { treated: 0, treated_events: 0, control: 0, control_events: 0 };

fn close(got: f64, wanted: f64) {
    assert!((got - wanted).abs() <= 1e-12 * wanted.abs().max(1.0), "{got} is not {wanted}");
}

#[test]
fn no_observations_are_no_evidence() {
    let prior = Prior::planned(0.01);
    close(ipw_bet::log_e(&[], Null::greater(0.0), &prior), 0.0);
    let stratum = Stratum { propensity: 0.5, base: 0.1, centre: 0.1, counts: NOTHING };
    close(ipw_bet::log_e(&[stratum], Null::greater(0.0), &prior), 0.0);
    assert_eq!(ipw_bet::interval(&[stratum], &prior, 0.05), Interval { low: -1.0, high: 1.0 });
    let pairs = PairedStratum { discordance: 0.1, counts: PairedCounts::default() };
    close(paired_bet::log_e(&[pairs], Null::greater(0.0), &prior), 0.0);
    assert_eq!(paired_bet::interval(&[pairs], &prior, 0.05), Interval { low: -1.0, high: 1.0 });
    close(Capital::default().log_e(&prior), 0.0);
    close(rr_mix::log_e(&[], Null::greater(0.0), &prior), 0.0);
    close(rr_mix::label_parity(&[Coverage { propensity: 0.5, ..Coverage::default() }]), 0.0);
    close(split::p(&[SplitStage { weights: &[0.5, 0.5], counts: &[0, 0] }]), 1.0);
    assert_eq!(moments::mean_interval(&Summary::default(), 0.05), Interval::WHOLE);
    assert_eq!(Sketch::default().quantile(0.5), None);
    assert_eq!(Ladder::of(&Sketch::default()), None);
    assert!(roc::binned(&[0, 0], &[0, 0]).area.is_nan());
    assert!(multiple::e_bh(&[], 0.05).is_empty() && reference::multiple::holm(&[]).is_empty());
}

#[test]
fn a_propensity_of_zero_or_one_compares_nothing() {
    let prior = Prior::planned(0.01);
    let counts = Counts { treated: 900, treated_events: 800, control: 100, control_events: 0 };
    for propensity in [0.0, 1.0, -0.5, 1.5, f64::NAN] {
        let stratum = Stratum { propensity, base: 0.1, centre: 0.1, counts };
        close(ipw_bet::log_e(&[stratum], Null::greater(0.0), &prior), 0.0);
        assert_eq!(ipw_bet::interval(&[stratum], &prior, 0.05), Interval { low: -1.0, high: 1.0 });
        let events = EventStratum { propensity, treated_events: 800, control_events: 0 };
        close(rr_mix::log_e(&[events], Null::greater(0.0), &prior), 0.0);
        let range = Range { low: 0.0, high: 1.0, centre: 0.5, variance: 0.1 };
        let bets = Bets::split(range, propensity, Null::greater(0.0), &prior);
        assert_eq!(bets.increments(true, 0.9), [0; GRID]);
    }
}

#[test]
fn a_stage_with_one_arm_empty_still_counts() {
    // Leaving it out until the other arm has an observation would let the data choose what counts.
    let prior = Prior::planned(0.1);
    let counts = Counts { treated: 0, treated_events: 0, control: 50, control_events: 0 };
    let log_e = ipw_bet::log_e(
        &[Stratum { propensity: 0.5, base: 0.3, centre: 0.3, counts }],
        Null::greater(0.0),
        &prior,
    );
    assert!(log_e.is_finite() && log_e > 0.0, "{log_e}");
}

#[test]
fn zero_events_in_both_arms_prove_non_inferiority_in_time() {
    let prior = Prior::planned(0.01);
    let log_e = |n: u64| {
        let counts = Counts { treated: n, treated_events: 0, control: n, control_events: 0 };
        ipw_bet::log_e(
            &[Stratum { propensity: 0.5, base: 0.001, centre: 0.001, counts }],
            Null::less(0.01),
            &prior,
        )
    };
    assert!(log_e(10) < 3.0 && log_e(2_000) > 3.0, "{} {}", log_e(10), log_e(2_000));
    let harm = |n: u64| {
        let counts = Counts { treated: n, treated_events: 0, control: n, control_events: 0 };
        ipw_bet::log_e(
            &[Stratum { propensity: 0.5, base: 0.001, centre: 0.001, counts }],
            Null::greater(0.0),
            &prior,
        )
    };
    assert!(harm(2_000) < 1.0, "{}", harm(2_000));
}

#[test]
fn numbers_that_are_none_change_nothing() {
    let prior = Prior::planned(0.01);
    let counts = Counts { treated: 10, treated_events: 5, control: 10, control_events: 5 };
    for base in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.0, 7.0] {
        assert!(
            ipw_bet::log_e(
                &[Stratum { propensity: 0.5, base, centre: base, counts }],
                Null::greater(0.0),
                &prior
            )
            .is_finite()
        );
    }
    for at in [f64::NAN, f64::INFINITY] {
        close(
            ipw_bet::log_e(
                &[Stratum { propensity: 0.5, base: 0.5, centre: 0.5, counts }],
                Null::greater(at),
                &prior,
            ),
            0.0,
        );
    }
    for mde in [f64::NAN, 0.0, f64::INFINITY, -1.0] {
        let log_e = ipw_bet::log_e(
            &[Stratum { propensity: 0.5, base: 0.5, centre: 0.5, counts }],
            Null::greater(0.0),
            &Prior::planned(mde),
        );
        assert!(!log_e.is_nan(), "mde {mde}");
    }
    let range = Range { low: 0.0, high: 1.0, centre: 0.5, variance: 0.1 };
    let bets = Bets::split(range, 0.5, Null::greater(0.0), &prior);
    assert_eq!(bets.increments(true, f64::NAN), [0; GRID]);
    assert_eq!(bets.increments(true, f64::INFINITY), bets.increments(true, 1.0));
    assert_eq!(
        Bets::paired(range, Null::greater(0.0), &prior).increments_paired(f64::NAN),
        [0; GRID]
    );
    let mut moments = Moments::default();
    moments.add(f64::NAN);
    assert_eq!(moments, Moments::default());
    moments.add(f64::INFINITY);
    assert!(moments.summary().mean.is_finite());
    let mut sketch = Sketch::default();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0] {
        sketch.insert(value);
    }
    assert_eq!((sketch.count(), sketch.zeros()), (4, 3));
    let unknown = Estimate { n: 100.0, difference: f64::NAN, error: 0.1 };
    let tuning = Tuning { alpha: 0.05, n_star: asymp::N_STAR };
    close(asymp::log_e(&unknown, 0.0, tuning), 0.0);
    assert_eq!(asymp::interval(&unknown, tuning), Interval::WHOLE);
    assert!(special::student_sf(f64::NAN, 3.0).is_nan() && normal_quantile(2.0).is_nan());
}

#[test]
fn no_variance_is_no_decision() {
    let same = Summary::from_variance(10.0, 3.0, 0.0);
    let other = Summary { mean: 4.0, ..same };
    close(two_sample::welch_t(&same, &same).p, 1.0);
    assert!(two_sample::welch_t(&other, &same).p.is_nan());
    assert!(two_sample::paired_t(&same).p.is_nan());
    assert!(two_sample::paired_t(&Summary::default()).p.is_nan());
    let exact = Estimate { n: 100.0, difference: 1.0, error: 0.0 };
    close(asymp::log_e(&exact, 0.0, Tuning { alpha: 0.05, n_star: asymp::N_STAR }), 0.0);
    let all = Rate { events: 10, n: 10 };
    let test = two_sample::two_proportion_z(all, all);
    close(test.z_pooled, 0.0);
    close(test.p_pooled, 1.0);
}

#[test]
fn one_value_has_no_error() {
    let one = Summary::of(&[5.0]);
    assert!(one.variance().is_nan());
    assert_eq!(moments::difference_interval(&one, &one, 0.05), Interval::WHOLE);
    assert!(two_sample::welch_t(&one, &one).p.is_nan());
}

#[test]
fn moments_of_great_numbers_keep_their_digits() {
    let mut moments = Moments::default();
    for i in 0..1000 {
        moments.add(1e9 + f64::from(i % 2));
    }
    let summary = moments.summary();
    close(summary.mean, 1e9 + 0.5);
    close(summary.m2, 250.0);
    let mut huge = Moments::default();
    for value in [-9e12, 9e12, -9e12, 9e12] {
        huge.add(value);
    }
    close(huge.summary().m2, 4.0 * 81e24);
}

#[test]
fn an_arm_that_was_planned_empty_breaks_the_split() {
    assert!(split::multinomial_log_e(&[5, 1], &[1.0, 0.0], 1000.0).is_infinite());
    close(split::multinomial_log_e(&[5, 0], &[1.0, 0.0], 1000.0), 0.0);
}

#[test]
fn stages_of_a_split_multiply() {
    let one = SplitStage { weights: &[0.05, 0.95], counts: &[130, 870] };
    let two = SplitStage { weights: &[0.25, 0.75], counts: &[270, 730] };
    close(split::log_e(&[one, two]), split::log_e(&[one]) + split::log_e(&[two]));
    assert!(split::p(&[one]) < 0.01, "{}", split::p(&[one]));
}

#[test]
fn a_slower_candidate_is_noticed_and_an_equal_one_is_not() {
    let strata = |share: f64, base: f64| {
        let events = |n: f64, p: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "counts of a test"
            )]
            let events = (n * p).round() as u64;
            events
        };
        let counts = Counts {
            treated: 10_000,
            treated_events: events(1e4, share),
            control: 10_000,
            control_events: events(1e4, base),
        };
        [Stratum { propensity: 0.5, base, centre: base, counts }]
    };
    let log_e = |slow: f64| {
        let [a, b, c, d] = Ladder::bases().map(|base| strata((base * slow).min(1.0), base));
        exceedance::log_e_difference([&a, &b, &c, &d], crate::side::Side::Greater, 0.2)
    };
    assert!(log_e(1.0) < 0.0, "{}", log_e(1.0));
    assert!(log_e(1.3) > 20.0, "{}", log_e(1.3));
    let ladder = Ladder { thresholds: [1.0, 2.0, 3.0, 4.0] };
    assert_eq!(ladder.exceeded(2.5), [true, true, false, false]);
    assert_eq!(ladder.scaled(2.0).exceeded(2.5), [true, false, false, false]);
    assert_eq!(ladder.exceeded(f64::NAN), [false; 4]);
}

#[test]
fn binned_areas_are_those_of_the_bins_as_scores() {
    let (positives, negatives) = ([1, 0, 4, 7, 9], [8, 6, 3, 2, 1]);
    let mut labels = Vec::new();
    let mut scores = Vec::new();
    for (bin, (positive, negative)) in positives.iter().zip(&negatives).enumerate() {
        for (label, count) in [(true, *positive), (false, *negative)] {
            for _ in 0..count {
                labels.push(label);
                scores.push(bin as f64);
            }
        }
    }
    let (binned, exact) = (roc::binned(&positives, &negatives), roc::exact(&labels, &scores));
    close(binned.area, exact.area);
    close(binned.variance, exact.variance);
}

#[test]
fn normal_quantiles_invert_their_probabilities() {
    for p in [1e-300, 1e-100, 1e-15, 1e-5, 0.02, 0.3, 0.5] {
        let back = normal_cdf(normal_quantile(p));
        assert!((back / p - 1.0).abs() < 1e-11, "{p}: {back}");
    }
    close(normal_quantile(0.975), 1.959_963_984_540_054);
    assert!(normal_quantile(0.0).is_infinite() && normal_quantile(1.0).is_infinite());
}

#[test]
fn posteriors_without_events_compare_as_fractions() {
    // P(Beta(1, 51) > Beta(1, 61)) = 61 / (51 + 61).
    let got =
        bayes::beta_comparison(Rate { events: 0, n: 50 }, Rate { events: 0, n: 60 }, 1.0, 1.0);
    close(got.greater, 61.0 / 112.0);
    close(got.loss_stable - got.loss_candidate, 1.0 / 52.0 - 1.0 / 62.0);
    // A density that is infinite at the end: the figure is scipy's, by the quantiles of one law in the other.
    let all = Rate { events: 5, n: 5 };
    let got = bayes::beta_comparison(all, Rate { events: 0, n: 5 }, 0.5, 0.5);
    assert!((got.greater - 0.999_779_175).abs() < 1e-6, "{got:?}");
    let got = bayes::beta_comparison(all, all, 0.5, 0.5);
    assert!((got.greater - 0.5).abs() < 1e-6, "{got:?}");
}

#[test]
fn exact_tests_agree_with_enumeration() {
    let (treated, control) = (Rate { events: 3, n: 3 }, Rate { events: 0, n: 3 });
    close(exact::fisher(treated, control).p_greater, 1.0 / 20.0);
    // Only the two corner tables are as extreme: 2 p^3 (1-p)^3, greatest at 1/2.
    close(reference::exact::barnard(treated, control), 2.0 / 64.0);
    // Found in fractions: tables tie that rounding would part.
    let (treated, control) = (Rate { events: 12, n: 16 }, Rate { events: 2, n: 3 });
    assert!((reference::exact::boschloo(treated, control) - 0.861_252_187_6).abs() < 1e-9);
    let none = reference::exact::clopper_pearson(Rate { events: 0, n: 10 }, 0.05);
    close(none.high, 1.0 - 0.025_f64.powf(0.1));
}

#[test]
fn ranks_of_separate_samples_are_extreme() {
    let test = ranks::mann_whitney(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]);
    close(test.u, 0.0);
    close(test.p_exact.unwrap_or(f64::NAN), 0.1);
    // One order among all ways to choose 40 of 80, and its mirror.
    let (low, high): (Vec<f64>, Vec<f64>) = (0..80).map(f64::from).partition(|f| *f < 40.0);
    let p = ranks::mann_whitney(&low, &high).p_exact.unwrap_or(f64::NAN);
    close(p * 107_507_208_733_336_176_461_620.0, 2.0);
    // P(D_2 > d) by hand: D_2 <= d needs both values in their strips, area 2 (2d - 1/2)^2 for d in [1/4, 1/2].
    close(reference::ranks::kolmogorov_n_sf(2.0, 0.4), 1.0 - 2.0 * (0.8_f64 - 0.5).powi(2));
    assert!(
        (reference::ranks::kolmogorov_sf(0.799_999_99)
            - reference::ranks::kolmogorov_sf(0.800_000_01))
        .abs()
            < 1e-7
    );
    // The effective size is 2.5: the law is that of two values, the figure that above.
    let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 4.0, 5.0, 6.0, 7.0]);
    close(reference::ranks::kolmogorov_smirnov(&x, &y).p, 1.0 - 2.0 * (0.8_f64 - 0.5).powi(2));
}

#[test]
fn few_values_without_ties_have_an_exact_p_however_they_are_counted() {
    let (x, y) = ([1.1, 2.2, 3.3], [4.4, 5.5, 6.6, 7.7]);
    let whole = ranks::mann_whitney(&x, &y).p_exact.unwrap_or(f64::NAN);
    close(whole, 2.0 / 35.0);
    // Bins without a value on either side change nothing.
    let binned =
        ranks::mann_whitney_binned(&[0, 1, 1, 1, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 0, 1, 1, 1, 1]);
    close(binned.p_exact.unwrap_or(f64::NAN), 2.0 / 35.0);
    let tied = ranks::mann_whitney_binned(&[1, 1, 1, 0], &[0, 0, 1, 3]);
    assert_eq!(tied.p_exact, None, "there are ties");
    close(ranks::mann_whitney(&[1.0], &[2.0]).p_exact.unwrap_or(f64::NAN), 1.0);
    close(ranks::mann_whitney(&[1.5, 1.5], &[1.5, 1.5, 1.5]).p, 1.0);
}

#[test]
fn samples_that_cannot_be_compared_by_ranks_give_no_figure() {
    for (x, y) in [(&[][..], &[1.0][..]), (&[1.0], &[]), (&[], &[]), (&[1.0, f64::NAN], &[2.0])] {
        let test = ranks::mann_whitney(x, y);
        assert!(test.p.is_nan() && test.superiority.is_nan(), "{x:?} {y:?}: {test:?}");
        assert_eq!(test.p_exact, None);
        let test = reference::ranks::kolmogorov_smirnov(x, y);
        assert!(test.d.is_nan() && test.p.is_nan() && test.p_limit.is_nan(), "{x:?} {y:?}");
    }
    assert!(ranks::mann_whitney_binned(&[0, 0], &[1, 2]).p.is_nan());
    // The effective size of one value each rounds to none.
    assert!(reference::ranks::kolmogorov_smirnov(&[1.0], &[2.0]).p.is_nan());
}

#[test]
fn pairs_that_err_as_often_on_either_side_do_not_differ() {
    for n in [0, 1, 2, 25, 4_000] {
        let test = mcnemar(Discordant { stable: n, candidate: n });
        close(test.p_exact, 1.0);
        close(test.p_mid, 1.0);
        close(test.chi2, 0.0);
    }
    // One more on one side: all but the count in the middle of 51.
    let test = mcnemar(Discordant { stable: 26, candidate: 25 });
    assert!(test.p_mid < 1.0 && test.p_mid > 0.88, "{test:?}");
}

#[test]
fn scores_that_rank_alike_do_not_differ() {
    let labels = [true, false, true, false, true];
    let scores = [0.9, 0.1, 0.4, 0.6, 0.7];
    let close_to_zero = |first: &[f64], second: &[f64]| {
        let test = roc::paired(&labels, first, second);
        assert!(test.z == 0.0, "{first:?} {second:?}: {test:?}");
    };
    close_to_zero(&scores, &scores);
    close_to_zero(&scores, &scores.map(|score| 100.0 * score - 3.0));
    close_to_zero(&[0.5; 5], &[0.2; 5]);
    // All right and all right: no variance on either side.
    close_to_zero(&[0.9, 0.1, 0.8, 0.2, 0.7], &[9.0, 1.0, 7.0, 3.0, 8.0]);
    let one_of_each = roc::paired(&[true, false], &[0.2, 0.1], &[0.2, 0.1]);
    assert!(one_of_each.z == 0.0, "{one_of_each:?}");
    // All right against all wrong: a difference that nothing measures.
    let parted = [0.9, 0.1, 0.8, 0.2, 0.7];
    assert!(roc::paired(&labels, &parted, &parted.map(|score| -score)).z.is_nan());
    assert!(roc::paired(&[true; 5], &scores, &scores).z.is_nan(), "no negatives, no area");
    let unknown = roc::paired(&labels, &[0.9, f64::NAN, 0.4, 0.6, 0.7], &scores);
    assert!(unknown.first.area.is_nan() && unknown.z.is_nan(), "{unknown:?}");
}

#[test]
fn a_histogram_without_counts_is_not_comparable() {
    for (reference, current) in [([0, 0, 0], [0, 5, 5]), ([4, 0, 1], [0; 3]), ([0; 3], [0; 3])] {
        let drift = drift::drift(&reference, &current);
        assert!(drift.ks.is_nan() && drift.w1.is_nan(), "{reference:?} {current:?}: {drift:?}");
        assert!(drift.psi.is_finite(), "smoothed shares always exist: {drift:?}");
    }
    let drift = drift::drift(&[3, 0, 0], &[0, 0, 7]);
    close(drift.ks, 1.0);
    close(drift.w1, 2.0);
}

#[test]
fn what_rounding_leaves_of_no_variance_is_none() {
    // Ten differences of 0.1: their squares sum up to 0.1.
    let same = Summary::from_sums(10.0, 1.0, 0.1);
    assert!(two_sample::paired_t(&same).p.is_nan(), "{same:?}");
    close(two_sample::paired_t(&Summary::from_sums(10.0, 0.0, 0.0)).p, 1.0);
    let by_a_hair = Summary::of(&[1.1 - 4.4, 2.2 - 5.5, 3.3 - 6.6]);
    assert!(by_a_hair.m2 > 0.0 && two_sample::paired_t(&by_a_hair).p.is_nan(), "{by_a_hair:?}");
    assert!(two_sample::welch_t(&by_a_hair, &Summary::of(&[1.0, 1.0])).p.is_nan());
    let spread = Summary::from_sums(4.0, 2.0, 2.0);
    close(spread.m2, 1.0);
    // The covariate explains all of the metric.
    let arm = |n: f64, x: f64, xx: f64| CovariateSums {
        n,
        y: 0.3 * x,
        x,
        yy: 0.09 * xx,
        xx,
        xy: 0.3 * xx,
    };
    let cuped = ratio::cuped(&arm(7.0, 4.9, 9.1), &arm(5.0, 3.3, 4.7));
    assert!(cuped.error.is_finite() && cuped.error < 1e-7, "{cuped:?}");
    let one = arm(1.0, 1.0, 1.0);
    assert!(ratio::cuped(&one, &one).error.is_nan(), "one unit has no variance");
}

#[test]
fn a_difference_without_an_error_is_certain() {
    let certain = bayes::flat_posterior(0.2, 0.0).comparison;
    close(certain.greater, 1.0);
    close(certain.loss_candidate, 0.0);
    close(certain.loss_stable, 0.2);
    close(bayes::flat_posterior(0.0, 0.0).comparison.greater, 0.5);
    close(bayes::normal_posterior(-0.1, 0.0, 0.0, 1.0).comparison.greater, 0.0);
    close(bayes::normal_posterior(0.5, 0.1, -0.3, 0.0).mean, -0.3);
}

#[test]
fn zeros_of_either_sign_tie() {
    let (x, y) = ([-0.0, 0.0, 1.0], [0.0, -0.0, 2.0]);
    let test = ranks::mann_whitney(&x, &y);
    close(test.u, 4.0);
    assert_eq!(test.p_exact, None, "there are ties");
    close(reference::ranks::kolmogorov_smirnov(&x, &y).d, 1.0 / 3.0);
    let labels = [true, true, true, false, false, false];
    close(roc::exact(&labels, &[x, y].concat()).area, 4.0 / 9.0);
}

#[test]
fn a_plan_takes_longer_for_less() {
    let plan = |difference: f64| RatePlan { base: 0.1, difference, margin: 0.0, propensity: 0.5 };
    let median = |f: f64| {
        planning::ipw_duration(&plan(f), Null::greater(0.0), &Prior::planned(0.02), 0.05).median
    };
    // Measured: 7,000 observations two-sided for .10 against .12.
    assert!((4_000.0..8_000.0).contains(&median(0.02)), "{}", median(0.02));
    assert!(median(0.01) > 3.0 * median(0.02));
    assert!(median(0.0).is_infinite() && median(-0.01).is_infinite());
}

#[test]
fn student_tails_keep_their_digits() {
    // Figures of mpmath with 40 digits.
    for (t, df, wanted) in STUDENT {
        let got = special::student_sf(t, df);
        assert!((got / wanted - 1.0).abs() < 2e-11, "t {t} df {df}: {got}, not {wanted}");
    }
    let t = special::student_isf(0.001, 4.5);
    assert!((special::student_sf(t, 4.5) / 0.001 - 1.0).abs() < 1e-12);
}

#[expect(clippy::unreadable_literal, reason = "figures as they were printed")]
const STUDENT: [(f64, f64, f64); 11] = [
    (0.5, 1.0, 0.35241638234956674),
    (2.0, 3.0, 0.0696629842794216),
    (30.0, 2.0, 0.0005546313409798294),
    (5.0, 30.0, 1.1648342733503898e-05),
    (2.0, 100.0, 0.02410608936556684),
    (9.0, 1000.0, 5.56453858593575e-19),
    (1.5, 150000.0, 0.06680825359792733),
    (30.0, 200000.0, 1.3495022110863118e-197),
    (6.0, 1000000.0, 9.869249061772174e-10),
    (3.0, 1000000000.0, 0.0013498980648689578),
    (12.0, 2000000000.0, 1.7764867804682147e-33),
];
