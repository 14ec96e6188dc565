//! The events and effects of a judge.

use crate::domain::ids::ModelName;
use crate::engine::counter::Counter;
use crate::engine::judge::command::Command;
use crate::engine::judge::event::RolloutEvent;
use crate::engine::judge::report::RolloutMetrics;
use crate::engine::judge::state::ModelState;
use crate::engine::partial::Partial;
use crate::inference::input::Detail;

/// An event of a judge.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A command of an operator.
    Command(Box<Command>),
    /// One lane's sums.
    Partial(Box<Partial>),
}

/// An effect that a judge requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Publish a change or a refusal.
    Event(Box<RolloutEvent>),
    /// Store the state of the model.
    State(Box<ModelState>),
    /// Publish the evidence.
    Metrics(Box<RolloutMetrics>),
    /// Count something.
    Count(Counter, u64),
}

/// The settings of a judge, fixed while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The model.
    pub model: ModelName,
    /// The number of partitions of the prediction log.
    pub partitions: i32,
    /// The topic of labels by request id, for the positions in events.
    pub labels_topic: String,
    /// How much of each interim analysis is computed.
    pub detail: Detail,
}
