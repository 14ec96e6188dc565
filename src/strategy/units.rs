//! The units that the split of traffic is checked on: which arm each was first seen in, and how far it came.

use std::collections::BTreeMap;

use crate::domain::ids::Version;

/// How many units one lane looks at in one stratum.
const UNITS_MAX: usize = 1024;

/// Units seen by this lane in one stratum.
///
/// Requests of one unit always go the same way, so counting them as if they were drawn one by one would find a wrong split
/// where there is none. Each unit is looked at by one partition only, and only so many by each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// The units counted, by hash; empty where every case is a unit of its own.
    pub seen: BTreeMap<u64, Seen>,
    /// How many units of each arm came how far.
    pub counts: BTreeMap<Version, UnitCounts>,
    /// How many more cases of the units looked at came.
    pub repeats: u64,
}

/// One unit that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, in any combination")]
pub struct Seen {
    /// The arm that it was first seen in.
    pub arm: Version,
    /// Whether its arm has answered a case of it.
    pub is_answered: bool,
    /// Whether an answered case of it had a label at maturity.
    pub is_labelled: bool,
    /// Whether a case of it is mature.
    pub is_mature: bool,
    /// Whether it was seen in another arm since, which must not happen within a stratum.
    pub is_mixed: bool,
}

/// How many units of one arm came how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitCounts {
    /// The arm was chosen for them.
    pub assigned: u64,
    /// And answered at least one case.
    pub answered: u64,
    /// And at least one answered case had a label at maturity.
    pub labelled: u64,
    /// They have a mature case.
    pub mature: u64,
    /// And the first of these had a label by a quarter of the maturity, by half of it, and at it.
    pub labelled_by: [u64; 3],
}

impl Units {
    /// Takes in a case of a unit; one without a unit is a unit of its own.
    pub fn assign(&mut self, unit: Option<u64>, arm: &Version, is_answered: bool) {
        let Some(hash) = unit else {
            let counts = self.counts.entry(arm.clone()).or_default();
            counts.assigned += 1;
            counts.answered += u64::from(is_answered);
            return;
        };
        if let Some(seen) = self.seen.get_mut(&hash) {
            self.repeats += 1;
            if seen.arm != *arm {
                seen.is_mixed = true;
            } else if is_answered && !seen.is_answered {
                seen.is_answered = true;
                self.counts.entry(arm.clone()).or_default().answered += 1;
            }
            return;
        }
        if self.seen.len() >= UNITS_MAX {
            return;
        }
        let seen = Seen {
            arm: arm.clone(),
            is_answered,
            is_labelled: false,
            is_mature: false,
            is_mixed: false,
        };
        self.seen.insert(hash, seen);
        let counts = self.counts.entry(arm.clone()).or_default();
        counts.assigned += 1;
        counts.answered += u64::from(is_answered);
    }

    /// Takes in that an answered case of a unit has a label at maturity.
    pub fn label(&mut self, unit: Option<u64>, arm: &Version) {
        if let Some(hash) = unit {
            let Some(seen) = self.seen.get_mut(&hash).filter(|it| it.arm == *arm) else { return };
            if std::mem::replace(&mut seen.is_labelled, true) {
                return;
            }
        }
        self.counts.entry(arm.clone()).or_default().labelled += 1;
    }

    /// Takes in a mature case of a unit, and at which ages it had its label; of each unit only the first counts.
    pub fn mature(&mut self, unit: Option<u64>, arm: &Version, labelled_by: [bool; 3]) {
        if let Some(hash) = unit {
            let Some(seen) = self.seen.get_mut(&hash).filter(|it| it.arm == *arm) else { return };
            if std::mem::replace(&mut seen.is_mature, true) {
                return;
            }
        }
        let counts = self.counts.entry(arm.clone()).or_default();
        counts.mature += 1;
        for (count, is_labelled) in counts.labelled_by.iter_mut().zip(labelled_by) {
            *count += u64::from(is_labelled);
        }
    }

    /// Returns whether units come again, so that their cases are not drawn one by one.
    pub fn is_sticky(&self) -> bool {
        self.repeats > self.seen.len() as u64 / 100
    }

    /// Returns how many units were seen in more than one arm.
    pub fn mixed(&self) -> u64 {
        self.seen.values().map(|it| u64::from(it.is_mixed)).sum()
    }

    /// Returns how far the units of an arm came.
    pub fn of(&self, version: &Version) -> UnitCounts {
        self.counts.get(version).copied().unwrap_or_default()
    }

    /// Adds another lane's, whose units are others.
    pub fn merge(&mut self, other: &Self) {
        self.seen.extend(other.seen.iter().map(|(hash, it)| (*hash, it.clone())));
        for (version, theirs) in &other.counts {
            self.counts.entry(version.clone()).or_default().merge(*theirs);
        }
        self.repeats += other.repeats;
    }
}

impl UnitCounts {
    fn merge(&mut self, other: Self) {
        self.assigned += other.assigned;
        self.answered += other.answered;
        self.labelled += other.labelled;
        self.mature += other.mature;
        for (ours, theirs) in self.labelled_by.iter_mut().zip(other.labelled_by) {
            *ours += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{UNITS_MAX, UnitCounts, Units};
    use crate::domain::ids::Version;

    fn counts(assigned: u64, answered: u64, labelled: u64) -> UnitCounts {
        UnitCounts { assigned, answered, labelled, ..UnitCounts::default() }
    }

    #[test]
    fn a_unit_counts_once_at_each_point() {
        let v1 = Version::new("v1");
        let mut units = Units::default();
        units.assign(Some(7), &v1, false);
        assert_eq!(units.of(&v1), counts(1, 0, 0));
        units.assign(Some(7), &v1, true);
        units.assign(Some(7), &v1, true);
        units.label(Some(7), &v1);
        units.label(Some(7), &v1);
        assert_eq!(units.of(&v1), counts(1, 1, 1));
        units.label(Some(8), &v1);
        assert_eq!(units.of(&v1), counts(1, 1, 1), "unit 8 is not looked at");
        assert_eq!(units.mixed(), 0);
    }

    #[test]
    fn a_unit_in_two_arms_is_mixed_and_stays_where_it_was_first_seen() {
        let (v1, v2) = (Version::new("v1"), Version::new("v2"));
        let mut units = Units::default();
        units.assign(Some(7), &v1, true);
        units.assign(Some(7), &v2, true);
        units.assign(Some(7), &v2, true);
        units.label(Some(7), &v2);
        assert_eq!(units.mixed(), 1);
        assert_eq!((units.of(&v1), units.of(&v2)), (counts(1, 1, 0), counts(0, 0, 0)));
    }

    #[test]
    fn cases_without_a_unit_are_units_of_their_own() {
        let v1 = Version::new("v1");
        let mut units = Units::default();
        units.assign(None, &v1, true);
        units.assign(None, &v1, false);
        units.label(None, &v1);
        assert_eq!(units.of(&v1), counts(2, 1, 1));
        assert!(units.seen.is_empty());
    }

    #[test]
    fn of_a_unit_that_comes_again_the_first_mature_case_tells_how_labels_come() {
        let v1 = Version::new("v1");
        let mut units = Units::default();
        units.assign(Some(7), &v1, true);
        assert!(!units.is_sticky());
        units.assign(Some(7), &v1, true);
        assert!(units.is_sticky());
        units.mature(Some(7), &v1, [false, true, true]);
        units.mature(Some(7), &v1, [true, true, true]);
        units.mature(Some(8), &v1, [true, true, true]);
        units.mature(None, &v1, [false, false, true]);
        assert_eq!((units.of(&v1).mature, units.of(&v1).labelled_by), (2, [0, 1, 2]));
    }

    #[test]
    fn only_so_many_units_are_kept() {
        let v1 = Version::new("v1");
        let mut units = Units::default();
        for hash in 0..5000 {
            units.assign(Some(hash), &v1, true);
            units.label(Some(hash), &v1);
        }
        let most = u64::try_from(UNITS_MAX).expect("a few");
        assert_eq!(units.of(&v1), counts(most, most, most));
        assert_eq!(units.seen.len(), UNITS_MAX);
    }
}
