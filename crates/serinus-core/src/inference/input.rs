//! The input of an interim analysis: the plan, the design, the merged evidence and the state of the rollout.

use crate::domain::ids::{StageIndex, Version};
use crate::domain::time::Timestamp;
use crate::evidence::design::{Design, Pairing, Stratum};
use crate::evidence::sums::Evidence;
use crate::inference::bet_cache::BetCache;
use crate::plan::rollout::RolloutPlan;

/// The input of one interim analysis.
#[derive(Clone, Copy, Debug)]
pub struct AnalysisInput<'a> {
    /// The rollout.
    pub plan: &'a RolloutPlan,
    /// The design of its tests.
    pub design: &'a Design,
    /// The merged evidence.
    pub evidence: &'a Evidence,
    /// The stage.
    pub stage: StageIndex,
    /// The stable version, to compare with.
    pub stable: &'a Version,
    /// The remaining candidates.
    pub live: &'a [Version],
    /// The tick.
    pub tick: Timestamp,
    /// The tick at which the stage was entered, if any was judged since.
    pub entered_at: Option<Timestamp>,
    /// The number of unread records.
    pub lag: u64,
    /// Cases that wait for their plan.
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
    /// Only what a verdict needs, without ranges, quantiles and fixed-sample tests.
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
