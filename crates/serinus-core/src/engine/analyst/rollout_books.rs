//! The sums of each rollout in one lane, with what is needed to publish them again after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::case::Prediction;
use crate::domain::ids::{Revision, RolloutName};
use crate::domain::time::{Span, Timestamp};
use crate::engine::analyst::accumulator::EvidenceAccumulator;
use crate::engine::analyst::io::{Planned, Settings};
use crate::engine::partial::Partial;
use crate::plan::rollout::RolloutPlan;

/// How many finished rollouts a lane still scores cases for.
const CLOSED_MAX: usize = 8;

/// The sums of one rollout in one lane, and the tick at which they were last published.
#[derive(Debug)]
pub(crate) struct RolloutBook {
    pub(crate) sums: EvidenceAccumulator,
    pub(crate) revision: Revision,
    pub(crate) is_live: bool,
    pub(crate) tick: Option<Timestamp>,
    /// Whether the sums changed since they were last published.
    pub(crate) is_changed: bool,
    /// The oldest turn whose cases can still change the sums since they were last published.
    pub(crate) replay_turn: u64,
}

impl RolloutBook {
    /// Records that the sums changed. Those of a finished rollout are published at the next tick after a change.
    pub(crate) fn touch(&mut self, reached: Timestamp) {
        if !self.is_live && !self.is_changed && reached > Timestamp::MIN {
            self.tick = self.tick.max(Some(reached.floor_to(self.sums.plan().tick)));
        }
        self.is_changed = true;
    }

    /// Returns whether the sums are to be published at the next tick.
    pub(crate) fn is_due(&self) -> bool {
        self.is_live || self.is_changed
    }
}

/// The sums of all rollouts of a lane.
#[derive(Debug, Default)]
pub(crate) struct RolloutBooks {
    books: BTreeMap<RolloutName, RolloutBook>,
    /// Finished rollouts, in the order in which the lane learned of their end.
    closed: Vec<RolloutName>,
    /// The plan that cases without a rollout are held by.
    newest: Option<Arc<RolloutPlan>>,
    /// The newest published tick of rollouts whose plan is not known yet, after a restart.
    ticks: BTreeMap<RolloutName, Timestamp>,
    /// Partials that were published before a restart, until the replay reaches the same point.
    restoring: BTreeMap<RolloutName, Partial>,
}

impl RolloutBooks {
    pub(crate) fn get(&self, name: &RolloutName) -> Option<&RolloutBook> {
        self.books.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &RolloutName) -> Option<&mut RolloutBook> {
        self.books.get_mut(name)
    }

    /// Returns the sums of the rollout that routed a case.
    pub(crate) fn of_mut(&mut self, case: &Prediction) -> Option<&mut RolloutBook> {
        self.books.get_mut(case.rollout.as_ref()?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RolloutName, &RolloutBook)> {
        self.books.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut RolloutBook> {
        self.books.values_mut()
    }

    /// Returns the plan of the rollout that routed a case, or the newest plan.
    pub(crate) fn plan_of(&self, case: &Prediction) -> Option<&RolloutPlan> {
        let book = case.rollout.as_ref().and_then(|name| self.books.get(name));
        book.map(|b| &**b.sums.plan()).or(self.newest.as_deref())
    }

    /// Returns the longest window and retention of all plans and the settings.
    pub(crate) fn longest_spans(&self, settings: &Settings) -> (Span, Span) {
        let plans = self.books.values().map(|b| b.sums.plan());
        let usual = (settings.window, settings.keep);
        let spans = plans.map(|p| (p.maturity, p.keep)).chain([usual]);
        spans.max_by_key(|(window, keep)| window.0 + keep.0).unwrap_or(usual)
    }

    /// Returns whether the lane knows the plan by which a case was routed.
    ///
    /// Until a replay reaches the partial that was published before the restart, it knows only what was known then: cases that
    /// waited then are not in those sums and must be added after them.
    pub(crate) fn has_plan_of(&self, case: &Prediction) -> bool {
        let Some(name) = &case.rollout else { return true };
        let Some(book) = self.books.get(name) else { return false };
        let then = self.restoring.get(name).map(|partial| partial.revision);
        let then = then.filter(|revision| *revision > Revision(0));
        then.map_or(book.revision, |revision| revision.min(book.revision)) >= case.revision
    }

    /// Adds or updates the plan of a rollout.
    pub(crate) fn plan(
        &mut self,
        planned: Planned,
        (reached, replay_turn): (Timestamp, u64),
        partitions: i32,
    ) {
        let name = planned.plan.name.clone();
        let Planned { plan, design, stable, revision, is_live } = planned;
        if is_live || self.newest.is_none() {
            self.newest = Some(Arc::clone(&plan));
        }
        let tick = self.ticks.remove(&name);
        let book = self.books.entry(name.clone()).or_insert_with(|| RolloutBook {
            tick: tick.or((reached > Timestamp::MIN).then(|| reached.floor_to(plan.tick))),
            sums: EvidenceAccumulator::new(Arc::clone(&plan), design.clone(), stable)
                .of_lanes(partitions),
            revision,
            is_live,
            is_changed: false,
            replay_turn,
        });
        book.sums.redesign(design);
        book.revision = book.revision.max(revision);
        book.is_live = is_live;
        self.closed.retain(|c| *c != name);
        if !is_live {
            self.closed.push(name);
            if self.closed.len() > CLOSED_MAX {
                self.drop_oldest();
            }
        }
    }

    /// Drops the rollout that ended first, by its revision.
    fn drop_oldest(&mut self) {
        let revision = |name: &RolloutName| self.books.get(name).map(|b| b.revision);
        let oldest = (0..self.closed.len()).min_by_key(|index| revision(&self.closed[*index]));
        if let Some(oldest) = oldest {
            let name = self.closed.remove(oldest);
            self.books.remove(&name);
        }
    }

    /// Returns the newest published tick of each rollout.
    pub(crate) fn ticks(&self) -> BTreeMap<RolloutName, Timestamp> {
        let mut ticks = self.ticks.clone();
        let published = self.books.iter().filter_map(|(name, b)| Some((name.clone(), b.tick?)));
        ticks.extend(published);
        ticks
    }

    /// Sets the newest published ticks, before any plan is known.
    pub(crate) fn restore_ticks(&mut self, ticks: BTreeMap<RolloutName, Timestamp>) {
        self.ticks = ticks;
    }

    /// Removes the restored tick of a rollout whose sums were restored whole.
    pub(crate) fn has_tick(&mut self, name: &RolloutName) {
        self.ticks.remove(name);
    }

    /// Takes the newest partial of a rollout that was published before a restart, of which a replay starts at `turn`.
    ///
    /// Sums that were published before that turn have not changed since, else the replay would start earlier. Others count once the
    /// replay reaches the point at which they were published.
    pub(crate) fn restore(&mut self, partial: Partial, turn: u64) {
        if partial.turn < turn
            && let Some(book) = self.books.get_mut(&partial.rollout)
        {
            book.tick = Some(partial.tick);
            book.sums.restore(partial.sums);
            return;
        }
        self.restoring.insert(partial.rollout.clone(), partial);
    }

    /// Returns the partial of a rollout that a replay has not reached yet.
    pub(crate) fn restoring(&self, name: &RolloutName) -> Option<&Partial> {
        self.restoring.get(name)
    }

    /// Returns the partials of finished rollouts that were published as idle in this turn, before the restart.
    pub(crate) fn idle_before(
        &self,
        turn: u64,
        reached: Timestamp,
    ) -> impl Iterator<Item = (RolloutName, Timestamp)> {
        let restoring = self.restoring.values();
        restoring
            .filter(move |p| p.turn == turn && p.is_idle && p.tick <= reached)
            .filter(|p| self.books.get(&p.rollout).is_some_and(|b| !b.is_live))
            .map(|p| (p.rollout.clone(), p.tick))
    }

    /// Replaces the sums of a rollout by those that were published at this point before the restart.
    pub(crate) fn has_reached(&mut self, name: &RolloutName) -> bool {
        let Some(partial) = self.restoring.remove(name) else { return false };
        if let Some(book) = self.books.get_mut(name) {
            book.sums.restore(partial.sums);
        }
        true
    }

    /// Returns the oldest turn that a replay needs for the sums that are to be published.
    pub(crate) fn replay_turns(&self) -> impl Iterator<Item = u64> {
        self.books.values().filter(|b| b.is_due()).map(|b| b.replay_turn)
    }
}
