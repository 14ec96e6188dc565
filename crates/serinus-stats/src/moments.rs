//! Mean and variance from exact sums that merge in any order and can be subtracted.

use crate::interval::Interval;
use crate::special::normal_isf;

/// Values are stored in multiples of one millionth.
const QUANTA: f64 = 1e6;
/// Where the sums are split to stay exact: the low 64 bits of each square are summed separately.
const LOW_BITS: u128 = u64::MAX as u128;

/// The count, sum and sum of squares of values quantized to 1e-6: exact integers, so they merge in any order.
///
/// Values beyond ±9.2e12 are clipped. The caller refuses NaN; here it counts as nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Moments {
    /// The number of values.
    pub n: u64,
    /// The sum, in millionths.
    pub sum: i128,
    /// The sum of the squares' bits above the 64th: with `squares_low` it cannot overflow.
    pub squares_high: i128,
    /// The sum of the squares' lowest 64 bits.
    pub squares_low: i128,
}

impl Moments {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        if let Some(one) = Self::of(value) {
            self.merge(&one);
        }
    }

    /// Subtracts a value that was added.
    pub fn sub(&mut self, value: f64) {
        if let Some(one) = Self::of(value) {
            self.retract(&one);
        }
    }

    /// Adds the counts of another part.
    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.sum += other.sum;
        self.squares_high += other.squares_high;
        self.squares_low += other.squares_low;
    }

    /// Subtracts what was merged or added before.
    ///
    /// # Panics
    /// Panics if more is subtracted than was counted, which is a bug in the caller.
    pub fn retract(&mut self, other: &Self) {
        self.n = self.n.checked_sub(other.n).expect("only counted values are subtracted");
        self.sum -= other.sum;
        self.squares_high -= other.squares_high;
        self.squares_low -= other.squares_low;
    }

    /// Returns count, mean and the sum of squared deviations.
    pub fn summary(&self) -> Summary {
        if self.n == 0 {
            return Summary::default();
        }
        let n = self.n as f64;
        // Deviations from the integer nearest the mean: squares are summed modulo 2^128, which is exact as long as the result
        // itself is below it, however large the mean.
        let count = i128::from(self.n);
        let anchor = self.sum.div_euclid(count);
        let rest = (self.sum - anchor * count) as f64;
        let rough = {
            let squares = self.squares_high as f64 * f64::exp2(64.0) + self.squares_low as f64;
            let sum = self.sum as f64;
            squares - sum * (sum / n)
        };
        let around_anchor = if rough > f64::exp2(125.0) {
            rough + rest * rest / n
        } else {
            let squares = self.squares_high.wrapping_shl(64).wrapping_add(self.squares_low);
            let cross = anchor.wrapping_mul(self.sum).wrapping_mul(2);
            let base = anchor.wrapping_mul(anchor).wrapping_mul(count);
            squares.wrapping_sub(cross).wrapping_add(base) as f64
        };
        let m2 = (around_anchor - rest * (rest / n)).max(0.0);
        Summary { n, mean: (anchor as f64 + rest / n) / QUANTA, m2: m2 / (QUANTA * QUANTA) }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, as the type's doc says"
    )]
    fn of(value: f64) -> Option<Self> {
        if value.is_nan() {
            return None;
        }
        let quantised = (value * QUANTA).round() as i64;
        let square = u128::from(quantised.unsigned_abs()).pow(2);
        let part = |bits: u128| i128::try_from(bits).expect("64 bits fit");
        Some(Self {
            n: 1,
            sum: i128::from(quantised),
            squares_high: part(square >> 64),
            squares_low: part(square & LOW_BITS),
        })
    }
}

/// Count, mean and sum of squared deviations as plain numbers: what tests are computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// The number of values.
    pub n: f64,
    /// Their mean; 0 without values.
    pub mean: f64,
    /// The sum of squared deviations from the mean.
    pub m2: f64,
}

impl Summary {
    /// Summarizes values.
    pub fn of(values: &[f64]) -> Self {
        Partial::of(values).summary()
    }

    /// Returns the summary with this variance (with `n - 1`).
    pub fn from_variance(n: f64, mean: f64, variance: f64) -> Self {
        Self { n, mean, m2: variance * (n - 1.0) }
    }

    /// Returns the summary of values by their count, sum and sum of squares: a variance within rounding error is set to 0.
    pub fn from_sums(n: f64, sum: f64, squares: f64) -> Self {
        if n <= 0.0 {
            return Self::default();
        }
        let m2 = squares - sum * (sum / n);
        let is_rounding = m2 <= 4.0 * f64::EPSILON * squares;
        Self { n, mean: sum / n, m2: if is_rounding { 0.0 } else { m2 } }
    }

    /// Returns the summary of a rate: `events` ones among `n` values.
    pub fn of_rate(n: u64, events: u64) -> Self {
        if n == 0 {
            return Self::default();
        }
        let (n, events) = (n as f64, events as f64);
        Self { n, mean: events / n, m2: events * (1.0 - events / n) }
    }

    /// Returns the variance with `n - 1`; NaN for fewer than two values.
    pub fn variance(&self) -> f64 {
        if self.n < 2.0 { f64::NAN } else { self.m2 / (self.n - 1.0) }
    }

    /// Returns whether the values are equal up to rounding: 1.1 - 4.4 and 2.2 - 5.5 differ by 4e-16.
    pub fn is_constant(&self) -> bool {
        self.m2 <= self.n * (4.0 * f64::EPSILON * self.mean).powi(2)
    }

    /// Returns the standard error of the mean; NaN for fewer than two values.
    pub fn standard_error(&self) -> f64 {
        (self.variance() / self.n).sqrt()
    }
}

/// A summary that is merged part by part (Chan, Golub and `LeVeque` 1979), for values that a resolution of 1e-6 does not suit.
///
/// The rounding error of the mean is carried along: at a mean of 1e9, a plain mean changes squares by a ten-millionth. Nearly but not
/// exactly order-independent, unlike [`Moments`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Partial {
    n: f64,
    mean: f64,
    rest: f64,
    m2: f64,
}

impl Partial {
    /// Summarizes values in two passes.
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let n = values.len() as f64;
        let mean = values
            .iter()
            .fold((0.0, 0.0), |(k, mean), x| (k + 1.0, mean + (x - mean) / (k + 1.0)))
            .1;
        let rest = values.iter().map(|x| x - mean).sum::<f64>() / n;
        let m2 = values.iter().map(|x| (x - mean - rest).powi(2)).sum();
        Self { n, mean, rest, m2 }
    }

    /// Merges two parts.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.n == 0.0 {
            return other;
        }
        if other.n == 0.0 {
            return self;
        }
        let n = self.n + other.n;
        let gap = (other.mean - self.mean) + (other.rest - self.rest);
        let weight = other.n / n;
        let shift = self.rest + gap * weight;
        let mean = self.mean + shift;
        let rest = (self.mean - mean) + shift;
        Self { n, mean, rest, m2: self.m2 + other.m2 + gap * gap * self.n * weight }
    }

    /// Returns the summary of all parts.
    pub fn summary(&self) -> Summary {
        Summary { n: self.n, mean: self.mean + self.rest, m2: self.m2 }
    }
}

/// Returns the fixed-horizon normal interval of a mean: for reports, not as a stopping rule. Unbounded for fewer than two values.
pub fn mean_interval(summary: &Summary, alpha: f64) -> Interval {
    Interval::around(summary.mean, normal_isf(0.5 * alpha) * summary.standard_error())
}

/// Returns the fixed-horizon normal interval of `treated - control`; unbounded while an arm has fewer than two values.
pub fn difference_interval(treated: &Summary, control: &Summary, alpha: f64) -> Interval {
    let error = treated.standard_error().hypot(control.standard_error());
    Interval::around(treated.mean - control.mean, normal_isf(0.5 * alpha) * error)
}
