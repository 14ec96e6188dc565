//! Costs of deciding: an interim analysis of a large rollout, and a labelled row. Prints both, with generous bounds.

use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;

use serde_json::json;

use serinus_core::domain::assignment;
use serinus_core::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
use serinus_core::domain::ids::{CaseId, Revision, StageIndex, Version};
use serinus_core::domain::routing::{Role, Routing};
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::accumulator::{EvidenceAccumulator, Watch};
use serinus_core::engine::analyst::score::Truth;
use serinus_core::evidence::sums::Evidence;
use serinus_core::inference::bet_cache::BetCache;
use serinus_core::inference::input::{AnalysisInput, Detail};
use serinus_core::inference::interim::analyze;
use serinus_core::inference::planning;
use serinus_core::plan::rollout::RolloutPlan;

use crate::kit::clock::Stopwatch;
use crate::scenarios::plans::{self, MIDNIGHT};

const STAGES: u32 = 6;
const CASES_A_STAGE: usize = 5_000;
const LOOKS: usize = 50;

fn plan(metrics: &[&str]) -> RolloutPlan {
    let mut plan = plans::rollout("m", "r", "canary", &["v2", "v3", "v4"]);
    let stages = (1..=STAGES).map(|s| format!("stage share={}%", 5 * s));
    let metrics = metrics.iter().map(|m| format!("metric {m}"));
    for line in stages.chain(metrics).chain(["labels maturity=1m".to_owned()]) {
        plans::line(&mut plan, &line.split_whitespace().collect::<Vec<_>>());
    }
    plan
}

/// Cases of every stage, as in the prediction log.
fn cases(plan: &RolloutPlan) -> Vec<Prediction> {
    let model = plans::model("m", "v1").plan;
    let mut cases = Vec::new();
    for stage in (0..STAGES).map(StageIndex) {
        let routing = Routing {
            rollout: Some("r".into()),
            salt: "salt".into(),
            slices: plan.slices(stage),
            stage,
            ..model.at_rest("v1".into(), Revision(2))
        };
        for n in 0..CASES_A_STAGE {
            let id = format!("{stage:?}-{n}");
            let route = assignment::route(&routing, id.as_bytes());
            let score = (n * 7919 % 101) as f64 / 101.0;
            cases.push(Prediction {
                case: CaseId { partition: 0, offset: i64::try_from(cases.len()).expect("small") },
                request_id: id.as_str().into(),
                rollout: Some("r".into()),
                revision: Revision(2),
                stage,
                unit: Some(Arc::from(id.as_bytes())),
                segments: Arc::default(),
                arm: route.serve.version.clone(),
                propensity: route.serve.propensity,
                served: Some(route.serve.version.clone()),
                outcome: Outcome::Ok,
                requested_at: MIDNIGHT,
                routed_at: MIDNIGHT,
                served_at: MIDNIGHT,
                answers: vec![CaseAnswer {
                    version: route.serve.version,
                    role: Role::Serve,
                    status: AnswerStatus::Ok,
                    latency: Some(Span(5 + i64::try_from(n % 40).expect("small"))),
                    value: Some(Arc::from(json!({"score": score}).to_string().into_bytes())),
                    error: None,
                }],
            });
        }
    }
    cases
}

/// Returns the sums of all cases, and the number of labelled rows per second.
fn sums(plan: &RolloutPlan) -> (Evidence, f64) {
    let cases = cases(plan);
    let watch = Watch { partition: 0, partitions: 1, oldest: Timestamp::MIN };
    let mut book =
        EvidenceAccumulator::new(Arc::new(plan.clone()), planning::initial(plan), "v1".into());
    for it in &cases {
        book.respond(it, watch);
    }
    let labels = [json!({"late": 0}), json!({"late": 1})];
    let clock = Stopwatch::start();
    for (n, case) in cases.iter().enumerate() {
        let truth = Truth::Known(&labels[usize::from(n % 5 == 0)]);
        black_box(book.mature(case, truth, [true, true]));
    }
    let rows = clock.per_second(cases.len());
    (book.sums().clone(), rows)
}

const FIVE: [&str; 5] = [
    "accuracy accuracy goal",
    "brier brier guardrail",
    "auc auc guardrail",
    "errors response_error guardrail",
    "latency latency guardrail margin=20%",
];

#[test]
fn a_look_and_a_labelled_row_cost_little() {
    let plan = plan(&FIVE);
    let (evidence, rows) = sums(&plan);
    let (_, binary_rows) = sums(&self::plan(&["accuracy accuracy goal"]));
    let design = planning::initial(&plan);
    let bets = BetCache::default();
    let stable = Version::from("v1");
    let look_at = |detail| {
        let sight = AnalysisInput {
            plan: &plan,
            design: &design,
            evidence: &evidence,
            stage: StageIndex(STAGES - 1),
            stable: &stable,
            live: &plan.candidates,
            tick: MIDNIGHT + Span::seconds(60),
            entered_at: Some(MIDNIGHT),
            lag: 0,
            unplanned: 0,
            is_approved: false,
            bets: &bets,
            detail,
        };
        let findings = analyze(&sight).findings;
        assert!(findings.iter().all(|f| f.n_min > 100), "each metric of each arm was compared");
        assert_eq!(
            findings.len(),
            FIVE.len() * plan.candidates.len(),
            "five metrics, three candidates"
        );
    };
    let per_second = |detail| {
        look_at(detail);
        let clock = Stopwatch::start();
        (0..LOOKS).for_each(|_| look_at(detail));
        clock.per_second(LOOKS)
    };
    let (full, verdict) = (per_second(Detail::Full), per_second(Detail::Verdict));
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    writeln!(
        std::io::stderr(),
        "costs ({build} build): a look at 5 metrics, 4 arms, 6 stages {:.2} ms with \
         everything published, {:.2} ms for the verdict alone; a labelled row {:.2} us with 5 metrics, {:.2} us with one binary metric",
        1e3 / full,
        1e3 / verdict,
        1e6 / rows,
        1e6 / binary_rows
    )
    .expect("stderr can be written");
    assert!(full > 5.0, "a look takes {} ms", 1e3 / full);
    assert!(rows > 5_000.0, "a labelled row takes {} us", 1e6 / rows);
}
