//! A record that cannot be read, and the reason.

use thiserror::Error;

/// A record that cannot be read. It goes to the dead letters, or stops a start that depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("malformed {record}: {reason}")]
pub struct Malformed {
    /// The kind of record that was expected.
    pub record: &'static str,
    /// The reason.
    pub reason: String,
}

impl Malformed {
    /// Returns the error for a kind of record.
    pub fn new(record: &'static str, reason: impl Into<String>) -> Self {
        Self { record, reason: reason.into() }
    }
}
