//! Shares of traffic.

use std::fmt;

/// A share of traffic, exact to a millionth, from nothing to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// No traffic.
    pub const NONE: Self = Self(0);
    /// All traffic.
    pub const ALL: Self = Self(Self::WHOLE);
    const WHOLE: u32 = 1_000_000;

    /// Returns the share of so many millionths, or nothing when that is more than all.
    pub fn from_millionths(millionths: u32) -> Option<Self> {
        (millionths <= Self::WHOLE).then_some(Self(millionths))
    }

    /// Returns the share nearest to a fraction in [0, 1], or nothing outside it.
    pub fn from_fraction(fraction: f64) -> Option<Self> {
        if !(0.0..=1.0).contains(&fraction) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the fraction was checked to lie in [0, 1]"
        )]
        let millionths = (fraction * f64::from(Self::WHOLE)).round() as u32;
        Some(Self(millionths))
    }

    /// Returns the share in millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// Returns the share as a fraction in [0, 1].
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }

    /// Returns the complement of this share.
    #[must_use]
    pub fn rest(self) -> Self {
        Self(Self::WHOLE - self.0)
    }

    /// Returns the sum, or nothing when it is more than all.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::from_millionths(self.0 + other.0)
    }
}

/// As a percentage: `5%`, `12.5%`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}
