//! The changes of a model's position, each with its reason.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ids::{ModelName, RolloutName};
use crate::domain::routing::Routing;
use crate::domain::time::Timestamp;
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
    /// It is queued behind another rollout.
    Pending,
    /// It is in progress.
    Progressing,
    /// It is paused until a person decides.
    Paused,
    /// It ended with a verdict; routing and evidence continue.
    Concluded,
    /// A candidate became the stable version.
    Promoted,
    /// All traffic was returned to the stable version.
    Aborted,
    /// The time limit was reached, and all traffic was returned to the stable version.
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

/// The action.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Verdict")]
pub enum Action {
    /// A spec was applied.
    Apply,
    /// It holds, for a reason that a person should know.
    Hold,
    /// A stage ended with the next stage, or with a verdict.
    Advance,
    /// A candidate became the stable version.
    Promote,
    /// Candidates were dropped.
    Abort,
    /// It was paused.
    Pause,
    /// It was resumed.
    Resume,
    /// The time limit was reached.
    Inconclusive,
    /// An earlier stable version was restored.
    Rollback,
    /// A command was refused; nothing changed.
    Conflict,
    /// Later labels contest a decision.
    Contested,
}

impl Action {
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

/// A phase with its complete routing.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// The phase.
    pub phase: Phase,
    /// The complete routing.
    pub routing: Routing,
}

/// One change, or one refusal, with its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutEvent {
    /// The model.
    pub model: ModelName,
    /// The rollout; `None` if a model was applied.
    pub rollout: Option<RolloutName>,
    /// The sequence number: consecutive per model, from 1.
    pub sequence: u64,
    /// The wall-clock time of the decision.
    pub at: Timestamp,
    /// The actor: `judge`, or a person.
    pub actor: String,
    /// The command that it answers.
    pub command_id: Option<String>,
    /// The action.
    pub deed: Action,
    /// The reason.
    pub reason: String,
    /// The position before the event; `None` for the first event.
    pub from: Option<Position>,
    /// The position after the event.
    pub to: Position,
    /// The evidence that supports it.
    pub evidence: Option<Box<RolloutMetrics>>,
    /// How far the inputs were read: topic, partition and next offset.
    pub positions: Vec<(String, i32, i64)>,
    /// The applied document.
    pub document: Option<Value>,
    /// The design of the tests from here on, if it changed.
    pub design: Option<Design>,
}
