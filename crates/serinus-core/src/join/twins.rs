//! The cases of one request id, by where their requests stand: nearly always one, but a caller may use an id a million times.

use std::collections::BTreeMap;

use crate::domain::ids::CaseId;
use crate::join::entry::Waiting;

/// Some cases, in the order of their places.
///
/// The smallest node of a tree has room for eleven, and of nearly all ids there is one: the first stands beside the tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SmallMap {
    first: Option<Waiting>,
    /// All come after the first.
    more: BTreeMap<CaseId, Waiting>,
}

impl SmallMap {
    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Returns the one that stands before all others.
    pub fn first(&self) -> Option<&Waiting> {
        self.first.as_ref()
    }

    /// Returns all, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.first.iter().chain(self.more.values())
    }

    /// Returns all, in their order, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Waiting> {
        self.first.iter_mut().chain(self.more.values_mut())
    }

    /// Returns one.
    pub(crate) fn get(&self, case: CaseId) -> Option<&Waiting> {
        let first = self.first.as_ref().filter(|c| c.prediction.case == case);
        first.or_else(|| self.more.get(&case))
    }

    /// Returns one, to be changed.
    pub(crate) fn get_mut(&mut self, case: CaseId) -> Option<&mut Waiting> {
        match &mut self.first {
            Some(first) if first.prediction.case == case => Some(first),
            Some(_) | None => self.more.get_mut(&case),
        }
    }

    /// Puts one in its place.
    pub(crate) fn insert(&mut self, waiting: Waiting) {
        let case = waiting.prediction.case;
        match self.first.take() {
            Some(first) if first.prediction.case < case => {
                self.first = Some(first);
                self.more.insert(case, waiting);
            }
            before => {
                self.first = Some(waiting);
                self.more.extend(before.map(|b| (b.prediction.case, b)));
            }
        }
    }

    /// Takes one out, if it is there.
    pub(crate) fn remove(&mut self, case: CaseId) -> Option<Waiting> {
        if self.first.as_ref()?.prediction.case != case {
            return self.more.remove(&case);
        }
        let next = self.more.pop_first().map(|(_, p)| p);
        std::mem::replace(&mut self.first, next)
    }
}

impl FromIterator<Waiting> for SmallMap {
    fn from_iter<I: IntoIterator<Item = Waiting>>(cases: I) -> Self {
        let mut all = Self::default();
        cases.into_iter().for_each(|f| all.insert(f));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::SmallMap;
    use crate::domain::case::{Outcome, Prediction};
    use crate::domain::ids::{CaseId, Revision, StageIndex};
    use crate::domain::time::Timestamp;
    use crate::join::entry::Waiting;

    fn waiting(offset: i64, turn: u64) -> Waiting {
        let at = Timestamp(0);
        let prediction = Prediction {
            case: CaseId { partition: 0, offset },
            request_id: "r".into(),
            rollout: None,
            revision: Revision(1),
            stage: StageIndex(0),
            unit: None,
            segments: Arc::default(),
            arm: "v1".into(),
            propensity: 1.0,
            served: None,
            outcome: Outcome::Ok,
            requested_at: at,
            routed_at: at,
            served_at: at,
            answers: Vec::new(),
        };
        let prediction = Arc::new(prediction);
        Waiting {
            prediction,
            due: at,
            due_without_labels: at,
            closed_at: at,
            expires: at,
            turn,
            row: None,
        }
    }

    proptest! {
        #[test]
        fn twins_are_a_map_by_place(steps in prop::collection::vec((any::<bool>(), 0_i64..6), 0..40)) {
            let (mut twins, mut map) = (SmallMap::default(), BTreeMap::new());
            for (turn, (is_insert, offset)) in (0..).zip(steps) {
                let case = CaseId { partition: 0, offset };
                if is_insert && !map.contains_key(&case) {
                    twins.insert(waiting(offset, turn));
                    map.insert(case, waiting(offset, turn));
                } else {
                    prop_assert_eq!(twins.get_mut(case).cloned(), map.get(&case).cloned());
                    prop_assert_eq!(twins.remove(case), map.remove(&case));
                }
                prop_assert!(twins.iter().eq(map.values()));
                prop_assert_eq!(twins.first(), map.values().next());
                prop_assert_eq!(twins.is_empty(), map.is_empty());
                prop_assert_eq!(&twins, &map.values().cloned().collect::<SmallMap>());
            }
        }
    }
}
