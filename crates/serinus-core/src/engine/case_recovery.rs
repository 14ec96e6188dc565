//! Reopens cases from their lane's output records if its journal no longer covers them.
//!
//! The copies of a request show the versions and the deadlines. The served record shows the answer. No copy is sent again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::assignment;
use crate::domain::case::{AnswerStatus, Outcome};
use crate::domain::ids::{Revision, Version};
use crate::domain::record::{Bytes, Request};
use crate::domain::routing::{OnFailure, Role, Routing};
use crate::domain::time::{Span, Timestamp};
use crate::engine::serving::ServingLane;
use crate::join::open_cases::{Ask, OpenCase, Reply, Served};

/// A copy of a request on the topic of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The version that got the copy.
    pub version: Version,
    /// Whether to serve or to shadow.
    pub role: Role,
    /// When the copy was sent.
    pub at: Timestamp,
    /// The deadline of its answer.
    pub deadline: Timestamp,
    /// When the case stops waiting.
    pub close_at: Timestamp,
    /// The routing revision.
    pub revision: Revision,
}

/// The record that answered the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The version whose answer it is, if any.
    pub version: Option<Version>,
    /// The outcome.
    pub outcome: Outcome,
    /// When it was served.
    pub at: Timestamp,
    /// The answer's bytes.
    pub value: Option<Bytes>,
    /// The routing revision.
    pub revision: Revision,
}

/// The output records of an open case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The copies of its request, by the number of the ask.
    pub copies: BTreeMap<usize, Copied>,
    /// The served record, if there is one.
    pub answered: Option<Answered>,
}

impl Traces {
    /// Returns whether the case has any output record.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.answered.is_none()
    }

    /// Returns the routing revision of the case, if its records show one.
    pub fn revision(&self) -> Option<Revision> {
        let first = self.copies.values().next().map(|c| c.revision);
        first.or_else(|| self.answered.as_ref().map(|a| a.revision))
    }
}

impl ServingLane {
    /// Reopens a case from its records, of which there must be some; `routing` is that of its revision, or the nearest known one.
    pub fn reopen(&mut self, request: &Arc<Request>, routing: &Arc<Routing>, traces: Traces) {
        let Traces { copies, answered } = traces;
        let assigned = assignment::arm(routing, request.unit_bytes());
        let first = copies.get(&0);
        let arm = first.map_or_else(|| assigned.version.clone(), |v| v.version.clone());
        let propensity = if arm == assigned.version {
            assigned.propensity
        } else {
            routing.share_of(&arm).fraction()
        };
        let sent_at = copies.values().map(|c| c.at).min();
        let seen_at = sent_at.or(answered.as_ref().map(|a| a.at)).unwrap_or(request.requested_at);
        let deadline = first.map_or(seen_at + routing.timeout, |t| t.deadline);
        let routed_at = seen_at.min(deadline - routing.timeout);
        let close_at = copies
            .values()
            .map(|c| c.close_at)
            .max()
            .unwrap_or_else(|| deadline.max(routed_at + routing.shadow_timeout));
        let asks = asks(request, routing, &copies, (&arm, routed_at, deadline));
        let fallback = asks.iter().skip(1).position(|a| a.role == Role::Serve).map(|r| r + 1);
        let may_fall_back = routing.on_failure == OnFailure::Stable && arm != routing.stable;
        let kept = if may_fall_back {
            Arc::clone(request)
        } else {
            Arc::new(Request { value: None, ..Request::clone(request) })
        };
        let mut case = OpenCase {
            request: kept,
            routing: Arc::clone(routing),
            arm,
            propensity,
            routed_at,
            deadline,
            close_at,
            hedge_at: (may_fall_back && fallback.is_none())
                .then(|| routed_at + Span(routing.timeout.0 / 2)),
            asks,
            fallback,
            served: None,
        };
        if let Some(answered) = answered {
            note_answered(&mut case, answered);
        }
        self.put_back(case);
    }
}

/// Lists the asks of the case, from its copies, and from the routing if a copy is missing.
fn asks(
    request: &Request,
    routing: &Routing,
    copies: &BTreeMap<usize, Copied>,
    (arm, routed_at, deadline): (&Version, Timestamp, Timestamp),
) -> Vec<Ask> {
    let shadows = assignment::shadows(routing, request.unit_bytes(), arm);
    let count = copies.last_key_value().map_or(1, |(last, _)| last + 1);
    let planned = |index: usize| match index.checked_sub(1) {
        None => (arm.clone(), Role::Serve, deadline),
        Some(index) => {
            let version = shadows.get(index).unwrap_or(&routing.stable).clone();
            (version, Role::Shadow, routed_at + routing.shadow_timeout)
        }
    };
    let ask = |index: usize| {
        if let Some(copy) = copies.get(&index) {
            Ask {
                version: copy.version.clone(),
                role: copy.role,
                at: copy.at,
                deadline: copy.deadline,
                reply: None,
            }
        } else {
            let (version, role, deadline) = planned(index);
            Ask { version, role, at: routed_at, deadline, reply: None }
        }
    };
    (0..count).map(ask).collect()
}

/// Records the served answer with its version.
fn note_answered(case: &mut OpenCase, answered: Answered) {
    let Answered { version, outcome, at, value, revision: _ } = answered;
    let index = match outcome {
        Outcome::Ok => Some(0),
        Outcome::Fallback => case.fallback,
        Outcome::Default | Outcome::Error => None,
    };
    if let Some(ask) = index.and_then(|i| case.asks.get_mut(i)) {
        ask.reply =
            Some(Reply { status: AnswerStatus::Ok, at: at.max(ask.at), value, error: None });
    }
    case.served = Some(Served { version, outcome, at });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{Answered, Copied, Traces};
    use crate::domain::ids::{CaseId, Revision, Salt, StageIndex};
    use crate::domain::record::{Answer, Bytes, Request};
    use crate::domain::routing::{OnFailure, Routing, ShadowShare, Slice};
    use crate::domain::share::Share;
    use crate::domain::time::{Span, Timestamp};
    use crate::engine::serving::{ServingEffect, ServingEvent, ServingLane};

    const START: Timestamp = Timestamp(1_000_000);

    fn routing() -> Arc<Routing> {
        let half = Share::from_millionths(500_000).expect("it is one");
        Arc::new(Routing {
            model: "m".into(),
            revision: Revision(3),
            rollout: Some("r".into()),
            stage: StageIndex(0),
            stable: "v1".into(),
            salt: Salt::new("salt"),
            slices: vec![Slice { version: "v2".into(), width: half, share: half }],
            shadows: vec![ShadowShare { version: "v3".into(), share: Share::ALL }],
            timeout: Span::seconds(10),
            shadow_timeout: Span::seconds(60),
            on_failure: OnFailure::Stable,
            default: None,
        })
    }

    fn request(offset: i64) -> Arc<Request> {
        Arc::new(Request {
            case: CaseId { partition: 0, offset },
            id: format!("r{offset}").into(),
            unit: None,
            key: None,
            value: Some(Bytes::from(&b"body"[..])),
            headers: Arc::default(),
            requested_at: START,
            segments: Arc::default(),
        })
    }

    fn lane() -> ServingLane {
        ServingLane::new(0, 100, routing())
    }

    /// What a lane wrote about each case, as its topics show it.
    fn traces(effects: &[ServingEffect], at: Timestamp) -> BTreeMap<i64, Traces> {
        let mut all: BTreeMap<i64, Traces> = BTreeMap::new();
        for effect in effects {
            match effect {
                ServingEffect::Forward(it) => {
                    let copied = Copied {
                        version: it.version.clone(),
                        role: it.role,
                        at,
                        deadline: it.deadline,
                        close_at: it.close_at,
                        revision: it.routing.revision,
                    };
                    all.entry(it.request.case.offset).or_default().copies.insert(it.ask, copied);
                }
                ServingEffect::Serve(it) => {
                    let answered = Answered {
                        version: it.version.clone(),
                        outcome: it.outcome,
                        at,
                        value: it.value.clone(),
                        revision: it.routing.revision,
                    };
                    all.entry(it.request.case.offset).or_default().answered = Some(answered);
                }
                ServingEffect::Predict(it) => {
                    all.remove(&it.case.offset);
                }
                ServingEffect::PassOn(_) | ServingEffect::Count(_) => {}
            }
        }
        all
    }

    fn answer(offset: i64, ask: usize, version: &str) -> ServingEvent {
        ServingEvent::Answer(Answer {
            model: None,
            case: CaseId { partition: 0, offset },
            ask,
            awaited_until: START + Span::seconds(60),
            version: version.into(),
            error: None,
            value: Some(Bytes::from(&b"answer"[..])),
            carried: Arc::default(),
        })
    }

    #[test]
    fn cases_that_are_opened_again_are_as_they_were() {
        let (mut before, mut effects) = (lane(), Vec::new());
        for offset in 0..40 {
            before.handle(START, ServingEvent::Request(request(offset)), &mut effects);
        }
        // A third is served and waits for its shadow, a third is closed.
        for offset in 0..26 {
            for version in ["v1", "v2"] {
                before.handle(START, answer(offset, 0, version), &mut effects);
            }
            if offset < 13 {
                before.handle(START, answer(offset, 1, "v3"), &mut effects);
            }
        }
        let mut after = lane();
        for (offset, traces) in traces(&effects, START) {
            after.reopen(&request(offset), &routing(), traces);
        }
        assert_eq!(before.open_cases(), 27);
        assert_eq!(after, before);
        // What follows is the same, hedges and deadlines too.
        for at in [5, 10, 60] {
            let now = START + Span::seconds(at);
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            before.tick(now, &mut expected);
            after.tick(now, &mut found);
            assert_eq!(found, expected, "after {at} s");
        }
        assert_eq!(after.open_cases(), 0);
    }

    #[test]
    fn a_case_without_some_of_its_copies_is_served_all_the_same() {
        let (mut before, mut effects) = (lane(), Vec::new());
        before.handle(START, ServingEvent::Request(request(0)), &mut effects);
        let mut traces = traces(&effects, START).remove(&0).expect("it was routed");
        // The copy for the shadow was sent elsewhere, that for the version that serves is gone.
        let first = traces.copies.remove(&0).expect("it was asked");
        let mut after = lane();
        after.reopen(&request(0), &routing(), traces);
        let mut effects = Vec::new();
        after.handle(START, answer(0, 0, first.version.as_str()), &mut effects);
        let is_served = |s: &ServingEffect| matches!(s, ServingEffect::Serve(_));
        assert_eq!(effects.iter().filter(|e| is_served(e)).count(), 1, "{effects:?}");
    }
}
