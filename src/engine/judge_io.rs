//! What a judge is told, and what it asks of the world.

use crate::domain::ids::ModelName;
use crate::engine::change::Change;
use crate::engine::command::Command;
use crate::engine::partial::Partial;
use crate::engine::report::Report;
use crate::engine::standing::Standing;

/// What a judge is told.
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
    Change(Box<Change>),
    /// Keep where the model stands.
    State(Box<Standing>),
    /// Publish the evidence.
    Report(Box<Report>),
    /// Count something.
    Count(Counter, u64),
}

/// What a judge counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// Ticks judged.
    Ticks,
    /// Changes published.
    Changes,
    /// Wishes refused.
    Refusals,
    /// Commands that had been done already.
    CommandDuplicates,
    /// Partials of a rollout that is not in progress, or older than what is known.
    PartialsStale,
}

impl Counter {
    /// Returns its name in the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ticks => "judge_ticks",
            Self::Changes => "judge_changes",
            Self::Refusals => "judge_refusals",
            Self::CommandDuplicates => "judge_command_duplicates",
            Self::PartialsStale => "judge_partials_stale",
        }
    }
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
}
