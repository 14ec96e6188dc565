//! Assignment is a function, and the same in every language: vectors made by another program, and its laws.

use proptest::prelude::*;
use serde_json::Value;
use serinus_core::domain::assignment::{arm, is_copied, point};
use serinus_core::domain::ids::{ModelName, Revision, RolloutName, Salt, StageIndex, Version};
use serinus_core::domain::routing::{OnFailure, Routing, ShadowShare, Slice};
use serinus_core::domain::share::Share;
use serinus_core::domain::time::Span;

/// Made by `assignment-vectors.py`, which knows nothing of this program.
const VECTORS: &str = include_str!("../../../schemas/assignment-vectors.json");

fn routing(salt: &str, slices: Vec<Slice>) -> Routing {
    Routing {
        model: ModelName::new("flights"),
        revision: Revision(1),
        rollout: Some(RolloutName::new("flights-v2")),
        stage: StageIndex(0),
        stable: Version::new("v1"),
        salt: Salt::new(salt),
        slices,
        shadows: Vec::new(),
        timeout: Span(500),
        shadow_timeout: Span(5000),
        on_failure: OnFailure::Stable,
        default: None,
    }
}

fn share(millionths: &Value) -> Share {
    let millionths = millionths.as_u64().and_then(|a| u32::try_from(a).ok());
    millionths.and_then(Share::from_millionths).expect("a share is given in millionths")
}

fn unhex(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("bytes are given in hexadecimal");
    let byte = |u: usize| u8::from_str_radix(&text[u..u + 2], 16).expect("two digits");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn list<'a>(of: &'a Value, name: &str) -> &'a Vec<Value> {
    of[name].as_array().unwrap_or_else(|| panic!("{name} is a list"))
}

#[test]
fn the_golden_vectors_hold() {
    let vectors: Value = serde_json::from_str(VECTORS).expect("it is JSON");
    let tables = list(&vectors, "tables");
    let mut checked = 0;
    for case in list(&vectors, "cases") {
        let (salt, unit) = (case["salt"].as_str().expect("text"), unhex(&case["unit_hex"]));
        let expected = case["point"].as_f64().expect("a number");
        assert_eq!(point(salt.as_bytes(), &unit).to_bits(), expected.to_bits(), "{case}");
        for (table, expected) in tables.iter().zip(list(case, "arms")) {
            let slices = list(table, "slices").iter().map(|t| Slice {
                version: Version::new(t["version"].as_str().expect("text")),
                width: share(&t["width"]),
                share: share(&t["share"]),
            });
            let routing = routing(salt, slices.collect());
            let found = arm(&routing, &unit);
            assert_eq!(found.version.as_str(), expected.as_str().expect("text"), "{table} {case}");
            assert!((found.propensity - routing.share_of(&found.version).fraction()).abs() < 1e-12);
            checked += 1;
        }
        for (shadow, expected) in list(&vectors, "shadows").iter().zip(list(case, "copied")) {
            let version = Version::new(shadow["version"].as_str().expect("text"));
            let shadow = ShadowShare { version, share: share(&shadow["share"]) };
            assert_eq!(
                is_copied(&Salt::new(salt), &shadow, &unit),
                expected.as_bool().expect("a truth")
            );
        }
    }
    assert!(checked >= 200, "only {checked} vectors were found");
}

/// Candidates with the widths of their slices, and two sets of shares within them.
fn ramp() -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
    proptest::collection::vec((0..=250_000_u32, 0..=100_u32, 0..=100_u32), 1..=4).prop_map(|all| {
        all.into_iter().map(|(width, a, b)| (width, width / 100 * a, width / 100 * b)).collect()
    })
}

fn slices(widths: &[(u32, u32)]) -> Vec<Slice> {
    let share = |u: u32| Share::from_millionths(u).expect("it is within its slice");
    widths
        .iter()
        .enumerate()
        .map(|(index, (width, now))| Slice {
            version: Version::new(format!("c{index}")),
            width: share(*width),
            share: share(*now),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_raised_share_only_moves_units_from_stable_to_that_candidate(
        ramp in ramp(), raised in 0..4_usize, to in 0..=100_u32, salt in ".{0,12}",
        unit in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let raised = raised % ramp.len();
        let before: Vec<(u32, u32)> = ramp.iter().map(|(width, share, _)| (*width, *share)).collect();
        let mut after = before.clone();
        after[raised].1 = after[raised].1.max(after[raised].0 / 100 * to);
        let was = arm(&routing(&salt, slices(&before)), &unit).version;
        let is = arm(&routing(&salt, slices(&after)), &unit).version;
        if was != is {
            prop_assert_eq!(was.as_str(), "v1");
            prop_assert_eq!(is.as_str(), format!("c{raised}"));
        }
    }

    #[test]
    fn no_unit_changes_between_candidates(
        ramp in ramp(), salt in "[a-z]{0,12}", unit in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let before: Vec<(u32, u32)> = ramp.iter().map(|(width, share, _)| (*width, *share)).collect();
        let after: Vec<(u32, u32)> = ramp.iter().map(|(width, _, share)| (*width, *share)).collect();
        let was = arm(&routing(&salt, slices(&before)), &unit).version;
        let is = arm(&routing(&salt, slices(&after)), &unit).version;
        prop_assert!(was == is || was.as_str() == "v1" || is.as_str() == "v1", "{} became {}", was, is);
    }

    #[test]
    fn the_propensity_is_the_share_of_the_arm(ramp in ramp(), unit in ".{0,8}") {
        let routing = routing("salt", slices(&ramp.iter().map(|(width, share, _)| (*width, *share)).collect::<Vec<_>>()));
        let arm = arm(&routing, unit.as_bytes());
        prop_assert!((arm.propensity - routing.share_of(&arm.version).fraction()).abs() < 1e-12);
        prop_assert!(arm.propensity > 0.0);
    }
}

#[test]
fn shares_are_kept_in_the_long_run() {
    let routing = routing("k3", slices(&[(200_000, 50_000), (300_000, 300_000)]));
    let n = 100_000;
    let mut counts = [0_u32; 3];
    for unit in 0..n {
        let index = match arm(&routing, format!("unit-{unit}").as_bytes()).version.as_str() {
            "c0" => 0,
            "c1" => 1,
            _ => 2,
        };
        counts[index] += 1;
    }
    for (count, expected) in counts.into_iter().zip([0.05, 0.3, 0.65]) {
        let deviation = (f64::from(count) / f64::from(n) - expected).abs();
        // Five standard errors: the units are fixed, so this either always holds or never.
        assert!(
            deviation < 5.0 * (expected * (1.0 - expected) / f64::from(n)).sqrt(),
            "{counts:?}"
        );
    }
}
