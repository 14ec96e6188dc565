//! The events and effects of an analyst lane.

use std::sync::Arc;

use crate::domain::case::Prediction;
use crate::domain::ids::{ModelName, Revision, Version};
use crate::domain::label::Label;
use crate::domain::time::{Span, Timestamp};
use crate::engine::analyst::accumulator::CaseScores;
use crate::engine::counter::Counter;
use crate::engine::partial::Partial;
use crate::evidence::design::Design;
use crate::join::entry::Joined;
use crate::join::label_join::Limits;
use crate::plan::rollout::RolloutPlan;

/// The settings of a lane, fixed while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The model.
    pub model: ModelName,
    /// The partition of the prediction log.
    pub partition: i32,
    /// The number of partitions of the prediction log.
    pub partitions: i32,
    /// An input counts as idle after this time without a record.
    pub idle_after: Span,
    /// The default maturity, for cases without a rollout that sets one.
    pub window: Span,
    /// How long after maturity late labels are joined, unless the rollout sets another time.
    pub keep: Span,
    /// How long a case of an unknown rollout waits for its plan.
    pub plan_wait_max: Span,
    /// The limits of the lane's memory.
    pub limits: Limits,
}

impl Settings {
    /// Returns the default settings of a lane.
    pub fn new(model: ModelName, partition: i32, partitions: i32) -> Self {
        Self {
            model,
            partition,
            partitions,
            idle_after: Span::seconds(1),
            window: Span::seconds(60),
            keep: Span::seconds(3600),
            plan_wait_max: Span::seconds(30),
            limits: Limits {
                cases_max: 2_000_000,
                early_ids_max: 500_000,
                label_versions_max: 16,
                closed_ids_max: 500_000,
            },
        }
    }
}

impl Settings {
    /// Returns how long a case waits for its label, and how long it is kept after that, under a plan or without one.
    pub fn spans(&self, plan: Option<&RolloutPlan>) -> (Span, Span) {
        plan.map_or((self.window, self.keep), |k| (k.maturity, k.keep))
    }
}

/// One of a lane's two inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// The prediction log.
    Predictions,
    /// The labels by request id.
    Labels,
}

/// The label watermark of one partition of the label topic: how far its labels have been copied to the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelWatermark {
    /// The partition.
    pub source: i32,
    /// The wall-clock time of this report.
    pub said_at: Timestamp,
    /// The newest label time so far; `None` if no label was read yet.
    pub newest: Option<Timestamp>,
    /// All labels that were in the partition at this wall-clock time were copied before this mark; `None` if no such time is known.
    pub read_to: Option<Timestamp>,
    /// Whether the partition was idle at that time.
    pub is_quiet: bool,
}

/// What a lane needs of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Arc<RolloutPlan>,
    /// The design of its tests, for every stage so far.
    pub design: Design,
    /// The stable version, which the candidates are compared with.
    pub stable: Version,
    /// The newest revision that this covers.
    pub revision: Revision,
    /// Whether its evidence is still wanted.
    pub is_live: bool,
}

/// An event of a lane.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A record of the prediction log.
    Prediction {
        /// Its offset.
        offset: i64,
        /// The case.
        prediction: Box<Prediction>,
    },
    /// A record of the labels by request id.
    Label {
        /// Its offset.
        offset: i64,
        /// The partition of the label topic that it came from, if the copy names one.
        source: Option<i32>,
        /// The label.
        label: Box<Label>,
    },
    /// A label watermark, between the labels by request id.
    Watermark {
        /// Its offset.
        offset: i64,
        /// The watermark.
        mark: LabelWatermark,
    },
    /// A record that cannot be read.
    Unreadable {
        /// The input that it came from.
        input: Input,
        /// Its offset.
        offset: i64,
        /// The reason why it cannot be used.
        reason: String,
    },
    /// The lane starts or restarts, with this number of label partitions.
    Sources(i32),
    /// A rollout started, changed or ended.
    Plan(Box<Planned>),
    /// The number of unread records of each input.
    Lag {
        /// Of the prediction log.
        predictions: u64,
        /// Of the labels.
        labels: u64,
    },
}

/// A joined row, with the scores of each answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The model.
    pub model: ModelName,
    /// The case and its truth.
    pub joined: Joined,
    /// The scores.
    pub scores: CaseScores,
}

/// An effect that a lane requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write a row.
    Row(Box<Row>),
    /// Send the sums of a rollout to the judge.
    Partial(Box<Partial>),
    /// Put a record with the dead letters.
    Refuse {
        /// The input that it came from.
        input: Input,
        /// Its offset.
        offset: i64,
        /// The reason why it cannot be used.
        reason: String,
    },
    /// Count something.
    Count(Counter, u64),
}
