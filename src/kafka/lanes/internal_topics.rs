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
        Self {
            serving_journal: serving_journal(app, model),
            labels: labels(app, model),
            analyst_journal: analyst_journal(app, model),
            partials: partials(app, model),
        }
    }
}

/// Returns the name of the journal of the model's serving lanes.
pub fn serving_journal(app: &str, model: &ModelName) -> String {
    format!("{app}.internal.{model}.journal")
}

/// Returns the name of the topic of the model's labels by request id.
pub fn labels(app: &str, model: &ModelName) -> String {
    format!("{app}.internal.{model}.labels")
}

/// Returns the name of the journal of the model's analyst lanes.
pub fn analyst_journal(app: &str, model: &ModelName) -> String {
    format!("{app}.internal.{model}.analyst-journal")
}

/// Returns the name of the topic of the model's partial evidence.
pub fn partials(app: &str, model: &ModelName) -> String {
    format!("{app}.internal.{model}.partials")
}
