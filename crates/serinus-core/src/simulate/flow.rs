//! One tick of traffic: the number of requests per version, and the sums of drawn values.

use rand::Rng;
use rand_distr::{Binomial, Distribution};

use crate::domain::ids::Version;
use crate::domain::routing::Routing;
use crate::domain::time::Timestamp;
use crate::evidence::design::{Design, Part, Stratum};
use crate::evidence::sums::{Evidence, Tally};
use crate::plan::rollout::RolloutPlan;
use serinus_stats::moments::Moments;

/// A tick of a world's traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick<'a> {
    pub(crate) plan: &'a RolloutPlan,
    pub(crate) design: &'a Design,
    pub(crate) routing: &'a Routing,
    pub(crate) stratum: Stratum,
    /// The start, exclusive.
    pub(crate) from: Timestamp,
    /// The end, inclusive.
    pub(crate) to: Timestamp,
    pub(crate) requests: u64,
    /// The factor on the stable version's rates.
    pub(crate) factor: f64,
}

impl Tick<'_> {
    /// Returns the stable version, which candidates are compared with.
    pub(crate) fn stable(&self) -> &Version {
        &self.routing.stable
    }

    /// Counts `n` cases of a version as answered.
    pub(crate) fn expose<'e>(
        &self,
        sums: &'e mut Evidence,
        version: &Version,
        part: Part,
        n: u64,
    ) -> &'e mut Tally {
        let tally = sums.arms.entry((self.stratum, version.clone(), part)).or_default();
        tally.exposures += n;
        tally.answered += n;
        if n > 0 {
            tally.first_at = tally.first_at.min(Timestamp(self.from.0 + 1));
            tally.last_at = tally.last_at.max(self.to);
        }
        tally
    }
}

/// Draws from a binomial distribution.
pub(crate) fn binomial(rng: &mut impl Rng, n: u64, p: f64) -> u64 {
    match Binomial::new(n, p.clamp(0.0, 1.0)) {
        Ok(law) => law.sample(rng),
        Err(_) => 0,
    }
}

/// Returns the sums of `n` values of which `plus` are one, `minus` are minus one, and the rest zero.
pub(crate) fn counted(n: u64, plus: u64, minus: u64) -> Moments {
    const ONE: i128 = 1_000_000;
    Moments {
        n,
        sum: (i128::from(plus) - i128::from(minus)) * ONE,
        squares_high: 0,
        squares_low: i128::from(plus + minus) * ONE * ONE,
    }
}

/// Returns the number of ones among values that are all zero or one.
pub(crate) fn events(moments: &Moments) -> u64 {
    u64::try_from(moments.sum / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::counted;
    use serinus_stats::moments::Moments;

    #[test]
    fn counts_are_the_sums_of_their_values() {
        let mut one_by_one = Moments::default();
        for value in [1.0, -1.0, 0.0, 1.0, 0.0] {
            one_by_one.add(value);
        }
        assert_eq!(counted(5, 2, 1), one_by_one);
    }
}
