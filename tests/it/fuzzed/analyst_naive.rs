//! A naive analyst: it evaluates each case once over the whole history, without batches and without expiry.

use std::collections::{BTreeMap, BTreeSet};

use serinus_core::domain::case::{AnswerStatus, Prediction};
use serinus_core::domain::ids::{CaseId, Version};
use serinus_core::domain::label::Label;
use serinus_core::domain::routing::Role;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::accumulator::{EvidenceAccumulator, Watch};
use serinus_core::engine::analyst::io::{Event, LabelWatermark};
use serinus_core::engine::analyst::score;
use serinus_core::evidence::design::Part;
use serinus_core::evidence::sums::{Evidence, GAP_MAX};
use serinus_core::join::entry::{Joined, LabelStatus, Truth};

use crate::fuzzed::analyst_history::{QUIET_SECONDS, Record, planned};
use crate::scenarios::plans::MIDNIGHT;

/// Time without a record after which an input is idle.
const IDLE_AFTER: Span = Span(1000);

/// The expected content of one row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NaiveRow {
    status: LabelStatus,
    truth: Option<Truth>,
    before: Option<Truth>,
    known_by: [bool; 2],
    row_version: u32,
}

/// The expected result of a history.
pub(crate) struct Naive {
    /// The rows of each case, in the order in which they are written.
    pub(crate) rows: BTreeMap<CaseId, Vec<NaiveRow>>,
    /// Every case with the position of the predictions at its reading, in reading order.
    cases: Vec<(Prediction, Timestamp)>,
    /// The case before which, and the date after which, the rollout starts again because of a wrong date.
    begins: Vec<(usize, Timestamp)>,
    /// The cases in order of maturity, as indexes into `cases`: the first case of a unit counts.
    mature: Vec<usize>,
}

/// The watermarks at a time at which the lane evaluates its cases, and the number of records read by then.
struct Look {
    read: usize,
    predictions: Timestamp,
    labels: Timestamp,
    /// The same without waiting for stalled labels.
    standing: Timestamp,
    /// Every label written before this time has arrived.
    read_to: Timestamp,
}

/// The state of one label partition.
struct Source {
    complete_to: Timestamp,
    standing: Timestamp,
    read_to: Timestamp,
}

impl From<&Joined> for NaiveRow {
    fn from(it: &Joined) -> Self {
        let Joined { truth, before, known_by, status, row_version, .. } = it.clone();
        Self { status, truth, before, known_by, row_version }
    }
}

impl Naive {
    /// Evaluates a history of one rollout.
    pub(crate) fn of(records: &[Record]) -> Self {
        // A lane evaluates its cases before and after each record, and then at the end of a silence.
        let mut looks: Vec<Look> = Vec::new();
        for (nth, record) in records.iter().enumerate() {
            looks.push(Look::at(&records[..nth], record.now));
            looks.push(Look::at(&records[..=nth], record.now));
        }
        let end = records.last().map_or(MIDNIGHT, |r| r.now);
        let quiet = (1..=QUIET_SECONDS).map(|q| Look::at(records, end + Span::seconds(q)));
        looks.extend(quiet);
        let mature = matured(records, &looks);
        let places: BTreeMap<CaseId, usize> = mature.iter().copied().collect();
        let mut known = BTreeMap::new();
        let (mut rows, mut cases) = (BTreeMap::new(), Vec::new());
        let (mut begins, mut is_over) = (Vec::new(), false);
        for (nth, record) in records.iter().enumerate() {
            is_over |= matches!(&record.event, Event::Plan(it) if !it.is_live);
            if let Event::Prediction { .. } = &record.event {
                let (before, after) = (looks[2 * nth].predictions, looks[2 * nth + 1].predictions);
                if before > Timestamp::MIN && after - before > GAP_MAX && !is_over {
                    begins.push((cases.len(), after - planned().plan.tick));
                }
            }
            if let Event::Prediction { prediction, .. } = &record.event
                && !known.contains_key(&prediction.case)
            {
                known.insert(prediction.case, cases.len());
                let place = places[&prediction.case];
                rows.insert(prediction.case, rows_of(prediction, place, records, &looks));
                cases.push(((**prediction).clone(), looks[2 * nth + 1].predictions));
            }
        }
        Self { rows, cases, begins, mature: mature.iter().map(|(case, _)| known[case]).collect() }
    }

    /// Returns the sums of all cases: first all cases, then the mature ones.
    pub(crate) fn sums(&self) -> Evidence {
        let planned = planned();
        let tick = planned.plan.tick;
        let mut book = EvidenceAccumulator::new(planned.plan, planned.design, planned.stable);
        let mut begins = self.begins.iter().peekable();
        for (nth, (case, reached)) in self.cases.iter().enumerate() {
            while let Some((_, at)) = begins.next_if(|n| n.0 <= nth) {
                book.sums_mut().begin_at(*at);
            }
            let oldest = *reached - tick;
            book.respond(case, Watch { partition: 0, partitions: 1, oldest });
        }
        for (_, at) in begins {
            book.sums_mut().begin_at(*at);
        }
        for (case, _) in self.mature.iter().map(|m| &self.cases[*m]) {
            let rows = &self.rows[&case.case];
            let _scores = book.mature(case, as_scored(rows[0].truth.as_ref()), rows[0].known_by);
            for row in &rows[1..] {
                let (before, after) =
                    (as_scored(row.before.as_ref()), as_scored(row.truth.as_ref()));
                let _scores = book.amend(case, before, after);
                if row.before.is_some() != row.truth.is_some() {
                    book.relabel(case, row.truth.is_some());
                }
            }
        }
        book.sums().clone()
    }

    /// Compares the counters, without the lane's own accumulator.
    pub(crate) fn assert_counts(&self, sums: &Evidence) {
        let mut counts: BTreeMap<(Version, Part), [u64; 6]> = BTreeMap::new();
        let mut hits: BTreeMap<(Version, Part), (u64, u64)> = BTreeMap::new();
        for (case, _) in &self.cases {
            let rows = &self.rows[&case.case];
            let is_missing = rows[0].truth.is_none();
            let is_labelled = rows[rows.len() - 1].truth.is_some();
            for answer in &case.answers {
                let part = match answer.role {
                    Role::Serve if answer.version == case.arm => Part::Chosen,
                    Role::Serve => continue,
                    Role::Shadow => Part::Copied,
                };
                let arm = (answer.version.clone(), part);
                let is_ok = answer.status == AnswerStatus::Ok;
                let is_error = answer.status == AnswerStatus::Error;
                let one = [true, is_ok, is_error, true, is_labelled, is_missing];
                let sums = counts.entry(arm.clone()).or_default();
                sums.iter_mut().zip(one).for_each(|(sum, f)| *sum += u64::from(f));
                if let (true, Some(truth), Some(value)) = (is_ok, &rows[0].truth, &answer.value) {
                    let said: serde_json::Value =
                        serde_json::from_slice(value).expect("it is JSON");
                    let is_late = said["score"].as_f64().expect("it is a number") >= 0.5;
                    let hit = is_late == (truth.value["late"] == 1);
                    let (n, all) = hits.entry(arm).or_default();
                    (*n, *all) = (*n + 1, *all + u64::from(hit));
                }
            }
        }
        let counted: BTreeMap<(Version, Part), [u64; 6]> = sums
            .arms
            .iter()
            .map(|((_, version, part), a)| {
                let arm = (version.clone(), *part);
                (arm, [a.exposures, a.answered, a.errors, a.mature, a.labelled, a.missing])
            })
            .collect();
        assert_eq!(counted, counts, "exposures, answered, errors, mature, labelled, missing");
        let scored: BTreeMap<(Version, Part), (u64, u64)> = sums
            .scores
            .iter()
            .filter(|((_, _, _, metric), s)| metric.as_str() == "accuracy" && s.moments.n > 0)
            .map(|((_, version, part, _), m)| {
                let millions = u64::try_from(m.moments.sum / 1_000_000).expect("it is a count");
                ((version.clone(), *part), (m.moments.n, millions))
            })
            .collect();
        assert_eq!(scored, hits, "labelled answers, and how many of them were right");
    }
}

impl Look {
    /// Computes the watermarks at a wall-clock time from everything read.
    fn at(read: &[Record], now: Timestamp) -> Self {
        let (mut newest, mut arrived) = (None, MIDNIGHT);
        let (mut predictions, mut labels) = (Timestamp::MIN, Timestamp::MIN);
        // Without new predictions, their watermark advances with the wall clock from the newest prediction.
        let flowed = |newest: Option<Timestamp>, arrived: Timestamp, now: Timestamp| match newest {
            Some(newest) if now >= arrived + IDLE_AFTER => newest + (now - (arrived + IDLE_AFTER)),
            Some(_) | None => Timestamp::MIN,
        };
        let mut labels_arrived = MIDNIGHT;
        for record in read {
            match &record.event {
                Event::Prediction { prediction, .. } => {
                    predictions = predictions.max(flowed(newest, arrived, record.now));
                    let time = prediction.event_time().min(record.now);
                    (newest, arrived) = (newest.max(Some(time)), record.now);
                    predictions = predictions.max(time);
                }
                Event::Label { label, .. } => {
                    labels = labels.max(label.observed_at.min(record.now));
                    labels_arrived = record.now;
                }
                Event::Watermark { .. }
                | Event::Unreadable { .. }
                | Event::Sources(_)
                | Event::Plan(_)
                | Event::Lag { .. } => {}
            }
        }
        let predictions = predictions.max(flowed(newest, arrived, now));
        let sources: Vec<Source> = (0..2).filter_map(|s| Source::at(s, read)).collect();
        let least = |of: fn(&Source) -> Timestamp| sources.iter().map(of).min();
        // Silent labels are complete, unless reading positions of their partitions were reported.
        if now >= labels_arrived + IDLE_AFTER {
            labels = Timestamp::MAX;
        }
        Self {
            read: read.len(),
            predictions,
            labels: least(|l| l.complete_to).unwrap_or(labels),
            standing: least(|l| l.standing).unwrap_or(Timestamp::MAX),
            read_to: least(|l| l.read_to).unwrap_or(Timestamp::MAX),
        }
    }

    /// Returns whether a case is mature: both watermarks have passed its window, or twice the window if labels are stalled, and all labels
    /// that were written when the case was closed have arrived.
    fn shows_mature(&self, case: &Prediction) -> bool {
        let window = planned().plan.maturity;
        let due = case.event_time() + window;
        let is_passed = self.predictions.min(self.labels) >= due
            || self.predictions.min(self.standing) >= due + window;
        is_passed && self.read_to >= case.served_at
    }
}

impl Source {
    /// Computes the watermark of a partition from its reports, if there are any.
    fn at(source: i32, read: &[Record]) -> Option<Self> {
        // Time, newest label by then, and the report behind it unless it was a label.
        let reports: Vec<(Timestamp, Option<Timestamp>, Option<&LabelWatermark>)> = read
            .iter()
            .filter_map(|t| match &t.event {
                Event::Label { source: Some(of), label, .. } if *of == source => {
                    Some((t.now, Some(label.observed_at.min(t.now)), None))
                }
                Event::Watermark { mark, .. } if mark.source == source => {
                    Some((t.now, mark.newest, Some(mark)))
                }
                Event::Prediction { .. }
                | Event::Label { .. }
                | Event::Watermark { .. }
                | Event::Unreadable { .. }
                | Event::Sources(_)
                | Event::Plan(_)
                | Event::Lag { .. } => None,
            })
            .collect();
        let last = reports.last()?;
        let newest = reports.iter().filter_map(|t| t.1).max();
        let moved = reports.iter().find(|t| newest.is_some() && t.1 == newest);
        let moved = moved.map_or(Timestamp::MIN, |m| m.0);
        let marks = reports.iter().filter_map(|t| t.2);
        let read_to = marks.filter_map(|m| m.read_to).max().unwrap_or(Timestamp::MIN);
        let is_quiet = last.2.is_some_and(|i| i.is_quiet);
        let newest = newest.unwrap_or(Timestamp::MIN);
        let complete_to = if is_quiet { read_to } else { read_to.min(newest) };
        let is_standing = read_to - moved >= IDLE_AFTER.times(5);
        Some(Self {
            complete_to,
            standing: if is_standing { read_to } else { complete_to },
            read_to,
        })
    }
}

/// Returns every case with the look that shows it mature, in their order: the oldest first, and none before those that are older.
fn matured(records: &[Record], looks: &[Look]) -> Vec<(CaseId, usize)> {
    let cases = |range: std::ops::Range<usize>| {
        records[range].iter().filter_map(|r| match &r.event {
            Event::Prediction { prediction, .. } => Some(&**prediction),
            Event::Label { .. }
            | Event::Watermark { .. }
            | Event::Unreadable { .. }
            | Event::Sources(_)
            | Event::Plan(_)
            | Event::Lag { .. } => None,
        })
    };
    let (mut known, mut waiting) = (BTreeSet::new(), BTreeMap::new());
    let (mut mature, mut read) = (Vec::new(), 0);
    for (place, look) in looks.iter().enumerate() {
        for case in cases(read..look.read.max(read)).filter(|l| known.insert(l.case)) {
            waiting.insert((case.event_time(), case.case), case);
        }
        read = look.read.max(read);
        while let Some(first) = waiting.first_entry().filter(|f| look.shows_mature(f.get())) {
            mature.push((first.remove().case, place));
        }
    }
    assert!(waiting.is_empty(), "the quiet time is longer than two windows");
    mature
}

/// The rows of a case that matures at this evaluation.
fn rows_of(case: &Prediction, place: usize, records: &[Record], looks: &[Look]) -> Vec<NaiveRow> {
    let plan = planned().plan;
    let (at, window) = (case.event_time(), plan.maturity);
    let due = at + window;
    let labels = |read: usize| labels_of(case, &records[..read]);
    let mature = &looks[place];
    let known = labels(mature.read);
    let known_by = [4, 2].map(|part| truth(&known, at + Span(window.0 / part)).is_some());
    let in_time = truth(&known, due);
    let status = if in_time.is_some() { LabelStatus::Labelled } else { LabelStatus::Missing };
    let first = NaiveRow { status, truth: in_time, before: None, known_by, row_version: 1 };
    let mut rows = vec![first];
    follow(&mut rows, truth(&known, Timestamp::MAX));
    for read in mature.read..records.len() {
        // Labels of an expired case do not count.
        if looks[2 * read].predictions < due + plan.keep {
            follow(&mut rows, truth(&labels(read + 1), Timestamp::MAX));
        }
    }
    rows
}

/// Adds a row if the truth differs from the last row.
fn follow(rows: &mut Vec<NaiveRow>, truth: Option<Truth>) {
    let last = rows.last().expect("the final row is there");
    if last.truth == truth {
        return;
    }
    let status = match (last.status, &truth) {
        (_, None) => LabelStatus::Retracted,
        (LabelStatus::Missing, Some(_)) => LabelStatus::Late,
        (_, Some(_)) => LabelStatus::Corrected,
    };
    let (before, row_version) = (last.truth.clone(), last.row_version + 1);
    rows.push(NaiveRow { status, truth, before, known_by: [false; 2], row_version });
}

/// The labels of a case's request; of two with one version the first counts, and a retraction counts as well.
fn labels_of<'a>(case: &Prediction, read: &'a [Record]) -> Vec<&'a Label> {
    let mut labels: Vec<&Label> = Vec::new();
    for record in read {
        if let Event::Label { label, .. } = &record.event
            && label.request_id == case.request_id
            && !labels.iter().any(|l| l.version == label.version && (l.retract || !label.retract))
        {
            labels.push(label);
        }
    }
    labels
}

fn truth(labels: &[&Label], until: Timestamp) -> Option<Truth> {
    let observed = labels.iter().filter(|l| l.observed_at <= until);
    let newest = observed.max_by_key(|o| (o.version, o.retract)).filter(|r| !r.retract)?;
    let value = std::sync::Arc::new(newest.value.clone());
    Some(Truth { value, observed_at: newest.observed_at, version: newest.version })
}

fn as_scored(truth: Option<&Truth>) -> score::Truth<'_> {
    truth.map_or(score::Truth::Unknown, |s| score::Truth::Known(&s.value))
}
