//! The acceptance protocol with few worlds, and the command `simulate`.

use std::process::Command;

use serde_json::Value;
use serinus_core::simulate::acceptance::{Expected, check, scenarios};
use serinus_core::simulate::survey::Ending;

/// The scenarios of this test; `serinus simulate --acceptance` runs all of them.
const CHOSEN: [&str; 17] = [
    "T1",
    "T2",
    "T5",
    "T8",
    "canary at the limit",
    "the same",
    "the margin",
    "late labels",
    "recall at the limit",
    "f1 A/A",
    "auc A/A",
    "auc at the limit",
    "500 users",
    "clean",
    "nearly clean",
    "clean at the limit",
    "such users at the limit",
];

#[test]
fn the_acceptance_protocol_holds_on_a_tenth_of_its_worlds() {
    let mut seen = 0;
    let all = scenarios().expect("the file is right");
    for scenario in all.into_iter().filter(|s| CHOSEN.contains(&s.name.as_str())) {
        seen += 1;
        let it = check(scenario, true, 11).expect("its spec is right");
        assert!(it.within, "{}: {:?}, median {:?}, seed 11", it.scenario.name, it.rates, it.median);
    }
    assert_eq!(seen, CHOSEN.len(), "every scenario is there");
}

#[test]
fn the_protocol_would_notice_a_test_that_errs() {
    // A candidate that is twice as bad must fail the checks for a healthy one; otherwise the checks are vacuous.
    let all = scenarios().expect("the file is right");
    let mut scenario = all.into_iter().find(|s| s.name == "T4").expect("it is there");
    scenario.expected = Expected::AtMost { at_most: 0.05, of: vec![Ending::Aborted] };
    let it = check(scenario, true, 11).expect("its spec is right");
    assert!(!it.within && it.rates[0].1 > 0.9, "{:?}", it.rates);
}

#[test]
fn what_is_forecast_is_what_worlds_show() {
    let spec = "
apiVersion: serinus/v1
kind: Rollout
metadata: {name: r}
spec:
  model: m
  candidates: [v2]
  strategy: canary
  stages: [{share: 10%, hold: 10m}, {share: 50%, hold: 10m}]
  metrics: [{kind: error_rate, prediction: json:/p, label: json:/y, role: goal, margin: 0.02, base: 0.1}]
  labels: {maturity: 2m}
  decide: {alpha: 0.05, by: 12h}
";
    let file = crate::kit::process::folder("simulate").join("forecast.yaml");
    std::fs::write(&file, spec).expect("the spec can be written");
    let run = |args: &[&str]| -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_serinus"))
            .args(args)
            .arg(&file)
            .args(["--traffic", "5", "-o", "json"])
            .output()
            .expect("it runs");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    let planned = run(&["plan"]);
    let end = &planned["rollouts"][0]["stages"][1]["left_after_ms"];
    let worlds = run(&["simulate", "--worlds", "200", "--effect", "error_rate=0"]);
    let found = &worlds["scenarios"][0];
    assert!(found["promoted"]["rate"].as_f64() > Some(0.9), "{found}");
    for (planned, found) in
        [(&end["p50"], &found["after_ms"]["p50"]), (&end["p80"], &found["after_ms"]["p90"])]
    {
        let (planned, found) = (planned.as_f64().expect("a time"), found.as_f64().expect("a time"));
        let ratio = planned / found;
        assert!((0.6..1.4).contains(&ratio), "planned {planned} ms, found {found} ms");
    }
}

#[test]
fn a_spec_is_simulated_and_the_same_seed_says_the_same() {
    let run = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_serinus"))
            .args(["simulate", "examples/canary.yaml", "--worlds", "8", "-o", "json"])
            .args(["--traffic", "1", "--for", "2d", "--looks", "40"])
            .args(more)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let once = run(&[]);
    assert_eq!(once, run(&[]), "the same seed, the same worlds");
    // Halfway to the margin the outcome is random.
    let chance = |seed| run(&["--effect", "brier=0.005", "--seed", seed])["scenarios"].clone();
    assert_ne!(chance("1"), chance("2"), "another seed, other worlds");
    let names: Vec<&str> = once["scenarios"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|a| a["name"].as_str())
        .collect();
    assert_eq!(names[..4], ["A/A", "better by the mde", "at the limit", "worse by twice that"]);
    for it in once["scenarios"].as_array().expect("a list") {
        let rates = ["promoted", "aborted", "inconclusive", "undecided"]
            .map(|ending| it[ending]["rate"].as_f64().expect("a rate"));
        assert!((rates.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{it}");
    }
    let worse = run(&["--effect", "brier=0.2"]);
    assert!(worse["scenarios"][0]["aborted"]["rate"].as_f64() > Some(0.9), "{worse}");
}
