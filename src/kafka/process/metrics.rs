//! Counters by model, shared with whoever shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::kafka::process::liveness::Liveness;
use serinus_core::domain::ids::{ModelName, Version};
use serinus_core::engine::counter::Counter;

/// Numbers by model and name.
pub type ValuesByModel = BTreeMap<(ModelName, &'static str), u64>;

/// What all roles of an instance have counted, what they hold now, and what they are doing.
#[derive(Clone, Debug, Default)]
pub struct MetricsRegistry {
    counters: Arc<Mutex<ValuesByModel>>,
    gauges: Arc<Mutex<ValuesByModel>>,
    unsent: Arc<Mutex<BTreeMap<(ModelName, Version), u64>>>,
    /// What the roles are doing.
    pub liveness: Liveness,
}

impl MetricsRegistry {
    /// Returns everything counted so far.
    pub fn counters(&self) -> ValuesByModel {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how much of everything is held now.
    pub fn gauges(&self) -> ValuesByModel {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says how much of the named things is held now, by model; models that are not named hold nothing of them.
    pub fn set_gauges(&self, names: &[&'static str], held: ValuesByModel) {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.retain(|(_, name), _| !names.contains(name));
        gauges.extend(held);
    }

    /// Counts copies of requests that were not sent to a version because its topic did not take them.
    pub fn add_failed_forwards(&self, model: &ModelName, version: &Version, n: u64) {
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
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((model.clone(), name))
            .or_default() += n;
    }
}

/// What one role has counted since it last told the board: no lock on the way of the data.
#[derive(Debug, Default)]
pub struct PendingCounts {
    rows: BTreeMap<ModelName, [u64; Counter::ALL.len()]>,
}

impl PendingCounts {
    /// Adds to a counter.
    pub fn add(&mut self, model: &ModelName, counter: Counter, n: u64) {
        if !self.rows.contains_key(model) {
            self.rows.insert(model.clone(), [0; Counter::ALL.len()]);
        }
        if let Some(row) = self.rows.get_mut(model) {
            row[counter as usize] += n;
        }
    }

    /// Tells the board, after a commit: what was thrown away was not done.
    pub fn flush_to(&mut self, board: &MetricsRegistry) {
        for (model, row) in std::mem::take(&mut self.rows) {
            for (counter, n) in Counter::ALL.into_iter().zip(row) {
                if n > 0 {
                    board.add(&model, counter.describe().0, n);
                }
            }
        }
    }

    /// Forgets what was not committed.
    pub fn discard(&mut self) {
        self.rows.clear();
    }
}
