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

/// What does not change while a lane lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The model.
    pub model: ModelName,
    /// The partition of the prediction log.
    pub partition: i32,
    /// Of how many.
    pub partitions: i32,
    /// After how long without a record an input counts as idle.
    pub idle_after: Span,
    /// The age at which labels are read where no rollout says another.
    pub window: Span,
    /// How long after that late labels are joined where no rollout says another.
    pub keep: Span,
    /// How long a case of an unknown rollout waits for its plan.
    pub plan_wait_max: Span,
    /// How much may be held.
    pub limits: Limits,
}

impl Settings {
    /// Returns the usual settings of a lane.
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

/// How far the labels of one partition of their own topic have been put in their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelWatermark {
    /// The partition.
    pub source: i32,
    /// When this was said, by the clock on the wall.
    pub said_at: Timestamp,
    /// The newest time among its labels so far; nothing where none was read yet.
    pub newest: Option<Timestamp>,
    /// Every label that stood in the partition at this time, by the clock on the wall, was put in its place before this mark; nothing
    /// where that is not known of any time.
    pub read_to: Option<Timestamp>,
    /// Whether no label had come for a while before that time.
    pub is_quiet: bool,
}

/// What a lane must know of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Arc<RolloutPlan>,
    /// What its tests are planned with, for every stage so far.
    pub design: Design,
    /// The version that the candidates are compared with.
    pub stable: Version,
    /// The newest revision that this knows of.
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
        /// The partition of the labels' own topic that it came from, where whoever put it here says so.
        source: Option<i32>,
        /// The label.
        label: Box<Label>,
    },
    /// Among the labels by request id, how far the labels of one partition have been put there.
    Watermark {
        /// Its offset.
        offset: i64,
        /// How far.
        mark: LabelWatermark,
    },
    /// A record that cannot be read.
    Unreadable {
        /// Of which input.
        input: Input,
        /// Its offset.
        offset: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// The lane begins, or goes on after a restart: labels come from so many partitions.
    Sources(i32),
    /// A rollout began, went on or ended.
    Plan(Box<Planned>),
    /// How many records of each input are not read yet.
    Lag {
        /// Of the prediction log.
        predictions: u64,
        /// Of the labels.
        labels: u64,
    },
}

/// A joined row, with what each answer scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The model.
    pub model: ModelName,
    /// The case and its truth.
    pub joined: Joined,
    /// The scores.
    pub scores: CaseScores,
}

/// What a lane asks of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write a row.
    Row(Box<Row>),
    /// Send the sums of a rollout to the judge.
    Partial(Box<Partial>),
    /// Put a record with the dead letters.
    Refuse {
        /// Of which input.
        input: Input,
        /// Its offset.
        offset: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// Count something.
    Count(Counter, u64),
}
