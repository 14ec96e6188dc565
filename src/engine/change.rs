//! Where a model stands, and each change of that with its reason: what goes out as events and state.

use serde_json::Value;

use crate::domain::ids::{ModelName, RolloutName, Version};
use crate::domain::routing::Routing;
use crate::domain::time::Timestamp;
use crate::engine::command::Written;
use crate::engine::report::Report;
use crate::strategy::design::Design;
use crate::strategy::stage::{ModelPlan, RolloutPlan};

/// Where a rollout is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// It waits for another one's end.
    Pending,
    /// It is under way.
    Progressing,
    /// It stays where it is, for a person.
    Paused,
    /// It ended with a verdict; routing and evidence go on until it is promoted or aborted.
    Concluded,
    /// A candidate became the stable version.
    Promoted,
    /// Everything was taken back.
    Aborted,
    /// The time was over, and everything was taken back.
    Inconclusive,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Pending,
        Self::Progressing,
        Self::Paused,
        Self::Concluded,
        Self::Promoted,
        Self::Aborted,
        Self::Inconclusive,
    ];

    /// Returns the contract's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Pending => "Pending",
            Self::Progressing => "Progressing",
            Self::Paused => "Paused",
            Self::Concluded => "Concluded",
            Self::Promoted => "Promoted",
            Self::Aborted => "Aborted",
            Self::Inconclusive => "Inconclusive",
        }
    }

    /// Returns whether a rollout in this phase has candidates in routing.
    pub fn is_open(self) -> bool {
        match self {
            Self::Progressing | Self::Paused | Self::Concluded => true,
            Self::Idle | Self::Pending | Self::Promoted | Self::Aborted | Self::Inconclusive => {
                false
            }
        }
    }
}

/// What a change was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deed {
    /// A spec was taken in.
    Apply,
    /// It stays, and a person should know why.
    Hold,
    /// A stage was left for the next, or for a verdict.
    Advance,
    /// A candidate became the stable version.
    Promote,
    /// Candidates were taken out.
    Abort,
    /// It stopped stepping.
    Pause,
    /// It goes on.
    Resume,
    /// The time was over.
    Inconclusive,
    /// An earlier stable version was brought back.
    Rollback,
    /// A wish was refused; nothing changed.
    Conflict,
    /// Labels that came later speak against a decision.
    Contested,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Apply,
        Self::Hold,
        Self::Advance,
        Self::Promote,
        Self::Abort,
        Self::Pause,
        Self::Resume,
        Self::Inconclusive,
        Self::Rollback,
        Self::Conflict,
        Self::Contested,
    ];

    /// Returns the contract's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Hold => "hold",
            Self::Advance => "advance",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Inconclusive => "inconclusive",
            Self::Rollback => "rollback",
            Self::Conflict => "conflict",
            Self::Contested => "contested",
        }
    }
}

/// A phase and the whole of the routing that goes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// The phase.
    pub phase: Phase,
    /// The routing, complete.
    pub routing: Routing,
}

/// One change, or one refusal, with its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The model.
    pub model: ModelName,
    /// The rollout; `None` when a model was applied.
    pub rollout: Option<RolloutName>,
    /// Counts the model's changes without a gap, from 1.
    pub sequence: u64,
    /// When it was decided, by the clock on the wall.
    pub at: Timestamp,
    /// Who did it: `judge`, or a person.
    pub actor: String,
    /// The command that it answers.
    pub command_id: Option<String>,
    /// What was done.
    pub deed: Deed,
    /// Why.
    pub reason: String,
    /// Where the model stood; `None` before the first.
    pub from: Option<Position>,
    /// Where it stands now.
    pub to: Position,
    /// The evidence that it rests on.
    pub evidence: Option<Box<Report>>,
    /// How far the inputs were read: topic, partition and next offset.
    pub positions: Vec<(String, i32, i64)>,
    /// The document that was applied.
    pub document: Option<Value>,
    /// What the tests are planned with from here on, when that changed.
    pub design: Option<Design>,
}

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
pub struct Standing {
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
    /// Rollouts that wait.
    pub queue: Vec<Queued>,
    /// Rollouts that are over, newest last.
    pub past: Vec<Past>,
    /// The newest commands' ids, so that one delivered twice is done once.
    pub commands: Vec<String>,
}
