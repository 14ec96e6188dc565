//! The routing of one revision. It is complete: nothing else is needed to recompute an assignment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{ModelName, Revision, RolloutName, Salt, StageIndex, Version};
use crate::domain::share::Share;
use crate::domain::time::Span;

/// Whether a version serves a request or shadows it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Its answer may be served.
    Serve,
    /// Its answer is never served.
    Shadow,
}

/// One candidate's place on the line of points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The candidate.
    pub version: Version,
    /// How wide its slice of [0, 1) is: its largest share in any stage.
    pub width: Share,
    /// How much of the slice it serves now, from the slice's start.
    pub share: Share,
}

/// A version that gets silent copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowShare {
    /// The version copied to.
    pub version: Version,
    /// The share of requests copied, among those it does not serve.
    pub share: Share,
}

/// The fallback if the serving version fails or is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "OnFailureWord")]
pub enum OnFailure {
    /// The stable version's answer, then the default value, then an error.
    Stable,
    /// The default value, then an error.
    Default,
    /// An error.
    Error,
}

/// The routing of one model at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// The model.
    pub model: ModelName,
    /// Counts the changes of this routing.
    pub revision: Revision,
    /// The rollout in progress, if any.
    pub rollout: Option<RolloutName>,
    /// Its stage; 0 when there is none.
    pub stage: StageIndex,
    /// The version that serves everything that no candidate does.
    pub stable: Version,
    /// The salt of the assignment.
    pub salt: Salt,
    /// The candidates' slices, end to end in spec order.
    pub slices: Vec<Slice>,
    /// The shares of shadow copies.
    pub shadows: Vec<ShadowShare>,
    /// How long the serving version has.
    pub timeout: Span,
    /// How long shadows (and the record of a late answer) have.
    pub shadow_timeout: Span,
    /// The fallback if the serving version fails.
    pub on_failure: OnFailure,
    /// The value served by default, as JSON text.
    pub default: Option<std::sync::Arc<[u8]>>,
}

impl Routing {
    /// Returns the share that the stable version serves.
    pub fn stable_share(&self) -> Share {
        let taken: u32 = self.slices.iter().map(|s| s.share.millionths()).sum();
        Share::from_millionths(1_000_000 - taken.min(1_000_000)).unwrap_or(Share::NONE)
    }

    /// Returns the share that a version serves.
    pub fn share_of(&self, version: &Version) -> Share {
        match self.slices.iter().find(|s| &s.version == version) {
            Some(slice) => slice.share,
            None if *version == self.stable => self.stable_share(),
            None => Share::NONE,
        }
    }
}
