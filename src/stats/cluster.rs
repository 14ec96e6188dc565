//! Units with several cases: how much wider the sum of the bets spreads than if every case were a unit of its own.
//!
//! Cases of one unit resemble each other, so a test that takes them for independent rejects too often (measured: 35 % of healthy
//! candidates, 500 users with 40 requests each). Units are thrown into buckets by a hash; what is bet on each case is summed by
//! bucket. The variance between buckets over the sum of squares is the design effect `v`: 1 for independent cases, up to the
//! number of cases a unit has where they all agree. Log-capitals are divided by it. For a sum of variance `v` times as large, and
//! bets planned for the variance alone, `lambda S - lambda^2 V / 2` becomes `(lambda / v) S - (lambda / v)^2 v V / 2`: the bets of
//! the right size. That is exact in the limit of many units and not below it, so too few units prove nothing.
//!
//! Sources: Kish 1965 (design effect); Deng, Lu and Litz 2017 (units of analysis finer than units of assignment); the grouped
//! jackknife.

/// How many buckets units are thrown into: their variance is known to one part in eight.
pub const BUCKETS: usize = 128;
/// With units in fewer buckets nothing is believed.
const FILLED_MIN: usize = 30;
/// One in the fixed point of sums and squares.
const ONE: f64 = (1_u64 << 40) as f64;

/// Sums by bucket: exact, mergeable, retractable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clusters {
    /// What was bet on the cases of each bucket's units, times 2^40.
    pub sums: [i128; BUCKETS],
    /// The squares of all of them, times 2^40.
    pub squares: i128,
}

impl Default for Clusters {
    fn default() -> Self {
        Self { sums: [0; BUCKETS], squares: 0 }
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

    /// Adds what is bet on one case of a unit of this bucket; what is not a number counts as nothing.
    pub fn add(&mut self, bucket: usize, value: f64) {
        self.sums[bucket % BUCKETS] += fixed(value);
        self.squares += fixed(value * value);
    }

    /// Takes back what was added before.
    pub fn sub(&mut self, bucket: usize, value: f64) {
        self.sums[bucket % BUCKETS] -= fixed(value);
        self.squares -= fixed(value * value);
    }

    /// Adds what another part has seen.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            *sum += more;
        }
        self.squares += other.squares;
    }

    /// Returns the design effect: 1 while nothing speaks for more, infinite where there is some and too few units to tell.
    ///
    /// An estimate within two standard errors of 1 is taken as 1, so that cases that are units of their own lose nothing.
    pub fn inflation(&self) -> f64 {
        inflation(&self.sums.map(plain), plain(self.squares), self.filled())
    }

    /// Returns how many buckets have something.
    fn filled(&self) -> usize {
        self.sums.iter().filter(|it| **it != 0).count()
    }
}

/// The same for values whose middle nobody knows beforehand: sums that are centred when they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Weighted values.
    pub values: Clusters,
    /// The weights alone.
    pub weights: Clusters,
    /// The sum of each squared weight times its value, times 2^40.
    pub cross: i128,
}

impl Levels {
    /// Adds a value of one case of a unit of this bucket; what is not a number counts as nothing.
    pub fn add(&mut self, bucket: usize, weight: f64, value: f64) {
        self.values.add(bucket, weight * value);
        self.weights.add(bucket, weight);
        self.cross += fixed(weight * weight * value);
    }

    /// Adds what another part has seen.
    pub fn merge(&mut self, other: &Self) {
        self.values.merge(&other.values);
        self.weights.merge(&other.weights);
        self.cross += other.cross;
    }

    /// Returns the design effect of the values around their own weighted mean; see [`Clusters::inflation`].
    pub fn inflation(&self) -> f64 {
        let (weights, cross) = (plain(self.weights.squares), plain(self.cross));
        if weights <= 0.0 {
            return 1.0;
        }
        let centre = cross / weights;
        let mut sums = self.values.sums.map(plain);
        for (sum, weight) in sums.iter_mut().zip(self.weights.sums) {
            *sum -= centre * plain(weight);
        }
        let squares = plain(self.values.squares) - cross * centre;
        // Values that are all alike differ by rounding only, and that says nothing.
        let is_spread = squares > 1e-9 * plain(self.values.squares);
        if is_spread { inflation(&sums, squares, self.weights.filled()) } else { 1.0 }
    }
}

fn inflation(sums: &[f64; BUCKETS], squares: f64, filled: usize) -> f64 {
    let buckets = BUCKETS as f64;
    if squares <= 0.0 {
        return 1.0;
    }
    let mean = sums.iter().sum::<f64>() / buckets;
    let between: f64 = sums.iter().map(|it| (it - mean).powi(2)).sum();
    let inflation = between / squares * (buckets / (buckets - 1.0));
    if inflation <= 1.0 + 2.0 * (2.0 / buckets).sqrt() {
        return 1.0;
    }
    if filled < FILLED_MIN { f64::INFINITY } else { inflation }
}

fn plain(fixed: i128) -> f64 {
    fixed as f64 / ONE
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and bets are far smaller")]
fn fixed(value: f64) -> i128 {
    (value * ONE).round() as i128
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Clusters, Levels};

    /// A plain generator, so that the test needs no other.
    fn draws(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as f64) / f64::exp2(31.0) - 0.5
        }
    }

    #[test]
    fn cases_of_their_own_are_not_inflated() {
        let mut draw = draws(7);
        let mut clusters = Clusters::default();
        for case in 0..20_000 {
            clusters.add(case % BUCKETS, draw());
        }
        assert_eq!(clusters.inflation().to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn cases_that_agree_within_a_unit_are() {
        let mut draw = draws(8);
        let mut clusters = Clusters::default();
        for unit in 0..5_000 {
            let value = draw();
            for _ in 0..10 {
                clusters.add(unit % BUCKETS, value);
            }
        }
        let inflation = clusters.inflation();
        assert!((7.0..13.0).contains(&inflation), "ten cases that agree count as one: {inflation}");
    }

    #[test]
    fn levels_are_centred_when_they_are_read() {
        let (mut alone, mut alike, mut draw) = (Levels::default(), Levels::default(), draws(9));
        for unit in 0..8_000 {
            let weight = if unit % 10 == 0 { 10.0 } else { -10.0 / 9.0 };
            let value = draw();
            for _ in 0..10 {
                alike.add(unit % BUCKETS, weight, 5.0 + value);
            }
            alone.add(unit % BUCKETS, weight, 5.0 + value);
        }
        assert_eq!(alone.inflation().to_bits(), 1.0_f64.to_bits(), "{}", alone.inflation());
        let inflation = alike.inflation();
        assert!((7.0..13.0).contains(&inflation), "ten cases that agree count as one: {inflation}");
        let mut merged = Levels::default();
        merged.merge(&alike);
        assert_eq!(merged, alike);
    }

    #[test]
    fn a_handful_of_units_proves_nothing() {
        let mut clusters = Clusters::default();
        for case in 0..1000 {
            clusters.add(case % 3, if case % 3 == 0 { 0.5 } else { -0.4 });
        }
        assert!(clusters.inflation().is_infinite());
    }

    #[test]
    fn what_is_taken_back_leaves_no_trace() {
        let mut clusters = Clusters::default();
        clusters.add(3, 0.25);
        let before = clusters.clone();
        clusters.add(9, -0.125);
        clusters.sub(9, -0.125);
        assert_eq!(clusters, before);
        let mut merged = Clusters::default();
        merged.merge(&before);
        assert_eq!(merged, before);
    }
}
