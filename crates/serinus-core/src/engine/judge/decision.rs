//! A decision, with what is needed to repeat its tests when labels arrive or change afterwards.

use crate::decision::basis::Support;
use crate::domain::ids::{RolloutName, StageIndex, Version};
use crate::domain::time::Timestamp;
use crate::engine::judge::command::Written;
use crate::engine::judge::event::Phase;
use crate::evidence::design::Design;
use crate::evidence::sums::Evidence;
use crate::inference::bet_cache::BetCache;
use crate::inference::finding;
use crate::inference::input::{AnalysisInput, Detail};
use crate::plan::rollout::RolloutPlan;

/// How many decisions are kept; lanes keep the sums of as many rollouts that are over.
const DECISIONS_MAX: usize = 8;

/// A decision, and what is needed to repeat its tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The rollout.
    pub rollout: Written<RolloutPlan>,
    /// The design of its tests.
    pub design: Design,
    /// The stable version, which the candidates were compared with.
    pub stable: Version,
    /// The stage.
    pub stage: StageIndex,
    /// The decision: `Promoted`, `Aborted` or `Concluded`.
    pub phase: Phase,
    /// The tests of labels that support it.
    pub supports: Vec<Support>,
    /// Whether it was reported that newer labels contradict it.
    pub is_contested: bool,
}

impl Decision {
    /// Returns the candidates that were not dropped.
    pub fn live(&self) -> Vec<Version> {
        self.design.live(&self.rollout.plan)
    }

    /// Returns the input that analyses evidence as of the decision.
    pub fn input<'a>(
        &'a self,
        evidence: &'a Evidence,
        live: &'a [Version],
        tick: Timestamp,
        bets: &'a BetCache,
    ) -> AnalysisInput<'a> {
        AnalysisInput {
            plan: &self.rollout.plan,
            design: &self.design,
            evidence,
            stage: self.stage,
            stable: &self.stable,
            live,
            tick,
            entered_at: None,
            lag: 0,
            unplanned: 0,
            is_approved: false,
            bets,
            detail: Detail::Verdict,
        }
    }

    /// Returns the first test that the changed labels move below its threshold, with its current log e-value.
    pub fn fallen(
        &self,
        plain: &Evidence,
        amended: &Evidence,
        tick: Timestamp,
    ) -> Option<(&Support, f64)> {
        let (live, bets) = (self.live(), BetCache::default());
        let read = |evidence, support: &Support| {
            let metric = self.rollout.plan.metrics.iter().find(|m| m.name == support.metric)?;
            let input = self.input(evidence, &live, tick, &bets);
            let log_e = finding::finding(&input, metric, &support.candidate).log_e;
            // With nothing left to compare there is no evidence either way.
            Some(log_e.map_or(0.0, |l| support.question.of(l)))
        };
        self.supports.iter().find_map(|support| {
            let now = support.log_e + read(amended, support)? - read(plain, support)?;
            (now < support.bar).then_some((support, now))
        })
    }
}

/// Adds a decision in place of an earlier one of the same rollout, and drops the oldest beyond a bound.
pub fn keep(decisions: &mut Vec<Decision>, decision: Decision) {
    let name = decision.rollout.plan.name.clone();
    decisions.retain(|d| d.rollout.plan.name != name);
    decisions.push(decision);
    if decisions.len() > DECISIONS_MAX {
        decisions.remove(0);
    }
}

/// Updates a rollout's decision when it ends in `phase`: a decision that a person overruled is dropped.
pub fn settle(decisions: &mut Vec<Decision>, name: &RolloutName, phase: Phase) {
    for decision in decisions.iter_mut().filter(|d| d.rollout.plan.name == *name) {
        if (decision.phase, phase) == (Phase::Concluded, Phase::Promoted) {
            decision.phase = phase;
        }
    }
    decisions.retain(|d| d.rollout.plan.name != *name || d.phase == phase);
}
