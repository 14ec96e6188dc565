//! What the tests of a rollout were planned with, frozen before the data they are used on.

use std::collections::BTreeMap;

use crate::domain::ids::{MetricName, Revision, StageIndex, Version};
use crate::domain::share::Share;
use crate::domain::time::Timestamp;
use crate::plan::rollout::{RolloutPlan, Stage};
use serinus_stats::sketch::Sketch;

/// What the bets of one metric assume at one stage. A wrong guess costs power, never validity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assumption {
    /// The stable version's mean, around which values are centred.
    pub centre: f64,
    /// The variance around it.
    pub variance: f64,
    /// The variance of the difference of two answers to one case.
    pub paired_variance: f64,
    /// For paired binary outcomes: the share of cases in which the two versions differ.
    pub discordance: f64,
}

/// How many answers took longer than each of the four thresholds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exceedances {
    /// Of how many answers.
    pub n: u64,
    /// Longer than the threshold.
    pub above: [u64; 4],
    /// Longer than the threshold with the margin added.
    pub above_limit: [u64; 4],
    /// How many more were asked for and did not come in time, or failed.
    pub unanswered: u64,
}

impl Exceedances {
    /// Returns how many answers there would be if all had come.
    pub fn all(&self) -> u64 {
        self.n + self.unanswered
    }
}

/// Exceedances by stratum and version, chosen and copied apart.
pub type Counted = BTreeMap<(Stratum, Version, Part), Exceedances>;

/// Latency thresholds, frozen from the stable version's own history, and the block of answers that is held against them: those
/// that came after they were frozen and before the next ones were.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// The stable version's p50, p90, p99 and p99.9, in milliseconds.
    pub latency_ms: [f64; 4],
    /// The tick at which they were frozen: only later answers count.
    pub since: Timestamp,
    /// The stage in which they were frozen.
    pub stage: StageIndex,
    /// The block.
    pub block: Block,
}

/// The answers that are held against one set of thresholds.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// All that came since the thresholds were frozen.
    Open {
        /// What had been counted until then.
        counted: Counted,
        /// The stable version's answers until then: the next thresholds rest on later ones.
        seen: Sketch,
    },
    /// Answers until the next thresholds were frozen.
    Closed(Counted),
}

impl Exceedances {
    /// Returns what was counted since an earlier count.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let left = |now: &[u64; 4], before: &[u64; 4]| {
            std::array::from_fn(|rung| now[rung].saturating_sub(before[rung]))
        };
        Self {
            n: self.n.saturating_sub(earlier.n),
            above: left(&self.above, &earlier.above),
            above_limit: left(&self.above_limit, &earlier.above_limit),
            unanswered: self.unanswered.saturating_sub(earlier.unanswered),
        }
    }
}

/// Whether a version was chosen for a case or got a copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The assignment chose it.
    Chosen,
    /// It got a silent copy.
    Copied,
}

/// Everything frozen so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Design {
    /// By stage and metric.
    pub assumptions: BTreeMap<(StageIndex, MetricName), Assumption>,
    /// By metric, for latency, in the order in which they were frozen; only the last block is open.
    pub thresholds: BTreeMap<MetricName, Vec<Thresholds>>,
    /// The candidates taken out so far, in order, each with the first revision without it.
    pub drops: Vec<(Revision, Version)>,
}

/// Cases that were assigned with the same probabilities: one stage, and one set of candidates in it.
///
/// Evidence is kept by stratum and never pooled over strata: a pooled difference is biased as soon as the base drifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stratum {
    /// The stage.
    pub stage: StageIndex,
    /// How many candidates had been taken out.
    pub drops: u32,
}

/// Names a comparison: a candidate against the stable version, in one metric, in one stratum.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContrastKey {
    /// The stratum.
    pub stratum: Stratum,
    /// The candidate.
    pub candidate: Version,
    /// The metric.
    pub metric: MetricName,
}

/// How a candidate is compared with the stable version in a stratum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pairing {
    /// Both answer the same cases.
    Paired,
    /// Each answers its own cases; the candidate this share of the cases of the two.
    Split {
        /// The candidate's part.
        rho: f64,
    },
    /// They cannot be compared.
    Apart,
}

impl Design {
    /// Returns the candidates of a plan that were not dropped, in spec order.
    pub fn live(&self, plan: &RolloutPlan) -> Vec<Version> {
        let is_dropped = |v: &&Version| self.drops.iter().any(|(_, dropped)| dropped == *v);
        plan.candidates.iter().filter(|v| !is_dropped(v)).cloned().collect()
    }

    /// Returns the stratum of a case of this stage and revision.
    pub fn stratum(&self, stage: StageIndex, revision: Revision) -> Stratum {
        let drops = self.drops.iter().filter(|(since, _)| *since <= revision).count();
        Stratum { stage, drops: u32::try_from(drops).unwrap_or(u32::MAX) }
    }

    /// Returns whether a candidate was out in a stratum.
    pub fn is_out(&self, stratum: Stratum, candidate: &Version) -> bool {
        self.drops.iter().take(stratum.drops as usize).any(|(_, u)| u == candidate)
    }

    /// Returns what a version serves in a stratum.
    pub fn share(&self, plan: &RolloutPlan, stratum: Stratum, version: &Version) -> Share {
        let Some(stage) = plan.stage(stratum.stage) else { return Share::NONE };
        let serves = |v: &Version| {
            if self.is_out(stratum, v) { Share::NONE } else { stage.share_of(v) }
        };
        if plan.candidates.contains(version) {
            return serves(version);
        }
        let taken: u32 = plan.candidates.iter().map(|c| serves(c).millionths()).sum();
        Share::from_millionths(taken.min(1_000_000)).unwrap_or(Share::ALL).rest()
    }

    /// Returns how a candidate is compared with the stable version in a stratum.
    ///
    /// A stage that copies every case of the comparison is paired; any other is split by the assignment, and copies to one
    /// side only are left out of the comparison. So no case counts twice, and each stratum's evidence multiplies.
    pub fn pairing(
        &self,
        plan: &RolloutPlan,
        stratum: Stratum,
        candidate: &Version,
        stable: &Version,
    ) -> Pairing {
        let Some(stage) = plan.stage(stratum.stage) else { return Pairing::Apart };
        if self.is_out(stratum, candidate) {
            return Pairing::Apart;
        }
        let ours = self.share(plan, stratum, candidate).fraction();
        let theirs = self.share(plan, stratum, stable).fraction();
        let copied = |version: &Version| copied(stage, version);
        if ours > 0.0 {
            if copied(candidate) == Share::ALL && copied(stable) == Share::ALL {
                return Pairing::Paired;
            }
            if theirs > 0.0 {
                return Pairing::Split { rho: ours / (ours + theirs) };
            }
            return Pairing::Apart;
        }
        if copied(candidate) > Share::NONE && theirs > 0.0 {
            return Pairing::Paired;
        }
        Pairing::Apart
    }
}

fn copied(stage: &Stage, version: &Version) -> Share {
    stage.shadows.iter().find(|(s, _)| s == version).map_or(Share::NONE, |(_, share)| *share)
}
