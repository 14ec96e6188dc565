//! The `rollout-state` record: the spec, the position of the model, and the state that its judge restores after a restart.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::avro::Codec;
use crate::wire::avro_schema;
use crate::wire::codec::{Record, encode, read, write};
use crate::wire::decision::DecisionRecord;
use crate::wire::design::DesignRecord;
use crate::wire::event::PositionRecord;
use crate::wire::json_schema::written_by_us;
use crate::wire::malformed::Malformed;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::judge::command::{Parsed, Written};
use serinus_core::engine::judge::event::Phase;
use serinus_core::engine::judge::state::{Condition, ModelState, Past, Queued, RolloutState};
use serinus_core::evidence::design::Design;
use serinus_core::plan::rollout::{Format, ModelPlan, RolloutPlan};

/// The state of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RolloutState")]
pub struct StateRecord {
    /// The rollout in progress, or the last one; null before the first.
    pub rollout: Option<String>,
    /// The model.
    pub model: String,
    /// The phase.
    pub phase: Phase,
    /// The stage, counted from 0.
    pub stage: u32,
    /// The revision, which counts the changes of the model's routing.
    pub revision: u64,
    /// The stable version, which serves all requests that no candidate serves.
    pub stable: String,
    /// The salt of the assignment.
    pub salt: String,
    /// The share that each candidate serves.
    pub shares: BTreeMap<String, f64>,
    /// The share of requests copied to each version as shadow traffic.
    pub shadows: BTreeMap<String, f64>,
    /// The candidates' slices of [0, 1), end to end in this order, with their widths.
    pub slices: Vec<(String, f64)>,
    /// The rollout's document; the model's before the first rollout.
    pub spec: Value,
    /// When the phase or stage last changed.
    pub since: i64,
    /// Who changed it.
    pub by: String,
    /// The reason.
    pub reason: String,
    /// The conditions that summarize the rollout.
    pub conditions: Vec<ConditionRecord>,
    /// The sequence number of the newest event.
    pub sequence: u64,
    /// The rollout of the routing; null if no rollout is in progress.
    pub routed: Option<String>,
    /// The state that the judge restores.
    pub memory: MemoryRecord,
}

/// One condition in the summary of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Condition")]
pub struct ConditionRecord {
    /// The name of the condition.
    pub name: String,
    /// Whether it is met.
    pub ok: bool,
    /// A sentence for people.
    pub reason: String,
}

/// The state that the judge restores after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Memory")]
pub struct MemoryRecord {
    /// The model's document.
    pub model_spec: Value,
    /// When the rollout was applied.
    pub applied_at: i64,
    /// The tick at which the stage was entered.
    pub entered_at: Option<i64>,
    /// The newest judged tick at the time of writing.
    pub judged: Option<i64>,
    /// The design of the tests.
    pub design: DesignRecord,
    /// The winner, once the rollout is concluded.
    pub winner: Option<String>,
    /// The newest decisions that labels can still contest.
    #[serde(default)]
    pub decisions: Vec<DecisionRecord>,
    /// Queued rollouts.
    pub queue: Vec<QueuedRecord>,
    /// Past rollouts.
    pub past: Vec<PastRecord>,
    /// The ids of the newest commands.
    pub commands: Vec<String>,
}

/// A queued rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Queued")]
pub struct QueuedRecord {
    /// Its document.
    pub spec: Value,
    /// The command that applied it.
    pub command_id: String,
    /// Who applied it.
    pub by: String,
}

/// A past rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Past")]
pub struct PastRecord {
    /// Its name.
    pub rollout: String,
    /// How it ended.
    pub phase: Phase,
    /// A hash of its document, in hexadecimal.
    pub fingerprint: String,
}

impl Record for StateRecord {
    const NAME: &'static str = "rollout-state";

    fn codec() -> Option<&'static Codec> {
        static CODEC: LazyLock<Codec> =
            LazyLock::new(|| Codec::new(avro_schema::of(&written_by_us::<StateRecord>())));
        Some(&CODEC)
    }
}

impl StateRecord {
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    pub fn encode(&self, format: Format) -> Vec<u8> {
        encode(format, self)
    }

    pub fn key(&self) -> &str {
        &self.model
    }

    /// Returns the phase and the routing as a position record.
    pub fn position(&self) -> PositionRecord {
        PositionRecord {
            phase: self.phase,
            rollout: self.routed.clone(),
            stage: self.stage,
            revision: self.revision,
            stable: self.stable.clone(),
            salt: self.salt.clone(),
            shares: self.shares.clone(),
            shadows: self.shadows.clone(),
            slices: self.slices.clone(),
        }
    }

    /// Converts it to the state of the judge; `parse` reads the documents.
    pub fn model_state(&self, parse: impl Fn(&Value) -> Parsed) -> Result<ModelState, Malformed> {
        let model = model(&parse, &self.memory.model_spec)?;
        let rollout_state = |_: &String| -> Result<RolloutState, Malformed> {
            Ok(RolloutState {
                written: rollout(&parse, &self.spec)?,
                applied_at: Timestamp(self.memory.applied_at),
                entered_at: self.memory.entered_at.map(Timestamp),
                judged: self.memory.judged.map(Timestamp),
                design: (&self.memory.design).into(),
                winner: self.memory.winner.as_deref().map(Into::into),
            })
        };
        let current = self.rollout.as_ref().map(rollout_state).transpose()?;
        let queue = self
            .memory
            .queue
            .iter()
            .map(|q| {
                Ok(Queued {
                    written: rollout(&parse, &q.spec)?,
                    command_id: q.command_id.clone(),
                    by: q.by.clone(),
                })
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        let decisions = self
            .memory
            .decisions
            .iter()
            .map(|d| d.decision(rollout(&parse, &d.spec)?))
            .collect::<Result<Vec<_>, Malformed>>()?;
        Ok(ModelState {
            position: self.position().position(&model.plan)?,
            model,
            rollout: current,
            sequence: self.sequence,
            since: Timestamp(self.since),
            by: self.by.clone(),
            reason: self.reason.clone(),
            conditions: self.conditions.iter().filter_map(condition).collect(),
            decisions,
            queue,
            past: self
                .memory
                .past
                .iter()
                .map(|p| Past {
                    rollout: p.rollout.as_str().into(),
                    phase: p.phase,
                    fingerprint: u64::from_str_radix(&p.fingerprint, 16).unwrap_or(0),
                })
                .collect(),
            commands: self.memory.commands.clone(),
        })
    }
}

impl From<&ModelState> for StateRecord {
    fn from(state: &ModelState) -> Self {
        let position = PositionRecord::from(&state.position);
        let rollout = state.rollout.as_ref();
        let document = rollout.map_or(&state.model.document, |r| &r.written.document);
        let no_design = Design::default();
        Self {
            rollout: rollout.map(|r| r.name().to_string()),
            model: state.model.plan.name.to_string(),
            phase: position.phase,
            stage: position.stage,
            revision: position.revision,
            stable: position.stable,
            salt: position.salt,
            shares: position.shares,
            shadows: position.shadows,
            slices: position.slices,
            spec: document.clone(),
            since: state.since.0,
            by: state.by.clone(),
            reason: state.reason.clone(),
            conditions: state
                .conditions
                .iter()
                .map(|c| ConditionRecord {
                    name: c.name.to_owned(),
                    ok: c.is_ok,
                    reason: c.reason.clone(),
                })
                .collect(),
            sequence: state.sequence,
            routed: position.rollout,
            memory: MemoryRecord {
                model_spec: state.model.document.clone(),
                applied_at: rollout.map_or(state.since, |r| r.applied_at).0,
                entered_at: rollout.and_then(|r| r.entered_at).map(|e| e.0),
                judged: rollout.and_then(|r| r.judged).map(|j| j.0),
                design: rollout.map_or(&no_design, |r| &r.design).into(),
                winner: rollout.and_then(|r| r.winner.as_ref()).map(ToString::to_string),
                decisions: state.decisions.iter().map(Into::into).collect(),
                queue: state
                    .queue
                    .iter()
                    .map(|q| QueuedRecord {
                        spec: q.written.document.clone(),
                        command_id: q.command_id.clone(),
                        by: q.by.clone(),
                    })
                    .collect(),
                past: state
                    .past
                    .iter()
                    .map(|p| PastRecord {
                        rollout: p.rollout.to_string(),
                        phase: p.phase,
                        fingerprint: format!("{:016x}", p.fingerprint),
                    })
                    .collect(),
                commands: state.commands.clone(),
            },
        }
    }
}

/// Skips the conditions of newer builds: they decide nothing, and the next tick writes them again.
fn condition(record: &ConditionRecord) -> Option<Condition> {
    let name = Condition::NAMES.into_iter().find(|n| *n == record.name)?;
    Some(Condition { name, is_ok: record.ok, reason: record.reason.clone() })
}

fn model(
    parse: &impl Fn(&Value) -> Parsed,
    document: &Value,
) -> Result<Written<ModelPlan>, Malformed> {
    match parse(document) {
        Parsed::Model(written) => Ok(*written),
        Parsed::Rollout(_) => {
            Err(Malformed::new("rollout-state", "expected a model, found a rollout"))
        }
        Parsed::Invalid(reason) => Err(Malformed::new("rollout-state", reason)),
    }
}

fn rollout(
    parse: &impl Fn(&Value) -> Parsed,
    document: &Value,
) -> Result<Written<RolloutPlan>, Malformed> {
    match parse(document) {
        Parsed::Rollout(written) => Ok(*written),
        Parsed::Model(_) => {
            Err(Malformed::new("rollout-state", "expected a rollout, found a model"))
        }
        Parsed::Invalid(reason) => Err(Malformed::new("rollout-state", reason)),
    }
}
