//! Reads and writes records: as JSON, or in Avro if the record has a codec.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::avro::{Codec, is_single_object};
use crate::wire::malformed::Malformed;
use serinus_core::plan::rollout::Format;

/// A kind of record.
pub(crate) trait Record {
    /// The record's name. For a published record it is also the name of its schema files.
    const NAME: &'static str;

    /// Returns the Avro codec of a published record; private records are written in JSON only.
    fn codec() -> Option<&'static Codec> {
        None
    }

    /// Returns the codec of the Avro schema before the newest field, which is optional, was added.
    fn former_codec() -> Option<&'static Codec> {
        None
    }
}

/// Reads a record in either format: Avro begins with bytes that JSON cannot begin with.
pub(crate) fn read<T: Record + DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    let malformed = |error: serde_json::Error| Malformed::new(T::NAME, error.to_string());
    if is_single_object(bytes) {
        let json = T::codec()
            .and_then(|codec| codec.decode_json(bytes))
            .or_else(|| T::former_codec()?.decode_json(bytes));
        let other_schema = || Malformed::new(T::NAME, "it was written with another Avro schema");
        return serde_json::from_value(json.ok_or_else(other_schema)?).map_err(malformed);
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Writes a record as JSON.
pub(crate) fn write<T: Record + Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("our records have text keys and no custom serializers")
}

/// Writes a record in the model's format. A record without a codec is written as JSON.
pub(crate) fn encode<T: Record + Serialize>(format: Format, record: &T) -> Vec<u8> {
    match (format, T::codec()) {
        (Format::Avro, Some(codec)) => {
            let json = serde_json::to_value(record).expect("our records have text keys");
            codec.encode_json(&json).expect("the schema is made from the record's type")
        }
        (Format::Json, _) | (Format::Avro, None) => write(record),
    }
}
