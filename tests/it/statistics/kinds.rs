//! Every metric kind from answers and labels to a verdict: an equally good candidate is promoted, a worse one is aborted by that metric.

use serde_json::{Value, json};

use serinus_core::domain::label::Label;
use serinus_core::domain::time::Span;
use serinus_core::engine::judge::command::{Parsed, Verb, Written};
use serinus_core::engine::judge::event::Phase;
use serinus_core::spec::plan::{Document, load};

use crate::scenarios::plans::MIDNIGHT;
use crate::statistics::world::{Answer, World};

/// Requests per run, ten per second.
const REQUESTS: u64 = 2_000;

/// The random input of one version for one request.
#[derive(Clone, Copy)]
struct Draw {
    is_worse: bool,
    is_positive: bool,
    /// Two numbers in [0, 1), different for each version.
    luck: f64,
    noise: f64,
}

/// One kind: its metric as written in a spec, and the answers of its versions.
struct Kind {
    metric: &'static str,
    stages: &'static str,
    answer: fn(Draw) -> Answer,
    /// The value in the label, given the served version.
    worth: fn(Draw) -> f64,
}

const SPLIT: &str = "strategy: canary, stages: [{share: 50%, hold: 30s}]";
const COPIES: &str = "strategy: shadow, stages: [{shadow: 100%, hold: 30s}]";

/// Right in 85 % of all cases, or in 55 %.
fn calls(draw: Draw) -> Answer {
    let is_right = draw.luck < if draw.is_worse { 0.55 } else { 0.85 };
    Answer::Score(if is_right == draw.is_positive { 0.9 } else { 0.1 })
}

/// Off by up to 0.1, or by up to 0.9.
fn guesses(draw: Draw) -> Answer {
    let off = draw.luck * if draw.is_worse { 0.9 } else { 0.1 };
    Answer::Score(if draw.is_positive { 1.0 - off } else { off })
}

fn nothing(_: Draw) -> f64 {
    0.0
}

const KINDS: [Kind; 17] = [
    kind("kind: accuracy, prediction: json:/score, label: json:/late, margin: 10%", calls),
    kind("kind: error_rate, prediction: json:/score, label: json:/late, margin: 10%", calls),
    kind(
        "kind: log_loss, prediction: json:/score, label: json:/late, margin: 0.5, range: [0, 4]",
        calls,
    ),
    kind("kind: brier, prediction: json:/score, label: json:/late, margin: 0.1", calls),
    kind(
        "kind: squared_error, prediction: json:/score, label: json:/late, margin: 0.1, range: [0, 1]",
        guesses,
    ),
    kind(
        "kind: absolute_error, prediction: json:/score, label: json:/late, margin: 0.1, range: [0, 1]",
        guesses,
    ),
    kind("kind: precision, prediction: json:/score, label: json:/late, margin: 15%", calls),
    kind("kind: recall, prediction: json:/score, label: json:/late, margin: 15%", calls),
    kind("kind: f1, prediction: json:/score, label: json:/late, margin: 15%", calls),
    kind("kind: auc, prediction: json:/score, label: json:/late, margin: 15%", calls),
    Kind {
        worth: |draw| if draw.is_worse { 4.0 * draw.luck } else { 3.0 + 4.0 * draw.luck },
        ..kind(
            "kind: value, label: json:/worth, direction: higher, margin: 1, range: [0, 10]",
            calls,
        )
    },
    kind(
        "kind: value, prediction: json:/score, direction: higher, margin: 0.1, range: [0, 1]",
        |draw| Answer::Score(if draw.is_worse { 0.5 * draw.luck } else { draw.luck }),
    ),
    kind("kind: response_error, margin: 5%", |draw| {
        if draw.luck < if draw.is_worse { 0.3 } else { 0.01 } { Answer::Error } else { calls(draw) }
    }),
    kind("kind: timeout, margin: 5%", |draw| {
        if draw.luck < if draw.is_worse { 0.3 } else { 0.01 } {
            Answer::Nothing
        } else {
            calls(draw)
        }
    }),
    kind("kind: latency, margin: 50%", |draw| {
        let ms = (10.0 + 40.0 * draw.luck) * if draw.is_worse { 3.0 } else { 1.0 };
        #[expect(clippy::cast_possible_truncation, reason = "at most 150")]
        let ms = ms as i64;
        Answer::After(0.5, ms)
    }),
    Kind {
        stages: COPIES,
        ..kind(
            "kind: disagreement, prediction: json:/score, tolerance: 0.05, margin: 10%",
            |draw| {
                Answer::Score(if draw.is_worse && draw.luck < 0.4 {
                    0.9
                } else {
                    0.5 + 0.04 * draw.noise
                })
            },
        )
    },
    // The stable version itself disagrees in one request of ten: only the excess counts against the candidate.
    Kind {
        stages: COPIES,
        ..kind("kind: disagreement, prediction: json:/score, twin: v1b, margin: 10%", |draw| {
            let is_odd = draw.luck < if draw.is_worse { 0.6 } else { 0.1 };
            Answer::Score(if is_odd { draw.noise } else { 0.5 })
        })
    },
];

const fn kind(metric: &'static str, answer: fn(Draw) -> Answer) -> Kind {
    Kind { metric, stages: SPLIT, answer, worth: nothing }
}

fn spec(kind: &Kind) -> String {
    let Kind { metric, stages, .. } = kind;
    format!(
        "{{apiVersion: serinus/v1, kind: Model, metadata: {{name: m}}, spec: {{stable: v1, timeout: 1s}}}}\n---\n\
         apiVersion: serinus/v1\nkind: Rollout\nmetadata: {{name: r}}\nspec: {{model: m, candidates: [v2], {stages},\n  \
         metrics: [{{{metric}, role: goal, abort: true}}],\n  labels: {{maturity: 10s}},\n  \
         decide: {{promote: non_inferior, auto: true, alpha: 0.01, tick: 5s, min_labelled: 20}}}}"
    )
}

/// A number in [0, 1) that is the same in every run.
fn draw(request: u64, of: u64) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&request.to_le_bytes(), of);
    (hash >> 11) as f64 * f64::exp2(-53.0)
}

/// Returns the final phase of a rollout with this metric, and its reason.
fn outcome(kind: &Kind, is_worse: bool) -> (Phase, String) {
    let text = spec(kind);
    let mut world = World::new("m", 2);
    for document in load("kind.yaml", &text).unwrap_or_else(|t| panic!("{t}")) {
        let (name, parsed) = match document {
            Document::Model(plan, _) => {
                let document = Value::from("the model");
                (None, Parsed::Model(Box::new(Written { plan, document })))
            }
            Document::Rollout(plan, _) => {
                let document = Value::from(text.as_str());
                (Some("r"), Parsed::Rollout(Box::new(Written { plan, document })))
            }
        };
        world.command(Verb::Apply, name, Some(parsed), None);
    }
    for request in 0..REQUESTS {
        world.wait_until(MIDNIGHT + Span(i64::try_from(request).expect("few") * 100));
        if world.state().position.phase != Phase::Progressing {
            break;
        }
        let is_positive = draw(request, 1) < 0.5;
        let of = |version: &str| Draw {
            is_worse: is_worse && version == "v2",
            is_positive,
            luck: draw(request, 2 + xxhash_rust::xxh3::xxh3_64(version.as_bytes())),
            noise: draw(request, 3 + xxhash_rust::xxh3::xxh3_64(version.as_bytes())),
        };
        let unit = request.to_string();
        let served = world.route(&unit).serve.version;
        world.case(&unit, &unit, |version| (kind.answer)(of(version.as_str())));
        let label = Label {
            request_id: unit.as_str().into(),
            value: json!({"late": u8::from(is_positive), "worth": (kind.worth)(of(served.as_str()))}),
            observed_at: world.now + Span::seconds(2),
            version: 1,
            retract: false,
        };
        // Metrics without labels must not wait for labels.
        if kind.metric.contains("label:") {
            world.label_later(label);
        }
    }
    let reason = world.changes.last().map_or_else(String::new, |n| n.reason.clone());
    (world.state().position.phase, reason)
}

#[test]
fn every_kind_promotes_what_is_as_good_and_aborts_what_is_worse() {
    let mut wrong = Vec::new();
    for kind in &KINDS {
        for (is_worse, expected) in [(false, Phase::Promoted), (true, Phase::Aborted)] {
            let (phase, reason) = outcome(kind, is_worse);
            let name = kind.metric.split([' ', ',']).nth(1).expect("it begins with its kind");
            if phase != expected || is_worse && !reason.contains(&format!("{name}: worse proved")) {
                wrong.push(format!("{}: {phase:?} instead of {expected:?}: {reason}", kind.metric));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
