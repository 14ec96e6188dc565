//! Names that millions of cases share, each held once.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::domain::case::Prediction;
use crate::domain::ids::{RolloutName, Version};
use crate::domain::record::Segments;

/// Maximum number of different names of a kind. Beyond it the names are dropped and no longer shared, which changes nothing else.
const NAMES_MAX: usize = 10_000;

/// The names that were seen so far.
#[derive(Debug, Default)]
pub struct Interner {
    versions: HashSet<Version>,
    rollouts: HashSet<RolloutName>,
    segments: HashSet<Segments>,
}

impl Interner {
    /// Puts the names that were seen before in the place of a case's own.
    pub fn share(&mut self, case: &mut Prediction) {
        case.arm = self.version(case.arm.as_str());
        if let Some(served) = &mut case.served {
            *served = self.version(served.as_str());
        }
        if let Some(rollout) = &mut case.rollout {
            *rollout = self.rollout(rollout.as_str());
        }
        for answer in &mut case.answers {
            answer.version = self.version(answer.version.as_str());
        }
        case.segments = self.segments(&case.segments);
    }

    /// Returns the same segments.
    pub fn segments(&mut self, segments: &Segments) -> Segments {
        if let Some(known) = self.segments.get(segments) {
            return Arc::clone(known);
        }
        bound(&mut self.segments);
        self.segments.insert(Arc::clone(segments));
        Arc::clone(segments)
    }

    /// Returns a version of this name.
    pub fn version(&mut self, name: &str) -> Version {
        if let Some(known) = self.versions.get(name) {
            return known.clone();
        }
        bound(&mut self.versions);
        let made = Version::new(name);
        self.versions.insert(made.clone());
        made
    }

    /// Returns a rollout's name.
    pub fn rollout(&mut self, name: &str) -> RolloutName {
        if let Some(known) = self.rollouts.get(name) {
            return known.clone();
        }
        bound(&mut self.rollouts);
        let made = RolloutName::new(name);
        self.rollouts.insert(made.clone());
        made
    }
}

fn bound<T>(known: &mut HashSet<T>) {
    if known.len() >= NAMES_MAX {
        known.clear();
    }
}
