//! Counters by model, shared with whoever shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::ModelName;
use crate::engine::counter::Counter;

/// What all roles of an instance have counted.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<(ModelName, &'static str), u64>>>);

impl Board {
    /// Returns everything counted so far.
    pub fn read(&self) -> BTreeMap<(ModelName, &'static str), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds to a counter by its name.
    pub fn add(&self, model: &ModelName, name: &'static str, n: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((model.clone(), name)).or_default() += n;
    }
}

/// What one role has counted since it last told the board: no lock on the way of the data.
#[derive(Debug, Default)]
pub struct Counts {
    fresh: BTreeMap<ModelName, [u64; Counter::ALL.len()]>,
}

impl Counts {
    /// Adds to a counter.
    pub fn add(&mut self, model: &ModelName, counter: Counter, n: u64) {
        if !self.fresh.contains_key(model) {
            self.fresh.insert(model.clone(), [0; Counter::ALL.len()]);
        }
        if let Some(row) = self.fresh.get_mut(model) {
            row[counter as usize] += n;
        }
    }

    /// Tells the board, after a commit: what was thrown away was not done.
    pub fn tell(&mut self, board: &Board) {
        for (model, row) in std::mem::take(&mut self.fresh) {
            for (counter, n) in Counter::ALL.into_iter().zip(row) {
                if n > 0 {
                    board.add(&model, counter.describe().0, n);
                }
            }
        }
    }

    /// Forgets what was not committed.
    pub fn forget(&mut self) {
        self.fresh.clear();
    }
}
