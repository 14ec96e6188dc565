//! Commands of operators, as a judge receives them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ids::{ModelName, Revision, RolloutName};
use crate::plan::rollout::{ModelPlan, RolloutPlan};

/// The requested action.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Apply a model or a rollout.
    Apply,
    /// Do not advance to further stages.
    Pause,
    /// End a pause.
    Resume,
    /// Advance to the next stage.
    Promote,
    /// Promote at once.
    PromoteFull,
    /// Return all traffic to the stable version.
    Abort,
    /// Start an ended rollout again.
    Retry,
    /// Return to the previous stable version.
    Rollback,
    /// Give it more time.
    Extend,
}

impl Verb {
    /// All verbs.
    pub const ALL: [Self; 9] = [
        Self::Apply,
        Self::Pause,
        Self::Resume,
        Self::Promote,
        Self::PromoteFull,
        Self::Abort,
        Self::Retry,
        Self::Rollback,
        Self::Extend,
    ];

    /// Returns the contract's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::PromoteFull => "promote-full",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Rollback => "rollback",
            Self::Extend => "extend",
        }
    }
}

/// A plan together with the document that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<P> {
    /// The plan.
    pub plan: P,
    /// The document in JSON.
    pub document: Value,
}

/// The document of an `apply`.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// A model.
    Model(Box<Written<ModelPlan>>),
    /// A rollout.
    Rollout(Box<Written<RolloutPlan>>),
    /// An invalid document, with the reason.
    Invalid(String),
}

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The id of the command; the event that answers it has it too.
    pub id: String,
    /// The model.
    pub model: ModelName,
    /// The rollout; `None` if a model is applied.
    pub rollout: Option<RolloutName>,
    /// The requested action.
    pub verb: Verb,
    /// The operator.
    pub by: String,
    /// The reason.
    pub reason: String,
    /// The revision that the operator saw; the command is refused if the current one differs.
    pub expect_revision: Option<Revision>,
    /// The document of an `apply`.
    pub spec: Option<Parsed>,
}
