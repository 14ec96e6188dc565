//! Laws of the analyst lane and the judge: batches, restarts and repetitions change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use serinus::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
use serinus::domain::ids::{CaseId, Revision, StageIndex, Version};
use serinus::domain::label::Label;
use serinus::domain::routing::{Role, Routing};
use serinus::domain::time::{Span, Timestamp};
use serinus::engine::analyst::Analyst;
use serinus::engine::analyst_io::{Effect, Event, Planned, Settings};
use serinus::engine::clock::Checkpoint;
use serinus::engine::command::{Parsed, Verb};
use serinus::engine::partial::Partial;
use serinus::engine::score::Truth;
use serinus::engine::tally::Book;
use serinus::join::entry::LabelStatus;
use serinus::strategy::contract::Route;
use serinus::strategy::evidence::Evidence;
use serinus::strategy::planning;
use serinus::strategy::stage::RolloutPlan;
use serinus::wire::checkpoint::CheckpointRecord;
use serinus::wire::journal::AnalystTurn;
use serinus::wire::lane_file::{self, Place};

use crate::plans;
use crate::world::{Answer, MIDNIGHT, World};

/// One record of a history, and how long after the one before it comes.
#[derive(Clone, Debug)]
enum Step {
    Case { wait_ms: i64, fails: u8, score: u8, is_twin: bool },
    Label { wait_ms: i64, of: usize, late: u8, version: u64, age_ms: i64, retract: bool },
    Again { wait_ms: i64, of: usize },
}

/// A record as a lane gets it.
#[derive(Clone, Debug)]
struct Record {
    now: Timestamp,
    event: Event,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![4 => 0_i64..300, 1 => 0_i64..6_000];
    let step = prop_oneof![
        5 => (wait.clone(), 0_u8..6, 0_u8..=100, any::<bool>()).prop_map(
            |(wait_ms, fails, score, is_twin)| Step::Case { wait_ms, fails, score, is_twin }
        ),
        4 => (wait.clone(), 0_usize..40, 0_u8..2, 1_u64..4, 0_i64..2_000, prop::bool::weighted(0.1))
            .prop_map(|(wait_ms, of, late, version, age_ms, retract)| Step::Label {
                wait_ms, of, late, version, age_ms, retract,
            }),
        1 => (wait, 0_usize..40).prop_map(|(wait_ms, of)| Step::Again { wait_ms, of }),
    ];
    prop::collection::vec(step, 1..120)
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

fn planned() -> Planned {
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

fn prediction(n: usize, id: &str, now: Timestamp, fails: u8, score: u8) -> Prediction {
    let route = Route::of(&routing(), id.as_bytes());
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
    answers.extend(shadows.map(|(nth, it)| answer(it, Role::Shadow, nth)));
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

/// Turns steps into what two topics would hold, in the order of arrival.
fn history(steps: &[Step]) -> Vec<Record> {
    let mut now = MIDNIGHT;
    let mut records: Vec<Record> = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    let (mut predictions, mut labels) = (0, 0);
    let mut cases = 0;
    for step in steps {
        let (Step::Case { wait_ms, .. }
        | Step::Label { wait_ms, .. }
        | Step::Again { wait_ms, .. }) = step;
        now = now + Span(*wait_ms);
        let event = match step {
            Step::Case { fails, score, is_twin, .. } => {
                cases += 1;
                let id = match ids.last() {
                    Some(last) if *is_twin => last.clone(),
                    Some(_) | None => format!("id{cases}"),
                };
                ids.push(id.clone());
                let prediction = prediction(cases, &id, now, *fails, *score);
                predictions += 1;
                Event::Prediction { offset: predictions, prediction: Box::new(prediction) }
            }
            Step::Label { of, late, version, age_ms, retract, .. } => {
                // Beyond the newest case: a label that comes before its prediction.
                let nth = (cases + 3).saturating_sub(*of).max(1);
                let label = Label {
                    request_id: format!("id{nth}").as_str().into(),
                    value: json!({"late": late}),
                    observed_at: Timestamp(now.0 - age_ms),
                    version: *version,
                    retract: *retract,
                };
                labels += 1;
                Event::Label { offset: labels, source: None, label: Box::new(label) }
            }
            // A lane knows a record again for as long as it holds it: the window and the keep time.
            Step::Again { of, .. } => match records.iter().rev().nth(*of) {
                Some(it) if it.now + Span::seconds(5) > now => {
                    again(&it.event, &mut predictions, &mut labels)
                }
                Some(_) | None => continue,
            },
        };
        records.push(Record { now, event });
    }
    records
}

/// The same record once more, at the end of its topic.
fn again(event: &Event, predictions: &mut i64, labels: &mut i64) -> Event {
    let mut event = event.clone();
    match &mut event {
        Event::Prediction { offset, .. } => {
            *predictions += 1;
            *offset = *predictions;
        }
        Event::Label { offset, .. } | Event::Mark { offset, .. } => {
            *labels += 1;
            *offset = *labels;
        }
        Event::Unreadable { .. } | Event::Sources(_) | Event::Plan(_) | Event::Lag { .. } => {}
    }
    event
}

fn lane() -> Analyst {
    let mut lane = Analyst::new(Settings::new("m".into(), 0, 1));
    let mut out = Vec::new();
    lane.handle(MIDNIGHT, Event::Plan(Box::new(planned())), &mut out);
    assert!(out.is_empty());
    lane
}

/// Everything a lane does with a history, and then with nothing for a while.
fn told(records: &[Record], extra_ticks: usize) -> Vec<Effect> {
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

fn finish(lane: &mut Analyst, records: &[Record], out: &mut Vec<Effect>) {
    let end = records.last().map_or(MIDNIGHT, |it| it.now);
    for seconds in 1..=30 {
        lane.tick(end + Span::seconds(seconds), out);
    }
}

fn last_sums(effects: &[Effect]) -> Evidence {
    let last = effects.iter().rev().find_map(|it| match it {
        Effect::Partial(partial) => Some(partial.sums.clone()),
        Effect::Row(_) | Effect::Refuse { .. } | Effect::Count(..) => None,
    });
    last.unwrap_or_default()
}

fn without_counts(effects: &[Effect]) -> Vec<&Effect> {
    effects.iter().filter(|it| !matches!(it, Effect::Count(..))).collect()
}

/// Runs a history in turns, killing the lane after some of them and replaying as the shell does: from the newest file, where one was
/// saved, else from the oldest turn of which something is held.
fn told_with_crashes(
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
            lane = replayed(records, &journal, from, turn, newest.clone(), file.as_ref());
        }
    }
    finish(&mut lane, records, &mut written);
    written
}

/// The same history, in which the rollout ends after so many records.
fn ending(records: &[Record], after: usize) -> Vec<Record> {
    let mut records = records.to_vec();
    let at = after.min(records.len());
    let now = if at == 0 { MIDNIGHT } else { records[at - 1].now };
    let over = Planned { is_live: false, ..planned() };
    records.insert(at, Record { now, event: Event::Plan(Box::new(over)) });
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
    from: u64,
    to: u64,
    newest: Option<Partial>,
    file: Option<&(u64, Vec<u8>)>,
) -> Analyst {
    let mut lane = Analyst::new(Settings::new("m".into(), 0, 1));
    let from = file.map_or(from.max(1), |(saved, _)| saved + 1);
    // Where nothing is held there is nothing to begin with either.
    if file.is_none() && from <= to {
        let written = journal.iter().find(|(turn, _)| *turn == from);
        let (_, checkpoint) = written.expect("every turn is written");
        lane.restore_checkpoint(Checkpoint::from(checkpoint));
    }
    lane.turn_is(from);
    let mut dropped = Vec::new();
    // Whether the rollout is over is known from its events before anything is replayed.
    let is_over =
        (1_u64..).zip(records).any(|(turn, it)| turn <= to && matches!(it.event, Event::Plan(_)));
    lane.restore_plan(Planned { is_live: !is_over, ..planned() });
    if let Some((_, bytes)) = file {
        let reader = lane_file::Reader::open(&bytes[..]).expect("it was just written");
        reader.read_into(&mut lane).expect("it was just written");
    }
    // Sums that were published before the file was written are in it.
    if let Some(partial) = newest.filter(|it| file.is_none() || it.turn >= from) {
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

fn file_of(lane: &Analyst, turn: u64) -> Vec<u8> {
    let checkpoint = CheckpointRecord::from(&lane.checkpoint());
    let last = AnalystTurn {
        turn,
        now: 0,
        predictions: 0,
        labels: 0,
        lag: (0, 0),
        sources: None,
        known: None,
        checkpoint,
    };
    let place = Place { model: "m".into(), partition: 0, last, published: 0, starts: Vec::new() };
    let mut bytes = Vec::new();
    lane_file::write(&mut bytes, &place, lane).expect("memory takes it");
    bytes
}

/// What may be lost and kept: a lane crashes after some turns, and was saved after others.
fn holds_through(
    records: &[Record],
    crashes: &BTreeSet<usize>,
    saves: &BTreeSet<usize>,
) -> Result<(), TestCaseError> {
    let whole = told_with_crashes(records, &BTreeSet::new(), &BTreeSet::new());
    let broken = told_with_crashes(records, crashes, saves);
    let (whole, broken) = (without_counts(&whole), without_counts(&broken));
    for (whole, broken) in whole.iter().zip(&broken) {
        prop_assert_eq!(whole, broken);
    }
    prop_assert_eq!(whole.len(), broken.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn batch_size_never_matters(steps in steps()) {
        let records = history(&steps);
        prop_assert_eq!(told(&records, 0), told(&records, 2));
    }

    #[test]
    fn a_restart_anywhere_never_matters(
        steps in steps(),
        crashes in prop::collection::btree_set(1_usize..120, 1..4),
        saves in prop::collection::btree_set(1_usize..120, 0..4),
    ) {
        let records = history(&steps);
        holds_through(&records, &crashes, &saves)?;
    }

    #[test]
    fn what_changes_after_a_rollout_is_over_survives_a_restart_anywhere(
        steps in steps(),
        over in 0_usize..80,
        crashes in prop::collection::btree_set(1_usize..120, 1..4),
        saves in prop::collection::btree_set(1_usize..120, 0..4),
    ) {
        let records = ending(&history(&steps), over);
        holds_through(&records, &crashes, &saves)?;
    }

    #[test]
    fn batch_size_never_matters_after_a_rollout_is_over(steps in steps(), over in 0_usize..80) {
        let records = ending(&history(&steps), over);
        prop_assert_eq!(told(&records, 0), told(&records, 2));
    }

    /// Whatever became of the labels, the amended view is what the evidence would be had they never been otherwise.
    #[test]
    fn amended_evidence_is_that_of_the_newest_labels(
        cases in prop::collection::vec(
            (0_u8..6, 0_u8..=100, prop::collection::vec(prop::option::of(0_u8..2), 1..5)), 1..40),
    ) {
        let Planned { plan, design, stable, .. } = planned();
        let book = || Book::new(Arc::clone(&plan), design.clone(), stable.clone());
        let (mut amended, mut direct) = (book(), book());
        let values = [json!({"late": 0}), json!({"late": 1})];
        let truth = |label: Option<u8>| {
            label.map_or(Truth::Unknown, |it| Truth::Known(&values[usize::from(it)]))
        };
        for (n, (fails, score, labels)) in cases.iter().enumerate() {
            let case = prediction(n, &format!("id{n}"), MIDNIGHT, *fails, *score);
            let _scores = amended.mature(&case, truth(labels[0]), [false; 2]);
            for pair in labels.windows(2) {
                amended.amend(&case, truth(pair[0]), truth(pair[1]));
            }
            let newest = labels.last().copied().flatten();
            let _scores = direct.mature(&case, truth(newest), [false; 2]);
        }
        let sums = amended.sums();
        let view = sums.as_amended().expect("nothing is taken back that was not there");
        for (key, scores) in &direct.sums().scores {
            prop_assert_eq!(view.scores.get(key), Some(scores), "{:?}", key);
        }
        for (key, contrast) in &direct.sums().contrasts {
            prop_assert_eq!(view.contrasts.get(key), Some(contrast), "{:?}", key);
        }
        let changes: usize = cases.iter().map(|(_, _, labels)| labels.len() - 1).sum();
        prop_assert_eq!(sums.amended.labels, changes as u64);
    }

    #[test]
    fn a_record_twice_changes_nothing(steps in steps()) {
        let records = history(&steps);
        let twice: Vec<Record> = records.iter().flat_map(|it| [it.clone(), it.clone()]).collect();
        let (once, twice) = (told(&records, 0), told(&twice, 0));
        prop_assert_eq!(without_counts(&once), without_counts(&twice));
    }

    #[test]
    fn every_case_has_one_final_row_and_its_newest_truth(steps in steps()) {
        let records = history(&steps);
        let effects = told(&records, 0);
        let mut rows: BTreeMap<CaseId, Vec<(u32, LabelStatus, Option<u64>)>> = BTreeMap::new();
        for effect in &effects {
            if let Effect::Row(row) = effect {
                let joined = &row.joined;
                let version = joined.truth.as_ref().map(|it| it.version);
                rows.entry(joined.prediction.case).or_default().push((
                    joined.row_version,
                    joined.status,
                    version,
                ));
            }
        }
        let mut cases = BTreeMap::new();
        for record in &records {
            if let Event::Prediction { prediction, .. } = &record.event {
                cases.entry(prediction.case).or_insert(prediction);
            }
        }
        prop_assert_eq!(rows.keys().collect::<Vec<_>>(), cases.keys().collect::<Vec<_>>());
        for rows in rows.values() {
            let versions: Vec<u32> = rows.iter().map(|(version, _, _)| *version).collect();
            let wanted: Vec<u32> = (1..).take(rows.len()).collect();
            prop_assert_eq!(versions, wanted, "rows are numbered without a gap");
            for (version, status, truth) in rows {
                let is_final = matches!(status, LabelStatus::Labelled | LabelStatus::Missing);
                prop_assert_eq!(*version == 1, is_final);
                let has_truth = !matches!(status, LabelStatus::Missing | LabelStatus::Retracted);
                prop_assert_eq!(truth.is_some(), has_truth);
            }
        }
    }

    #[test]
    fn sums_of_two_lanes_are_the_sums_of_one(steps in steps()) {
        let records = history(&steps);
        let is_even = |it: &&Record| match &it.event {
            Event::Prediction { prediction, .. } => prediction.request_id.as_str().len() % 2 == 0,
            Event::Label { label, .. } => label.request_id.as_str().len() % 2 == 0,
            Event::Mark { .. }
            | Event::Sources(_)
            | Event::Unreadable { .. }
            | Event::Plan(_)
            | Event::Lag { .. } => true,
        };
        let (even, odd): (Vec<_>, Vec<_>) = records.iter().partition::<Vec<_>, _>(is_even);
        let owned = |it: Vec<&Record>| it.into_iter().cloned().collect::<Vec<_>>();
        // Without idle clocks that depend on what else came, every case is joined with what came for it.
        let settle = |it: &[Record]| last_sums(&told(it, 0));
        let (even, odd) = (owned(even), owned(odd));
        let mut merged = settle(&even);
        merged.merge(&settle(&odd));
        let whole = settle(&records);
        for (key, tally) in &whole.arms {
            let other = merged.arms.get(key).cloned().unwrap_or_default();
            prop_assert_eq!(tally.exposures, other.exposures);
            prop_assert_eq!(tally.mature, other.mature);
            prop_assert_eq!(&tally.latency, &other.latency);
        }
        prop_assert_eq!(whole.arms.len(), merged.arms.len());
        for (stratum, units) in &whole.units {
            let other = merged.units.get(stratum).cloned().unwrap_or_default();
            prop_assert_eq!(units.seen.len(), other.seen.len());
            for (version, counts) in &units.counts {
                let other = other.of(version);
                prop_assert_eq!(counts.assigned, other.assigned);
                prop_assert_eq!(counts.answered, other.answered);
                prop_assert_eq!(counts.mature, other.mature);
            }
        }
    }
}

#[test]
fn a_judge_that_restarts_decides_the_same() {
    let run = |restart_every: Option<usize>| {
        let mut world = World::new("m", 2);
        let spec = Parsed::Model(Box::new(plans::model("m", "v1")));
        world.command(Verb::Apply, None, Some(spec), None);
        let mut plan = plans::rollout("m", "r", "canary", &["v2", "v3"]);
        for line in [
            "stage share=v2:20%,v3:20% hold=30s",
            "stage share=v2:40%,v3:40% hold=30s",
            "metric accuracy accuracy goal margin=10%",
            "metric latency latency guardrail margin=50%",
            "metric errors response_error guardrail margin=10%",
            "labels maturity=10s",
        ] {
            plans::line(&mut plan, &line.split_whitespace().collect::<Vec<_>>());
        }
        let spec = Parsed::Rollout(Box::new(plans::written(plan, "r")));
        world.command(Verb::Apply, Some("r"), Some(spec), None);
        for n in 0..4000_usize {
            let until = Timestamp(world.now.0 + 100);
            world.wait_until(until);
            let id = format!("q{n}");
            let is_bad = n % 2 == 0;
            world.case(&id, &id, |version| match version.as_str() {
                "v3" if is_bad => Answer::Error,
                _ => Answer::Score(0.9),
            });
            let label = Label {
                request_id: id.as_str().into(),
                value: json!({"late": 1}),
                observed_at: world.now,
                version: 1,
                retract: false,
            };
            world.label(label);
            if restart_every.is_some_and(|it| n % it == 0) {
                world.restart_judge();
            }
        }
        world.changes
    };
    let whole = run(None);
    let deeds: Vec<&str> = whole.iter().map(|it| it.deed.word()).collect();
    assert_eq!(deeds, ["apply", "apply", "abort", "advance", "promote"]);
    assert_eq!(whole, run(Some(7)));
    assert_eq!(whole, run(Some(131)));
}
