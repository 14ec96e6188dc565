//! One serving lane: its machine with the open cases and their deadlines, how far it has read, and where a replay would start.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use rdkafka::message::Message;
use tracing::info;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::lanes::catalog::ModelView;
use crate::kafka::lanes::dead_letters::DeadLetter;
use crate::kafka::lanes::decode;
use crate::kafka::lanes::internal_topics;
use crate::kafka::lanes::lane::{JournalRecord, Lane, LaneOffsets};
use crate::kafka::lanes::replay_window::ReplayWindow;
use crate::kafka::serving::case_recovery::{self, Gap, reopen};
use crate::kafka::serving::offset_recovery::{Recalled, hash_of};
use crate::wire::journal::{ReplayStart, ServingTurn};
use serinus_core::domain::ids::{ModelName, Revision};
use serinus_core::domain::record::{Answer, Request};
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::serving::{Forward, ServingEffect, ServingLane, Turn};
use serinus_core::plan::rollout::ModelPlan;

/// Gauge: cases whose request has no served answer yet.
pub const OPEN_CASES: &str = "open_cases";

/// Records for the lane's next turn.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Requests.
    pub requests: VecDeque<Arc<Request>>,
    /// Answers, with their offsets.
    pub answers: Vec<(i64, Result<Answer, DeadLetter>)>,
}

/// One partition of a model's requests, with the same partition of its answers.
pub struct ServingPartition {
    /// The model's plan.
    pub plan: Arc<ModelPlan>,
    /// The partition.
    pub partition: i32,
    /// Records for the next turn.
    pub backlog: Backlog,
    /// Whether reading of requests is paused because the lane is full.
    pub is_paused: bool,
    /// Whether it took a turn since the last commit.
    pub is_touched: bool,
    machine: ServingLane,
    record_bytes_max: usize,
    now: Timestamp,
    turn: u64,
    open: usize,
    requests: i64,
    responses: i64,
    replay_window: ReplayWindow,
    /// Effects of reopened cases, for the next turn.
    effects: Vec<ServingEffect>,
    /// A hash of the last request of the turn.
    last: Option<u64>,
}

/// Returns the longest time that a case may be open.
fn case_duration_max(view: &ModelView) -> Span {
    let routings = view.history.values().chain([&view.routing]);
    let spans = routings.map(|r| r.timeout.max(r.shadow_timeout));
    spans.max().unwrap_or(Span::ZERO)
}

impl ServingPartition {
    /// Rebuilds the lane at the committed offsets: the same turns over the same inputs, with their effects dropped.
    pub fn restore(
        view: &ModelView,
        (partition, record_bytes_max): (i32, usize),
        (committed, recalled): (&LaneOffsets, Option<Recalled>),
        journal: &str,
        replay: &PartitionReader,
    ) -> Result<Self, ShellError> {
        let plan = Arc::clone(&view.plan);
        let routing = Arc::clone(&view.routing);
        let mut lane = Self {
            machine: ServingLane::new(partition, plan.open_cases_max, routing)
                .bounded(record_bytes_max),
            record_bytes_max,
            plan,
            partition,
            backlog: Backlog::default(),
            is_paused: false,
            is_touched: !committed.is_certain || recalled.is_some(),
            now: Timestamp(0),
            turn: 0,
            open: 0,
            requests: committed.first.as_ref().map_or(0, |r| r.0),
            responses: committed.second.as_ref().map_or(0, |r| r.0),
            replay_window: ReplayWindow::default(),
            effects: Vec::new(),
            last: None,
        };
        if let Some(recalled) = recalled {
            lane.resume_from_journal(view, recalled, committed, replay)?;
            return Ok(lane);
        }
        let mut start = committed.first.as_ref().and_then(|r| ReplayStart::from_metadata(&r.1));
        if !committed.is_certain {
            let known = start.get_or_insert_default();
            if let Some(it) = replay.newest(journal, partition, *known, read_turn)? {
                known.next = it.turn + 1;
                (lane.requests, lane.responses) = (it.requests, it.responses);
            }
        }
        if let Some(start) = start {
            lane.turn = start.next;
            lane.now = start.now;
            if committed.second.is_none() && committed.is_certain {
                // Answers are read again, which changes nothing.
                lane.responses = start.second;
            }
            if start.turn < start.next {
                lane.replay_journal(view, start, journal, replay)?;
            }
        }
        Ok(lane)
    }

    /// Resumes at the end of the journal. Without our offsets, the oldest open case is unknown.
    fn resume_from_journal(
        &mut self,
        view: &ModelView,
        recalled: Recalled,
        committed: &LaneOffsets,
        replay: &PartitionReader,
    ) -> Result<(), ShellError> {
        (self.turn, self.now) = (recalled.turn, recalled.now);
        if committed.second.is_none() {
            let (_, end) = replay.bounds(&self.plan.topics.responses, self.partition)?;
            self.responses = if recalled.responses <= end { recalled.responses } else { 0 };
        }
        let Some(requests) = recalled.requests else { return Ok(()) };
        self.requests = requests;
        let gap = Gap {
            first: None,
            next: requests,
            since: recalled.now - case_duration_max(view),
            answers_from: None,
            answers_to: self.responses,
        };
        self.reopen_gap(view, gap, replay)
    }

    /// Reopens the open cases of a range that the journal does not cover.
    fn reopen_gap(
        &mut self,
        view: &ModelView,
        gap: Gap,
        replay: &PartitionReader,
    ) -> Result<(), ShellError> {
        let reopened = reopen(view, (self.partition, &mut self.machine), gap, replay)?;
        self.effects = reopened.effects;
        self.replay_window.clear();
        if let Some(first) = reopened.oldest {
            self.replay_window.push(ReplayStart {
                now: gap.since,
                first,
                second: gap.answers_from.unwrap_or(0),
                turn: 0,
                has_gap: true,
                ..self.start_here()
            });
        }
        Ok(())
    }

    /// Replays the turns since the oldest open case, or reopens its cases if the journal lacks turns.
    fn replay_journal(
        &mut self,
        view: &ModelView,
        start: ReplayStart,
        journal: &str,
        replay: &PartitionReader,
    ) -> Result<(), ShellError> {
        let partition = self.partition;
        // Turns of an aborted transaction are not in the journal: only committed ones are.
        let turns = replay.turns(journal, partition, start, read_turn)?;
        let is_whole = turns.first().is_some_and(|t| t.turn == start.turn)
            && turns
                .last()
                .is_some_and(|t| (t.turn + 1, t.requests) == (start.next, self.requests));
        let is_known = turns.iter().all(|t| view.history.contains_key(&t.revision()));
        if start.has_gap || !is_whole || !is_known {
            let gap = Gap {
                first: Some(start.first),
                next: self.requests,
                since: start.now,
                answers_from: (start.second > 0).then_some(start.second),
                answers_to: self.responses,
            };
            return self.reopen_gap(view, gap, replay);
        }
        if let Some(last) = turns.last() {
            self.responses = last.responses;
        }
        let mut requests = VecDeque::new();
        replay.range(
            &self.plan.topics.requests,
            partition,
            start.first,
            Some(self.requests),
            |r| {
                requests.push_back(Arc::new(decode::request(r, &self.plan)));
            },
        )?;
        let mut answers = VecDeque::new();
        replay.range(
            &self.plan.topics.responses,
            partition,
            start.second,
            Some(self.responses),
            |r| {
                answers.push_back((r.offset(), decode::answer(r)));
            },
        )?;
        let forwards = self.replay_turns(view, start, &turns, requests, answers);
        self.effects = case_recovery::not_sent(view, partition, forwards, start.now, replay)?;
        info!(model = %self.plan.name, partition, turns = turns.len(), open = self.machine.open_cases(), "lane restored");
        Ok(())
    }

    /// Replays turns; returns the copies whose answers are still awaited.
    fn replay_turns(
        &mut self,
        view: &ModelView,
        start: ReplayStart,
        turns: &[ServingTurn],
        mut requests: VecDeque<Arc<Request>>,
        mut answers: VecDeque<(i64, Result<Answer, DeadLetter>)>,
    ) -> Vec<Forward> {
        (self.requests, self.responses) = (start.first, start.second);
        let first = turns.first().and_then(|t| view.history.get(&t.revision()));
        self.machine = ServingLane::new(
            self.partition,
            self.plan.open_cases_max,
            Arc::clone(first.unwrap_or(&view.routing)),
        )
        .bounded(self.record_bytes_max);
        let (mut dropped, mut forwards) = (Vec::new(), Vec::new());
        for it in turns {
            let mut turn = Turn {
                routing: view.history.get(&it.revision()).map(Arc::clone),
                open: Some(it.open),
                ..Turn::default()
            };
            while let Some(request) =
                requests.pop_front_if(|request| request.case.offset < it.requests)
            {
                turn.requests.push(request);
            }
            while let Some((_, answer)) = answers.pop_front_if(|(offset, _)| *offset < it.responses)
            {
                turn.answers.extend(answer.ok());
            }
            self.begin(it.turn, it.now());
            self.machine.turn(it.now(), turn, &mut dropped);
            forwards.extend(dropped.drain(..).filter_map(|effect| match effect {
                ServingEffect::Forward(forward) => Some(forward),
                ServingEffect::Serve(_)
                | ServingEffect::Predict(_)
                | ServingEffect::PassOn(_)
                | ServingEffect::Count(_) => None,
            }));
            (self.requests, self.responses) = (it.requests, it.responses);
            self.end();
        }
        forwards.retain(|forward| self.machine.awaits(forward));
        forwards
    }

    fn start_here(&self) -> ReplayStart {
        ReplayStart {
            turn: self.turn,
            now: self.now,
            first: self.requests,
            second: self.responses,
            next: self.turn,
            published: 0,
            has_gap: false,
        }
    }

    fn revision(&self) -> Revision {
        self.machine.routing().revision
    }

    fn begin(&mut self, turn: u64, now: Timestamp) {
        self.turn = turn;
        self.now = now;
        self.open = self.machine.open_cases();
        self.replay_window.push(ReplayStart { turn, now, ..self.start_here() });
    }

    /// Ends a turn, and shortens the replay window to the turn that opened the oldest open case.
    fn end(&mut self) {
        self.turn += 1;
        match self.machine.oldest_open() {
            None => self.replay_window.clear(),
            Some(oldest) => self.replay_window.drop_before(|s| s.first <= oldest),
        }
    }
}

impl Lane for ServingPartition {
    type Effect = ServingEffect;

    fn turn(
        &mut self,
        now: Timestamp,
        view: &ModelView,
        _: bool,
        effects: &mut Vec<ServingEffect>,
        dead: &mut Vec<DeadLetter>,
    ) -> bool {
        self.plan = Arc::clone(&view.plan);
        // An instance whose clock is behind continues at the lane's time: turn time never goes back.
        let now = now.max(self.now);
        let room = self.machine.room();
        let is_due = self.machine.next_wake().is_some_and(|at| at <= now);
        let may_take = room > 0 && !self.backlog.requests.is_empty();
        if !is_due && !may_take && self.backlog.answers.is_empty() && self.effects.is_empty() {
            return false;
        }
        let mut turn = Turn::default();
        if view.routing.revision > self.machine.routing().revision {
            turn.routing = Some(Arc::clone(&view.routing));
        }
        self.begin(self.turn, now);
        effects.append(&mut self.effects);
        for (offset, answer) in self.backlog.answers.drain(..) {
            self.responses = offset + 1;
            match answer {
                Ok(answer) => turn.answers.push(answer),
                Err(letter) => dead.push(letter),
            }
        }
        let taken = room.min(self.backlog.requests.len());
        turn.requests = self.backlog.requests.drain(..taken).collect();
        if let Some(last) = turn.requests.last() {
            self.requests = last.case.offset + 1;
            self.last = Some(hash_of(last));
        }
        self.machine.turn(now, turn, effects);
        self.is_touched = true;
        true
    }

    fn end_turn(&mut self) -> JournalRecord {
        let record = ServingTurn {
            turn: self.turn,
            now: self.now.0,
            revision: self.revision().0,
            requests: self.requests,
            responses: self.responses,
            open: self.open,
            last: self.last.take(),
        };
        self.end();
        JournalRecord { now: record.now(), value: record.write() }
    }

    fn offsets(&self) -> (i64, i64) {
        (self.requests, self.responses)
    }

    fn replay_start(&self) -> ReplayStart {
        self.replay_window.replay_start(self.start_here())
    }

    fn next_wake(&self) -> Option<Timestamp> {
        self.machine.next_wake()
    }

    fn inputs(&self, _: &str) -> [Cow<'_, str>; 2] {
        let topics = &self.plan.topics;
        [Cow::Borrowed(&topics.requests), Cow::Borrowed(&topics.responses)]
    }

    fn journal(app: &str, model: &ModelName) -> String {
        internal_topics::serving_journal(app, model)
    }

    fn is_touched(&mut self) -> &mut bool {
        &mut self.is_touched
    }

    fn cases(&self) -> usize {
        self.machine.open_cases()
    }

    fn levels(&self) -> Vec<(&'static str, u64)> {
        vec![(OPEN_CASES, self.cases() as u64)]
    }
}

fn read_turn(bytes: &[u8]) -> Option<(u64, ServingTurn)> {
    ServingTurn::read(bytes).ok().map(|u| (u.turn, u))
}
