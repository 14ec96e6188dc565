//! Cases that cannot be scored: counted by reason beside the sums, because a case that is left out must never help a version.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::RequestId;

/// Why a metric has no value, or not the whole value, of one version's answer to a labelled case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The answer is not JSON.
    NotJson,
    /// The answer has nothing where the prediction should stand.
    Nothing,
    /// The prediction is null.
    Null,
    /// The prediction is not a number.
    NotNumber,
    /// The prediction, or another number of the answer, is NaN or infinite.
    NotFinite,
    /// The prediction is neither a probability nor a score that a threshold is given for.
    OutsideUnit,
    /// The prediction is a list or an object, where a class is wanted.
    NotClass,
    /// The prediction and the label have forms that cannot be compared.
    NotComparable,
    /// The label has nothing where the truth should stand.
    LabelNothing,
    /// The label is null.
    LabelNull,
    /// The label is not a number.
    LabelNotNumber,
    /// The label is neither 0, 1, true, false nor a number between.
    LabelNoOutcome,
    /// The label is a list or an object, where a class is wanted.
    LabelNotClass,
    /// The label is a whole number with more digits than are kept of it.
    LabelTooLong,
    /// The value was clipped to the metric's range.
    OutsideRange,
    /// Different scores of positives and negatives were counted as equal.
    Tied,
}

/// Who is at fault when a case cannot be scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The version's answer.
    Answer,
    /// The label.
    Label,
    /// The metric's own limits: its range, or how finely scores are kept.
    Limits,
}

impl Reason {
    /// Every reason, in order.
    pub const ALL: [Self; 16] = [
        Self::NotJson,
        Self::Nothing,
        Self::Null,
        Self::NotNumber,
        Self::NotFinite,
        Self::OutsideUnit,
        Self::NotClass,
        Self::NotComparable,
        Self::LabelNothing,
        Self::LabelNull,
        Self::LabelNotNumber,
        Self::LabelNoOutcome,
        Self::LabelNotClass,
        Self::LabelTooLong,
        Self::OutsideRange,
        Self::Tied,
    ];

    /// Returns the word for it in the published records.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotJson => "not JSON",
            Self::Nothing => "nothing at the pointer",
            Self::Null => "null",
            Self::NotNumber => "not a number",
            Self::NotFinite => "not finite",
            Self::OutsideUnit => "outside [0, 1]",
            Self::NotClass => "not a class",
            Self::NotComparable => "not comparable with the label",
            Self::LabelNothing => "label: nothing at the pointer",
            Self::LabelNull => "label: null",
            Self::LabelNotNumber => "label: not a number",
            Self::LabelNoOutcome => "label: no outcome",
            Self::LabelNotClass => "label: not a class",
            Self::LabelTooLong => "label: too many digits",
            Self::OutsideRange => "outside the range",
            Self::Tied => "ties hide the ranking",
        }
    }

    /// Returns the reason that a word stands for.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }

    /// Returns who is at fault.
    pub fn side(self) -> Side {
        match self {
            Self::NotJson
            | Self::Nothing
            | Self::Null
            | Self::NotNumber
            | Self::NotFinite
            | Self::OutsideUnit
            | Self::NotClass
            | Self::NotComparable => Side::Answer,
            Self::LabelNothing
            | Self::LabelNull
            | Self::LabelNotNumber
            | Self::LabelNoOutcome
            | Self::LabelNotClass
            | Self::LabelTooLong => Side::Label,
            Self::OutsideRange | Self::Tied => Side::Limits,
        }
    }
}

/// How many request ids are kept of each reason.
pub const SAMPLE_MAX: usize = 3;

/// The labelled cases that a version answered, and those among them that could not be scored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unscored {
    /// Labelled cases with an answer in time, scored or not.
    pub cases: u64,
    /// Of these, those that could not be scored, by reason.
    pub reasons: BTreeMap<Reason, Fault>,
}

/// Cases that could not be scored for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// How many.
    pub n: u64,
    /// The request ids with the least hashes, each behind its hash: the same ones in whichever order lanes are merged.
    pub sample: BTreeSet<(u64, RequestId)>,
}

impl Unscored {
    /// Counts a case that could not be scored; `hash` is of its request id.
    pub fn add(&mut self, reason: Reason, hash: u64, id: &RequestId) {
        self.reasons.entry(reason).or_default().add(hash, id);
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        self.cases += other.cases;
        for (reason, fault) in &other.reasons {
            self.reasons.entry(*reason).or_default().merge(fault);
        }
    }

    /// Returns what is left without what was counted of other labels; nothing where more is taken than is there. Samples stay.
    pub fn without(&self, taken: &Self) -> Option<Self> {
        let mut left = self.clone();
        left.cases = left.cases.checked_sub(taken.cases)?;
        for (reason, fault) in &taken.reasons {
            let ours = left.reasons.get_mut(reason)?;
            ours.n = ours.n.checked_sub(fault.n)?;
        }
        left.reasons.retain(|_, fault| fault.n > 0);
        Some(left)
    }
}

impl Fault {
    fn add(&mut self, hash: u64, id: &RequestId) {
        self.n += 1;
        self.sample.insert((hash, id.clone()));
        self.trim();
    }

    fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.sample.extend(other.sample.iter().cloned());
        self.trim();
    }

    fn trim(&mut self) {
        while self.sample.len() > SAMPLE_MAX {
            self.sample.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Reason, Unscored};

    #[test]
    fn every_reason_is_known_by_its_word() {
        for reason in Reason::ALL {
            assert_eq!(Reason::of_word(reason.word()), Some(reason));
        }
        assert_eq!(Reason::of_word("bad luck"), None);
    }

    #[test]
    fn parts_of_lanes_merge_to_the_same_sample_in_any_order() {
        let part = |hashes: &[u64]| {
            let mut part = Unscored::default();
            for hash in hashes {
                part.cases += 1;
                part.add(Reason::Null, *hash, &format!("r{hash}").into());
            }
            part
        };
        let whole = part(&[9, 2, 7, 4, 1, 8]);
        let (a, b, c) = (part(&[8, 9]), part(&[1, 7]), part(&[4, 2]));
        for order in [[&a, &b, &c], [&c, &b, &a], [&b, &a, &c]] {
            let mut sum = Unscored::default();
            for part in order {
                sum.merge(part);
            }
            assert_eq!(sum, whole);
        }
        let ids: Vec<_> = whole.reasons[&Reason::Null].sample.iter().map(|(_, id)| id).collect();
        assert_eq!(ids, [&"r1".into(), &"r2".into(), &"r4".into()]);
        assert_eq!(whole.without(&a).map(|left| left.reasons[&Reason::Null].n), Some(4));
        assert_eq!(a.without(&whole), None);
    }
}
