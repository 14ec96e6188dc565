//! The evidence at one tick, as it is published.

use crate::domain::ids::{ModelName, Revision, RolloutName, StageIndex};
use crate::domain::time::Timestamp;
use crate::inference::verdict::{ArmReport, Finding, Health, InterimAnalysis, Verdict, Wait};
use crate::plan::rollout::StrategyKind;

/// What was known at a tick, and what the judge made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutMetrics {
    /// The rollout.
    pub rollout: RolloutName,
    /// The model.
    pub model: ModelName,
    /// The kind of rollout.
    pub strategy: StrategyKind,
    /// The routing revision.
    pub revision: Revision,
    /// The stage.
    pub stage: StageIndex,
    /// The tick, in event time.
    pub tick: Timestamp,
    /// The arms, the stable one first.
    pub arms: Vec<ArmReport>,
    /// Every metric of every candidate.
    pub findings: Vec<Finding>,
    /// The deciding metrics in each segment that is watched.
    pub segments: Vec<Finding>,
    /// Whether the measurement can be trusted.
    pub health: Health,
    /// The verdict, in the contract's word.
    pub verdict: &'static str,
    /// Why.
    pub reason: String,
    /// When it will be looked at again at the earliest, where that is known.
    pub eta: Option<Timestamp>,
}

impl RolloutMetrics {
    /// Writes down a look and its verdict.
    pub fn of(look: InterimAnalysis<'_>, revision: Revision, verdict: &Verdict) -> Self {
        let eta = match verdict {
            Verdict::Hold { wait: Wait::Until(at) | Wait::Proof(Some(at)), .. } => Some(*at),
            Verdict::Hold {
                wait: Wait::Data | Wait::Health | Wait::Signal | Wait::Proof(None) | Wait::Approval,
                ..
            }
            | Verdict::Advance { .. }
            | Verdict::Drop { .. }
            | Verdict::Abort { .. }
            | Verdict::Inconclusive { .. }
            | Verdict::Conclude { .. }
            | Verdict::Promote { .. } => None,
        };
        Self {
            rollout: look.plan.name.clone(),
            model: look.plan.model.clone(),
            strategy: look.plan.strategy,
            revision,
            stage: look.stage,
            tick: look.tick,
            arms: look.arms,
            findings: look.findings,
            segments: look.segments,
            health: look.health,
            verdict: verdict.word(),
            reason: verdict.reason().to_owned(),
            eta,
        }
    }
}
