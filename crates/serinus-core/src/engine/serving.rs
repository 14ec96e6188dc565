//! The serving lane: one per partition of requests. It forwards, matches answers, and serves each request exactly once.

use std::sync::Arc;

use crate::domain::assignment::{self, Route};
use crate::domain::case::{AnswerStatus, Outcome, Prediction};
use crate::domain::ids::Version;
use crate::domain::record::{Answer, Bytes, Request};
use crate::domain::routing::{OnFailure, Role, Routing};
use crate::domain::time::Timestamp;
use crate::engine::counter::Counter;
use crate::join::open_cases::{Ask, OpenCase, OpenCases, Reply, Served};

/// An event of the lane.
#[derive(Clone, Debug, PartialEq)]
pub enum ServingEvent {
    /// The model's routing has changed; it applies to requests from here on.
    Routing(Arc<Routing>),
    /// A request was read.
    Request(Arc<Request>),
    /// An answer was read: its case, the index of its ask, and its content.
    Answer(Answer),
}

/// The input of one turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// The routing, if it has changed.
    pub routing: Option<Arc<Routing>>,
    /// Requests, in the order of their offsets.
    pub requests: Vec<Arc<Request>>,
    /// Answers, in the order of their offsets.
    pub answers: Vec<Answer>,
    /// In a replay, the number of open cases before the turn when it was first taken; otherwise the lane counts itself.
    ///
    /// A replay begins at the oldest open case. Older cases are missing from it, although they affected which versions got copies.
    pub open: Option<usize>,
}

/// A copy of a request for one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The request.
    pub request: Arc<Request>,
    /// The index of this ask in the case; the answer names it.
    pub ask: usize,
    /// The version that gets the copy.
    pub version: Version,
    /// Whether to serve or to shadow.
    pub role: Role,
    /// The deadline of the answer.
    pub deadline: Timestamp,
    /// When the case stops waiting.
    pub close_at: Timestamp,
    /// The revision of the routing.
    pub routing: Arc<Routing>,
}

/// The one answer that the caller sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Serve {
    /// The request, for its key, headers and partition; its bytes may be gone.
    pub request: Arc<Request>,
    /// The version that answered, if any.
    pub version: Option<Version>,
    /// The outcome.
    pub outcome: Outcome,
    /// The answer's bytes.
    pub value: Option<Bytes>,
    /// The error text for people, if the outcome is an error.
    pub error: Option<Arc<str>>,
    /// The revision of the routing.
    pub routing: Arc<Routing>,
}

/// An effect that the lane requests.
#[derive(Clone, Debug, PartialEq)]
pub enum ServingEffect {
    /// Send a copy to a version.
    Forward(Forward),
    /// Answer the caller.
    Serve(Serve),
    /// Write the case's record.
    Predict(Box<Prediction>),
    /// Send a misdirected answer to the partition that it belongs to.
    PassOn(Answer),
    /// Count something.
    Count(Counter),
}

/// The machine of one partition of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct ServingLane {
    partition: i32,
    open_cases_max: usize,
    routing: Arc<Routing>,
    ledger: OpenCases,
    record_bytes_max: usize,
}

/// Maximum number of bytes that we add to a served record, apart from the request id.
const OUR_BYTES_MAX: usize = 1_024;

impl ServingLane {
    /// Returns a lane without open cases.
    pub fn new(partition: i32, open_cases_max: usize, routing: Arc<Routing>) -> Self {
        let ledger = OpenCases::default();
        Self { partition, open_cases_max, routing, ledger, record_bytes_max: usize::MAX }
    }

    /// Limits served records to this number of bytes; a larger answer counts as failed.
    #[must_use = "the lane itself has no such bound"]
    pub fn bounded(self, record_bytes_max: usize) -> Self {
        Self { record_bytes_max, ..self }
    }

    /// Processes one event and appends its effects.
    pub fn handle(&mut self, now: Timestamp, event: ServingEvent, out: &mut Vec<ServingEffect>) {
        match event {
            ServingEvent::Routing(routing) => {
                if routing.revision >= self.routing.revision {
                    self.routing = routing;
                }
            }
            ServingEvent::Request(request) => self.open(now, &request, self.ledger.len(), out),
            ServingEvent::Answer(answer) if self.is_foreign(&answer) => {
                out.push(ServingEffect::Count(Counter::AnswerForeign));
            }
            ServingEvent::Answer(answer) if answer.case.partition != self.partition => {
                out.push(ServingEffect::Count(Counter::AnswerMisdirected));
                out.push(ServingEffect::PassOn(answer));
            }
            ServingEvent::Answer(answer) => self.answer(now, answer, out),
        }
    }

    /// Processes a turn, always in this order: routing, requests, answers, deadlines. A replay of the turn has the same result.
    pub fn turn(&mut self, now: Timestamp, turn: Turn, out: &mut Vec<ServingEffect>) {
        if let Some(routing) = turn.routing {
            self.handle(now, ServingEvent::Routing(routing), out);
        }
        let mut open = turn.open.unwrap_or(self.ledger.len());
        for request in turn.requests {
            self.open(now, &request, open, out);
            open = self.open_cases_max.min(open + 1);
        }
        for answer in turn.answers {
            self.handle(now, ServingEvent::Answer(answer), out);
        }
        self.tick(now, out);
    }

    /// Processes every deadline that `now` has reached.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<ServingEffect>) {
        while let Some(mut case) = self.ledger.take_due(now) {
            if case.served.is_none() && case.hedge_at.is_some_and(|h| h <= now) {
                case.hedge_at = None;
                if now < case.deadline {
                    ask_stable(&mut case, now, out);
                }
            }
            if case.served.is_none() && case.deadline <= now {
                serve_at_deadline(&mut case, now, out);
            }
            self.settle(case, now, out);
        }
    }

    /// Returns when `tick` is next needed, if ever.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.ledger.next_due()
    }

    /// Returns the offset of the oldest request that is still open.
    pub fn oldest_open(&self) -> Option<i64> {
        self.ledger.oldest()
    }

    /// Returns whether a copy is still to be answered.
    pub fn awaits(&self, forward: &Forward) -> bool {
        let case = self.ledger.get(forward.request.case.offset);
        let ask = case.and_then(|case| case.asks.get(forward.ask));
        ask.is_some_and(|ask| ask.reply.is_none() && ask.version == forward.version)
    }

    /// Restores a case that was open before a restart.
    pub(crate) fn put_back(&mut self, case: OpenCase) {
        self.ledger.insert(case);
    }

    /// Returns the number of open cases.
    pub fn open_cases(&self) -> usize {
        self.ledger.len()
    }

    /// Returns the number of requests that the lane can still accept.
    pub fn room(&self) -> usize {
        self.open_cases_max.saturating_sub(self.ledger.len())
    }

    /// Returns the routing in force.
    pub fn routing(&self) -> &Arc<Routing> {
        &self.routing
    }

    /// Returns whether an answer on our topic names a case of another model.
    fn is_foreign(&self, answer: &Answer) -> bool {
        answer.model.as_ref().is_some_and(|model| *model != self.routing.model)
    }

    /// Opens a case while `open` others are open.
    fn open(
        &mut self,
        now: Timestamp,
        request: &Arc<Request>,
        open: usize,
        out: &mut Vec<ServingEffect>,
    ) {
        out.push(ServingEffect::Count(Counter::Requests));
        let routing = Arc::clone(&self.routing);
        let Route { serve: arm, shadows } = assignment::route(&routing, request.unit_bytes());
        let may_fall_back =
            routing.on_failure == OnFailure::Stable && arm.version != routing.stable;
        let deadline = now + routing.timeout;
        let mut case = OpenCase {
            request: Arc::clone(request),
            arm: arm.version.clone(),
            propensity: arm.propensity,
            routed_at: now,
            deadline,
            close_at: deadline.max(now + routing.shadow_timeout),
            // The candidate has half of the time alone; then the stable version gets a copy and can answer before the deadline.
            hedge_at: may_fall_back.then(|| now + crate::domain::time::Span(routing.timeout.0 / 2)),
            asks: Vec::with_capacity(1 + routing.shadows.len()),
            fallback: None,
            served: None,
            routing,
        };
        if open >= self.open_cases_max {
            out.push(ServingEffect::Count(Counter::OpenCasesFull));
            serve_without_answer(&mut case, now, "too many requests were waiting", out);
            out.push(ServingEffect::Predict(Box::new(case.into_prediction(now))));
            return;
        }
        ask(&mut case, arm.version, Role::Serve, now, out);
        out.push(ServingEffect::Count(Counter::Forwarded));
        if open < self.open_cases_max / 2 {
            copy_to_shadows(&mut case, shadows, now, out);
        } else {
            // Shadow copies are shed first when the lane fills up: they stop at half of its limit.
            out.extend(shadows.iter().map(|_| ServingEffect::Count(Counter::ShadowShed)));
        }
        if !may_fall_back {
            case.request = Arc::new(Request { value: None, ..Request::clone(request) });
        }
        self.ledger.insert(case);
    }

    fn answer(&mut self, now: Timestamp, mut answer: Answer, out: &mut Vec<ServingEffect>) {
        let Some(mut case) = self.ledger.take(answer.case.offset) else {
            // A case closes early only when all versions have answered, so this is a repeated answer.
            let counter = if now > answer.awaited_until {
                Counter::AnswerLate
            } else {
                Counter::AnswerDuplicate
            };
            out.push(ServingEffect::Count(counter));
            return;
        };
        match case.asks.get_mut(answer.ask) {
            Some(ask) if ask.version == answer.version => {
                if ask.reply.is_some() {
                    out.push(ServingEffect::Count(Counter::AnswerDuplicate));
                } else {
                    if ask.role == Role::Serve
                        && served_bytes(&case.request, &answer) > self.record_bytes_max
                    {
                        out.push(ServingEffect::Count(Counter::TooLarge));
                        let bytes = answer.value.take().map_or(0, |v| v.len());
                        let why =
                            format!("the answer of {bytes} bytes does not fit into one message");
                        answer.error = Some(why.into());
                    }
                    let is_late = now > ask.deadline;
                    let status = match (&answer.error, is_late) {
                        (_, true) => AnswerStatus::Late,
                        (Some(_), false) => AnswerStatus::Error,
                        (None, false) => AnswerStatus::Ok,
                    };
                    if is_late {
                        out.push(ServingEffect::Count(Counter::AnswerLate));
                    }
                    ask.reply =
                        Some(Reply { status, at: now, value: answer.value, error: answer.error });
                    serve_if_possible(&mut case, now, out);
                }
            }
            Some(_) | None => out.push(ServingEffect::Count(Counter::AnswerUnknown)),
        }
        self.settle(case, now, out);
    }

    /// Closes the case if it waits for nothing else; otherwise keeps it.
    fn settle(&mut self, case: OpenCase, now: Timestamp, out: &mut Vec<ServingEffect>) {
        if case.is_complete() || (case.served.is_some() && case.close_at <= now) {
            out.push(ServingEffect::Predict(Box::new(case.into_prediction(now))));
        } else {
            self.ledger.insert(case);
        }
    }
}

/// Returns the size in bytes of the served record of an answer: its value, and the request's key and headers.
fn served_bytes(request: &Request, answer: &Answer) -> usize {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |o| o.len());
    // The lengths of a name and a value take up to ten bytes.
    let headers: usize = request.headers.iter().map(|h| h.name.len() + of(&h.value) + 10).sum();
    of(&answer.value) + of(&request.key) + headers + request.id.as_str().len() + OUR_BYTES_MAX
}

fn ask(
    case: &mut OpenCase,
    version: Version,
    role: Role,
    now: Timestamp,
    out: &mut Vec<ServingEffect>,
) {
    let deadline = match role {
        Role::Serve => case.deadline,
        Role::Shadow => case.routed_at + case.routing.shadow_timeout,
    };
    out.push(ServingEffect::Forward(Forward {
        request: Arc::clone(&case.request),
        ask: case.asks.len(),
        version: version.clone(),
        role,
        deadline,
        close_at: case.close_at,
        routing: Arc::clone(&case.routing),
    }));
    case.asks.push(Ask { version, role, at: now, deadline, reply: None });
}

fn copy_to_shadows(
    case: &mut OpenCase,
    shadows: Vec<Version>,
    now: Timestamp,
    out: &mut Vec<ServingEffect>,
) {
    for shadow in shadows {
        ask(case, shadow, Role::Shadow, now, out);
        out.push(ServingEffect::Count(Counter::Shadowed));
    }
}

/// Asks the stable version in the candidate's place. Only this and the assignment ask with the role to serve, so a shadow's
/// answer can never reach a caller.
fn ask_stable(case: &mut OpenCase, now: Timestamp, out: &mut Vec<ServingEffect>) {
    if case.fallback.is_none() {
        case.fallback = Some(case.asks.len());
        ask(case, case.routing.stable.clone(), Role::Serve, now, out);
        out.push(ServingEffect::Count(Counter::Forwarded));
    }
}

fn serve_if_possible(case: &mut OpenCase, now: Timestamp, out: &mut Vec<ServingEffect>) {
    if case.served.is_some() || now > case.deadline {
        return;
    }
    if case.asks[0].is_ok() {
        serve_answer(case, 0, Outcome::Ok, now, out);
    } else if case.asks[0].has_failed() {
        match case.fallback {
            Some(index) if case.asks[index].is_ok() => {
                serve_answer(case, index, Outcome::Fallback, now, out);
            }
            Some(index) if case.asks[index].has_failed() => {
                serve_without_answer(case, now, "no version could answer", out);
            }
            Some(_) => {}
            None if case.hedge_at.is_some() => {
                case.hedge_at = None;
                ask_stable(case, now, out);
            }
            None => serve_without_answer(case, now, "the version could not answer", out),
        }
    }
}

fn serve_at_deadline(case: &mut OpenCase, now: Timestamp, out: &mut Vec<ServingEffect>) {
    match case.fallback {
        Some(index) if case.asks[index].is_ok() => {
            serve_answer(case, index, Outcome::Fallback, now, out);
        }
        Some(_) | None => serve_without_answer(case, now, "no answer by the deadline", out),
    }
}

fn serve_answer(
    case: &mut OpenCase,
    index: usize,
    outcome: Outcome,
    now: Timestamp,
    out: &mut Vec<ServingEffect>,
) {
    let ask = &case.asks[index];
    let value = ask.reply.as_ref().and_then(|r| r.value.clone());
    let version = Some(ask.version.clone());
    serve(case, version, outcome, value, None, now, out);
}

fn serve_without_answer(
    case: &mut OpenCase,
    now: Timestamp,
    why: &str,
    out: &mut Vec<ServingEffect>,
) {
    let default =
        case.routing.default.clone().filter(|_| case.routing.on_failure != OnFailure::Error);
    if default.is_some() {
        serve(case, None, Outcome::Default, default, None, now, out);
        return;
    }
    let said = case.asks.first().and_then(|a| a.reply.as_ref()).and_then(|r| r.error.clone());
    let error = said.unwrap_or_else(|| Arc::from(why));
    serve(case, None, Outcome::Error, None, Some(error), now, out);
}

fn serve(
    case: &mut OpenCase,
    version: Option<Version>,
    outcome: Outcome,
    value: Option<Bytes>,
    error: Option<Arc<str>>,
    now: Timestamp,
    out: &mut Vec<ServingEffect>,
) {
    out.push(ServingEffect::Count(match outcome {
        Outcome::Ok => Counter::ServedOk,
        Outcome::Fallback => Counter::ServedFallback,
        Outcome::Default => Counter::ServedDefault,
        Outcome::Error => Counter::ServedError,
    }));
    case.served = Some(Served { version: version.clone(), outcome, at: now });
    let (request, routing) = (Arc::clone(&case.request), Arc::clone(&case.routing));
    out.push(ServingEffect::Serve(Serve { request, version, outcome, value, error, routing }));
}
