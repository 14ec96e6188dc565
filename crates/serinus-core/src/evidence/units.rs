//! What the split of traffic is checked on: cases, and a sample of the units where units come again.
//!
//! Requests of one unit always go the same way. Where units come again, counting cases as if each was drawn alone would find a
//! wrong split where there is none, so a unit counts once. Its facts must then be remembered, which a lane does for a sample:
//! the units with the smallest hashes. When the sample is full its bound on the hash is halved and units above it are
//! forgotten. The sample is a function of the units alone, not of their order or of the lane that saw them, and it goes on to
//! take in new units however late they come.
//!
//! Where units come once, each case is counted and nothing is remembered.

use std::collections::BTreeMap;

use crate::domain::ids::Version;

/// How many units one lane remembers in one stratum.
const UNITS_MAX: usize = 1024;
/// Into how many buckets cases are thrown by their unit's hash, to see whether few units bring many of them.
pub const BUCKETS: usize = 256;
/// Up to how much more the buckets may spread than those of units that come once. Their spread is known to 9 % at one standard
/// deviation, so that units that come once stay below this.
const DISPERSION_MAX: f64 = 1.5;

/// Cases and units seen by this lane in one stratum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// How many cases of each arm came how far, each taken as a unit of its own.
    pub cases: BTreeMap<Version, UnitCounts>,
    /// Cases that have a unit, by bucket of its hash; empty where no case has one.
    pub buckets: Vec<u64>,
    /// How often the bound on the hash was halved.
    pub level: u32,
    /// The units remembered, by hash: all that lie below the bound.
    pub seen: BTreeMap<u64, Seen>,
}

/// One unit that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, in any combination")]
pub struct Seen {
    /// The arm that it was first seen in.
    pub arm: Version,
    /// How many more cases of it came.
    pub repeats: u64,
    /// Whether its arm has answered a case of it.
    pub is_answered: bool,
    /// Whether an answered case of it had a label at maturity.
    pub is_labelled: bool,
    /// Whether a case of it is mature.
    pub is_mature: bool,
    /// Whether its first mature case had a label by a quarter of the maturity, by half of it, and at it.
    pub labelled_by: [bool; 3],
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
    /// Takes in a case, and remembers its unit; one without a unit is a unit of its own.
    pub fn assign(&mut self, unit: Option<u64>, arm: &Version, is_answered: bool) {
        self.count(unit, arm, is_answered);
        if let Some(hash) = unit {
            self.remember(hash, arm, is_answered);
        }
    }

    /// Takes in a case whose unit is for another lane to remember.
    pub fn count(&mut self, unit: Option<u64>, arm: &Version, is_answered: bool) {
        let counts = self.cases.entry(arm.clone()).or_default();
        counts.assigned += 1;
        counts.answered += u64::from(is_answered);
        if let Some(hash) = unit {
            self.buckets.resize(BUCKETS, 0);
            self.buckets[bucket(hash)] += 1;
        }
    }

    fn remember(&mut self, hash: u64, arm: &Version, is_answered: bool) {
        if !self.is_below_bound(hash) {
            return;
        }
        if let Some(seen) = self.seen.get_mut(&hash) {
            seen.repeats += 1;
            if seen.arm == *arm {
                seen.is_answered |= is_answered;
            } else {
                seen.is_mixed = true;
            }
            return;
        }
        let seen = Seen {
            arm: arm.clone(),
            repeats: 0,
            is_answered,
            is_labelled: false,
            is_mature: false,
            labelled_by: [false; 3],
            is_mixed: false,
        };
        self.seen.insert(hash, seen);
        while self.seen.len() > UNITS_MAX {
            self.raise(self.level + 1);
        }
    }

    /// Takes in that an answered case of a unit has a label at maturity.
    pub fn label(&mut self, unit: Option<u64>, arm: &Version) {
        self.cases.entry(arm.clone()).or_default().labelled += 1;
        if let Some(seen) = unit.and_then(|hash| self.seen.get_mut(&hash)) {
            seen.is_labelled |= seen.arm == *arm;
        }
    }

    /// Takes in a mature case of a unit, and at which ages it had its label; of each unit only the first counts.
    pub fn mature(&mut self, unit: Option<u64>, arm: &Version, labelled_by: [bool; 3]) {
        let counts = self.cases.entry(arm.clone()).or_default();
        counts.mature += 1;
        for (count, is_labelled) in counts.labelled_by.iter_mut().zip(labelled_by) {
            *count += u64::from(is_labelled);
        }
        let seen = unit.and_then(|hash| self.seen.get_mut(&hash));
        if let Some(seen) = seen.filter(|seen| seen.arm == *arm && !seen.is_mature) {
            seen.is_mature = true;
            seen.labelled_by = labelled_by;
        }
    }

    /// Returns whether units come again, so that their cases are not drawn one by one.
    pub fn is_sticky(&self) -> bool {
        let repeats: u64 = self.seen.values().map(|seen| seen.repeats).sum();
        repeats > self.seen.len() as u64 / 100 || self.dispersion() > DISPERSION_MAX
    }

    /// Returns by how much the number of cases in an arm varies more than if every case was drawn alone.
    ///
    /// `sum m^2 / sum m` over units of `m` cases: of the units remembered, and of all units by the spread of their buckets,
    /// which shows a unit that brings a share of the traffic even where it is not remembered.
    pub fn dispersion(&self) -> f64 {
        let cases = |seen: &Seen| (seen.repeats + 1) as f64;
        let sum: f64 = self.seen.values().map(cases).sum();
        let squares: f64 = self.seen.values().map(|seen| cases(seen).powi(2)).sum();
        let remembered = if sum > 0.0 { squares / sum } else { 1.0 };
        let total: f64 = self.buckets.iter().map(|count| *count as f64).sum();
        let mean = total / BUCKETS as f64;
        let spread: f64 = self.buckets.iter().map(|count| (*count as f64 - mean).powi(2)).sum();
        let of_all = if total > 0.0 { spread / (total - mean) } else { 1.0 };
        remembered.max(of_all).max(1.0)
    }

    /// Returns what the split is checked on.
    pub fn basis(&self) -> Basis {
        let dispersion = self.dispersion();
        // Which of the samples is looked at depends on the units that came. Each may err with its part of the level: cases with
        // half of it, the sample of level j with 1 / (2 (j + 1) (j + 2)) of it, which adds up to all of it.
        if self.buckets.is_empty() {
            return Basis::Cases { dispersion: 1.0, toll: 0.0 };
        }
        if dispersion <= DISPERSION_MAX {
            return Basis::Cases { dispersion, toll: 2.0_f64.ln() };
        }
        let level = f64::from(self.level);
        Basis::Sample { toll: (2.0 * (level + 1.0) * (level + 2.0)).ln() }
    }

    /// Returns how many units were seen in more than one arm.
    pub fn mixed(&self) -> u64 {
        self.seen.values().map(|seen| u64::from(seen.is_mixed)).sum()
    }

    /// Returns how far the cases of an arm came.
    pub fn cases_of(&self, version: &Version) -> UnitCounts {
        self.cases.get(version).copied().unwrap_or_default()
    }

    /// Returns how far the units of an arm came that are remembered.
    pub fn units_of(&self, version: &Version) -> UnitCounts {
        let mut counts = UnitCounts::default();
        for seen in self.seen.values().filter(|seen| seen.arm == *version) {
            counts.assigned += 1;
            counts.answered += u64::from(seen.is_answered);
            counts.labelled += u64::from(seen.is_labelled);
            counts.mature += u64::from(seen.is_mature);
            for (count, is_labelled) in counts.labelled_by.iter_mut().zip(seen.labelled_by) {
                *count += u64::from(seen.is_mature && is_labelled);
            }
        }
        counts
    }

    /// Adds another lane's, which remembers other units: the lower of the two bounds holds for both.
    pub fn merge(&mut self, other: &Self) {
        for (version, theirs) in &other.cases {
            self.cases.entry(version.clone()).or_default().merge(*theirs);
        }
        if !other.buckets.is_empty() {
            self.buckets.resize(BUCKETS, 0);
            for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
                *ours += theirs;
            }
        }
        self.raise(self.level.max(other.level));
        for (hash, seen) in &other.seen {
            if self.is_below_bound(*hash) {
                self.seen.insert(*hash, seen.clone());
            }
        }
    }

    fn is_below_bound(&self, hash: u64) -> bool {
        hash.leading_zeros() >= self.level
    }

    /// Halves the bound until it is that of a level, and forgets the units above it.
    fn raise(&mut self, level: u32) {
        self.level = level;
        self.seen.retain(|hash, _| hash.leading_zeros() >= level);
    }
}

/// What the split of a stratum is checked on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis {
    /// All cases: units come once, nearly.
    Cases {
        /// By how much the counts vary more than if every case was drawn alone.
        dispersion: f64,
        /// What the choice among samples takes off the logarithm of the evidence.
        toll: f64,
    },
    /// The units remembered.
    Sample {
        /// What the choice among samples takes off the logarithm of the evidence.
        toll: f64,
    },
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

/// Returns the bucket of a hash, by bits that neither the bound nor the choice of a lane looks at.
fn bucket(hash: u64) -> usize {
    usize::from(hash.to_be_bytes()[4])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
    use xxhash_rust::xxh3::xxh3_64;

    use super::{BUCKETS, Basis, UNITS_MAX, UnitCounts, Units};
    use crate::domain::ids::Version;

    fn counts(assigned: u64, answered: u64, labelled: u64) -> UnitCounts {
        UnitCounts { assigned, answered, labelled, ..UnitCounts::default() }
    }

    fn hash(unit: u64) -> u64 {
        xxh3_64(&unit.to_le_bytes())
    }

    #[test]
    fn a_unit_counts_once_at_each_point_and_each_of_its_cases_as_a_case() {
        let v1 = Version::new("v1");
        let mut units = Units::default();
        units.assign(Some(7), &v1, false);
        assert_eq!(units.units_of(&v1), counts(1, 0, 0));
        units.assign(Some(7), &v1, true);
        units.assign(Some(7), &v1, true);
        units.label(Some(7), &v1);
        units.label(Some(7), &v1);
        assert_eq!(units.units_of(&v1), counts(1, 1, 1));
        units.count(Some(8), &v1, true);
        units.label(Some(8), &v1);
        assert_eq!(units.units_of(&v1), counts(1, 1, 1), "unit 8 is for another lane");
        assert_eq!(units.cases_of(&v1), counts(4, 3, 3));
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
        assert_eq!((units.units_of(&v1), units.units_of(&v2)), (counts(1, 1, 0), counts(0, 0, 0)));
    }

    #[test]
    fn cases_without_a_unit_are_units_of_their_own() {
        let v1 = Version::new("v1");
        let mut units = Units::default();
        units.assign(None, &v1, true);
        units.assign(None, &v1, false);
        units.label(None, &v1);
        assert_eq!(units.cases_of(&v1), counts(2, 1, 1));
        assert!(units.seen.is_empty() && units.buckets.is_empty());
        assert_eq!(units.basis(), Basis::Cases { dispersion: 1.0, toll: 0.0 });
    }

    #[test]
    fn the_first_mature_case_of_a_remembered_unit_says_how_its_labels_come() {
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
        assert_eq!((units.units_of(&v1).mature, units.units_of(&v1).labelled_by), (1, [0, 1, 1]));
        assert_eq!((units.cases_of(&v1).mature, units.cases_of(&v1).labelled_by), (4, [2, 3, 4]));
    }

    #[test]
    fn units_that_come_once_are_all_counted_and_few_remembered() {
        let v1 = Version::new("v1");
        let mut units = Units::default();
        for unit in 0..50_000 {
            units.assign(Some(hash(unit)), &v1, true);
        }
        assert_eq!(units.cases_of(&v1), counts(50_000, 50_000, 0));
        assert!(units.seen.len() <= UNITS_MAX && units.seen.len() > UNITS_MAX / 3);
        assert!(!units.is_sticky(), "{}", units.dispersion());
        assert!(matches!(units.basis(), Basis::Cases { dispersion, .. } if dispersion < 1.3));
    }

    #[test]
    fn late_units_are_remembered_like_early_ones() {
        let (early, late) = (Version::new("v1"), Version::new("v2"));
        let mut units = Units::default();
        for round in 0..3 {
            for unit in 0..20_000_u64 {
                let arm = if unit < 10_000 { &early } else { &late };
                units.assign(Some(hash(unit)), arm, round > 0);
            }
        }
        assert!(units.is_sticky());
        assert!(matches!(units.basis(), Basis::Sample { .. }));
        let (early, late) = (units.units_of(&early).assigned, units.units_of(&late).assigned);
        assert!(early.abs_diff(late) < 120 && early + late > 340, "{early} {late}");
    }

    #[test]
    fn one_unit_that_brings_a_share_of_the_traffic_is_seen_though_it_is_not_remembered() {
        let v1 = Version::new("v1");
        let mut units = Units::default();
        for unit in 0..20_000 {
            units.assign(Some(hash(unit)), &v1, true);
        }
        let heavy =
            (20_000..1_000_000).map(hash).find(|hash| hash.leading_zeros() == 0).expect("half are");
        for _ in 0..600 {
            units.assign(Some(heavy), &v1, true);
        }
        assert!(!units.seen.contains_key(&heavy));
        assert!(units.is_sticky(), "{}", units.dispersion());
    }

    /// Cases of a few thousand units, each with its lane, in a random order.
    fn cases() -> impl Strategy<Value = Vec<(u64, bool, usize)>> {
        let case = (0..4_000_u64, any::<bool>(), 0..3_usize);
        prop::collection::vec(case, 1..6_000).prop_flat_map(|cases| Just(cases).prop_shuffle())
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

        #[test]
        fn lanes_merged_in_any_order_remember_what_one_lane_with_their_bound_would(cases in cases()) {
            let arm = |unit: u64| Version::new(if hash(unit ^ 0xff).is_multiple_of(2) { "v1" } else { "v2" });
            let mut lanes = vec![Units::default(); 3];
            let mut naive: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
            for (unit, is_answered, lane) in &cases {
                let key = hash(*unit);
                let home = usize::try_from(key % 3).expect("below 3");
                if home == *lane {
                    lanes[*lane].assign(Some(key), &arm(*unit), *is_answered);
                    let known = naive.entry(key).or_insert((0, false));
                    *known = (known.0 + 1, known.1 || *is_answered);
                } else {
                    lanes[*lane].count(Some(key), &arm(*unit), *is_answered);
                }
            }
            let merged = |order: [usize; 3]| {
                let mut merged = Units::default();
                for lane in order {
                    merged.merge(&lanes[lane]);
                }
                merged
            };
            let first = merged([0, 1, 2]);
            prop_assert_eq!(&first, &merged([2, 0, 1]));
            let mut paired = lanes[1].clone();
            paired.merge(&lanes[2]);
            let mut nested = lanes[0].clone();
            nested.merge(&paired);
            prop_assert_eq!(&first, &nested);
            // All that lies below the bound, and nothing else.
            let below: BTreeMap<u64, (u64, bool)> = naive
                .into_iter()
                .filter(|(key, _)| key.leading_zeros() >= first.level)
                .collect();
            let remembered: BTreeMap<u64, (u64, bool)> = first
                .seen
                .iter()
                .map(|(key, seen)| (*key, (seen.repeats + 1, seen.is_answered)))
                .collect();
            prop_assert_eq!(remembered, below);
            prop_assert!(lanes.iter().all(|lane| lane.seen.len() <= UNITS_MAX));
            let counted: u64 = first.cases.values().map(|counts| counts.assigned).sum();
            prop_assert_eq!(counted, cases.len() as u64);
            prop_assert_eq!(first.buckets.iter().sum::<u64>(), cases.len() as u64);
            prop_assert_eq!(first.buckets.len(), BUCKETS);
        }
    }
}
