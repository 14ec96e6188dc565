//! The state of a model and of its rollout: everything that a judge needs after a restart.

use crate::decision::basis::Support;
use crate::domain::ids::{Revision, RolloutName, StageIndex, Version};
use crate::domain::routing::Routing;
use crate::domain::share::Share;
use crate::domain::time::Timestamp;
use crate::engine::judge::command::{Command, Written};
use crate::engine::judge::decision::Decision;
use crate::engine::judge::event::{Phase, Position};
use crate::evidence::design::Design;
use crate::inference::planning;
use crate::inference::verdict::{InterimAnalysis, LabelAge, Verdict, Wait};
use crate::plan::rollout::{ModelPlan, RolloutPlan};

/// One aspect of a rollout that an operator wants to know at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its subject: `split`, `label_parity`, `data`, `approval`.
    pub name: &'static str,
    /// Whether it is in order.
    pub is_ok: bool,
    /// One sentence about it.
    pub reason: String,
}

impl Condition {
    /// All names.
    pub const NAMES: [&'static str; 4] = ["data", "split", "label_parity", "approval"];
}

/// How a finished rollout ended. Its name cannot be used again.
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
    /// Its plan, and the document that was applied.
    pub written: Written<RolloutPlan>,
    /// The command that applied it.
    pub command_id: String,
    /// Who sent the command.
    pub by: String,
}

/// The state of a model: everything that its judge needs after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelState {
    /// The model.
    pub model: Written<ModelPlan>,
    /// The rollout in progress, or the last one.
    pub rollout: Option<RolloutState>,
    /// Phase and routing.
    pub position: Position,
    /// The number of the newest event.
    pub sequence: u64,
    /// When the phase or stage last changed.
    pub since: Timestamp,
    /// Who changed it.
    pub by: String,
    /// The reason for the change.
    pub reason: String,
    /// What an operator wants to know at a glance.
    pub conditions: Vec<Condition>,
    /// The newest decisions, which later labels can contest.
    pub decisions: Vec<Decision>,
    /// Rollouts that wait for the end of the current one.
    pub queue: Vec<Queued>,
    /// Past rollouts, newest last.
    pub past: Vec<Past>,
    /// Versions that were stable before, newest last.
    pub stable_before: Vec<Version>,
    /// The ids of the newest commands: a command that is delivered twice is executed once.
    pub commands: Vec<String>,
}

/// The state of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutState {
    /// Its plan, and the document that was applied.
    pub written: Written<RolloutPlan>,
    /// When it began, in wall-clock time.
    pub applied_at: Timestamp,
    /// The tick at which the stage was entered; `None` before the first judged tick.
    pub entered_at: Option<Timestamp>,
    /// The newest judged tick.
    pub judged: Option<Timestamp>,
    /// What the tests are planned with.
    pub design: Design,
    /// The winner, once the rollout is concluded.
    pub winner: Option<Version>,
    /// The stage that a person has approved to leave.
    pub approved: Option<StageIndex>,
}

impl RolloutState {
    /// Returns a rollout that begins.
    pub(crate) fn begin(written: Written<RolloutPlan>, now: Timestamp) -> Self {
        let design = planning::initial(&written.plan);
        Self {
            written,
            applied_at: now,
            entered_at: None,
            judged: None,
            design,
            winner: None,
            approved: None,
        }
    }

    /// Clears what belongs to evidence, once the rollout is over.
    pub(crate) fn end(&mut self) {
        self.design = Design::default();
        self.entered_at = None;
        self.judged = None;
        self.approved = None;
    }

    /// Returns the name.
    pub fn name(&self) -> &RolloutName {
        &self.written.plan.name
    }

    /// Returns the plan.
    pub fn plan(&self) -> &RolloutPlan {
        &self.written.plan
    }

    /// Returns the candidates that were not dropped, in spec order.
    pub fn live(&self) -> Vec<Version> {
        self.design.live(self.plan())
    }

    /// Returns a decision with the tests that its verdict rests on; `None` if no test of labels supports it.
    pub(crate) fn decision(
        &self,
        routing: &Routing,
        verdict: &Verdict,
        supports: Vec<Support>,
    ) -> Option<Decision> {
        let phase = match verdict {
            Verdict::Promote { .. } => Phase::Promoted,
            Verdict::Conclude { .. } => Phase::Concluded,
            Verdict::Abort { .. } => Phase::Aborted,
            Verdict::Hold { .. }
            | Verdict::Advance { .. }
            | Verdict::Drop { .. }
            | Verdict::Inconclusive { .. } => return None,
        };
        (!supports.is_empty()).then(|| Decision {
            rollout: self.written.clone(),
            design: self.design.clone(),
            stable: routing.stable.clone(),
            stage: routing.stage,
            phase,
            supports,
            is_contested: false,
        })
    }
}

impl ModelState {
    /// Returns the state of a model that is applied for the first time.
    pub(crate) fn first(
        now: Timestamp,
        model: Written<ModelPlan>,
        position: Position,
        command: &Command,
    ) -> Self {
        Self {
            model,
            rollout: None,
            position,
            sequence: 0,
            since: now,
            by: command.by.clone(),
            reason: String::new(),
            conditions: Vec::new(),
            decisions: Vec::new(),
            queue: Vec::new(),
            past: Vec::new(),
            stable_before: Vec::new(),
            commands: vec![command.id.clone()],
        }
    }

    /// Returns the rollout in progress.
    pub fn running(&self) -> Option<&RolloutState> {
        self.rollout.as_ref().filter(|_| self.position.phase.is_open())
    }

    /// Returns whether a rollout is in progress.
    pub(crate) fn is_running(&self, name: &RolloutName) -> bool {
        self.running().is_some_and(|r| r.name() == name)
    }

    /// Returns the decision on a rollout, unless labels have contradicted it.
    pub(crate) fn uncontested(&self, name: &RolloutName) -> Option<&Decision> {
        self.decisions.iter().find(|d| d.rollout.plan.name == *name && !d.is_contested)
    }

    /// Records the stable version before another takes its place.
    pub(crate) fn replace_stable(&mut self, by: &Version) {
        let before = &self.position.routing.stable;
        if before != by {
            keep_stable_before(&mut self.stable_before, before.clone());
        }
    }

    /// Returns the routing of a stage of a rollout, without the candidates that were dropped.
    pub(crate) fn route(
        &self,
        rollout: &RolloutState,
        stage: StageIndex,
        revision: Revision,
    ) -> Routing {
        let (plan, live) = (rollout.plan(), rollout.live());
        let is_out = |v: &Version| plan.candidates.contains(v) && !live.contains(v);
        let mut slices = plan.slices(stage);
        for slice in slices.iter_mut().filter(|s| is_out(&s.version)) {
            slice.share = Share::NONE;
        }
        let mut shadows = plan.shadows(stage);
        shadows.retain(|s| !is_out(&s.version));
        shadows.sort_by(|a, b| a.version.cmp(&b.version));
        Routing {
            rollout: Some(plan.name.clone()),
            stage,
            salt: self.position.routing.salt.clone(),
            slices,
            shadows,
            ..self.model.plan.at_rest(self.position.routing.stable.clone(), revision)
        }
    }

    /// Returns what a verdict becomes in this phase: a paused or concluded rollout holds, unless a candidate is aborted.
    pub(crate) fn in_phase(&self, verdict: Verdict) -> Verdict {
        let wait = Wait::Approval;
        if matches!(verdict, Verdict::Abort { .. } | Verdict::Drop { .. }) {
            return verdict;
        }
        match self.position.phase {
            Phase::Paused => {
                Verdict::Hold { wait, reason: format!("paused; {}", verdict.reason()) }
            }
            Phase::Concluded => {
                let winner = self.rollout.as_ref().and_then(|r| r.winner.as_ref());
                let ahead = winner.map_or("no candidate", Version::as_str);
                let reason =
                    format!("concluded: {ahead} won, promote or abort it; {}", verdict.reason());
                Verdict::Hold { wait, reason }
            }
            Phase::Idle
            | Phase::Pending
            | Phase::Progressing
            | Phase::Promoted
            | Phase::Aborted
            | Phase::Inconclusive => verdict,
        }
    }
}

/// Adds a version that was stable, newest last and each once, and drops the oldest beyond a bound.
pub fn keep_stable_before<V: PartialEq>(versions: &mut Vec<V>, before: V) {
    const STABLE_BEFORE_MAX: usize = 16;
    versions.retain(|version| *version != before);
    versions.push(before);
    if versions.len() > STABLE_BEFORE_MAX {
        versions.remove(0);
    }
}

/// Returns what an operator wants to know at a glance.
pub(crate) fn conditions(analysis: &InterimAnalysis<'_>, verdict: &Verdict) -> Vec<Condition> {
    let condition = |name, is_ok, good: &str, bad: &str| {
        let reason = if is_ok { good } else { bad };
        Condition { name, is_ok, reason: reason.to_owned() }
    };
    let health = &analysis.health;
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
        condition("approval", !wants_approval, "no approval is missing", "waiting for a person"),
    ]
}

/// Returns whether a condition waits for a person.
pub(crate) fn is_approval_wanted(condition: &Condition) -> bool {
    condition.name == "approval" && !condition.is_ok
}

/// Adds how a rollout ended, and drops the oldest entry beyond a bound.
pub(crate) fn remember(past: &mut Vec<Past>, rollout: &Written<RolloutPlan>, phase: Phase) {
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
