//! A histogram with logarithmic buckets: quantiles of latencies within one per cent, mergeable and retractable.
//!
//! `gamma = (1+a)/(1-a)`; the bucket of `x` is `ceil(ln x / ln gamma)`, its value `2 gamma^key / (gamma + 1)`, within the
//! relative accuracy `a = 0.01` of every member. The state is counts, so merging is addition and a replay gives the same bits.
//!
//! Source: `DDSketch` (Masson, Rim and Lee 2019), logarithmic mapping.

use std::collections::BTreeMap;

/// The relative accuracy of a quantile.
pub const ACCURACY: f64 = 0.01;
/// Values up to this count as zero: no latency is shorter than a femtosecond.
const ZERO_MAX: f64 = 1e-12;

/// Counts by logarithmic bucket, and those of zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    zeros: u64,
    count: u64,
    buckets: BTreeMap<i32, u64>,
}

impl Sketch {
    /// Builds a sketch from the results of [`Sketch::zeros`] and [`Sketch::buckets`].
    pub fn from_buckets(zeros: u64, buckets: impl IntoIterator<Item = (i32, u64)>) -> Self {
        let mut sketch = Self { zeros, count: zeros, buckets: BTreeMap::new() };
        for (key, count) in buckets {
            if count > 0 {
                *sketch.buckets.entry(key).or_insert(0) += count;
                sketch.count += count;
            }
        }
        sketch
    }

    /// Counts a value. Negative values count as zero. The caller refuses NaN; here it is skipped.
    pub fn insert(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.count += 1;
        match key(value) {
            Some(key) => *self.buckets.entry(key).or_insert(0) += 1,
            None => self.zeros += 1,
        }
    }

    /// Subtracts a value that was counted.
    ///
    /// # Panics
    /// Panics if its bucket is empty, which is a bug in the caller.
    pub fn remove(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let mut one = Self::default();
        one.insert(value);
        self.subtract(&one);
    }

    /// Adds the counts of another part.
    pub fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        self.count += other.count;
        for (key, count) in &other.buckets {
            *self.buckets.entry(*key).or_insert(0) += count;
        }
    }

    /// Subtracts what was merged before.
    ///
    /// # Panics
    /// Panics if more is subtracted than was counted, which is a bug in the caller.
    pub fn subtract(&mut self, other: &Self) {
        let less = |have: u64, take: u64| {
            have.checked_sub(take).expect("only counted values are subtracted")
        };
        self.zeros = less(self.zeros, other.zeros);
        self.count = less(self.count, other.count);
        for (key, count) in &other.buckets {
            let left = less(self.buckets.get(key).copied().unwrap_or(0), *count);
            if left == 0 {
                self.buckets.remove(key);
            } else {
                self.buckets.insert(*key, left);
            }
        }
    }

    /// Returns the values counted since an earlier state of this sketch.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |key: i32| earlier.buckets.get(&key).copied().unwrap_or(0);
        let left =
            self.buckets.iter().map(|(key, count)| (*key, count.saturating_sub(before(*key))));
        Self::from_buckets(self.zeros.saturating_sub(earlier.zeros), left)
    }

    /// Returns how many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns how many of them were zero.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Returns the buckets that are not empty, by ascending key.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        self.buckets.iter().map(|(key, count)| (*key, *count))
    }

    /// Returns the value at rank `q (n - 1)`, within one per cent; `None` without values.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 || q.is_nan() {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * (self.count - 1) as f64;
        let mut seen = self.zeros;
        if seen as f64 > rank {
            return Some(0.0);
        }
        let mut last = 0.0;
        for (key, count) in &self.buckets {
            seen += count;
            last = bucket_value(*key);
            if seen as f64 > rank {
                break;
            }
        }
        Some(last)
    }

    /// Returns how many values lie in buckets above that of `value`.
    pub fn count_above(&self, value: f64) -> u64 {
        match key(value) {
            Some(key) => self.buckets.range(key.saturating_add(1)..).map(|(_, count)| count).sum(),
            None => self.count - self.zeros,
        }
    }

    /// Returns the share of values in the bucket of `value` or below; `None` without values.
    pub fn cdf(&self, value: f64) -> Option<f64> {
        (self.count > 0).then(|| (self.count - self.count_above(value)) as f64 / self.count as f64)
    }
}

fn gamma() -> f64 {
    (1.0 + ACCURACY) / (1.0 - ACCURACY)
}

/// Returns the bucket of a value, or `None` for zero. Infinity is in the last bucket.
#[expect(clippy::cast_possible_truncation, reason = "logarithms of an f64 give keys below 40,000")]
pub fn key(value: f64) -> Option<i32> {
    (value > ZERO_MAX).then(|| (value.min(f64::MAX).ln() / gamma().ln()).ceil() as i32)
}

/// Returns the value that represents a bucket.
pub fn bucket_value(key: i32) -> f64 {
    2.0 * (f64::from(key) * gamma().ln()).exp() / (gamma() + 1.0)
}
