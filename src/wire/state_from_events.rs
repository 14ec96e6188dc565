//! Rebuilds the state of a model from its events, when the state record is lost.
//!
//! The events have the documents, the routing and the phase. The parts that only the state record has start again: the time that a stage
//! has been held, and the decisions that late labels can contest.

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::wire::design::DesignRecord;
use crate::wire::event::EventRecord;
use crate::wire::state::{MemoryRecord, PastRecord, QueuedRecord, StateRecord};
use serinus_core::engine::judge::event::{Action, Phase};
use serinus_core::engine::judge::state::keep_stable_before;

/// The number of newest command ids that are kept, so that a command is not executed twice.
const COMMANDS_MAX: usize = 200;

/// Returns the state after these events, which are in the order of their sequence numbers; `None` if none of them has the model's document.
pub fn state_from_events(events: &[EventRecord]) -> Option<StateRecord> {
    let mut replay = Replay::default();
    for event in events {
        replay.commands.extend(event.command_id.clone());
        if event.verdict != Action::Conflict {
            replay.apply(event);
        }
    }
    replay.state(events.last()?)
}

#[derive(Default)]
struct Replay<'a> {
    model: Option<&'a Value>,
    current: Option<CurrentRollout<'a>>,
    queue: Vec<(&'a str, QueuedRecord)>,
    past: Vec<PastRecord>,
    commands: Vec<String>,
    newest: Option<&'a EventRecord>,
    stable_before: Vec<String>,
}

struct CurrentRollout<'a> {
    rollout: &'a str,
    spec: &'a Value,
    phase: Phase,
    applied_at: i64,
    design: DesignRecord,
    approved: Option<u32>,
}

impl<'a> Replay<'a> {
    fn apply(&mut self, event: &'a EventRecord) {
        self.newest = Some(event);
        if let Some(from) = event.from.as_ref().filter(|from| from.stable != event.to.stable) {
            keep_stable_before(&mut self.stable_before, from.stable.clone());
        }
        let kind =
            |spec: &&Value, kind: &str| spec.get("kind").and_then(Value::as_str) == Some(kind);
        let spec = event.spec.as_ref();
        self.model = spec.filter(|s| kind(s, "Model")).or(self.model);
        if event.verdict == Action::Rollback && event.rollout.is_none() {
            self.current = None;
        }
        let Some(rollout) = event.rollout.as_deref() else { return };
        let phase = event.to.phase;
        let is_routed = event.to.rollout.as_deref() == Some(rollout);
        if is_routed || event.verdict == Action::Abort || phase == Phase::Pending {
            self.queue.retain(|(queued, _)| *queued != rollout);
        }
        let is_current = self.current.as_ref().is_some_and(|c| c.rollout == rollout);
        match spec.filter(|s| kind(s, "Rollout")) {
            Some(spec) if phase == Phase::Pending => {
                let command_id = event.command_id.clone().unwrap_or_default();
                let by = event.actor.clone();
                self.queue.push((rollout, QueuedRecord { spec: spec.clone(), command_id, by }));
            }
            Some(spec) if is_routed && !is_current => {
                let design = event.design.clone().unwrap_or_default();
                let applied_at = event.at;
                let approved = None;
                self.current =
                    Some(CurrentRollout { rollout, spec, phase, applied_at, design, approved });
            }
            Some(_) | None => {}
        }
        let Some(current) = self.current.as_mut().filter(|c| c.rollout == rollout) else {
            return;
        };
        current.phase = phase;
        // A command may have changed the document of the rollout.
        current.spec = spec.filter(|s| kind(s, "Rollout")).unwrap_or(current.spec);
        if event.verdict == Action::Approve {
            current.approved = Some(event.to.stage);
        }
        if let Some(design) = &event.design {
            current.design = design.clone();
        }
        let is_over = match phase {
            Phase::Promoted | Phase::Aborted | Phase::Inconclusive => true,
            Phase::Idle
            | Phase::Pending
            | Phase::Progressing
            | Phase::Paused
            | Phase::Concluded => false,
        };
        if is_over {
            let fingerprint = format!("{:016x}", xxh3_64(current.spec.to_string().as_bytes()));
            let rollout = rollout.to_owned();
            self.past.retain(|p| p.rollout != rollout);
            self.past.push(PastRecord { rollout, phase, fingerprint });
        }
    }

    fn state(mut self, last: &EventRecord) -> Option<StateRecord> {
        let (model, newest) = (self.model?, self.newest?);
        let to = &newest.to;
        let surplus = self.commands.len().saturating_sub(COMMANDS_MAX);
        self.commands.drain(..surplus);
        let current = self.current.as_ref();
        Some(StateRecord {
            rollout: current.map(|c| c.rollout.to_owned()),
            model: newest.model.clone(),
            phase: current.map_or(to.phase, |p| p.phase),
            stage: to.stage,
            revision: to.revision,
            stable: to.stable.clone(),
            salt: to.salt.clone(),
            shares: to.shares.clone(),
            shadows: to.shadows.clone(),
            slices: to.slices.clone(),
            spec: current.map_or_else(|| model.clone(), |m| m.spec.clone()),
            since: newest.at,
            by: newest.actor.clone(),
            reason: newest.reason.clone(),
            conditions: Vec::new(),
            sequence: last.sequence,
            routed: to.rollout.clone(),
            memory: MemoryRecord {
                model_spec: model.clone(),
                applied_at: current.map_or(newest.at, |a| a.applied_at),
                entered_at: None,
                judged: None,
                design: current.map_or_else(DesignRecord::default, |d| d.design.clone()),
                winner: None,
                decisions: Vec::new(),
                queue: self.queue.into_iter().map(|q| q.1).collect(),
                past: self.past,
                commands: self.commands,
                approved: current.and_then(|c| c.approved),
                stable_before: self.stable_before,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::state_from_events;
    use crate::wire::event::EventRecord;
    use serinus_core::engine::judge::event::Phase;

    fn event(sequence: u64, rollout: Option<&str>, verdict: &str, to: &[Value; 2]) -> Value {
        let [phase, routed] = to;
        json!({
            "rollout": rollout, "model": "m", "sequence": sequence, "at": 100 + sequence, "actor": "ann",
            "command_id": format!("c{sequence}"), "verdict": verdict, "reason": "because", "from": null,
            "to": {
                "phase": phase, "rollout": routed, "stage": 0, "revision": sequence, "stable": "v1", "salt": "s",
                "shares": {}, "shadows": {}, "slices": [],
            },
            "evidence": null, "positions": [],
        })
    }

    fn with(mut event: Value, kind: &str, name: &str) -> Value {
        event["spec"] = json!({"kind": kind, "metadata": {"name": name}});
        event
    }

    fn read(events: &[Value]) -> Vec<EventRecord> {
        let read = |v: &Value| EventRecord::read(v.to_string().as_bytes()).expect("it is an event");
        events.iter().map(read).collect()
    }

    #[test]
    fn a_state_is_rebuilt_from_its_events() {
        let open = |rollout: &str| [json!("Progressing"), json!(rollout)];
        let over = [json!("Promoted"), Value::Null];
        let events = [
            with(event(1, None, "apply", &[json!("Idle"), Value::Null]), "Model", "m"),
            with(event(2, Some("a"), "apply", &open("a")), "Rollout", "a"),
            with(event(3, Some("b"), "apply", &[json!("Pending"), json!("a")]), "Rollout", "b"),
            event(4, Some("a"), "promote", &over),
            with(event(5, Some("a"), "apply", &over), "Rollout", "a"),
            event(6, Some("a"), "conflict", &[json!("Aborted"), Value::Null]),
        ];
        let state = state_from_events(&read(&events)).expect("the model's document is among them");
        assert_eq!((state.sequence, state.revision, state.phase), (6, 5, Phase::Promoted));
        assert_eq!(state.rollout.as_deref(), Some("a"));
        assert_eq!(state.memory.applied_at, 102, "applied again, it is the same rollout");
        let queued: Vec<&Value> = state.memory.queue.iter().map(|q| &q.spec).collect();
        assert_eq!(queued, [&json!({"kind": "Rollout", "metadata": {"name": "b"}})]);
        assert_eq!(state.memory.past.len(), 1);
        assert_eq!(state.memory.commands, ["c1", "c2", "c3", "c4", "c5", "c6"]);
        let begun = with(event(7, Some("b"), "apply", &open("b")), "Rollout", "b");
        let state = state_from_events(&read(&[&events[..], &[begun]].concat()))
            .expect("the model's document is among them");
        assert_eq!((state.rollout.as_deref(), state.memory.queue.len()), (Some("b"), 0));
    }

    #[test]
    fn what_operators_did_is_rebuilt_from_its_events() {
        let open = |rollout: &str| [json!("Progressing"), json!(rollout)];
        let mut extended = with(event(4, Some("a"), "extend", &open("a")), "Rollout", "a");
        extended["spec"]["spec"]["decide"]["by"] = json!("3d");
        let mut rolled_back = event(5, Some("a"), "rollback", &[json!("Aborted"), Value::Null]);
        rolled_back["from"] = event(4, None, "hold", &open("a"))["to"].clone();
        rolled_back["to"]["stable"] = json!("v0");
        let events = [
            with(event(1, None, "apply", &[json!("Idle"), Value::Null]), "Model", "m"),
            with(event(2, Some("a"), "apply", &open("a")), "Rollout", "a"),
            event(3, Some("a"), "approve", &open("a")),
            extended,
            rolled_back,
        ];
        let rebuilt = |count: usize| {
            state_from_events(&read(&events[..count])).expect("the model's document is there")
        };
        let state = rebuilt(4);
        assert_eq!(state.memory.approved, Some(0));
        assert_eq!(state.spec["spec"]["decide"]["by"], "3d");
        let state = rebuilt(5);
        assert_eq!((state.phase, state.stable.as_str()), (Phase::Aborted, "v0"));
        assert_eq!(state.memory.stable_before, ["v1"]);
        assert_eq!(state.memory.past.len(), 1);
    }

    #[test]
    fn without_its_document_nothing_is_current_of_a_model() {
        let paused = [json!("Paused"), json!("a")];
        assert_eq!(state_from_events(&read(&[event(8, Some("a"), "pause", &paused)])), None);
    }
}
