//! Answers that cannot be scored, counted as if they had been as bad, or as good, as they can be.
//!
//! A claim in the candidate's favour must hold whatever the missing answers would have been, and so must a claim of harm. So each side
//! has sums of its own: they differ only in the cases whose answer is missing, late, failed or unreadable.

use crate::plan::metric::{Direction, Metric, Shape, Unusable};
use serinus_stats::interval::Interval;
use serinus_stats::ipw_bet;
use serinus_stats::moments::{Moments, Summary};
use serinus_stats::paired_bet::PairedCounts;

/// The same for the claim of harm and for the claims in the candidate's favour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides<T> {
    /// For the claim that the candidate is worse.
    pub harm: T,
    /// For the claims that it is not too bad, or better.
    pub favour: T,
}

/// How many answers could not be scored although the truth is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Of positive cases, for rankings and two-by-two tables; there is no such difference for other metrics.
    pub positives: u64,
    /// Of all others.
    pub rest: u64,
}

/// Whose answer cannot be scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The candidate's.
    Candidates,
    /// The stable version's.
    Stables,
}

impl<T: Copy> Sides<T> {
    /// Takes one for both.
    pub fn both(of: T) -> Self {
        Self { harm: of, favour: of }
    }
}

impl<T> Sides<T> {
    /// Makes another of each.
    pub fn map<U>(self, make: impl Fn(T) -> U) -> Sides<U> {
        Sides { harm: make(self.harm), favour: make(self.favour) }
    }

    /// Makes one of two.
    pub fn with<U, V>(self, other: Sides<U>, make: impl Fn(T, U) -> V) -> Sides<V> {
        Sides { harm: make(self.harm, other.harm), favour: make(self.favour, other.favour) }
    }

    /// Returns what each of the three questions is asked of: harm, non-inferior, superior.
    pub fn questions(self) -> [T; 3]
    where
        T: Clone,
    {
        [self.harm, self.favour.clone(), self.favour]
    }
}

impl Sides<ipw_bet::Counts> {
    /// Adds what another part has seen.
    pub fn merge(&mut self, other: &Self) {
        self.harm.merge(&other.harm);
        self.favour.merge(&other.favour);
    }
}

impl Sides<PairedCounts> {
    /// Adds what another part has seen.
    pub fn merge(&mut self, other: &Self) {
        self.harm.merge(&other.harm);
        self.favour.merge(&other.favour);
    }
}

impl Sides<Moments> {
    /// Adds what another part has seen.
    pub fn merge(&mut self, other: &Self) {
        self.harm.merge(&other.harm);
        self.favour.merge(&other.favour);
    }
}

impl Lost {
    /// Returns how many there are.
    pub fn all(self) -> u64 {
        self.positives + self.rest
    }

    /// Adds another part's.
    pub fn merge(&mut self, other: Self) {
        self.positives += other.positives;
        self.rest += other.rest;
    }

    /// Takes back what was counted before; nothing where that is more than there is.
    pub fn without(self, taken: Self) -> Option<Self> {
        Some(Self {
            positives: self.positives.checked_sub(taken.positives)?,
            rest: self.rest.checked_sub(taken.rest)?,
        })
    }
}

/// Returns the least and the greatest value of a metric whose cases have values.
pub fn scale(metric: &Metric) -> (f64, f64) {
    match metric.kind.shape() {
        Shape::Bounded => metric.range,
        Shape::Binary | Shape::Ranking | Shape::Duration | Shape::Confusion => (0.0, 1.0),
    }
}

/// Returns what an answer that cannot be scored counts as: against what is claimed.
pub fn value(metric: &Metric, whose: Whose) -> Sides<f64> {
    let (low, high) = scale(metric);
    let (worst, best) = match metric.direction {
        Direction::Lower => (high, low),
        Direction::Higher => (low, high),
    };
    match whose {
        Whose::Candidates => Sides { harm: best, favour: worst },
        Whose::Stables => Sides { harm: worst, favour: best },
    }
}

/// Returns the lost answers that count against a claim: all of them, or none by `unusable: exclude`.
pub fn counted(metric: &Metric, lost: Lost) -> Lost {
    match metric.unusable {
        Unusable::Bounds => lost,
        Unusable::Exclude => Lost::default(),
    }
}

/// Returns a range of the difference, each end from the side that is claimed beyond it.
pub fn ends(metric: &Metric, sides: Sides<Interval>) -> Interval {
    let Sides { harm, favour } = sides;
    match metric.direction {
        Direction::Lower => Interval { low: harm.low, high: favour.high },
        Direction::Higher => Interval { low: favour.low, high: harm.high },
    }
}

/// Returns a summary with so many more values, all of them this one.
pub fn with_more(summary: Summary, count: u64, value: f64) -> Summary {
    if count == 0 {
        return summary;
    }
    let more = count as f64;
    let n = summary.n + more;
    let off = value - summary.mean;
    Summary {
        n,
        mean: summary.mean + off * more / n,
        m2: summary.m2 + off * off * summary.n * more / n,
    }
}

#[cfg(test)]
mod tests {
    use super::with_more;
    use serinus_stats::moments::Summary;

    #[test]
    fn more_of_one_value_is_a_summary_of_all() {
        let more = with_more(Summary::of(&[0.1, 0.4, 0.2]), 2, 1.0);
        let all = Summary::of(&[0.1, 0.4, 0.2, 1.0, 1.0]);
        assert!((more.mean - all.mean).abs() < 1e-12 && (more.m2 - all.m2).abs() < 1e-12);
    }
}
