//! The two questions that every strategy answers: who serves a request, and what should become of a stage.

use crate::decision::ab::Ab;
use crate::decision::canary::Canary;
use crate::decision::shadow::Shadow;
use crate::domain::assignment::{self, Arm};
use crate::domain::ids::Version;
use crate::domain::routing::Routing;
use crate::inference::verdict::{Look, Verdict};
use crate::plan::rollout::{RolloutPlan, StrategyKind};

/// Who serves a request, and who gets a silent copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The version whose answer may be served, and how likely it was chosen.
    pub serve: Arm,
    /// The versions whose answers are never served.
    pub shadows: Vec<Version>,
}

impl Route {
    /// Returns the route of a unit under a routing, as every strategy has it: assignment is one function for all.
    pub fn of(routing: &Routing, unit: &[u8]) -> Self {
        let serve = assignment::arm(routing, unit);
        let shadows = routing
            .shadows
            .iter()
            .filter(|it| it.version != serve.version)
            .filter(|it| assignment::is_copied(&routing.salt, it, unit))
            .map(|it| it.version.clone())
            .collect();
        Self { serve, shadows }
    }
}

/// The two questions that every strategy answers.
///
/// Both are pure: the same inputs give the same answer on every instance, in every version of this crate.
pub trait Strategy: Sync {
    /// Returns who serves this unit, and who gets a silent copy.
    fn route(&self, routing: &Routing, unit: &[u8]) -> Route {
        Route::of(routing, unit)
    }

    /// Returns what should become of the stage, given all that was learned.
    fn judge(&self, look: &Look<'_>) -> Verdict;
}

/// Returns the strategy of a rollout.
// A new strategy: its file, its variant of `StrategyKind`, its arm here, its scenarios.
pub fn of(plan: &RolloutPlan) -> &'static dyn Strategy {
    match plan.strategy {
        StrategyKind::Shadow => &Shadow,
        StrategyKind::Ab => &Ab,
        StrategyKind::Canary => &Canary,
    }
}
