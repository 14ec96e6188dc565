//! What is wrong with a record that cannot be read.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::wire::avro::is_single_object;
use crate::wire::schema::codec;
use serinus_core::plan::rollout::Format;

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

/// Reads one record, in either format.
pub(crate) fn read<T: DeserializeOwned>(
    record: &'static str,
    bytes: &[u8],
) -> Result<T, Malformed> {
    if is_single_object(bytes) {
        let json = codec(record).and_then(|r| r.decode_json(bytes));
        let json =
            json.ok_or_else(|| Malformed::new(record, "it was written with another Avro schema"))?;
        return serde_json::from_value(json).map_err(|j| Malformed::new(record, j.to_string()));
    }
    serde_json::from_slice(bytes).map_err(|error| Malformed::new(record, error.to_string()))
}

/// Writes one JSON record.
pub(crate) fn write<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("our records have text keys and no custom serialisers")
}

/// Writes one published record in a model's format.
pub(crate) fn encode<T: Serialize>(name: &str, format: Format, record: &T) -> Vec<u8> {
    match format {
        Format::Json => write(record),
        Format::Avro => {
            let json = serde_json::to_value(record).expect("our records have text keys");
            let codec = codec(name).expect("a record with this method is published");
            codec.encode_json(&json).expect("the schema is made from the record's type")
        }
    }
}

/// Returns a number that JSON can hold: what is not finite becomes the nearest number that is.
pub(crate) fn finite(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(f64::MIN, f64::MAX) }
}
