//! One partition of a label topic: how far it was read, its labels that are still to be copied, and its watermark.
//!
//! The lane keeps asking for the end of the partition. Once it has read up to an end, it has read every label that existed when it asked.
//! Neither time nor a new owner nor a restart can make that false.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::kafka::lanes::catalog::ModelView;
use crate::kafka::lanes::dead_letters::DeadLetter;
use serinus_core::domain::label::Label;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::io::LabelWatermark;

/// Time without a label after which a partition is idle: its watermark no longer waits for the times of labels.
const QUIET_AFTER: Span = Span::seconds(1);
/// Shortest interval between two watermarks, and interval of end probes while labels arrive.
const WATERMARK_EVERY: Span = Span(500);
/// Longest interval of end probes.
const PROBE_EVERY_MAX: Span = Span::seconds(10);
/// Time without a label after which the end is probed less often.
const SLOW_PROBES_AFTER: Span = Span::seconds(60);
/// Maturity to assume while no rollout states one.
const WINDOW: Span = Span::seconds(60);

/// One partition of a label topic, for one model.
#[derive(Debug)]
pub struct LabelLane {
    /// The next offset.
    pub next: i64,
    /// Whether the offset moved since the last commit.
    pub is_touched: bool,
    /// Labels that are still to be copied, with their offsets.
    pub backlog: Vec<(i64, Result<Label, DeadLetter>)>,
    partition: i32,
    unread: i64,
    /// The next offset, shared with the thread that probes the end.
    position: Arc<AtomicI64>,
    newest: Option<Timestamp>,
    /// When the last label was read, or the lane was opened.
    last_read_at: Timestamp,
    read_to: Option<Timestamp>,
    /// When the end was last probed, and whether that probe is unanswered.
    probed_at: Option<Timestamp>,
    is_probing: bool,
    published: Option<LabelWatermark>,
}

/// How far a partition was read: every record that existed at a time has a smaller offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadTo {
    /// When the broker was asked, in wall-clock time.
    pub at: Timestamp,
    /// The offset.
    pub next: i64,
}

impl LabelLane {
    /// Opens the partition at offset `next`; the records below `unread` existed before.
    pub fn new(partition: i32, next: i64, unread: i64, now: Timestamp) -> Self {
        Self {
            next,
            is_touched: false,
            backlog: Vec::new(),
            partition,
            unread,
            position: Arc::new(AtomicI64::new(next)),
            newest: None,
            last_read_at: now,
            read_to: None,
            probed_at: None,
            is_probing: false,
            published: None,
        }
    }

    /// Adds the label at an offset, unless it was added before.
    pub fn take(&mut self, now: Timestamp, offset: i64, label: Result<Label, DeadLetter>) {
        if !self.pass(now, offset) {
            return;
        }
        if let Ok(label) = &label {
            self.newest = self.newest.max(Some(label.observed_at.min(now)));
        }
        self.backlog.push((offset, label));
    }

    /// Passes a label of another model; returns whether the offset is new.
    pub fn pass(&mut self, now: Timestamp, offset: i64) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset + 1;
        self.position.store(self.next, Ordering::Relaxed);
        self.is_touched = true;
        self.last_read_at = now;
        true
    }

    /// Returns whether records that existed when the partition was opened are still unread.
    pub fn is_behind(&self) -> bool {
        self.next < self.unread
    }

    /// Returns the shared position if the end must be probed now: every `WATERMARK_EVERY` while labels arrive, else every `slow_every`.
    pub fn probe(&mut self, now: Timestamp, slow_every: Span) -> Option<Arc<AtomicI64>> {
        let every =
            if now - self.last_read_at < SLOW_PROBES_AFTER { WATERMARK_EVERY } else { slow_every };
        let is_due = self.probed_at.is_none_or(|x| x + every <= now);
        if self.is_probing || self.is_behind() || !is_due {
            return None;
        }
        (self.probed_at, self.is_probing) = (Some(now), true);
        Some(Arc::clone(&self.position))
    }

    /// Applies the answer of a probe. An answer beyond our position belongs to an earlier owner of the partition and is ignored.
    pub fn answered(&mut self, answer: ReadTo) {
        self.is_probing = false;
        if answer.next <= self.next {
            self.read_to = self.read_to.max(Some(answer.at));
        }
    }

    /// Returns the watermark to publish now, behind the labels of the backlog; nothing if none is due.
    pub fn watermark(&mut self, now: Timestamp) -> Option<LabelWatermark> {
        let Self { partition: source, newest, read_to, .. } = *self;
        let is_quiet = read_to.is_some_and(|x| x - self.last_read_at >= QUIET_AFTER);
        let watermark = LabelWatermark { source, said_at: now, newest, read_to, is_quiet };
        let is_due = self.published.is_none_or(|last| {
            let has_changed = LabelWatermark { said_at: now, ..last } != watermark;
            has_changed && last.said_at + WATERMARK_EVERY <= now
        });
        if !is_due {
            return None;
        }
        self.published = Some(watermark);
        Some(watermark)
    }
}

/// Returns the interval of end probes without labels: a twentieth of the shortest maturity that waits for them.
pub fn probe_every(view: &ModelView) -> Span {
    let windows = view.rollouts.values().filter(|x| x.is_live).map(|x| x.plan.maturity);
    let window = windows.min().unwrap_or(WINDOW);
    Span(window.0 / 20).clamp(WATERMARK_EVERY, PROBE_EVERY_MAX)
}

#[cfg(test)]
mod tests {
    use super::{LabelLane, QUIET_AFTER, ReadTo, SLOW_PROBES_AFTER, WATERMARK_EVERY};
    use serinus_core::domain::ids::RequestId;
    use serinus_core::domain::label::Label;
    use serinus_core::domain::time::{Span, Timestamp};
    use serinus_core::engine::analyst::io::LabelWatermark;

    const START: Timestamp = Timestamp(1_000_000);

    fn label(observed_at: Timestamp) -> Label {
        let value = serde_json::json!(true);
        Label { request_id: RequestId::new("r"), value, observed_at, version: 0, retract: false }
    }

    fn read(at: Timestamp, next: i64) -> ReadTo {
        ReadTo { at, next }
    }

    #[test]
    fn a_changed_watermark_is_published_once_an_interval() {
        let mut lane = LabelLane::new(3, 0, 0, START);
        lane.take(START, 0, Ok(label(START)));
        let first = LabelWatermark {
            source: 3,
            said_at: START,
            newest: Some(START),
            read_to: None,
            is_quiet: false,
        };
        assert_eq!(lane.watermark(START), Some(first));
        assert_eq!(lane.watermark(START + WATERMARK_EVERY), None, "nothing has changed");
        lane.answered(read(START + Span(1), 1));
        assert_eq!(lane.watermark(START + Span(2)), None, "the interval has not passed");
        let read_to = Some(START + Span(1));
        let second = LabelWatermark { said_at: START + WATERMARK_EVERY, read_to, ..first };
        assert_eq!(lane.watermark(START + WATERMARK_EVERY), Some(second));
    }

    #[test]
    fn a_partition_is_idle_after_a_second_without_labels_up_to_the_time_it_was_read_to() {
        let mut lane = LabelLane::new(0, 0, 0, START);
        let quiet_at = |lane: &mut LabelLane, now: Timestamp, at: Timestamp| {
            lane.answered(read(at, lane.next));
            lane.watermark(now).map(|x| x.is_quiet)
        };
        let early = START + QUIET_AFTER - Span(1);
        // The current time does not matter: labels may have arrived since the probe.
        assert_eq!(quiet_at(&mut lane, START + Span::seconds(9), early), Some(false));
        let at = START + Span::seconds(10);
        assert_eq!(quiet_at(&mut lane, at, at), Some(true));
        lane.take(at + Span::seconds(1), 0, Ok(label(START)));
        assert_eq!(quiet_at(&mut lane, at + Span::seconds(1), at), Some(false));
    }

    #[test]
    fn the_end_is_probed_repeatedly_with_one_probe_at_a_time() {
        let every = Span::seconds(2);
        let mut lane = LabelLane::new(0, 0, 0, START);
        assert!(lane.probe(START, every).is_some());
        assert!(lane.probe(START + Span::seconds(60), every).is_none(), "the probe is unanswered");
        lane.answered(read(START, 0));
        assert!(lane.probe(START + WATERMARK_EVERY - Span(1), every).is_none());
        assert!(lane.probe(START + WATERMARK_EVERY, every).is_some());
        lane.answered(read(START + WATERMARK_EVERY, 0));
        // No label has arrived for a long time.
        let idle = START + SLOW_PROBES_AFTER;
        assert!(lane.probe(idle, every).is_some());
        lane.answered(read(idle, 0));
        assert!(lane.probe(idle + every - Span(1), every).is_none());
        assert!(lane.probe(idle + every, every).is_some());
        lane.answered(read(idle + every, 0));
        lane.take(idle + every, 0, Ok(label(START)));
        assert!(lane.probe(idle + every + WATERMARK_EVERY, every).is_some());
    }

    #[test]
    fn an_answer_beyond_the_position_is_ignored() {
        let mut lane = LabelLane::new(0, 5, 5, START);
        lane.answered(read(START, 7));
        assert_eq!(lane.watermark(START).and_then(|x| x.read_to), None);
        let position = lane.probe(START, WATERMARK_EVERY).expect("the end is probed again");
        lane.take(START, 6, Ok(label(START)));
        assert_eq!(position.load(std::sync::atomic::Ordering::Relaxed), 7);
        lane.answered(read(START + Span(7), 7));
        assert_eq!(
            lane.watermark(START + WATERMARK_EVERY).and_then(|x| x.read_to),
            Some(START + Span(7))
        );
        lane.answered(read(START + Span(3), 7));
        lane.take(START + WATERMARK_EVERY, 7, Ok(label(START + Span(1))));
        let watermark =
            lane.watermark(START + WATERMARK_EVERY + WATERMARK_EVERY).expect("it has changed");
        assert_eq!(watermark.read_to, Some(START + Span(7)), "the watermark never goes back");
    }

    #[test]
    fn the_end_is_not_probed_before_the_backlog_is_read() {
        let mut lane = LabelLane::new(0, 5, 7, START);
        assert!(lane.is_behind() && lane.probe(START, WATERMARK_EVERY).is_none());
        lane.take(START, 6, Ok(label(START)));
        assert!(!lane.is_behind() && lane.probe(START, WATERMARK_EVERY).is_some());
    }
}
