//! Converts a judge's effects to the records that it publishes.

use crate::wire::event::EventRecord;
use crate::wire::metrics::MetricsRecord;
use crate::wire::state::StateRecord;
use serinus_core::engine::judge::io::Effect;
use serinus_core::plan::rollout::Format;

/// The application's topic of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Events: each change with its reason.
    Events,
    /// The state of each model.
    States,
    /// The metrics of each tick.
    Metrics,
}

impl Place {
    /// Returns the topic's name after the application id.
    pub fn topic(self) -> &'static str {
        match self {
            Self::Events => "rollout-events",
            Self::States => "rollouts",
            Self::Metrics => "rollout-metrics",
        }
    }
}

/// A record to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The topic.
    pub place: Place,
    /// The key.
    pub key: String,
    /// The bytes.
    pub value: Vec<u8>,
}

/// Returns the records of one step's effects; `known` is the model's format before the step.
///
/// A model's first event is in the same step as the state with its format.
pub fn records(effects: &[Effect], known: Option<Format>) -> Vec<Published> {
    let applied = effects.iter().find_map(|e| match e {
        Effect::State(standing) => Some(standing.model.plan.format),
        Effect::Event(_) | Effect::Metrics(_) | Effect::Count(..) => None,
    });
    let format = applied.or(known).unwrap_or(Format::Json);
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Event(change) => {
                let record = EventRecord::from(&**change);
                let (key, value) = (record.key().to_owned(), record.encode(format));
                Some(Published { place: Place::Events, key, value })
            }
            Effect::State(standing) => {
                let record = StateRecord::from(&**standing);
                let (key, value) = (record.key().to_owned(), record.encode(format));
                Some(Published { place: Place::States, key, value })
            }
            Effect::Metrics(report) => {
                let record = MetricsRecord::from(&**report);
                let (key, value) = (record.key().to_owned(), record.encode(format));
                Some(Published { place: Place::Metrics, key, value })
            }
            Effect::Count(..) => None,
        })
        .collect()
}
