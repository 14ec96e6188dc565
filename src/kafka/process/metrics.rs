//! Counters by model, shared with whoever shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::kafka::process::liveness::Liveness;
use serinus_core::domain::ids::{ModelName, Version};
use serinus_core::engine::counter::Counter;

/// Numbers by model and name.
pub type Numbers = BTreeMap<(ModelName, &'static str), u64>;

/// What all roles of an instance have counted, what they hold now, and what they are doing.
#[derive(Clone, Debug, Default)]
pub struct Board {
    counts: Arc<Mutex<Numbers>>,
    levels: Arc<Mutex<Numbers>>,
    unsent: Arc<Mutex<BTreeMap<(ModelName, Version), u64>>>,
    /// What the roles are doing.
    pub pulse: Liveness,
}

impl Board {
    /// Returns everything counted so far.
    pub fn read(&self) -> Numbers {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how much of everything is held now.
    pub fn levels(&self) -> Numbers {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says how much of the named things is held now, by model; models that are not named hold nothing of them.
    pub fn hold(&self, names: &[&'static str], held: Numbers) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.retain(|(_, name), _| !names.contains(name));
        levels.extend(held);
    }

    /// Counts copies of requests that were not sent to a version because its topic did not take them.
    pub fn fail_forwards(&self, model: &ModelName, version: &Version, n: u64) {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        *unsent.entry((model.clone(), version.clone())).or_default() += n;
    }

    /// Returns how many copies were not sent, by model and version.
    pub fn failed_forwards(&self) -> BTreeMap<(ModelName, Version), u64> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds to a counter by its name.
    pub fn add(&self, model: &ModelName, name: &'static str, n: u64) {
        *self
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((model.clone(), name))
            .or_default() += n;
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
