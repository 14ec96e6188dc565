//! The commands of operators.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ids::{ModelName, Revision, RolloutName, Version};
use crate::domain::time::Span;
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
    /// Consent to leave the current stage.
    Approve,
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
    pub const ALL: [Self; 10] = [
        Self::Apply,
        Self::Pause,
        Self::Resume,
        Self::Approve,
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
            Self::Approve => "approve",
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
    /// The version of a `rollback`; the previous stable version if it is not given.
    pub to: Option<Version>,
    /// The time that an `extend` adds.
    pub extend_by: Option<Span>,
}

impl Command {
    /// Returns the reason, or who sent the command.
    pub(crate) fn reason_or_sender(&self) -> String {
        if self.reason.is_empty() {
            format!("{} by {}", self.verb.word(), self.by)
        } else {
            self.reason.clone()
        }
    }

    /// Returns why a command for another revision is refused.
    pub(crate) fn wrong_revision(&self, revision: Revision) -> Option<String> {
        let expected = self.expect_revision.filter(|expected| *expected != revision)?;
        Some(format!("the revision is {revision}, not {expected}: look again"))
    }
}
