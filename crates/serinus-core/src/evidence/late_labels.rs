//! The changes that labels after maturity would make to the evidence, kept apart from it.
//!
//! Decisions rest on labels as they were at maturity, the same age for all, and no later label ever moves them. But a decision
//! that the newest labels would not bear out should be known to people: so what the sums would be is kept too, exactly.

use crate::evidence::bounds::Sides;
use crate::evidence::sums::{Contrast, Evidence, Scores, Table, Values};
use serinus_stats::ipw_bet::Counts;
use serinus_stats::moments::Moments;
use serinus_stats::paired_bet::PairedCounts;

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
    left.lost = left.lost.without(taken.lost)?;
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
        let ranks = left.ranks.as_ref()?.without(taken)?;
        let is_empty = ranks.bins().next().is_none();
        left.ranks = (!is_empty).then_some(ranks);
    }
    Some(left)
}

fn contrast_without(contrast: &Contrast, taken: &Contrast) -> Option<Contrast> {
    let mut left = contrast.clone();
    left.pairs = pairs_without(contrast.pairs, taken.pairs)?;
    left.difference = moments_without(contrast.difference, taken.difference)?;
    let (lost, gone) = (contrast.lost_pairs, taken.lost_pairs);
    left.lost_pairs = Sides {
        harm: pairs_without(lost.harm, gone.harm)?,
        favour: pairs_without(lost.favour, gone.favour)?,
    };
    let (lost, gone) = (contrast.lost_difference, taken.lost_difference);
    left.lost_difference = Sides {
        harm: moments_without(lost.harm, gone.harm)?,
        favour: moments_without(lost.favour, gone.favour)?,
    };
    for (centre, gone) in &taken.split {
        let counts = left.split.entry(*centre).or_default();
        *counts = Sides {
            harm: counts_without(counts.harm, gone.harm)?,
            favour: counts_without(counts.favour, gone.favour)?,
        };
    }
    if let Some(taken) = &taken.capital {
        let capitals = left.capital.get_or_insert_default();
        for (capital, taken) in capitals.iter_mut().zip(taken.iter()) {
            capital.retract(taken);
        }
    }
    Some(left)
}

fn pairs_without(pairs: PairedCounts, taken: PairedCounts) -> Option<PairedCounts> {
    Some(PairedCounts {
        plus: pairs.plus.checked_sub(taken.plus)?,
        minus: pairs.minus.checked_sub(taken.minus)?,
        zero: pairs.zero.checked_sub(taken.zero)?,
    })
}

fn moments_without(mut moments: Moments, taken: Moments) -> Option<Moments> {
    if moments.n < taken.n {
        return None;
    }
    moments.retract(&taken);
    Some(moments)
}

fn counts_without(counts: Counts, taken: Counts) -> Option<Counts> {
    Some(Counts {
        treated: counts.treated.checked_sub(taken.treated)?,
        treated_events: counts.treated_events.checked_sub(taken.treated_events)?,
        control: counts.control.checked_sub(taken.control)?,
        control_events: counts.control_events.checked_sub(taken.control_events)?,
    })
}
