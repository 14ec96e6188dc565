//! Assignment is a function: arm = f(salt, unit, shares), the same on every instance and in every version of this crate.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::domain::ids::{Salt, Version};
use crate::domain::routing::{Routing, ShadowShare};

const SEPARATOR: u8 = 0x1f;

/// Returns the point of a unit on [0, 1): `(xxh3_64(salt ++ 0x1f ++ unit) >> 11) * 2^-53`.
pub fn point(salt: &[u8], unit: &[u8]) -> f64 {
    let total = salt.len() + 1 + unit.len();
    let hash = if total <= 256 {
        let mut buffer = [0_u8; 256];
        buffer[..salt.len()].copy_from_slice(salt);
        buffer[salt.len()] = SEPARATOR;
        buffer[salt.len() + 1..total].copy_from_slice(unit);
        xxh3_64(&buffer[..total])
    } else {
        let mut hasher = Xxh3::new();
        hasher.update(salt);
        hasher.update(&[SEPARATOR]);
        hasher.update(unit);
        hasher.digest()
    };
    (hash >> 11) as f64 * 2_f64.powi(-53)
}

/// The version that serves a unit, and how likely that was.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// The version.
    pub version: Version,
    /// Its share of the points.
    pub propensity: f64,
}

/// Returns the version that serves a unit under a routing.
///
/// The candidates' slices lie end to end; at share s a candidate serves the first s of its slice. Everything else is the
/// stable version's, so raising a share only moves units from the stable version to that candidate.
pub fn arm(routing: &Routing, unit: &[u8]) -> Arm {
    let point = point(routing.salt.as_str().as_bytes(), unit);
    let mut start = 0_u32;
    for slice in &routing.slices {
        let from = f64::from(start) / 1e6;
        let to = f64::from(start + slice.share.millionths()) / 1e6;
        if from <= point && point < to {
            return Arm { version: slice.version.clone(), propensity: slice.share.fraction() };
        }
        start += slice.width.millionths();
    }
    Arm { version: routing.stable.clone(), propensity: routing.stable_share().fraction() }
}

/// The version that serves a request, and the versions that get a copy of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The version whose answer may be served, and its propensity.
    pub serve: Arm,
    /// The versions whose answers are compared but never served.
    pub shadows: Vec<Version>,
}

/// Routes a unit: the only function that does, for every strategy.
pub fn route(routing: &Routing, unit: &[u8]) -> Route {
    let serve = arm(routing, unit);
    let shadows = shadows(routing, unit, &serve.version);
    Route { serve, shadows }
}

/// Returns the versions that get a copy of a unit's request when `arm` serves it.
pub fn shadows(routing: &Routing, unit: &[u8], arm: &Version) -> Vec<Version> {
    let is_copied =
        |shadow: &&ShadowShare| shadow.version != *arm && is_copied(&routing.salt, shadow, unit);
    routing.shadows.iter().filter(is_copied).map(|shadow| shadow.version.clone()).collect()
}

/// Returns whether a shadow gets a copy for a unit: drawn like an arm, with `salt ++ "/shadow/" ++ version`.
pub fn is_copied(salt: &Salt, shadow: &ShadowShare, unit: &[u8]) -> bool {
    if shadow.share == crate::domain::share::Share::ALL {
        return true;
    }
    let salt = format!("{salt}/shadow/{}", shadow.version);
    point(salt.as_bytes(), unit) < shadow.share.fraction()
}
