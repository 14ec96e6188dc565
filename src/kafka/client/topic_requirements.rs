//! Requirements on the settings of topics, and the severity of a mismatch.

use std::fmt;

use serinus_core::domain::time::Span;

/// Unlimited retention: records carry event time, which may be old, so a limit by age could delete them at once.
pub(crate) const KEEP_ALL: &str = "-1";

/// The requirement on a setting of an existing topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// None: a new topic gets our value, an existing one may differ.
    Nothing,
    /// Our value.
    Equal,
    /// No limit, or at least this span.
    AtLeast(Span),
    /// No limit.
    Unlimited,
    /// Our value; any other causes a warning.
    Preferred,
}

impl Requirement {
    /// Returns the stricter of two requirements on one setting.
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

/// The effect of a mismatch on a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Records could be lost or changed: the start fails.
    Error,
    /// Records are safe: the start logs a warning.
    Warning,
}

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Kafka's name for it.
    pub key: &'static str,
    /// What a new topic gets.
    pub value: String,
    /// The requirement on an existing topic.
    pub demand: Requirement,
}

/// A setting of a topic that does not meet its requirement.
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
    /// The effect on a start.
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

/// Returns what a setting requires, and the severity, if this value does not meet the requirement.
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

/// Splits mismatches into errors and warnings.
pub fn split_by_severity(mismatches: Vec<Mismatch>) -> (Vec<Mismatch>, Vec<Mismatch>) {
    mismatches.into_iter().partition(|m| match m.severity {
        Severity::Error => true,
        Severity::Warning => false,
    })
}
