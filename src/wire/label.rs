//! The `label` record: ground truth, in the shape that the model's spec describes.

use std::borrow::Cow;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::wire::avro::{Codec, is_single_object};
use crate::wire::avro_schema::{optional, record as schema_of, time};
use crate::wire::codec::Record;
use crate::wire::json::{self, Parts};
use serinus_core::domain::ids::RequestId;
use serinus_core::domain::label::Label;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::plan::rollout::{Format, LabelMap, Source};

/// The year 2000 in Unix milliseconds. An earlier time is in another unit or comes from a clock that was not set.
const OLDEST: Timestamp = Timestamp(946_684_800_000);
/// The most by which a label's time may be ahead of our clock: one day, which is more than any time zone or clock error.
const AHEAD_MAX: Span = Span(24 * 3_600_000);

/// Ground truth about one request. The model's spec can name other fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Label")]
pub struct LabelRecord {
    /// The request id.
    pub request_id: String,
    /// The ground truth, as any JSON value; optional in a retraction.
    #[serde(default)]
    pub label: Value,
    /// When it became known, in Unix milliseconds. Default: the timestamp of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<i64>,
    /// The version of the label: the highest wins; among equal versions the first. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_version: Option<i64>,
    /// Whether it retracts the earlier label. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retract: Option<bool>,
}

/// The label in Avro, with the truth as JSON text.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Label")]
struct AvroLabel<'a> {
    request_id: Cow<'a, str>,
    label: Cow<'a, str>,
    observed_at: Option<i64>,
    label_version: Option<i64>,
    retract: Option<bool>,
}

/// The reason why a record of the label topic is not a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotALabel {
    /// It has no value: a tombstone.
    Empty,
    /// Its value is neither JSON nor an Avro label.
    Unreadable,
    /// It does not name a request.
    NoRequestId,
    /// It has no truth at the place that the spec names, and it is not a retraction.
    NoValue,
    /// Its truth is not JSON.
    BadValue,
    /// Its time is neither a number nor text.
    BadTime,
    /// Its time is text.
    TimeIsText,
    /// Its time is before the year 2000, or more than a day ahead.
    ImplausibleTime(ImplausibleTime),
    /// Its version is not a number, or below 0.
    BadVersion,
    /// Its `retract` is neither true nor false.
    BadRetract,
}

/// A time that cannot be the time of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImplausibleTime {
    /// Its source.
    pub source: TimeSource,
    /// The number as written.
    pub written: i64,
    /// The unit in which the number would be a plausible time, if any.
    pub looks_like: Option<TimeUnit>,
}

/// The source of a label's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeSource {
    /// In the label.
    Label,
    /// In its record, because the label has none.
    Record,
}

/// A unit that is mistaken for milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

impl Record for LabelRecord {
    const NAME: &'static str = "label";

    fn codec() -> Option<&'static Codec> {
        Some(codec())
    }
}

impl NotALabel {
    /// Returns the reason as text, for dead letters and counters.
    pub fn reason(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Empty => "the label record has no value",
            Self::Unreadable => "the label record is neither JSON nor an Avro label",
            Self::NoRequestId => {
                "the label names no request: there is no text or number where the spec expects the request id"
            }
            Self::NoValue => "the label has no value where the spec expects it",
            Self::BadValue => {
                "the label's value is not JSON: NaN and Infinity are not allowed, and nesting is limited to 128 levels"
            }
            Self::BadTime => "the label's time is not a number of Unix milliseconds",
            Self::TimeIsText => {
                "the label's time is not a number of Unix milliseconds, but text: write 1377993600000 for 2013-09-01T00:00:00Z"
            }
            Self::ImplausibleTime(time) => return Cow::Owned(time.reason()),
            Self::BadVersion => "the label's version is not a whole number from 0 to 2^63 - 1",
            Self::BadRetract => "the label's field retract is neither true nor false",
        })
    }
}

impl ImplausibleTime {
    /// Checks a time; returns `None` if it is plausible.
    fn of(source: TimeSource, time: Timestamp, now: Timestamp) -> Option<Self> {
        let is_plausible = |i: i64| (OLDEST..=now + AHEAD_MAX).contains(&Timestamp(i));
        let written = time.0;
        let as_if = [
            (TimeUnit::Seconds, written.saturating_mul(1000)),
            (TimeUnit::Microseconds, written / 1000),
            (TimeUnit::Nanoseconds, written / 1_000_000),
        ];
        let looks_like = as_if.into_iter().find(|(_, a)| is_plausible(*a)).map(|(unit, _)| unit);
        (!is_plausible(written)).then_some(Self { source, written, looks_like })
    }

    fn reason(self) -> String {
        let source = match self.source {
            TimeSource::Label => "the label's time",
            TimeSource::Record => {
                "the time of the label's record, which is used because the label has none,"
            }
        };
        let what =
            if self.written < OLDEST.0 { "before the year 2000" } else { "more than a day ahead" };
        let unit = match self.looks_like {
            Some(TimeUnit::Seconds) => "; it looks like seconds (s)",
            Some(TimeUnit::Microseconds) => "; it looks like microseconds (us)",
            Some(TimeUnit::Nanoseconds) => "; it looks like nanoseconds (ns)",
            None => "",
        };
        format!("{source} is {what} as Unix milliseconds (ms): {}{unit}", self.written)
    }
}

/// Reads a label from the model's label topic. Unlike `decode`, it refuses times that cannot be the time of a label.
///
/// `now` is the time of reading. A label in a wrong unit would count immediately or never, and it would move the watermark of all labels.
pub fn decode_foreign(
    map: &LabelMap,
    parts: Parts<'_>,
    (recorded_at, now): (Timestamp, Timestamp),
) -> Result<Label, NotALabel> {
    let (label, source) = read(map, parts, recorded_at)?;
    match ImplausibleTime::of(source, label.observed_at, now) {
        Some(time) => Err(NotALabel::ImplausibleTime(time)),
        None => Ok(label),
    }
}

/// Reads a label in either format; `recorded_at` is the time of its record.
pub fn decode(
    map: &LabelMap,
    parts: Parts<'_>,
    recorded_at: Timestamp,
) -> Result<Label, NotALabel> {
    read(map, parts, recorded_at).map(|(label, _)| label)
}

fn read(
    map: &LabelMap,
    parts: Parts<'_>,
    recorded_at: Timestamp,
) -> Result<(Label, TimeSource), NotALabel> {
    let bytes = parts.value.ok_or(NotALabel::Empty)?;
    let body =
        if is_single_object(bytes) { Cow::Owned(from_avro(bytes)?) } else { Cow::Borrowed(bytes) };
    if !json::is_structured(&body) {
        return Err(NotALabel::Unreadable);
    }
    let find = |pointer: &str| json::find(&body, pointer).filter(|p| *p != "null");
    let parts = Parts { value: Some(&body), ..parts };
    let request_id = parts.id(&map.request_id).ok_or(NotALabel::NoRequestId)?;
    let (observed_at, source) = match map.observed_at.as_deref().and_then(find) {
        None => (recorded_at, TimeSource::Record),
        Some(text) if text.starts_with('"') => return Err(NotALabel::TimeIsText),
        Some(number) => (Timestamp(floor(number).ok_or(NotALabel::BadTime)?), TimeSource::Label),
    };
    let version = match find("/label_version") {
        None => 0,
        Some(number) => whole(number).ok_or(NotALabel::BadVersion)?,
    };
    let retract = match find("/retract") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(NotALabel::BadRetract),
    };
    let value = match find(&map.value) {
        None if retract => Value::Null,
        None => return Err(NotALabel::NoValue),
        Some(text) => serde_json::from_str(text).map_err(|_| NotALabel::BadValue)?,
    };
    let request_id = RequestId::new(request_id);
    Ok((Label { request_id, value, observed_at, version, retract }, source))
}

/// Returns the request id of a label as it is written, or `None` if the label has none.
pub fn request_id_of(source: &Source, parts: Parts<'_>) -> Option<String> {
    let body = match parts.value {
        Some(bytes) if is_single_object(bytes) => from_avro(bytes).ok().map(Cow::Owned),
        value => value.map(Cow::Borrowed),
    };
    Parts { value: body.as_deref(), ..parts }.id(source).map(Cow::into_owned)
}

fn codec() -> &'static Codec {
    static CODEC: LazyLock<Codec> = LazyLock::new(|| Codec::new(schema()));
    &CODEC
}

fn schema() -> Value {
    let fields = vec![
        json!({"name": "request_id", "type": "string"}),
        json!({"name": "label", "type": "string", "json": true, "doc": "The truth as JSON text."}),
        optional("observed_at", &time()),
        optional("label_version", &json!("long")),
        optional("retract", &json!("boolean")),
    ];
    schema_of("Label", "Ground truth about one request.", fields)
}

/// Writes a label in the shape of the published schema.
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
        Format::Avro => codec().encode(&AvroLabel {
            request_id: Cow::Borrowed(label.request_id.as_str()),
            label: Cow::Owned(label.value.to_string()),
            observed_at: Some(label.observed_at.0),
            label_version,
            retract,
        }),
    }
}

/// Converts an Avro label to JSON, so that the pointers of the spec apply to both formats.
fn from_avro(bytes: &[u8]) -> Result<Vec<u8>, NotALabel> {
    let label: AvroLabel<'_> = codec().decode(bytes).map_err(|_| NotALabel::Unreadable)?;
    let value: Value = serde_json::from_str(&label.label).map_err(|_| NotALabel::Unreadable)?;
    let record = LabelRecord {
        request_id: label.request_id.into_owned(),
        label: value,
        observed_at: label.observed_at,
        label_version: label.label_version,
        retract: label.retract,
    };
    serde_json::to_vec(&record).map_err(|_| NotALabel::Unreadable)
}

/// Reads a whole number from 0, including `1.0` and `1e3`.
fn whole(number: &str) -> Option<u64> {
    let as_float = || {
        let value: f64 = serde_json::from_str(number).ok()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the number is whole, below 9e15 and not negative"
        )]
        (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64)
    };
    number.parse().ok().filter(|u: &u64| i64::try_from(*u).is_ok()).or_else(as_float)
}

/// Reads a number and rounds it down; a number beyond 64 bits becomes the largest or the smallest one.
fn floor(number: &str) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
    let from_float = |f: f64| f.floor() as i64;
    number.parse().ok().or_else(|| serde_json::from_str(number).ok().map(from_float))
}
