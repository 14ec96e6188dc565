//! One analyst lane in the shell: its machine, how far it has read, and where a replay of it would start.

mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kafka::analysis::inputs::{Arrival, Inputs};
use crate::kafka::lanes::catalog::ModelView;
use crate::kafka::lanes::dead_letters::DeadLetter;
use crate::wire::checkpoint::CheckpointRecord;
use crate::wire::journal::{AnalystTurn, ReplayStart};
use crate::wire::snapshot::{self, SnapshotError, SnapshotHeader};
use serinus_core::domain::ids::RolloutName;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::io::{Effect, Event, Input, Settings as LaneSettings};
use serinus_core::engine::analyst::lane::{Analyst, Unplanned};
use serinus_core::engine::analyst::watermark::Checkpoint;
use serinus_core::engine::partial::Partial;
use serinus_core::plan::rollout::ModelPlan;

/// Replays start at turns that are at least so far apart: one in every turn would only take memory.
const STARTS_EVERY: Span = Span::seconds(1);

/// One partition of a model's predictions, with the same partition of its labels by request id.
pub struct AnalystLane {
    /// The model's plan.
    pub plan: Arc<ModelPlan>,
    /// The partition.
    pub partition: i32,
    /// What waits to be taken in.
    pub backlog: Vec<Arrival>,
    /// Whether something was done since the last commit.
    pub is_touched: bool,
    machine: Analyst,
    known: u64,
    now: Timestamp,
    lag: (u64, u64),
    turn: u64,
    published: u64,
    predictions: i64,
    labels: i64,
    starts: BTreeMap<u64, ReplayStart>,
    sources: Option<i32>,
    begun: Option<Begun>,
    unread: (i64, i64),
    /// The journal's record of the last turn.
    last: Option<AnalystTurn>,
}

/// What the journal says of how a turn began.
struct Begun {
    checkpoint: Checkpoint,
    lag: (u64, u64),
    sources: Option<i32>,
}

/// Where a lane's group has got to.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// The next prediction, and where a replay starts.
    pub predictions: Option<(i64, String)>,
    /// The next label.
    pub labels: Option<(i64, String)>,
    /// Whether that is all; if not, the journal says what came after.
    pub is_certain: bool,
    /// Whether neither offsets nor a journal are left, and only the rows show that the lane has done anything.
    pub is_forgotten: bool,
}

/// The lane's newest sums, by rollout, and whether some are gone that were published.
#[derive(Debug, Default)]
pub struct Published {
    /// The sums.
    pub sums: BTreeMap<RolloutName, Partial>,
    /// Whether newer ones were published that are gone.
    pub has_lost_some: bool,
}

impl AnalystLane {
    /// Makes a lane that has read nothing, of what is known of its model.
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
            starts: BTreeMap::new(),
            sources: None,
            begun: None,
            unread: (0, 0),
            last: None,
        }
    }

    /// Returns whether records that were there when the lane was restored are still unread.
    pub fn is_behind(&self) -> bool {
        self.predictions < self.unread.0 || self.labels < self.unread.1
    }

    /// Does a turn of the journal once more; with `view`, the plans are learnt when they were.
    pub fn again(
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

    /// Learns what has changed in the model's plans.
    fn follow(&mut self, now: Timestamp, view: &ModelView, out: &mut Vec<Effect>) {
        if self.known != view.version {
            self.plan = Arc::clone(&view.plan);
            self.known = view.version;
            for planned in view.rollouts.values() {
                self.machine.handle(now, Event::Plan(Box::new(planned.clone())), out);
            }
        }
    }

    /// Takes in what waits and acts on what is due; returns whether there was anything to do.
    pub fn turn(
        &mut self,
        now: Timestamp,
        view: &ModelView,
        lag: (u64, u64),
        out: &mut Vec<Effect>,
        dead: &mut Vec<DeadLetter>,
    ) -> bool {
        let now = now.max(self.now);
        // While records are still unread, time alone changes nothing.
        let has_caught_up = lag != self.lag || self.sources.is_some();
        let is_due =
            has_caught_up || lag == (0, 0) && self.machine.next_wake().is_some_and(|n| n <= now);
        if !is_due && self.backlog.is_empty() && self.known == view.version {
            return false;
        }
        let sources = self.begin(now, lag);
        self.follow(now, view, out);
        self.take(sources, out, dead);
        self.is_touched = true;
        true
    }

    /// Begins a turn: what the machine does from here on is of this turn, also what it does when it learns of a plan.
    fn begin(&mut self, now: Timestamp, lag: (u64, u64)) -> Option<i32> {
        let sources = self.sources.take();
        self.begun = Some(Begun { checkpoint: self.machine.checkpoint(), lag, sources });
        self.lag = lag;
        self.now = now;
        let start = ReplayStart { now, ..self.start_here() };
        let newest = self.starts.last_key_value().map(|(_, l)| l.now);
        if newest.is_none_or(|n| now - n >= STARTS_EVERY) {
            self.starts.insert(self.turn, start);
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
        // Predictions before labels, each in the order of their offsets, so that a replay of the turn is the same.
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
        // What is published before, when plans are learnt, is of this turn too.
        if out.iter().any(|o| matches!(o, Effect::Partial(_))) {
            self.published = self.turn + 1;
        }
    }

    /// Returns the journal's record of the turn just taken, and counts on.
    pub fn end_turn(&mut self) -> &AnalystTurn {
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
        self.last.insert(record)
    }

    /// Returns whether it has taken a turn, or done one again, since it was made: only then is there anything to save.
    pub fn has_turned(&self) -> bool {
        self.last.is_some()
    }

    /// Returns how many turns were taken.
    pub fn turns(&self) -> u64 {
        self.turn
    }

    /// Returns where the lane stands, for its file; nothing before its first turn.
    pub fn place(&self) -> Option<SnapshotHeader> {
        Some(SnapshotHeader {
            model: self.plan.name.clone(),
            partition: self.partition,
            last: self.last.clone()?,
            published: self.published,
            starts: self.starts.values().copied().collect(),
        })
    }

    /// Writes its file.
    pub fn write_to(
        &self,
        file: impl std::io::Write,
        place: &SnapshotHeader,
    ) -> Result<u64, SnapshotError> {
        snapshot::write(file, place, &self.machine)
    }

    fn end(&mut self) {
        self.turn += 1;
        // Everything before the newest start that a replay could use is not needed any more.
        let wanted = self.machine.replay_from().unwrap_or(self.turn);
        let keep = self.starts.range(..=wanted).next_back().map(|(turn, _)| *turn);
        if let Some(keep) = keep {
            self.starts = self.starts.split_off(&keep);
        }
    }

    /// Returns where a replay of the lane as it is now would start.
    pub fn replay_start(&self) -> ReplayStart {
        let oldest = self.starts.first_key_value().map(|(_, f)| *f);
        let here = self.start_here();
        ReplayStart { next: here.next, published: here.published, ..oldest.unwrap_or(here) }
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

    /// Returns how many cases are held.
    pub fn cases(&self) -> usize {
        self.machine.cases()
    }

    /// Returns how many cases wait for the plan that they were routed by, and the first of them.
    pub fn unplanned(&self) -> Option<(usize, &Unplanned)> {
        self.machine.unplanned()
    }

    /// Returns the next offsets of predictions and labels.
    pub fn offsets(&self) -> (i64, i64) {
        (self.predictions, self.labels)
    }

    /// Returns when something falls due.
    pub fn next_wake(&self) -> Option<Timestamp> {
        if self.lag == (0, 0) { self.machine.next_wake() } else { None }
    }
}
