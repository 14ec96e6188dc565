//! Recovery of an analyst lane without offsets or journal, from predictions, labels and the rows that it wrote.

use std::collections::BTreeMap;

use rdkafka::message::Message;
use tracing::warn;

use crate::kafka::analysis::inputs::{read_label, read_prediction};
use crate::kafka::client::error::ShellError;
use crate::kafka::client::message;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::lanes::internal_topics::InternalTopics;
use crate::kafka::lanes::lane::{LaneOffsets, Recall};
use crate::kafka::process::clock;
use crate::wire::analysis::AnalysisRecord;
use crate::wire::journal::{AnalystTurn, ReplayStart};
use serinus_core::domain::ids::CaseId;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::io::Event;
use serinus_core::engine::analyst::rebuild::{KnownCase, Remains};
use serinus_core::engine::partial::Partial;
use serinus_core::join::entry::LabelStatus;
use serinus_core::plan::rollout::ModelPlan;

/// Largest clock difference between instances and brokers; rows are read from that much earlier.
const SLACK: Span = Span::seconds(60);

/// The newest rows of cases, by case.
type Rows = BTreeMap<CaseId, (u32, LabelStatus)>;

/// A range of both inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first prediction and the first label.
    pub from: (i64, i64),
    /// The next prediction and the next label.
    pub to: (i64, i64),
}

/// The partition to recover.
pub struct Lost<'a> {
    /// The model's plan.
    pub plan: &'a ModelPlan,
    /// The partition.
    pub partition: i32,
    /// The model's internal topics.
    pub topics: &'a InternalTopics,
    /// Reads the topics.
    pub replay: &'a PartitionReader,
}

/// Where a lane resumes.
#[derive(Clone, Debug, Default)]
pub struct ResumePoint {
    /// What the group has committed.
    pub committed: LaneOffsets,
    /// Whether neither offsets nor a journal are left, and only the rows show that the lane ever did anything.
    pub has_only_rows: bool,
}

impl Lost<'_> {
    /// Returns where the lane resumes: at the group's offsets if they are ours, else at the end of its journal.
    pub fn recall(
        &self,
        group: &str,
        committed: LaneOffsets,
    ) -> Result<Recall<ResumePoint>, ShellError> {
        if let Some((_, metadata)) = &committed.first
            && ReplayStart::from_metadata(metadata).is_some()
        {
            return Ok(Recall::Known(ResumePoint { committed, has_only_rows: false }));
        }
        let (topic, partition) = (&self.plan.topics.predictions, self.partition);
        let is_turn = |bytes: &[u8]| AnalystTurn::read(bytes).is_ok();
        if self.replay.has_any(&self.topics.analyst_journal, partition, is_turn)? {
            warn!(
                topic,
                partition,
                group,
                "group offset gone or set by another program; resuming from the journal"
            );
            let offset = committed.first.map_or(0, |p| p.0);
            let first = Some((offset, String::new()));
            let committed = LaneOffsets { first, is_certain: false, ..committed };
            return Ok(Recall::Known(ResumePoint { committed, has_only_rows: false }));
        }
        let analysis = &self.plan.topics.analysis;
        if self.replay.partitions(analysis)? <= partition {
            return Ok(Recall::Known(ResumePoint { committed, has_only_rows: false }));
        }
        let (low, high) = self.replay.bounds(analysis, partition)?;
        let has_rows = self.replay.has_any(analysis, partition, |_| true)?;
        if high > 0 && low == high {
            return Ok(Recall::Unknown(format!(
                "group `{group}` has no offset of `{topic}`, the journal `{}` is empty, and the rows on `{analysis}` were deleted, so \
                 nothing shows which cases have a row; delete the predictions up to the newest one that has a row, or give the model \
                 another topic instead of `{topic}`",
                self.topics.analyst_journal
            )));
        }
        Ok(Recall::Known(ResumePoint { committed, has_only_rows: has_rows }))
    }

    /// Returns the range of everything in the two inputs.
    pub fn whole(&self) -> Result<Stretch, ShellError> {
        let predictions = self.replay.bounds(&self.plan.topics.predictions, self.partition)?;
        let labels = self.replay.bounds(&self.topics.labels, self.partition)?;
        Ok(Stretch { from: (predictions.0, labels.0), to: (predictions.1, labels.1) })
    }

    /// Reads the cases, labels and rows of a range.
    pub fn read(&self, stretch: Stretch, sums: Vec<Partial>) -> Result<Remains, ShellError> {
        let Stretch { from, to } = stretch;
        let mut remains = Remains { sums, ..Remains::default() };
        let mut first_at: Option<Timestamp> = None;
        let predictions = &self.plan.topics.predictions;
        self.replay.range(predictions, self.partition, from.0, Some(to.0), |message| {
            let at = message::time(message);
            first_at = Some(first_at.map_or(at, |a| a.min(at)));
            if let Event::Prediction { offset, prediction } = read_prediction(message).event {
                remains.cases.push(KnownCase { offset, prediction, row: None });
            }
        })?;
        self.replay.range(&self.topics.labels, self.partition, from.1, Some(to.1), |message| {
            if let Event::Label { offset, label, source: _ } = read_label(message).event {
                remains.labels.push((offset, *label));
            }
        })?;
        let Some(first_at) = first_at else { return Ok(remains) };
        let (rows, settled_before) = self.rows(first_at - SLACK)?;
        for case in &mut remains.cases {
            case.row = rows.get(&case.prediction.case).copied();
        }
        remains.settled_before = settled_before;
        Ok(remains)
    }

    /// Reads the newest row of each case since then, and the time before which rows may have been deleted.
    fn rows(&self, since: Timestamp) -> Result<(Rows, Option<Timestamp>), ShellError> {
        let topic = &self.plan.topics.analysis;
        let (mut rows, mut deleted_before) = (Rows::new(), None);
        for partition in 0..self.replay.partitions(topic)? {
            self.replay.since(topic, partition, since, |message| {
                let read = message.payload().map(AnalysisRecord::read);
                let Some(Ok(row)) = read else { return };
                let case = CaseId { partition: row.source.partition, offset: row.source.offset };
                let found = (row.row_version, row.label_status);
                let known = rows.entry(case).or_insert(found);
                if found.0 > known.0 {
                    *known = found;
                }
            })?;
            if self.replay.bounds(topic, partition)?.0 > 0 {
                let oldest = self.replay.first_time(topic, partition)?.unwrap_or_else(clock::now);
                deleted_before = deleted_before.max(Some(oldest).filter(|o| *o > since));
            }
        }
        Ok((rows, deleted_before))
    }
}
