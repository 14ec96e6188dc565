//! The request ids of cases that were closed and dropped, so that a later label is recognized as an orphan at once.

use std::collections::VecDeque;

use hashbrown::HashSet;
use xxhash_rust::xxh3::xxh3_64;

use crate::domain::ids::RequestId;

/// The newest ids that were added, by their hashes: only counters depend on them, so two ids of one hash do no harm.
///
/// They are not saved: after a restart, a label of such an id waits as if its case could still arrive, and is counted later.
#[derive(Debug)]
pub(crate) struct ClosedIds {
    max: usize,
    hashes: HashSet<u64>,
    order: VecDeque<u64>,
}

impl ClosedIds {
    /// Returns an empty set that keeps this number of ids.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, hashes: HashSet::new(), order: VecDeque::new() }
    }

    /// Adds an id; drops the oldest if there are too many.
    pub(crate) fn add(&mut self, id: &RequestId) {
        let hash = xxh3_64(id.as_str().as_bytes());
        if !self.hashes.insert(hash) {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
    }

    /// Returns whether an id is remembered.
    pub(crate) fn holds(&self, id: &RequestId) -> bool {
        self.hashes.contains(&xxh3_64(id.as_str().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::ClosedIds;

    #[test]
    fn the_newest_are_remembered() {
        let mut closed = ClosedIds::new(2);
        for id in ["a", "b", "a", "c"] {
            closed.add(&id.into());
        }
        let holds = |id: &str| closed.holds(&id.into());
        assert_eq!(["a", "b", "c", "d"].map(holds), [false, true, true, false]);
    }
}
