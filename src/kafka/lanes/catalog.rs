//! The catalog of models, built from rollout events: each model's plan, its rollouts, and its routing at every revision.
//!
//! The `to` of an event is a complete routing, and an event that applies a spec carries the spec, so the events alone are enough. The
//! events of one model may arrive in any order; the catalog applies them by `sequence`.

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

/// Number of revisions of a model's routing that are kept for replays.
const HISTORY_MAX: usize = 10_000;

/// The sequence number of a model's first event.
const SEQUENCE_FIRST: u64 = 1;

/// A model as the events describe it.
#[derive(Clone, Debug)]
pub struct ModelView {
    /// Its plan.
    pub plan: Arc<ModelPlan>,
    /// Its current routing.
    pub routing: Arc<Routing>,
    /// Its routing at every revision.
    pub history: BTreeMap<Revision, Arc<Routing>>,
    /// Its rollouts, each with the design that its tests were planned with.
    pub rollouts: BTreeMap<RolloutName, Planned>,
    /// Number of changes so far, by which lanes detect that they are behind.
    pub version: u64,
}

/// All models, as far as their events were applied.
#[derive(Debug, Default)]
pub struct ModelCatalog {
    models: BTreeMap<ModelName, ModelView>,
    /// The sequence of each model's next event.
    expected: BTreeMap<ModelName, u64>,
    /// Events whose predecessors have not arrived yet, by sequence.
    early: BTreeMap<(ModelName, u64), ParsedEvent>,
}

/// An event, with its spec parsed.
type ParsedEvent = (EventRecord, Option<Parsed>);

impl ModelCatalog {
    /// Returns all models.
    pub fn models(&self) -> &BTreeMap<ModelName, ModelView> {
        &self.models
    }

    /// Returns one model.
    pub fn model(&self, name: &ModelName) -> Option<&ModelView> {
        self.models.get(name)
    }

    /// Adds an event; returns whether anything changed.
    pub fn take(&mut self, event: EventRecord) -> bool {
        let spec = event.spec.as_ref().map(spec_document::parse_accepted);
        self.take_parsed(event, spec)
    }

    /// Adds an event whose spec is parsed already; returns whether anything changed.
    pub fn take_parsed(&mut self, event: EventRecord, spec: Option<Parsed>) -> bool {
        let model = ModelName::new(&event.model);
        let expected = *self.expected.entry(model.clone()).or_insert(SEQUENCE_FIRST);
        if event.sequence < expected {
            return false;
        }
        self.early.insert((model.clone(), event.sequence), (event, spec));
        self.apply_from(model, expected)
    }

    /// Returns the models whose state record is newer than the events that were applied.
    pub fn are_behind(&self, states: &BTreeMap<ModelName, StateRecord>) -> Vec<ModelName> {
        let expected =
            |model: &ModelName| self.expected.get(model).copied().unwrap_or(SEQUENCE_FIRST);
        let behind = states.iter().filter(|(model, s)| s.sequence >= expected(model));
        behind.map(|(model, _)| model.clone()).collect()
    }

    /// Continues from a model's state record because earlier events are gone. Events that are still there are applied first.
    pub fn continue_from(&mut self, model: &ModelName, state: &StateRecord) {
        if !self.apply_state(model, state) {
            return;
        }
        let next = state.sequence + 1;
        let there = self.early.range((model.clone(), 0)..(model.clone(), next));
        let there: Vec<u64> = there.map(|((_, sequence), _)| *sequence).collect();
        warn!(%model, sequence = state.sequence, events = there.len(), "events of a model are gone; continuing from its state record");
        for sequence in there {
            if let Some((event, spec)) = self.early.remove(&(model.clone(), sequence)) {
                self.follow(model, &event, spec);
            }
        }
        self.apply_state(model, state);
        self.apply_from(model.clone(), next);
    }

    /// Applies a state record; returns whether it could be parsed.
    fn apply_state(&mut self, model: &ModelName, state: &StateRecord) -> bool {
        let plan = match model_from_json(&state.memory.model_spec) {
            Ok(plan) => Arc::new(plan),
            Err(error) => {
                warn!(%model, %error, "state record of a model ignored: its spec cannot be parsed");
                return false;
            }
        };
        let routing = match state.position().routing(&plan) {
            Ok(routing) => Arc::new(routing),
            Err(error) => {
                warn!(%model, %error, "state record of a model ignored: its routing cannot be parsed");
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
                    is_live: state.phase.is_open(),
                };
                view.rollouts.insert(name, planned);
            }
            Err(error) => {
                warn!(rollout = %name, %error, "rollout in a state record ignored: its spec cannot be parsed");
            }
        }
        true
    }

    /// Starts each model whose first events are gone at its oldest event. Call it once the whole topic was read.
    pub fn start_at_oldest_events(&mut self) -> bool {
        let mut first = BTreeMap::new();
        for (model, sequence) in self.early.keys() {
            first.entry(model.clone()).or_insert(*sequence);
        }
        let mut changed = false;
        for (model, sequence) in first {
            changed |= self.apply_from(model, sequence);
        }
        changed
    }

    fn apply_from(&mut self, model: ModelName, expected: u64) -> bool {
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
                warn!(%model, sequence = event.sequence, error, "spec of an event ignored: it cannot be parsed");
                (None, None)
            }
            None => (None, None),
        };
        let Some(plan) = plan.or_else(|| self.models.get(model).map(|m| Arc::clone(&m.plan)))
        else {
            warn!(%model, sequence = event.sequence, "event ignored: its model was never applied");
            return false;
        };
        let routing = match event.to.routing(&plan) {
            Ok(routing) => Arc::new(routing),
            Err(error) => {
                warn!(%model, sequence = event.sequence, %error, "event ignored: its routing cannot be parsed");
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
        raise_revision(view, &routing);
        info!(%model, revision = routing.revision.0, reason = event.reason, "routing updated");
        true
    }
}

/// Updates the event's rollout.
fn follow_rollout(
    view: &mut ModelView,
    event: &EventRecord,
    plan: Option<RolloutPlan>,
    routing: &Routing,
) {
    let Some(name) = event.rollout.as_deref().map(RolloutName::new) else { return };
    let phase = event.to.phase;
    let is_of_another = routing.rollout.as_ref().is_some_and(|r| *r != name);
    if phase == Phase::Pending || is_of_another && phase.is_open() {
        // The version that it is compared with is known only once it starts, and that event carries the spec, too.
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

/// Raises the revision of the rollout in routing, whatever raised it: applying a model does so, too.
fn raise_revision(view: &mut ModelView, routing: &Routing) {
    let routed = routing.rollout.as_ref().and_then(|name| view.rollouts.get_mut(name));
    if let Some(planned) = routed {
        planned.revision = planned.revision.max(routing.revision);
    }
}
