//! The published evidence at one tick.

use crate::domain::ids::{ModelName, Revision, RolloutName, StageIndex};
use crate::domain::time::Timestamp;
use crate::inference::verdict::{ArmReport, Finding, Health, InterimAnalysis, Verdict, Wait};
use crate::plan::rollout::StrategyKind;

/// The evidence at a tick, and the judge's verdict.
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
    /// The deciding metrics in each watched segment.
    pub segments: Vec<Finding>,
    /// Whether the measurement can be trusted.
    pub health: Health,
    /// The verdict, in the contract's word.
    pub verdict: &'static str,
    /// The reason.
    pub reason: String,
    /// The earliest time of the next analysis, if known.
    pub eta: Option<Timestamp>,
}

impl RolloutMetrics {
    /// Returns the report of an interim analysis and its verdict.
    pub fn of(analysis: InterimAnalysis<'_>, revision: Revision, verdict: &Verdict) -> Self {
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
            rollout: analysis.plan.name.clone(),
            model: analysis.plan.model.clone(),
            strategy: analysis.plan.strategy,
            revision,
            stage: analysis.stage,
            tick: analysis.tick,
            arms: analysis.arms,
            findings: analysis.findings,
            segments: analysis.segments,
            health: analysis.health,
            verdict: verdict.word(),
            reason: verdict.reason().to_owned(),
            eta,
        }
    }
}
