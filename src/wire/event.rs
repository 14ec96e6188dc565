//! The `rollout-event` record: one change, or one refusal, with everything that routing needs.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::avro::Codec;
use crate::wire::avro_schema;
use crate::wire::codec::{Record, encode, read, write};
use crate::wire::design::DesignRecord;
use crate::wire::json_schema::written_by_us;
use crate::wire::malformed::Malformed;
use crate::wire::metrics::MetricsRecord;
use serinus_core::domain::ids::{Revision, Salt, StageIndex};
use serinus_core::domain::routing::{Routing, ShadowShare, Slice};
use serinus_core::domain::share::Share;
use serinus_core::engine::judge::event::{Action, Phase, Position, RolloutEvent};
use serinus_core::plan::rollout::{Format, ModelPlan};

/// A phase with its complete routing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Position")]
pub struct PositionRecord {
    /// The phase.
    pub phase: Phase,
    /// The rollout of the routing; null if no rollout is in progress.
    #[serde(default)]
    pub rollout: Option<String>,
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
    #[serde(default)]
    pub slices: Vec<(String, f64)>,
}

/// One change, or one refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RolloutEvent")]
pub struct EventRecord {
    /// The rollout; null if a model was applied.
    pub rollout: Option<String>,
    /// The model.
    pub model: String,
    /// The sequence number of the event: consecutive per model, from 1.
    pub sequence: u64,
    /// The time of the decision.
    pub at: i64,
    /// The actor: `judge`, or a person.
    pub actor: String,
    /// The command that it answers.
    pub command_id: Option<String>,
    /// The action.
    pub verdict: Action,
    /// The reason.
    pub reason: String,
    /// The position before the event; null for the first event.
    pub from: Option<PositionRecord>,
    /// The position after the event.
    pub to: PositionRecord,
    /// The metrics that support it.
    pub evidence: Option<Box<MetricsRecord>>,
    /// How far the inputs were read: topic, partition and next offset.
    pub positions: Vec<(String, i32, i64)>,
    /// The applied document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Value>,
    /// The design of the tests from this event on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design: Option<DesignRecord>,
}

impl Record for EventRecord {
    const NAME: &'static str = "rollout-event";

    fn codec() -> Option<&'static Codec> {
        static CODEC: LazyLock<Codec> =
            LazyLock::new(|| Codec::new(avro_schema::of(&written_by_us::<EventRecord>())));
        Some(&CODEC)
    }
}

impl EventRecord {
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    pub fn encode(&self, format: Format) -> Vec<u8> {
        encode(format, self)
    }

    /// Returns the record's key: the rollout, or the model if there is none.
    pub fn key(&self) -> &str {
        self.rollout.as_deref().unwrap_or(&self.model)
    }
}

impl From<&RolloutEvent> for EventRecord {
    fn from(event: &RolloutEvent) -> Self {
        Self {
            rollout: event.rollout.as_ref().map(ToString::to_string),
            model: event.model.to_string(),
            sequence: event.sequence,
            at: event.at.0,
            actor: event.actor.clone(),
            command_id: event.command_id.clone(),
            verdict: event.action,
            reason: event.reason.clone(),
            from: event.from.as_ref().map(Into::into),
            to: (&event.to).into(),
            evidence: event.evidence.as_deref().map(|e| Box::new(e.into())),
            positions: event.positions.clone(),
            spec: event.document.clone(),
            design: event.design.as_ref().map(Into::into),
        }
    }
}

impl From<&Position> for PositionRecord {
    fn from(position: &Position) -> Self {
        let routing = &position.routing;
        Self {
            phase: position.phase,
            rollout: routing.rollout.as_ref().map(ToString::to_string),
            stage: routing.stage.0,
            revision: routing.revision.0,
            stable: routing.stable.to_string(),
            salt: routing.salt.to_string(),
            shares: routing
                .slices
                .iter()
                .map(|s| (s.version.to_string(), s.share.fraction()))
                .collect(),
            shadows: routing
                .shadows
                .iter()
                .map(|s| (s.version.to_string(), s.share.fraction()))
                .collect(),
            slices: routing
                .slices
                .iter()
                .map(|s| (s.version.to_string(), s.width.fraction()))
                .collect(),
        }
    }
}

impl PositionRecord {
    /// Converts it to a routing; the model's plan has the parts that do not change with the position.
    pub fn routing(&self, model: &ModelPlan) -> Result<Routing, Malformed> {
        let share = |fraction: f64| {
            Share::from_fraction(fraction)
                .ok_or_else(|| Malformed::new("routing", format!("{fraction} is not a share")))
        };
        let slices = self
            .slices
            .iter()
            .map(|(version, width)| {
                let serves = self.shares.get(version).copied().unwrap_or(0.0);
                Ok(Slice {
                    version: version.as_str().into(),
                    width: share(*width)?,
                    share: share(serves)?,
                })
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        let shadows = self
            .shadows
            .iter()
            .map(|(version, copied)| {
                Ok(ShadowShare { version: version.as_str().into(), share: share(*copied)? })
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        Ok(Routing {
            rollout: self.rollout.as_deref().map(Into::into),
            stage: StageIndex(self.stage),
            salt: Salt::new(&self.salt),
            slices,
            shadows,
            ..model.at_rest(self.stable.as_str().into(), Revision(self.revision))
        })
    }

    pub fn position(&self, model: &ModelPlan) -> Result<Position, Malformed> {
        Ok(Position { phase: self.phase, routing: self.routing(model)? })
    }
}
