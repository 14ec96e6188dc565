//! The internal topics of a model: those that only Serinus reads and writes.

use serinus_core::domain::ids::ModelName;

/// The names of a model's internal topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalTopics {
    /// The journal of the serving lanes.
    pub serving_journal: String,
    /// Labels by request id.
    pub labels: String,
    /// The journal of the analyst lanes.
    pub analyst_journal: String,
    /// Partial evidence, for the judge.
    pub partials: String,
}

impl InternalTopics {
    /// Returns the names for a model of an application.
    pub fn of(app: &str, model: &ModelName) -> Self {
        let name = |suffix: &str| format!("{app}.internal.{model}.{suffix}");
        Self {
            serving_journal: name("journal"),
            labels: name("labels"),
            analyst_journal: name("analyst-journal"),
            partials: name("partials"),
        }
    }
}
