//! The state of a model: everything that its judge restores after a restart.

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

/// One condition in the summary of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The name: `split`, `label_parity`, `data` or `approval`.
    pub name: &'static str,
    /// Whether it is met.
    pub is_ok: bool,
    /// A sentence for people.
    pub reason: String,
}

impl Condition {
    /// All names.
    pub const NAMES: [&'static str; 4] = ["data", "split", "label_parity", "approval"];
}

/// How a past rollout ended. It is kept so that its name is not reused by accident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its name.
    pub rollout: RolloutName,
    /// How it ended.
    pub phase: Phase,
    /// A hash of its document.
    pub fingerprint: u64,
}

/// A rollout that is queued until another one ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    /// The applied rollout.
    pub written: Written<RolloutPlan>,
    /// The command that applied it.
    pub command_id: String,
    /// Who applied it.
    pub by: String,
}

/// Everything that a judge restores after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelState {
    /// The model.
    pub model: Written<ModelPlan>,
    /// The rollout in progress, or the last one.
    pub rollout: Option<Written<RolloutPlan>>,
    /// Phase and routing.
    pub position: Position,
    /// The revision of the newest change.
    pub sequence: u64,
    /// When the phase or stage last changed.
    pub since: Timestamp,
    /// Who changed it.
    pub by: String,
    /// The reason for the change.
    pub reason: String,
    /// The conditions that summarize the rollout.
    pub conditions: Vec<Condition>,
    /// The wall-clock time at which the rollout was applied.
    pub applied_at: Timestamp,
    /// The tick at which the stage was entered; `None` before the first judged tick.
    pub entered_at: Option<Timestamp>,
    /// The newest tick judged when this was written.
    pub judged: Option<Timestamp>,
    /// The design of the tests.
    pub design: Design,
    /// The winner, once the rollout is concluded.
    pub winner: Option<Version>,
    /// The newest decisions, for comparison with labels that arrive or change later.
    pub decisions: Vec<Decision>,
    /// Queued rollouts.
    pub queue: Vec<Queued>,
    /// Past rollouts, newest last.
    pub past: Vec<Past>,
    /// The ids of the newest commands, so that a command delivered twice runs once.
    pub commands: Vec<String>,
}

impl ModelState {
    /// Returns a decision with the tests that support its verdict; `None` if no test of labels supports it.
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

/// Returns the remaining candidates in spec order.
pub fn live(plan: &RolloutPlan, standing: &ModelState) -> Vec<Version> {
    let is_out = |v: &&Version| !standing.design.drops.iter().any(|(_, out)| out == *v);
    plan.candidates.iter().filter(is_out).cloned().collect()
}

/// Returns the routing of a stage without the dropped candidates.
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

/// Limits the verdict of a paused or concluded rollout: by itself it can only roll back.
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

/// Returns the conditions that summarize the rollout.
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

/// Returns whether a condition waits for approval.
pub fn is_approval_wanted(condition: &Condition) -> bool {
    condition.name == "approval" && !condition.is_ok
}

/// Records how a rollout ended; drops the oldest entries.
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
