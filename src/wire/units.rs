//! What the split of traffic is checked on, as it travels in a partial.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::malformed::Malformed;
use crate::wire::partial_parts::{SparseBins, dense, pair, sparse, version};
use serinus_core::domain::ids::Version;
use serinus_core::evidence::design::Stratum;
use serinus_core::evidence::units::{BUCKETS, Seen, UnitCounts, Units};

/// What the split of traffic is checked on in one stratum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnitsRecord {
    /// Stage and number of candidates taken out.
    pub stratum: (u32, u32),
    /// How many cases of each arm were assigned, answered, labelled, mature, and labelled by a quarter, by half, at maturity.
    #[serde(default)]
    pub cases: Vec<(String, [u64; 7])>,
    /// Cases that have a unit, by bucket of its hash: only buckets that are not empty.
    #[serde(default)]
    pub buckets: SparseBins,
    /// How often the bound on the hash of a unit that is remembered was halved.
    #[serde(default)]
    pub level: u32,
    /// The arms of the units that are remembered.
    pub arms: Vec<String>,
    /// Each unit: its hash in hexadecimal, its arm's place in `arms`, and what is known: 1 answered, 2 labelled, 4 mature, 8 mixed,
    /// and of its first mature case 16 labelled by a quarter of the maturity, 32 by half of it, 64 at it.
    pub seen: Vec<(String, u32, u8)>,
    /// How many more cases came of each unit of which more came.
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
            .map(|(hash, arm, known)| {
                let hash = hash_of(hash)?;
                let arm = arms
                    .get(*arm as usize)
                    .ok_or_else(|| Malformed::new("partial", format!("there is no arm {arm}")))?;
                let seen = Seen {
                    arm: arm.clone(),
                    repeats: again.get(&hash).copied().unwrap_or(0),
                    is_answered: known & ANSWERED != 0,
                    is_labelled: known & LABELLED != 0,
                    is_mature: known & MATURE != 0,
                    labelled_by: LABELLED_BY.map(|bit| known & bit != 0),
                    is_mixed: known & MIXED != 0,
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
    let mut place = |version: &Version| {
        let known = arms.iter().position(|a| a == version.as_str());
        let index = known.unwrap_or_else(|| {
            arms.push(version.to_string());
            arms.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    };
    let mark = |is: bool, bit: u8| if is { bit } else { 0 };
    let seen = units
        .seen
        .iter()
        .map(|(hash, s)| {
            let [quarter, half, full] = s.labelled_by;
            let [by_quarter, by_half, by_full] = LABELLED_BY;
            let known = mark(s.is_answered, ANSWERED)
                | mark(s.is_labelled, LABELLED)
                | mark(s.is_mature, MATURE)
                | mark(s.is_mixed, MIXED)
                | mark(quarter, by_quarter)
                | mark(half, by_half)
                | mark(full, by_full);
            (format!("{hash:x}"), place(&s.arm), known)
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
