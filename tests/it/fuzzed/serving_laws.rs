//! Laws of the serving lane for any history: one answer per request, equal to that of a naive model that sees the whole history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serinus_core::domain::assignment;
use serinus_core::domain::case::{AnswerStatus, Outcome, Prediction};
use serinus_core::domain::ids::Version;
use serinus_core::domain::record::{Answer, Bytes, Request};
use serinus_core::domain::routing::{OnFailure, Role, Routing};
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::counter::Counter;
use serinus_core::engine::serving::{Serve, ServingEffect, Turn};

use crate::fuzzed::serving_history::{
    AMPLE, Effects, MAX, Played, SHADOW_TIMEOUT, Step, TIMEOUT, count, effects_of, history,
    in_batches, lane, replayed, routing, take, without_counts,
};

/// The same records in other turns have the same effects.
pub(crate) fn batch_size_never_matters(steps: &[Step]) {
    let single = history(steps, MAX);
    let batches = in_batches(&single);
    assert_eq!(effects_of(&single, MAX), effects_of(&batches, MAX));
}

/// An empty turn before any deadline has no effect.
pub(crate) fn a_look_too_early_never_matters(steps: &[Step], early: i64) {
    let played = history(steps, MAX);
    let mut lane = lane(MAX);
    let mut looked = Vec::new();
    for it in &played {
        let before = Timestamp(it.now.0 - early);
        if lane.next_wake().is_none_or(|due| due > before) {
            take(&mut lane, &Played { now: before, turn: Turn::default() }, &mut looked);
        }
        take(&mut lane, it, &mut looked);
    }
    assert_eq!(looked, effects_of(&played, MAX));
}

/// A lane that is killed after some turns and replayed like the program ends in the same state.
pub(crate) fn a_restart_anywhere_never_matters(steps: &[Step], crashes: &BTreeSet<usize>) {
    let played = in_batches(&history(steps, MAX));
    let mut lane = lane(MAX);
    let (mut broken, mut open) = (Vec::new(), Vec::new());
    for (turn, it) in played.iter().enumerate() {
        open.push(lane.open_cases());
        take(&mut lane, it, &mut broken);
        if crashes.contains(&turn) {
            let restored = replayed(&played, turn, &lane, &open);
            assert_eq!(restored, lane);
            lane = restored;
        }
    }
    assert_eq!(broken, effects_of(&played, MAX));
}

/// Every answer may be duplicated: one is used, the other is counted.
pub(crate) fn an_answer_twice_changes_nothing(steps: &[Step]) {
    let once = history(steps, AMPLE);
    let twice: Vec<Played> = once
        .iter()
        .map(|o| {
            let answers = o.turn.answers.iter().flat_map(|a| [a.clone(), a.clone()]);
            Played { turn: Turn { answers: answers.collect(), ..o.turn.clone() }, ..o.clone() }
        })
        .collect();
    let (once, twice) = (effects_of(&once, AMPLE), effects_of(&twice, AMPLE));
    let but_passed_on = |effects: &Effects| {
        let is_kept = |t: &&(Timestamp, ServingEffect)| !matches!(t.1, ServingEffect::PassOn(_));
        without_counts(effects).into_iter().filter(is_kept).cloned().collect::<Vec<_>>()
    };
    assert_eq!(but_passed_on(&once), but_passed_on(&twice));
    let misdirected = count(&once, Counter::AnswerMisdirected);
    assert_eq!(2 * misdirected, count(&twice, Counter::AnswerMisdirected));
}

/// Each request is forwarded as assigned, served once and in time, and its prediction records the served answer.
pub(crate) fn every_request_is_served_once_as_a_naive_model_says(steps: &[Step]) {
    let played = history(steps, AMPLE);
    let effects = effects_of(&played, AMPLE);
    let mut served: BTreeMap<i64, Vec<(Timestamp, &Serve)>> = BTreeMap::new();
    let mut predicted: BTreeMap<i64, Vec<&Prediction>> = BTreeMap::new();
    let mut forwarded: BTreeMap<i64, Vec<(Version, Role)>> = BTreeMap::new();
    for (now, effect) in &effects {
        match effect {
            ServingEffect::Serve(it) => {
                served.entry(it.request.case.offset).or_default().push((*now, it));
            }
            ServingEffect::Predict(it) => predicted.entry(it.case.offset).or_default().push(it),
            ServingEffect::Forward(it) => {
                let asked = (it.version.clone(), it.role);
                forwarded.entry(it.request.case.offset).or_default().push(asked);
            }
            ServingEffect::PassOn(_) | ServingEffect::Count(_) => {}
        }
    }
    let expected = naive(&played);
    assert_eq!(served.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (offset, expected) in &expected {
        let [(at, serve)] = served[offset][..] else { panic!("{offset} was served twice") };
        let happened = (at, serve.version.clone(), serve.outcome, serve.value.clone());
        let Expected { version, outcome, value, .. } = expected;
        assert_eq!(happened, (expected.at, version.clone(), *outcome, value.clone()));
        assert_eq!(serve.error.is_some(), *outcome == Outcome::Error);
        let [prediction] = predicted[offset][..] else { panic!("{offset} was predicted twice") };
        let answers: Vec<_> =
            prediction.answers.iter().map(|a| (a.version.clone(), a.role, a.status)).collect();
        assert_eq!(&answers, &expected.answers);
        let asked: Vec<_> =
            expected.answers.iter().map(|(version, role, _)| (version.clone(), *role)).collect();
        assert_eq!(forwarded[offset], asked, "{offset} was forwarded otherwise");
        assert_eq!(prediction.served_at, expected.at);
        assert_eq!((&prediction.served, &prediction.outcome), (version, outcome));
    }
    let answers = played.iter().map(|p| p.turn.answers.len()).sum::<usize>();
    let used: usize = expected.values().map(|e| e.used).sum();
    let unused: usize =
        [Counter::AnswerDuplicate, Counter::AnswerUnknown, Counter::AnswerMisdirected]
            .map(|u| count(&effects, u))
            .iter()
            .sum();
    // A late answer is used while its case is open, and only counted after that.
    let late = count(&effects, Counter::AnswerLate);
    let late_used: usize = expected.values().map(|e| e.late).sum();
    assert_eq!(used + unused + late - late_used, answers, "every answer is used or counted");
    assert_eq!(count(&effects, Counter::Requests), expected.len());
}

/// The expected outcome of one request.
struct Expected {
    at: Timestamp,
    version: Option<Version>,
    outcome: Outcome,
    value: Option<Bytes>,
    answers: Vec<(Version, Role, AnswerStatus)>,
    used: usize,
    late: usize,
}

/// One ask of the naive model, with the index of its first answer in the history.
struct Asked {
    version: Version,
    role: Role,
    deadline: Timestamp,
    first: Option<usize>,
}

/// Computes the expected outcome of every request from the whole history, one request at a time.
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
    let route = assignment::route(by, request.unit_bytes());
    let deadline = opened + TIMEOUT;
    let close = opened + SHADOW_TIMEOUT;
    // The first answer to an ask among the records read after an index and while the case can be open.
    let first = |ask: usize, version: &Version, from: usize| {
        after.iter().enumerate().skip(from).find_map(|(place, f)| {
            let is_it =
                |a: &&Answer| a.case == request.case && a.ask == ask && a.version == *version;
            (f.now < close && f.turn.answers.iter().any(|a| is_it(&a))).then_some(place)
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
    let is_fine = |t: Option<(Timestamp, &Answer)>| t.is_some_and(|(_, i)| i.error.is_none());
    let own = in_time(asks[0].first);
    let hedge = opened + Span(TIMEOUT.0 / 2);
    let is_quick = own.is_some_and(|(at, _)| at < hedge);
    let may_fall_back = by.on_failure == OnFailure::Stable && *arm != by.stable;
    let fallback = if may_fall_back && !(is_quick && is_fine(own)) {
        // The stable version is asked if the candidate fails, or at half of the timeout.
        let asked_at = match asks[0].first {
            Some(place) if is_quick => place + 1,
            Some(_) | None => after.iter().position(|a| a.now >= hedge).unwrap_or(after.len()),
        };
        let place = first(asks.len(), &by.stable, asked_at);
        asks.push(Asked { version: by.stable.clone(), role: Role::Serve, deadline, first: place });
        in_time(place)
    } else {
        None
    };
    let both_at = own.map_or(deadline, |(at, _)| fallback.map_or(deadline, |d| d.0.max(at)));
    let (at, served) = match own {
        Some((at, answer)) if answer.error.is_none() => (at, Some((arm, Outcome::Ok, answer))),
        Some((at, _)) if !may_fall_back => (at, None),
        Some(_) | None => {
            let answer = fallback.filter(|f| is_fine(Some(*f))).map(|i| i.1);
            (both_at, answer.map(|a| (&by.stable, Outcome::Fallback, a)))
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
        asks.iter().map(|a| (a.version.clone(), a.role, status(a, after))).collect();
    Expected {
        at,
        version,
        outcome,
        value,
        used: asks.iter().filter(|a| a.first.is_some()).count(),
        late: answers.iter().filter(|a| a.2 == AnswerStatus::Late).count(),
        answers,
    }
}

fn status(asked: &Asked, after: &[Played]) -> AnswerStatus {
    match asked.first.map(|a| (after[a].now, &after[a].turn.answers[0])) {
        None => AnswerStatus::Timeout,
        Some((at, _)) if at > asked.deadline => AnswerStatus::Late,
        Some((_, answer)) if answer.error.is_some() => AnswerStatus::Error,
        Some(_) => AnswerStatus::Ok,
    }
}
