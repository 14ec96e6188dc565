//! When an analyst lane publishes its sums, also in a replay after a restart.
//!
//! Sums of a rollout in progress are published at every tick of event time; those of an ended rollout, whenever they change.

use crate::domain::ids::RolloutName;
use crate::domain::time::Timestamp;
use crate::engine::analyst::io::Effect;
use crate::engine::analyst::lane::Analyst;
use crate::engine::partial::Partial;
use crate::join::label_join::Clocks;

impl Analyst {
    /// Takes the newest partial of a rollout that was published before a restart.
    pub fn sums_restored_from(&mut self, partial: Partial) {
        self.books.restore(partial, self.turn);
    }

    /// Returns the turn with which a replay must start so that nothing is lost; `None` if nothing would be.
    pub fn replay_from(&self) -> Option<u64> {
        self.oldest_turn().into_iter().chain(self.books.replay_turns()).min()
    }

    /// Publishes the newest tick that the watermark of predictions has passed, of every rollout that is live or has changed.
    pub(crate) fn publish_passed(&mut self, is_idle: bool, out: &mut Vec<Effect>) {
        let reached = self.watermarks.predictions.reached;
        if reached == Timestamp::MIN {
            return;
        }
        let passed: Vec<(RolloutName, Timestamp)> = self
            .books
            .iter()
            .map(|(name, book)| (name, book, reached.floor_to(book.sums.plan().tick)))
            .filter(|(name, book, tick)| {
                let is_due = book.is_due() && book.tick.is_none_or(|newest| newest < *tick);
                // In a replay, a rollout that is over now may have been live then, and a change may have moved its tick.
                is_due || self.was_published(name, *tick, is_idle)
            })
            .map(|(name, _, tick)| (name.clone(), tick))
            .collect();
        for (name, tick) in passed {
            self.publish(&name, tick, is_idle, out);
        }
    }

    /// Returns whether a replay has reached the point at which these sums were published before the restart.
    fn was_published(&self, name: &RolloutName, tick: Timestamp, is_idle: bool) -> bool {
        let partial = self.books.restoring(name);
        partial.is_some_and(|p| (p.turn, p.tick, p.is_idle) == (self.turn, tick, is_idle))
    }

    /// Publishes the newest sums as idle, so that the judge does not wait for this lane.
    ///
    /// In a replay, a rollout may be over that was live when these sums were published.
    pub(crate) fn publish_idle(&mut self, out: &mut Vec<Effect>) {
        let reached = self.watermarks.predictions.reached;
        let live: Vec<(RolloutName, Timestamp)> = self
            .books
            .iter()
            .filter(|(_, b)| b.is_live)
            .filter_map(|(name, i)| Some((name.clone(), i.tick?)))
            .chain(self.books.idle_before(self.turn, reached))
            .collect();
        for (name, tick) in live {
            self.publish(&name, tick, true, out);
        }
    }

    fn publish(
        &mut self,
        name: &RolloutName,
        tick: Timestamp,
        is_idle: bool,
        out: &mut Vec<Effect>,
    ) {
        let replay_turn = self.oldest_turn().unwrap_or(self.turn).min(self.turn);
        let is_restored = self.was_published(name, tick, is_idle);
        let Some(book) = self.books.get_mut(name) else { return };
        book.tick = Some(tick);
        book.is_changed = false;
        book.replay_turn = replay_turn;
        if is_restored {
            self.is_replanned |= self.books.has_reached(name);
        }
        let partial = self.partial(name, tick, is_idle);
        out.extend(partial.map(|p| Effect::Partial(Box::new(p))));
    }

    /// Returns a rollout's sums as of now, as they are published for a tick.
    pub(crate) fn partial(
        &self,
        name: &RolloutName,
        tick: Timestamp,
        is_idle: bool,
    ) -> Option<Partial> {
        let book = self.books.get(name)?;
        Some(Partial {
            model: self.settings.model.clone(),
            rollout: name.clone(),
            partition: self.settings.partition,
            tick,
            clocks: Clocks {
                predictions: self.watermarks.predictions.reached,
                labels: self.watermarks.labels.reached,
                are_labels_read: self.lag.1 == 0,
            },
            is_idle,
            turn: self.turn,
            inputs: self.inputs,
            lag: self.lag.0 + self.lag.1,
            unplanned: self.unplanned.len() as u64,
            revision: book.revision,
            sums: book.sums.sums().clone(),
        })
    }
}
