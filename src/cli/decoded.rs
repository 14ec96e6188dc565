//! Records of the application, decoded once, with the JSON that `-o json` prints.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kafka::client::topic_reader::Record;
use crate::wire::any::json_of;

/// A decoded record and its original JSON, which can have fields that this build does not know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decoded<T> {
    /// The record.
    pub(crate) record: T,
    /// Its JSON.
    pub(crate) value: Value,
}

impl<T: DeserializeOwned> Decoded<T> {
    /// Decodes a Kafka record; `None` if it has no value, or if its value is not a `T`.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let value = json_of(record.value.as_deref()?)?;
        Some(Self { record: decode(&value)?, value })
    }
}

/// The model and the rollout that a record of the application is about. Every kind of record names them in the same fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Subject {
    /// The model.
    pub(crate) model: Option<String>,
    /// The rollout.
    pub(crate) rollout: Option<String>,
}

/// Decodes the JSON of a record; `None` if it is not a `T`.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}
