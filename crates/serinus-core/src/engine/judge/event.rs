//! Each change of where a model stands, with its reason.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ids::{ModelName, RolloutName};
use crate::domain::routing::Routing;
use crate::domain::time::Timestamp;
use crate::engine::judge::report::RolloutMetrics;
use crate::evidence::design::Design;

/// Where a rollout is.
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
    /// There is none.
    #[default]
    Idle,
    /// It waits for another one's end.
    Pending,
    /// It is under way.
    Progressing,
    /// It stays where it is, for a person.
    Paused,
    /// It ended with a verdict; routing and evidence go on.
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

/// What was done.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Verdict")]
pub enum Action {
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
pub struct RolloutEvent {
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
    pub deed: Action,
    /// Why.
    pub reason: String,
    /// Where the model stood; `None` before the first.
    pub from: Option<Position>,
    /// Where it stands now.
    pub to: Position,
    /// The evidence that it rests on.
    pub evidence: Option<Box<RolloutMetrics>>,
    /// How far the inputs were read: topic, partition and next offset.
    pub positions: Vec<(String, i32, i64)>,
    /// The document that was applied.
    pub document: Option<Value>,
    /// What the tests are planned with from here on, when that changed.
    pub design: Option<Design>,
}
