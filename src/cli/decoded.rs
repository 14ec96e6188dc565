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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Decoded, decode};
    use crate::cli::fixtures_for_tests::{event, merge, position};
    use crate::kafka::client::topic_reader::Record;
    use crate::wire::event::EventRecord;
    use crate::wire::prediction::{self, OwnedPrediction};
    use serinus_core::plan::rollout::Format;

    fn record(value: Vec<u8>) -> Record {
        Record { value: Some(value), ..Record::default() }
    }

    #[test]
    fn a_record_keeps_the_fields_that_this_build_does_not_know() {
        let mut value = event(json!({})).value;
        value["newer"] = 1.into();
        let decoded: Decoded<EventRecord> =
            Decoded::of(&record(value.to_string().into_bytes())).expect("it is an event");
        assert_eq!(decoded.value, value);
        let mut to = position();
        merge(&mut to, json!({"phase": "Newer"}));
        merge(&mut value, json!({"to": to}));
        assert_eq!(decode::<EventRecord>(&value), None, "an unknown phase");
        assert_eq!(Decoded::<EventRecord>::of(&record(b"no JSON".to_vec())), None);
        assert_eq!(Decoded::<EventRecord>::of(&Record::default()), None);
    }

    #[test]
    fn a_prediction_is_decoded_from_both_formats() {
        let written = json!({
            "request_id": "r1", "model": "flights", "rollout": null, "revision": 7, "stage": 1, "unit": null, "arm": "v1",
            "propensity": 1.0, "served": {"version": "v1", "outcome": "ok"}, "requested_at": 1, "routed_at": 2, "served_at": 9,
            "answers": [{"version": "v1", "role": "serve", "status": "ok", "latency_ms": 6.0, "value": {"score": 0.12}},
                        {"version": "v2", "role": "shadow", "status": "ok", "latency_ms": 6.0, "value": null},
                        {"version": "v3", "role": "shadow", "status": "timeout"}],
            "source": {"partition": 3, "offset": 1042},
        });
        let bytes = written.to_string().into_bytes();
        let (model, domain) = prediction::decode(&bytes).expect("it is a prediction");
        // The JSON of a record in Avro leaves out a field that is null.
        for (format, null) in [(Format::Json, Some(Value::Null)), (Format::Avro, None)] {
            let encoded = prediction::encode(format, &model, &domain);
            let decoded: Decoded<OwnedPrediction> =
                Decoded::of(&record(encoded)).expect("it is a prediction");
            let values: Vec<Option<Value>> =
                decoded.record.answers.into_iter().map(|a| a.value.0).collect();
            let expected = [Some(json!({"score": 0.12})), null, None];
            assert_eq!(values, expected, "{format:?}");
        }
    }
}
