//! The counts of the SRM check, as part of a partial.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::malformed::Malformed;
use crate::wire::partial_parts::{SparseBins, dense, pair, sparse, version};
use serinus_core::domain::ids::Version;
use serinus_core::evidence::design::Stratum;
use serinus_core::evidence::units::{BUCKETS, Seen, UnitCounts, Units};

/// The counts of the SRM check in one stratum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitsRecord {
    /// The stage and the number of dropped candidates.
    pub stratum: (u32, u32),
    /// Cases of each arm: assigned, answered, labeled, mature, and labeled by a quarter of the maturity, by half of it, and at it.
    #[serde(default)]
    pub cases: Vec<(String, [u64; 7])>,
    /// Cases that have a unit, by the bucket of its hash. Empty buckets are left out.
    #[serde(default)]
    pub buckets: SparseBins,
    /// How often the largest hash of a remembered unit was halved.
    #[serde(default)]
    pub level: u32,
    /// The arms of the remembered units.
    pub arms: Vec<String>,
    /// Each unit: its hash in hexadecimal, the index of its arm in `arms`, and flags: 1 answered, 2 labeled, 4 mature, 8 mixed arms.
    /// Flags of its first mature case: 16 labeled by a quarter of the maturity, 32 by half of it, 64 at it.
    pub seen: Vec<(String, u32, u8)>,
    /// The number of further cases of each unit that has more than one.
    #[serde(default)]
    pub again: Vec<(String, u64)>,
}

impl UnitsRecord {
    pub(super) fn units(&self) -> Result<Units, Malformed> {
        let arms: Vec<Version> = self.arms.iter().map(|a| version(a)).collect();
        let again = self
            .again
            .iter()
            .map(|(hash, repeats)| Ok((hash_of(hash)?, *repeats)))
            .collect::<Result<BTreeMap<_, _>, Malformed>>()?;
        let seen = self
            .seen
            .iter()
            .map(|(hash, arm, flags)| {
                let hash = hash_of(hash)?;
                let arm = arms.get(*arm as usize).ok_or_else(|| {
                    Malformed::new("partial", format!("arm index {arm} is out of range"))
                })?;
                let seen = Seen {
                    arm: arm.clone(),
                    repeats: again.get(&hash).copied().unwrap_or(0),
                    is_answered: flags & ANSWERED != 0,
                    is_labelled: flags & LABELLED != 0,
                    is_mature: flags & MATURE != 0,
                    labelled_by: LABELLED_BY.map(|bit| flags & bit != 0),
                    is_mixed: flags & MIXED != 0,
                };
                Ok((hash, seen))
            })
            .collect::<Result<_, Malformed>>()?;
        let cases = self
            .cases
            .iter()
            .map(|(c, counts)| {
                let [assigned, answered, labelled, mature, labelled_by @ ..] = *counts;
                (version(c), UnitCounts { assigned, answered, labelled, mature, labelled_by })
            })
            .collect();
        let buckets =
            if self.buckets.is_empty() { Vec::new() } else { dense(&self.buckets, BUCKETS)? };
        Ok(Units { cases, buckets, level: self.level, seen })
    }
}

const ANSWERED: u8 = 1;
const LABELLED: u8 = 2;
const MATURE: u8 = 4;
const MIXED: u8 = 8;
const LABELLED_BY: [u8; 3] = [16, 32, 64];

fn hash_of(text: &str) -> Result<u64, Malformed> {
    u64::from_str_radix(text, 16).map_err(|error| Malformed::new("partial", error.to_string()))
}

pub(super) fn units_record(stratum: Stratum, units: &Units) -> UnitsRecord {
    let mut arms: Vec<String> = Vec::new();
    let mut index_of = |version: &Version| {
        let index = arms.iter().position(|a| a == version.as_str()).unwrap_or_else(|| {
            arms.push(version.to_string());
            arms.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    };
    let flag = |is: bool, bit: u8| if is { bit } else { 0 };
    let seen = units
        .seen
        .iter()
        .map(|(hash, s)| {
            let [quarter, half, full] = s.labelled_by;
            let [by_quarter, by_half, by_full] = LABELLED_BY;
            let flags = flag(s.is_answered, ANSWERED)
                | flag(s.is_labelled, LABELLED)
                | flag(s.is_mature, MATURE)
                | flag(s.is_mixed, MIXED)
                | flag(quarter, by_quarter)
                | flag(half, by_half)
                | flag(full, by_full);
            (format!("{hash:x}"), index_of(&s.arm), flags)
        })
        .collect();
    let again = units
        .seen
        .iter()
        .filter(|(_, s)| s.repeats > 0)
        .map(|(hash, r)| (format!("{hash:x}"), r.repeats))
        .collect();
    let cases = units
        .cases
        .iter()
        .map(|(version, c)| {
            let UnitCounts { assigned, answered, labelled, mature, labelled_by } = *c;
            let [quarter, half, full] = labelled_by;
            (version.to_string(), [assigned, answered, labelled, mature, quarter, half, full])
        })
        .collect();
    let (buckets, level) = (sparse(&units.buckets), units.level);
    UnitsRecord { stratum: pair(stratum), cases, buckets, level, arms, seen, again }
}
