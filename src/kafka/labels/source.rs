//! One partition of the labels' own topic: how far it was read, what waits to be put in its place, and what the analysts know of it.
//!
//! The lane asks again and again where the partition ends. Once it has read up to an end, every label that stood there when it asked has been
//! read: a fact that time, a new owner or a restart does not change.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::kafka::lanes::catalog::ModelView;
use crate::kafka::lanes::dead_letters::DeadLetter;
use serinus_core::domain::label::Label;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::io::LabelWatermark;

/// After how long without a label a partition is quiet, so that the times of its labels are not waited for.
const QUIET_AFTER: Span = Span::seconds(1);
/// How often the analysts hear of a partition at most, and how often its end is asked for.
const BEAT: Span = Span(500);
/// How often the end is asked for at least, where no label has come for so long.
const ASK_EVERY_MAX: Span = Span::seconds(10);
const ASLEEP_AFTER: Span = Span::seconds(60);
/// The maturity where no rollout says one.
const WINDOW: Span = Span::seconds(60);

/// How far the labels of others were read, and which of them are to be put in their places.
#[derive(Debug)]
pub struct LabelLane {
    /// The next offset.
    pub next: i64,
    /// Whether something was done since the last commit.
    pub is_touched: bool,
    /// What was read, to be put in its place, with its offset.
    pub backlog: Vec<(i64, Result<Label, DeadLetter>)>,
    partition: i32,
    unread: i64,
    /// The next offset, for whoever looks for the end meanwhile.
    position: Arc<AtomicI64>,
    newest: Option<Timestamp>,
    /// When the last label was read, or the lane began.
    heard_at: Timestamp,
    read_to: Option<Timestamp>,
    /// When the end was asked for, and whether that is unanswered.
    asked_at: Option<Timestamp>,
    is_asked: bool,
    said: Option<LabelWatermark>,
}

/// Up to where a partition was read: all that stood in it at a time stands before an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadTo {
    /// The time at which its broker was asked, by the clock on the wall.
    pub at: Timestamp,
    /// The offset.
    pub next: i64,
}

impl LabelLane {
    /// Begins at an offset; up to another one there are records that nobody has read yet.
    pub fn new(partition: i32, next: i64, unread: i64, now: Timestamp) -> Self {
        Self {
            next,
            is_touched: false,
            backlog: Vec::new(),
            partition,
            unread,
            position: Arc::new(AtomicI64::new(next)),
            newest: None,
            heard_at: now,
            read_to: None,
            asked_at: None,
            is_asked: false,
            said: None,
        }
    }

    /// Takes what stands at an offset, unless it was taken before.
    pub fn take(&mut self, now: Timestamp, offset: i64, label: Result<Label, DeadLetter>) {
        if !self.pass(now, offset) {
            return;
        }
        if let Ok(label) = &label {
            self.newest = self.newest.max(Some(label.observed_at.min(now)));
        }
        self.backlog.push((offset, label));
    }

    /// Goes past what stands at an offset and is another model's; returns whether it was not taken before.
    pub fn pass(&mut self, now: Timestamp, offset: i64) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset + 1;
        self.position.store(self.next, Ordering::Relaxed);
        self.is_touched = true;
        self.heard_at = now;
        true
    }

    /// Returns whether records that were there when the lane began are still unread.
    pub fn is_behind(&self) -> bool {
        self.next < self.unread
    }

    /// Returns the lane's position, which moves as it reads, where the end must be looked for now: at every beat, and where no label has come
    /// for a while every so often.
    pub fn ask(&mut self, now: Timestamp, asleep_every: Span) -> Option<Arc<AtomicI64>> {
        let every = if now - self.heard_at < ASLEEP_AFTER { BEAT } else { asleep_every };
        let is_due = self.asked_at.is_none_or(|x| x + every <= now);
        if self.is_asked || self.is_behind() || !is_due {
            return None;
        }
        (self.asked_at, self.is_asked) = (Some(now), true);
        Some(Arc::clone(&self.position))
    }

    /// Takes the answer. One to a question of an earlier owner of the partition, who had read further, says nothing.
    pub fn answered(&mut self, answer: ReadTo) {
        self.is_asked = false;
        if answer.next <= self.next {
            self.read_to = self.read_to.max(Some(answer.at));
        }
    }

    /// Returns what the analysts must hear of this partition now, after the labels of the backlog have been put in their places.
    pub fn mark(&mut self, now: Timestamp) -> Option<LabelWatermark> {
        let Self { partition: source, newest, read_to, .. } = *self;
        let is_quiet = read_to.is_some_and(|x| x - self.heard_at >= QUIET_AFTER);
        let mark = LabelWatermark { source, said_at: now, newest, read_to, is_quiet };
        let is_due = self.said.is_none_or(|said| {
            let is_news = LabelWatermark { said_at: now, ..said } != mark;
            is_news && said.said_at + BEAT <= now
        });
        if !is_due {
            return None;
        }
        self.said = Some(mark);
        Some(mark)
    }
}

/// Returns how often the end of a partition is asked for to which no labels come: seldom beside the windows that wait for it.
pub fn ask_every(view: &ModelView) -> Span {
    let windows = view.rollouts.values().filter(|x| x.is_live).map(|x| x.plan.maturity);
    let window = windows.min().unwrap_or(WINDOW);
    Span(window.0 / 20).clamp(BEAT, ASK_EVERY_MAX)
}

#[cfg(test)]
mod tests {
    use super::{ASLEEP_AFTER, BEAT, LabelLane, QUIET_AFTER, ReadTo};
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
    fn the_analysts_hear_of_news_at_every_beat() {
        let mut lane = LabelLane::new(3, 0, 0, START);
        lane.take(START, 0, Ok(label(START)));
        let first = LabelWatermark {
            source: 3,
            said_at: START,
            newest: Some(START),
            read_to: None,
            is_quiet: false,
        };
        assert_eq!(lane.mark(START), Some(first));
        assert_eq!(lane.mark(START + BEAT), None, "there are no news");
        lane.answered(read(START + Span(1), 1));
        assert_eq!(lane.mark(START + Span(2)), None, "a beat has not passed");
        let read_to = Some(START + Span(1));
        let second = LabelWatermark { said_at: START + BEAT, read_to, ..first };
        assert_eq!(lane.mark(START + BEAT), Some(second));
    }

    #[test]
    fn a_partition_is_quiet_when_no_label_came_for_a_while_before_the_time_it_was_read_to() {
        let mut lane = LabelLane::new(0, 0, 0, START);
        let quiet_at = |lane: &mut LabelLane, now: Timestamp, at: Timestamp| {
            lane.answered(read(at, lane.next));
            lane.mark(now).map(|x| x.is_quiet)
        };
        let early = START + QUIET_AFTER - Span(1);
        // However late it is now: what came meanwhile is not known.
        assert_eq!(quiet_at(&mut lane, START + Span::seconds(9), early), Some(false));
        let at = START + Span::seconds(10);
        assert_eq!(quiet_at(&mut lane, at, at), Some(true));
        lane.take(at + Span::seconds(1), 0, Ok(label(START)));
        assert_eq!(quiet_at(&mut lane, at + Span::seconds(1), at), Some(false));
    }

    #[test]
    fn the_end_is_asked_for_again_and_again_and_one_question_at_a_time() {
        let every = Span::seconds(2);
        let mut lane = LabelLane::new(0, 0, 0, START);
        assert!(lane.ask(START, every).is_some());
        assert!(lane.ask(START + Span::seconds(60), every).is_none(), "it is not answered yet");
        lane.answered(read(START, 0));
        assert!(lane.ask(START + BEAT - Span(1), every).is_none());
        assert!(lane.ask(START + BEAT, every).is_some());
        lane.answered(read(START + BEAT, 0));
        // No label has come for long.
        let asleep = START + ASLEEP_AFTER;
        assert!(lane.ask(asleep, every).is_some());
        lane.answered(read(asleep, 0));
        assert!(lane.ask(asleep + every - Span(1), every).is_none());
        assert!(lane.ask(asleep + every, every).is_some());
        lane.answered(read(asleep + every, 0));
        lane.take(asleep + every, 0, Ok(label(START)));
        assert!(lane.ask(asleep + every + BEAT, every).is_some());
    }

    #[test]
    fn an_answer_about_more_than_was_read_says_nothing() {
        let mut lane = LabelLane::new(0, 5, 5, START);
        lane.answered(read(START, 7));
        assert_eq!(lane.mark(START).and_then(|x| x.read_to), None);
        let position = lane.ask(START, BEAT).expect("it is asked again");
        lane.take(START, 6, Ok(label(START)));
        assert_eq!(position.load(std::sync::atomic::Ordering::Relaxed), 7);
        lane.answered(read(START + Span(7), 7));
        assert_eq!(lane.mark(START + BEAT).and_then(|x| x.read_to), Some(START + Span(7)));
        lane.answered(read(START + Span(3), 7));
        lane.take(START + BEAT, 7, Ok(label(START + Span(1))));
        let mark = lane.mark(START + BEAT + BEAT).expect("there are news");
        assert_eq!(mark.read_to, Some(START + Span(7)), "what was read stays read");
    }

    #[test]
    fn while_what_was_there_at_the_start_is_unread_nothing_is_asked() {
        let mut lane = LabelLane::new(0, 5, 7, START);
        assert!(lane.is_behind() && lane.ask(START, BEAT).is_none());
        lane.take(START, 6, Ok(label(START)));
        assert!(!lane.is_behind() && lane.ask(START, BEAT).is_some());
    }
}
