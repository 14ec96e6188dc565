//! The claim of a one-sided test: the truth is on one side of a number.

/// The side on which the alternative lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The alternative is that the truth is greater than the null's number.
    Greater,
    /// The alternative is that the truth is less than the null's number.
    Less,
}

impl Side {
    /// Returns `+1` for greater, `-1` for less.
    pub fn sign(self) -> f64 {
        match self {
            Self::Greater => 1.0,
            Self::Less => -1.0,
        }
    }

    /// Returns the other side.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Greater => Self::Less,
            Self::Less => Self::Greater,
        }
    }
}

/// A one-sided null hypothesis, named by its alternative.
///
/// With [`Side::Greater`] the null is `truth <= at` and the alternative is `truth > at`; with [`Side::Less`] the null is
/// `truth >= at` and the alternative is `truth < at`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Null {
    /// The number at which the null ends.
    pub at: f64,
    /// The side of the alternative.
    pub side: Side,
}

impl Null {
    /// Returns the null `truth <= at`.
    pub fn greater(at: f64) -> Self {
        Self { at, side: Side::Greater }
    }

    /// Returns the null `truth >= at`.
    pub fn less(at: f64) -> Self {
        Self { at, side: Side::Less }
    }
}
