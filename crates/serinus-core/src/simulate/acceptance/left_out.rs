//! Missing answers and labels: they must never help a candidate, and their cost in power is measured.

use crate::simulate::acceptance::{
    Bounded, Expected, HARM_OR_BETTER, PROMOTED, Scenario, World, plain,
};
use crate::simulate::nature::Gaps;

const EQUAL: &str = "spec: {model: m, candidates: [v2], strategy: ab, stages: [{share: 50%}],
  metrics: [{name: brier, kind: brier, prediction: json:/p, label: json:/y, role: goal, mde: 0.02, base: 0.15}],
  labels: {maturity: 0s},
  decide: {promote: superior, alpha: 0.05, tick: 1s, min_labelled: 0}}";
const NO_WORSE: &str = "spec: {model: m, candidates: [v2], strategy: canary, stages: [{share: 50%}],
  metrics: [{name: brier, kind: brier, prediction: json:/p, label: json:/y, role: goal, margin: 0.02, abort: false}],
  labels: {maturity: 0s},
  decide: {promote: non_inferior, alpha: 0.05, tick: 1s, min_labelled: 0}}";
const EQUAL_RATES: &str = "spec: {model: m, candidates: [v2], strategy: ab, stages: [{share: 50%}],
  metrics: [{name: wrong, kind: error_rate, prediction: json:/p, label: json:/y, role: goal, mde: 0.02, base: 0.1}],
  labels: {maturity: 0s},
  decide: {promote: superior, alpha: 0.025, tick: 1s, min_labelled: 0}}";

/// Candidates with missing answers, and labels that are missing in one arm.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let requests = (100, 4_000);
    let quarter = Bounded { base: 0.25, variance: 0.0 };
    let with = |mut s: Scenario, bounded, gaps| {
        s.truth = World { bounded: Some(bounded), gaps, ..s.truth };
        s.worlds = 2_000;
        s
    };
    let answers = |answers| Gaps { answers, labels: 0.0 };
    let labels = Gaps { answers: 0.0, labels: 0.1 };
    let equal = |name, about, gaps| {
        let healthy = Expected::AtMost(0.05, PROMOTED);
        with(plain(name, about, EQUAL, requests, 0.0, healthy), quarter, gaps)
    };
    let no_worse = |name, about, gaps, expected| {
        let real = Bounded { base: 0.3, variance: 0.0139 };
        let it = plain(name, about, NO_WORSE, (50, 20_000), 0.0, expected);
        with(it, real, gaps)
    };
    let power = |rate, median| Expected::Power { rate, median, ending: PROMOTED };
    vec![
        equal("equal scores", "Brier 0.25 in both arms, planned for 0.15", answers(0.0)),
        equal(
            "2 % left out",
            "the same, the candidate leaves out 2 % of its answers",
            answers(0.02),
        ),
        equal("5 % left out", "the same, 5 %", answers(0.05)),
        equal("a third left out", "the same, a third", answers(0.33)),
        equal("labels left out", "the same, 10 % of the candidate's labels never come", labels),
        with(
            plain(
                "rates without labels",
                "30 % wrong in both arms, planned for 10 %, 10 % of the candidate's labels never come",
                EQUAL_RATES,
                (100, 20_000),
                0.0,
                Expected::AtMost(0.05, HARM_OR_BETTER),
            ),
            Bounded { base: 0.3, variance: 0.21 },
            labels,
        ),
        no_worse(
            "no worse",
            "equal models, Brier, margin 0.02",
            answers(0.0),
            power(1.0, Some(950)),
        ),
        no_worse(
            "no worse, 1 % left out",
            "the same, the candidate leaves out 1 % of its answers",
            answers(0.01),
            power(1.0, Some(2_700)),
        ),
        no_worse("no worse, 2 % left out", "the same, 2 %", answers(0.02), power(0.55, None)),
        no_worse(
            "no worse, 5 % left out",
            "the same, 5 %: never proved, whatever the rest shows",
            answers(0.05),
            Expected::AtMost(0.0, HARM_OR_BETTER),
        ),
    ]
}
