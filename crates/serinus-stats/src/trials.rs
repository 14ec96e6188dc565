//! Simulated rollouts with fixed seeds: the claims about error rates, coverage and speed.

use crate::interval::Interval;
use crate::ipw_bet::{self, Counts, Design, Stratum};
use crate::paired_bet::{self, PairedCounts, PairedStratum};
use crate::prior::{GRID, Prior};
use crate::side::Null;
use crate::special::log_mean_of_two;

/// Steele, Lea and Flood's `SplitMix64`: good enough for trials, and equal on all machines.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 * f64::exp2(-53.0)
    }

    fn happens(&mut self, p: f64) -> bool {
        self.roll() < p
    }

    fn batch(&mut self, n: u64, propensity: f64, treated_rate: f64, control_rate: f64) -> Counts {
        let mut counts = Counts::default();
        for _ in 0..n {
            let treated = self.happens(propensity);
            let event = self.happens(if treated { treated_rate } else { control_rate });
            counts.record(treated, event);
        }
        counts
    }
}

/// A ramp over 5, 25 and 50 % while the base rate drifts down; a stage lasts longer when its candidate looks bad.
fn ramp(dice: &mut Dice, difference: f64, mut look: impl FnMut(&[Stratum])) {
    let mut strata: Vec<Stratum> = Vec::new();
    for (stage, propensity) in [0.05, 0.25, 0.5].into_iter().enumerate() {
        strata.push(Stratum { propensity, base: 0.1, centre: 0.1, counts: Counts::default() });
        let mut batches = 6;
        let mut batch = 0;
        while batch < batches {
            let rate = 0.12 - 0.02 * stage as f64;
            let seen = dice.batch(250, propensity, rate + difference, rate);
            if batch == 0 && seen.treated_events * seen.control > seen.control_events * seen.treated
            {
                batches += 4;
            }
            if let Some(current) = strata.last_mut() {
                current.counts.merge(&seen);
            }
            look(&strata);
            batch += 1;
        }
    }
}

#[test]
fn a_ramp_with_drift_seldom_accuses_an_equal_candidate() {
    let prior = Prior::planned(0.02);
    let mut accused = 0;
    for seed in 0..400 {
        let mut rejected = false;
        ramp(&mut Dice(seed), 0.0, |strata| {
            let sides = [Null::greater(0.0), Null::less(0.0)]
                .map(|null| ipw_bet::log_e(strata, null, &prior));
            rejected |= log_mean_of_two(sides[0], sides[1]) >= 20.0_f64.ln();
        });
        accused += u32::from(rejected);
    }
    // The true rate is at most 5 %; three standard errors of 400 trials are 3.3 %.
    assert!(accused <= 33, "{accused} of 400");
}

#[test]
fn intervals_cover_the_truth_at_all_looks_at_once() {
    let prior = Prior::planned(0.05);
    let (mut missed, mut last_width) = (0, 0.0);
    for seed in 0..60 {
        let mut missing = false;
        ramp(&mut Dice(1000 + seed), 0.04, |strata| {
            let interval = ipw_bet::interval(strata, &prior, 0.1);
            missing |= !interval.contains(0.04);
            last_width = interval.width();
        });
        missed += u32::from(missing);
    }
    // The true rate is at most 10 %; three standard errors of 60 trials are 11.6 %.
    assert!(missed <= 12, "{missed} of 60");
    assert!(last_width < 0.12, "{last_width}");
}

#[test]
fn paired_intervals_cover_the_truth_and_narrow() {
    let prior = Prior::planned(0.01);
    let mut missed = 0;
    for seed in 0..60 {
        let mut dice = Dice(2000 + seed);
        let mut counts = PairedCounts::default();
        let mut missing = false;
        let mut interval = Interval::WHOLE;
        for _ in 0..20 {
            for _ in 0..250 {
                let candidate = dice.happens(0.03);
                let stable = !candidate && dice.happens(0.02 / 0.97);
                counts.record(candidate, stable);
            }
            interval =
                paired_bet::interval(&[PairedStratum { discordance: 0.06, counts }], &prior, 0.1);
            missing |= !interval.contains(0.01);
        }
        assert!(interval.width() < 0.05, "{interval:?}");
        missed += u32::from(missing);
    }
    assert!(missed <= 12, "{missed} of 60");
}

#[test]
fn a_planned_difference_is_found_in_the_measured_time() {
    // Scenario T2: .10 against .12 at 50/50, two-sided; measured median 7,000 requests, power .96 within 20,000.
    let prior = Prior::planned(0.02);
    let designs =
        [Null::greater(0.0), Null::less(0.0)].map(|null| Design::new(0.5, 0.1, null, &prior));
    let mut stops: Vec<u32> = (0..300)
        .map(|seed| {
            let mut dice = Dice(3000 + seed);
            let mut counts = Counts::default();
            for look in 1..=200 {
                counts.merge(&dice.batch(100, 0.5, 0.12, 0.10));
                let [up, down] = designs.each_ref().map(|design| {
                    let mut sums = [0.0; GRID];
                    design.add_to(&counts, &mut sums);
                    prior.mixture(&sums)
                });
                if log_mean_of_two(up, down) >= 20.0_f64.ln() {
                    return look * 100;
                }
            }
            u32::MAX
        })
        .collect();
    stops.sort_unstable();
    let found = stops.iter().filter(|s| **s < u32::MAX).count();
    assert!((6_000..=8_200).contains(&stops[150]), "median {}", stops[150]);
    assert!(found >= 275, "{found} of 300");
}
