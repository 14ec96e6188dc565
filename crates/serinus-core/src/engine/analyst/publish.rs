//! When an analyst lane publishes its sums, and how it restores the same sums after a restart.
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
    ///
    /// Its sums replace the lane's when the replay reaches the point at which it was published. They include everything before
    /// the start of the replay.
    ///
    /// Sums published before the start of the replay have not changed since; otherwise the replay would start earlier.
    pub fn sums_restored_from(&mut self, partial: Partial) {
        if partial.turn < self.turn
            && let Some(open) = self.books.get_mut(&partial.rollout)
        {
            open.tick = Some(partial.tick);
            open.book.restore(partial.sums);
            return;
        }
        self.restoring.insert(partial.rollout.clone(), partial);
    }

    /// Returns the turn at which a replay must start so that nothing is lost; `None` if nothing would be.
    pub fn replay_from(&self) -> Option<u64> {
        let wanted = self.books.values().filter(|b| b.is_live || b.is_changed);
        let published = wanted.map(|w| w.replay_turn);
        self.oldest_turn().into_iter().chain(published).min()
    }

    /// Publishes the newest tick that the prediction clock has passed, of every rollout that is live or has changed.
    pub(crate) fn publish_passed(&mut self, is_idle: bool, out: &mut Vec<Effect>) {
        let reached = self.predictions.reached;
        if reached == Timestamp::MIN {
            return;
        }
        let passed: Vec<(RolloutName, Timestamp)> = self
            .books
            .iter()
            .map(|(name, b)| (name, b, reached.floor_to(b.book.plan().tick)))
            .filter(|(name, t, tick)| {
                let is_due = (t.is_live || t.is_changed) && t.tick.is_none_or(|t| t < *tick);
                // In a replay what is over now may have been live then, and its tick may have moved on with a change.
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
        self.restoring
            .get(name)
            .is_some_and(|n| (n.turn, n.tick, n.is_idle) == (self.turn, tick, is_idle))
    }

    /// Publishes the newest sums, marked idle so that the judge does not wait for this lane.
    ///
    /// In a replay, a rollout may have ended that was still in progress when this was published.
    pub(crate) fn publish_idle(&mut self, out: &mut Vec<Effect>) {
        let reached = self.predictions.reached;
        let is_over = |r: &RolloutName| self.books.get(r).is_some_and(|i| !i.is_live);
        let over = self
            .restoring
            .values()
            .filter(|r| r.turn == self.turn && r.is_idle && r.tick <= reached)
            .filter(|r| is_over(&r.rollout))
            .map(|r| (r.rollout.clone(), r.tick));
        let live: Vec<(RolloutName, Timestamp)> = self
            .books
            .iter()
            .filter(|(_, b)| b.is_live)
            .filter_map(|(name, i)| Some((name.clone(), i.tick?)))
            .chain(over)
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
        let Some(open) = self.books.get_mut(name) else { return };
        open.tick = Some(tick);
        open.is_changed = false;
        open.replay_turn = replay_turn;
        if is_restored && let Some(partial) = self.restoring.remove(name) {
            open.book.restore(partial.sums);
            self.is_replanned = true;
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
        let open = self.books.get(name)?;
        Some(Partial {
            model: self.settings.model.clone(),
            rollout: name.clone(),
            partition: self.settings.partition,
            tick,
            clocks: Clocks {
                predictions: self.predictions.reached,
                labels: self.labels.reached,
                are_labels_read: self.lag.1 == 0,
            },
            is_idle,
            turn: self.turn,
            inputs: self.inputs,
            lag: self.lag.0 + self.lag.1,
            unplanned: self.unplanned.len() as u64,
            revision: open.revision,
            sums: open.book.sums().clone(),
        })
    }
}
