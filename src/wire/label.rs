//! The `label` record: ground truth, in whatever shape the model's spec says.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ids::RequestId;
use crate::domain::label::Label;
use crate::domain::time::Timestamp;
use crate::strategy::stage::{Format, LabelMap, Source};
use crate::wire::avro;
use crate::wire::json::Parts;

/// Ground truth about one request. The spec may say that its parts stand elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Label")]
pub struct LabelRecord {
    /// The request that it is about.
    pub request_id: String,
    /// The truth, in the labels' own shape; may be left out of a retraction.
    #[serde(default)]
    pub label: Value,
    /// When it became known, in Unix milliseconds; without it the record's own time counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<i64>,
    /// The highest wins; of equal ones the first. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_version: Option<i64>,
    /// Whether it takes back what was said before. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retract: Option<bool>,
}

/// The same with the truth as JSON text, as Avro carries it.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Label")]
struct AvroLabel<'a> {
    request_id: Cow<'a, str>,
    label: Cow<'a, str>,
    observed_at: Option<i64>,
    label_version: Option<i64>,
    retract: Option<bool>,
}

/// Why a record of the labels' topic is not a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotALabel {
    /// It has no value: a tombstone.
    Empty,
    /// Its value is neither JSON nor an Avro label.
    Unreadable,
    /// It does not say which request it is about.
    NoRequestId,
    /// It has no truth where the spec says that it stands, and takes none back.
    NoValue,
    /// Its time is not a number of milliseconds.
    BadTime,
    /// Its version is not a number, or below 0.
    BadVersion,
    /// Its `retract` is neither true nor false.
    BadRetract,
}

impl NotALabel {
    /// Returns the reason, for people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Empty => "the label record has no value",
            Self::Unreadable => "the label record is neither JSON nor an Avro label",
            Self::NoRequestId => "the label names no request",
            Self::NoValue => "the label has no value where the spec says that it stands",
            Self::BadTime => "the label's time is not a number of Unix milliseconds",
            Self::BadVersion => "the label's version is not a whole number from 0",
            Self::BadRetract => "the label's field retract is neither true nor false",
        }
    }
}

/// Reads a label out of any record, in either format; `recorded_at` is the record's own time.
pub fn decode(
    map: &LabelMap,
    parts: Parts<'_>,
    recorded_at: Timestamp,
) -> Result<Label, NotALabel> {
    let bytes = parts.value.ok_or(NotALabel::Empty)?;
    let is_avro = avro::is_single_object(bytes);
    let body = if is_avro {
        from_avro(bytes)?
    } else {
        serde_json::from_slice(bytes).map_err(|_| NotALabel::Unreadable)?
    };
    let request_id = match &map.request_id {
        Source::Json(pointer) => match body.pointer(pointer) {
            Some(Value::String(it)) => Some(RequestId::new(it)),
            Some(Value::Number(it)) => Some(RequestId::from(it.to_string())),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
        },
        Source::Key | Source::Header(_) => {
            let text = parts.text(&map.request_id);
            text.and_then(|it| Some(RequestId::new(std::str::from_utf8(&it).ok()?)))
        }
    };
    let request_id =
        request_id.filter(|it| !it.as_str().is_empty()).ok_or(NotALabel::NoRequestId)?;
    let observed_at = match map.observed_at.as_deref().and_then(|it| body.pointer(it)) {
        None | Some(Value::Null) => recorded_at,
        Some(it) => Timestamp(whole(it).ok_or(NotALabel::BadTime)?),
    };
    let version = match body.get("label_version") {
        None | Some(Value::Null) => 0,
        Some(it) => whole(it).and_then(|it| u64::try_from(it).ok()).ok_or(NotALabel::BadVersion)?,
    };
    let retract = match body.get("retract") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(it)) => *it,
        Some(Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(NotALabel::BadRetract);
        }
    };
    let value = match body.pointer(&map.value) {
        None | Some(Value::Null) if retract => Value::Null,
        None | Some(Value::Null) => return Err(NotALabel::NoValue),
        Some(it) => it.clone(),
    };
    Ok(Label { request_id, value, observed_at, version, retract })
}

/// Writes a label in the contract's own shape.
#[expect(clippy::missing_panics_doc, reason = "a record can always be written")]
pub fn encode(format: Format, label: &Label) -> Vec<u8> {
    let label_version =
        (label.version > 0).then(|| i64::try_from(label.version).unwrap_or(i64::MAX));
    let retract = label.retract.then_some(true);
    match format {
        Format::Json => {
            let record = LabelRecord {
                request_id: label.request_id.as_str().to_owned(),
                label: label.value.clone(),
                observed_at: Some(label.observed_at.0),
                label_version,
                retract,
            };
            serde_json::to_vec(&record).expect("a record of JSON values is always JSON")
        }
        Format::Avro => avro::label().encode(&AvroLabel {
            request_id: Cow::Borrowed(label.request_id.as_str()),
            label: Cow::Owned(label.value.to_string()),
            observed_at: Some(label.observed_at.0),
            label_version,
            retract,
        }),
    }
}

/// Returns an Avro label in the shape of a JSON one, so that the spec's pointers mean the same in both.
fn from_avro(bytes: &[u8]) -> Result<Value, NotALabel> {
    let label: AvroLabel<'_> = avro::label().decode(bytes).map_err(|_| NotALabel::Unreadable)?;
    let value: Value = serde_json::from_str(&label.label).map_err(|_| NotALabel::Unreadable)?;
    Ok(serde_json::json!({
        "request_id": label.request_id,
        "label": value,
        "observed_at": label.observed_at,
        "label_version": label.label_version,
        "retract": label.retract,
    }))
}

/// Returns a whole number, also where it is written as `1.0`.
fn whole(value: &Value) -> Option<i64> {
    let exact = |it: &f64| it.fract() == 0.0 && it.abs() < 9e15;
    #[expect(clippy::cast_possible_truncation, reason = "it was checked to be whole and small")]
    value.as_i64().or_else(|| value.as_f64().filter(exact).map(|it| it as i64))
}
