//! Points in time and spans of it, in Unix milliseconds.

use std::fmt;
use std::ops::{Add, Sub};

/// A point in time: Unix milliseconds, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A span of time in milliseconds; never negative in a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub i64);

impl Timestamp {
    /// Before everything.
    pub const MIN: Self = Self(i64::MIN / 4);
    /// After everything.
    pub const MAX: Self = Self(i64::MAX / 4);

    /// Returns the start of the interval of length `every` that holds this instant.
    #[must_use]
    pub fn floor_to(self, every: Span) -> Self {
        // Near the beginning of all times the multiple below is none of ours.
        Self(self.0.div_euclid(every.0.max(1)).saturating_mul(every.0.max(1)))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Returns a span of whole seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Self(seconds * 1000)
    }

    /// Returns this span `times` over.
    #[must_use]
    pub fn times(self, times: i64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Add<Span> for Timestamp {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Sub for Timestamp {
    type Output = Span;
    fn sub(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// As people write it in a spec: `1d12h`, `90m`, `1.5s` only where it is not whole: `1500ms`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 5] =
            [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0.abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        for (size, unit) in UNITS {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

/// Returns year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub fn civil_date(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{Span, Timestamp};

    #[test]
    fn spans_read_as_people_write_them() {
        let check = |ms: i64, expected: &str| assert_eq!(Span(ms).to_string(), expected);
        check(0, "0s");
        check(1500, "1s500ms");
        check(5_400_000, "1h30m");
        check(-60_000, "-1m");
    }

    #[test]
    fn an_instant_belongs_to_the_interval_that_holds_it() {
        assert_eq!(Timestamp(1999).floor_to(Span::seconds(1)), Timestamp(1000));
        assert_eq!(Timestamp(-1).floor_to(Span::seconds(1)), Timestamp(-1000));
    }
}
