//! The state of a lane besides its plans, which is saved so that the lane continues from it after a restart.

use crate::domain::ids::{RequestId, RolloutName};
use crate::domain::time::Timestamp;
use crate::engine::analyst::lane::{Analyst, Unplanned};
use crate::engine::analyst::rollout_books::RolloutBook;
use crate::engine::analyst::watermark::Checkpoint;
use crate::engine::partial::{Inputs, Partial};
use crate::join::entry::Entry;

/// A lane between two turns, without its pending cases and labels, of which there can be millions.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// Its watermarks.
    pub checkpoint: Checkpoint,
    /// The next offsets of its inputs.
    pub inputs: Inputs,
    /// The number of unread records of each input.
    pub lag: (u64, u64),
    /// Its sums.
    pub books: Vec<SavedBook>,
    /// The cases without a known plan.
    pub unplanned: Vec<Unplanned>,
}

/// A rollout's sums in a lane, and when they were published.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedBook {
    /// The current sums, in their published form.
    pub partial: Partial,
    /// The newest published tick.
    pub tick: Option<Timestamp>,
    /// Whether the sums changed since they were last published.
    pub is_changed: bool,
    /// The oldest turn that can still change them.
    pub replay_turn: u64,
}

impl Analyst {
    /// Returns the state to save with `entries`.
    pub fn save(&self) -> Saved {
        let book = |(name, open): (&RolloutName, &RolloutBook)| {
            Some(SavedBook {
                partial: self.partial(name, open.tick.unwrap_or(Timestamp::MIN), false)?,
                tick: open.tick,
                is_changed: open.is_changed,
                replay_turn: open.replay_turn,
            })
        };
        Saved {
            checkpoint: self.checkpoint(),
            inputs: self.inputs,
            lag: self.lag,
            books: self.books.iter().filter_map(book).collect(),
            unplanned: self.unplanned.clone(),
        }
    }

    /// Returns the pending cases and labels, by request id.
    pub fn entries(&self) -> impl Iterator<Item = (&RequestId, &Entry)> {
        self.pending.entries()
    }

    /// Restores saved state into a lane that has only its plans.
    ///
    /// The sums of a rollout without a plan are dropped.
    pub fn take_saved(&mut self, saved: Saved) {
        self.restore_checkpoint(saved.checkpoint, saved.inputs);
        (self.lag, self.unplanned) = (saved.lag, saved.unplanned);
        // Their plans may have arrived since the snapshot was saved.
        self.is_replanned = true;
        for it in saved.books {
            let Some(open) = self.books.get_mut(&it.partial.rollout) else { continue };
            (open.tick, open.is_changed, open.replay_turn) =
                (it.tick, it.is_changed, it.replay_turn);
            open.sums.restore(it.partial.sums);
            self.books.has_tick(&it.partial.rollout);
        }
    }

    /// Restores one of `entries`.
    pub fn put_back(&mut self, id: RequestId, entry: Entry) {
        self.pending.put_back(id, entry);
    }
}
