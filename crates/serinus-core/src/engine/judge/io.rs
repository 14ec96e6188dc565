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
    /// An operator's wish.
    Command(Box<Command>),
    /// One lane's sums.
    Partial(Box<Partial>),
}

/// What a judge asks of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Publish a change or a refusal.
    Event(Box<RolloutEvent>),
    /// Keep where the model stands.
    State(Box<ModelState>),
    /// Publish the evidence.
    Metrics(Box<RolloutMetrics>),
    /// Count something.
    Count(Counter, u64),
}

/// What does not change while a judge lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The model.
    pub model: ModelName,
    /// How many partitions the prediction log has.
    pub partitions: i32,
    /// The topic of labels by request id, for the positions in events.
    pub labels_topic: String,
    /// How much of each look is computed.
    pub detail: Detail,
}
