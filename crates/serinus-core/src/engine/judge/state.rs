//! Where a model stands: everything that its judge must know again after a restart.

use crate::decision::basis::Support;
use crate::domain::ids::{Revision, RolloutName, StageIndex, Version};
use crate::domain::routing::Routing;
use crate::domain::share::Share;
use crate::domain::time::Timestamp;
use crate::engine::judge::command::Written;
use crate::engine::judge::decision::Decision;
use crate::engine::judge::event::{Phase, Position};
use crate::evidence::design::Design;
use crate::inference::verdict::{InterimAnalysis, LabelAge, Verdict, Wait};
use crate::plan::rollout::{ModelPlan, RolloutPlan};

/// One thing that a person wants to know at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is about: `split`, `label_parity`, `data`, `approval`.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub is_ok: bool,
    /// In a sentence.
    pub reason: String,
}

impl Condition {
    /// All names.
    pub const NAMES: [&'static str; 4] = ["data", "split", "label_parity", "approval"];
}

/// How a rollout that is over ended, so that its name is not used again by accident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its name.
    pub rollout: RolloutName,
    /// How it ended.
    pub phase: Phase,
    /// A hash of its document.
    pub fingerprint: u64,
}

/// A rollout that waits for the end of another.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    /// What was applied.
    pub written: Written<RolloutPlan>,
    /// The command that applied it.
    pub command_id: String,
    /// Who did.
    pub by: String,
}

/// Everything that a judge must know again after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelState {
    /// The model.
    pub model: Written<ModelPlan>,
    /// The rollout in progress, or the last one.
    pub rollout: Option<Written<RolloutPlan>>,
    /// Phase and routing.
    pub position: Position,
    /// The newest change's number.
    pub sequence: u64,
    /// When the phase or stage last changed.
    pub since: Timestamp,
    /// Who changed it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What a person wants to know at a glance.
    pub conditions: Vec<Condition>,
    /// When the rollout was applied, by the clock on the wall.
    pub applied_at: Timestamp,
    /// The tick at which the stage was entered; `None` before the first judged tick.
    pub entered_at: Option<Timestamp>,
    /// The newest tick judged when this was written.
    pub judged: Option<Timestamp>,
    /// What the tests are planned with.
    pub design: Design,
    /// Who won, once it is concluded.
    pub winner: Option<Version>,
    /// The newest decisions, so that labels which come or change afterwards can be held against them.
    pub decisions: Vec<Decision>,
    /// Rollouts that wait.
    pub queue: Vec<Queued>,
    /// Rollouts that are over, newest last.
    pub past: Vec<Past>,
    /// The newest commands' ids, so that one delivered twice is done once.
    pub commands: Vec<String>,
}

impl ModelState {
    /// Returns a decision with the tests that its verdict rests on; `None` if no test of labels supports it.
    pub fn decision(&self, verdict: &Verdict, supports: Vec<Support>) -> Option<Decision> {
        let phase = match verdict {
            Verdict::Promote { .. } => Phase::Promoted,
            Verdict::Conclude { .. } => Phase::Concluded,
            Verdict::Abort { .. } => Phase::Aborted,
            Verdict::Hold { .. }
            | Verdict::Advance { .. }
            | Verdict::Drop { .. }
            | Verdict::Inconclusive { .. } => return None,
        };
        (!supports.is_empty()).then_some(Decision {
            rollout: self.rollout.clone()?,
            design: self.design.clone(),
            stable: self.position.routing.stable.clone(),
            stage: self.position.routing.stage,
            phase,
            supports,
            is_contested: false,
        })
    }
}

/// Returns the candidates that are still in, in spec order.
pub fn live(plan: &RolloutPlan, standing: &ModelState) -> Vec<Version> {
    let is_out = |v: &&Version| !standing.design.drops.iter().any(|(_, out)| out == *v);
    plan.candidates.iter().filter(is_out).cloned().collect()
}

/// Returns the routing of a stage, without the candidates that were taken out.
pub fn route(
    standing: &ModelState,
    plan: &RolloutPlan,
    stage: StageIndex,
    revision: Revision,
) -> Routing {
    let live = live(plan, standing);
    let is_out = |version: &Version| plan.candidates.contains(version) && !live.contains(version);
    let mut slices = plan.slices(stage);
    for slice in &mut slices {
        if is_out(&slice.version) {
            slice.share = Share::NONE;
        }
    }
    let mut shadows = plan.shadows(stage);
    shadows.retain(|s| !is_out(&s.version));
    shadows.sort_by(|a, b| a.version.cmp(&b.version));
    Routing {
        rollout: Some(plan.name.clone()),
        stage,
        salt: standing.position.routing.salt.clone(),
        slices,
        shadows,
        ..standing.model.plan.at_rest(standing.position.routing.stable.clone(), revision)
    }
}

/// A paused or concluded rollout goes nowhere by itself, except back.
pub fn of_phase(standing: &ModelState, verdict: Verdict) -> Verdict {
    let wait = Wait::Approval;
    if matches!(verdict, Verdict::Abort { .. } | Verdict::Drop { .. }) {
        return verdict;
    }
    match (standing.position.phase, verdict) {
        (Phase::Paused, verdict) => {
            Verdict::Hold { wait, reason: format!("paused; {}", verdict.reason()) }
        }
        (Phase::Concluded, verdict) => {
            let ahead = standing.winner.as_ref().map_or("nobody", Version::as_str);
            let reason =
                format!("concluded: {ahead} won, promote or abort it; {}", verdict.reason());
            Verdict::Hold { wait, reason }
        }
        (
            Phase::Idle
            | Phase::Pending
            | Phase::Progressing
            | Phase::Promoted
            | Phase::Aborted
            | Phase::Inconclusive,
            verdict,
        ) => verdict,
    }
}

/// Returns what a person wants to know at a glance.
pub fn conditions(look: &InterimAnalysis<'_>, verdict: &Verdict) -> Vec<Condition> {
    let condition = |name, is_ok, good: &str, bad: &str| {
        let reason = if is_ok { good } else { bad };
        Condition { name, is_ok, reason: reason.to_owned() }
    };
    let health = &look.health;
    let wants_approval = matches!(verdict, Verdict::Hold { wait: Wait::Approval, .. });
    vec![
        condition("data", !health.no_data, "traffic is coming", "no fresh traffic"),
        condition(
            "split",
            health.split.all.is_ok,
            "traffic is split as planned",
            "traffic is not split as planned",
        ),
        condition(
            "label_parity",
            health.label_parity.all.is_ok,
            "labels are missing equally often in all arms",
            if health.label_parity.points[LabelAge::FULL].is_ok {
                "labels come later in one arm"
            } else {
                "labels are missing more often in one arm"
            },
        ),
        condition("approval", !wants_approval, "nobody is waited for", "waiting for a person"),
    ]
}

/// Returns whether a condition waits for a person.
pub fn is_approval_wanted(condition: &Condition) -> bool {
    condition.name == "approval" && !condition.is_ok
}

/// Keeps how a rollout ended; the oldest are forgotten.
pub fn remember(past: &mut Vec<Past>, rollout: &Written<RolloutPlan>, phase: Phase) {
    const PAST_MAX: usize = 200;
    let name: RolloutName = rollout.plan.name.clone();
    past.retain(|p| p.rollout != name);
    let document = rollout.document.to_string();
    let fingerprint = xxhash_rust::xxh3::xxh3_64(document.as_bytes());
    past.push(Past { rollout: name, phase, fingerprint });
    if past.len() > PAST_MAX {
        past.remove(0);
    }
}
