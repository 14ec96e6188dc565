//! Histories of an analyst lane: steps become the records of two topics, and the lane processes them with or without crashes.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use serinus::wire::checkpoint::CheckpointRecord;
use serinus::wire::journal::AnalystTurn;
use serinus::wire::snapshot::{self, SnapshotHeader};
use serinus_core::domain::assignment;
use serinus_core::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
use serinus_core::domain::ids::{CaseId, Revision, StageIndex, Version};
use serinus_core::domain::label::Label;
use serinus_core::domain::routing::{Role, Routing};
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::io::{Effect, Event, LabelWatermark, Planned, Settings};
use serinus_core::engine::analyst::lane::Analyst;
use serinus_core::engine::analyst::watermark::Checkpoint;
use serinus_core::engine::partial::{Inputs, Partial};
use serinus_core::evidence::sums::Evidence;
use serinus_core::inference::planning;
use serinus_core::plan::rollout::RolloutPlan;

use crate::scenarios::plans::{self, MIDNIGHT};

/// As old as a case with a wrong date: the gap to the next record exceeds the longest gap within valid records.
pub(crate) const LONG_AGO_MS: i64 = 40 * 24 * 3_600_000;

/// One record of a history, and its delay after the previous one.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Case {
        wait_ms: i64,
        age_ms: i64,
        fails: u8,
        score: u8,
        is_twin: bool,
    },
    Label {
        wait_ms: i64,
        of: usize,
        late: u8,
        version: u64,
        age_ms: i64,
        retract: bool,
    },
    Again {
        wait_ms: i64,
        of: usize,
    },
    /// A report of how far one of two label partitions was read.
    Watermark(MarkStep),
}

#[derive(Clone, Debug)]
pub(crate) struct MarkStep {
    pub(crate) wait_ms: i64,
    pub(crate) source: i32,
    pub(crate) newest_age_ms: Option<i64>,
    pub(crate) read_age_ms: Option<i64>,
    pub(crate) is_quiet: bool,
}

impl MarkStep {
    fn mark(&self, now: Timestamp) -> LabelWatermark {
        let before = |age_ms: i64| Timestamp(now.0 - age_ms);
        LabelWatermark {
            source: self.source,
            said_at: now,
            newest: self.newest_age_ms.map(before),
            read_to: self.read_age_ms.map(before),
            is_quiet: self.is_quiet,
        }
    }
}

/// A record as a lane receives it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) now: Timestamp,
    pub(crate) event: Event,
}
fn plan() -> RolloutPlan {
    let mut plan = plans::rollout("m", "r", "canary", &["v2", "v3"]);
    for line in [
        "stage share=v2:30%,v3:20% shadow=v1:50%",
        "metric accuracy accuracy goal",
        "metric brier brier guardrail",
        "metric auc auc watch",
        "metric errors response_error guardrail",
        "metric latency latency guardrail margin=20%",
        "metric differs disagreement watch",
        "labels maturity=4s keep=6s",
        "tick 2s",
    ] {
        plans::line(&mut plan, &line.split_whitespace().collect::<Vec<_>>());
    }
    plan
}

pub(crate) fn planned() -> Planned {
    let plan = plan();
    let design = planning::initial(&plan);
    Planned {
        plan: Arc::new(plan),
        design,
        stable: "v1".into(),
        revision: Revision(2),
        is_live: true,
    }
}

fn routing() -> Routing {
    let plan = plan();
    let model = plans::model("m", "v1").plan;
    Routing {
        rollout: Some("r".into()),
        salt: "salt".into(),
        slices: plan.slices(StageIndex(0)),
        shadows: plan.shadows(StageIndex(0)),
        ..model.at_rest("v1".into(), Revision(2))
    }
}

pub(crate) fn prediction(n: usize, id: &str, now: Timestamp, fails: u8, score: u8) -> Prediction {
    let route = assignment::route(&routing(), id.as_bytes());
    let answer = |version: &Version, role, nth: u8| {
        let is_failed = fails == nth;
        let status = if is_failed { AnswerStatus::Error } else { AnswerStatus::Ok };
        let said = f64::from((score + 13 * nth) % 101) / 100.0;
        let bytes: Arc<[u8]> = Arc::from(json!({"score": said}).to_string().into_bytes());
        CaseAnswer {
            version: version.clone(),
            role,
            status,
            latency: Some(Span(i64::from(score) + i64::from(nth) + 1)),
            value: (!is_failed).then_some(bytes),
            error: None,
        }
    };
    let mut answers = vec![answer(&route.serve.version, Role::Serve, 0)];
    let shadows = (1..).zip(&route.shadows);
    answers.extend(shadows.map(|(nth, s)| answer(s, Role::Shadow, nth)));
    Prediction {
        case: CaseId { partition: 0, offset: i64::try_from(n).expect("small") },
        request_id: id.into(),
        rollout: Some("r".into()),
        revision: Revision(2),
        stage: StageIndex(0),
        unit: (!n.is_multiple_of(3)).then(|| Arc::from(id.as_bytes())),
        segments: Arc::default(),
        arm: route.serve.version.clone(),
        propensity: route.serve.propensity,
        served: Some(route.serve.version),
        outcome: if fails == 0 { Outcome::Error } else { Outcome::Ok },
        requested_at: now,
        routed_at: now,
        served_at: now,
        answers,
    }
}

/// Turns steps into the records of two topics, in order of arrival.
pub(crate) fn history(steps: &[Step]) -> Vec<Record> {
    let mut now = MIDNIGHT;
    let mut records: Vec<Record> = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    let (mut predictions, mut labels) = (0, 0);
    let mut cases = 0;
    let has_marks = steps.iter().any(|s| matches!(s, Step::Watermark(_)));
    for step in steps {
        let (Step::Case { wait_ms, .. }
        | Step::Label { wait_ms, .. }
        | Step::Again { wait_ms, .. }
        | Step::Watermark(MarkStep { wait_ms, .. })) = step;
        now = now + Span(*wait_ms);
        let event = match step {
            Step::Case { age_ms, fails, score, is_twin, .. } => {
                cases += 1;
                let id = match ids.last() {
                    Some(last) if *is_twin => last.clone(),
                    Some(_) | None => format!("id{cases}"),
                };
                ids.push(id.clone());
                let mut prediction = prediction(cases, &id, now, *fails, *score);
                prediction.requested_at = Timestamp(now.0 - age_ms);
                predictions += 1;
                Event::Prediction { offset: predictions, prediction: Box::new(prediction) }
            }
            Step::Label { of, late, version, age_ms, retract, .. } => {
                // Past the newest case: a label that arrives before its prediction.
                let nth = (cases + 3).saturating_sub(*of).max(1);
                let label = Label {
                    request_id: format!("id{nth}").as_str().into(),
                    value: json!({"late": late}),
                    observed_at: Timestamp(now.0 - age_ms),
                    version: *version,
                    retract: *retract,
                };
                labels += 1;
                let source = has_marks.then(|| i32::from(nth % 2 == 0));
                Event::Label { offset: labels, source, label: Box::new(label) }
            }
            Step::Watermark(step) => {
                labels += 1;
                Event::Watermark { offset: labels, mark: step.mark(now) }
            }
            Step::Again { of, .. } => match records.iter().rev().nth(*of) {
                Some(it) if is_known_again(it, now) => {
                    again(&it.event, &mut predictions, &mut labels)
                }
                Some(_) | None => continue,
            },
        };
        records.push(Record { now, event });
    }
    if has_marks {
        // At the end all labels were read, so no case waits forever.
        for source in 0..2 {
            labels += 1;
            let read_to = Some(now + Span::seconds(3_600));
            let mark =
                LabelWatermark { source, said_at: now, newest: None, read_to, is_quiet: true };
            records.push(Record { now, event: Event::Watermark { offset: labels, mark } });
        }
    }
    records
}

/// A lane recognizes a duplicate for as long as it holds the case: the window plus the keep time.
pub(crate) fn is_known_again(record: &Record, now: Timestamp) -> bool {
    since(record) + Span::seconds(5) > now
}

/// Start of the time for which a record counts; duplicates of a case do not extend it.
fn since(record: &Record) -> Timestamp {
    match &record.event {
        Event::Prediction { prediction, .. } => prediction.event_time(),
        Event::Label { .. }
        | Event::Watermark { .. }
        | Event::Unreadable { .. }
        | Event::Sources(_)
        | Event::Plan(_)
        | Event::Lag { .. } => record.now,
    }
}

/// The same record again, at the end of its topic.
fn again(event: &Event, predictions: &mut i64, labels: &mut i64) -> Event {
    let mut event = event.clone();
    match &mut event {
        Event::Prediction { offset, .. } => {
            *predictions += 1;
            *offset = *predictions;
        }
        Event::Label { offset, .. } | Event::Watermark { offset, .. } => {
            *labels += 1;
            *offset = *labels;
        }
        Event::Unreadable { .. } | Event::Sources(_) | Event::Plan(_) | Event::Lag { .. } => {}
    }
    event
}

pub(crate) fn lane() -> Analyst {
    let mut lane = Analyst::new(Settings::new("m".into(), 0, 1));
    let mut out = Vec::new();
    lane.handle(MIDNIGHT, Event::Plan(Box::new(planned())), &mut out);
    assert!(out.is_empty());
    lane
}

/// Every effect of a lane on a history followed by silence.
pub(crate) fn effects_of(records: &[Record], extra_ticks: usize) -> Vec<Effect> {
    let mut lane = lane();
    let mut out = Vec::new();
    for record in records {
        lane.handle(record.now, record.event.clone(), &mut out);
        for _ in 0..extra_ticks {
            lane.tick(record.now, &mut out);
        }
    }
    finish(&mut lane, records, &mut out);
    out
}

/// How long the lane runs after the last record: every case has expired long before.
pub(crate) const QUIET_SECONDS: i64 = 30;

fn finish(lane: &mut Analyst, records: &[Record], out: &mut Vec<Effect>) {
    let end = records.last().map_or(MIDNIGHT, |r| r.now);
    for seconds in 1..=QUIET_SECONDS {
        lane.tick(end + Span::seconds(seconds), out);
    }
}

/// The sums that a lane published last.
pub(crate) fn last_sums(effects: &[Effect]) -> Evidence {
    let last = effects.iter().rev().find_map(|e| match e {
        Effect::Partial(partial) => Some(partial.sums.clone()),
        Effect::Row(_) | Effect::Refuse { .. } | Effect::Count(..) => None,
    });
    last.unwrap_or_default()
}

/// The effects without those that are only counted.
pub(crate) fn without_counts(effects: &[Effect]) -> Vec<&Effect> {
    effects.iter().filter(|e| !matches!(e, Effect::Count(..))).collect()
}

/// Runs a history in turns, kills the lane after some of them and replays like the program: from the newest snapshot if there is
/// one, else from the oldest turn of which something is held.
pub(crate) fn effects_with_crashes(
    records: &[Record],
    crashes: &BTreeSet<usize>,
    saves: &BTreeSet<usize>,
) -> Vec<Effect> {
    let mut file: Option<(u64, Vec<u8>)> = None;
    let mut lane = lane();
    let mut written: Vec<Effect> = Vec::new();
    let mut journal: Vec<(u64, CheckpointRecord)> = Vec::new();
    let mut newest: Option<Partial> = None;
    for (turn, record) in (1_u64..).zip(records) {
        journal.push((turn, CheckpointRecord::from(&lane.checkpoint())));
        let mut out = Vec::new();
        play(&mut lane, turn, record, &mut out);
        for effect in &out {
            if let Effect::Partial(partial) = effect {
                newest = Some((**partial).clone());
            }
        }
        written.append(&mut out);
        let nth = usize::try_from(turn).expect("small");
        if saves.contains(&nth) {
            file = Some((turn, file_of(&lane, turn)));
        }
        if crashes.contains(&nth) {
            let from = lane.replay_from().unwrap_or(turn + 1);
            lane = replayed(records, &journal, (from, turn), newest.clone(), file.as_ref());
        }
    }
    lane.turn_is(1 + u64::try_from(records.len()).expect("small"));
    finish(&mut lane, records, &mut written);
    written
}

/// The same history, in which the rollout ends after this many records.
pub(crate) fn ending(records: &[Record], after: usize) -> Vec<Record> {
    let mut records = records.to_vec();
    let at = after.min(records.len());
    let now = if at == 0 { MIDNIGHT } else { records[at - 1].now };
    let over = Planned { is_live: false, ..planned() };
    records.insert(at, Record { now, event: Event::Plan(Box::new(over)) });
    records
}

/// The same history, in which the routing changes after some records and the lane learns of it some records later.
pub(crate) fn revised(records: &[Record], after: usize, late: usize) -> Vec<Record> {
    let mut records = records.to_vec();
    let after = after.min(records.len());
    for record in &mut records[after..] {
        if let Event::Prediction { prediction, .. } = &mut record.event {
            prediction.revision = Revision(3);
        }
    }
    let heard = (after + late).min(records.len());
    let now = if heard == 0 { MIDNIGHT } else { records[heard - 1].now };
    let planned = Planned { revision: Revision(3), ..planned() };
    records.insert(heard, Record { now, event: Event::Plan(Box::new(planned)) });
    records
}

fn play(lane: &mut Analyst, turn: u64, record: &Record, out: &mut Vec<Effect>) {
    lane.turn_is(turn);
    lane.handle(record.now, record.event.clone(), out);
    lane.tick(record.now, out);
}

fn replayed(
    records: &[Record],
    journal: &[(u64, CheckpointRecord)],
    (from, to): (u64, u64),
    newest: Option<Partial>,
    file: Option<&(u64, Vec<u8>)>,
) -> Analyst {
    let mut lane = Analyst::new(Settings::new("m".into(), 0, 1));
    // The program repeats its last turn even if nothing is held.
    let from = file.map_or(from.clamp(1, to), |(saved, _)| saved + 1);
    if file.is_none() {
        let written = journal.iter().find(|(turn, _)| *turn == from);
        let (_, checkpoint) = written.expect("every turn is written");
        lane.restore_checkpoint(Checkpoint::from(checkpoint), read_before(records, from));
    }
    lane.turn_is(from);
    let mut dropped = Vec::new();
    // Events are read before anything is replayed.
    let mut plan = planned();
    for (_, record) in (1..=to).zip(records) {
        if let Event::Plan(it) = &record.event {
            plan.clone_from(it);
        }
    }
    lane.restore_plan(plan);
    if let Some((_, bytes)) = file {
        let reader = snapshot::SnapshotReader::open(&bytes[..]).expect("it was just written");
        reader.read_into(&mut lane).expect("it was just written");
    }
    // Sums published before the snapshot are part of it.
    if let Some(partial) = newest.filter(|n| file.is_none() || n.turn >= from) {
        lane.sums_restored_from(partial);
    }
    for (turn, record) in (1_u64..).zip(records) {
        if !(from..=to).contains(&turn) {
            continue;
        }
        if matches!(record.event, Event::Plan(_)) {
            lane.turn_is(turn);
            lane.tick(record.now, &mut dropped);
        } else {
            play(&mut lane, turn, record, &mut dropped);
        }
    }
    lane
}

/// The snapshot of a lane after this many turns.
pub(crate) fn file_of(lane: &Analyst, turn: u64) -> Vec<u8> {
    let last = AnalystTurn {
        turn,
        now: 0,
        predictions: 0,
        labels: 0,
        lag: (0, 0),
        sources: None,
        known: None,
        checkpoint: CheckpointRecord::from(&lane.checkpoint()),
    };
    let place =
        SnapshotHeader { model: "m".into(), partition: 0, last, published: 0, starts: Vec::new() };
    let mut bytes = Vec::new();
    snapshot::write(&mut bytes, &place, lane).expect("memory takes it");
    bytes
}

/// How far both topics had been read before a turn.
fn read_before(records: &[Record], turn: u64) -> Inputs {
    let mut inputs = Inputs::default();
    for (_, record) in (1..turn).zip(records) {
        match record.event {
            Event::Prediction { offset, .. } => inputs.predictions = offset + 1,
            Event::Label { offset, .. } | Event::Watermark { offset, .. } => {
                inputs.labels = offset + 1;
            }
            Event::Unreadable { .. } | Event::Sources(_) | Event::Plan(_) | Event::Lag { .. } => {}
        }
    }
    inputs
}

/// Every effect of a lane that also runs at each of its wake times, not only when a record arrives.
pub(crate) fn effects_awake(records: &[Record]) -> Vec<Effect> {
    let mut lane = lane();
    let mut out = Vec::new();
    let mut now = MIDNIGHT;
    for record in records {
        while let Some(due) = lane.next_wake().filter(|n| now < *n && *n < record.now) {
            now = due;
            lane.tick(now, &mut out);
        }
        now = record.now;
        lane.handle(now, record.event.clone(), &mut out);
    }
    finish(&mut lane, records, &mut out);
    out
}
