//! The commands of operators.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ids::{ModelName, Revision, RolloutName};
use crate::plan::rollout::{ModelPlan, RolloutPlan};

/// What a command asks for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Apply a model or a rollout.
    Apply,
    /// Stay at the current stage.
    Pause,
    /// Continue after a pause.
    Resume,
    /// Enter the next stage.
    Promote,
    /// Promote the candidate now, without the remaining stages.
    PromoteFull,
    /// Route all traffic back to the stable version.
    Abort,
    /// Start a finished rollout again.
    Retry,
    /// Route all traffic to the previous stable version.
    Rollback,
    /// Give the rollout more time.
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

    /// Returns the word in records and commands.
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

/// A plan, with the document that it was parsed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<P> {
    /// The plan.
    pub plan: P,
    /// The document, in JSON.
    pub document: Value,
}

/// The document of an `apply`, parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// A model.
    Model(Box<Written<ModelPlan>>),
    /// A rollout.
    Rollout(Box<Written<RolloutPlan>>),
    /// Neither of them, and why.
    Invalid(String),
}

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Its id, which the answer carries.
    pub id: String,
    /// The model.
    pub model: ModelName,
    /// The rollout; `None` if a model is applied.
    pub rollout: Option<RolloutName>,
    /// What it asks for.
    pub verb: Verb,
    /// Who sent it.
    pub by: String,
    /// The reason.
    pub reason: String,
    /// The revision that its sender saw; at any other revision it is refused.
    pub expect_revision: Option<Revision>,
    /// The document of an `apply`.
    pub spec: Option<Parsed>,
}

impl Command {
    /// Returns why a command for another revision is refused.
    pub(crate) fn wrong_revision(&self, revision: Revision) -> Option<String> {
        let expected = self.expect_revision.filter(|expected| *expected != revision)?;
        Some(format!("the revision is {revision}, not {expected}: look again"))
    }
}

/// Returns why a command is never executed.
pub(crate) fn unsupported(verb: Verb) -> Option<&'static str> {
    match verb {
        Verb::Retry => Some("a rollout is not tried again: apply it under a new name"),
        Verb::Rollback => Some("apply a rollout whose candidate is the version to go back to"),
        Verb::Extend => Some("the time of a running rollout is part of its spec and cannot change"),
        Verb::Apply
        | Verb::Pause
        | Verb::Resume
        | Verb::Promote
        | Verb::PromoteFull
        | Verb::Abort => None,
    }
}
