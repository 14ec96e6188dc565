//! What an interim analysis rests on: the plan, the design, the merged evidence and the state of the rollout.

use crate::domain::ids::{StageIndex, Version};
use crate::domain::time::Timestamp;
use crate::evidence::design::{Design, Pairing, Stratum};
use crate::evidence::sums::Evidence;
use crate::inference::bet_cache::BetCache;
use crate::plan::rollout::RolloutPlan;

/// What one interim analysis rests on.
#[derive(Clone, Copy, Debug)]
pub struct AnalysisInput<'a> {
    /// The rollout.
    pub plan: &'a RolloutPlan,
    /// What its tests are planned with.
    pub design: &'a Design,
    /// The merged evidence.
    pub evidence: &'a Evidence,
    /// The stage.
    pub stage: StageIndex,
    /// The version to compare with.
    pub stable: &'a Version,
    /// The candidates that are still in.
    pub live: &'a [Version],
    /// The tick.
    pub tick: Timestamp,
    /// The tick at which the stage was entered, if any was judged since.
    pub entered_at: Option<Timestamp>,
    /// Records not yet read.
    pub lag: u64,
    /// Cases that wait for the plan that they were routed by.
    pub unplanned: u64,
    /// Bets that were planned before.
    pub bets: &'a BetCache,
    /// How much is computed.
    pub detail: Detail,
}

/// How much of an interim analysis is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything that is published.
    Full,
    /// What a verdict rests on, without ranges, quantiles and tests of fixed size.
    Verdict,
}

impl AnalysisInput<'_> {
    /// Returns the strata with cases in which a candidate is compared with the stable version.
    pub fn compared(&self, candidate: &Version) -> Vec<(Stratum, Pairing)> {
        self.evidence
            .strata()
            .into_iter()
            .map(|s| (s, self.design.pairing(self.plan, s, candidate, self.stable)))
            .filter(|(_, pairing)| *pairing != Pairing::Apart)
            .collect()
    }
}
