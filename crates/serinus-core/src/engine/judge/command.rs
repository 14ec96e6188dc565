//! Operators' wishes, as they reach a judge.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ids::{ModelName, Revision, RolloutName};
use crate::plan::rollout::{ModelPlan, RolloutPlan};

/// What is wished for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Take in a model or a rollout.
    Apply,
    /// Stop stepping forward.
    Pause,
    /// Go on.
    Resume,
    /// Step on.
    Promote,
    /// Promote at once.
    PromoteFull,
    /// Take everything back.
    Abort,
    /// Start an ended rollout again.
    Retry,
    /// Go back to the stable version before.
    Rollback,
    /// Give it more time.
    Extend,
}

impl Verb {
    /// All of them.
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
    /// As meant.
    pub plan: P,
    /// As written, in JSON.
    pub document: Value,
}

/// What an `apply` brings.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// A model.
    Model(Box<Written<ModelPlan>>),
    /// A rollout.
    Rollout(Box<Written<RolloutPlan>>),
    /// Something that is neither, and why.
    Invalid(String),
}

/// One wish.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Its own id; the answer carries it.
    pub id: String,
    /// The model.
    pub model: ModelName,
    /// The rollout; `None` when a model is applied.
    pub rollout: Option<RolloutName>,
    /// What is wished for.
    pub verb: Verb,
    /// Who wishes it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The revision that the wisher saw; another one is a conflict.
    pub expect_revision: Option<Revision>,
    /// What an `apply` brings.
    pub spec: Option<Parsed>,
}
