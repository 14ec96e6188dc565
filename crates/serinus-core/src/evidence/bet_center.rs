//! The centre of split bets, frozen again inside a stage from all cases scored before: at 100, 1,000, 10,000 of them.
//!
//! Bets on a bounded metric are planned again with it, for the observed variance.
//!
//! A split bet is valid for any centre that was fixed before the case. One far from the mean makes every case lean the same way, so
//! that labels missing more often in one arm drive the bet; one at the mean does not. Each lane freezes for itself, in the order in
//! which its cases are scored.

use crate::domain::ids::CaseId;
use crate::domain::time::Timestamp;
use serinus_stats::moments::Moments;

/// After how many scored cases of the whole rollout a centre is first frozen again.
const FIRST: u64 = 100;
/// A lane does not freeze before it has scored so many itself.
const FIRST_MIN: u64 = 10;
/// By how much the next time is later than the last.
const STEP: u64 = 10;
/// One in the fixed point of a [`Centre`].
const ONE: f64 = 1e6;

/// The centre of a binary metric's bets in millionths, so that equal ones are equal in every lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Centre(pub u32);

/// Where a case stands in the order that centres are frozen in: its event time, then its place.
pub type Order = (Timestamp, CaseId);

/// The centres of one metric in one stratum of one lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Centres {
    /// The values of all cases scored so far, of whichever arm.
    pub seen: Moments,
    /// The last of these cases in order.
    pub newest: Order,
    /// What was frozen, in order.
    pub frozen: Vec<Frozen>,
}

/// What was frozen once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frozen {
    /// The last case before it: those that follow are bet on with it.
    pub after: Order,
    /// Their centre.
    pub centre: f64,
    /// The variance around it, once enough was seen to tell.
    pub variance: Option<f64>,
}

impl Centre {
    /// Takes a rate to the nearest millionth.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to [0, 1] before; what is not a number becomes 0"
    )]
    pub fn of(rate: f64) -> Self {
        Self((rate.clamp(0.0, 1.0) * ONE).round() as u32)
    }

    /// Returns the rate.
    pub fn rate(self) -> f64 {
        f64::from(self.0) / ONE
    }
}

impl Default for Centres {
    fn default() -> Self {
        let before_all = (Timestamp::MIN, CaseId { partition: i32::MIN, offset: i64::MIN });
        Self { seen: Moments::default(), newest: before_all, frozen: Vec::new() }
    }
}

impl Centres {
    /// Freezes the mean of what was seen, if enough was seen since the last time; `partitions` lanes share the traffic.
    pub fn freeze_if_due(&mut self, partitions: i32) {
        if self.seen.n >= self.due(partitions) {
            let summary = self.seen.summary();
            let variance = Some(coarse(summary.variance()));
            self.frozen.push(Frozen {
                after: self.newest,
                centre: coarse(summary.mean),
                variance: variance.filter(|v| self.seen.n >= FIRST && *v > 0.0),
            });
        }
    }

    /// Returns how many cases can be scored before the next centre is frozen.
    pub fn room(&self, partitions: i32) -> u64 {
        self.due(partitions).saturating_sub(self.seen.n)
    }

    /// Returns after how many scored cases the next centre is frozen.
    fn due(&self, partitions: i32) -> u64 {
        let lanes = u64::try_from(partitions).unwrap_or(1).max(1);
        let times = u32::try_from(self.frozen.len()).unwrap_or(u32::MAX);
        let first = (FIRST / lanes).max(FIRST_MIN);
        STEP.checked_pow(times).and_then(|t| t.checked_mul(first)).unwrap_or(u64::MAX)
    }

    /// Adds a scored case.
    pub fn see(&mut self, order: Order, value: f64) {
        self.seen.add(value);
        self.newest = self.newest.max(order);
    }

    /// Returns the center for a case, the same at every call; `None` if the case precedes all frozen centers.
    pub fn of(&self, order: Order) -> Option<Frozen> {
        self.frozen.iter().rev().find(|f| f.after < order).copied()
    }
}

/// Rounds to two digits: a bet does not need more, and lanes then share their centres.
fn coarse(mean: f64) -> f64 {
    format!("{mean:.1e}").parse().unwrap_or(mean)
}

#[cfg(test)]
mod tests {
    use super::{Centre, Centres};
    use crate::domain::ids::CaseId;
    use crate::domain::time::Timestamp;

    fn order(n: i64) -> super::Order {
        (Timestamp(n), CaseId { partition: 0, offset: n })
    }

    fn seen(count: i64, partitions: i32) -> Centres {
        let mut centres = Centres::default();
        for n in 0..count {
            centres.freeze_if_due(partitions);
            centres.see(order(n), f64::from(u8::from(n % 4 == 0)));
        }
        centres
    }

    #[test]
    fn a_centre_is_frozen_from_what_came_before_only() {
        let centres = seen(1_200, 1);
        let after: Vec<i64> = centres.frozen.iter().map(|f| f.after.0.0).collect();
        let centre = |n| centres.of(order(n)).map(|o| o.centre);
        assert_eq!(after, [99, 999]);
        assert_eq!(centre(99), None);
        assert_eq!(centre(100), Some(0.25));
        assert_eq!(centre(50_000), Some(0.25));
        let one_of_twelve = seen(1_200, 12).frozen;
        assert_eq!(one_of_twelve.len(), 3, "each lane freezes after 10, 100 and 1,000");
        let has_variance: Vec<bool> = one_of_twelve.iter().map(|o| o.variance.is_some()).collect();
        assert_eq!(
            has_variance,
            [false, true, true],
            "ten values say too little of their variance"
        );
    }

    #[test]
    fn a_case_that_comes_late_keeps_the_centre_of_its_time() {
        let mut centres = seen(100, 1);
        centres.see(order(500), 1.0);
        centres.freeze_if_due(1);
        assert_eq!(centres.of(order(300)), None, "it may have been scored before");
        assert!(centres.of(order(501)).is_some());
    }

    #[test]
    fn a_rate_goes_there_and_back() {
        for rate in [0.0, 0.001, 0.15, 0.333_333, 1.0] {
            assert!((Centre::of(rate).rate() - rate).abs() < 1e-12, "{rate}");
        }
    }
}
