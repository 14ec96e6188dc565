//! Which rollout or model a person means: `NAME` or `NAME#RUN`, or `MODEL/NAME` where several models have one of this name.
//!
//! The states are searched first: for the rollout in progress or the newest one, for those that wait, and for the model itself. Rollouts
//! that are over or were refused are found in the events, and in the list of past rollouts that each state keeps.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::decoded::Decoded;
use crate::cli::error::CliError;
use crate::cli::state::{self, State};
use crate::kafka::client::topic_reader::{Record, TopicReader};
use crate::wire::event::{EventRecord, PositionRecord};
use serinus_core::domain::ids::RolloutName;
use serinus_core::engine::judge::event::{Action, Phase};

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
    /// The rollout without its run, or the model itself.
    pub(crate) name: String,
    /// The run of the rollout, if it was named; else the newest is meant.
    pub(crate) run: Option<u32>,
}

impl Asked {
    /// Reads `NAME`, `NAME#RUN` or `MODEL/NAME`.
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
        let (name, run) = match name.rsplit_once('#') {
            Some((name, run)) => {
                let number = run.parse().ok().filter(|run| *run > 0);
                let problem = || CliError::Usage(format!("`#{run}` is not the number of a run"));
                (name, Some(number.ok_or_else(problem)?))
            }
            None => (name, None),
        };
        Ok(Self { model: before.or(model).map(str::to_owned), name: name.to_owned(), run })
    }

    /// Returns whether a rollout is meant, by its name with the run.
    pub(crate) fn means(&self, rollout: &str) -> bool {
        let rollout = RolloutName::new(rollout);
        let (name, run) = rollout.parts();
        name == self.name && self.run.is_none_or(|asked| asked == run)
    }

    fn with_run(&self) -> String {
        self.run.map_or_else(|| self.name.clone(), |run| format!("{}#{run}", self.name))
    }

    /// Returns whether a model may be meant.
    pub(crate) fn may_be_of(&self, model: &str) -> bool {
        self.model.as_deref().is_none_or(|m| m == model)
    }

    /// Returns the name as the user wrote it, with the model if it was named.
    pub(crate) fn said(&self) -> String {
        match &self.model {
            Some(model) if *model != self.name => format!("{model}/{}", self.with_run()),
            Some(_) | None => self.with_run(),
        }
    }

    pub(crate) fn not_found(&self, states: &[State]) -> CliError {
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
    /// A rollout that waits for the end of another one.
    Waiting(State),
    /// A rollout that is over, with its last state.
    Over(State),
    /// A rollout that never began, and the reason.
    Refused(String),
}

/// An event without its evidence, which is large.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// The event.
    pub(crate) record: EventRecord,
    /// The JSON of the position after it, which is printed as part of a state.
    to: Value,
}

/// Finds what is meant in the states alone: a model, its rollout, or one that waits.
pub(crate) fn present(states: &[State], asked: &Asked) -> Result<Option<Meant>, CliError> {
    let mut found: BTreeMap<&str, (String, Meant)> = BTreeMap::new();
    for state in states.iter().filter(|s| asked.may_be_of(&s.model)) {
        let full = format!("{}/{}", state.model, asked.name);
        if state.rollout().is_some_and(|rollout| asked.means(rollout)) {
            found.insert(&state.model, (full, Meant::Present(state.clone())));
        } else if queued(state, &asked.name).is_some() {
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

/// Finds what is meant among the rollouts that are over or were refused: in the events, and if those are deleted, in the states' lists of
/// past rollouts.
pub(crate) fn past(
    states: &[State],
    events: &[Event],
    asked: &Asked,
) -> Result<Option<Meant>, CliError> {
    let mut found: BTreeMap<&str, Meant> = BTreeMap::new();
    for state in states.iter().filter(|s| asked.may_be_of(&s.model)) {
        let mut past = state.memory.iter().flat_map(|m| &m.past);
        if let Some(it) = past.rfind(|p| asked.means(&p.rollout)) {
            found.insert(&state.model, Meant::Over(over(&state.model, &it.rollout, it.phase)));
        }
    }
    let mut models: Vec<&str> = events.iter().map(|e| e.record.model.as_str()).collect();
    models.sort_unstable();
    models.dedup();
    for model in models.into_iter().filter(|m| asked.may_be_of(m)) {
        if let Some(meant) = newest_told(events, model, asked) {
            found.insert(model, meant);
        }
    }
    if found.len() > 1 {
        // A refused rollout does not make the name of one that began ambiguous.
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

/// Finds what is meant in the states and in the events.
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
            Ok(newest_told(&events, &state.model, asked).unwrap_or(Meant::Waiting(state)))
        }
        None => {
            let events = events(context, reader, asked)?;
            past(&states, &events, asked)?.ok_or_else(|| asked.not_found(&states))
        }
    }
}

/// Returns the state of the rollout or model, or its last one; a rollout that never began is an error with the reason of its refusal.
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

/// Finds the rollout or model that a command can be sent to; one that is over is an error.
pub(crate) fn steered(states: &[State], asked: &Asked) -> Result<State, CliError> {
    match present(states, asked)? {
        Some(Meant::Present(state) | Meant::Waiting(state)) => Ok(state),
        Some(Meant::Over(_) | Meant::Refused(_)) | None => match past(states, &[], asked)? {
            Some(Meant::Over(state)) => Err(CliError::NotFound(format!(
                "`{}/{}` is over ({})",
                state.model,
                asked.name,
                state.phase.word()
            ))),
            Some(Meant::Present(_) | Meant::Waiting(_) | Meant::Refused(_)) | None => {
                Err(asked.not_found(states))
            }
        },
    }
}

/// Reads the events of the rollouts that may be meant.
pub(crate) fn events(
    context: &Context,
    reader: &TopicReader,
    asked: &Asked,
) -> Result<Vec<Event>, CliError> {
    let records = context.read_own(reader, "rollout-events")?;
    Ok(records.iter().filter_map(|r| event_of(r, asked)).collect())
}

/// Reads an event from a record; `None` if it is not of a rollout that may be meant, or if it cannot be decoded.
pub(crate) fn event_of(record: &Record, asked: &Asked) -> Option<Event> {
    event(Decoded::of(record)?, asked)
}

/// Takes the evidence out of an event; `None` if it is not of a rollout that may be meant.
pub(crate) fn event(decoded: Decoded<EventRecord>, asked: &Asked) -> Option<Event> {
    let Decoded { mut record, mut value } = decoded;
    let is_asked = record.rollout.as_ref().is_some_and(|rollout| asked.means(rollout));
    let is_its = is_asked && asked.may_be_of(&record.model);
    record.evidence = None;
    let to = value.get_mut("to").map(Value::take).unwrap_or_default();
    is_its.then_some(Event { record, to })
}

/// Returns the last state of the newest run that is meant.
pub(crate) fn newest_told(events: &[Event], model: &str, asked: &Asked) -> Option<Meant> {
    let names = events.iter().filter(|e| e.record.model == model);
    let names = names.filter_map(|e| e.record.rollout.as_deref()).filter(|r| asked.means(r));
    let newest = names.max_by_key(|rollout| RolloutName::new(rollout).run())?;
    told(events, model, newest)
}

/// Returns the last state of a rollout that its events tell, in whatever order they are given; `None` if none of them is of it.
pub(crate) fn told(events: &[Event], model: &str, rollout: &str) -> Option<Meant> {
    let is_own =
        |e: &&Event| e.record.model == model && e.record.rollout.as_deref() == Some(rollout);
    let mut own: Vec<&Event> = events.iter().filter(is_own).collect();
    own.sort_by_key(|o| o.record.sequence);
    let mut meant: Option<Meant> = None;
    let (mut applied_by, mut spec) = (None, None);
    for event in own {
        let record = &event.record;
        match record.verdict {
            // Later labels contradict a decision; the state of the rollout does not change.
            Action::Contested => continue,
            Action::Conflict => {
                let is_its_end = match &meant {
                    None | Some(Meant::Refused(_)) => true,
                    Some(Meant::Waiting(_)) => {
                        applied_by.is_some() && record.command_id.as_ref() == applied_by
                    }
                    Some(Meant::Present(_) | Meant::Over(_)) => false,
                };
                if is_its_end {
                    meant = Some(Meant::Refused(record.reason.clone()));
                }
                continue;
            }
            Action::Apply | Action::Retry => {
                applied_by = record.command_id.as_ref();
                spec = record.spec.as_ref().filter(|s| state::is_rollout(s)).or(spec);
            }
            Action::Hold
            | Action::Advance
            | Action::Promote
            | Action::Abort
            | Action::Pause
            | Action::Resume
            | Action::Approve
            | Action::Extend
            | Action::Inconclusive
            | Action::Rollback => {}
        }
        let state = after(event, spec);
        meant = Some(match state.phase {
            Phase::Pending => Meant::Waiting(state),
            Phase::Progressing | Phase::Paused | Phase::Concluded => Meant::Present(state),
            Phase::Idle | Phase::Promoted | Phase::Aborted | Phase::Inconclusive => {
                Meant::Over(state)
            }
        });
    }
    meant
}

/// Returns the state of a rollout after an event.
fn after(event: &Event, spec: Option<&Value>) -> State {
    let record = &event.record;
    let spec = spec.cloned().unwrap_or_default();
    let mut value = event.to.clone();
    value["rollout"] = json!(record.rollout);
    value["model"] = json!(record.model);
    value["since"] = json!(record.at);
    value["by"] = json!(record.actor);
    value["reason"] = json!(record.reason);
    value["sequence"] = json!(record.sequence);
    value["spec"] = spec.clone();
    State {
        model: record.model.clone(),
        rollout: record.rollout.clone(),
        phase: record.to.phase,
        position: Some(record.to.clone()),
        spec,
        since: Some(record.at),
        reason: record.reason.clone(),
        memory: None,
        unmet: Vec::new(),
        value,
    }
}

/// Returns the state of a rollout that is over and whose events are deleted.
fn over(model: &str, rollout: &str, phase: Phase) -> State {
    let reason = "its events are no longer kept";
    State {
        model: model.to_owned(),
        rollout: Some(rollout.to_owned()),
        phase,
        position: None,
        spec: Value::Null,
        since: None,
        reason: reason.to_owned(),
        memory: None,
        unmet: Vec::new(),
        value: json!({"rollout": rollout, "model": model, "phase": phase, "reason": reason}),
    }
}

/// Returns the spec of a rollout that waits at a model.
fn queued<'a>(state: &'a State, rollout: &str) -> Option<&'a Value> {
    let mut queue = state.memory.iter().flat_map(|m| &m.queue).map(|q| &q.spec);
    queue.find(|spec| spec.pointer("/metadata/name").is_some_and(|name| name == rollout))
}

/// Returns the state of a rollout that waits at a model.
fn waiting(state: &State, rollout: &str) -> State {
    let spec = queued(state, rollout).cloned().unwrap_or_default();
    let reason = format!("waits for the end of `{}`", state.rollout().unwrap_or("-"));
    let mut value = state.value.clone();
    value["rollout"] = rollout.into();
    value["phase"] = json!(Phase::Pending);
    value["stage"] = 0.into();
    value["spec"] = spec.clone();
    value["reason"] = reason.as_str().into();
    let position = state.position.clone();
    State {
        rollout: Some(rollout.to_owned()),
        phase: Phase::Pending,
        position: position.map(|p| PositionRecord { phase: Phase::Pending, stage: 0, ..p }),
        spec,
        reason,
        value,
        ..state.clone()
    }
}
