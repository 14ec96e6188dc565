//! The states that the application publishes, as `rollout-state` records, and how they are said to people.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::context::{Context, value_of};
use crate::cli::error::{CliError, Exit};
use crate::cli::say;
use crate::kafka::client::topic_reader::{Record, TopicReader};
use serinus_core::domain::ids::ModelName;
use serinus_core::plan::rollout::ModelPlan;
use serinus_core::spec::plan::{Document, model_from_json, rollout_from_json};

/// The newest state of one model, and of the rollout that it is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    /// The model.
    pub(crate) model: String,
    /// The record as it stands in the topic.
    pub(crate) record: Value,
}

impl State {
    /// Reads the state out of a record of the `rollouts` topic; nothing out of a tombstone.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let value = value_of(record);
        if !value.is_object() {
            return None;
        }
        let model = record.key_text().or_else(|| value["model"].as_str())?.to_owned();
        Some(Self { model, record: value })
    }

    /// Returns a member of the state.
    pub(crate) fn field(&self, name: &str) -> &Value {
        &self.record[name]
    }

    /// Returns the rollout's name, where there is or was one.
    pub(crate) fn rollout(&self) -> Option<&str> {
        self.field("rollout")
            .as_str()
            .or_else(|| document(self.field("spec"), "Rollout")?["metadata"]["name"].as_str())
    }

    /// Returns the phase's word; a model without a word for it is at rest.
    pub(crate) fn phase(&self) -> &str {
        self.field("phase").as_str().unwrap_or("Idle")
    }

    /// Returns how a command that waited for the end of this state's rollout ends; nothing while it goes on.
    pub(crate) fn ending(&self) -> Option<Exit> {
        match self.phase() {
            "Promoted" | "Concluded" | "Idle" => Some(Exit::Reached),
            "Aborted" => Some(Exit::Aborted),
            "Inconclusive" => Some(Exit::Inconclusive),
            "Paused" => Some(Exit::Paused),
            _ => None,
        }
    }

    /// Returns the model's plan, where its spec travels with the state.
    pub(crate) fn plan(&self) -> Option<ModelPlan> {
        let spec = document(&self.record, "Model")?;
        model_from_json(spec).ok()
    }

    /// Returns the documents of the model as it stands: with the version that is stable now, and with the rollout that goes on.
    pub(crate) fn documents(&self) -> Vec<Document> {
        let Some(mut plan) = self.plan() else { return Vec::new() };
        if let Some(stable) = self.field("stable").as_str() {
            plan.stable = stable.into();
        }
        let mut documents = vec![Document::Model(plan, Value::Null)];
        let is_over = matches!(self.phase(), "Idle" | "Promoted" | "Aborted" | "Inconclusive");
        let spec = document(self.field("spec"), "Rollout").filter(|_| !is_over);
        let rollout = spec.and_then(|s| rollout_from_json(s).ok());
        documents.extend(rollout.map(|r| Document::Rollout(r, Value::Null)));
        documents
    }

    /// Says the stage: `stage 2 of 4`, counted as people count.
    pub(crate) fn stage(&self) -> String {
        let stage = self.field("stage").as_u64().map_or(0, |a| a + 1);
        let stages = document(&self.record, "Rollout")
            .and_then(|r| r["spec"]["stages"].as_array())
            .map(Vec::len);
        match stages {
            Some(stages) => format!("stage {stage} of {stages}"),
            None => format!("stage {stage}"),
        }
    }

    /// Says who serves and who is copied to: `v1 75% (stable), v2 25%; shadow v3 100%`.
    pub(crate) fn shares(&self) -> String {
        shares(&self.record)
    }
}

/// Says who serves which share at a routing, as it stands in states and in events.
pub(crate) fn shares(routing: &Value) -> String {
    let members = |name: &str| -> Vec<(String, f64)> {
        let list = routing[name].as_object().into_iter().flatten();
        list.map(|(version, share)| (version.clone(), share.as_f64().unwrap_or(0.0))).collect()
    };
    let served = members("shares");
    let stable = 1.0 - served.iter().map(|(_, share)| share).sum::<f64>();
    let stable_name = routing["stable"].as_str().unwrap_or("stable");
    let said = |list: &[(String, f64)]| -> Vec<String> {
        let list = list.iter().filter(|(_, share)| *share > 0.0);
        list.map(|(version, share)| format!("{version} {}", say::percent(*share))).collect()
    };
    let mut serving = vec![format!("{stable_name} {} (stable)", say::percent(stable))];
    serving.extend(said(&served));
    let copied = said(&members("shadows"));
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

/// Finds the spec document of a kind in a value, wherever it stands in it.
fn document<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) if members.get("kind").is_some_and(|m| m == kind) => Some(value),
        Value::Object(members) => members.values().find_map(|m| document(m, kind)),
        Value::Array(items) => items.iter().find_map(|k| document(k, kind)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::State;
    use crate::cli::error::Exit;

    fn state(phase: &str) -> State {
        let record = json!({
            "rollout": "flights-v2", "phase": phase, "stage": 1, "revision": 7, "stable": "v1",
            "shares": {"v2": 0.25}, "shadows": {"v3": 1.0},
            "spec": {"kind": "Rollout", "spec": {"stages": [{}, {}, {}]}},
        });
        State { model: "flights".to_owned(), record }
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
