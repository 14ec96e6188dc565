//! The design effect of units with several cases: by how much they inflate the variance of a comparison.
//!
//! Cases of one unit are correlated, so a test that assumes independence rejects too often (measured: 35 % of healthy
//! candidates, 500 users with 40 requests each). Units are hashed into buckets. Each bucket sums the weighted values of its cases,
//! and the weights of each arm. When it is read, the mean of its arm is subtracted from every value; the variance of these residuals
//! between buckets divided by the sum of their squares is the design effect `v`. It is 1 for independent cases and up to the number of
//! cases of a unit if they all agree. The arm of a unit does not matter: values that are equal within each arm give 1.
//!
//! Log-capitals are divided by `v`. For a sum of variance `v` times as large, and bets planned for the variance alone,
//! `lambda S - lambda^2 V / 2` becomes `(lambda / v) S - (lambda / v)^2 v V / 2`: bets of the right size. This is exact in the
//! limit of many units only, so units in too few buckets prove nothing.
//!
//! A split bet is centered at a planned rate. If that rate is off, the number of units that the assignment gave
//! to each arm also moves the bet, by whole units. [`Clusters::inflation`] therefore includes the assignment if it
//! moves the log-capital noticeably.
//!
//! Sources: Kish 1965 (design effect); Deng, Lu and Litz 2017 (units of analysis finer than units of assignment); the grouped
//! jackknife.

/// The number of buckets of units: it gives their variance a relative error of one eighth.
pub const BUCKETS: usize = 128;
/// Minimum number of buckets with units for a proof.
const FILLED_MIN: usize = 30;
/// The number of parts: the candidate's arm, the stable version's arm, and pairs.
pub const PARTS: usize = 3;
/// One in the fixed point of weights.
const WEIGHT_ONE: f64 = (1_u64 << 16) as f64;
/// One in the fixed point of values and centers.
const VALUE_ONE: f64 = (1_u64 << 20) as f64;
/// Maximum weight: larger than any bet on a share of a thousandth. It keeps every sum far from overflow.
const WEIGHT_MAX: f64 = (1_u64 << 14) as f64;
/// Maximum value after scaling.
const VALUE_MAX: f64 = (1_u64 << 10) as f64;
/// The ignored excess variance of the log-capital from the assignment: it raises the mean of an e-value by at most a tenth.
const EXCESS_MAX: f64 = 0.2;

/// The part of a comparison that a case belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// The candidate answered it.
    Candidate,
    /// The stable version answered it.
    Stable,
    /// Both answered it; the value is the difference.
    Pair,
}

/// The sums of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSums {
    /// The weighted values of each bucket's cases, times 2^36.
    pub sums: [i128; BUCKETS],
    /// The weights of each bucket's cases, times 2^16.
    pub weights: [i128; BUCKETS],
    /// Squared weights, times 2^32.
    pub squares: i128,
    /// Squared weights times values, times 2^52.
    pub values: i128,
    /// Squared weights times squared values, times 2^72.
    pub value_squares: i128,
    /// Squared weights times the centers of the bets, times 2^52.
    pub centres: i128,
}

impl Default for PartSums {
    fn default() -> Self {
        Self {
            sums: [0; BUCKETS],
            weights: [0; BUCKETS],
            squares: 0,
            values: 0,
            value_squares: 0,
            centres: 0,
        }
    }
}

/// One case of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// Its part.
    pub arm: Arm,
    /// The absolute value of its bet.
    pub weight: f64,
    /// Its value.
    pub value: f64,
    /// The center of the bet; the value itself if there are no bets on single answers.
    pub centre: f64,
}

/// Sums by bucket of units: exact and mergeable in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clusters {
    /// The candidate's, the stable version's, and pairs.
    pub parts: [PartSums; PARTS],
}

impl Arm {
    const ALL: [Self; PARTS] = [Self::Candidate, Self::Stable, Self::Pair];

    /// Candidate minus stable.
    fn sign(self) -> f64 {
        match self {
            Self::Candidate | Self::Pair => 1.0,
            Self::Stable => -1.0,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Candidate => 0,
            Self::Stable => 1,
            Self::Pair => 2,
        }
    }
}

impl PartSums {
    fn merge(&mut self, other: &Self) {
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            *sum += more;
        }
        for (sum, more) in self.weights.iter_mut().zip(&other.weights) {
            *sum += more;
        }
        self.squares += other.squares;
        self.values += other.values;
        self.value_squares += other.value_squares;
        self.centres += other.centres;
    }

    /// Returns the mean of the values and the mean of the centers.
    fn means(&self) -> (f64, f64) {
        if self.squares == 0 {
            return (0.0, 0.0);
        }
        let squares = self.squares as f64 * VALUE_ONE;
        (self.values as f64 / squares, self.centres as f64 / squares)
    }

    /// Returns the sum of the squared residuals around the mean; zero if all values are equal up to rounding.
    fn residual_squares(&self) -> f64 {
        let (mean, _) = self.means();
        let squares = plain(self.value_squares, WEIGHT_ONE.powi(2) * VALUE_ONE.powi(2));
        let residual = squares - mean * plain(self.values, WEIGHT_ONE.powi(2) * VALUE_ONE);
        if residual > 1e-12 * squares { residual } else { 0.0 }
    }

    /// Returns each bucket's sum of residuals around the mean.
    fn residuals(&self) -> [f64; BUCKETS] {
        let (mean, _) = self.means();
        let mut residuals = self.sums.map(|sum| plain(sum, WEIGHT_ONE * VALUE_ONE));
        for (sum, weight) in residuals.iter_mut().zip(self.weights) {
            *sum -= mean * plain(weight, WEIGHT_ONE);
        }
        if self.residual_squares() > 0.0 { residuals } else { [0.0; BUCKETS] }
    }
}

impl Clusters {
    /// Returns the bucket of a unit, given a hash of it.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below the number of buckets"
    )]
    pub fn bucket(unit: u64) -> usize {
        (unit % BUCKETS as u64) as usize
    }

    /// Adds one case of a unit of this bucket; a case with numbers that are not finite is skipped.
    pub fn add(&mut self, bucket: usize, case: Case) {
        if !(case.weight.is_finite() && case.value.is_finite() && case.centre.is_finite()) {
            return;
        }
        let weight = weight(case.weight);
        let (value, centre) = (value(case.value), value(case.centre));
        let bucket = bucket % BUCKETS;
        let part = &mut self.parts[case.arm.index()];
        part.sums[bucket] += weight * value;
        part.weights[bucket] += weight;
        part.squares += weight * weight;
        part.values += weight * weight * value;
        part.value_squares += weight * weight * value * value;
        part.centres += weight * weight * centre;
    }

    /// Adds the sums of another lane.
    pub fn merge(&mut self, other: &Self) {
        for (part, more) in self.parts.iter_mut().zip(&other.parts) {
            part.merge(more);
        }
    }

    /// Returns the design effect: 1 unless there is evidence for more; infinite if there is and the units are too few to estimate it.
    ///
    /// An estimate within two standard errors of 1 counts as 1, so that independent cases lose no power. A single arm
    /// counts from three standard errors on: a small arm without any of the bad units must not make the design effect small.
    pub fn inflation(&self) -> f64 {
        let arms = Arm::ALL.map(|arm| self.parts[arm.index()].residuals());
        let squares = Arm::ALL.map(|arm| self.parts[arm.index()].residual_squares());
        let mut residuals = [0.0; BUCKETS];
        for (arm, own) in Arm::ALL.iter().zip(&arms) {
            for (sum, more) in residuals.iter_mut().zip(own) {
                *sum += arm.sign() * more;
            }
        }
        let whole: f64 = squares.iter().sum();
        let mut inflation = self.ratio(between(&residuals), whole, 2.0);
        for (own, squares) in arms.iter().zip(squares) {
            inflation = inflation.max(self.ratio(between(own), squares, 3.0));
        }
        let (assignment, assigned) = self.assignment();
        if between(&assignment) - assigned > EXCESS_MAX {
            for (sum, more) in residuals.iter_mut().zip(assignment) {
                *sum += more;
            }
            inflation = inflation.max(self.ratio(between(&residuals), whole + assigned, 2.0));
        }
        inflation
    }

    /// Returns how far the number of cases in each arm moves each bucket's sum, because the bets are not centered at the mean, and
    /// the sum of squares of these moves.
    fn assignment(&self) -> ([f64; BUCKETS], f64) {
        let mut moved = [0.0; BUCKETS];
        let mut squares = 0.0;
        for arm in [Arm::Candidate, Arm::Stable] {
            let part = &self.parts[arm.index()];
            let (mean, centre) = part.means();
            squares += (mean - centre).powi(2) * plain(part.squares, WEIGHT_ONE.powi(2));
            for (sum, weight) in moved.iter_mut().zip(part.weights) {
                *sum += arm.sign() * (mean - centre) * plain(weight, WEIGHT_ONE);
            }
        }
        (moved, squares)
    }

    /// Returns a ratio of variances; 1 if it is not this many standard errors above 1.
    fn ratio(&self, between: f64, squares: f64, errors: f64) -> f64 {
        if squares <= 0.0 {
            return 1.0;
        }
        let inflation = between / squares;
        if inflation <= 1.0 + errors * (2.0 / BUCKETS as f64).sqrt() {
            return 1.0;
        }
        if self.filled() < FILLED_MIN { f64::INFINITY } else { inflation }
    }

    /// Returns the number of buckets with a case.
    fn filled(&self) -> usize {
        let is_filled = |bucket: &usize| self.parts.iter().any(|part| part.weights[*bucket] != 0);
        (0..BUCKETS).filter(is_filled).count()
    }
}

/// Returns the sum of squares that independent cases would need for buckets to differ as they do.
fn between(sums: &[f64; BUCKETS]) -> f64 {
    let buckets = BUCKETS as f64;
    let mean = sums.iter().sum::<f64>() / buckets;
    let between: f64 = sums.iter().map(|sum| (sum - mean).powi(2)).sum();
    between * buckets / (buckets - 1.0)
}

fn plain(fixed: i128, one: f64) -> f64 {
    fixed as f64 / one
}

/// A bet too small for the fixed point counts as one step.
#[expect(clippy::cast_possible_truncation, reason = "clamped before")]
fn weight(weight: f64) -> i128 {
    let steps = (weight.abs().min(WEIGHT_MAX) * WEIGHT_ONE).round() as i128;
    if weight == 0.0 { 0 } else { steps.max(1) }
}

#[expect(clippy::cast_possible_truncation, reason = "clamped before")]
fn value(value: f64) -> i128 {
    (value.clamp(-VALUE_MAX, VALUE_MAX) * VALUE_ONE).round() as i128
}

#[cfg(test)]
mod tests {
    use super::{Arm, Case, Clusters};

    /// A small random number generator for this test.
    fn draws(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as f64) / f64::exp2(31.0)
        }
    }

    /// The bucket of a unit; no pattern of it follows the arms.
    fn bucket(unit: usize) -> usize {
        let mut draw = draws(unit as u64 * 7919 + 17);
        let _ = draw();
        Clusters::bucket((draw() * 1e9).to_bits() >> 20)
    }

    /// A case of a split in which the candidate has one unit of ten.
    fn split(unit: usize, value: f64, centre: f64) -> Case {
        if unit.is_multiple_of(10) {
            Case { arm: Arm::Candidate, weight: 5.0, value, centre }
        } else {
            Case { arm: Arm::Stable, weight: 0.5 / 0.9, value, centre }
        }
    }

    fn is_one(clusters: &Clusters) -> bool {
        clusters.inflation().to_bits() == 1.0_f64.to_bits()
    }

    #[test]
    fn cases_of_their_own_are_not_inflated() {
        let mut draw = draws(7);
        let mut clusters = Clusters::default();
        for unit in 0..20_000 {
            clusters.add(bucket(unit), split(unit, draw(), 0.5));
        }
        assert!(is_one(&clusters), "{}", clusters.inflation());
    }

    #[test]
    fn cases_that_agree_within_a_unit_are() {
        for centre in [0.5, 0.2] {
            let mut draw = draws(8);
            let mut clusters = Clusters::default();
            for unit in 0..5_000 {
                let value = draw();
                for _ in 0..10 {
                    clusters.add(bucket(unit), split(unit, value, centre));
                }
            }
            let inflation = clusters.inflation();
            assert!((7.0..13.0).contains(&inflation), "ten cases count as one: {inflation}");
        }
    }

    #[test]
    fn equal_values_are_not_inflated_however_many_cases_a_bucket_holds() {
        for value in [0.0, 0.1, 0.3, 1.0] {
            let mut clusters = Clusters::default();
            for unit in 0..300_usize {
                for _ in 0..80 + unit % 7 {
                    clusters.add(bucket(unit), split(unit, value, value));
                }
            }
            assert!(is_one(&clusters), "{value}: {}", clusters.inflation());
        }
    }

    #[test]
    fn arms_that_differ_by_a_constant_are_not_inflated() {
        let mut clusters = Clusters::default();
        for unit in 0..300_usize {
            for _ in 0..=unit % 7 {
                let case = split(unit, 0.0, 0.0);
                let value = if case.arm == Arm::Candidate { 0.7 } else { 0.1 };
                clusters.add(bucket(unit), Case { value, centre: value, ..case });
            }
        }
        assert!(is_one(&clusters), "{}", clusters.inflation());
    }

    #[test]
    fn pairs_that_differ_by_a_constant_are_not_inflated() {
        let mut clusters = Clusters::default();
        for unit in 0..40_usize {
            for _ in 0..=unit {
                let case = Case { arm: Arm::Pair, weight: 0.3, value: 0.1, centre: 0.0 };
                clusters.add(unit, case);
            }
        }
        assert!(is_one(&clusters), "{}", clusters.inflation());
    }

    #[test]
    fn rare_independent_events_of_units_that_come_again_are_not_inflated() {
        let mut draw = draws(3);
        let mut clusters = Clusters::default();
        for _ in 0..80 {
            for unit in 0..300_usize {
                let value = f64::from(draw() < 0.002);
                clusters.add(bucket(unit), split(unit, value, 0.0));
            }
        }
        assert!(is_one(&clusters), "{}", clusters.inflation());
    }

    #[test]
    fn a_centre_far_off_lets_the_assignment_count() {
        let mut draw = draws(4);
        let mut clusters = Clusters::default();
        for _ in 0..40 {
            for unit in 0..500_usize {
                let value = f64::from(draw() < 0.3);
                clusters.add(bucket(unit), split(unit, value, 0.0));
            }
        }
        assert!(clusters.inflation() > 5.0, "{}", clusters.inflation());
    }

    #[test]
    fn a_handful_of_units_proves_nothing() {
        let mut clusters = Clusters::default();
        for unit in [0, 1, 2, 10] {
            let value = if unit < 2 { 0.5 } else { -0.4 };
            for _ in 0..250 {
                clusters.add(bucket(unit), split(unit, value, 0.0));
            }
        }
        assert!(clusters.inflation().is_infinite());
    }

    #[test]
    fn parts_merge_to_the_same_as_the_whole() {
        let mut draw = draws(5);
        let (mut whole, mut left, mut right) =
            (Clusters::default(), Clusters::default(), Clusters::default());
        for unit in 0..2_000_usize {
            let case = split(unit, draw(), 0.4);
            whole.add(bucket(unit), case);
            if draw() < 0.5 { &mut left } else { &mut right }.add(bucket(unit), case);
        }
        right.merge(&left);
        assert_eq!(right, whole);
    }
}
