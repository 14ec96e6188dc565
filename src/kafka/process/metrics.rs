//! Counters and gauges by model, which the roles update and the API reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::kafka::process::liveness::Liveness;
use serinus_core::domain::ids::{ModelName, Version};
use serinus_core::engine::counter::Counter;

/// Numbers by model and name.
pub type ValuesByModel = BTreeMap<(ModelName, &'static str), u64>;

/// The counters and gauges of an instance, and the activity of its roles.
#[derive(Clone, Debug, Default)]
pub struct MetricsRegistry {
    counters: Arc<Mutex<ValuesByModel>>,
    gauges: Arc<Mutex<ValuesByModel>>,
    unsent: Arc<Mutex<BTreeMap<(ModelName, Version), u64>>>,
    /// The activity of each role.
    pub liveness: Liveness,
}

impl MetricsRegistry {
    pub fn counters(&self) -> ValuesByModel {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn gauges(&self) -> ValuesByModel {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces all values of the named gauges. A model without a value no longer has the gauge.
    pub fn set_gauges(&self, names: &[&'static str], held: ValuesByModel) {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.retain(|(_, name), _| !names.contains(name));
        gauges.extend(held);
    }

    /// Counts copies of requests that the topic of a version rejected.
    pub fn add_failed_forwards(&self, model: &ModelName, version: &Version, n: u64) {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        *unsent.entry((model.clone(), version.clone())).or_default() += n;
    }

    /// Returns the number of rejected copies by model and version.
    pub fn failed_forwards(&self) -> BTreeMap<(ModelName, Version), u64> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn add(&self, model: &ModelName, name: &'static str, n: u64) {
        *self
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((model.clone(), name))
            .or_default() += n;
    }
}

/// Counts of one role since its last commit. They need no lock.
#[derive(Debug, Default)]
pub struct PendingCounts {
    rows: BTreeMap<ModelName, [u64; Counter::ALL.len()]>,
}

impl PendingCounts {
    pub fn add(&mut self, model: &ModelName, counter: Counter, n: u64) {
        if !self.rows.contains_key(model) {
            self.rows.insert(model.clone(), [0; Counter::ALL.len()]);
        }
        if let Some(row) = self.rows.get_mut(model) {
            row[counter as usize] += n;
        }
    }

    /// Adds the counts to the registry. Call it after a commit: aborted work must not be counted.
    pub fn flush_to(&mut self, board: &MetricsRegistry) {
        for (model, row) in std::mem::take(&mut self.rows) {
            for (counter, n) in Counter::ALL.into_iter().zip(row) {
                if n > 0 {
                    board.add(&model, counter.describe().0, n);
                }
            }
        }
    }

    /// Drops the counts of an aborted transaction.
    pub fn discard(&mut self) {
        self.rows.clear();
    }
}
