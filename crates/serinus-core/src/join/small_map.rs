//! A sorted map for values that carry their own key, sized for one value and correct for millions.

use std::collections::BTreeMap;

/// A value that contains its own key.
pub trait Keyed {
    /// The type of the key.
    type Key: Copy + Ord;

    /// Returns the key. It must not change while the value is in a map.
    fn key(&self) -> Self::Key;
}

/// A map from keys to values, in the order of the keys.
///
/// The first value is stored inline. A tree with a single value would allocate a node with room for eleven, and nearly all maps
/// hold a single value.
#[derive(Clone, Debug, PartialEq)]
pub struct SmallMap<V: Keyed> {
    first: Option<V>,
    /// The values with larger keys than `first`.
    rest: BTreeMap<V::Key, V>,
}

impl<V: Keyed> Default for SmallMap<V> {
    fn default() -> Self {
        Self { first: None, rest: BTreeMap::new() }
    }
}

impl<V: Keyed> SmallMap<V> {
    /// Returns whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Returns the value with the smallest key, if there is one.
    pub fn first(&self) -> Option<&V> {
        self.first.as_ref()
    }

    /// Returns the values in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        self.first.iter().chain(self.rest.values())
    }

    /// Returns the values in the order of their keys, for changes that leave the key alone.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.first.iter_mut().chain(self.rest.values_mut())
    }

    /// Returns the value with this key, if there is one.
    pub(crate) fn get(&self, key: V::Key) -> Option<&V> {
        let first = self.first.as_ref().filter(|v| v.key() == key);
        first.or_else(|| self.rest.get(&key))
    }

    /// Returns the value with this key, if there is one, for changes that leave the key alone.
    pub(crate) fn get_mut(&mut self, key: V::Key) -> Option<&mut V> {
        match &mut self.first {
            Some(first) if first.key() == key => Some(first),
            Some(_) | None => self.rest.get_mut(&key),
        }
    }

    /// Inserts a value whose key is not in the map.
    pub(crate) fn insert(&mut self, value: V) {
        let key = value.key();
        match self.first.take() {
            Some(first) if first.key() < key => {
                self.first = Some(first);
                self.rest.insert(key, value);
            }
            former_first => {
                self.first = Some(value);
                self.rest.extend(former_first.map(|v| (v.key(), v)));
            }
        }
    }

    /// Removes the value with this key and returns it, if there is one.
    pub(crate) fn remove(&mut self, key: V::Key) -> Option<V> {
        if self.first.as_ref()?.key() != key {
            return self.rest.remove(&key);
        }
        let next = self.rest.pop_first().map(|(_, v)| v);
        std::mem::replace(&mut self.first, next)
    }
}

impl<V: Keyed> FromIterator<V> for SmallMap<V> {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        let mut map = Self::default();
        values.into_iter().for_each(|v| map.insert(v));
        map
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::{Keyed, SmallMap};

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Item {
        key: i64,
        step: u64,
    }

    impl Keyed for Item {
        type Key = i64;

        fn key(&self) -> i64 {
            self.key
        }
    }

    proptest! {
        #[test]
        fn a_small_map_equals_a_tree(steps in prop::collection::vec((any::<bool>(), 0_i64..6), 0..40)) {
            let (mut small, mut tree) = (SmallMap::default(), BTreeMap::new());
            for (step, (is_insert, key)) in (0..).zip(steps) {
                if is_insert && !tree.contains_key(&key) {
                    small.insert(Item { key, step });
                    tree.insert(key, Item { key, step });
                } else {
                    prop_assert_eq!(small.get_mut(key).copied(), tree.get(&key).copied());
                    prop_assert_eq!(small.remove(key), tree.remove(&key));
                }
                prop_assert!(small.iter().eq(tree.values()));
                prop_assert_eq!(small.first(), tree.values().next());
                prop_assert_eq!(small.is_empty(), tree.is_empty());
                prop_assert_eq!(&small, &tree.values().copied().collect::<SmallMap<Item>>());
            }
        }
    }
}
