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

/// A command of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Command")]
pub struct CommandRecord {
    /// The id of the command; the event that answers it has it too.
    pub id: String,
    /// The rollout; null if a model is applied.
    #[serde(default)]
    pub rollout: Option<String>,
    /// The model.
    pub model: String,
    /// The requested action.
    pub verb: Verb,
    /// The operator.
    #[serde(default)]
    pub by: String,
    /// The reason.
    #[serde(default)]
    pub reason: String,
    /// The revision that the operator saw; the command is refused if the current one differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_revision: Option<u64>,
    /// The document of an `apply`.
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
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    /// Converts it to a command; `parse` reads its document.
    pub fn command(self, parse: impl FnOnce(Value) -> Parsed) -> Command {
        Command {
            id: self.id,
            model: self.model.into(),
            rollout: self.rollout.map(Into::into),
            verb: self.verb,
            by: self.by,
            reason: self.reason,
            expect_revision: self.expect_revision.map(Revision),
            spec: self.spec.map(parse),
        }
    }
}
