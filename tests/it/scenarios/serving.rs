//! Runs every `tests/scenarios/serving/*.txt` through a serving lane; `UPDATE=1` rewrites the effects.

use std::sync::Arc;

use serinus_core::domain::case::{Outcome, Prediction};
use serinus_core::domain::ids::{CaseId, ModelName, Revision};
use serinus_core::domain::record::{Answer, Carried, Request};
use serinus_core::domain::routing::{OnFailure, Role, Routing, ShadowShare, Slice};
use serinus_core::domain::share::Share;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::serving::{ServingEffect, ServingLane, Turn};

use crate::scenarios::plans;
use crate::scenarios::rollouts::{happen_as_written, with_effects};

#[test]
fn every_serving_scenario_has_its_written_effects() {
    happen_as_written("tests/scenarios/serving", |text| {
        let mut scenario = Scenario::default();
        with_effects(text, |line| scenario.line(line))
    });
}

/// A lane and its requests so far; times are milliseconds since the start.
#[derive(Default)]
struct Scenario {
    lane: Option<ServingLane>,
    open_cases_max: Option<usize>,
    revision: u64,
    requests: Vec<(String, i64)>,
}

impl Scenario {
    /// Parses `lane max=N`, or `<ms> STEP`: `routing`, `request`, `answer`, `wait`.
    fn line(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["lane", rest @ ..] => {
                self.open_cases_max = word(rest, "max=").map(number);
                Vec::new()
            }
            [clock, step @ ..] => {
                let now = Timestamp(number(clock));
                let mut told = self.until(now);
                told.extend(self.step(now, step));
                told
            }
            [] => Vec::new(),
        }
    }

    /// Advances time up to, but not including, `until`.
    fn until(&mut self, now: Timestamp) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(due) =
            self.lane.as_ref().and_then(ServingLane::next_wake).filter(|n| *n < now)
        {
            let effects = self.turn(due, Turn::default());
            told.extend(effects.into_iter().map(|e| format!("{} {e}", due.0)));
        }
        told
    }

    fn step(&mut self, now: Timestamp, words: &[&str]) -> Vec<String> {
        let turn = match words {
            ["routing", stable, rest @ ..] => {
                self.revision += 1;
                let routing = Arc::new(routing(stable, rest, self.revision));
                if self.lane.is_none() {
                    let max = self.open_cases_max.unwrap_or(100);
                    self.lane = Some(ServingLane::new(0, max, Arc::clone(&routing)));
                }
                Turn { routing: Some(routing), ..Turn::default() }
            }
            ["request", id, rest @ ..] => {
                let offset = i64::try_from(self.requests.len()).expect("a few");
                self.requests.push(((*id).to_owned(), offset));
                let unit = word(rest, "unit=").unwrap_or(id);
                let request = Request {
                    case: CaseId { partition: 0, offset },
                    id: (*id).into(),
                    unit: Some(Arc::from(unit.as_bytes())),
                    key: None,
                    value: Some(Arc::from(id.as_bytes())),
                    headers: Arc::from([]),
                    requested_at: now,
                    segments: Arc::default(),
                };
                Turn { requests: vec![Arc::new(request)], ..Turn::default() }
            }
            ["answer", id, version, says, rest @ ..] => {
                let known = self.requests.iter().rev().find(|r| r.0 == *id);
                let offset = known.map_or(1000, |k| k.1);
                let answer = Answer {
                    case: CaseId { partition: word(rest, "partition=").map_or(0, number), offset },
                    ask: word(rest, "ask=").map_or(0, number),
                    awaited_until: Timestamp(word(rest, "until=").map_or(i64::MAX, number)),
                    model: word(rest, "model=").map(ModelName::new),
                    version: (*version).into(),
                    error: (*says == "error").then(|| Arc::from("boom")),
                    value: (*says != "error").then(|| Arc::from(says.as_bytes())),
                    carried: Arc::new(Carried::default()),
                };
                Turn { answers: vec![answer], ..Turn::default() }
            }
            ["wait"] => Turn::default(),
            other => panic!("what is {other:?}?"),
        };
        self.turn(now, turn)
    }

    fn turn(&mut self, now: Timestamp, turn: Turn) -> Vec<String> {
        let mut out = Vec::new();
        self.lane.as_mut().expect("a routing first").turn(now, turn, &mut out);
        out.iter().map(effect).collect()
    }
}

/// Parses `v2=30%`, `copies:v3=100%`, `timeout=500`, `shadow_timeout=5000`, `fails=stable|default|error` and `default=VALUE`.
fn routing(stable: &str, words: &[&str], revision: u64) -> Routing {
    let share = |s: &str| Share::from_fraction(plans::fraction(s)).expect("a share");
    let mut routing = Routing {
        salt: "salt".into(),
        timeout: Span(word(words, "timeout=").map_or(500, number)),
        shadow_timeout: Span(word(words, "shadow_timeout=").map_or(5000, number)),
        on_failure: match word(words, "fails=") {
            None | Some("stable") => OnFailure::Stable,
            Some("default") => OnFailure::Default,
            Some("error") => OnFailure::Error,
            Some(other) => panic!("fails={other}?"),
        },
        default: word(words, "default=").map(|w| Arc::from(w.as_bytes())),
        ..plans::model("m", stable).plan.at_rest(stable.into(), Revision(revision))
    };
    for (version, serves) in words.iter().filter_map(|w| w.split_once('=')) {
        match version.strip_prefix("copies:") {
            Some(version) => {
                routing.shadows.push(ShadowShare { version: version.into(), share: share(serves) });
            }
            None if version.starts_with('v') => routing.slices.push(Slice {
                version: version.into(),
                width: share(serves),
                share: share(serves),
            }),
            None => {}
        }
    }
    routing
}

fn word<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|w| w.strip_prefix(key))
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
}

fn effect(effect: &ServingEffect) -> String {
    match effect {
        ServingEffect::Forward(it) => {
            let role = match it.role {
                Role::Serve => "serve",
                Role::Shadow => "shadow",
            };
            let (id, version) = (&it.request.id, &it.version);
            format!("ask {} of {id}: {version} to {role} by {}", it.ask, it.deadline.0)
        }
        ServingEffect::Serve(it) => {
            let whose = it.version.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            let value = it.value.as_deref().map_or("nothing".into(), String::from_utf8_lossy);
            let error = it.error.as_deref().map_or_else(String::new, |n| format!(": {n}"));
            format!(
                "served {}: {} by {whose}, {value}, revision {}{error}",
                it.request.id,
                outcome(it.outcome),
                it.routing.revision
            )
        }
        ServingEffect::Predict(it) => format!("closed {}: {}", it.request_id, answers(it)),
        ServingEffect::PassOn(it) => format!("passed on to partition {}", it.case.partition),
        ServingEffect::Count(it) => format!("counted {}", it.describe().0),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Fallback => "fallback",
        Outcome::Default => "default",
        Outcome::Error => "error",
    }
}

fn answers(prediction: &Prediction) -> String {
    let answers = prediction.answers.iter().map(|a| {
        let latency = a.latency.map_or_else(String::new, |n| format!(" after {} ms", n.0));
        format!("{} {:?} {:?}{latency}", a.version, a.role, a.status).to_lowercase()
    });
    answers.collect::<Vec<_>>().join(", ")
}
