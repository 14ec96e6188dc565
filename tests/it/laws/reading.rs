//! Laws of label reading: at any reading speed of each partition, every label written in time counts, and every label is accounted for.
//!
//! A small world in steps of a tenth of a second: partitions of labels and predictions, readers with random speeds, label partitions
//! that change owners, and brokers that delay the answer to an end offset request.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use serinus::kafka::labels::source::{LabelLane, ReadTo};
use serinus_core::domain::case::Prediction;
use serinus_core::domain::ids::CaseId;
use serinus_core::domain::label::Label;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::io::{Effect, Event};
use serinus_core::engine::counter::Counter;
use serinus_core::join::entry::LabelStatus;

use crate::fuzzed::analyst_history::{lane, planned, prediction};
use crate::scenarios::plans::MIDNIGHT;

/// The start of the program; older records are already on Kafka.
const START: Timestamp = Timestamp(MIDNIGHT.0 + 4 * 3_600_000);
const STEP: Span = Span(100);
const PARTITIONS: usize = 3;
/// The number of steps in which new records may appear.
const STEPS: i64 = 200;

/// A case and its label.
#[derive(Clone, Debug)]
struct Drawn {
    /// The request time, relative to the start.
    requested_ms: i64,
    /// The delay from then, or from the start, until it is closed.
    closed_after_ms: i64,
    /// The time at which its label is written, relative to the close of the case; far below 0, it is there from the start.
    label_ms: i64,
    /// The observation time of its label, relative to the request.
    observed_after_ms: i64,
    partition: usize,
}

/// The number of records that each reader takes per step, repeated.
#[derive(Clone, Debug)]
struct Paces {
    labels: Vec<Vec<usize>>,
    placed: Vec<usize>,
    predictions: Vec<usize>,
    /// The number of steps that a broker takes to answer with an end offset.
    answer: usize,
    /// The steps at which a label partition changes its owner.
    owners: BTreeSet<(i64, usize)>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let requested = prop_oneof![3 => -3 * 3_600_000_i64..0, 2 => 0_i64..15_000];
    let label =
        prop_oneof![2 => Just(-4 * 3_600_000_i64), 2 => -6_000_i64..6_000, 1 => 0_i64..15_000];
    (requested, 0_i64..5_000, label, 0_i64..5_000, 0..PARTITIONS).prop_map(
        |(requested_ms, closed_after_ms, label_ms, observed_after_ms, partition)| Drawn {
            requested_ms,
            closed_after_ms,
            label_ms,
            observed_after_ms,
            partition,
        },
    )
}

fn pace() -> impl Strategy<Value = Vec<usize>> {
    let taken = prop_oneof![2 => Just(0_usize), 2 => 1_usize..3, 1 => Just(100_usize)];
    // Each reader makes progress eventually.
    prop::collection::vec(taken, 1..30).prop_map(|mut pace| {
        pace.push(3);
        pace
    })
}

fn paces() -> impl Strategy<Value = Paces> {
    let labels = prop::collection::vec(pace(), PARTITIONS);
    let owners = prop::collection::btree_set((0..STEPS, 0..PARTITIONS), 0..6);
    (labels, pace(), pace(), 0_usize..12, owners).prop_map(
        |(labels, placed, predictions, answer, owners)| Paces {
            labels,
            placed,
            predictions,
            answer,
            owners,
        },
    )
}

/// The records of the topics with their write times.
struct Topics {
    labels: Vec<Vec<(Timestamp, Label)>>,
    predictions: Vec<(Timestamp, Prediction)>,
}

impl Topics {
    fn of(drawn: &[Drawn]) -> Self {
        let mut topics = Self { labels: vec![Vec::new(); PARTITIONS], predictions: Vec::new() };
        for (nth, it) in drawn.iter().enumerate() {
            let id = format!("id{nth}");
            let requested_at = START + Span(it.requested_ms);
            let closed_at = requested_at.max(START) + Span(it.closed_after_ms);
            let mut case = prediction(nth, &id, closed_at, 5, 90);
            case.requested_at = requested_at;
            topics.predictions.push((closed_at, case));
            let label = Label {
                request_id: id.as_str().into(),
                value: json!({"late": 1}),
                observed_at: requested_at + Span(it.observed_after_ms),
                version: 1,
                retract: false,
            };
            let at = (closed_at + Span(it.label_ms)).max(label.observed_at);
            topics.labels[it.partition].push((at, label));
        }
        topics.predictions.sort_by_key(|(at, case)| (*at, case.case));
        for labels in &mut topics.labels {
            labels.sort_by_key(|(at, _)| *at);
        }
        topics
    }
}

/// One label partition with its reader.
struct Reading {
    source: i32,
    lane: LabelLane,
    next: usize,
    /// The time of the end offset request, the end offset, and the step of its answer.
    asked: Option<(Timestamp, usize, i64)>,
}

impl Reading {
    fn begin(partition: usize, next: usize, topic: &[(Timestamp, Label)], now: Timestamp) -> Self {
        let there = topic.partition_point(|(at, _)| *at <= now);
        let offset = |x: usize| i64::try_from(x).expect("there are few");
        let source = i32::try_from(partition).expect("there are few");
        let lane = LabelLane::new(source, offset(next), offset(there), now);
        Self { source, lane, next, asked: None }
    }

    /// Reads up to `count` records; returns the labels as stored under their request ids.
    fn step(
        &mut self,
        (step, now): (i64, Timestamp),
        topic: &[(Timestamp, Label)],
        (pace, answer): (usize, usize),
    ) -> Vec<Event> {
        let there = topic.partition_point(|(at, _)| *at <= now);
        for (_, label) in &topic[self.next..there.min(self.next + pace)] {
            self.lane.take(now, self.lane.next, Ok(label.clone()));
            self.next += 1;
        }
        if let Some((at, end, _)) =
            self.asked.take_if(|(_, end, known)| step >= *known && self.next >= *end)
        {
            let next = i64::try_from(end).expect("there are few");
            self.lane.answered(ReadTo { at, next });
        }
        if self.lane.probe(now, Span(500)).is_some() {
            let known = step + i64::try_from(answer).expect("it is small");
            self.asked = Some((now, there, known));
        }
        let source = self.source;
        let placed = std::mem::take(&mut self.lane.backlog).into_iter();
        let mut placed: Vec<Event> = placed
            .filter_map(|(_, label)| label.ok())
            .map(|label| Event::Label { offset: 0, source: Some(source), label: Box::new(label) })
            .collect();
        placed.extend(self.lane.watermark(now).map(|mark| Event::Watermark { offset: 0, mark }));
        placed
    }
}

/// Runs the world; returns all effects of the analyst.
fn run(topics: &Topics, paces: &Paces) -> Vec<Effect> {
    let mut analyst = lane();
    let mut out = Vec::new();
    let sources = Event::Sources(i32::try_from(PARTITIONS).expect("there are few"));
    analyst.handle(START, sources, &mut out);
    let mut readings: Vec<Reading> =
        (0..PARTITIONS).map(|x| Reading::begin(x, 0, &topics.labels[x], START)).collect();
    let (mut placed, mut taken, mut predictions): (Vec<Event>, usize, usize) = (Vec::new(), 0, 0);
    // In the end every reader reads everything, and every case expires.
    let at = |pace: &[usize], step: i64| {
        let nth = usize::try_from(step).expect("it counts");
        if step < 2 * STEPS { pace[nth % pace.len()] } else { 1_000_000 }
    };
    for step in 0..3 * STEPS {
        let now = START + STEP.times(step);
        for (nth, reading) in readings.iter_mut().enumerate() {
            let topic = &topics.labels[nth];
            if paces.owners.contains(&(step, nth)) {
                *reading = Reading::begin(nth, reading.next, topic, now);
            }
            let pace = (at(&paces.labels[nth], step), paces.answer);
            placed.extend(reading.step((step, now), topic, pace));
        }
        let there = topics.predictions.partition_point(|(at, _)| *at <= now);
        let until = there.min(predictions + at(&paces.predictions, step));
        for (_, case) in &topics.predictions[predictions..until] {
            let offset = i64::try_from(predictions).expect("there are few");
            predictions += 1;
            let prediction = Box::new(case.clone());
            analyst.handle(now, Event::Prediction { offset, prediction }, &mut out);
        }
        let until = placed.len().min(taken + at(&paces.placed, step));
        for event in &placed[taken..until] {
            analyst.handle(now, event.clone(), &mut out);
        }
        taken = until;
        analyst.tick(now, &mut out);
    }
    assert_eq!((taken, predictions), (placed.len(), topics.predictions.len()), "all were read");
    out
}

fn final_rows(effects: &[Effect]) -> BTreeMap<CaseId, LabelStatus> {
    let mut rows = BTreeMap::new();
    for effect in effects {
        if let Effect::Row(row) = effect
            && row.joined.row_version == 1
        {
            rows.insert(row.joined.prediction.case, row.joined.status);
        }
    }
    rows
}

fn counted(effects: &[Effect], counter: Counter) -> u64 {
    let of = |x: &Effect| match x {
        Effect::Count(x, n) if *x == counter => *n,
        Effect::Count(..) | Effect::Row(_) | Effect::Partial(_) | Effect::Refuse { .. } => 0,
    };
    effects.iter().map(of).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn labels_on_kafka_in_time_count_at_any_reading_speed(
        drawn in prop::collection::vec(drawn(), 1..40),
        paces in paces(),
    ) {
        let topics = Topics::of(&drawn);
        let effects = run(&topics, &paces);
        let rows = final_rows(&effects);
        prop_assert_eq!(rows.len(), drawn.len());
        let labels: BTreeMap<&str, (Timestamp, &Label)> = topics
            .labels
            .iter()
            .flatten()
            .map(|(at, label)| (label.request_id.as_str(), (*at, label)))
            .collect();
        for (_, case) in &topics.predictions {
            let (stood_at, label) = labels[case.request_id.as_str()];
            let due = case.event_time() + planned().plan.maturity;
            let status = rows[&case.case];
            if label.observed_at > due {
                prop_assert_eq!(status, LabelStatus::Missing, "{:?}", case.request_id);
            } else if stood_at <= due.max(case.served_at) {
                prop_assert_eq!(status, LabelStatus::Labelled, "{:?}", case.request_id);
            }
        }
        let ends = [Counter::LabelJoined, Counter::LabelLate, Counter::LabelOrphaned];
        let ends: u64 = ends.into_iter().map(|x| counted(&effects, x)).sum();
        prop_assert_eq!(ends, drawn.len() as u64, "every label is joined, late or an orphan");
    }

    #[test]
    fn records_on_kafka_from_the_start_give_the_same_rows_at_any_reading_speed(
        drawn in prop::collection::vec(drawn(), 1..40),
        (first, second) in (paces(), paces()),
    ) {
        let drawn: Vec<Drawn> =
            drawn.into_iter().map(|x| Drawn { label_ms: -4 * 3_600_000, ..x }).collect();
        let topics = Topics::of(&drawn);
        let rows = |paces: &Paces| final_rows(&run(&topics, paces));
        prop_assert_eq!(rows(&first), rows(&second));
    }
}
