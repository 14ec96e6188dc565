//! The states that the application publishes, as `rollout-state` records, and their text.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::decoded::Decoded;
use crate::cli::error::{CliError, Exit};
use crate::cli::say;
use crate::kafka::client::topic_reader::{Record, TopicReader};
use crate::wire::event::PositionRecord;
use crate::wire::state::{MemoryRecord, StateRecord};
use serinus_core::domain::ids::ModelName;
use serinus_core::engine::judge::event::Phase;
use serinus_core::plan::rollout::ModelPlan;
use serinus_core::spec::plan::{Document, model_from_json, rollout_from_json};

/// The state of one model and of one of its rollouts: as published, or as its events or the model's memory of the past tell it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    /// The model.
    pub(crate) model: String,
    /// The rollout, if there is or was one.
    pub(crate) rollout: Option<String>,
    /// The phase.
    pub(crate) phase: Phase,
    /// The stage and the routing; `None` if only the end of the rollout is known.
    pub(crate) position: Option<PositionRecord>,
    /// The rollout's document, or the model's; null if it is not known.
    pub(crate) spec: Value,
    /// The time of the last change, in Unix milliseconds.
    pub(crate) since: Option<i64>,
    /// The reason for the last change.
    pub(crate) reason: String,
    /// The state that the judge restores after a restart; only a published state has it.
    pub(crate) memory: Option<MemoryRecord>,
    /// The conditions that are not met; only a published state has them.
    pub(crate) unmet: Vec<String>,
    /// The JSON that is printed.
    pub(crate) value: Value,
}

impl State {
    /// Reads the state from a record of the `rollouts` topic; `None` for a tombstone and for a record that cannot be decoded.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let decoded: Decoded<StateRecord> = Decoded::of(record)?;
        let model = record.key_text().unwrap_or(&decoded.record.model).to_owned();
        Some(Self::published(model, decoded))
    }

    /// Returns the state of a model from its published record.
    pub(crate) fn published(model: String, decoded: Decoded<StateRecord>) -> Self {
        let Decoded { record, value } = decoded;
        Self {
            model,
            phase: record.phase,
            position: Some(record.position()),
            rollout: record.rollout,
            spec: record.spec,
            since: Some(record.since),
            reason: record.reason,
            memory: Some(record.memory),
            unmet: record.conditions.into_iter().filter(|c| !c.ok).map(|c| c.name).collect(),
            value,
        }
    }

    /// Returns the rollout's name, if there is or was one.
    pub(crate) fn rollout(&self) -> Option<&str> {
        self.rollout.as_deref()
    }

    /// Returns the routing revision, if it is known.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.position.as_ref().map(|p| p.revision)
    }

    /// Returns how a command that waited for the end of this state's rollout ends; `None` while the rollout is in progress.
    pub(crate) fn ending(&self) -> Option<Exit> {
        if self.phase == Phase::Progressing && self.lacks("approval") {
            return Some(Exit::Paused);
        }
        ending(self.phase)
    }

    /// Returns the exit code that describes the state: of a rollout in progress, whether it is unhealthy, needs a person or has no data.
    pub(crate) fn exit(&self) -> Exit {
        match self.ending() {
            Some(exit) => exit,
            None if self.lacks("split") || self.lacks("label_parity") => Exit::Aborted,
            None if self.lacks("data") => Exit::Inconclusive,
            None => Exit::Reached,
        }
    }

    fn lacks(&self, condition: &str) -> bool {
        self.unmet.iter().any(|unmet| unmet == condition)
    }

    /// Returns the model's plan, if the state has the model's spec.
    pub(crate) fn plan(&self) -> Option<ModelPlan> {
        model_from_json(&self.memory.as_ref()?.model_spec).ok()
    }

    /// Returns the documents of the model: with the version that is stable now, and with the rollout in progress.
    pub(crate) fn documents(&self) -> Vec<Document> {
        let Some(mut plan) = self.plan() else { return Vec::new() };
        if let Some(position) = &self.position {
            plan.stable = position.stable.as_str().into();
        }
        let mut documents = vec![Document::Model(plan, Value::Null)];
        let is_over = match self.phase {
            Phase::Idle | Phase::Promoted | Phase::Aborted | Phase::Inconclusive => true,
            Phase::Pending | Phase::Progressing | Phase::Paused | Phase::Concluded => false,
        };
        if is_rollout(&self.spec) && !is_over {
            let rollout = rollout_from_json(&self.spec).ok();
            documents.extend(rollout.map(|r| Document::Rollout(r, Value::Null)));
        }
        documents
    }

    /// Returns the text of the stage, counted from 1: `stage 2 of 4`.
    pub(crate) fn stage(&self) -> String {
        let stage = self.position.as_ref().map_or(1, |p| u64::from(p.stage) + 1);
        let stages = self.spec.pointer("/spec/stages").and_then(Value::as_array);
        match stages.filter(|_| is_rollout(&self.spec)) {
            Some(stages) => format!("stage {stage} of {}", stages.len()),
            None => format!("stage {stage}"),
        }
    }

    /// Returns the text of the routing: `v1 75% (stable), v2 25%; shadow v3 100%`.
    pub(crate) fn shares(&self) -> String {
        shares(self.position.as_ref())
    }
}

/// Returns how a command that waited for the end of a rollout ends in this phase; `None` while the rollout is in progress.
pub(crate) fn ending(phase: Phase) -> Option<Exit> {
    match phase {
        Phase::Promoted | Phase::Concluded | Phase::Idle => Some(Exit::Reached),
        Phase::Aborted => Some(Exit::Aborted),
        Phase::Inconclusive => Some(Exit::Inconclusive),
        Phase::Paused => Some(Exit::Paused),
        Phase::Pending | Phase::Progressing => None,
    }
}

/// Returns the text of a routing: each version and the share that it serves.
pub(crate) fn shares(position: Option<&PositionRecord>) -> String {
    let said = |shares: &BTreeMap<String, f64>| -> Vec<String> {
        let shares = shares.iter().filter(|(_, share)| **share > 0.0);
        shares.map(|(version, share)| format!("{version} {}", say::percent(*share))).collect()
    };
    let Some(position) = position else { return "stable 100% (stable)".to_owned() };
    let stable = 1.0 - position.shares.values().sum::<f64>();
    let mut serving = vec![format!("{} {} (stable)", position.stable, say::percent(stable))];
    serving.extend(said(&position.shares));
    let copied = said(&position.shadows);
    let serving = serving.join(", ");
    if copied.is_empty() { serving } else { format!("{serving}; shadow {}", copied.join(", ")) }
}

/// Reads the newest state of every model.
pub(crate) fn read_all(context: &Context, reader: &TopicReader) -> Result<Vec<State>, CliError> {
    let mut newest: BTreeMap<String, State> = BTreeMap::new();
    for record in context.read_own(reader, "rollouts")? {
        match State::of(&record) {
            Some(state) => {
                newest.insert(state.model.clone(), state);
            }
            None => {
                newest.remove(record.key_text().unwrap_or_default());
            }
        }
    }
    Ok(newest.into_values().collect())
}

/// Returns the plans of the models that the application knows.
pub(crate) fn plans(states: &[State]) -> BTreeMap<ModelName, ModelPlan> {
    states.iter().filter_map(State::plan).map(|p| (p.name.clone(), p)).collect()
}

/// Returns whether a document is the spec of a rollout.
pub(crate) fn is_rollout(document: &Value) -> bool {
    document.get("kind").is_some_and(|kind| kind == "Rollout")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::cli::error::Exit;
    use crate::cli::fixtures_for_tests as fixtures;
    use crate::cli::state::State;

    fn state(phase: &str) -> State {
        fixtures::state(json!({
            "phase": phase, "stage": 1, "shares": {"v2": 0.25}, "shadows": {"v3": 1.0},
            "spec": {"kind": "Rollout", "spec": {"stages": [{}, {}, {}]}},
        }))
    }

    #[test]
    fn a_state_is_said_as_people_count() {
        let state = state("Progressing");
        assert_eq!(state.stage(), "stage 2 of 3");
        assert_eq!(state.shares(), "v1 75% (stable), v2 25%; shadow v3 100%");
    }

    #[test]
    fn a_phase_ends_a_wait_with_its_exit_code() {
        let check = |phase: &str, expected: Option<Exit>| {
            assert_eq!(state(phase).ending(), expected, "{phase}");
        };
        check("Pending", None);
        check("Progressing", None);
        check("Promoted", Some(Exit::Reached));
        check("Concluded", Some(Exit::Reached));
        check("Aborted", Some(Exit::Aborted));
        check("Paused", Some(Exit::Paused));
        check("Inconclusive", Some(Exit::Inconclusive));
    }
}
