//! The plan language: models and rollouts, from valid specs.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::ids::{ModelName, RolloutName, StageIndex, Version};
use crate::domain::routing::{OnFailure, Routing, ShadowShare, Slice};
use crate::domain::share::Share;
use crate::domain::time::Span;
use crate::plan::metric::Metric;

/// The source of a text in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The record's key.
    Key,
    /// A header of this name.
    Header(String),
    /// A JSON pointer into the value.
    Json(String),
}

/// How records are written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FormatWord")]
pub enum Format {
    /// JSON text.
    Json,
    /// Avro, single-object encoding.
    Avro,
}

/// The topics of a model, with their default names unless the spec sets others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelTopics {
    /// Requests in.
    pub requests: String,
    /// Answers in.
    pub responses: String,
    /// Served answers out.
    pub served: String,
    /// The prediction log.
    pub predictions: String,
    /// Ground truth in.
    pub labels: String,
    /// Joined rows out.
    pub analysis: String,
    /// Dead letters.
    pub dead_letters: String,
    /// A version's requests, with `{version}` in its place.
    pub version_requests: String,
}

impl ModelTopics {
    /// Returns the contract's names for a model.
    pub fn of(model: &ModelName) -> Self {
        let name = |suffix: &str| format!("{model}.{suffix}");
        Self {
            requests: name("requests"),
            responses: name("responses"),
            served: name("served"),
            predictions: name("predictions"),
            labels: name("labels"),
            analysis: name("analysis"),
            dead_letters: name("dead-letters"),
            version_requests: name("{version}.requests"),
        }
    }

    /// Returns the topic that a version's workers read.
    pub fn of_version(&self, version: &Version) -> String {
        self.version_requests.replace("{version}", version.as_str())
    }
}

/// The sources of a label's parts in its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMap {
    /// The request id.
    pub request_id: Source,
    /// The truth; the empty pointer is the whole value.
    pub value: String,
    /// When it became known; without one, the record's time.
    pub observed_at: Option<String>,
}

/// A model, as meant.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPlan {
    /// Its name.
    pub name: ModelName,
    /// The version it starts with.
    pub stable: Version,
    /// The unit of assignment.
    pub unit: Source,
    /// The source of the request id; `None`: the header `ce_id`, or else topic, partition and offset.
    pub request_id: Option<Source>,
    /// Segments of traffic by name, each with its source in a request.
    pub segments: Vec<(Arc<str>, Source)>,
    /// The serving version's deadline.
    pub timeout: Span,
    /// The shadows' deadline.
    pub shadow_timeout: Span,
    /// The fallback if the serving version fails.
    pub on_failure: OnFailure,
    /// The default value, as JSON text.
    pub default: Option<Arc<[u8]>>,
    /// The sources of a label's parts.
    pub labels: LabelMap,
    /// How records are written and read.
    pub format: Format,
    /// Topic names.
    pub topics: ModelTopics,
    /// How many cases may be open in one partition.
    pub open_cases_max: usize,
    /// How many partitions new topics get.
    pub partitions: i32,
}

/// The kinds of rollouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "StrategyWord")]
pub enum StrategyKind {
    /// Candidates answer in silence.
    Shadow,
    /// Candidates serve fixed shares; a verdict at the end.
    Ab,
    /// Candidates serve growing shares until one serves all.
    Canary,
}

impl StrategyKind {
    /// Returns the contract's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Ab => "ab",
            Self::Canary => "canary",
        }
    }
}

/// One step of a rollout.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Stage {
    /// The share that each candidate serves, in candidate order; a candidate that is not named serves nothing.
    pub shares: Vec<(Version, Share)>,
    /// The shares of shadow copies.
    pub shadows: Vec<(Version, Share)>,
    /// Minimum duration, in event time.
    pub hold: Span,
    /// Minimum number of exposures of each candidate.
    pub exposures_min: u64,
    /// Whether a person must approve the step after it.
    pub approve: bool,
}

impl Stage {
    /// Returns the share that a candidate serves.
    pub fn share_of(&self, version: &Version) -> Share {
        self.shares.iter().find(|(s, _)| s == version).map_or(Share::NONE, |(_, share)| *share)
    }
}

/// What a promotion wants proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PromoteWord")]
pub enum PromoteWhen {
    /// Not worse than the margin.
    NonInferior,
    /// Better.
    Superior,
}

/// What happens when the time is over and nothing is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenInconclusive {
    /// All traffic goes back to the stable version; the phase is `Inconclusive`.
    Abort,
    /// The rollout pauses as it is, for a person.
    Pause,
}

/// What happens without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "NoDataWord")]
pub enum WhenNoData {
    /// Wait.
    Hold,
    /// Go back.
    Abort,
}

/// What to do about another rollout in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "OnConflictWord")]
pub enum OnConflict {
    /// Refuse the new one.
    Refuse,
    /// Abort the old one.
    Replace,
    /// Wait for the old one's end.
    Queue,
}

/// What a missing label means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MissingWord")]
pub enum MissingLabels {
    /// The case does not count.
    Exclude,
    /// It did not happen: the truth is 0.
    Negative,
}

/// How a rollout is decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Decide {
    /// What a promotion wants proved.
    pub promote: PromoteWhen,
    /// The error rate of each kind of decision: promoting a bad candidate, and aborting a good one.
    pub alpha: f64,
    /// What happens at the time limit.
    pub inconclusive: WhenInconclusive,
    /// How long the rollout may take, in event time.
    pub by: Option<Span>,
    /// What happens without data.
    pub no_data: WhenNoData,
    /// Whether an `ab` or `shadow` promotes by itself.
    pub auto: bool,
    /// How many labelled cases per arm are wanted before a quality metric may pass.
    pub min_labelled: u64,
    /// The share of mature cases that must have a label.
    pub min_coverage: f64,
}

/// A rollout, as meant.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutPlan {
    /// Its name.
    pub name: RolloutName,
    /// The model.
    pub model: ModelName,
    /// The kind.
    pub strategy: StrategyKind,
    /// The versions under test, in spec order.
    pub candidates: Vec<Version>,
    /// The steps, at least one.
    pub stages: Vec<Stage>,
    /// The metrics.
    pub metrics: Vec<Metric>,
    /// The age at which a case's label state is read.
    pub maturity: Span,
    /// How long after that late labels are still joined.
    pub keep: Span,
    /// What a missing label means.
    pub missing: MissingLabels,
    /// How it is decided.
    pub decide: Decide,
    /// What to do about another rollout in progress.
    pub on_conflict: OnConflict,
    /// How often it is judged, in event time.
    pub tick: Span,
}

impl RolloutPlan {
    /// Returns a stage, or nothing past the last.
    pub fn stage(&self, index: StageIndex) -> Option<&Stage> {
        self.stages.get(index.0 as usize)
    }

    /// Returns the candidates' slices at a stage, in spec order; the widths are the same at all stages.
    pub fn slices(&self, index: StageIndex) -> Vec<Slice> {
        self.candidates
            .iter()
            .map(|version| Slice {
                version: version.clone(),
                width: self.stages.iter().map(|s| s.share_of(version)).max().unwrap_or(Share::NONE),
                share: self.stage(index).map_or(Share::NONE, |i| i.share_of(version)),
            })
            .collect()
    }

    /// Returns the versions of the stages besides the stable one: the candidates, then versions that only get copies.
    pub fn versions(&self) -> Vec<&Version> {
        let copied = self.stages.iter().flat_map(|v| v.shadows.iter().map(|(s, _)| s));
        let mut versions: Vec<&Version> = Vec::new();
        for version in self.candidates.iter().chain(copied) {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        versions
    }

    /// Returns the versions that get shadow copies at a stage.
    pub fn shadows(&self, index: StageIndex) -> Vec<ShadowShare> {
        let Some(stage) = self.stage(index) else { return Vec::new() };
        stage
            .shadows
            .iter()
            .map(|(version, share)| ShadowShare { version: version.clone(), share: *share })
            .collect()
    }
}

impl ModelPlan {
    /// Returns the routing of a model at rest: the stable version serves all.
    pub fn at_rest(&self, stable: Version, revision: crate::domain::ids::Revision) -> Routing {
        Routing {
            model: self.name.clone(),
            revision,
            rollout: None,
            stage: StageIndex(0),
            stable,
            salt: crate::domain::ids::Salt::new(""),
            slices: Vec::new(),
            shadows: Vec::new(),
            timeout: self.timeout,
            shadow_timeout: self.shadow_timeout,
            on_failure: self.on_failure,
            default: self.default.clone(),
        }
    }
}
