//! What is wrong with a record that cannot be read.

use thiserror::Error;

/// A record that cannot be read, and why; it goes to the dead letters, or stops a start that cannot do without it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("malformed {record}: {reason}")]
pub struct Malformed {
    /// Which kind of record it was to be.
    pub record: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl Malformed {
    /// Says what is wrong with a kind of record.
    pub fn new(record: &'static str, reason: impl Into<String>) -> Self {
        Self { record, reason: reason.into() }
    }
}

/// Reads one JSON record.
pub(crate) fn read<'a, T: serde::Deserialize<'a>>(
    record: &'static str,
    bytes: &'a [u8],
) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(|error| Malformed::new(record, error.to_string()))
}

/// Writes one JSON record.
pub(crate) fn write<T: serde::Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("our records have text keys and no custom serialisers")
}

/// Returns a number that JSON can hold: what is not finite becomes the nearest number that is.
pub(crate) fn finite(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(f64::MIN, f64::MAX) }
}
