//! What the events say of each model: its plan, its rollouts, and who serves what at every revision.
//!
//! Each event's `to` holds the whole routing, and the events that apply a spec carry it, so the events alone are enough. Events of one
//! model may come in any order; their `sequence` puts them right.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::{info, warn};

use crate::kafka::lanes::spec_document;
use crate::wire::event::EventRecord;
use crate::wire::state::StateRecord;
use serinus_core::domain::ids::{ModelName, Revision, RolloutName};
use serinus_core::domain::routing::Routing;
use serinus_core::engine::analyst::io::Planned;
use serinus_core::engine::judge::command::Parsed;
use serinus_core::engine::judge::event::Action;
use serinus_core::engine::judge::event::Phase;
use serinus_core::evidence::design::Design;
use serinus_core::plan::rollout::{ModelPlan, RolloutPlan};
use serinus_core::spec::plan::{model_from_json, rollout_from_json};

/// How many revisions of a model's routing are kept for replays.
const HISTORY_MAX: usize = 10_000;

/// The number of a model's first event.
const SEQUENCE_FIRST: u64 = 1;

/// What is known of one model.
#[derive(Clone, Debug)]
pub struct ModelView {
    /// Its plan.
    pub plan: Arc<ModelPlan>,
    /// Its routing now.
    pub routing: Arc<Routing>,
    /// Its routing at every revision.
    pub history: BTreeMap<Revision, Arc<Routing>>,
    /// Its rollouts, with what their tests are planned with.
    pub rollouts: BTreeMap<RolloutName, Planned>,
    /// Counts what changed, so that others see that they are behind.
    pub version: u64,
}

/// What the events so far say.
#[derive(Debug, Default)]
pub struct ModelCatalog {
    models: BTreeMap<ModelName, ModelView>,
    expected: BTreeMap<ModelName, u64>,
    early: BTreeMap<(ModelName, u64), Heard>,
}

/// An event with the spec in it, understood.
type Heard = (EventRecord, Option<Parsed>);

impl ModelCatalog {
    /// Returns what is known of all models.
    pub fn models(&self) -> &BTreeMap<ModelName, ModelView> {
        &self.models
    }

    /// Returns what is known of one.
    pub fn model(&self, name: &ModelName) -> Option<&ModelView> {
        self.models.get(name)
    }

    /// Takes an event in; returns whether anything changed.
    pub fn take(&mut self, event: EventRecord) -> bool {
        let spec = event.spec.as_ref().map(spec_document::parse_accepted);
        self.take_understood(event, spec)
    }

    /// Takes an event in whose spec was read already; returns whether anything changed.
    pub fn take_understood(&mut self, event: EventRecord, spec: Option<Parsed>) -> bool {
        let model = ModelName::new(&event.model);
        let expected = *self.expected.entry(model.clone()).or_insert(SEQUENCE_FIRST);
        if event.sequence < expected {
            return false;
        }
        self.early.insert((model.clone(), event.sequence), (event, spec));
        self.go_on(model, expected)
    }

    /// Returns the models whose state speaks of events that were not taken in.
    pub fn are_behind(&self, states: &BTreeMap<ModelName, StateRecord>) -> Vec<ModelName> {
        let expected =
            |model: &ModelName| self.expected.get(model).copied().unwrap_or(SEQUENCE_FIRST);
        let behind = states.iter().filter(|(model, s)| s.sequence >= expected(model));
        behind.map(|(model, _)| model.clone()).collect()
    }

    /// Goes on where the state of a model says, because events before it are gone; those that are there are taken in first.
    pub fn go_on_from(&mut self, model: &ModelName, state: &StateRecord) {
        if !self.follow_state(model, state) {
            return;
        }
        let next = state.sequence + 1;
        let there = self.early.range((model.clone(), 0)..(model.clone(), next));
        let there: Vec<u64> = there.map(|((_, sequence), _)| *sequence).collect();
        warn!(%model, sequence = state.sequence, events = there.len(), "events of a model are gone; its state counts");
        for sequence in there {
            if let Some((event, spec)) = self.early.remove(&(model.clone(), sequence)) {
                self.follow(model, &event, spec);
            }
        }
        self.follow_state(model, state);
        self.go_on(model.clone(), next);
    }

    /// Takes in what a state says; returns whether it could be read.
    fn follow_state(&mut self, model: &ModelName, state: &StateRecord) -> bool {
        let plan = match model_from_json(&state.memory.model_spec) {
            Ok(plan) => Arc::new(plan),
            Err(error) => {
                warn!(%model, %error, "the spec of a model in its state cannot be read");
                return false;
            }
        };
        let routing = match state.position().routing(&plan) {
            Ok(routing) => Arc::new(routing),
            Err(error) => {
                warn!(%model, %error, "the routing in the state of a model cannot be read");
                return false;
            }
        };
        let view = self.models.entry(model.clone()).or_insert_with(|| ModelView {
            plan: Arc::clone(&plan),
            routing: Arc::clone(&routing),
            history: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            version: 0,
        });
        view.plan = plan;
        view.version += 1;
        view.routing = Arc::clone(&routing);
        view.history.insert(routing.revision, Arc::clone(&routing));
        let Some(name) = state.rollout.as_deref().map(RolloutName::new) else { return true };
        match rollout_from_json(&state.spec) {
            Ok(plan) => {
                let stable = view.rollouts.get(&name).map(|n| n.stable.clone());
                let planned = Planned {
                    plan: Arc::new(plan),
                    design: (&state.memory.design).into(),
                    stable: stable.unwrap_or_else(|| routing.stable.clone()),
                    revision: routing.revision,
                    is_live: Phase::from(state.phase).is_open(),
                };
                view.rollouts.insert(name, planned);
            }
            Err(error) => {
                warn!(rollout = %name, %error, "the spec of a rollout in the state of its model cannot be read");
            }
        }
        true
    }

    /// Begins, for each model whose first events are gone, with the first that is there; once all that there was has been taken in.
    pub fn begin_where_it_begins(&mut self) -> bool {
        let mut first = BTreeMap::new();
        for (model, sequence) in self.early.keys() {
            first.entry(model.clone()).or_insert(*sequence);
        }
        let mut changed = false;
        for (model, sequence) in first {
            changed |= self.go_on(model, sequence);
        }
        changed
    }

    fn go_on(&mut self, model: ModelName, expected: u64) -> bool {
        let mut changed = false;
        let mut next = expected;
        while let Some((event, spec)) = self.early.remove(&(model.clone(), next)) {
            changed |= self.follow(&model, &event, spec);
            next += 1;
        }
        self.expected.insert(model, next);
        changed
    }

    fn follow(&mut self, model: &ModelName, event: &EventRecord, spec: Option<Parsed>) -> bool {
        if event.verdict == Action::Conflict {
            return false;
        }
        let (plan, rollout) = match spec {
            Some(Parsed::Model(written)) => (Some(Arc::new(written.plan)), None),
            Some(Parsed::Rollout(written)) => (None, Some(written.plan)),
            Some(Parsed::Invalid(error)) => {
                warn!(%model, sequence = event.sequence, error, "the spec in an event cannot be read");
                (None, None)
            }
            None => (None, None),
        };
        let Some(plan) = plan.or_else(|| self.models.get(model).map(|m| Arc::clone(&m.plan)))
        else {
            warn!(%model, sequence = event.sequence, "an event of a model that was never applied");
            return false;
        };
        let routing = match event.to.routing(&plan) {
            Ok(routing) => Arc::new(routing),
            Err(error) => {
                warn!(%model, sequence = event.sequence, %error, "the routing in an event cannot be read");
                return false;
            }
        };
        let view = self.models.entry(model.clone()).or_insert_with(|| ModelView {
            plan: Arc::clone(&plan),
            routing: Arc::clone(&routing),
            history: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            version: 0,
        });
        view.plan = plan;
        view.version += 1;
        if routing.revision >= view.routing.revision {
            view.routing = Arc::clone(&routing);
        }
        view.history.insert(routing.revision, Arc::clone(&routing));
        while view.history.len() > HISTORY_MAX {
            view.history.pop_first();
        }
        follow_rollout(view, event, rollout, &routing);
        reach(view, &routing);
        info!(%model, revision = routing.revision.0, reason = event.reason, "routing known");
        true
    }
}

/// Keeps what the lanes must know of the event's rollout.
fn follow_rollout(
    view: &mut ModelView,
    event: &EventRecord,
    plan: Option<RolloutPlan>,
    routing: &Routing,
) {
    let Some(name) = event.rollout.as_deref().map(RolloutName::new) else { return };
    let phase = Phase::from(event.to.phase);
    let is_of_another = routing.rollout.as_ref().is_some_and(|r| *r != name);
    if phase == Phase::Pending || is_of_another && phase.is_open() {
        // Which version it is compared with is known only when it begins: that event has its spec too.
        return;
    }
    let design: Option<Design> = event.design.as_ref().map(Into::into);
    if let Some(planned) = view.rollouts.get_mut(&name) {
        planned.revision = planned.revision.max(routing.revision);
        planned.is_live = phase.is_open();
        if let Some(design) = design {
            planned.design = design;
        }
        return;
    }
    let Some(plan) = plan else { return };
    let planned = Planned {
        plan: Arc::new(plan),
        design: design.unwrap_or_default(),
        stable: routing.stable.clone(),
        revision: routing.revision,
        is_live: phase.is_open(),
    };
    view.rollouts.insert(name, planned);
}

/// Notes that all is known of the rollout in routing up to this revision, whatever raised it: applying a model raises it too.
fn reach(view: &mut ModelView, routing: &Routing) {
    let routed = routing.rollout.as_ref().and_then(|name| view.rollouts.get_mut(name));
    if let Some(planned) = routed {
        planned.revision = planned.revision.max(routing.revision);
    }
}
