//! One case as the evidence counts it: its position, how versions took part in it, and the values of their answers.

use xxhash_rust::xxh3::xxh3_64;

use crate::domain::case::Prediction;
use crate::domain::ids::{RequestId, Version};
use crate::domain::routing::Role;
use crate::evidence::bet_center::Order;
use crate::evidence::bounds::{self, Sides, Whose};
use crate::evidence::design::{Part, Stratum};
use crate::plan::metric::Metric;
use serinus_stats::cluster::Arm;

/// The position of a case in the evidence when its values are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Its stratum.
    pub stratum: Stratum,
    /// The bucket of its unit.
    pub bucket: usize,
    /// Its position in the order in which bet centers are frozen.
    pub order: Order,
    /// Whether its labels are the first or amended ones.
    pub pass: Pass,
}

/// Whether a case is added for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It is new.
    First,
    /// It was added before, with another label.
    Amended,
}

/// The value of an answer in a metric, once the truth is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Worth<T = f64> {
    /// The value.
    Value(T),
    /// Unknown: the answer is missing, late, failed or cannot be scored.
    Lost,
}

impl Worth {
    /// Returns the value that each side of a claim counts.
    pub(crate) fn sides(self, metric: &Metric, whose: Whose) -> Sides<f64> {
        match self {
            Self::Value(value) => Sides::both(value),
            Self::Lost => bounds::value(metric, whose),
        }
    }
}

/// Returns how a version took part in a case; `None` for the stable version's answer in place of a failed one.
pub(crate) fn part(case: &Prediction, version: &Version, role: Role) -> Option<Part> {
    match role {
        Role::Serve if *version == case.arm => Some(Part::Chosen),
        Role::Serve => None,
        Role::Shadow => Some(Part::Copied),
    }
}

/// Returns the weight of a case of this version in candidate minus stable; `None` for a third version.
pub(crate) fn weight(
    version: &Version,
    candidate: &Version,
    stable: &Version,
    rho: f64,
) -> Option<f64> {
    if version == candidate {
        Some(1.0 / rho)
    } else {
        (version == stable).then_some(-1.0 / (1.0 - rho))
    }
}

/// Returns the arm of a case that was answered by the candidate or by the stable version.
pub(crate) fn arm(version: &Version, candidate: &Version) -> Arm {
    if version == candidate { Arm::Candidate } else { Arm::Stable }
}

/// Returns the hash by which the sample cases are chosen.
pub(crate) fn hash(id: &RequestId) -> u64 {
    xxh3_64(id.as_str().as_bytes())
}
