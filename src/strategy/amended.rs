//! What labels that changed after maturity would change in the evidence, kept beside it.
//!
//! Decisions rest on labels as they were at maturity, the same age for all, and no later label ever moves them. But a decision
//! that the newest labels would not bear out should be known to people: so what the sums would be is kept too, exactly.

use std::collections::BTreeMap;

use crate::domain::ids::{MetricName, Version};
use crate::strategy::design::{ContrastKey, Part, Stratum};
use crate::strategy::evidence::{Contrast, Evidence, Scores, Table};

/// What labels that came or changed after maturity would change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amended {
    /// How many times a label came, changed or was taken back after maturity.
    pub labels: u64,
    /// What the newer labels show.
    pub given: Values,
    /// What the labels before them had shown.
    pub taken: Values,
}

/// The part of the evidence that rests on labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// What each version's answers scored.
    pub scores: BTreeMap<(Stratum, Version, Part, MetricName), Scores>,
    /// Comparisons that need more than each side's sums.
    pub contrasts: BTreeMap<ContrastKey, Contrast>,
}

impl Amended {
    /// Adds another lane's.
    pub fn merge(&mut self, other: &Self) {
        self.labels += other.labels;
        self.given.merge(&other.given);
        self.taken.merge(&other.taken);
    }
}

impl Values {
    fn merge(&mut self, other: &Self) {
        for (key, scores) in &other.scores {
            self.scores.entry(key.clone()).or_default().merge(scores);
        }
        for (key, contrast) in &other.contrasts {
            self.contrasts.entry(key.clone()).or_default().merge(contrast);
        }
    }
}

impl Evidence {
    /// Returns what the evidence would be with the newest labels; nothing where more was taken back than is there, which
    /// happens only when sums were lost.
    pub fn as_amended(&self) -> Option<Self> {
        let mut values = Values { scores: self.scores.clone(), contrasts: self.contrasts.clone() };
        values.merge(&self.amended.given);
        for (key, taken) in &self.amended.taken.scores {
            let scores = values.scores.entry(key.clone()).or_default();
            *scores = without(scores, taken)?;
        }
        for (key, taken) in &self.amended.taken.contrasts {
            let contrast = values.contrasts.entry(key.clone()).or_default();
            *contrast = contrast_without(contrast, taken)?;
        }
        Some(Self { scores: values.scores, contrasts: values.contrasts, ..self.clone() })
    }
}

fn without(scores: &Scores, taken: &Scores) -> Option<Scores> {
    let mut left = scores.clone();
    left.clipped = left.clipped.checked_sub(taken.clipped)?;
    if left.moments.n < taken.moments.n {
        return None;
    }
    left.moments.retract(&taken.moments);
    let (ours, theirs) = (scores.table, taken.table);
    left.table = Table {
        hits: ours.hits.checked_sub(theirs.hits)?,
        alarms: ours.alarms.checked_sub(theirs.alarms)?,
        misses: ours.misses.checked_sub(theirs.misses)?,
        rest: ours.rest.checked_sub(theirs.rest)?,
    };
    left.unscored = scores.unscored.without(&taken.unscored)?;
    if let Some(taken) = &taken.ranks {
        left.ranks = Some(left.ranks.as_ref()?.without(taken)?);
    }
    Some(left)
}

fn contrast_without(contrast: &Contrast, taken: &Contrast) -> Option<Contrast> {
    let mut left = contrast.clone();
    let (ours, theirs) = (contrast.pairs, taken.pairs);
    let is_whole = ours.plus >= theirs.plus
        && ours.minus >= theirs.minus
        && ours.zero >= theirs.zero
        && contrast.difference.n >= taken.difference.n;
    if !is_whole {
        return None;
    }
    left.pairs.retract(&theirs);
    left.difference.retract(&taken.difference);
    if let Some(taken) = &taken.capital {
        let capitals = left.capital.get_or_insert_default();
        for (capital, taken) in capitals.iter_mut().zip(taken.iter()) {
            capital.retract(taken);
        }
    }
    Some(left)
}
