//! The `prediction` record: one closed case.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::wire::avro::{Codec, is_single_object};
use crate::wire::avro_schema::{optional, record as schema_of, time};
use crate::wire::codec::Record;
use crate::wire::json::{Unreadable, raw};
use serinus_core::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
use serinus_core::domain::ids::{
    CaseId, ModelName, RequestId, Revision, RolloutName, StageIndex, Version,
};
use serinus_core::domain::record::Bytes;
use serinus_core::domain::routing::Role;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::plan::rollout::Format;

/// One closed case: a request, the versions it was sent to, and their answers. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(bound(serialize = "V: Serialize", deserialize = "V: Deserialize<'de>"))]
#[serde(rename = "Prediction")]
pub struct PredictionRecord<'a, V: AnswerValue> {
    /// The caller's id of the request.
    pub request_id: Cow<'a, str>,
    /// The model.
    pub model: Cow<'a, str>,
    /// The rollout at routing time, if any.
    pub rollout: Option<Cow<'a, str>>,
    /// The routing revision.
    #[serde(with = "as_long")]
    #[schemars(with = "u64")]
    pub revision: u64,
    /// The stage at routing time, counted from 0.
    pub stage: u32,
    /// The unit of assignment; null means the request id.
    pub unit: Option<Cow<'a, str>>,
    /// The unit's bytes in base64 if they are not UTF-8; `unit` is then a lossy decoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_base64: Option<Cow<'a, str>>,
    /// The segments of the request, by name. Absent if the model has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    /// The version that the assignment chose.
    pub arm: Cow<'a, str>,
    /// The probability of that choice.
    pub propensity: f64,
    /// How the caller was answered.
    pub served: ServedRecord<'a>,
    /// The request's own time.
    pub requested_at: i64,
    /// When it was routed.
    pub routed_at: i64,
    /// When it was answered.
    pub served_at: i64,
    /// The answers of all versions that the request was sent to, in sending order.
    pub answers: Vec<AnswerRecord<'a, V>>,
    /// The position of the request in its topic.
    pub source: SourceRecord,
}

/// How a caller was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Served")]
pub struct ServedRecord<'a> {
    /// The version whose answer was served, if any.
    pub version: Option<Cow<'a, str>>,
    /// The outcome.
    pub outcome: Outcome,
}

/// One version's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(bound(serialize = "V: Serialize", deserialize = "V: Deserialize<'de>"))]
#[serde(rename = "Answer")]
pub struct AnswerRecord<'a, V: AnswerValue> {
    /// The version.
    pub version: Cow<'a, str>,
    /// Whether the request was to be served or was a shadow copy.
    pub role: Role,
    /// The status of the answer.
    pub status: AnswerStatus,
    /// Milliseconds from the request to the answer; absent without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The answer as JSON.
    #[serde(default, skip_serializing_if = "V::is_absent")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub value: V,
    /// The answer's bytes in base64 if they are not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<Cow<'a, str>>,
    /// The error text of the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
}

/// The position of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Source")]
pub struct SourceRecord {
    /// The partition of the request topic.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

/// The value of an answer in a record. An absent value differs from the JSON value `null`.
pub trait AnswerValue: Default {
    /// Returns whether the value is absent.
    fn is_absent(&self) -> bool;
}

/// A prediction with the values of its answers as JSON text, as in Avro records.
pub type TextPrediction<'a> = PredictionRecord<'a, Option<Cow<'a, str>>>;

/// A prediction that owns its texts, with the values of its answers as JSON.
pub type OwnedPrediction = PredictionRecord<'static, OwnedValue>;

/// An answer's value as parsed JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OwnedValue(pub Option<Value>);

impl AnswerValue for OwnedValue {
    fn is_absent(&self) -> bool {
        self.0.is_none()
    }
}

impl<'de> Deserialize<'de> for OwnedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

/// An answer's value as it is written in JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonValue<'a>(pub Option<&'a RawValue>);

impl AnswerValue for JsonValue<'_> {
    fn is_absent(&self) -> bool {
        self.0.is_none()
    }
}

impl Serialize for JsonValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer).map(|d| Self(Some(d)))
    }
}

impl AnswerValue for Option<Cow<'_, str>> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl Record for TextPrediction<'_> {
    const NAME: &'static str = "prediction";

    fn codec() -> Option<&'static Codec> {
        Some(codec())
    }
}

/// Writes a prediction in the model's format.
#[expect(clippy::missing_panics_doc, reason = "a record can always be written")]
pub fn encode(format: Format, model: &ModelName, prediction: &Prediction) -> Vec<u8> {
    match format {
        Format::Json => {
            let record = record(model, prediction, JsonValue);
            serde_json::to_vec(&record).expect("a record of texts and numbers is always JSON")
        }
        Format::Avro => {
            let record = record(model, prediction, |p| p.map(|i| Cow::Borrowed(i.get())));
            codec().encode(&record)
        }
    }
}

/// Reads a prediction and its model in either format: Avro begins with bytes that JSON cannot begin with.
pub fn decode(bytes: &[u8]) -> Result<(ModelName, Prediction), Unreadable> {
    if is_single_object(bytes) {
        let record: TextPrediction<'_> = codec().decode(bytes)?;
        return to_domain(record, |r| r.as_deref().map(str::as_bytes).map(Bytes::from));
    }
    let record: PredictionRecord<'_, JsonValue<'_>> = serde_json::from_slice(bytes)
        .map_err(|f| Unreadable(format!("it is not a prediction: {f}")))?;
    to_domain(record, |r| r.0.map(|i| Bytes::from(i.get().as_bytes())))
}

fn codec() -> &'static Codec {
    static CODEC: LazyLock<Codec> = LazyLock::new(|| Codec::new(schema()));
    &CODEC
}

fn schema() -> Value {
    let doc = "One closed case: a request, who was asked, and all that came back.";
    schema_of("Prediction", doc, schema_fields())
}

fn schema_fields() -> Vec<Value> {
    let text = json!("string");
    let served = json!({"type": "record", "name": "Served", "fields": [
        optional("version", &text),
        {"name": "outcome", "type": {"type": "enum", "name": "Outcome", "symbols": ["ok", "fallback", "default", "error"]}},
    ]});
    let answer = json!({"type": "record", "name": "Answer", "fields": [
        {"name": "version", "type": "string"},
        {"name": "role", "type": {"type": "enum", "name": "Role", "symbols": ["serve", "shadow"]}},
        {"name": "status", "type": {"type": "enum", "name": "AnswerStatus", "symbols": ["ok", "error", "late", "timeout"]}},
        optional("latency_ms", &json!("double")),
        {"name": "value", "type": ["null", "string"], "default": null, "json": true, "doc": "The answer as JSON text."},
        optional("value_base64", &text),
        optional("error", &text),
    ]});
    let source = json!({"type": "record", "name": "Source", "fields": [
        {"name": "partition", "type": "int"},
        {"name": "offset", "type": "long"},
    ]});
    vec![
        json!({"name": "request_id", "type": "string"}),
        json!({"name": "model", "type": "string"}),
        optional("rollout", &text),
        json!({"name": "revision", "type": "long"}),
        json!({"name": "stage", "type": "long"}),
        optional("unit", &text),
        optional("unit_base64", &text),
        optional("segments", &json!({"type": "map", "values": "string"})),
        json!({"name": "arm", "type": "string"}),
        json!({"name": "propensity", "type": "double"}),
        json!({"name": "served", "type": served}),
        json!({"name": "requested_at", "type": time()}),
        json!({"name": "routed_at", "type": time()}),
        json!({"name": "served_at", "type": time()}),
        json!({"name": "answers", "type": {"type": "array", "items": answer}}),
        json!({"name": "source", "type": source}),
    ]
}

fn record<'a, V: AnswerValue>(
    model: &'a ModelName,
    prediction: &'a Prediction,
    value: impl Fn(Option<&'a RawValue>) -> V,
) -> PredictionRecord<'a, V> {
    let unit = prediction.unit.as_deref();
    let answers = prediction.answers.iter().map(|a| {
        let json = a.value.as_deref().and_then(raw);
        let bytes = a.value.as_deref().filter(|_| json.is_none());
        AnswerRecord {
            version: Cow::Borrowed(a.version.as_str()),
            role: a.role,
            status: a.status,
            latency_ms: a.latency.map(|l| l.0 as f64),
            value: value(json),
            value_base64: bytes.map(|v| STANDARD.encode(v).into()),
            error: a.error.as_deref().map(Cow::Borrowed),
        }
    });
    PredictionRecord {
        request_id: Cow::Borrowed(prediction.request_id.as_str()),
        model: Cow::Borrowed(model.as_str()),
        rollout: prediction.rollout.as_ref().map(|r| Cow::Borrowed(r.as_str())),
        revision: prediction.revision.0,
        stage: prediction.stage.0,
        unit: unit.map(String::from_utf8_lossy),
        unit_base64: unit
            .filter(|u| std::str::from_utf8(u).is_err())
            .map(|i| STANDARD.encode(i).into()),
        segments: segments(&prediction.segments),
        arm: Cow::Borrowed(prediction.arm.as_str()),
        propensity: prediction.propensity,
        served: ServedRecord {
            version: prediction.served.as_ref().map(|s| Cow::Borrowed(s.as_str())),
            outcome: prediction.outcome,
        },
        requested_at: prediction.requested_at.0,
        routed_at: prediction.routed_at.0,
        served_at: prediction.served_at.0,
        answers: answers.collect(),
        source: SourceRecord {
            partition: prediction.case.partition,
            offset: prediction.case.offset,
        },
    }
}

fn segments(segments: &[(Arc<str>, Arc<str>)]) -> Option<BTreeMap<Cow<'_, str>, Cow<'_, str>>> {
    let pairs = segments.iter().map(|(by, s)| (Cow::Borrowed(&**by), Cow::Borrowed(&**s)));
    (!segments.is_empty()).then(|| pairs.collect())
}

fn to_domain<V: AnswerValue>(
    record: PredictionRecord<'_, V>,
    value: impl Fn(V) -> Option<Bytes>,
) -> Result<(ModelName, Prediction), Unreadable> {
    let answers: Result<Vec<CaseAnswer>, Unreadable> = record
        .answers
        .into_iter()
        .map(|a| {
            let bytes = a.value_base64.as_deref().map(|v| bytes("value_base64", v)).transpose()?;
            Ok(CaseAnswer {
                version: Version::new(&a.version),
                role: a.role,
                status: a.status,
                latency: a.latency_ms.map(span),
                value: bytes.or_else(|| value(a.value)),
                error: a.error.map(|e| Arc::from(&*e)),
            })
        })
        .collect();
    let unit = match (&record.unit_base64, &record.unit) {
        (Some(value), _) => Some(bytes("unit_base64", value)?),
        (None, Some(value)) => Some(Bytes::from(value.as_bytes())),
        (None, None) => None,
    };
    if !(0.0..=1.0).contains(&record.propensity) {
        return Err(Unreadable(format!(
            "its propensity {} is not between 0 and 1",
            record.propensity
        )));
    }
    let prediction = Prediction {
        case: CaseId { partition: record.source.partition, offset: record.source.offset },
        request_id: RequestId::new(&record.request_id),
        rollout: record.rollout.as_deref().map(RolloutName::new),
        revision: Revision(record.revision),
        stage: StageIndex(record.stage),
        unit,
        segments: record
            .segments
            .iter()
            .flatten()
            .map(|(by, s)| (Arc::from(&**by), Arc::from(&**s)))
            .collect(),
        arm: Version::new(&record.arm),
        propensity: record.propensity,
        served: record.served.version.as_deref().map(Version::new),
        outcome: record.served.outcome,
        requested_at: Timestamp(record.requested_at),
        routed_at: Timestamp(record.routed_at),
        served_at: Timestamp(record.served_at),
        answers: answers?,
    };
    Ok((ModelName::new(&record.model), prediction))
}

fn bytes(field: &str, text: &str) -> Result<Bytes, Unreadable> {
    STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(|f| Unreadable(format!("its {field} is not base64: {f}")))
}

fn span(milliseconds: f64) -> Span {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, and no longer span can occur"
    )]
    Span(milliseconds.round() as i64)
}

/// A count as a signed number: Avro has no unsigned numbers.
mod as_long {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn serialize<S: Serializer>(count: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(i64::try_from(*count).unwrap_or(i64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let count = i64::deserialize(deserializer)?;
        u64::try_from(count).map_err(|_| D::Error::custom(format_args!("{count} is negative")))
    }
}
