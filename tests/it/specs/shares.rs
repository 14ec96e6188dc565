//! A share or limit with two readings is refused, and the error names both.

use serinus_core::spec::plan::load;

use crate::specs::errors::{check, mistake};

const CANARY: &str = include_str!("../../../examples/canary.yaml");

#[test]
fn a_share_that_is_one_in_every_place_where_a_share_is_written() {
    check(
        &mistake(CANARY, "share: 25%", "share: 1"),
        r"
flights.yaml:12:15: spec.stages[2].share: `1` can be read as 1% or as 100%
   |
12 |     - {share: 1, hold: 2h, approve: true}
   |               ^
   = write `1%` or `100%`
",
    );
    check(
        &mistake(CANARY, "share: 25%", "share: {v2: 1.0}"),
        r"
flights.yaml:12:20: spec.stages[2].share.v2: `1` can be read as 1% or as 100%
   |
12 |     - {share: {v2: 1.0}, hold: 2h, approve: true}
   |                    ^^^
   = write `1%` or `100%`
",
    );
    check(
        &mistake(CANARY, "shadow: 100%", "shadow: 1"),
        r"
flights.yaml:10:16: spec.stages[0].shadow: `1` can be read as 1% or as 100%
   |
10 |     - {shadow: 1, until: {exposures: 2000}}
   |                ^
   = write `1%` or `100%`
",
    );
    check(
        &mistake(CANARY, "shadow: 100%", "shadow: {v2: 1}"),
        r"
flights.yaml:10:21: spec.stages[0].shadow.v2: `1` can be read as 1% or as 100%
   |
10 |     - {shadow: {v2: 1}, until: {exposures: 2000}}
   |                     ^
   = write `1%` or `100%`
",
    );
    check(
        &mistake(CANARY, "no_data: hold", "min_coverage: 1"),
        r"
flights.yaml:19:92: spec.decide.min_coverage: `1` can be read as 1% or as 100%
   |
19 |   decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, min_coverage: 1}
   |                                                                                            ^
   = write `1%` or `100%`
",
    );
}

#[test]
fn a_share_that_says_which_it_is() {
    for right in ["1%", "100%", "0.999", "\"1%\""] {
        let spec = CANARY.replace("share: 50%", &format!("share: {right}"));
        let spec = spec.replace("share: 5%", "share: 0").replace("share: 25%", "share: 0%");
        let read = load("flights.yaml", &spec);
        assert!(read.is_ok(), "{right}: {}", read.expect_err("it was not read"));
    }
}

#[test]
fn a_margin_that_is_one() {
    check(
        &mistake(CANARY, "margin: 20%", "margin: 1"),
        r"
flights.yaml:17:63: spec.metrics[2].margin: `1` can be read as 1% or as 100%
   |
17 |     - {name: latency, kind: latency, role: guardrail, margin: 1}
   |                                                               ^
   = write `1%` or `100%`
",
    );
    check(
        &mistake(CANARY, "margin: 0.5%", "margin: 1"),
        r"
flights.yaml:16:69: spec.metrics[1].margin: `1` can be read as 1% or as 100%
   |
16 |     - {name: errors, kind: response_error, role: guardrail, margin: 1}
   |                                                                     ^
   = write `1%` or `100%`
",
    );
    check(
        &mistake(CANARY, "margin: 0.5%", "margin: 2"),
        r"
flights.yaml:16:69: spec.metrics[1].margin: `2` is no fraction of a rate
   |
16 |     - {name: errors, kind: response_error, role: guardrail, margin: 2}
   |                                                                     ^
   = write percentage points: `2%`, or a number such as `0.005`
",
    );
}
