//! The `analysis` record: a case, its label and the scores of each answer.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::avro::Codec;
use crate::wire::avro_schema;
use crate::wire::codec::{Record, encode, read, write};
use crate::wire::json::finite;
use crate::wire::json_schema::written_by_us;
use crate::wire::malformed::Malformed;
use crate::wire::prediction::SourceRecord;
use serinus_core::domain::case::{AnswerStatus, CaseAnswer, Outcome};
use serinus_core::domain::routing::Role;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::io::Row;
use serinus_core::join::entry::{LabelStatus, LabelWatermark, MaturedAt};
use serinus_core::plan::rollout::Format;

/// One joined row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Analysis")]
pub struct AnalysisRecord {
    /// The request's id.
    pub request_id: String,
    /// The model.
    pub model: String,
    /// The rollout at routing time.
    pub rollout: Option<String>,
    /// The routing revision.
    pub revision: u64,
    /// The stage at routing time, counted from 0.
    pub stage: u32,
    /// The unit of assignment; null means the request id.
    pub unit: Option<String>,
    /// The unit's bytes in base64 if they are not UTF-8; `unit` is then a lossy decoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_base64: Option<String>,
    /// The segments of the request, by name. Absent if the model has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<BTreeMap<String, String>>,
    /// The version that the assignment chose.
    pub arm: String,
    /// The probability of that choice.
    pub propensity: f64,
    /// The served version and the outcome.
    pub served: ServedRecord,
    /// The request's own time.
    pub requested_at: i64,
    /// When it was routed.
    pub routed_at: i64,
    /// When it was answered.
    pub served_at: i64,
    /// The answers of all versions that the request was sent to.
    pub answers: Vec<AnswerRecord>,
    /// The position of the request in its topic.
    pub source: SourceRecord,
    /// The ground truth; null if there is none.
    pub label: Option<Value>,
    /// `labelled`, `missing`, `late`, `corrected` or `retracted`.
    pub label_status: LabelStatus,
    /// Milliseconds from the request to the label.
    pub label_delay_ms: Option<i64>,
    /// 1 for the final row, larger for later rows of the case.
    pub row_version: u32,
    /// How far the inputs had come when the case matured. Only the final row has it, and rows of older builds do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matured_at: Option<MaturedAtRecord>,
    /// The score of each version's answer in each metric.
    pub scores: BTreeMap<String, BTreeMap<String, f64>>,
}

/// How far the inputs had come when a case matured. It explains why the label did or did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "MaturedAt")]
pub struct MaturedAtRecord {
    /// The watermark of the predictions, in event time.
    pub prediction_watermark: i64,
    /// The watermark of the labels: up to this time they were complete. Absent if the label input was idle and read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_watermark: Option<i64>,
    /// The partition of the label topic with the lowest watermark, which is `label_watermark`. Absent if no partition reported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest_label_partition: Option<i32>,
}

/// The served version and the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Served")]
pub struct ServedRecord {
    /// The version, if any.
    pub version: Option<String>,
    /// `ok`, `fallback`, `default` or `error`.
    pub outcome: Outcome,
}

/// One version's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Answer")]
pub struct AnswerRecord {
    /// The version that the request was sent to.
    pub version: String,
    /// `serve` or `shadow`.
    pub role: Role,
    /// `ok`, `error`, `timeout` or `late`.
    pub status: AnswerStatus,
    /// Milliseconds from the request to the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The answer, if it is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// The answer's bytes in base64, if it is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// The error text of the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Record for AnalysisRecord {
    const NAME: &'static str = "analysis";

    fn codec() -> Option<&'static Codec> {
        static CODEC: LazyLock<Codec> =
            LazyLock::new(|| Codec::new(avro_schema::of(&written_by_us::<AnalysisRecord>())));
        Some(&CODEC)
    }

    fn former_codec() -> Option<&'static Codec> {
        static CODEC: LazyLock<Codec> = LazyLock::new(|| {
            let mut schema = avro_schema::of(&written_by_us::<AnalysisRecord>());
            if let Some(fields) = schema["fields"].as_array_mut() {
                fields.retain(|f| f["name"] != "matured_at");
            }
            Codec::new(schema)
        });
        Some(&CODEC)
    }
}

impl AnalysisRecord {
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    pub fn encode(&self, format: Format) -> Vec<u8> {
        encode(format, self)
    }

    pub fn key(&self) -> &str {
        &self.request_id
    }
}

impl From<&Row> for AnalysisRecord {
    fn from(row: &Row) -> Self {
        let case = &row.joined.prediction;
        let truth = row.joined.truth.as_ref();
        Self {
            request_id: case.request_id.to_string(),
            model: row.model.to_string(),
            rollout: case.rollout.as_ref().map(ToString::to_string),
            revision: case.revision.0,
            stage: case.stage.0,
            unit: case.unit.as_ref().map(|u| String::from_utf8_lossy(u).into_owned()),
            unit_base64: case
                .unit
                .as_ref()
                .filter(|u| std::str::from_utf8(u).is_err())
                .map(|i| STANDARD.encode(i)),
            segments: (!case.segments.is_empty()).then(|| {
                case.segments.iter().map(|(by, s)| (by.to_string(), s.to_string())).collect()
            }),
            arm: case.arm.to_string(),
            propensity: finite(case.propensity),
            served: ServedRecord {
                version: case.served.as_ref().map(ToString::to_string),
                outcome: case.outcome,
            },
            requested_at: case.requested_at.0,
            routed_at: case.routed_at.0,
            served_at: case.served_at.0,
            answers: case.answers.iter().map(Into::into).collect(),
            source: SourceRecord { partition: case.case.partition, offset: case.case.offset },
            label: truth.map(|t| (*t.value).clone()),
            label_status: row.joined.status,
            label_delay_ms: truth.map(|t| (t.observed_at - case.event_time()).0),
            row_version: row.joined.row_version,
            matured_at: row.joined.matured_at.map(Into::into),
            scores: row
                .scores
                .iter()
                .map(|(version, scores)| {
                    let scores = scores.iter().map(|(name, s)| (name.to_string(), finite(*s)));
                    (version.to_string(), scores.collect())
                })
                .collect(),
        }
    }
}

impl From<MaturedAt> for MaturedAtRecord {
    fn from(matured: MaturedAt) -> Self {
        let LabelWatermark { time, slowest } = matured.labels;
        let is_known = time > Timestamp::MIN && time < Timestamp::MAX;
        Self {
            prediction_watermark: matured.event_time.0,
            label_watermark: is_known.then_some(time.0),
            slowest_label_partition: slowest,
        }
    }
}

impl From<&CaseAnswer> for AnswerRecord {
    fn from(answer: &CaseAnswer) -> Self {
        let value: Option<Value> =
            answer.value.as_deref().and_then(|v| serde_json::from_slice(v).ok());
        let value_base64 = match (&value, &answer.value) {
            (None, Some(bytes)) => Some(STANDARD.encode(bytes)),
            (_, _) => None,
        };
        Self {
            version: answer.version.to_string(),
            role: answer.role,
            status: answer.status,
            latency_ms: answer.latency.map(|l| l.0 as f64),
            value,
            value_base64,
            error: answer.error.as_ref().map(ToString::to_string),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{AnalysisRecord, MaturedAtRecord};
    use crate::wire::codec::Record;
    use serinus_core::plan::rollout::Format;

    fn row(matured_at: Option<MaturedAtRecord>) -> AnalysisRecord {
        let row = json!({
            "request_id": "r1", "model": "m", "rollout": null, "revision": 1, "stage": 0, "unit": null,
            "arm": "v1", "propensity": 1.0, "served": {"version": "v1", "outcome": "ok"},
            "requested_at": 1, "routed_at": 2, "served_at": 3, "answers": [],
            "source": {"partition": 0, "offset": 7}, "label": {"late": 1}, "label_status": "labelled",
            "label_delay_ms": 7, "row_version": 1, "scores": {},
        });
        let row: AnalysisRecord = serde_json::from_value(row).expect("a row without `matured_at`");
        AnalysisRecord { matured_at, ..row }
    }

    #[test]
    fn rows_hold_the_watermarks_at_which_the_case_matured() {
        let matured = |label_watermark, slowest_label_partition| MaturedAtRecord {
            prediction_watermark: 60_000,
            label_watermark,
            slowest_label_partition,
        };
        for matured_at in [None, Some(matured(None, None)), Some(matured(Some(59_000), Some(3)))] {
            let row = row(matured_at);
            assert_eq!(AnalysisRecord::read(&row.write()).as_ref(), Ok(&row));
            assert_eq!(AnalysisRecord::read(&row.encode(Format::Avro)).as_ref(), Ok(&row));
        }
    }

    #[test]
    fn avro_rows_without_it_are_still_read() {
        let former = AnalysisRecord::former_codec().expect("rows have a former schema");
        assert_eq!(
            former.header(),
            [0xC3, 0x01, 0xE6, 0xC3, 0xAF, 0x9E, 0x9E, 0xE1, 0xC5, 0xC1],
            "the schema that older builds wrote"
        );
        let row = row(None);
        let json = serde_json::to_value(&row).expect("a row is JSON");
        let written = former.encode_json(&json).expect("the row is of the former schema");
        assert_eq!(AnalysisRecord::read(&written), Ok(row));
    }
}
