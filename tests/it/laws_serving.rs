//! Laws of the serving lane: one answer each, as a naive model says, whatever the batches, the restarts and the workers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use serinus::domain::case::{AnswerStatus, Outcome, Prediction};
use serinus::domain::ids::{CaseId, Revision, Version};
use serinus::domain::record::{Answer, Bytes, Carried, Request};
use serinus::domain::routing::{OnFailure, Role, Routing, ShadowShare, Slice};
use serinus::domain::share::Share;
use serinus::domain::time::{Span, Timestamp};
use serinus::engine::counter::Counter;
use serinus::engine::serving::{Serve, ServingEffect, ServingLane, Turn};
use serinus::strategy::contract::Route;

use crate::plans;
use crate::world::MIDNIGHT;

/// Records come at whole hundredths of a second and nothing falls due at one: what is read in the very millisecond of a deadline is in
/// time or not by the turn that it is read in, and the journal keeps the turns.
const STEP_MS: i64 = 10;
const TIMEOUT: Span = Span(2003);
const SHADOW_TIMEOUT: Span = Span(5007);

/// One thing that happens, and how long after the one before it.
#[derive(Clone, Debug)]
enum Step {
    Request { wait: i64, unit: u8 },
    Answer { wait: i64, of: usize, ask: usize, fails: bool, wrong: u8 },
    Again { wait: i64, of: usize },
    Routing { wait: i64, kind: u8 },
}

/// One turn as the journal keeps it.
#[derive(Clone, Debug)]
struct Played {
    now: Timestamp,
    turn: Turn,
}

/// What a history did, and when.
type Told = Vec<(Timestamp, ServingEffect)>;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![3 => Just(0_i64), 4 => 0_i64..40, 1 => 0_i64..400];
    let step = prop_oneof![
        6 => (wait.clone(), 0_u8..40).prop_map(|(wait, unit)| Step::Request { wait, unit }),
        9 => (wait.clone(), 0_usize..8, 0_usize..5, prop::bool::weighted(0.3), 0_u8..12).prop_map(
            |(wait, of, ask, fails, wrong)| Step::Answer { wait, of, ask, fails, wrong }
        ),
        1 => (wait.clone(), 0_usize..8).prop_map(|(wait, of)| Step::Again { wait, of }),
        1 => (wait, 0_u8..4).prop_map(|(wait, kind)| Step::Routing { wait, kind }),
    ];
    prop::collection::vec(step, 1..100)
}

fn percent(percent: u32) -> Share {
    Share::from_millionths(percent * 10_000).expect("at most all")
}

fn routing(kind: u8, revision: u64) -> Arc<Routing> {
    let slice = |version: &str, width, share| Slice {
        version: version.into(),
        width: percent(width),
        share: percent(share),
    };
    let shadow =
        |version: &str, share| ShadowShare { version: version.into(), share: percent(share) };
    let default: Bytes = Arc::from(&b"{\"score\":0.5}"[..]);
    let (slices, shadows, on_failure, default) = match kind {
        0 => (vec![], vec![], OnFailure::Stable, None),
        1 => (
            vec![slice("v2", 50, 30), slice("v3", 50, 20)],
            vec![shadow("v1", 50), shadow("v2", 100)],
            OnFailure::Stable,
            None,
        ),
        2 => (
            vec![slice("v2", 50, 50), slice("v3", 50, 50)],
            vec![shadow("v1", 100), shadow("v4", 30)],
            OnFailure::Stable,
            Some(default),
        ),
        _ => (
            vec![slice("v2", 50, 40)],
            vec![shadow("v2", 100)],
            if revision.is_multiple_of(2) { OnFailure::Default } else { OnFailure::Error },
            Some(default),
        ),
    };
    let model = plans::model("m", "v1").plan;
    Arc::new(Routing {
        rollout: Some("r".into()),
        salt: "salt".into(),
        slices,
        shadows,
        timeout: TIMEOUT,
        shadow_timeout: SHADOW_TIMEOUT,
        on_failure,
        default,
        ..model.at_rest("v1".into(), Revision(revision))
    })
}

fn lane(open_cases_max: usize) -> ServingLane {
    ServingLane::new(0, open_cases_max, routing(1, 1))
}

fn request(offset: i64, unit: u8, now: Timestamp) -> Arc<Request> {
    Arc::new(Request {
        case: CaseId { partition: 0, offset },
        id: format!("id{offset}").as_str().into(),
        unit: Some(Arc::from(format!("unit{unit}").into_bytes())),
        key: None,
        value: Some(Arc::from(format!("body {offset}").into_bytes())),
        headers: Arc::from([]),
        requested_at: now,
        segments: Arc::default(),
    })
}

fn answer(n: usize, offset: i64, ask: usize, version: Version, fails: bool) -> Answer {
    Answer {
        case: CaseId { partition: 0, offset },
        ask,
        awaited_until: MIDNIGHT,
        version,
        error: fails.then(|| Arc::from("boom")),
        value: Some(Arc::from(format!("answer {n}").into_bytes())),
        carried: Arc::new(Carried::default()),
    }
}

/// Turns steps into what the lane would read, each record in a turn of its own, and its deadlines in turns of theirs.
///
/// Workers answer what they were really asked, so the history is made along with a lane. A full lane is given no requests: the shell
/// leaves them on their topic.
fn history(steps: &[Step], open_cases_max: usize) -> Vec<Played> {
    let mut lane = lane(open_cases_max);
    let mut played: Vec<Played> = Vec::new();
    let mut asked: BTreeMap<i64, Vec<(Version, Timestamp)>> = BTreeMap::new();
    let mut answers: Vec<Answer> = Vec::new();
    let (mut now, mut offset, mut revision) = (MIDNIGHT, 0, 1);
    let mut play = |lane: &mut ServingLane, it: Played, asked: &mut BTreeMap<_, Vec<_>>| {
        let mut out = Vec::new();
        lane.turn(it.now, it.turn.clone(), &mut out);
        played.push(it);
        for effect in out {
            if let ServingEffect::Forward(it) = effect {
                asked
                    .entry(it.request.case.offset)
                    .or_default()
                    .push((it.version.clone(), it.close_at));
            }
        }
    };
    for (n, step) in steps.iter().enumerate() {
        let (Step::Request { wait, .. }
        | Step::Answer { wait, .. }
        | Step::Again { wait, .. }
        | Step::Routing { wait, .. }) = step;
        now = now + Span(wait * STEP_MS);
        while let Some(due) = lane.next_wake().filter(|it| *it < now) {
            play(&mut lane, Played { now: due, turn: Turn::default() }, &mut asked);
        }
        let mut turn = Turn::default();
        match step {
            Step::Request { .. } if lane.room() == 0 => continue,
            Step::Request { unit, .. } => {
                offset += 1;
                turn.requests.push(request(offset, *unit, now));
            }
            Step::Answer { of, ask, fails, wrong, .. } => {
                let case = (offset - i64::try_from(*of).expect("small")).max(1);
                let known = asked.get(&case).and_then(|it| it.get(*ask)).cloned();
                let (version, awaited_until) = known.unwrap_or(("v2".into(), now));
                let mut answer = answer(n, case, *ask, version, *fails);
                answer.awaited_until = awaited_until;
                match wrong {
                    0 => answer.version = "v9".into(),
                    1 => answer.case.partition = 7,
                    2 => answer.case.offset += 1000,
                    _ => {}
                }
                answers.push(answer.clone());
                turn.answers.push(answer);
            }
            Step::Again { of, .. } => match answers.iter().rev().nth(*of) {
                Some(it) => turn.answers.push(it.clone()),
                None => continue,
            },
            Step::Routing { kind, .. } => {
                revision += 1;
                turn.routing = Some(routing(*kind, revision));
            }
        }
        play(&mut lane, Played { now, turn }, &mut asked);
    }
    while let Some(due) = lane.next_wake() {
        play(&mut lane, Played { now: due, turn: Turn::default() }, &mut asked);
    }
    assert_eq!(lane.open_cases(), 0, "everything ends");
    played
}

fn told(played: &[Played], open_cases_max: usize) -> Told {
    let mut lane = lane(open_cases_max);
    let mut told = Vec::new();
    for it in played {
        take(&mut lane, it, &mut told);
    }
    told
}

fn take(lane: &mut ServingLane, played: &Played, told: &mut Told) {
    let mut out = Vec::new();
    lane.turn(played.now, played.turn.clone(), &mut out);
    told.extend(out.into_iter().map(|it| (played.now, it)));
}

/// Puts what was read at one time into one turn, as long as a turn's order is the order of reading.
fn in_batches(played: &[Played]) -> Vec<Played> {
    let mut batches: Vec<Played> = Vec::new();
    for it in played {
        match batches.last_mut() {
            Some(last)
                if last.now == it.now
                    && it.turn.routing.is_none()
                    && (last.turn.answers.is_empty() || it.turn.requests.is_empty()) =>
            {
                last.turn.requests.extend(it.turn.requests.iter().cloned());
                last.turn.answers.extend(it.turn.answers.iter().cloned());
            }
            Some(_) | None => batches.push(it.clone()),
        }
    }
    batches
}

fn without_counts(told: &Told) -> Vec<&(Timestamp, ServingEffect)> {
    told.iter().filter(|(_, it)| !matches!(it, ServingEffect::Count(_))).collect()
}

fn count(told: &Told, counter: Counter) -> usize {
    told.iter().filter(|(_, it)| *it == ServingEffect::Count(counter)).count()
}

/// A lane that was killed after turn `last`, and did again what the shell does again: from the turn that opened its oldest open case.
fn replayed(played: &[Played], last: usize, dead: &ServingLane, open: &[usize]) -> ServingLane {
    let routing_of = |turn: usize| {
        let newest = played[..=turn].iter().rev().find_map(|it| it.turn.routing.clone());
        newest.unwrap_or_else(|| routing(1, 1))
    };
    let first = dead.oldest_open().map_or(last, |oldest| {
        let is_it = |it: &Played| it.turn.requests.iter().any(|it| it.case.offset == oldest);
        played.iter().position(is_it).expect("an open case was opened")
    });
    let mut lane = ServingLane::new(0, MAX, routing_of(first));
    let mut dropped = Vec::new();
    for (it, open) in played.iter().zip(open).take(last + 1).skip(first) {
        let turn = Turn { open: Some(*open), ..it.turn.clone() };
        lane.turn(it.now, turn, &mut dropped);
    }
    lane
}

/// Small enough that histories come to its half, where copies to shadows are shed.
const MAX: usize = 12;
/// Large enough that no history comes near it.
const AMPLE: usize = 1000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn batch_size_never_matters(steps in steps()) {
        let single = history(&steps, MAX);
        let batches = in_batches(&single);
        prop_assert_eq!(told(&single, MAX), told(&batches, MAX));
    }

    #[test]
    fn a_look_too_early_never_matters(steps in steps(), early in 1_i64..5) {
        let played = history(&steps, MAX);
        let mut lane = lane(MAX);
        let mut looked = Vec::new();
        for it in &played {
            let before = Timestamp(it.now.0 - early);
            if lane.next_wake().is_none_or(|due| due > before) {
                take(&mut lane, &Played { now: before, turn: Turn::default() }, &mut looked);
            }
            take(&mut lane, it, &mut looked);
        }
        prop_assert_eq!(looked, told(&played, MAX));
    }

    #[test]
    fn a_restart_anywhere_never_matters(
        steps in steps(),
        crashes in prop::collection::btree_set(0_usize..200, 1..6),
    ) {
        let played = in_batches(&history(&steps, MAX));
        let mut lane = lane(MAX);
        let (mut broken, mut open) = (Vec::new(), Vec::new());
        for (turn, it) in played.iter().enumerate() {
            open.push(lane.open_cases());
            take(&mut lane, it, &mut broken);
            if crashes.contains(&turn) {
                let restored = replayed(&played, turn, &lane, &open);
                prop_assert_eq!(&restored, &lane);
                lane = restored;
            }
        }
        prop_assert_eq!(broken, told(&played, MAX));
    }

    #[test]
    fn an_answer_twice_changes_nothing(steps in steps()) {
        let once = history(&steps, AMPLE);
        let twice: Vec<Played> = once
            .iter()
            .map(|it| {
                let answers = it.turn.answers.iter().flat_map(|it| [it.clone(), it.clone()]);
                Played { turn: Turn { answers: answers.collect(), ..it.turn.clone() }, ..it.clone() }
            })
            .collect();
        let (once, twice) = (told(&once, AMPLE), told(&twice, AMPLE));
        let but_passed_on = |told: &Told| {
            let is_kept = |it: &&(Timestamp, ServingEffect)| !matches!(it.1, ServingEffect::PassOn(_));
            without_counts(told).into_iter().filter(is_kept).cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(but_passed_on(&once), but_passed_on(&twice));
        let misdirected = count(&once, Counter::AnswerMisdirected);
        prop_assert_eq!(2 * misdirected, count(&twice, Counter::AnswerMisdirected));
    }

    #[test]
    fn every_request_is_served_once_as_a_naive_model_says(steps in steps()) {
        let played = history(&steps, AMPLE);
        let told = told(&played, AMPLE);
        let mut served: BTreeMap<i64, Vec<(Timestamp, &Serve)>> = BTreeMap::new();
        let mut predicted: BTreeMap<i64, Vec<&Prediction>> = BTreeMap::new();
        for (now, effect) in &told {
            match effect {
                ServingEffect::Serve(it) => {
                    served.entry(it.request.case.offset).or_default().push((*now, it));
                }
                ServingEffect::Predict(it) => predicted.entry(it.case.offset).or_default().push(it),
                ServingEffect::Forward(_) | ServingEffect::PassOn(_) | ServingEffect::Count(_) => {}
            }
        }
        let expected = naive(&played);
        prop_assert_eq!(served.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (offset, expected) in &expected {
            let [(at, serve)] = served[offset][..] else { panic!("{offset} was served twice") };
            let happened = (at, serve.version.clone(), serve.outcome, serve.value.clone());
            prop_assert_eq!(
                happened,
                (expected.at, expected.version.clone(), expected.outcome, expected.value.clone())
            );
            prop_assert_eq!(serve.error.is_some(), expected.outcome == Outcome::Error);
            let [prediction] = predicted[offset][..] else { panic!("{offset} was predicted twice") };
            let answers: Vec<_> =
                prediction.answers.iter().map(|it| (it.version.clone(), it.role, it.status)).collect();
            prop_assert_eq!(&answers, &expected.answers);
            prop_assert_eq!(prediction.served_at, expected.at);
            prop_assert_eq!((&prediction.served, prediction.outcome), (&expected.version, expected.outcome));
        }
        let answers = played.iter().map(|it| it.turn.answers.len()).sum::<usize>();
        let used: usize = expected.values().map(|it| it.used).sum();
        let unused: usize = [Counter::AnswerDuplicate, Counter::AnswerUnknown, Counter::AnswerMisdirected]
            .map(|it| count(&told, it))
            .iter()
            .sum();
        // A late answer is used when its case is still open, and only counted when it is closed.
        let late = count(&told, Counter::AnswerLate);
        let late_used: usize = expected.values().map(|it| it.late).sum();
        prop_assert_eq!(used + unused + late - late_used, answers, "every answer is used or counted");
        prop_assert_eq!(count(&told, Counter::Requests), expected.len());
    }

    #[test]
    fn copies_to_shadows_are_shed_first_and_the_bound_holds(
        units in prop::collection::vec(0_u8..40, 1..40),
        max in 1_usize..16,
    ) {
        let mut lane = lane(max);
        let by = routing(2, 2);
        lane.turn(MIDNIGHT, Turn { routing: Some(Arc::clone(&by)), ..Turn::default() }, &mut Vec::new());
        for (offset, unit) in (1..).zip(units) {
            let before = lane.open_cases();
            let request = request(offset, unit, MIDNIGHT);
            let wanted = Route::of(&by, request.unit_bytes()).shadows.len();
            let mut played = Vec::new();
            let turn = Turn { requests: vec![request], ..Turn::default() };
            take(&mut lane, &Played { now: MIDNIGHT, turn }, &mut played);
            let asked = |role: Role| {
                let is_it = |it: &&(Timestamp, ServingEffect)| {
                    matches!(&it.1, ServingEffect::Forward(it) if it.role == role)
                };
                played.iter().filter(is_it).count()
            };
            let answered = played.iter().filter(|it| matches!(it.1, ServingEffect::Serve(_))).count();
            let shed = count(&played, Counter::ShadowShed);
            let happened = (asked(Role::Serve), asked(Role::Shadow), shed, answered);
            let expected = if before >= max {
                (0, 0, 0, 1)
            } else if before >= max / 2 {
                (1, 0, wanted, 0)
            } else {
                (1, wanted, 0, 0)
            };
            prop_assert_eq!(happened, expected, "{} of {} were open", before, max);
            prop_assert_eq!(count(&played, Counter::OpenCasesFull), answered);
            prop_assert!(lane.open_cases() <= max);
        }
    }
}

/// What should become of one request.
struct Expected {
    at: Timestamp,
    version: Option<Version>,
    outcome: Outcome,
    value: Option<Bytes>,
    answers: Vec<(Version, Role, AnswerStatus)>,
    used: usize,
    late: usize,
}

/// One ask of the naive model, with the place of the first answer to it in the history.
struct Asked {
    version: Version,
    role: Role,
    deadline: Timestamp,
    first: Option<usize>,
}

/// Says what should become of every request by looking at the whole history at once, one request at a time.
fn naive(played: &[Played]) -> BTreeMap<i64, Expected> {
    let mut by = routing(1, 1);
    let mut expected = BTreeMap::new();
    for (place, it) in played.iter().enumerate() {
        if let Some(routing) = &it.turn.routing {
            by = Arc::clone(routing);
        }
        for request in &it.turn.requests {
            expected.insert(request.case.offset, become_of(request, &by, it.now, &played[place..]));
        }
    }
    expected
}

fn become_of(request: &Request, by: &Routing, opened: Timestamp, after: &[Played]) -> Expected {
    let route = Route::of(by, request.unit_bytes());
    let deadline = opened + TIMEOUT;
    let close = opened + SHADOW_TIMEOUT;
    // The first answer to an ask, among what was read after a place and while the case can be open.
    let first = |ask: usize, version: &Version, from: usize| {
        after.iter().enumerate().skip(from).find_map(|(place, it)| {
            let is_it =
                |it: &&Answer| it.case == request.case && it.ask == ask && it.version == *version;
            (it.now < close && it.turn.answers.iter().any(|it| is_it(&it))).then_some(place)
        })
    };
    let read = |place: usize| (after[place].now, &after[place].turn.answers[0]);
    let arm = &route.serve.version;
    let mut asks =
        vec![Asked { version: arm.clone(), role: Role::Serve, deadline, first: first(0, arm, 0) }];
    for (ask, shadow) in (1..).zip(&route.shadows) {
        let place = first(ask, shadow, 0);
        asks.push(Asked {
            version: shadow.clone(),
            role: Role::Shadow,
            deadline: close,
            first: place,
        });
    }
    let in_time = |place: Option<usize>| place.map(read).filter(|(at, _)| *at < deadline);
    let is_fine = |it: Option<(Timestamp, &Answer)>| it.is_some_and(|(_, it)| it.error.is_none());
    let own = in_time(asks[0].first);
    let hedge = opened + Span(TIMEOUT.0 / 2);
    let is_quick = own.is_some_and(|(at, _)| at < hedge);
    let may_fall_back = by.on_failure == OnFailure::Stable && *arm != by.stable;
    let fallback = if may_fall_back && !(is_quick && is_fine(own)) {
        // The stable version is asked when the candidate fails, or at half time.
        let asked_at = match asks[0].first {
            Some(place) if is_quick => place + 1,
            Some(_) | None => after.iter().position(|it| it.now >= hedge).unwrap_or(after.len()),
        };
        let place = first(asks.len(), &by.stable, asked_at);
        asks.push(Asked { version: by.stable.clone(), role: Role::Serve, deadline, first: place });
        in_time(place)
    } else {
        None
    };
    let both_at = own.map_or(deadline, |(at, _)| fallback.map_or(deadline, |it| it.0.max(at)));
    let (at, served) = match own {
        Some((at, answer)) if answer.error.is_none() => (at, Some((arm, Outcome::Ok, answer))),
        Some((at, _)) if !may_fall_back => (at, None),
        Some(_) | None => {
            let answer = fallback.filter(|it| is_fine(Some(*it))).map(|it| it.1);
            (both_at, answer.map(|it| (&by.stable, Outcome::Fallback, it)))
        }
    };
    let default = by.default.clone().filter(|_| by.on_failure != OnFailure::Error);
    let (version, outcome, value) = match (served, default) {
        (Some((version, outcome, answer)), _) => {
            (Some(version.clone()), outcome, answer.value.clone())
        }
        (None, Some(value)) => (None, Outcome::Default, Some(value)),
        (None, None) => (None, Outcome::Error, None),
    };
    let answers: Vec<_> =
        asks.iter().map(|it| (it.version.clone(), it.role, status(it, after))).collect();
    Expected {
        at,
        version,
        outcome,
        value,
        used: asks.iter().filter(|it| it.first.is_some()).count(),
        late: answers.iter().filter(|it| it.2 == AnswerStatus::Late).count(),
        answers,
    }
}

fn status(asked: &Asked, after: &[Played]) -> AnswerStatus {
    match asked.first.map(|it| (after[it].now, &after[it].turn.answers[0])) {
        None => AnswerStatus::Timeout,
        Some((at, _)) if at > asked.deadline => AnswerStatus::Late,
        Some((_, answer)) if answer.error.is_some() => AnswerStatus::Error,
        Some(_) => AnswerStatus::Ok,
    }
}

/// The histories above come to what they are meant to try.
#[test]
fn histories_hold_every_outcome() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeSet<Counter> = BTreeSet::new();
    for _ in 0..200 {
        let steps = proptest::strategy::ValueTree::current(
            &steps().new_tree(&mut runner).expect("steps can be made"),
        );
        for (_, effect) in told(&history(&steps, MAX), MAX) {
            if let ServingEffect::Count(counter) = effect {
                seen.insert(counter);
            }
        }
    }
    for counter in [
        Counter::ServedOk,
        Counter::ServedFallback,
        Counter::ServedDefault,
        Counter::ServedError,
        Counter::ShadowShed,
        Counter::AnswerLate,
        Counter::AnswerDuplicate,
        Counter::AnswerUnknown,
        Counter::AnswerMisdirected,
    ] {
        assert!(seen.contains(&counter), "no history comes to {counter:?}");
    }
}
