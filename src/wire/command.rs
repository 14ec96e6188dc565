//! The `command` record.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::avro::Codec;
use crate::wire::avro_schema;
use crate::wire::codec::{Record, read, write};
use crate::wire::json_schema::read_by_us;
use crate::wire::malformed::Malformed;
use serinus_core::domain::ids::Revision;
use serinus_core::engine::judge::command::{Command, Parsed, Verb};

/// What is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Verb")]
pub enum VerbRecord {
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

/// An operator's wish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Command")]
pub struct CommandRecord {
    /// Its own id; the answer carries it.
    pub id: String,
    /// The rollout; null when a model is applied.
    #[serde(default)]
    pub rollout: Option<String>,
    /// The model.
    pub model: String,
    /// What is wished for.
    pub verb: VerbRecord,
    /// Who wishes it.
    #[serde(default)]
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// The revision that the wisher saw; another one is a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_revision: Option<u64>,
    /// The document that an `apply` brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Value>,
}

impl Record for CommandRecord {
    const NAME: &'static str = "command";

    fn codec() -> Option<&'static Codec> {
        static CODEC: LazyLock<Codec> =
            LazyLock::new(|| Codec::new(avro_schema::of(&read_by_us::<CommandRecord>())));
        Some(&CODEC)
    }
}

impl CommandRecord {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    /// Returns the command, with its document read by `parse`.
    pub fn command(self, parse: impl FnOnce(Value) -> Parsed) -> Command {
        Command {
            id: self.id,
            model: self.model.into(),
            rollout: self.rollout.map(Into::into),
            verb: self.verb.into(),
            by: self.by,
            reason: self.reason,
            expect_revision: self.expect_revision.map(Revision),
            spec: self.spec.map(parse),
        }
    }
}

impl From<VerbRecord> for Verb {
    fn from(verb: VerbRecord) -> Self {
        match verb {
            VerbRecord::Apply => Self::Apply,
            VerbRecord::Pause => Self::Pause,
            VerbRecord::Resume => Self::Resume,
            VerbRecord::Promote => Self::Promote,
            VerbRecord::PromoteFull => Self::PromoteFull,
            VerbRecord::Abort => Self::Abort,
            VerbRecord::Retry => Self::Retry,
            VerbRecord::Rollback => Self::Rollback,
            VerbRecord::Extend => Self::Extend,
        }
    }
}

impl From<Verb> for VerbRecord {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Apply => Self::Apply,
            Verb::Pause => Self::Pause,
            Verb::Resume => Self::Resume,
            Verb::Promote => Self::Promote,
            Verb::PromoteFull => Self::PromoteFull,
            Verb::Abort => Self::Abort,
            Verb::Retry => Self::Retry,
            Verb::Rollback => Self::Rollback,
            Verb::Extend => Self::Extend,
        }
    }
}
