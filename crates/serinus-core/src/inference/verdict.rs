//! The findings of one tick, and the verdict on the stage.

use crate::domain::ids::{MetricName, RequestId, StageIndex, Version};
use crate::domain::share::Share;
use crate::domain::time::Timestamp;
use crate::evidence::unscored::Reason;
use crate::plan::metric::{Direction, Margin, MetricKind, MetricRole};
use crate::plan::rollout::RolloutPlan;

/// A number with the range that it very likely lies in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The range's lower end; `None` if it is unbounded.
    pub low: Option<f64>,
    /// The range's upper end; `None` if it is unbounded.
    pub high: Option<f64>,
    /// How many observations it rests on.
    pub n: u64,
}

/// The evidence against three hypotheses, as logs of e-values: decide at ln(1/alpha), never before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogE {
    /// Against: the candidate is no worse.
    pub harm: f64,
    /// Against: the candidate is worse by the margin or more.
    pub non_inferior: f64,
    /// Against: the candidate is no better.
    pub superior: f64,
}

/// A two-sample test of fixed size, for the report only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Classic {
    /// Which one.
    pub test: &'static str,
    /// Its statistic.
    pub statistic: f64,
    /// Its two-sided p-value; valid only if looked at once.
    pub p: f64,
}

/// The result of one metric and candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// There is nothing to compare.
    NoData,
    /// Nothing is proved yet.
    Open,
    /// Not worse than the margin.
    NonInferior,
    /// Better.
    Superior,
    /// Worse.
    Harmful,
    /// This metric never decides.
    Watched,
    /// Worse in one segment, which decides nothing but should be looked at.
    Alerting,
}

impl Proof {
    /// Returns the contract's word for it: what a promotion wants is `proved`, what goes beyond that too.
    pub fn word(self, wants_better: bool) -> &'static str {
        match self {
            Self::NoData => "no_data",
            Self::Open => "open",
            Self::Superior if wants_better => "superior",
            Self::NonInferior | Self::Superior => "proved",
            Self::Harmful => "harmful",
            Self::Watched => "watched",
            Self::Alerting => "alert",
        }
    }
}

/// One metric of one candidate against the stable version.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The metric.
    pub metric: MetricName,
    /// The kind of metric.
    pub kind: MetricKind,
    /// The role of the metric.
    pub role: MetricRole,
    /// Whether it waits for labels.
    pub needs_label: bool,
    /// Whether a promotion wants it better, not only not worse.
    pub wants_better: bool,
    /// Which way is better.
    pub direction: Direction,
    /// How much worse is acceptable.
    pub margin: Margin,
    /// The candidate.
    pub candidate: Version,
    /// How many observations the comparison rests on.
    pub n: u64,
    /// The stable version's value.
    pub stable: Option<Estimate>,
    /// The candidate's value.
    pub value: Option<Estimate>,
    /// Candidate minus stable; for latency relative to the stable version.
    pub difference: Option<Estimate>,
    /// The evidence; `None` for a metric that is only reported.
    pub log_e: Option<LogE>,
    /// The fixed-size test of the same.
    pub classic: Option<Classic>,
    /// The result of its tests.
    pub proof: Proof,
    /// Whether harm in it may abort.
    pub aborts: bool,
    /// How many cases of the arm with fewer had a value, for the minimum sample.
    pub n_min: u64,
    /// The design effect: how many cases of one unit carry the information of one independent case; infinite with too few units.
    pub design_effect: f64,
    /// How many values were clipped, for a metric with a range.
    pub clipped: Option<Clipped>,
    /// The answers that cannot be scored and count against the claim.
    pub lost: LostAnswers,
}

/// The answers of one comparison that cannot be scored and count against the claim.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LostAnswers {
    /// Of the candidate.
    pub candidate: u64,
    /// Of the stable version.
    pub stable: u64,
    /// Candidate minus stable in the worst case for the candidate; `None` if unknown.
    pub worst_difference: Option<f64>,
}

/// One arm's part, over all stages of the rollout so far.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmReport {
    /// The version.
    pub version: Version,
    /// Whether it is the stable one.
    pub is_stable: bool,
    /// The share that it serves now.
    pub share: Share,
    /// Cases that it was chosen for or copied to.
    pub exposures: u64,
    /// Of these, in the present stage.
    pub stage_exposures: u64,
    /// Answers in time.
    pub answered: u64,
    /// Errors said by the worker.
    pub errors: u64,
    /// Requests without an answer.
    pub timeouts: u64,
    /// Answers after the deadline.
    pub late: u64,
    /// Cases of this arm that another version answered.
    pub fallbacks: u64,
    /// Mature cases with a label, and labels that arrived after maturity.
    pub labelled: u64,
    /// Mature cases.
    pub mature: u64,
    /// Mature cases without a label.
    pub missing: u64,
    /// Mature cases that had a label by a quarter of the maturity, and by half of it.
    pub labelled_by: [u64; 2],
    /// p50, p95 and p99, once there is an answer.
    pub latency_ms: Option<[f64; 3]>,
}

impl ArmReport {
    /// Returns the share of mature cases that had a label in time.
    pub fn coverage(&self) -> Option<f64> {
        (self.mature > 0).then(|| (self.mature - self.missing) as f64 / self.mature as f64)
    }

    /// Returns the share of mature cases that had a label by a quarter of the maturity, by half of it, and at it.
    pub fn delay_curve(&self) -> Option<[f64; 3]> {
        let [quarter, half] = self.labelled_by.map(|l| l as f64 / self.mature as f64);
        Some([quarter, half, self.coverage()?])
    }
}

/// One check of the measurement itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Check {
    /// The anytime-valid p-value.
    pub p: f64,
    /// Whether nothing speaks against it.
    pub is_ok: bool,
}

/// One check made at three points in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Trail {
    /// All points together: bad if any point is.
    pub all: Check,
    /// Each point by itself.
    pub points: [Check; 3],
    /// The bad point with the strongest evidence, and the version that is affected most.
    pub bad: Option<(usize, Version)>,
}

/// The points of the split check, by their places.
#[derive(Clone, Copy, Debug)]
pub struct SplitPoint;

impl SplitPoint {
    /// Units that an arm was chosen for.
    pub const ASSIGNED: usize = 0;
    /// Those with an answer of it.
    pub const ANSWERED: usize = 1;
    /// Those with a label of an answered case.
    pub const LABELLED: usize = 2;
}

/// The ages at which labels are compared, by their places.
#[derive(Clone, Copy, Debug)]
pub struct LabelAge;

impl LabelAge {
    /// A quarter of the maturity.
    pub const QUARTER: usize = 0;
    /// Half of it.
    pub const HALF: usize = 1;
    /// The maturity itself.
    pub const FULL: usize = 2;
}

/// Whether the measurement can be trusted at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// The SRM check of units assigned, answered and labelled.
    pub split: Trail,
    /// Labels are missing equally often in all arms: at a quarter of the maturity, at half of it, and at it.
    pub label_parity: Trail,
    /// Of the units looked at, those seen in more than one arm within a stratum.
    pub mixed_units: u64,
    /// Cases whose unit is their request id: requests without a unit, and all cases if the spec uses the id as the unit.
    pub without_unit: u64,
    /// Records not yet read.
    pub lag: u64,
    /// Cases that are not in the evidence yet because the lane that joins labels does not have their plan.
    pub unplanned: u64,
    /// Whether there is no fresh traffic to judge.
    pub no_data: bool,
    /// The cases that could not be scored.
    pub scoring: Vec<Gap>,
}

/// Cases of one version that one metric could not score for one reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// The metric.
    pub metric: MetricName,
    /// The version.
    pub version: Version,
    /// Why.
    pub reason: Reason,
    /// The share of the version's labelled cases with an answer, of the rollout or of its present stage: the greater one.
    pub share: f64,
    /// The request ids of a few of them.
    pub sample: Vec<RequestId>,
    /// Whether it holds the rollout.
    pub holds: bool,
}

/// The shares of values that were clipped to the metric's range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clipped {
    /// Of the stable version's values.
    pub stable: f64,
    /// Of the candidate's.
    pub candidate: f64,
}

impl Gap {
    /// Returns whether a finding rests on scores that this gap leaves open; a clipped value is still scored.
    pub fn opens(&self, analysis: &InterimAnalysis<'_>, finding: &Finding) -> bool {
        self.holds
            && self.reason != Reason::OutsideRange
            && self.metric == finding.metric
            && (self.version == *analysis.stable || self.version == finding.candidate)
    }
}

/// When things happened in the rollout, in event time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// The first case of the rollout.
    pub rollout_first_at: Option<Timestamp>,
    /// The first case of the present stage.
    pub stage_first_at: Option<Timestamp>,
    /// The newest case of the present stage.
    pub stage_last_at: Option<Timestamp>,
    /// The tick at which the present stage was entered, if one was judged before it.
    pub entered_at: Option<Timestamp>,
}

/// All that a strategy looks at when it judges.
#[derive(Clone, Debug, PartialEq)]
pub struct InterimAnalysis<'a> {
    /// The rollout.
    pub plan: &'a RolloutPlan,
    /// Its stage.
    pub stage: StageIndex,
    /// The version to compare with.
    pub stable: &'a Version,
    /// The candidates that are still in.
    pub live: &'a [Version],
    /// The tick, in event time.
    pub tick: Timestamp,
    /// When things happened.
    pub timing: Timing,
    /// The arms, the stable one first.
    pub arms: Vec<ArmReport>,
    /// Every metric of every live candidate, in spec order.
    pub findings: Vec<Finding>,
    /// The deciding metrics in each segment that is watched.
    pub segments: Vec<Finding>,
    /// Whether the measurement can be trusted.
    pub health: Health,
}

/// The condition that a stage waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Time.
    Until(Timestamp),
    /// More cases or labels.
    Data,
    /// The measurement to be trusted again.
    Health,
    /// A signal metric to recover.
    Signal,
    /// Proof; where evidence grows, until it will be enough at the pace so far.
    Proof(Option<Timestamp>),
    /// A person.
    Approval,
}

/// The verdict on a stage, with a sentence that gives the reason.
#[must_use = "an unused verdict has no effect"]
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Stay.
    Hold {
        /// The condition.
        wait: Wait,
        /// Why.
        reason: String,
    },
    /// Go on to the next stage.
    Advance {
        /// Why.
        reason: String,
    },
    /// Take one of several candidates out.
    Drop {
        /// Which.
        candidate: Version,
        /// Why.
        reason: String,
    },
    /// Take everything back.
    Abort {
        /// Why.
        reason: String,
    },
    /// The time is over and nothing is proved.
    Inconclusive {
        /// Why.
        reason: String,
    },
    /// The question is answered; a person decides what to do.
    Conclude {
        /// The winner.
        winner: Version,
        /// Why.
        reason: String,
    },
    /// Make the winner the stable version.
    Promote {
        /// The winner.
        winner: Version,
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// Returns the reason as a sentence.
    pub fn reason(&self) -> &str {
        match self {
            Self::Hold { reason, .. }
            | Self::Advance { reason }
            | Self::Drop { reason, .. }
            | Self::Abort { reason }
            | Self::Inconclusive { reason }
            | Self::Conclude { reason, .. }
            | Self::Promote { reason, .. } => reason,
        }
    }

    /// Returns the contract's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "hold",
            Self::Advance { .. } | Self::Conclude { .. } => "advance",
            Self::Drop { .. } | Self::Abort { .. } => "abort",
            Self::Inconclusive { .. } => "inconclusive",
            Self::Promote { .. } => "promote",
        }
    }
}

/// The question of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Is the candidate worse?
    Harm,
    /// Is it not worse than the margin, or even better?
    NonInferior,
    /// Is it better?
    Superior,
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Harm, Self::NonInferior, Self::Superior];

    /// Returns the answer's log of the e-value.
    pub fn of(self, log_e: LogE) -> f64 {
        match self {
            Self::Harm => log_e.harm,
            Self::NonInferior => log_e.non_inferior.max(log_e.superior),
            Self::Superior => log_e.superior,
        }
    }

    /// Returns the contract's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Harm => "harm",
            Self::NonInferior => "non_inferior",
            Self::Superior => "superior",
        }
    }
}
