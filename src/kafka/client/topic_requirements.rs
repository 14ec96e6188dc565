//! What is asked of the settings of a topic, and what it means where one differs.

use std::fmt;

use serinus_core::domain::time::Span;

/// Everything that a topic keeps: records carry event time, which may be long ago, so that age would delete them at once.
pub(crate) const KEEP_ALL: &str = "-1";

/// What is asked of a setting of a topic that is already there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing: a new topic gets our value, an old one may differ.
    Nothing,
    /// Our value.
    Equal,
    /// No limit, or at least so long.
    AtLeast(Span),
    /// No limit.
    Unlimited,
    /// Our value; another one is worth a warning.
    Preferred,
}

impl Requirement {
    /// Returns the stricter of two demands on one setting.
    pub(crate) fn or_stricter(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Equal, _) | (_, Self::Equal) => Self::Equal,
            (Self::Unlimited, _) | (_, Self::Unlimited) => Self::Unlimited,
            (Self::AtLeast(one), Self::AtLeast(other)) => Self::AtLeast(one.max(*other)),
            (Self::AtLeast(span), _) => Self::AtLeast(span),
            (_, Self::AtLeast(span)) => Self::AtLeast(*span),
            (Self::Preferred, _) | (_, Self::Preferred) => Self::Preferred,
            (Self::Nothing, Self::Nothing) => Self::Nothing,
        }
    }
}

/// What a mismatch means for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Records could be lost or changed: it stops the start.
    Error,
    /// It costs something else: it is a warning.
    Warning,
}

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Kafka's name for it.
    pub key: &'static str,
    /// What a new topic gets.
    pub value: String,
    /// What is asked of one that is there.
    pub demand: Requirement,
}

/// Something about a topic that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The topic.
    pub topic: String,
    /// What is wrong about it: `partitions`, a setting's name, or `topic` where it is missing.
    pub setting: String,
    /// What was found.
    pub found: String,
    /// What must be.
    pub wanted: String,
    /// What it means for a start.
    pub severity: Severity,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "topic `{}`: {} is {}, wanted {}",
            self.topic, self.setting, self.found, self.wanted
        )
    }
}

/// Returns what is asked of a setting that has this value, and what the difference means, where the value does not do.
pub(crate) fn unmet(setting: &Setting, value: &str) -> Option<(String, Severity)> {
    let number = || value.parse::<i64>().unwrap_or(0);
    match &setting.demand {
        Requirement::Nothing => None,
        Requirement::Equal => {
            (value != setting.value).then(|| (setting.value.clone(), Severity::Error))
        }
        Requirement::Preferred => {
            (value != setting.value).then(|| (setting.value.clone(), Severity::Warning))
        }
        Requirement::AtLeast(span) => {
            let is_short = (0..span.0).contains(&number());
            is_short.then(|| (format!("-1, or {} ({span}) or more", span.0), Severity::Error))
        }
        Requirement::Unlimited => (number() >= 0).then(|| (KEEP_ALL.to_owned(), Severity::Error)),
    }
}

/// Parts mismatches into those that stop a start and those that are worth a warning.
pub fn split_by_severity(mismatches: Vec<Mismatch>) -> (Vec<Mismatch>, Vec<Mismatch>) {
    mismatches.into_iter().partition(|m| match m.severity {
        Severity::Error => true,
        Severity::Warning => false,
    })
}
