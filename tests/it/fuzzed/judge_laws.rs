//! Laws of the judge for any history: its decisions follow from its inputs and from nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serinus::wire::state::StateRecord;
use serinus_core::domain::ids::Version;
use serinus_core::domain::routing::Routing;
use serinus_core::engine::counter::Counter;
use serinus_core::engine::judge::command::{Command, Verb};
use serinus_core::engine::judge::event::{Action, Phase, Position, RolloutEvent};
use serinus_core::engine::judge::io::{Effect, Event};
use serinus_core::engine::judge::state::{ModelState, RolloutState};
use serinus_core::engine::partial::Partial;
use serinus_core::evidence::sums::Tally;

use crate::fuzzed::judge_history::{History, Received, new_judge, receive, restarted};

/// A judge that is killed after some steps and restored like the program decides the same as one that never stopped.
///
/// Both receive a start event, from which silence is measured.
pub(crate) fn a_restart_anywhere_never_matters(history: &History, crashes: &BTreeSet<usize>) {
    let (mut whole, mut broken) = (new_judge(), new_judge());
    let mut state = None;
    for (step, (now, received)) in history.iter().enumerate() {
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        receive(&mut whole, *now, received, &mut expected);
        receive(&mut broken, *now, received, &mut found);
        assert_eq!(found, expected, "step {step}");
        for it in &expected {
            if let Effect::State(new) = it {
                state = Some(StateRecord::from(&**new).write());
            }
        }
        // A judge without any state is created again by the next command, and numbers from the beginning.
        if crashes.contains(&step) && state.is_some() {
            broken = restarted(&history[..=step], state.as_deref(), &broken);
            whole.open(*now);
            broken.open(*now);
        }
    }
}

/// Events are numbered without gaps, each starts in the state in which the previous one ended, and no routing has an unknown version.
pub(crate) fn every_event_follows_from_the_one_before(history: &History) {
    let mut judge = new_judge();
    let mut at: Option<Position> = None;
    let mut sequence = 0;
    for (now, received) in history {
        let mut out = Vec::new();
        receive(&mut judge, *now, received, &mut out);
        for change in changes(&out) {
            sequence += 1;
            assert_eq!(change.sequence, sequence, "{change:?}");
            if let Some(at) = &at {
                assert_eq!(change.from.as_ref(), Some(at), "{change:?}");
            }
            follows(change, at.as_ref());
            // Waiting in the queue and leaving it change no routing.
            if !is_of_the_queue(change) && judge.state().is_some() {
                at = Some(change.to.clone());
            }
        }
        let state = judge.state();
        assert_eq!(state.map(|s| &s.position), at.as_ref(), "where the model stands");
    }
}

/// The answer to a command about a rollout that is not in routing.
fn is_of_the_queue(change: &RolloutEvent) -> bool {
    let waits = change.to.phase == Phase::Pending;
    let is_out = change.reason == "taken out of the queue";
    waits || is_out
}

fn follows(change: &RolloutEvent, at: Option<&Position>) {
    let Position { phase, routing } = &change.to;
    let shares: u64 = routing.slices.iter().map(|s| u64::from(s.share.millionths())).sum();
    assert!(shares <= 1_000_000, "{change:?}");
    if !phase.is_open() && !is_of_the_queue(change) {
        assert!(routing.slices.iter().all(|s| s.share.millionths() == 0), "{change:?}");
        assert!(routing.shadows.is_empty(), "{change:?}");
    }
    let Some(before) = at.map(|a| &a.routing) else { return };
    assert!(routing.revision >= before.revision, "{change:?}");
    if routing.revision == before.revision {
        assert_eq!(routing, before, "another routing under the same revision");
    }
    if routing.stable != before.stable {
        if change.action == Action::Rollback {
            assert!(matches!(phase, Phase::Aborted | Phase::Idle), "{change:?}");
        } else {
            assert_eq!((change.action, *phase), (Action::Promote, Phase::Promoted), "{change:?}");
            assert!(is_candidate(before, &routing.stable), "{change:?}");
        }
    }
    let same_rollout = routing.rollout.is_some() && routing.rollout == before.rollout;
    if same_rollout && change.action != Action::Advance {
        // Traffic increases only with a stage change.
        for slice in &routing.slices {
            let had = before.slices.iter().find(|s| s.version == slice.version);
            let had = had.map_or(0, |h| h.share.millionths());
            let is_stable = slice.version == routing.stable;
            let is_by_hand = change.action == Action::Promote || change.actor != "judge";
            assert!(is_stable || is_by_hand || slice.share.millionths() <= had, "{change:?}");
        }
    }
}

/// A version with traffic or copies; one that was removed keeps its slice without traffic.
fn is_candidate(routing: &Routing, version: &Version) -> bool {
    routing.slices.iter().any(|s| s.version == *version)
        || routing.shadows.iter().any(|s| s.version == *version)
}

/// Pause, abort and the refusals of every command follow a small table.
pub(crate) fn operators_get_what_a_naive_model_says(history: &History) {
    let mut judge = new_judge();
    for (now, received) in history {
        let before = judge.state().cloned();
        let mut out = Vec::new();
        receive(&mut judge, *now, received, &mut out);
        let Received::Event(Event::Command(command)) = received else { continue };
        let mut answers = changes(&out).filter(|o| o.command_id.as_deref() == Some(&command.id));
        let answer = answers.next().expect("every command is answered");
        let phase = before.as_ref().map(|b| b.position.phase);
        let running = before.as_ref().and_then(|b| b.rollout.as_ref()).map(RolloutState::name);
        let queued = before.as_ref().is_some_and(|b| {
            b.queue.iter().any(|q| Some(&q.written.plan.name) == command.rollout.as_ref())
        });
        let is_outdated = command
            .expect_revision
            .is_some_and(|e| e.0 != before.as_ref().map_or(0, |b| b.position.routing.revision.0));
        let is_ours = running.is_some_and(|running| {
            command.rollout.as_ref().is_none_or(|asked| running.is_meant_by(asked))
        });
        let expected = match steered(command, phase, is_ours, queued) {
            _ if is_outdated => Some(Action::Conflict),
            expected => expected,
        };
        if let Some(expected) = expected {
            assert_eq!(answer.action, expected, "{command:?} in {phase:?}: {answer:?}");
        }
        if answer.action == Action::Conflict && command.verb != Verb::Apply {
            let after = judge.state().map(|s| s.position.clone());
            assert_eq!(after, before.map(|b| b.position), "a refusal changes nothing");
        }
    }
}

/// Returns what must come of a command; nothing where that depends on evidence or on its spec.
fn steered(command: &Command, phase: Option<Phase>, is_ours: bool, queued: bool) -> Option<Action> {
    match (command.verb, phase) {
        (Verb::Abort, _) if !is_ours && queued => Some(Action::Abort),
        (Verb::Pause, Some(Phase::Progressing)) if is_ours => Some(Action::Pause),
        (Verb::Abort, Some(phase)) if is_ours && phase.is_open() => Some(Action::Abort),
        // A resume depends on the time to decide, the others on the evidence, the spec or earlier versions.
        (Verb::Resume, Some(Phase::Paused))
        | (Verb::Retry, Some(Phase::Aborted | Phase::Inconclusive))
            if is_ours =>
        {
            None
        }
        (Verb::Promote | Verb::PromoteFull | Verb::Approve | Verb::Extend, Some(phase))
            if is_ours && phase.is_open() =>
        {
            None
        }
        (Verb::Apply, _) | (Verb::Rollback, Some(_)) => None,
        (_, _) => Some(Action::Conflict),
    }
}

/// The published evidence of an arm is the sum of the newest partials of all partitions.
pub(crate) fn evidence_is_the_sum_of_the_newest(history: &History) {
    let mut judge = new_judge();
    let mut newest: BTreeMap<_, Partial> = BTreeMap::new();
    for (now, received) in history {
        if let Received::Event(Event::Partial(it)) = received {
            let known =
                newest.entry((it.rollout.clone(), it.partition)).or_insert_with(|| (**it).clone());
            if (it.tick, it.turn) >= (known.tick, known.turn) {
                known.clone_from(it);
            }
        }
        let mut out = Vec::new();
        receive(&mut judge, *now, received, &mut out);
        for effect in &out {
            let Effect::Metrics(report) = effect else { continue };
            let of_rollout =
                || newest.iter().filter(|((n, _), _)| *n == report.rollout).map(|r| r.1);
            for arm in &report.arms {
                let sum = |what: fn(&Tally) -> u64| -> u64 {
                    let arms = of_rollout().flat_map(|o| &o.sums.arms);
                    arms.filter(|((_, version, _), _)| *version == arm.version)
                        .map(|v| what(v.1))
                        .sum()
                };
                let found = (arm.exposures, arm.answered, arm.errors, arm.mature);
                let expected = (
                    sum(|e| e.exposures),
                    sum(|e| e.answered),
                    sum(|a| a.errors),
                    sum(|e| e.mature),
                );
                assert_eq!(found, expected, "{} of {} at {now:?}", arm.version, report.rollout);
            }
        }
    }
}

/// A duplicate command is executed once, and duplicate sums are judged once.
pub(crate) fn a_word_twice_changes_nothing(history: &History) {
    let mut judge = new_judge();
    for (now, received) in history {
        receive(&mut judge, *now, received, &mut Vec::new());
        let Some(before) = judge.state().cloned() else { continue };
        let mut out = Vec::new();
        receive(&mut judge, *now, received, &mut out);
        match received {
            Received::Event(Event::Command(_)) => {
                assert_eq!(out, [Effect::Count(Counter::CommandDuplicate, 1)], "{received:?}");
            }
            Received::Event(Event::Partial(_)) => {
                assert!(changes(&out).next().is_none(), "{out:?}");
            }
            Received::Silence => {
                assert_eq!(out, [], "it has spoken just now");
            }
        }
        let decided = |m: &ModelState| (m.position.clone(), m.sequence);
        assert_eq!(judge.state().map(decided), Some(decided(&before)));
    }
}

pub(crate) fn changes(out: &[Effect]) -> impl Iterator<Item = &RolloutEvent> {
    out.iter().filter_map(|o| match o {
        Effect::Event(o) => Some(&**o),
        Effect::State(_) | Effect::Metrics(_) | Effect::Count(..) => None,
    })
}
