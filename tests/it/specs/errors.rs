//! Every mistake in a spec is reported at its position, with a fix.

use serinus_core::spec::plan::{load, model_from_json, rollout_from_json};

const MODEL: &str = include_str!("../../../examples/model.yaml");
const SHADOW: &str = include_str!("../../../examples/shadow.yaml");
const AB: &str = include_str!("../../../examples/ab.yaml");
const CANARY: &str = include_str!("../../../examples/canary.yaml");

/// Compares the error with the expected one.
pub(crate) fn check(said: &str, expected: &str) {
    assert_eq!(said.trim(), expected.trim(), "\n--- it said:\n{said}\n---");
}

#[test]
fn a_record_with_a_wrong_spec_says_which_field() {
    let wrong = serde_json::json!({"apiVersion": "serinus/v1", "kind": "Model", "metadata": {"name": "m"},
        "spec": {"stable": "v1", "timeout": "soon"}});
    let errors = model_from_json(&wrong).expect_err("`soon` is no time");
    check(
        &errors.to_string(),
        r"
spec.timeout: `soon` is not a span of time
  = write a number with its unit, such as `500ms`, `30m`, `2h` or `14d`
",
    );
    let errors = rollout_from_json(&wrong).expect_err("a model is no rollout");
    check(&errors.to_string(), "kind: this is a Model\n  = a Rollout is wanted here");
}

/// Puts a mistake into an example and returns the error.
pub(crate) fn mistake(example: &str, right: &str, wrong: &str) -> String {
    assert!(example.contains(right), "the example has no {right:?}");
    match load("flights.yaml", &example.replacen(right, wrong, 1)) {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn an_unknown_field() {
    check(
        &mistake(MODEL, "shadowTimeout", "shadow_timeuot"),
        r"
flights.yaml:10:3: spec.shadow_timeuot: there is no such field
   |
10 |   shadow_timeuot: 5s
   |   ^^^^^^^^^^^^^^
   = did you mean `shadowTimeout`?
",
    );
}

#[test]
fn an_unknown_kind() {
    check(
        &mistake(MODEL, "kind: Model", "kind: Modle"),
        r"
flights.yaml:3:7: kind: `Modle` is not a kind of document
  |
3 | kind: Modle
  |       ^^^^^
  = did you mean `Model`?
",
    );
}

#[test]
fn a_missing_timeout() {
    check(
        &mistake(MODEL, "timeout: 500ms ", "#"),
        r"
flights.yaml:5:1: spec: the field `timeout` is missing
  |
5 | spec:
  | ^^^^
  = the deadline of the serving version, such as `timeout: 500ms`
",
    );
}

#[test]
fn a_time_without_a_unit() {
    check(
        &mistake(MODEL, "500ms", "500"),
        r"
flights.yaml:9:12: spec.timeout: `500` has no unit
  |
9 |   timeout: 500                 # required: the deadline of the serving version
  |            ^^^
  = write a number with its unit, such as `500ms`, `30m`, `2h` or `14d`
",
    );
}

#[test]
fn a_version_that_is_a_number() {
    check(
        &mistake(MODEL, "stable: v1", "stable: 1.10"),
        r"
flights.yaml:6:11: spec.stable: `1.1` does not fit here
  |
6 |   stable: 1.10
  |           ^^^^
  = put it in quotes
",
    );
}

#[test]
fn an_illegal_name() {
    check(
        &mistake(MODEL, "{name: flights}", "{name: flights/late}"),
        r"
flights.yaml:4:18: metadata.name: `flights/late` cannot be the name of a model
  |
4 | metadata: {name: flights/late}
  |                  ^^^^^^^^^^^^
  = use letters, digits, `.`, `_` and `-`: topics are named after it
",
    );
}

#[test]
fn a_place_without_a_slash() {
    check(
        &mistake(MODEL, "json:/tailnum", "json:tailnum"),
        r"
flights.yaml:7:9: spec.unit: `tailnum` is not a JSON pointer
  |
7 |   unit: json:tailnum            # one aircraft stays with one version
  |         ^^^^^^^^^^^^
  = begin it with a slash: `json:/score`
",
    );
}

#[test]
fn a_default_that_is_not_there() {
    check(
        &mistake(
            MODEL,
            "stable              # stable | default | error\n  default: {score: 0.2}",
            "default",
        ),
        r"
flights.yaml:11:14: spec.onFailure: there is no default value to serve
   |
11 |   onFailure: default
   |              ^^^^^^^
   = add `default:` with the value to serve, such as `default: {score: 0.2}`
",
    );
}

#[test]
fn an_unclosed_brace() {
    check(
        &mistake(MODEL, "{name: flights}", "{name: flights"),
        r"
flights.yaml:5:5: while parsing a flow mapping, did not find expected ',' or '}'
  |
5 | spec:
  |     ^
",
    );
}

#[test]
fn a_field_twice() {
    check(
        &mistake(MODEL, "stable: v1", "stable: v1\n  stable: v2"),
        r"
flights.yaml:7:3: duplicate mapping key `stable` is not allowed here
  |
7 |   stable: v2
  |   ^^^^^^
",
    );
}

#[test]
fn an_unknown_strategy() {
    check(
        &mistake(CANARY, "canary ", "canari "),
        r"
flights.yaml:8:13: spec.strategy: `canari` is not a word for this
  |
8 |   strategy: canari               # shadow | ab | canary
  |             ^^^^^^
  = did you mean `canary`?
",
    );
}

#[test]
fn a_share_over_all() {
    check(
        &mistake(CANARY, "share: 25%", "share: 140%"),
        r"
flights.yaml:12:15: spec.stages[2].share: `140%` is over 100%
   |
12 |     - {share: 140%, hold: 2h, approve: true}
   |               ^^^^
   = write a percentage from 0% to 100%, such as `5%`
",
    );
}

#[test]
fn a_share_that_is_a_plain_number() {
    check(
        &mistake(CANARY, "share: 25%", "share: 25"),
        r"
flights.yaml:12:15: spec.stages[2].share: `25` is not a share from 0 to 1
   |
12 |     - {share: 25, hold: 2h, approve: true}
   |               ^^
   = write `25%` if you mean a percentage
",
    );
}

#[test]
fn a_share_of_an_unknown_version() {
    check(
        &mistake(CANARY, "share: 25%", "share: {v22: 25%}"),
        r"
flights.yaml:12:16: spec.stages[2].share.v22: `v22` is not a candidate
   |
12 |     - {share: {v22: 25%}, hold: 2h, approve: true}
   |                ^^^
   = did you mean `v2`?
",
    );
}

#[test]
fn a_falling_share() {
    check(
        &mistake(CANARY, "share: 50%", "share: 20%"),
        r"
flights.yaml:13:15: spec.stages[3].share: the share of `v2` falls from 25% to 20%
   |
13 |     - {share: 20%, hold: 1d}
   |               ^^^
   = a canary's shares never fall: who has once been moved to a candidate stays there
",
    );
}

#[test]
fn slices_wider_than_all() {
    check(
        &mistake(CANARY, "candidates: [v2]", "candidates: [v2, v3, v4]"),
        r"
flights.yaml:13:15: spec.stages[3].share: the candidates' largest shares are 150% together (v2 50%, v3 50%, v4 50%)
   |
13 |     - {share: 50%, hold: 1d}
   |               ^^^
   = each candidate keeps a slice of the traffic as wide as its largest share in any stage: 100% is all there is
",
    );
}

#[test]
fn two_stages_of_shares_in_an_ab() {
    check(
        &mistake(
            AB,
            "    - {share: 50%, hold: 1d}",
            "    - {share: 5%}\n    - {share: 50%, hold: 1d}",
        ),
        r"
flights.yaml:11:8: spec.stages[1].share: an `ab` rollout has one stage of shares
   |
11 |     - {share: 50%, hold: 1d}
   |        ^^^^^
   = keep one stage of shares, or write `strategy: canary`
",
    );
}

#[test]
fn a_share_in_a_shadow() {
    check(
        &mistake(SHADOW, "shadow: 100%,", "share: 5%,"),
        r"
flights.yaml:10:8: spec.stages[0].share: a `shadow` rollout serves nothing
   |
10 |     - {share: 5%, hold: 6h, until: {exposures: 2000}}
   |        ^^^^^
   = take it out, or write `strategy: canary` or `strategy: ab`

flights.yaml:13:31: spec.metrics[1].kind: no stage copies requests, so nothing can disagree
   |
13 |     - {name: agreement, kind: disagreement, prediction: json:/score, tolerance: 0.1, role: watch}
   |                               ^^^^^^^^^^^^
   = add `shadow: 100%` to a stage: answers to the same request are compared
",
    );
}

#[test]
fn a_percentage_of_a_loss() {
    check(
        &mistake(CANARY, "margin: 0.01, mde: 0.01", "margin: 1%"),
        r"
flights.yaml:15:116: spec.metrics[0].margin: a percentage says nothing of `brier`
   |
15 |     - {name: brier, kind: brier, prediction: json:/score, label: json:/late, role: goal, direction: lower, margin: 1%}
   |                                                                                                                    ^^
   = write a number in the metric's own unit, such as `0.01`
",
    );
}

#[test]
fn a_missing_margin() {
    check(
        &mistake(CANARY, "role: guardrail, margin: 20%", "role: guardrail"),
        r"
flights.yaml:17:7: spec.metrics[2].margin: a `guardrail` needs the field `margin`
   |
17 |     - {name: latency, kind: latency, role: guardrail}
   |       ^
   = say how much worse is still acceptable, such as `margin: 20%`
",
    );
}

#[test]
fn a_missing_role() {
    check(
        &mistake(CANARY, "role: guardrail, margin: 20%", "margin: 20%"),
        r"
flights.yaml:17:7: spec.metrics[2]: the field `role` is missing
   |
17 |     - {name: latency, kind: latency, margin: 20%}
   |       ^
   = one of `goal`, `guardrail`, `signal`, `watch`
",
    );
}

#[test]
fn a_wrong_direction() {
    check(
        &mistake(CANARY, "direction: lower", "direction: higher"),
        r"
flights.yaml:15:101: spec.metrics[0].direction: `higher` is not better for `brier`
   |
15 |     - {name: brier, kind: brier, prediction: json:/score, label: json:/late, role: goal, direction: higher, margin: 0.01, mde: 0.01}
   |                                                                                                     ^^^^^^
   = write `direction: lower`, or nothing
",
    );
}

#[test]
fn no_maturity() {
    check(
        &mistake(CANARY, "labels: {maturity: 6h, missing: exclude}", "labels: {missing: exclude}"),
        r"
flights.yaml:18:3: spec.labels.maturity: the metric `brier` waits for labels, and nothing says how long
   |
18 |   labels: {missing: exclude}
   |   ^^^^^^
   = write `labels: {maturity: 6h}`: the age at which nearly all labels are there
",
    );
}

#[test]
fn a_deadline_before_the_holds_are_over() {
    check(
        &mistake(CANARY, "by: 14d", "by: 1d"),
        r"
flights.yaml:19:73: spec.decide.by: the stages hold for 1d2h30m together, which is not over by 1d
   |
19 |   decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 1d, no_data: hold}
   |                                                                         ^^
   = write a longer time, or hold the stages for less
",
    );
}

#[test]
fn a_list_that_is_a_word() {
    check(
        &mistake(CANARY, "candidates: [v2]", "candidates: v2"),
        r"
flights.yaml:7:15: spec.candidates: `v2` does not fit here
  |
7 |   candidates: v2
  |               ^^
  = write a list, such as `[v2]`
",
    );
}

#[test]
fn a_count_below_nothing() {
    check(
        &mistake(CANARY, "exposures: 2000", "exposures: -1"),
        r"
flights.yaml:10:41: spec.stages[0].until.exposures: `-1` does not fit here
   |
10 |     - {shadow: 100%, until: {exposures: -1}}
   |                                         ^^
   = write a whole number from 0
",
    );
}

#[test]
fn a_run_is_counted_from_one_and_only_for_rollouts() {
    let counted = mistake(CANARY, "name: flights-v2}", "name: flights-v2, run: 0}");
    assert!(counted.contains("metadata.run"), "{counted}");
    let of_model = mistake(MODEL, "name: flights}", "name: flights, run: 2}");
    assert!(of_model.contains("metadata.run: there is no such field"), "{of_model}");
}

#[test]
fn an_unknown_field_of_a_metric() {
    check(
        &mistake(SHADOW, "tolerance: 0.1", "treshold: 0.1"),
        r"
flights.yaml:13:70: spec.metrics[1].treshold: there is no such field
   |
13 |     - {name: agreement, kind: disagreement, prediction: json:/score, treshold: 0.1, role: watch}
   |                                                                      ^^^^^^^^
   = did you mean `threshold`?
",
    );
}

#[test]
fn a_field_that_the_kind_does_not_use() {
    check(
        &mistake(SHADOW, "tolerance: 0.1", "threshold: 0.1"),
        r"
flights.yaml:13:70: spec.metrics[1].threshold: `disagreement` does not use this field
   |
13 |     - {name: agreement, kind: disagreement, prediction: json:/score, threshold: 0.1, role: watch}
   |                                                                      ^^^^^^^^^
   = take it out
",
    );
}

#[test]
fn a_twin_that_is_a_candidate() {
    check(
        &mistake(SHADOW, "tolerance: 0.1", "twin: v2"),
        r"
flights.yaml:13:76: spec.metrics[1].twin: `v2` is a candidate
   |
13 |     - {name: agreement, kind: disagreement, prediction: json:/score, twin: v2, role: watch}
   |                                                                            ^^
   = name a second instance of the stable version, deployed under a name of its own
",
    );
}

#[test]
fn a_twin_that_gets_nothing() {
    let example = SHADOW.replace("shadow: 100%", "shadow: {v2: 100%}");
    check(
        &mistake(&example, "tolerance: 0.1", "twin: v1b"),
        r"
flights.yaml:13:76: spec.metrics[1].twin: no stage copies requests to `v1b`
   |
13 |     - {name: agreement, kind: disagreement, prediction: json:/score, twin: v1b, role: watch}
   |                                                                            ^^^
   = add it to a stage: `shadow: {v1b: 100%}`
",
    );
}

#[test]
fn an_empty_file() {
    check(
        &mistake(MODEL, MODEL, "# nothing"),
        r"
flights.yaml: there is nothing in this file
  = write a document with `apiVersion: serinus/v1` and `kind: Model` or `kind: Rollout`
",
    );
}

#[test]
fn several_mistakes_at_once() {
    check(
        &mistake(
            &CANARY
                .replace("{name: flights-v2}", "{name: flights v2}")
                .replace("alpha: 0.05", "alpha: 70%"),
            "[v2]",
            "[v2, v2]",
        ),
        r"
flights.yaml:4:18: metadata.name: `flights v2` cannot be the name of a rollout
  |
4 | metadata: {name: flights v2}
  |                  ^^^^^^^^^^
  = use letters, digits, `.`, `_` and `-`: topics are named after it

flights.yaml:7:20: spec.candidates[1]: `v2` is named twice
  |
7 |   candidates: [v2, v2]
  |                    ^^
  = name each candidate once

flights.yaml:19:42: spec.decide.alpha: `0.7` is no error rate
   |
19 |   decide: {promote: non_inferior, alpha: 70%, inconclusive: abort, by: 14d, no_data: hold}
   |                                          ^^^
   = write a number above 0 and below 0.5
",
    );
}
