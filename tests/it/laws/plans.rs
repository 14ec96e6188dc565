//! Laws of plan changes: every case is counted, regardless of what changes the routing and when lanes learn of it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use serinus_core::domain::ids::{RolloutName, Version};
use serinus_core::domain::label::Label;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::judge::command::{Parsed, Verb, Written};
use serinus_core::plan::rollout::ModelPlan;

use crate::scenarios::plans;
use crate::statistics::world::{Answer, World};

const MODEL: &str = "m";
const NAMES: [&str; 4] = ["c", "d", "e", "f"];

/// One step.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Requests, a second apart, with labels; the second of these versions may fail.
    Cases { n: u8, fails: bool },
    /// The model is applied with this deadline.
    Model { timeout_ms: i64 },
    /// The rollout with this number is applied: another name, other candidates, another conflict rule.
    Rollout { which: usize },
    /// An operator command on the rollout with this number.
    Steer { verb: Verb, which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let verbs = [Verb::Pause, Verb::Resume, Verb::Promote, Verb::PromoteFull, Verb::Abort];
    prop_oneof![
        4 => (1_u8..20, prop::bool::weighted(0.2)).prop_map(|(n, fails)| Step::Cases { n, fails }),
        2 => (1_i64..4).prop_map(|p| Step::Model { timeout_ms: 100 * p }),
        1 => (0..NAMES.len()).prop_map(|which| Step::Rollout { which }),
        2 => (prop::sample::select(verbs.to_vec()), 0..NAMES.len())
            .prop_map(|(verb, which)| Step::Steer { verb, which }),
    ]
}

fn model(timeout_ms: i64) -> Parsed {
    let plan = ModelPlan { timeout: Span(timeout_ms), ..plans::model(MODEL, "v1").plan };
    Parsed::Model(Box::new(Written { plan, document: json!({"timeout": timeout_ms}) }))
}

/// The first is refused during another rollout, the second waits for it, the third replaces it.
fn rollout(which: usize) -> Parsed {
    let name = NAMES[which];
    let candidates = [["v2", "v3"], ["v4", "v5"], ["v2", "v3"], ["v3", "v4"]][which];
    let [first, second] = candidates;
    let mut plan = plans::rollout(MODEL, name, "canary", &candidates);
    let stages = [
        format!("stage share={first}:30%,{second}:20% shadow=v1:50%"),
        format!("stage share={first}:40%,{second}:40%"),
    ];
    let conflict = ["conflict replace", "conflict queue", "tick 5s", "conflict queue"][which];
    for line in [
        stages[0].as_str(),
        stages[1].as_str(),
        "metric accuracy accuracy goal margin=30%",
        "metric brier brier guardrail margin=30%",
        "metric errors response_error guardrail margin=20%",
        "labels maturity=4s keep=6s",
        "tick 2s",
        conflict,
    ] {
        plans::line(&mut plan, &line.split(' ').collect::<Vec<_>>());
    }
    Parsed::Rollout(Box::new(plans::written(plan, name)))
}

/// The result of a history.
struct Came {
    world: World,
    cases: usize,
    /// For each rollout, the number of asks of each version while it was in routing.
    asked: BTreeMap<(RolloutName, Version), u64>,
}

fn run(steps: &[Step], hears_after: Span) -> Came {
    let mut world = World::new(MODEL, 2);
    world.hears_after = hears_after;
    world.command(Verb::Apply, None, Some(model(500)), None);
    world.command(Verb::Apply, Some("c"), Some(rollout(0)), None);
    let mut came = Came { world, cases: 0, asked: BTreeMap::new() };
    for step in steps {
        match *step {
            Step::Cases { n, fails } => (0..n).for_each(|_| came.case(fails)),
            Step::Model { timeout_ms } => {
                came.world.command(Verb::Apply, None, Some(model(timeout_ms)), None);
            }
            Step::Rollout { which } => {
                let spec = Some(rollout(which));
                came.world.command(Verb::Apply, Some(NAMES[which]), spec, None);
            }
            Step::Steer { verb, which } => {
                came.world.command(verb, Some(NAMES[which]), None, None);
            }
        }
    }
    let end = came.world.now + Span::seconds(60);
    came.world.wait_until(end);
    came
}

impl Came {
    fn case(&mut self, fails: bool) {
        self.cases += 1;
        let id = format!("id{}", self.cases);
        let world = &mut self.world;
        world.wait_until(Timestamp(world.now.0 + 1000));
        let routing = world.routing().clone();
        let route = world.route(&id);
        if let Some(rollout) = routing.rollout {
            for version in std::iter::once(&route.serve.version).chain(&route.shadows) {
                *self.asked.entry((rollout.clone(), version.clone())).or_default() += 1;
            }
        }
        world.case(&id, &id, |version| match version.as_str() {
            "v3" if fails => Answer::Error,
            _ => Answer::Score(0.9),
        });
        world.label(Label {
            request_id: id.as_str().into(),
            value: json!({"late": 1}),
            observed_at: world.now,
            version: 1,
            retract: false,
        });
    }

    fn check(&self) {
        assert_eq!(self.world.unplanned, 0, "cases were joined without their plan");
        assert_eq!(self.world.rows.len(), self.cases, "each case has its row");
        assert_eq!(self.world.counted(), self.asked, "the evidence counts every ask");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_case_counts_whatever_changes_the_routing(
        steps in prop::collection::vec(step(), 1..20),
        hears_after_ms in prop_oneof![Just(0_i64), 0_i64..9_000],
    ) {
        run(&steps, Span(hears_after_ms)).check();
    }
}

#[test]
fn rows_and_evidence_go_on_after_a_model_is_applied_while_a_rollout_runs() {
    let cases = |n| Step::Cases { n, fails: false };
    run(&[cases(40), Step::Model { timeout_ms: 900 }, cases(120)], Span::ZERO).check();
}

#[test]
fn a_rollout_that_waited_is_compared_with_the_version_that_is_stable_when_it_begins() {
    let steps = [
        Step::Rollout { which: 1 },
        Step::Cases { n: 20, fails: false },
        Step::Steer { verb: Verb::PromoteFull, which: 0 },
        Step::Cases { n: 255, fails: false },
    ];
    let came = run(&steps, Span::ZERO);
    came.check();
    let report = came.world.report.as_ref().expect("a rollout runs");
    assert_eq!(report.rollout, "d".into());
    // All answers are equal: only bets on one arm alone could find a difference.
    let brier = report.findings.iter().filter(|f| f.metric.as_str() == "brier");
    let superior: Vec<_> = brier.filter_map(|b| b.log_e).map(|l| l.superior).collect();
    assert_eq!(superior.len(), 2, "two candidates are compared");
    assert!(superior.iter().all(|s| *s < 1.0), "{superior:?}");
}
