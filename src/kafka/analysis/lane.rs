//! One analyst lane: its machine, how far it has read, and where a replay of it would start.

mod restore;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kafka::analysis::inputs::{Arrival, Inputs};
use crate::kafka::lanes::catalog::ModelView;
use crate::kafka::lanes::dead_letters::DeadLetter;
use crate::kafka::lanes::internal_topics;
use crate::kafka::lanes::lane::{JournalRecord, Lane};
use crate::kafka::lanes::replay_window::ReplayWindow;
use crate::wire::checkpoint::CheckpointRecord;
use crate::wire::journal::{AnalystTurn, ReplayStart};
use crate::wire::snapshot::{self, SnapshotError, SnapshotHeader};
use serinus_core::domain::ids::{ModelName, RolloutName};
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::io::{Effect, Event, Input, Settings as LaneSettings};
use serinus_core::engine::analyst::lane::{Analyst, Unplanned};
use serinus_core::engine::analyst::watermark::Checkpoint;
use serinus_core::engine::partial::Partial;
use serinus_core::plan::rollout::ModelPlan;

/// Gauge: cases that wait for their label or for their maturity.
pub const PENDING_CASES: &str = "pending_cases";
/// Gauge: cases that wait for the plan by which they were routed.
pub const UNPLANNED: &str = "cases_without_plan";
/// Shortest interval between two turns that a replay can start at. Keeping every turn would only cost memory.
const STARTS_EVERY: Span = Span::seconds(1);

/// One partition of a model's predictions, with the same partition of its labels by request id.
pub struct AnalystLane {
    /// The model's plan.
    pub plan: Arc<ModelPlan>,
    /// The partition.
    pub partition: i32,
    /// Records for the next turn.
    pub backlog: Vec<Arrival>,
    /// Whether it took a turn since the last commit.
    pub is_touched: bool,
    machine: Analyst,
    known: u64,
    now: Timestamp,
    lag: (u64, u64),
    turn: u64,
    published: u64,
    predictions: i64,
    labels: i64,
    replay_window: ReplayWindow,
    sources: Option<i32>,
    begun: Option<Begun>,
    unread: (i64, i64),
    /// The journal's record of the last turn.
    last: Option<AnalystTurn>,
}

/// The state at the beginning of a turn, for its journal record.
struct Begun {
    checkpoint: Checkpoint,
    lag: (u64, u64),
    sources: Option<i32>,
}

/// The newest partials of a lane, by rollout.
#[derive(Debug, Default)]
pub struct Published {
    /// The partials.
    pub sums: BTreeMap<RolloutName, Partial>,
    /// Whether newer partials were published and are gone.
    pub has_lost_some: bool,
}

impl AnalystLane {
    /// Makes a lane of the model that has read nothing.
    pub fn empty(view: &ModelView, partition: i32, partitions: i32) -> Self {
        let settings = LaneSettings::new(view.plan.name.clone(), partition, partitions);
        let mut machine = Analyst::new(settings);
        for planned in view.rollouts.values() {
            machine.restore_plan(planned.clone());
        }
        Self {
            plan: Arc::clone(&view.plan),
            partition,
            backlog: Vec::new(),
            is_touched: false,
            machine,
            known: view.version,
            now: Timestamp(0),
            lag: (0, 0),
            turn: 0,
            published: 0,
            predictions: 0,
            labels: 0,
            replay_window: ReplayWindow::default(),
            sources: None,
            begun: None,
            unread: (0, 0),
            last: None,
        }
    }

    /// Returns whether records that existed when the lane was restored are still unread.
    pub fn is_behind(&self) -> bool {
        self.predictions < self.unread.0 || self.labels < self.unread.1
    }

    /// Replays a turn of the journal. With `view`, the lane learns new plans in the same turn as it did originally.
    pub fn replay(
        &mut self,
        turn: &AnalystTurn,
        inputs: &mut Inputs,
        view: Option<&ModelView>,
        out: &mut Vec<Effect>,
    ) {
        self.turn = turn.turn;
        self.sources = turn.sources;
        let sources = self.begin(turn.now(), turn.lag);
        if let Some(view) = view {
            self.follow(turn.now(), view, out);
        }
        let Inputs { predictions, labels } = inputs;
        let of_predictions = |a: &mut Arrival| a.offset < turn.predictions;
        while let Some(it) = predictions.pop_front_if(of_predictions) {
            self.backlog.push(it);
        }
        while let Some(it) = labels.pop_front_if(|p| p.offset < turn.labels) {
            self.backlog.push(it);
        }
        self.take(sources, out, &mut Vec::new());
        (self.predictions, self.labels) = (turn.predictions, turn.labels);
        self.end();
    }

    /// Passes changed plans of the model to the machine.
    fn follow(&mut self, now: Timestamp, view: &ModelView, out: &mut Vec<Effect>) {
        if self.known != view.version {
            self.plan = Arc::clone(&view.plan);
            self.known = view.version;
            for planned in view.rollouts.values() {
                self.machine.handle(now, Event::Plan(Box::new(planned.clone())), out);
            }
        }
    }

    /// Begins a turn. Everything that the machine does from here on belongs to it, including its reaction to a new plan.
    fn begin(&mut self, now: Timestamp, lag: (u64, u64)) -> Option<i32> {
        let sources = self.sources.take();
        self.begun = Some(Begun { checkpoint: self.machine.checkpoint(), lag, sources });
        self.lag = lag;
        self.now = now;
        let start = ReplayStart { now, ..self.start_here() };
        if self.replay_window.newest().is_none_or(|newest| now - newest.now >= STARTS_EVERY) {
            self.replay_window.push(start);
        }
        self.machine.turn_is(self.turn);
        sources
    }

    fn take(&mut self, sources: Option<i32>, out: &mut Vec<Effect>, dead: &mut Vec<DeadLetter>) {
        let (now, lag) = (self.now, self.lag);
        if let Some(sources) = sources {
            self.machine.handle(now, Event::Sources(sources), out);
        }
        self.machine.handle(now, Event::Lag { predictions: lag.0, labels: lag.1 }, out);
        // Predictions before labels, each by offset: a replay of the turn must see the same order.
        self.backlog.sort_by_key(|b| (b.input, b.offset));
        for arrival in self.backlog.drain(..) {
            match arrival.input {
                Input::Predictions => self.predictions = arrival.offset + 1,
                Input::Labels => self.labels = arrival.offset + 1,
            }
            dead.extend(arrival.dead);
            self.machine.handle(now, arrival.event, out);
        }
        self.machine.tick(now, out);
        // Partials that a new plan caused belong to this turn, too.
        if out.iter().any(|o| matches!(o, Effect::Partial(_))) {
            self.published = self.turn + 1;
        }
    }

    /// Returns whether the lane took or replayed a turn: only then there is something to save.
    pub fn has_turned(&self) -> bool {
        self.last.is_some()
    }

    /// Returns the number of turns so far.
    pub fn turns(&self) -> u64 {
        self.turn
    }

    /// Returns the header of the lane's snapshot; nothing before its first turn.
    pub fn place(&self) -> Option<SnapshotHeader> {
        Some(SnapshotHeader {
            model: self.plan.name.clone(),
            partition: self.partition,
            last: self.last.clone()?,
            published: self.published,
            starts: self.replay_window.starts().copied().collect(),
        })
    }

    /// Writes the lane's snapshot.
    pub fn write_to(
        &self,
        file: impl std::io::Write,
        place: &SnapshotHeader,
    ) -> Result<u64, SnapshotError> {
        snapshot::write(file, place, &self.machine)
    }

    /// Ends a turn, and shortens the replay window to the newest beginning that a replay can use.
    fn end(&mut self) {
        self.turn += 1;
        let wanted = self.machine.replay_from().unwrap_or(self.turn);
        self.replay_window.drop_before(|s| s.turn <= wanted);
    }

    fn start_here(&self) -> ReplayStart {
        ReplayStart {
            turn: self.turn,
            now: self.now,
            first: self.predictions,
            second: self.labels,
            next: self.turn,
            published: self.published,
            has_gap: false,
        }
    }

    /// Returns how many cases wait for the plan by which they were routed, and the first of them.
    pub fn unplanned(&self) -> Option<(usize, &Unplanned)> {
        self.machine.unplanned()
    }
}

impl Lane for AnalystLane {
    type Effect = Effect;

    fn turn(
        &mut self,
        now: Timestamp,
        view: &ModelView,
        is_behind: bool,
        effects: &mut Vec<Effect>,
        dead: &mut Vec<DeadLetter>,
    ) -> bool {
        let lag = if is_behind || self.is_behind() { (1, 1) } else { (0, 0) };
        let now = now.max(self.now);
        // While records are unread, the passing of time alone changes nothing.
        let has_caught_up = lag != self.lag || self.sources.is_some();
        let is_due =
            has_caught_up || lag == (0, 0) && self.machine.next_wake().is_some_and(|at| at <= now);
        if !is_due && self.backlog.is_empty() && self.known == view.version {
            return false;
        }
        let sources = self.begin(now, lag);
        self.follow(now, view, effects);
        self.take(sources, effects, dead);
        self.is_touched = true;
        true
    }

    fn end_turn(&mut self) -> JournalRecord {
        let begun = self.begun.take().unwrap_or_else(|| Begun {
            checkpoint: self.machine.checkpoint(),
            lag: (0, 0),
            sources: None,
        });
        let record = AnalystTurn {
            turn: self.turn,
            now: self.now.0,
            predictions: self.predictions,
            labels: self.labels,
            lag: begun.lag,
            sources: begun.sources,
            known: Some(self.known),
            checkpoint: CheckpointRecord::from(&begun.checkpoint),
        };
        self.end();
        let written = JournalRecord { now: record.now(), value: record.write() };
        self.last = Some(record);
        written
    }

    fn offsets(&self) -> (i64, i64) {
        (self.predictions, self.labels)
    }

    fn replay_start(&self) -> ReplayStart {
        self.replay_window.replay_start(self.start_here())
    }

    fn next_wake(&self) -> Option<Timestamp> {
        if self.lag == (0, 0) { self.machine.next_wake() } else { None }
    }

    fn inputs(&self, app: &str) -> [Cow<'_, str>; 2] {
        let labels = internal_topics::labels(app, &self.plan.name);
        [Cow::Borrowed(&self.plan.topics.predictions), Cow::Owned(labels)]
    }

    fn journal(app: &str, model: &ModelName) -> String {
        internal_topics::analyst_journal(app, model)
    }

    fn is_touched(&mut self) -> &mut bool {
        &mut self.is_touched
    }

    fn cases(&self) -> usize {
        self.machine.cases()
    }

    fn levels(&self) -> Vec<(&'static str, u64)> {
        let unplanned = self.unplanned().map_or(0, |(cases, _)| cases);
        vec![(PENDING_CASES, self.cases() as u64), (UNPLANNED, unplanned as u64)]
    }
}
