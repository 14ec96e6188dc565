//! The spec as written. Doc comments here become descriptions in the JSON Schema.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::routing::OnFailure;
use crate::plan::metric::{Direction, MetricKind, MetricRole, Unusable};
use crate::plan::rollout::{
    Format, MissingLabels, OnConflict, PromoteWhen, StrategyKind, WhenNoData,
};
use crate::spec::scalar::{
    Duration, Fraction, Limit, Percentage, Place, Pointer, Shares, TimePlace,
};

/// A document of a spec file: a model or a rollout. A file may hold several, separated by `---`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(clippy::large_enum_variant, reason = "never constructed, used only for its schema")]
pub enum Document {
    /// A model.
    Model(ModelDocument),
    /// A rollout.
    Rollout(RolloutDocument),
}

/// The version of the spec's language.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one so far.
    #[serde(rename = "serinus/v1")]
    V1,
}

/// The kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum DocumentKind {
    /// A model: a named prediction service with one request topic.
    Model,
    /// A rollout: one attempt to promote candidates.
    Rollout,
}

/// The metadata of a model.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelMetadata {
    /// The name: letters, digits, `.`, `_` and `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,100}$"))]
    pub name: String,
}

/// The metadata of a rollout.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutMetadata {
    /// The name: letters, digits, `.`, `_` and `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,100}$"))]
    pub name: String,
    /// The number of the run, which `retry` counts. Default: 1.
    pub run: Option<NonZeroU32>,
}

/// A model: a named prediction service with one request topic.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelDocument {
    /// The version of this language.
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    /// Which kind of document this is.
    #[schemars(extend("const" = "Model"))]
    pub kind: DocumentKind,
    /// The model's name.
    pub metadata: ModelMetadata,
    /// The spec.
    pub spec: ModelSpec,
}

/// A rollout: one attempt to promote candidates.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutDocument {
    /// The version of this language.
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    /// Which kind of document this is.
    #[schemars(extend("const" = "Rollout"))]
    pub kind: DocumentKind,
    /// The rollout's name.
    pub metadata: RolloutMetadata,
    /// The spec.
    pub spec: RolloutSpec,
}

/// The spec of a model.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModelSpec {
    /// The version that serves at the start; after a promotion the recorded state wins.
    pub stable: String,
    /// The unit of assignment, which stays in one arm. Default: `key`.
    pub unit: Option<Place>,
    /// The source of the request id. Default: the header `ce_id`, else topic, partition and offset.
    pub request_id: Option<Place>,
    /// Segments of traffic by name, each with its source in a request. Stored with the prediction.
    pub segments: Option<BTreeMap<String, Place>>,
    /// The timeout of the serving version.
    pub timeout: Duration,
    /// The timeout of shadow copies. Default: ten times `timeout`.
    pub shadow_timeout: Option<Duration>,
    /// What is served when the serving version fails or is late. Default: `stable`.
    pub on_failure: Option<OnFailure>,
    /// The value that is served if no version has an answer.
    pub default: Option<serde_json::Value>,
    /// The sources of a label's parts in its record.
    pub labels: Option<LabelsOfModel>,
    /// The format of records. Default: `json`.
    pub format: Option<Format>,
    /// Topic names other than `<model>.requests` and so on.
    pub topics: Option<Topics>,
    /// Maximum number of open cases in one partition. Default: 100000.
    #[schemars(range(min = 1))]
    pub open_cases_max: Option<u64>,
    /// The number of partitions of new topics. Default: 8.
    #[schemars(range(min = 1, max = 10_000))]
    pub partitions: Option<u64>,
}

/// The sources of a label's parts in its record.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LabelsOfModel {
    /// The request id. Default: `json:/request_id`.
    pub request_id: Option<Place>,
    /// The ground truth. Default: `json:/label`.
    pub value: Option<Pointer>,
    /// When it became known. Default: `json:/observed_at`; a record without it uses its timestamp.
    pub observed_at: Option<TimePlace>,
}

/// Topic names that differ from the defaults.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Topics {
    /// Input: requests.
    pub requests: Option<String>,
    /// Input: answers.
    pub responses: Option<String>,
    /// Output: served answers.
    pub served: Option<String>,
    /// The prediction log.
    pub predictions: Option<String>,
    /// Input: labels (ground truth).
    pub labels: Option<String>,
    /// Output: joined rows.
    pub analysis: Option<String>,
    /// Output: dead letters.
    pub dead_letters: Option<String>,
    /// A version's requests; `{version}` stands for the version.
    pub version_requests: Option<String>,
}

/// The spec of a rollout.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RolloutSpec {
    /// The model.
    pub model: String,
    /// The versions under test.
    #[schemars(length(min = 1))]
    pub candidates: Vec<String>,
    /// The kind of rollout.
    pub strategy: StrategyKind,
    /// The stages. A `shadow` rollout without stages has one that copies all requests.
    pub stages: Option<Vec<StageSpec>>,
    /// The metrics.
    #[schemars(length(min = 1))]
    pub metrics: Vec<MetricSpec>,
    /// Segments in which goals and guardrails are watched separately: harm in one is an alert and decides nothing.
    pub segments: Option<Vec<SegmentSpec>>,
    /// When labels are read; `maturity` is required if a metric needs labels.
    pub labels: Option<LabelsOfRollout>,
    /// How the rollout is decided.
    pub decide: Option<DecideSpec>,
    /// What to do about another rollout in progress. Default: `refuse`.
    pub on_conflict: Option<OnConflict>,
}

/// Segments that are watched separately.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentSpec {
    /// The name of the segmentation in the model.
    pub by: String,
    /// The segments to watch.
    #[schemars(length(min = 1))]
    pub values: Vec<String>,
}

/// One stage of a rollout.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StageSpec {
    /// The share that the candidates serve: one share for each, or by version.
    pub share: Option<Shares>,
    /// The share of requests copied as shadow traffic: one share for each candidate, or by version (including the stable one).
    pub shadow: Option<Shares>,
    /// The minimum duration of the stage. Default: none.
    pub hold: Option<Duration>,
    /// Further conditions for the end of the stage.
    pub until: Option<UntilSpec>,
    /// Whether a person must approve the next stage. Default: false.
    pub approve: Option<bool>,
}

/// Further conditions for the end of a stage.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UntilSpec {
    /// Minimum number of exposures of each candidate.
    pub exposures: u64,
}

/// When labels are read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsOfRollout {
    /// The age at which a case's label state is read, the same for all arms.
    pub maturity: Option<Duration>,
    /// What a missing label means. Default: `exclude`.
    pub missing: Option<MissingLabels>,
    /// How long after maturity late labels are still joined. Default: as long as `maturity`, at least a minute.
    pub keep: Option<Duration>,
}

/// One metric.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// Its name. Default: its kind.
    pub name: Option<String>,
    /// The kind of metric, which is computed for each case.
    pub kind: MetricKind,
    /// The JSON pointer to the prediction in the answer.
    pub prediction: Option<Pointer>,
    /// The JSON pointer to the truth in the label's value.
    pub label: Option<Pointer>,
    /// The role in decisions.
    pub role: MetricRole,
    /// Which direction is better. Default: the direction of the kind; required for `value`.
    pub direction: Option<Direction>,
    /// The margin: how much worse is still acceptable.
    pub margin: Option<Limit>,
    /// The smallest effect worth detecting. Default: the margin.
    pub mde: Option<Limit>,
    /// The score from which a prediction is positive, on the scale of the scores. Without it, scores must be probabilities, and the
    /// threshold is 0.5.
    pub threshold: Option<f64>,
    /// The positive label: it counts as 1, every other label as 0. Without it, the label must be 0, 1, true, false or a number
    /// between 0 and 1.
    pub positive: Option<serde_json::Value>,
    /// The range of a bounded metric; values outside are clipped to it.
    #[schemars(length(min = 2, max = 2))]
    pub range: Option<Vec<f64>>,
    /// The stable version's expected value. A wrong value costs power, but not validity.
    pub base: Option<f64>,
    /// Numbers that differ by at most this agree (`disagreement`). Default: 0.
    pub tolerance: Option<f64>,
    /// JSON pointers that are not compared (`disagreement`).
    pub ignore: Option<Vec<Pointer>>,
    /// A second instance of the stable version: how often its answer differs from the stable one is subtracted
    /// (`disagreement`). It gets copies if the stage's `shadow` names it or names no version.
    pub twin: Option<String>,
    /// Whether proved harm in this metric ends the rollout. Default: true for goals and guardrails, but not for `auc`, `precision`,
    /// `recall` and `f1`.
    pub abort: Option<bool>,
    /// How to count a labeled case whose answer is missing, late, failed or cannot be scored. Default: `bounds`.
    pub unusable: Option<Unusable>,
}

/// How a rollout is decided.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideSpec {
    /// What must be proved for the goals before a promotion. Default: `non_inferior`; for `ab` `superior`.
    pub promote: Option<PromoteWhen>,
    /// The error rate of each kind of decision. Default: 0.05.
    pub alpha: Option<Fraction>,
    /// What happens if the time is over and nothing is proved. Default: `abort`.
    pub inconclusive: Option<InconclusiveWord>,
    /// The maximum duration of the rollout. Default: no limit.
    pub by: Option<Duration>,
    /// What happens without traffic or labels. Default: `hold`.
    pub no_data: Option<WhenNoData>,
    /// Whether an `ab` or `shadow` rollout promotes automatically. Default: false.
    pub auto: Option<bool>,
    /// The interval between interim analyses, in event time. Default: a twentieth of the shortest hold or maturity, from 1s to 1m.
    pub tick: Option<Duration>,
    /// Minimum number of labelled cases per arm before a quality metric may pass. Default: 30.
    pub min_labelled: Option<u64>,
    /// The share of mature cases that must have a label. Default: 95%; 0 if missing labels count as negative.
    pub min_coverage: Option<Percentage>,
}

/// What happens if the time is over and nothing is proved.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InconclusiveWord {
    /// All traffic goes back to the stable version.
    Abort,
    /// The rollout is paused until a person decides.
    Pause,
    /// The same as `pause`.
    Hold,
}
