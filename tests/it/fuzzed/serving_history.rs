//! Histories of a serving lane: steps become its inputs, which the lane processes whole, in batches or through crashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serinus_core::domain::ids::{CaseId, Revision, Version};
use serinus_core::domain::record::{Answer, Bytes, Carried, Request};
use serinus_core::domain::routing::{OnFailure, Routing, ShadowShare, Slice};
use serinus_core::domain::share::Share;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::counter::Counter;
use serinus_core::engine::serving::{ServingEffect, ServingLane, Turn};

use crate::scenarios::plans::{self, MIDNIGHT};

/// Records arrive at whole hundredths of a second, and deadlines fall in between: a record in the exact millisecond of a deadline is in
/// time or not depending on its turn, which only the journal knows.
const STEP_MS: i64 = 10;
pub(crate) const TIMEOUT: Span = Span(2003);
pub(crate) const SHADOW_TIMEOUT: Span = Span(5007);

/// One step, and its delay after the previous one.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Request { wait: i64, unit: u8 },
    Answer { wait: i64, of: usize, ask: usize, fails: bool, wrong: u8 },
    Again { wait: i64, of: usize },
    Routing { wait: i64, kind: u8 },
}

/// One turn, as the journal keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) now: Timestamp,
    pub(crate) turn: Turn,
}

/// The effects of a history, with their times.
pub(crate) type Effects = Vec<(Timestamp, ServingEffect)>;

fn percent(percent: u32) -> Share {
    Share::from_millionths(percent * 10_000).expect("at most all")
}

pub(crate) fn routing(kind: u8, revision: u64) -> Arc<Routing> {
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

pub(crate) fn lane(open_cases_max: usize) -> ServingLane {
    ServingLane::new(0, open_cases_max, routing(1, 1))
}

pub(crate) fn request(offset: i64, unit: u8, now: Timestamp) -> Arc<Request> {
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
        model: None,
        version,
        error: fails.then(|| Arc::from("boom")),
        value: Some(Arc::from(format!("answer {n}").into_bytes())),
        carried: Arc::new(Carried::default()),
    }
}

/// Turns steps into the inputs of the lane, each record in its own turn, and deadlines in separate turns.
///
/// Workers answer actual requests, so the history is built while a lane runs. A full lane receives no requests: the program
/// leaves them on their topic.
pub(crate) fn history(steps: &[Step], open_cases_max: usize) -> Vec<Played> {
    let mut lane = lane(open_cases_max);
    let mut played: Vec<Played> = Vec::new();
    let mut asked: BTreeMap<i64, Vec<(Version, Timestamp)>> = BTreeMap::new();
    let mut answers: Vec<Answer> = Vec::new();
    let (mut now, mut offset, mut revision) = (MIDNIGHT, 0, 1);
    let mut play = |lane: &mut ServingLane, p: Played, asked: &mut BTreeMap<_, Vec<_>>| {
        let mut out = Vec::new();
        lane.turn(p.now, p.turn.clone(), &mut out);
        played.push(p);
        for effect in out {
            if let ServingEffect::Forward(p) = effect {
                asked
                    .entry(p.request.case.offset)
                    .or_default()
                    .push((p.version.clone(), p.close_at));
            }
        }
    };
    for (n, step) in steps.iter().enumerate() {
        let (Step::Request { wait, .. }
        | Step::Answer { wait, .. }
        | Step::Again { wait, .. }
        | Step::Routing { wait, .. }) = step;
        now = now + Span(wait * STEP_MS);
        while let Some(due) = lane.next_wake().filter(|n| *n < now) {
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
                let known = asked.get(&case).and_then(|c| c.get(*ask)).cloned();
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

pub(crate) fn effects_of(played: &[Played], open_cases_max: usize) -> Effects {
    let mut lane = lane(open_cases_max);
    let mut effects = Vec::new();
    for it in played {
        take(&mut lane, it, &mut effects);
    }
    effects
}

pub(crate) fn take(lane: &mut ServingLane, played: &Played, effects: &mut Effects) {
    let mut out = Vec::new();
    lane.turn(played.now, played.turn.clone(), &mut out);
    effects.extend(out.into_iter().map(|o| (played.now, o)));
}

/// Merges inputs of one time into one turn if the order within a turn is the reading order.
pub(crate) fn in_batches(played: &[Played]) -> Vec<Played> {
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

pub(crate) fn without_counts(effects: &Effects) -> Vec<&(Timestamp, ServingEffect)> {
    effects.iter().filter(|(_, t)| !matches!(t, ServingEffect::Count(_))).collect()
}

pub(crate) fn count(effects: &Effects, counter: Counter) -> usize {
    effects.iter().filter(|(_, t)| *t == ServingEffect::Count(counter)).count()
}

/// A lane that was killed after turn `last` and replayed like the program: from the turn that opened its oldest open case.
pub(crate) fn replayed(
    played: &[Played],
    last: usize,
    dead: &ServingLane,
    open: &[usize],
) -> ServingLane {
    let routing_of = |turn: usize| {
        let newest = played[..=turn].iter().rev().find_map(|t| t.turn.routing.clone());
        newest.unwrap_or_else(|| routing(1, 1))
    };
    let first = dead.oldest_open().map_or(last, |oldest| {
        let is_it = |p: &Played| p.turn.requests.iter().any(|r| r.case.offset == oldest);
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

/// Small enough that histories reach half of it, at which copies to shadows are shed.
pub(crate) const MAX: usize = 12;
/// Larger than any history.
pub(crate) const AMPLE: usize = 1000;
