//! Ground truth, which arrives hours or weeks later.

use crate::domain::ids::RequestId;
use crate::domain::time::Timestamp;

/// The ground truth about one request.
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
    /// Retracts the earlier label.
    pub retract: bool,
}
