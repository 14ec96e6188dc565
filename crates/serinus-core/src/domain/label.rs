//! Ground truth, that comes hours or weeks later.

use crate::domain::ids::RequestId;
use crate::domain::time::Timestamp;

/// What is known about one request's truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The request that it is about.
    pub request_id: RequestId,
    /// The truth, in the labels' own shape.
    pub value: serde_json::Value,
    /// When it became known.
    pub observed_at: Timestamp,
    /// The highest wins; of equal ones the first.
    pub version: u64,
    /// Takes back what was said before.
    pub retract: bool,
}
