//! Rollouts with unscorable answers or labels, through lanes and judge: they hold and give the reason.

use serde_json::{Value, json};

use serinus_core::domain::label::Label;
use serinus_core::domain::time::Span;
use serinus_core::engine::judge::command::{Parsed, Verb, Written};
use serinus_core::engine::judge::event::Phase;
use serinus_core::evidence::unscored::Reason;
use serinus_core::inference::verdict::Gap;
use serinus_core::spec::plan::{Document, load};

use crate::scenarios::plans::MIDNIGHT;
use crate::statistics::world::{Answer, World};

/// Requests per run, ten per second.
const REQUESTS: u64 = 1_500;

const SPLIT: &str = "strategy: canary, stages: [{share: 50%, hold: 30s}]";
const COPIES: &str = "strategy: shadow, stages: [{shadow: 100%, hold: 30s}]";

/// One case: its truth, and two random numbers in [0, 1) per version.
#[derive(Clone, Copy)]
struct Case {
    is_positive: bool,
    luck: f64,
    noise: f64,
}

/// A rollout: its metric, its labels, and the answers of both versions at `/score`, as JSON text.
struct Run {
    stages: &'static str,
    metric: &'static str,
    labels: [&'static str; 2],
    v1: fn(Case) -> String,
    v2: fn(Case) -> String,
}

/// The expected result of a rollout.
enum Expected {
    /// It continues and holds for this gap: version, reason, and approximate share.
    Holds(&'static str, Reason, f64),
    /// It ends.
    Ends(Phase),
}

use Expected::{Ends, Holds};

/// Right in 85 % of all cases, and never certain.
fn calibrated(case: Case) -> String {
    let is_right = case.luck < 0.85;
    if is_right == case.is_positive { "0.85" } else { "0.15" }.to_owned()
}

/// The same as a class.
fn class(case: Case) -> String {
    let is_right = case.luck < 0.85;
    if is_right == case.is_positive { "1" } else { "0" }.to_owned()
}

/// A score in (0, 1), higher for positives.
fn ranking(case: Case) -> f64 {
    if case.is_positive { case.luck.sqrt().sqrt() } else { case.luck * case.luck }
}

fn always(_: Case) -> String {
    "1.0".to_owned()
}

const BRIER: &str = "kind: brier, prediction: json:/score, label: json:/late, margin: 0.1";
const LOG_LOSS: &str =
    "kind: log_loss, prediction: json:/score, label: json:/late, margin: 0.5, range: [0, 4]";
const ACCURACY: &str = "kind: accuracy, prediction: json:/score, label: json:/late, margin: 10%";
const PRECISION: &str = "kind: precision, prediction: json:/score, label: json:/late, margin: 15%";
const AUC: &str = "kind: auc, prediction: json:/score, label: json:/late, margin: 10%";

fn run(metric: &'static str) -> Run {
    Run { stages: SPLIT, metric, labels: ["0", "1"], v1: calibrated, v2: calibrated }
}

fn coded(metric: &'static str, labels: [&'static str; 2]) -> Run {
    Run { labels, v2: always, ..run(metric) }
}

fn answering(v2: fn(Case) -> String) -> Run {
    Run { v2, ..run(BRIER) }
}

fn spec(run: &Run) -> String {
    format!(
        "{{apiVersion: serinus/v1, kind: Model, metadata: {{name: m}}, spec: {{stable: v1, timeout: 1s}}}}\n---\n\
         apiVersion: serinus/v1\nkind: Rollout\nmetadata: {{name: r}}\nspec: {{model: m, candidates: [v2], {},\n  \
         metrics: [{{{}, role: goal, abort: true}}],\n  labels: {{maturity: 10s}},\n  \
         decide: {{promote: non_inferior, auto: true, alpha: 0.05, tick: 5s, min_labelled: 20}}}}",
        run.stages, run.metric
    )
}

/// A number in [0, 1) that is the same in every run.
fn draw(request: u64, of: u64) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&request.to_le_bytes(), of);
    (hash >> 11) as f64 * f64::exp2(-53.0)
}

fn begin(text: &str) -> World {
    let mut world = World::new("m", 2);
    for document in load("unscored.yaml", text).unwrap_or_else(|error| panic!("{error}")) {
        let (name, parsed) = match document {
            Document::Model(plan, _) => {
                let document = Value::from("the model");
                (None, Parsed::Model(Box::new(Written { plan, document })))
            }
            Document::Rollout(plan, _) => {
                let document = Value::from(text);
                (Some("r"), Parsed::Rollout(Box::new(Written { plan, document })))
            }
        };
        world.command(Verb::Apply, name, Some(parsed), None);
    }
    world
}

/// Runs a rollout to its end, or until the requests are used up.
fn played(run: &Run) -> World {
    let mut world = begin(&spec(run));
    for request in 0..REQUESTS {
        world.wait_until(MIDNIGHT + Span(i64::try_from(request).expect("few") * 100));
        if world.state().position.phase != Phase::Progressing {
            break;
        }
        let is_positive = draw(request, 1) < 0.5;
        let of = |version: &str| {
            let seed = xxhash_rust::xxh3::xxh3_64(version.as_bytes());
            Case { is_positive, luck: draw(request, seed), noise: draw(request, seed + 1) }
        };
        let unit = request.to_string();
        world.case(&unit, &unit, |version| {
            let score = match version.as_str() {
                "v1" => (run.v1)(of("v1")),
                version => (run.v2)(of(version)),
            };
            Answer::Raw(format!("{{\"score\": {score}}}"))
        });
        let written = run.labels[usize::from(is_positive)];
        let late: Value = serde_json::from_str(written).expect("a label is JSON");
        world.label_later(Label {
            request_id: unit.as_str().into(),
            value: json!({ "late": late }),
            observed_at: world.now + Span::seconds(2),
            version: 1,
            retract: false,
        });
    }
    world
}

/// Returns the differences from the expected end.
fn fault(name: &str, run: &Run, expected: &Expected) -> Option<String> {
    let world = played(run);
    let phase = world.state().position.phase;
    let report = world.report.as_ref().expect("it was judged");
    let gaps: Vec<&Gap> = report.health.scoring.iter().collect();
    let said = format!("{name}: {phase:?}: {}; {gaps:?}", report.reason);
    match expected {
        Ends(expected) => (phase != *expected).then_some(said),
        Holds(version, reason, share) => {
            let is_named = gaps.iter().any(|gap| {
                gap.version.as_str() == *version
                    && gap.reason == *reason
                    && (gap.share - *share).abs() < f64::min(0.6 * *share, 0.1)
                    && gap.sample.len() == 3
                    && gap.holds
            });
            let is_held =
                report.verdict == "hold" && report.reason.contains("never helps a version");
            (phase != Phase::Progressing || !is_named || !is_held).then_some(said)
        }
    }
}

fn check(runs: &[(&str, Run, Expected)]) {
    let wrong: Vec<String> =
        runs.iter().filter_map(|(name, run, expected)| fault(name, run, expected)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Many tools write labels as -1 and +1; a version that always answers 1 looks perfect on the scorable rest.
#[test]
fn labels_that_are_no_outcomes_promote_nobody() {
    let half = || Holds("v1", Reason::LabelNoOutcome, 0.5);
    check(&[
        ("brier -1/1", coded(BRIER, ["-1", "1"]), half()),
        ("brier 1/2", coded(BRIER, ["1", "2"]), half()),
        ("brier 0/100", coded(BRIER, ["0", "100"]), half()),
        ("log_loss -1/1", coded(LOG_LOSS, ["-1", "1"]), half()),
        ("auc -1/1", coded(AUC, ["-1", "1"]), half()),
        ("precision -1/1", coded(PRECISION, ["-1", "1"]), half()),
        ("accuracy -1/1", coded(ACCURACY, ["-1", "1"]), half()),
        ("accuracy 1/2", coded(ACCURACY, ["1", "2"]), half()),
        ("accuracy 0/100", coded(ACCURACY, ["0", "100"]), half()),
        (
            "brier yes/no",
            coded(BRIER, ["\"no\"", "\"yes\""]),
            Holds("v1", Reason::LabelNotNumber, 1.0),
        ),
        ("brier null", coded(BRIER, ["null", "1"]), Holds("v2", Reason::LabelNull, 0.5)),
        ("brier lists", coded(BRIER, ["[0]", "1"]), Holds("v2", Reason::LabelNotNumber, 0.5)),
        (
            "accuracy yes/no",
            coded(ACCURACY, ["\"no\"", "\"yes\""]),
            Holds("v1", Reason::NotComparable, 1.0),
        ),
    ]);
}

#[test]
fn a_declared_positive_decides_as_any_outcome() {
    const BRIER_1: &str =
        "kind: brier, prediction: json:/score, label: json:/late, margin: 0.1, positive: 1";
    const BRIER_2: &str =
        "kind: brier, prediction: json:/score, label: json:/late, margin: 0.1, positive: 2";
    const BRIER_YES: &str =
        "kind: brier, prediction: json:/score, label: json:/late, margin: 0.1, positive: 'yes'";
    let as_good = |metric, labels| Run { labels, ..run(metric) };
    check(&[
        ("-1/1", as_good(BRIER_1, ["-1", "1"]), Ends(Phase::Promoted)),
        ("1/2", as_good(BRIER_2, ["1", "2"]), Ends(Phase::Promoted)),
        ("yes/no", as_good(BRIER_YES, ["\"no\"", "\"yes\""]), Ends(Phase::Promoted)),
        ("always 1", coded(BRIER_1, ["-1", "1"]), Ends(Phase::Aborted)),
    ]);
}

/// Python's JSON module writes `NaN`; a version that returns it where it would be wrong must not look better.
#[test]
fn answers_that_cannot_be_scored_promote_nobody() {
    let hidden = |case: Case| if case.is_positive { "0.9".to_owned() } else { "NaN".to_owned() };
    let third = |reason| Holds("v2", reason, 1.0 / 3.0);
    check(&[
        ("NaN where it is false", answering(hidden), Holds("v2", Reason::NotFinite, 0.5)),
        (
            "NaN of a shadow",
            Run { stages: COPIES, ..answering(hidden) },
            Holds("v2", Reason::NotFinite, 0.5),
        ),
        ("Infinity", answering(|case| odd(case, "Infinity")), third(Reason::NotFinite)),
        ("-Infinity", answering(|case| odd(case, "-Infinity")), third(Reason::NotFinite)),
        ("1e999", answering(|case| odd(case, "1e999")), third(Reason::NotFinite)),
        ("nan", answering(|case| odd(case, "\"nan\"")), third(Reason::NotNumber)),
        ("null", answering(|case| odd(case, "null")), third(Reason::Null)),
        ("percent", answering(|case| odd(case, "85")), third(Reason::OutsideUnit)),
        ("no JSON", answering(|case| odd(case, "0.5,")), third(Reason::NotJson)),
        ("elsewhere", answering(|case| odd(case, "{\"p\": 0.5}")), third(Reason::NotNumber)),
        (
            "of the stable version",
            Run { v1: |case| odd(case, "NaN"), v2: calibrated, ..run(BRIER) },
            Holds("v1", Reason::NotFinite, 1.0 / 3.0),
        ),
        (
            "two in a hundred",
            answering(|case| if case.noise < 0.02 { "NaN".to_owned() } else { calibrated(case) }),
            Holds("v2", Reason::NotFinite, 0.02),
        ),
    ]);
}

fn odd(case: Case, text: &str) -> String {
    if case.noise < 1.0 / 3.0 { text.to_owned() } else { calibrated(case) }
}

#[test]
fn classes_in_another_form_are_compared_or_hold() {
    const CUT: &str =
        "kind: accuracy, prediction: json:/score, label: json:/late, margin: 10%, threshold: 50";
    let quoted = |case: Case| format!("\"{}\"", class(case));
    let boolean = |case: Case| (class(case) == "1").to_string();
    let as_text = |case: Case| format!("\"{}\"", class(case) == "1");
    let float = |case: Case| format!("\"{}.0\"", class(case));
    let worded = |case: Case| if class(case) == "1" { "\"yes\"" } else { "\"no\"" }.to_owned();
    let percent = |case: Case| if class(case) == "1" { "85" } else { "15.5" }.to_owned();
    let classes = |v2| Run { v1: class, v2, ..run(ACCURACY) };
    let promoted = || Ends(Phase::Promoted);
    check(&[
        ("\"1\" and 1", classes(quoted), promoted()),
        ("true and 1", classes(boolean), promoted()),
        ("\"true\" and true", Run { labels: ["false", "true"], ..classes(as_text) }, promoted()),
        ("\"1.0\" and 1", classes(float), promoted()),
        ("yes and 1", classes(worded), Holds("v2", Reason::NotComparable, 1.0)),
        ("0-100 with a threshold", Run { v1: percent, v2: percent, ..run(CUT) }, promoted()),
        (
            "0-100 without",
            Run { v1: percent, v2: percent, ..run(ACCURACY) },
            Holds("v2", Reason::OutsideUnit, 0.5),
        ),
    ]);
}

/// Ranks have no scale.
#[test]
fn scores_on_any_scale_are_ranked() {
    fn hundred(case: Case) -> String {
        format!("{}", 100.0 * ranking(case))
    }
    fn small(case: Case) -> String {
        format!("{}", 0.004 * ranking(case))
    }
    fn logit(case: Case) -> String {
        let p = ranking(case).clamp(1e-9, 1.0 - 1e-9);
        format!("{}", (p / (1.0 - p)).ln())
    }
    let as_good = |scale: fn(Case) -> String| Run { v1: scale, v2: scale, ..run(AUC) };
    let by_chance: fn(Case) -> String = |case| format!("{}", 100.0 * case.luck);
    let tiny_chance: fn(Case) -> String = |case| format!("{}", 0.004 * case.luck);
    let worse = |v1: fn(Case) -> String, v2| Run { stages: COPIES, v1, v2, ..run(AUC) };
    check(&[
        ("0-100", as_good(hundred), Ends(Phase::Promoted)),
        ("0-0.004", as_good(small), Ends(Phase::Promoted)),
        ("logits", as_good(logit), Ends(Phase::Promoted)),
        ("chance on 0-100", worse(hundred, by_chance), Ends(Phase::Aborted)),
        ("chance on 0-0.004", worse(small, tiny_chance), Ends(Phase::Aborted)),
    ]);
}

#[test]
fn values_outside_of_their_range_are_counted_by_arm_and_hold() {
    const VALUE: &str =
        "kind: value, prediction: json:/score, direction: higher, margin: 10, range: [0, 100]";
    let revenue = |case: Case| format!("{}", 520.0 * case.luck - 20.0);
    let run = Run { v1: revenue, v2: revenue, ..run(VALUE) };
    let clipped = 420.0 / 520.0 + 20.0 / 520.0;
    let world = played(&run);
    let report = world.report.as_ref().expect("it was judged");
    let of = report.findings[0].clipped.expect("it has a range");
    assert!((of.stable - clipped).abs() < 0.1 && (of.candidate - clipped).abs() < 0.1, "{of:?}");
    assert!(report.reason.contains("outside the range"), "{}", report.reason);
    check(&[("revenue", run, Holds("v2", Reason::OutsideRange, clipped))]);
}
