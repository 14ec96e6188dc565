//! One partition of the labels' own topic: how far it was read, what waits to be put in its place, and what the analysts know of it.

use std::collections::BTreeMap;

use crate::domain::label::Label;
use crate::domain::time::{Span, Timestamp};
use crate::engine::analyst_io::Mark;
use crate::kafka::intake::Dead;
use crate::kafka::known::ModelView;

/// The bounds of how long a partition of labels counts as read to its end without being said so again.
const LEASE_MIN: Span = Span::seconds(1);
const LEASE_MAX: Span = Span::seconds(30);

/// After how long without a label the partition counts as read to its end, where its broker says that there is nothing else.
const IDLE_AFTER: Span = Span::seconds(1);
/// Later than this an answer about the end says nothing of now.
const ANSWER_WITHIN: Span = Span::seconds(10);
/// How often each lane hears of a partition that is being read.
const BEAT: Span = Span(500);

/// How far the labels of others were read, and which of them are to be put in their places.
#[derive(Debug)]
pub struct LabelLane {
    /// The next offset.
    pub next: i64,
    /// Whether something was done since the last commit.
    pub is_touched: bool,
    /// What was read, to be put in its place, with its offset.
    pub backlog: Vec<(i64, Result<Label, Dead>)>,
    partition: i32,
    unread: i64,
    reached: Option<Timestamp>,
    read_at: Timestamp,
    asked_at: Option<Timestamp>,
    awake_since: Timestamp,
    /// Whether an answer about the end is waited for; and the last time at which everything was read that was there.
    is_asked: bool,
    ended_at: Option<Timestamp>,
    idle_until: Option<Timestamp>,
    told: BTreeMap<i32, Timestamp>,
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
            reached: None,
            read_at: now,
            asked_at: None,
            awake_since: now,
            is_asked: false,
            ended_at: None,
            idle_until: None,
            told: BTreeMap::new(),
        }
    }

    /// Takes what stands at an offset, unless it was taken before.
    pub fn take(&mut self, now: Timestamp, offset: i64, label: Result<Label, Dead>) {
        if !self.pass(now, offset) {
            return;
        }
        if let Ok(label) = &label {
            self.reached = self.reached.max(Some(label.observed_at.min(now)));
        }
        self.backlog.push((offset, label));
    }

    /// Goes past what stands at an offset and is another model's; returns whether it was not taken before.
    pub fn pass(&mut self, now: Timestamp, offset: i64) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset + 1;
        self.is_touched = true;
        self.read_at = now;
        (self.is_asked, self.ended_at) = (false, None);
        true
    }

    /// Returns whether records that were there when the lane began are still unread.
    pub fn is_behind(&self) -> bool {
        self.next < self.unread
    }

    /// Returns whether the broker must be asked now whether everything is read, of which `answered` is to be told.
    pub fn must_ask(&mut self, now: Timestamp, lease: Span) -> bool {
        let is_known = self.ended_at.is_some_and(|it| now < it + Span(lease.0 / 2));
        let is_due = !self.is_asked && !is_known && !self.is_behind() && self.is_quiet(now, BEAT);
        self.is_asked |= is_due;
        is_due
    }

    /// Hears that all was read that was there when the broker was asked.
    ///
    /// However slow the broker, its answer is believed for half of a lease: otherwise a partition could never count as read to its end.
    pub fn answered(&mut self, now: Timestamp, next: i64, asked_at: Timestamp, lease: Span) {
        if next != self.next {
            return;
        }
        self.is_asked = false;
        if now - asked_at <= ANSWER_WITHIN {
            self.ended_at = Some(asked_at.max(now - Span(lease.0 / 2)));
        }
    }

    /// Returns whether nothing came for so long although somebody looked all the time.
    fn is_quiet(&self, now: Timestamp, wait: Span) -> bool {
        now - self.read_at >= wait && now - self.awake_since >= wait
    }

    /// Notes that a lane was sent a label of ours, which says as much as a mark.
    pub fn has_told(&mut self, lane: i32, now: Timestamp) {
        self.told.insert(lane, now);
    }

    /// Returns what the lanes must be told of this partition now, and which of them.
    ///
    /// `is_busy` says that more is waiting to be read than was read at once; `lease`, for how long the partition may count as read to
    /// its end without being said so again, because whoever reads it may be gone.
    pub fn marks(
        &mut self,
        now: Timestamp,
        lanes: i32,
        is_busy: bool,
        lease: Span,
    ) -> Option<(Mark, Vec<i32>)> {
        // While the loop did something else nobody read: that nothing came means nothing, and what came is still to be fetched.
        if self.asked_at.is_none_or(|it| it + BEAT < now) {
            (self.read_at, self.awake_since) = (now, now);
        }
        self.asked_at = Some(now);
        let is_read = !is_busy && !self.is_behind() && now - self.awake_since >= IDLE_AFTER;
        let is_quiet = self.is_quiet(now, IDLE_AFTER);
        let idle_until = self.ended_at.map(|it| it + lease).filter(|it| *it > now);
        let due: Vec<i32> = match idle_until.filter(|_| is_read && is_quiet) {
            Some(_) if self.idle_until == idle_until => return None,
            Some(_) => {
                self.idle_until = idle_until;
                (0..lanes).collect()
            }
            None => {
                if self.idle_until.take().is_some() {
                    // All were told that nothing would come.
                    self.told.retain(|_, at| *at >= self.read_at);
                }
                let is_due = |lane: &i32| self.told.get(lane).is_none_or(|it| *it + BEAT <= now);
                (0..lanes).filter(is_due).collect()
            }
        };
        // Who cannot say that a quiet partition has ended must not let the others pass it.
        let is_behind = !is_read || (is_quiet && self.idle_until.is_none());
        self.told.extend(due.iter().map(|it| (*it, now)));
        let Self { partition: source, reached, idle_until, .. } = *self;
        let mark = Mark { source, said_at: now, reached, idle_until, is_behind };
        (!due.is_empty()).then_some((mark, due))
    }
}

/// Returns how long what is said of a partition of labels may be believed: short beside the windows that it can close.
pub fn lease(view: &ModelView) -> Span {
    let windows = view.rollouts.values().filter(|it| it.is_live).map(|it| it.plan.maturity.0 / 4);
    Span(windows.min().map_or(LEASE_MAX.0, |it| it.clamp(LEASE_MIN.0, LEASE_MAX.0)))
}

#[cfg(test)]
mod tests {
    use super::{BEAT, IDLE_AFTER, LabelLane};
    use crate::domain::ids::RequestId;
    use crate::domain::label::Label;
    use crate::domain::time::{Span, Timestamp};

    const START: Timestamp = Timestamp(1_000_000);
    const LEASE: Span = Span::seconds(10);
    const RENEW: Span = Span::seconds(5);

    fn label(observed_at: Timestamp) -> Label {
        let value = serde_json::json!(true);
        Label { request_id: RequestId::new("r"), value, observed_at, version: 0, retract: false }
    }

    #[test]
    fn every_lane_hears_of_a_partition_that_is_read_at_every_beat() {
        let mut lane = LabelLane::new(3, 0, 0, START);
        lane.take(START, 0, Ok(label(START)));
        lane.has_told(1, START);
        let (mark, lanes) = lane.marks(START, 3, false, LEASE).expect("two lanes know nothing yet");
        assert_eq!((mark.source, mark.reached, mark.idle_until), (3, Some(START), None));
        assert_eq!(lanes, [0, 2]);
        assert_eq!(lane.marks(START + Span(1), 3, false, LEASE), None);
        let (_, lanes) = lane.marks(START + BEAT, 3, false, LEASE).expect("a beat has passed");
        assert_eq!(lanes, [0, 1, 2]);
    }

    /// Asks again and again, as the loop does, and returns when something was said, and until when the partition is idle; a broker that
    /// is there answers at once.
    fn said(
        lane: &mut LabelLane,
        (from, to): (Timestamp, Timestamp),
        is_broker_there: bool,
    ) -> Vec<(Span, Option<Timestamp>, bool)> {
        let mut said = Vec::new();
        for ms in (0..=(to - from).0).step_by(100) {
            let now = from + Span(ms);
            if lane.must_ask(now, LEASE) && is_broker_there {
                lane.answered(now, lane.next, now, LEASE);
            }
            let mark = lane.marks(now, 2, false, LEASE);
            said.extend(mark.map(|(it, _)| (Span(ms), it.idle_until, it.is_behind)));
        }
        said
    }

    #[test]
    fn that_nothing_comes_any_more_is_said_again_before_it_runs_out() {
        let mut lane = LabelLane::new(0, 0, 0, START);
        let idle_until = |asked: Span| Some(START + asked + LEASE);
        let again = BEAT + RENEW;
        let expected = [
            // Since it has just begun.
            (Span(0), None, true),
            (BEAT, None, true),
            (IDLE_AFTER, idle_until(BEAT), false),
            (again, idle_until(again), false),
        ];
        let end = START + again + Span(1);
        assert_eq!(said(&mut lane, (START, end), true), expected);
        // A label ends it for every lane at once.
        lane.take(end, 0, Ok(label(START)));
        lane.has_told(1, end);
        let (mark, lanes) = lane.marks(end, 2, false, LEASE).expect("it is live again");
        assert_eq!((mark.idle_until, lanes), (None, vec![0]));
    }

    #[test]
    fn a_partition_whose_broker_does_not_answer_is_never_idle_and_holds_the_others_up() {
        let mut lane = LabelLane::new(0, 0, 0, START);
        let end = START + Span::seconds(60);
        let said_of = said(&mut lane, (START, end), false);
        assert!(said_of.len() > 100, "it is spoken of at every beat: {said_of:?}");
        assert!(said_of.iter().all(|it| it.1.is_none() && it.2), "{said_of:?}");
        // An answer about less than was read since is none.
        lane.take(end, 0, Ok(label(START)));
        lane.answered(end, 0, end, LEASE);
        let later = end + Span::seconds(5);
        assert!(said(&mut lane, (end, later), false).iter().all(|it| it.1.is_none()));
        // So is one that was long on its way.
        lane.answered(later, 1, START, LEASE);
        assert!(lane.must_ask(later, LEASE), "it is asked again");
        // The last one is believed as long as the lease, and no longer; of a slow broker, half as long.
        lane.answered(later, 1, later - LEASE, LEASE);
        assert_eq!(said(&mut lane, (later, later), false)[0].1, Some(later + RENEW));
        lane.answered(later, 1, later, LEASE);
        let said_of = said(&mut lane, (later, later + LEASE), false);
        assert_eq!(said_of[0], (Span(0), Some(later + LEASE), false));
        assert_eq!(said_of[1..], [(LEASE, None, true)]);
    }

    #[test]
    fn that_nothing_came_while_nobody_read_means_nothing() {
        let mut lane = LabelLane::new(0, 0, 0, START);
        let late_start = START + Span::seconds(3);
        assert_eq!(said(&mut lane, (late_start, late_start), true), [(Span(0), None, true)]);
        let after_a_pause = late_start + Span::seconds(3);
        let said_of = said(&mut lane, (after_a_pause, after_a_pause), true);
        assert_eq!(said_of, [(Span(0), None, true)]);
    }

    #[test]
    fn what_came_while_nobody_read_counts_as_unread() {
        let mut lane = LabelLane::new(0, 0, 0, START);
        said(&mut lane, (START, START + IDLE_AFTER), true);
        let after_a_pause = START + Span::seconds(10);
        // Labels keep the partition from being idle, so that it is spoken of at every beat.
        for (ms, is_behind) in [(0, true), (BEAT.0, true), (IDLE_AFTER.0, false)] {
            let now = after_a_pause + Span(ms);
            lane.take(now, lane.next, Ok(label(START)));
            let (mark, _) = lane.marks(now, 1, false, LEASE).expect("a beat has passed");
            assert_eq!(mark.is_behind, is_behind, "{ms} ms after a pause");
        }
    }

    #[test]
    fn a_partition_with_unread_labels_is_never_idle() {
        let mut lane = LabelLane::new(0, 5, 7, START);
        let later = START + Span::seconds(60);
        let (mark, _) = lane.marks(later, 1, false, LEASE).expect("it is live");
        assert_eq!((mark.idle_until, mark.reached, mark.is_behind), (None, None, true));
        lane.take(later, 6, Ok(label(later)));
        assert!(!lane.is_behind());
    }
}
