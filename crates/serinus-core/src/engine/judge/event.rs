//! The events of a model: each change of its state, and each refusal, with its reason.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decision::gates::GateState;
use crate::domain::ids::{ModelName, RolloutName};
use crate::domain::routing::Routing;
use crate::domain::time::Timestamp;
use crate::engine::judge::command::Command;
use crate::engine::judge::report::RolloutMetrics;
use crate::evidence::design::Design;

/// The phase of a rollout.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Phase {
    /// There is no rollout.
    #[default]
    Idle,
    /// It waits for the end of another rollout.
    Pending,
    /// It is in progress.
    Progressing,
    /// It stays at its stage until it is resumed.
    Paused,
    /// It ended with a verdict; routing and evidence continue.
    Concluded,
    /// A candidate became the stable version.
    Promoted,
    /// All traffic was routed back.
    Aborted,
    /// Its time was over, and all traffic was routed back.
    Inconclusive,
}

impl Phase {
    /// All of them, in the order of the contract.
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

    /// Returns the word in records.
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

    /// Returns whether the candidates of a rollout in this phase get traffic.
    pub fn is_open(self) -> bool {
        match self {
            Self::Progressing | Self::Paused | Self::Concluded => true,
            Self::Idle | Self::Pending | Self::Promoted | Self::Aborted | Self::Inconclusive => {
                false
            }
        }
    }
}

/// What an event did.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Verdict")]
pub enum Action {
    /// A model or a rollout was applied.
    Apply,
    /// The rollout waits for a person.
    Hold,
    /// The next stage was entered, or the rollout was concluded.
    Advance,
    /// A candidate became the stable version.
    Promote,
    /// A candidate was dropped, or the rollout was aborted.
    Abort,
    /// The rollout was paused.
    Pause,
    /// The rollout was resumed.
    Resume,
    /// A person consented to leave the stage.
    Approve,
    /// The rollout got more time.
    Extend,
    /// A finished rollout began again.
    Retry,
    /// The time of the rollout was over.
    Inconclusive,
    /// An earlier stable version serves again.
    Rollback,
    /// A command was refused; nothing changed.
    Conflict,
    /// Later labels contradict a decision.
    Contested,
}

impl Action {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 14] = [
        Self::Apply,
        Self::Hold,
        Self::Advance,
        Self::Promote,
        Self::Abort,
        Self::Pause,
        Self::Resume,
        Self::Approve,
        Self::Extend,
        Self::Retry,
        Self::Inconclusive,
        Self::Rollback,
        Self::Conflict,
        Self::Contested,
    ];

    /// Returns the word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Hold => "hold",
            Self::Advance => "advance",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Approve => "approve",
            Self::Extend => "extend",
            Self::Retry => "retry",
            Self::Inconclusive => "inconclusive",
            Self::Rollback => "rollback",
            Self::Conflict => "conflict",
            Self::Contested => "contested",
        }
    }
}

/// A phase with its routing.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// The phase.
    pub phase: Phase,
    /// The complete routing.
    pub routing: Routing,
}

/// One change or refusal, with its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutEvent {
    /// The model.
    pub model: ModelName,
    /// The rollout; `None` if a model was applied.
    pub rollout: Option<RolloutName>,
    /// The number of this event of the model: 1, 2, 3, ...
    pub sequence: u64,
    /// When it was decided, in wall-clock time.
    pub at: Timestamp,
    /// Who made the change: `judge`, or the sender of the command.
    pub actor: String,
    /// The command that it answers.
    pub command_id: Option<String>,
    /// What it did.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// The position before; `None` for the first event of a model.
    pub from: Option<Position>,
    /// The position after.
    pub to: Position,
    /// The evidence for it.
    pub evidence: Option<Box<RolloutMetrics>>,
    /// The next offset of each input: topic, partition, offset.
    pub positions: Vec<(String, i32, i64)>,
    /// The applied document.
    pub document: Option<Value>,
    /// The design of the tests from here on, if it changed.
    pub design: Option<Design>,
    /// The gates of the stage; empty if no rollout is judged.
    pub gates: Vec<GateState>,
}

impl RolloutEvent {
    /// Returns the answer to a command; what the command changed is added to it.
    pub(crate) fn answer(
        command: &Command,
        sequence: u64,
        at: Timestamp,
        action: Action,
        position: Position,
        reason: String,
    ) -> Self {
        Self {
            model: command.model.clone(),
            rollout: command.rollout.clone(),
            sequence,
            at,
            actor: command.by.clone(),
            command_id: Some(command.id.clone()),
            action,
            reason,
            from: Some(position.clone()),
            to: position,
            evidence: None,
            positions: Vec::new(),
            document: None,
            design: None,
            gates: Vec::new(),
        }
    }
}

/// Who makes a change, and the evidence for it.
#[derive(Clone, Debug)]
pub(crate) struct Grounds {
    pub(crate) actor: String,
    pub(crate) command_id: Option<String>,
    pub(crate) evidence: Option<Box<RolloutMetrics>>,
    pub(crate) positions: Vec<(String, i32, i64)>,
    pub(crate) gates: Vec<GateState>,
}

impl Grounds {
    /// Returns the grounds of a change that the judge makes.
    pub(crate) fn of_judge(
        report: RolloutMetrics,
        positions: Vec<(String, i32, i64)>,
        gates: Vec<GateState>,
    ) -> Self {
        Self {
            actor: "judge".to_owned(),
            command_id: None,
            evidence: Some(Box::new(report)),
            positions,
            gates,
        }
    }
}
