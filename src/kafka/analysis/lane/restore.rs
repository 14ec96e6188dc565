//! Restores an analyst lane from its snapshot, else from its journal, else from what its topics show.

use std::collections::BTreeMap;

use tracing::{info, warn};

use crate::kafka::analysis::inputs::Inputs;
use crate::kafka::analysis::lane::{AnalystLane, Published};
use crate::kafka::analysis::recovery::{Lost, ResumePoint, Stretch};
use crate::kafka::analysis::snapshots::LaneStore;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::lanes::catalog::ModelView;
use crate::kafka::lanes::internal_topics::InternalTopics;
use crate::kafka::lanes::replay_window::ReplayWindow;
use crate::kafka::process::clock;
use crate::wire::journal::{AnalystTurn, ReplayStart};
use serinus_core::domain::ids::RolloutName;
use serinus_core::engine::partial::{self, Partial};

impl AnalystLane {
    /// Rebuilds the lane at the committed offsets: from a usable snapshot or from nothing, plus the turns since.
    pub fn restore(
        view: &ModelView,
        (partition, partitions, sources): (i32, i32, i32),
        resume: &ResumePoint,
        topics: &InternalTopics,
        published: Published,
        (replay, store): (&PartitionReader, &LaneStore<'_>),
    ) -> Result<Self, ShellError> {
        let committed = &resume.committed;
        let mut to =
            (committed.first.as_ref().map_or(0, |p| p.0), committed.second.as_ref().map(|l| l.0));
        let mut start = committed.first.as_ref().and_then(|p| ReplayStart::from_metadata(&p.1));
        if !committed.is_certain {
            let known = start.get_or_insert_default();
            if let Some(it) =
                replay.newest(&topics.analyst_journal, partition, *known, read_turn)?
            {
                known.next = it.turn + 1;
                to = (it.predictions, Some(it.labels));
            }
        }
        let mut lane = Self::empty(view, partition, partitions);
        match start {
            None if resume.has_only_rows => {
                let lost = Lost { plan: &view.plan, partition, topics, replay };
                let next = published.sums.values().map(|s| s.turn + 1).max().unwrap_or(0) + 1;
                lane.refill(lost.whole()?, next, &lost, published.sums)?;
            }
            None => (lane.predictions, lane.labels) = (to.0, to.1.unwrap_or(0)),
            Some(start) => {
                let turns = if let Some(turns) = lane.read_file(start, topics, replay, store)? {
                    Some(turns)
                } else {
                    // A damaged snapshot may have left something in the lane.
                    lane = Self::empty(view, partition, partitions);
                    // Without the published partials, count everything again from the first turn.
                    let first = ReplayStart { next: start.next, ..ReplayStart::default() };
                    let from = if published.has_lost_some { first } else { start };
                    let mut turns = lane.begin_at(from, topics, replay)?;
                    if turns.is_none() && published.has_lost_some {
                        lane = Self::empty(view, partition, partitions);
                        turns = lane.begin_at(start, topics, replay)?;
                        warn!(model = %lane.plan.name, partition, "published evidence and its turns are gone; evidence restarts from zero");
                    }
                    turns
                };
                if let Some(turns) = turns {
                    let labels = to.1.or(turns.last().map(|t| t.labels));
                    let to = (to.0, labels.unwrap_or(lane.labels));
                    lane.replay_turns(&turns, to, topics, published.sums, replay)?;
                } else {
                    let lost = Lost { plan: &view.plan, partition, topics, replay };
                    let labels = match to.1 {
                        Some(labels) => labels,
                        None => lost.whole()?.to.1,
                    };
                    let stretch = Stretch { from: (start.first, start.second), to: (to.0, labels) };
                    lane.refill(stretch, start.next, &lost, published.sums)?;
                }
            }
        }
        // Event time stands still until the records that arrived during the downtime are read.
        lane.unread = (
            replay.end(&lane.plan.topics.predictions, partition, lane.predictions)?,
            replay.end(&topics.labels, partition, lane.labels)?,
        );
        lane.sources = Some(sources);
        lane.is_touched = !committed.is_certain || resume.has_only_rows;
        Ok(lane)
    }

    /// Rebuilds the lane from its inputs and rows, because no turns are left to replay.
    fn refill(
        &mut self,
        stretch: Stretch,
        next: u64,
        lost: &Lost<'_>,
        sums: BTreeMap<RolloutName, Partial>,
    ) -> Result<(), ShellError> {
        let remains = lost.read(stretch, sums.into_values().collect())?;
        let known = remains.cases.iter().filter(|c| c.row.is_some()).count();
        let now = clock::now();
        // The rebuilt cases precede the turns that follow.
        self.turn = next.max(1) - 1;
        self.machine.turn_is(self.turn);
        self.machine.rebuild(now, remains);
        let (first, second) = stretch.from;
        let (turn, published) = (self.turn, self.published);
        let start = ReplayStart { turn, now, first, second, next, published, has_gap: true };
        self.replay_window = ReplayWindow::of([start]);
        (self.predictions, self.labels) = stretch.to;
        (self.turn, self.now) = (next.max(1), now);
        warn!(
            model = %self.plan.name,
            partition = self.partition,
            cases = self.machine.cases(),
            known,
            "journal incomplete: pending cases rebuilt from predictions, labels and rows"
        );
        Ok(())
    }

    /// Loads the lane's snapshot and returns the turns since; nothing without a usable snapshot.
    fn read_file(
        &mut self,
        start: ReplayStart,
        topics: &InternalTopics,
        replay: &PartitionReader,
        store: &LaneStore<'_>,
    ) -> Result<Option<Vec<AnalystTurn>>, ShellError> {
        let (model, partition) = (&self.plan.name, self.partition);
        let Some(file) = store.open(model, partition) else { return Ok(None) };
        let last = file.header().last.clone();
        if last.turn >= start.next {
            return Ok(store.refuse(model, partition, "it is newer than the committed offsets"));
        }
        let from = ReplayStart { turn: last.turn, now: last.now(), ..start };
        let mut turns = replay.turns(&topics.analyst_journal, partition, from, read_turn)?;
        if turns.first() != Some(&last) {
            let why = "the journal lacks the turn after which it was written";
            return Ok(store.refuse(model, partition, why));
        }
        let place = match file.read_into(&mut self.machine) {
            Ok(place) => place,
            Err(error) => return Ok(store.refuse(model, partition, &error.to_string())),
        };
        store.has_used(model);
        (self.predictions, self.labels) = (last.predictions, last.labels);
        (self.turn, self.now, self.lag) = (last.turn + 1, last.now(), last.lag);
        self.published = place.published;
        self.replay_window = ReplayWindow::of(place.starts);
        self.last = Some(last);
        Ok(Some(turns.split_off(1)))
    }

    /// Starts empty at the turn of the oldest pending case; returns the turns since, if the journal still has all of them.
    fn begin_at(
        &mut self,
        start: ReplayStart,
        topics: &InternalTopics,
        replay: &PartitionReader,
    ) -> Result<Option<Vec<AnalystTurn>>, ShellError> {
        (self.turn, self.now, self.published) = (start.turn, start.now, start.published);
        (self.predictions, self.labels) = (start.first, start.second);
        if start.has_gap {
            return Ok(None);
        }
        if start.turn >= start.next {
            return Ok(Some(Vec::new()));
        }
        let turns = replay.turns(&topics.analyst_journal, self.partition, start, read_turn)?;
        let is_whole = turns.first().is_some_and(|t| t.turn == start.turn)
            && turns.last().is_some_and(|t| t.turn + 1 == start.next);
        if !is_whole {
            return Ok(None);
        }
        if let Some(first) = turns.first() {
            let read = partial::Inputs { predictions: start.first, labels: start.second };
            self.machine.restore_checkpoint((&first.checkpoint).into(), read);
        }
        Ok(Some(turns))
    }

    /// Replays the turns before the restart, up to these offsets of the two inputs.
    fn replay_turns(
        &mut self,
        turns: &[AnalystTurn],
        to: (i64, i64),
        topics: &InternalTopics,
        partials: BTreeMap<RolloutName, Partial>,
        replay: &PartitionReader,
    ) -> Result<(), ShellError> {
        self.machine.turn_is(self.turn);
        for (_, partial) in partials {
            // A snapshot contains the partials that were published before it.
            if self.last.is_none() || partial.turn >= self.turn {
                self.machine.sums_restored_from(partial);
            }
        }
        let is_from_file = self.last.is_some();
        if !turns.is_empty() {
            let from = (self.predictions, self.labels);
            let mut inputs = Inputs::read(&self.plan, self.partition, topics, (from, to), replay)?;
            let mut dropped = Vec::new();
            for turn in turns {
                self.replay(turn, &mut inputs, None, &mut dropped);
                dropped.clear();
            }
            self.last = turns.last().cloned();
        }
        (self.predictions, self.labels) = to;
        info!(
            model = %self.plan.name,
            partition = self.partition,
            is_from_file,
            turns = turns.len(),
            cases = self.machine.cases(),
            "analyst lane restored"
        );
        Ok(())
    }
}

fn read_turn(bytes: &[u8]) -> Option<(u64, AnalystTurn)> {
    AnalystTurn::read(bytes).ok().map(|u| (u.turn, u))
}
