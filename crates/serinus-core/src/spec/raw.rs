//! The spec as it is written. Doc comments here become descriptions in the JSON Schema.

use std::collections::BTreeMap;

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

/// A document of a spec file: a model or a rollout. A file may hold several, parted by `---`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(clippy::large_enum_variant, reason = "it is never made, only described")]
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
    /// A rollout: one attempt to bring candidates in.
    Rollout,
}

/// What every document says about itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The name: letters, digits, `.`, `_` and `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,100}$"))]
    pub name: String,
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
    pub metadata: Metadata,
    /// What it is.
    pub spec: ModelSpec,
}

/// A rollout: one attempt to bring candidates in.
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
    pub metadata: Metadata,
    /// What it is.
    pub spec: RolloutSpec,
}

/// What a model is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModelSpec {
    /// The version that serves at the start; after a promotion the recorded state wins.
    pub stable: String,
    /// What is kept in one arm. Default: `key`.
    pub unit: Option<Place>,
    /// Where the request id stands. Default: the header `ce_id`, else topic, partition and offset.
    pub request_id: Option<Place>,
    /// Segments of traffic by name, and where a request says into which one it falls. Kept with its prediction.
    pub segments: Option<BTreeMap<String, Place>>,
    /// The deadline of the serving version.
    pub timeout: Duration,
    /// The deadline of shadows. Default: ten times `timeout`.
    pub shadow_timeout: Option<Duration>,
    /// What is served when the serving version fails or is late. Default: `stable`.
    pub on_failure: Option<OnFailure>,
    /// The value that is served when nothing better is there.
    pub default: Option<serde_json::Value>,
    /// Where a label's parts stand in its record.
    pub labels: Option<LabelsOfModel>,
    /// How records are written and read. Default: `json`.
    pub format: Option<Format>,
    /// Topic names other than `<model>.requests` and so on.
    pub topics: Option<Topics>,
    /// How many cases may be open in one partition. Default: 100000.
    #[schemars(range(min = 1))]
    pub open_cases_max: Option<u64>,
    /// How many partitions new topics get. Default: 8.
    #[schemars(range(min = 1, max = 10_000))]
    pub partitions: Option<u64>,
}

/// Where a label's parts stand in its record.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LabelsOfModel {
    /// The request id. Default: `json:/request_id`.
    pub request_id: Option<Place>,
    /// The truth. Default: `json:/label`.
    pub value: Option<Pointer>,
    /// When it became known. Default: `json:/observed_at`; a record without it counts from its own time.
    pub observed_at: Option<TimePlace>,
}

/// Topic names other than the usual ones.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Topics {
    /// Requests in.
    pub requests: Option<String>,
    /// Answers in.
    pub responses: Option<String>,
    /// Served answers out.
    pub served: Option<String>,
    /// The prediction log.
    pub predictions: Option<String>,
    /// Ground truth in.
    pub labels: Option<String>,
    /// Joined rows out.
    pub analysis: Option<String>,
    /// What could not be used.
    pub dead_letters: Option<String>,
    /// A version's requests; `{version}` stands for the version.
    pub version_requests: Option<String>,
}

/// What a rollout is.
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
    /// The steps. A `shadow` without any has one that copies everything.
    pub stages: Option<Vec<StageSpec>>,
    /// What is measured.
    #[schemars(length(min = 1))]
    pub metrics: Vec<MetricSpec>,
    /// Segments in which goals and guardrails are watched apart: harm in one is an alert, it decides nothing.
    pub segments: Option<Vec<SegmentSpec>>,
    /// How labels are waited for; `maturity` is required when a metric needs them.
    pub labels: Option<LabelsOfRollout>,
    /// How the rollout is decided.
    pub decide: Option<DecideSpec>,
    /// What to do about another rollout in progress. Default: `refuse`.
    pub on_conflict: Option<OnConflict>,
}

/// Segments that are watched apart.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentSpec {
    /// The model's name for them.
    pub by: String,
    /// Which of them.
    #[schemars(length(min = 1))]
    pub values: Vec<String>,
}

/// One step of a rollout.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StageSpec {
    /// What the candidates serve: a share for each, or by version.
    pub share: Option<Shares>,
    /// Who gets silent copies: a share for each candidate, or by version (the stable one too).
    pub shadow: Option<Shares>,
    /// How long it lasts at the least. Default: no time.
    pub hold: Option<Duration>,
    /// What else it waits for.
    pub until: Option<UntilSpec>,
    /// Whether a person must approve the step after it. Default: false.
    pub approve: Option<bool>,
}

/// What a stage waits for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UntilSpec {
    /// So many exposures of each candidate.
    pub exposures: u64,
}

/// How labels are waited for.
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
    /// What is computed for each case.
    pub kind: MetricKind,
    /// Where the prediction stands in the answer.
    pub prediction: Option<Pointer>,
    /// Where the truth stands in the label's value.
    pub label: Option<Pointer>,
    /// What it may decide.
    pub role: MetricRole,
    /// Which way is better. Default: what the kind says; `value` must say.
    pub direction: Option<Direction>,
    /// How much worse is still acceptable.
    pub margin: Option<Limit>,
    /// The smallest effect worth detecting. Default: the margin.
    pub mde: Option<Limit>,
    /// From which score on a case is called positive, on the scores' own scale. Without it a score must be a probability, and 0.5 is
    /// the limit.
    pub threshold: Option<f64>,
    /// The label that means that it happened: it counts as 1, every other as 0. Without it the label must be 0, 1, true, false or a
    /// number between.
    pub positive: Option<serde_json::Value>,
    /// The range of a bounded metric; values outside are clipped to it.
    #[schemars(length(min = 2, max = 2))]
    pub range: Option<Vec<f64>>,
    /// The stable version's expected value: a wrong one costs power, never validity.
    pub base: Option<f64>,
    /// Numbers closer than this agree (`disagreement`). Default: 0.
    pub tolerance: Option<f64>,
    /// What is not compared (`disagreement`).
    pub ignore: Option<Vec<Pointer>>,
    /// A second instance of the stable version: how often its answer differs from the stable one is subtracted
    /// (`disagreement`). It gets copies where the stage's `shadow` names it, or names nobody.
    pub twin: Option<String>,
    /// Whether proved harm in this metric ends the rollout. Default: true for goals and guardrails, but not for `auc`, `precision`,
    /// `recall` and `f1`.
    pub abort: Option<bool>,
    /// What a case counts as whose answer is missing, late, failed or cannot be scored, although the truth is known. Default: `bounds`.
    pub unusable: Option<Unusable>,
}

/// How a rollout is decided.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideSpec {
    /// What a promotion wants proved of the goals. Default: `non_inferior`; for `ab` `superior`.
    pub promote: Option<PromoteWhen>,
    /// The error rate of each kind of decision. Default: 0.05.
    pub alpha: Option<Fraction>,
    /// What happens when the time is over and nothing is proved. Default: `abort`.
    pub inconclusive: Option<InconclusiveWord>,
    /// How long the rollout may take. Default: no limit.
    pub by: Option<Duration>,
    /// What happens without traffic or labels. Default: `hold`.
    pub no_data: Option<WhenNoData>,
    /// Whether an `ab` or `shadow` promotes by itself. Default: false.
    pub auto: Option<bool>,
    /// How often it is judged, in event time. Default: a twentieth of the shortest hold or maturity, from 1s to 1m.
    pub tick: Option<Duration>,
    /// How many labelled cases per arm a quality metric wants before it may pass. Default: 30.
    pub min_labelled: Option<u64>,
    /// The share of mature cases that must have a label. Default: 95%; 0 where missing labels count as negative.
    pub min_coverage: Option<Percentage>,
}

/// What happens when the time is over and nothing is proved.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InconclusiveWord {
    /// All traffic goes back to the stable version.
    Abort,
    /// The rollout stays as it is, for a person.
    Pause,
    /// The same as `pause`.
    Hold,
}
