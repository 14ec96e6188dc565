//! Which rollout or model a person means: `NAME`, or `MODEL/NAME` where several models have one of this name.
//!
//! What stands in the states comes first: the rollout in progress or the newest, those that wait, the model itself. What is over, or was
//! refused, is known by its events, and by the names that each state keeps of the past.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::{Context, value_of};
use crate::cli::error::CliError;
use crate::cli::state::{self, State};
use crate::kafka::client::topic_reader::TopicReader;

/// How a rollout or model is named on the command line.
#[derive(Clone, Debug, Args)]
pub struct NameArgs {
    /// The rollout or model; MODEL/ROLLOUT where several models have a rollout of this name
    #[arg(value_name = "NAME")]
    name: String,
    /// The model that the rollout is of
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

impl NameArgs {
    /// Returns what is meant; the model may be named in one of two ways.
    pub(crate) fn asked(&self) -> Result<Asked, CliError> {
        Asked::of(&self.name, self.model.as_deref())
    }
}

/// A rollout or model, as far as a person has named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The model, where it was named.
    pub(crate) model: Option<String>,
    /// The rollout, or the model itself.
    pub(crate) name: String,
}

impl Asked {
    /// Reads `NAME` or `MODEL/NAME`.
    pub(crate) fn of(written: &str, model: Option<&str>) -> Result<Self, CliError> {
        let (before, name) = match written.split_once('/') {
            Some((before, name)) => (Some(before), name),
            None => (None, written),
        };
        if let (Some(before), Some(model)) = (before, model)
            && before != model
        {
            let problem = format!("`{written}` is of model `{before}`, and --model is `{model}`");
            return Err(CliError::Usage(problem));
        }
        Ok(Self { model: before.or(model).map(str::to_owned), name: name.to_owned() })
    }

    /// Returns whether a model may be meant.
    pub(crate) fn may_be_of(&self, model: &str) -> bool {
        self.model.as_deref().is_none_or(|m| m == model)
    }

    /// Writes it as it was requested.
    pub(crate) fn said(&self) -> String {
        match &self.model {
            Some(model) if *model != self.name => format!("{model}/{}", self.name),
            Some(_) | None => self.name.clone(),
        }
    }

    fn not_found(&self, states: &[State]) -> CliError {
        let mut known: Vec<String> = states
            .iter()
            .flat_map(|s| s.rollout().map(str::to_owned).into_iter().chain([s.model.clone()]))
            .collect();
        known.sort();
        known.dedup();
        let known = if known.is_empty() {
            "there is none yet".to_owned()
        } else {
            format!("there are {}", known.join(", "))
        };
        CliError::NotFound(format!("there is no rollout or model `{}`; {known}", self.said()))
    }

    fn several(&self, models: &BTreeMap<&str, String>) -> CliError {
        let all: Vec<String> = models.values().map(|m| format!("`{m}`")).collect();
        CliError::Usage(format!(
            "`{}` is ambiguous: there are {}; say which, or give --model",
            self.name,
            all.join(" and ")
        ))
    }
}

/// What a name turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meant {
    /// A model, or the rollout that its state is about.
    Present(State),
    /// A rollout that waits for the end of another, as it is known of its events.
    Waiting(State),
    /// A rollout that is over, as it stood at its end.
    Over(State),
    /// A rollout that never began, and why.
    Refused(String),
}

/// Finds what is meant in the states alone: a model, its rollout, or one that waits.
pub(crate) fn present(states: &[State], asked: &Asked) -> Result<Option<Meant>, CliError> {
    let mut found: BTreeMap<&str, (String, Meant)> = BTreeMap::new();
    for state in states.iter().filter(|s| asked.may_be_of(&s.model)) {
        let full = format!("{}/{}", state.model, asked.name);
        if state.rollout() == Some(&asked.name) {
            found.insert(&state.model, (full, Meant::Present(state.clone())));
        } else if waits(state, &asked.name) {
            found.insert(&state.model, (full, Meant::Waiting(waiting(state, &asked.name))));
        } else if state.model == asked.name {
            let said = state.rollout().map_or_else(
                || format!("--model {0} {0}", state.model),
                |rollout| format!("{}/{rollout}", state.model),
            );
            found.insert(&state.model, (said, Meant::Present(state.clone())));
        }
    }
    if found.len() > 1 {
        let said = found.into_iter().map(|(model, (said, _))| (model, said)).collect();
        return Err(asked.several(&said));
    }
    Ok(found.into_values().next().map(|(_, meant)| meant))
}

/// Finds what is meant among what is over or was refused: in the events, and where they are gone, in what the states keep of the past.
pub(crate) fn past(
    states: &[State],
    events: &[Value],
    asked: &Asked,
) -> Result<Option<Meant>, CliError> {
    let mut found: BTreeMap<&str, Meant> = BTreeMap::new();
    for state in states.iter().filter(|s| asked.may_be_of(&s.model)) {
        let mut past = state.field("memory")["past"].as_array().into_iter().flatten();
        if let Some(it) = past.find(|p| p["rollout"] == *asked.name) {
            let reason = "its events are no longer kept";
            let record = json!({"rollout": asked.name, "model": state.model, "phase": it["phase"], "reason": reason});
            found.insert(&state.model, Meant::Over(State { model: state.model.clone(), record }));
        }
    }
    let mut models: Vec<&str> = events.iter().filter_map(|e| e["model"].as_str()).collect();
    models.sort_unstable();
    models.dedup();
    for model in models.into_iter().filter(|m| asked.may_be_of(m)) {
        if let Some(meant) = told(events, model, &asked.name) {
            found.insert(model, meant);
        }
    }
    if found.len() > 1 {
        // A name that was only refused somewhere does not hide a rollout that there was.
        let refused = |m: &Meant| matches!(m, Meant::Refused(_));
        if !found.values().all(refused) {
            found.retain(|_, f| !refused(f));
        }
    }
    if found.len() > 1 {
        let name = &asked.name;
        let said = found.keys().map(|model| (*model, format!("{model}/{name}"))).collect();
        return Err(asked.several(&said));
    }
    Ok(found.into_values().next())
}

/// Finds what is meant, wherever it is known of.
pub(crate) fn find(
    context: &Context,
    reader: &TopicReader,
    asked: &Asked,
) -> Result<Meant, CliError> {
    let states = state::read_all(context, reader)?;
    match present(&states, asked)? {
        Some(meant @ (Meant::Present(_) | Meant::Over(_) | Meant::Refused(_))) => Ok(meant),
        Some(Meant::Waiting(state)) => {
            let events = events(context, reader, asked)?;
            Ok(told(&events, &state.model, &asked.name).unwrap_or(Meant::Waiting(state)))
        }
        None => {
            let events = events(context, reader, asked)?;
            past(&states, &events, asked)?.ok_or_else(|| asked.not_found(&states))
        }
    }
}

/// Finds where the rollout or model stands, or stood last; one that never began is an error with the words of its refusal.
pub(crate) fn standing(
    context: &Context,
    reader: &TopicReader,
    asked: &Asked,
) -> Result<State, CliError> {
    match find(context, reader, asked)? {
        Meant::Present(state) | Meant::Waiting(state) | Meant::Over(state) => Ok(state),
        Meant::Refused(reason) => Err(CliError::Refused(reason)),
    }
}

/// Finds what a command can be sent to: what is over is not among it.
pub(crate) fn steered(states: &[State], asked: &Asked) -> Result<State, CliError> {
    match present(states, asked)? {
        Some(Meant::Present(state) | Meant::Waiting(state)) => Ok(state),
        Some(Meant::Over(_) | Meant::Refused(_)) | None => match past(states, &[], asked)? {
            Some(Meant::Over(state)) => Err(CliError::NotFound(format!(
                "`{}/{}` is over ({})",
                state.model,
                asked.name,
                state.phase()
            ))),
            Some(Meant::Present(_) | Meant::Waiting(_) | Meant::Refused(_)) | None => {
                Err(asked.not_found(states))
            }
        },
    }
}

/// Reads the events of the rollouts that may be meant, without the evidence in them.
pub(crate) fn events(
    context: &Context,
    reader: &TopicReader,
    asked: &Asked,
) -> Result<Vec<Value>, CliError> {
    let records = context.read_own(reader, "rollout-events")?;
    Ok(records.iter().filter_map(|r| event_of(&value_of(r), asked)).collect())
}

/// Returns what is kept of an event, where it is of a rollout that may be meant.
pub(crate) fn event_of(event: &Value, asked: &Asked) -> Option<Value> {
    let is_its = event["rollout"] == *asked.name && asked.may_be_of(event["model"].as_str()?);
    if !is_its {
        return None;
    }
    let mut event = event.clone();
    event.as_object_mut()?.remove("evidence");
    Some(event)
}

/// Returns where a rollout stood when it was last heard of, by its events in whatever order; nothing where none is of it.
pub(crate) fn told(events: &[Value], model: &str, rollout: &str) -> Option<Meant> {
    let mut own: Vec<&Value> =
        events.iter().filter(|e| e["model"] == *model && e["rollout"] == *rollout).collect();
    own.sort_by_key(|o| o["sequence"].as_u64());
    let mut meant: Option<Meant> = None;
    let (mut applied_by, mut spec) = (&Value::Null, &Value::Null);
    for event in own {
        match event["verdict"].as_str() {
            // Labels that came later speak against a decision; where the rollout stands is as before.
            Some("contested") => continue,
            Some("conflict") => {
                let is_its_end = match &meant {
                    None | Some(Meant::Refused(_)) => true,
                    Some(Meant::Waiting(_)) => {
                        !applied_by.is_null() && event["command_id"] == *applied_by
                    }
                    Some(Meant::Present(_) | Meant::Over(_)) => false,
                };
                if is_its_end {
                    meant = Some(Meant::Refused(words(event)));
                }
                continue;
            }
            Some("apply") => {
                applied_by = &event["command_id"];
                if event["spec"]["kind"] == "Rollout" {
                    spec = &event["spec"];
                }
            }
            Some(_) | None => {}
        }
        let state = State { model: model.to_owned(), record: record(event, spec) };
        meant = Some(match state.phase() {
            "Pending" => Meant::Waiting(state),
            "Progressing" | "Paused" | "Concluded" => Meant::Present(state),
            _ => Meant::Over(state),
        });
    }
    meant
}

/// Writes where a rollout stood after an event as a state is written.
fn record(event: &Value, spec: &Value) -> Value {
    let mut record = event["to"].clone();
    if !record.is_object() {
        record = json!({});
    }
    record["rollout"] = event["rollout"].clone();
    record["model"] = event["model"].clone();
    record["since"] = event["at"].clone();
    record["by"] = event["actor"].clone();
    record["reason"] = event["reason"].clone();
    record["sequence"] = event["sequence"].clone();
    record["spec"] = spec.clone();
    record
}

fn words(event: &Value) -> String {
    event["reason"].as_str().unwrap_or("no reason was given").to_owned()
}

/// Returns the spec of each rollout that waits at a model.
fn queue(state: &State) -> impl Iterator<Item = &Value> {
    let queue = state.field("memory")["queue"].as_array();
    queue.into_iter().flatten().map(|q| &q["spec"])
}

fn waits(state: &State, rollout: &str) -> bool {
    queue(state).any(|s| s["metadata"]["name"] == *rollout)
}

fn waiting(state: &State, rollout: &str) -> State {
    let spec = queue(state).find(|s| s["metadata"]["name"] == *rollout);
    let mut record = state.record.clone();
    record["rollout"] = rollout.into();
    record["phase"] = "Pending".into();
    record["stage"] = 0.into();
    record["spec"] = spec.cloned().unwrap_or_default();
    record["reason"] = format!("waits for the end of `{}`", state.rollout().unwrap_or("-")).into();
    State { model: state.model.clone(), record }
}
