//! A whole model without Kafka: requests are routed and answered immediately; lanes and judge run on the test's own clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use serinus::kafka::lanes::catalog::ModelCatalog;
use serinus::wire::analysis::AnalysisRecord;
use serinus::wire::event::EventRecord;
use serinus::wire::metrics::MetricsRecord;
use serinus::wire::partial::PartialRecord;
use serinus::wire::state::StateRecord;
use serinus_core::domain::assignment::{self, Route};
use serinus_core::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
use serinus_core::domain::ids::{CaseId, ModelName, RequestId, RolloutName, Version};
use serinus_core::domain::label::Label;
use serinus_core::domain::record::Segments;
use serinus_core::domain::routing::{Role, Routing};
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::io::{
    Effect as LaneEffect, Event as LaneEvent, Row, Settings as LaneSettings,
};
use serinus_core::engine::analyst::lane::Analyst;
use serinus_core::engine::counter::Counter;
use serinus_core::engine::judge::command::{Command, Parsed, Verb, Written};
use serinus_core::engine::judge::event::RolloutEvent;
use serinus_core::engine::judge::io::{Effect, Event, Settings};
use serinus_core::engine::judge::judge::Judge;
use serinus_core::engine::judge::report::RolloutMetrics;
use serinus_core::engine::judge::state::{ModelState, RolloutState};
use serinus_core::engine::partial::Partial;
use serinus_core::inference::input::Detail;
use serinus_core::plan::rollout::{Format, RolloutPlan};
use serinus_core::spec::scalar::parse_duration;

use crate::scenarios::plans::MIDNIGHT;
use crate::wire::schemas::assert_as_published;

/// How one version answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// With this score.
    Score(f64),
    /// With this score, after this many milliseconds.
    After(f64, i64),
    /// With these bytes.
    Raw(String),
    /// With an error.
    Error,
    /// Not at all.
    Nothing,
}

/// A model with its lanes, its judge, and everything they requested.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    /// How far the clocks of the callers are behind.
    pub(crate) behind: Span,
    model: ModelName,
    lanes: Vec<Analyst>,
    offsets: Vec<(i64, i64)>,
    judge: Judge,
    settings: Settings,
    kept: Option<StateRecord>,
    partials: Vec<Partial>,
    requests: i64,
    commands: u32,
    due_labels: BTreeMap<Timestamp, VecDeque<Label>>,
    /// The applied documents, so that they can be read back.
    specs: Vec<Parsed>,
    known: ModelCatalog,
    /// The delay with which lanes learn of events.
    pub(crate) hears_after: Span,
    coming: VecDeque<(Timestamp, EventRecord)>,
    /// The number of cases joined without the plan of their rollout.
    pub(crate) unplanned: u64,
    pub(crate) changes: Vec<RolloutEvent>,
    pub(crate) rows: Vec<Row>,
    pub(crate) report: Option<RolloutMetrics>,
    /// The segment values of the next requests.
    pub(crate) segments: Segments,
}

/// The reason of a command, and the fields that only some verbs have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    pub(crate) reason: String,
    pub(crate) to: Option<Version>,
    pub(crate) by: Option<Span>,
}

impl World {
    pub(crate) fn new(model: &str, partitions: i32) -> Self {
        let settings = Settings {
            model: model.into(),
            labels_topic: format!("serinus.internal.{model}.labels"),
            detail: Detail::Full,
        };
        Self {
            now: MIDNIGHT,
            behind: Span(0),
            model: model.into(),
            lanes: (0..partitions)
                .map(|p| Analyst::new(LaneSettings::new(model.into(), p, partitions)))
                .collect(),
            offsets: vec![(0, 0); usize::try_from(partitions).expect("a few")],
            judge: Judge::new(settings.clone()),
            settings,
            kept: None,
            partials: Vec::new(),
            requests: 0,
            commands: 0,
            due_labels: BTreeMap::new(),
            specs: Vec::new(),
            known: ModelCatalog::default(),
            hears_after: Span::ZERO,
            coming: VecDeque::new(),
            unplanned: 0,
            changes: Vec::new(),
            rows: Vec::new(),
            report: None,
            segments: Arc::default(),
        }
    }

    /// Sends a command like the command line does.
    pub(crate) fn command(
        &mut self,
        verb: Verb,
        rollout: Option<&str>,
        spec: Option<Parsed>,
        expect: Option<u64>,
    ) {
        self.command_with(verb, rollout, spec, expect, Extra::default());
    }

    /// Sends a command with a reason and the fields of its verb.
    pub(crate) fn command_with(
        &mut self,
        verb: Verb,
        rollout: Option<&str>,
        spec: Option<Parsed>,
        expect: Option<u64>,
        extra: Extra,
    ) {
        self.commands += 1;
        self.specs.extend(spec.clone());
        let command = Command {
            id: format!("c{}", self.commands),
            model: self.model.clone(),
            rollout: rollout.map(Into::into),
            verb,
            by: "ann".to_owned(),
            reason: extra.reason,
            expect_revision: expect.map(serinus_core::domain::ids::Revision),
            spec,
            to: extra.to,
            extend_by: extra.by,
        };
        let mut out = Vec::new();
        self.judge.handle(self.now, Event::Command(Box::new(command)), &mut out);
        self.obey(out);
    }

    /// Kills the judge and starts another one from the newest state and the judged partials.
    pub(crate) fn restart_judge(&mut self) {
        let Some(kept) = &self.kept else { return };
        let documents = documents(self.state());
        let state = kept.model_state(documents).expect("a state is whole");
        self.judge = Judge::restore(self.settings.clone(), state);
        for partial in &self.partials {
            self.judge.recall_in_order(partial.clone());
        }
    }

    /// Returns the number of asks per version in the newest sums of all lanes, by rollout.
    pub(crate) fn counted(&self) -> BTreeMap<(RolloutName, Version), u64> {
        let newest: BTreeMap<_, _> =
            self.partials.iter().map(|p| ((p.rollout.clone(), p.partition), p)).collect();
        let mut counted = BTreeMap::new();
        for partial in newest.into_values() {
            for ((_, version, _), tally) in &partial.sums.arms {
                let key = (partial.rollout.clone(), version.clone());
                *counted.entry(key).or_default() += tally.exposures;
            }
        }
        counted
    }

    /// Returns the current routing, once there is a model.
    pub(crate) fn routing(&self) -> &Routing {
        &self.judge.state().expect("a model was applied").position.routing
    }

    pub(crate) fn state(&self) -> &ModelState {
        self.judge.state().expect("a model was applied")
    }

    pub(crate) fn rollout(&self) -> &RolloutState {
        self.state().rollout.as_ref().expect("a rollout was applied")
    }

    /// Routes a unit like the serving lane does.
    pub(crate) fn route(&self, unit: &str) -> Route {
        assignment::route(self.routing(), unit.as_bytes())
    }

    /// Answers a request with `answer` for every asked version, and logs the prediction.
    pub(crate) fn case(&mut self, id: &str, unit: &str, answer: impl Fn(&Version) -> Answer) {
        let route = self.route(unit);
        self.case_by(route, id, unit, answer);
    }

    /// The same for a request on a wrong route.
    pub(crate) fn case_by(
        &mut self,
        route: Route,
        id: &str,
        unit: &str,
        answer: impl Fn(&Version) -> Answer,
    ) {
        let routing = self.routing().clone();
        let stable = routing.stable.clone();
        let asked = std::iter::once((route.serve.version.clone(), Role::Serve))
            .chain(route.shadows.iter().map(|s| (s.clone(), Role::Shadow)));
        let mut answers: Vec<CaseAnswer> =
            asked.map(|(version, role)| answered(&version, role, &answer(&version))).collect();
        let is_failed = answers[0].status != AnswerStatus::Ok;
        let is_candidate = route.serve.version != stable;
        if is_failed && is_candidate {
            answers.push(answered(&stable, Role::Serve, &answer(&stable)));
        }
        let outcome = match (is_failed, is_candidate) {
            (false, _) => Outcome::Ok,
            (true, true) => Outcome::Fallback,
            (true, false) => Outcome::Error,
        };
        self.requests += 1;
        let prediction = Prediction {
            case: CaseId { partition: 0, offset: self.requests },
            request_id: id.into(),
            rollout: routing.rollout.clone(),
            revision: routing.revision,
            stage: routing.stage,
            unit: Some(Arc::from(unit.as_bytes())),
            segments: Arc::clone(&self.segments),
            arm: route.serve.version.clone(),
            propensity: route.serve.propensity,
            served: Some(route.serve.version),
            outcome,
            requested_at: self.now - self.behind,
            routed_at: self.now,
            served_at: self.now,
            answers,
        };
        self.log(prediction);
    }

    /// Appends a prediction to the log.
    pub(crate) fn log(&mut self, prediction: Prediction) {
        let lane = self.lane_of(&prediction.request_id);
        self.offsets[lane].0 += 1;
        let offset = self.offsets[lane].0;
        let event = LaneEvent::Prediction { offset, prediction: Box::new(prediction) };
        self.tell(lane, event);
    }

    /// Sends a label.
    pub(crate) fn label(&mut self, label: Label) {
        let lane = self.lane_of(&label.request_id);
        self.offsets[lane].1 += 1;
        let offset = self.offsets[lane].1;
        self.tell(lane, LaneEvent::Label { offset, source: None, label: Box::new(label) });
    }

    /// Sends a label at its time.
    pub(crate) fn label_later(&mut self, label: Label) {
        self.due_labels.entry(label.observed_at).or_default().push_back(label);
    }

    /// Advances time in steps of a second.
    pub(crate) fn wait_until(&mut self, until: Timestamp) {
        while self.now < until {
            self.now = until.min(self.now + Span::seconds(1));
            while let Some(entry) = self.due_labels.first_entry() {
                if *entry.key() > self.now {
                    break;
                }
                for label in entry.remove() {
                    self.label(label);
                }
            }
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.follow();
        for lane in 0..self.lanes.len() {
            let mut out = Vec::new();
            self.lanes[lane].tick(self.now, &mut out);
            self.hear(out);
        }
        let mut out = Vec::new();
        self.judge.tick(self.now, &mut out);
        self.obey(out);
    }

    fn lane_of(&self, id: &RequestId) -> usize {
        let sum: usize = id.as_str().bytes().map(usize::from).sum();
        sum % self.lanes.len()
    }

    fn tell(&mut self, lane: usize, event: LaneEvent) {
        let mut out = Vec::new();
        self.lanes[lane].handle(self.now, event, &mut out);
        self.hear(out);
    }

    fn hear(&mut self, effects: Vec<LaneEffect>) {
        for effect in effects {
            match effect {
                LaneEffect::Row(row) => {
                    let sent = AnalysisRecord::from(&*row);
                    assert_as_published("analysis", &sent);
                    let read = AnalysisRecord::read(&sent.encode(Format::Avro));
                    assert_eq!(read, Ok(sent), "a row is read back as sent");
                    self.rows.push(*row);
                }
                LaneEffect::Partial(partial) => {
                    let sent = PartialRecord::from(&*partial).write();
                    let read = PartialRecord::read(&sent).and_then(|s| s.partial());
                    assert_eq!(read.as_ref(), Ok(&*partial), "a partial is read back as sent");
                    self.partials.push((*partial).clone());
                    let mut out = Vec::new();
                    self.judge.handle(self.now, Event::Partial(partial), &mut out);
                    self.obey(out);
                }
                LaneEffect::Refuse { reason, .. } => panic!("refused: {reason}"),
                LaneEffect::Count(Counter::PredictionUnplanned, n) => self.unplanned += n,
                LaneEffect::Count(..) => {}
            }
        }
    }

    fn obey(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Event(change) => {
                    let sent = EventRecord::from(&*change);
                    let read = EventRecord::read(&sent.write()).expect("an event can be read");
                    assert_eq!(read, sent, "an event is read back as sent");
                    let read = EventRecord::read(&sent.encode(Format::Avro));
                    assert_eq!(read.as_ref(), Ok(&sent), "an event in Avro");
                    assert_as_published("rollout-event", &sent);
                    self.changes.push(*change);
                    self.coming.push_back((self.now + self.hears_after, sent));
                    self.follow();
                }
                Effect::State(state) => {
                    let sent = StateRecord::from(&*state);
                    let read = StateRecord::read(&sent.write()).expect("a state can be read");
                    assert_eq!(read, sent, "a state is read back as sent");
                    let in_avro = StateRecord::read(&sent.encode(Format::Avro));
                    assert_eq!(in_avro.as_ref(), Ok(&sent), "a state in Avro");
                    assert_as_published("rollout-state", &sent);
                    let documents = documents(&state);
                    let restored = read.model_state(|s| documents(s)).expect("a state is whole");
                    assert_eq!(restored, *state, "nothing of a state is lost");
                    self.kept = Some(read);
                }
                Effect::Metrics(report) => {
                    let sent = MetricsRecord::from(&*report);
                    let read = MetricsRecord::read(&sent.write()).expect("metrics can be read");
                    assert_eq!(read.reason, sent.reason);
                    let read = MetricsRecord::read(&sent.encode(Format::Avro));
                    assert_eq!(read.as_ref(), Ok(&sent), "metrics in Avro");
                    assert_as_published("rollout-metrics", &sent);
                    self.report = Some(*report);
                }
                Effect::Count(..) => {}
            }
        }
    }

    /// Sends the lanes what event followers send them.
    fn follow(&mut self) {
        while let Some((_, event)) = self.coming.pop_front_if(|(at, _)| *at <= self.now) {
            let spec = event.spec.as_ref().map(|document| self.understood(document));
            if !self.known.take_parsed(event, spec) {
                continue;
            }
            let Some(view) = self.known.model(&self.model) else { continue };
            let plans: Vec<_> = view.rollouts.values().cloned().collect();
            for lane in 0..self.lanes.len() {
                for planned in &plans {
                    self.tell(lane, LaneEvent::Plan(Box::new(planned.clone())));
                }
            }
        }
    }

    /// Parses a document like the program does.
    fn understood(&self, document: &Value) -> Parsed {
        let is_it = |spec: &&Parsed| match spec {
            Parsed::Model(it) => it.document == *document,
            Parsed::Rollout(it) => it.document == *document,
            Parsed::Invalid(_) => false,
        };
        if let Some(spec) = self.specs.iter().find(is_it) {
            return spec.clone();
        }
        let changed = self.specs.iter().find_map(|spec| match spec {
            Parsed::Rollout(it) => changed_by_the_judge(it, document),
            Parsed::Model(_) | Parsed::Invalid(_) => None,
        });
        Parsed::Rollout(Box::new(changed.expect("only what was applied is in an event")))
    }
}

/// Returns a rollout with the run and the time to decide of a document, if the document is otherwise that of the rollout.
pub(crate) fn changed_by_the_judge(
    written: &Written<RolloutPlan>,
    document: &Value,
) -> Option<Written<RolloutPlan>> {
    if *document == written.document {
        return Some(written.clone());
    }
    let mut original = document.clone();
    let run = original.get_mut("metadata")?.as_object_mut()?.remove("run");
    let by = original.pointer_mut("/spec/decide")?.as_object_mut()?.remove("by");
    (original == written.document).then(|| {
        let mut written = Written { document: document.clone(), ..written.clone() };
        if let Some(run) = run.and_then(|run| run.as_u64()) {
            let run = u32::try_from(run).expect("a small number");
            written.plan.name = RolloutName::of_run(written.plan.name.as_str(), run);
        }
        if let Some(by) = by.as_ref().and_then(Value::as_str) {
            written.plan.decide.by = parse_duration(by);
        }
        written
    })
}

/// Returns a function that parses the documents of a state into their plans.
fn documents(state: &ModelState) -> impl Fn(&Value) -> Parsed + use<> {
    let model = state.model.clone();
    let rollouts: Vec<_> = state
        .rollout
        .iter()
        .map(|r| &r.written)
        .chain(state.queue.iter().map(|q| &q.written))
        .chain(state.decisions.iter().map(|d| &d.rollout))
        .cloned()
        .collect();
    move |document| {
        if *document == model.document {
            return Parsed::Model(Box::new(model.clone()));
        }
        match rollouts.iter().find(|r| r.document == *document) {
            Some(rollout) => Parsed::Rollout(Box::new(rollout.clone())),
            None => Parsed::Invalid(format!("unknown document {document}")),
        }
    }
}

fn answered(version: &Version, role: Role, answer: &Answer) -> CaseAnswer {
    let said = |text: String, ms: i64| {
        let bytes: Arc<[u8]> = Arc::from(text.into_bytes());
        (AnswerStatus::Ok, Some(Span(ms)), Some(bytes))
    };
    let scored = |score: f64, ms: i64| said(json!({"score": score}).to_string(), ms);
    let (status, latency, value) = match answer {
        Answer::Score(score) => scored(*score, 10),
        Answer::After(score, ms) => scored(*score, *ms),
        Answer::Raw(text) => said(text.clone(), 10),
        Answer::Error => (AnswerStatus::Error, Some(Span(10)), None),
        Answer::Nothing => (AnswerStatus::Timeout, None, None),
    };
    let error = matches!(answer, Answer::Error).then(|| Arc::from("boom"));
    CaseAnswer { version: version.clone(), role, status, latency, value, error }
}
