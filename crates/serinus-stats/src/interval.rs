//! A confidence interval of a metric or a difference.

/// All numbers from `low` to `high`; an unbounded side has an infinite end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower end; minus infinity if unbounded.
    pub low: f64,
    /// The upper end; infinity if unbounded.
    pub high: f64,
}

impl Interval {
    /// The whole line, without any bound.
    pub const WHOLE: Self = Self { low: f64::NEG_INFINITY, high: f64::INFINITY };

    /// Returns `centre - half` to `centre + half`, or the whole line if either is NaN.
    pub fn around(centre: f64, half: f64) -> Self {
        if centre.is_nan() || half.is_nan() {
            return Self::WHOLE;
        }
        Self { low: centre - half, high: centre + half }
    }

    /// Returns whether `value` lies in the interval, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Returns the distance between the ends.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }
}
