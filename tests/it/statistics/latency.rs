//! Latency thresholds: frozen after a cold start, frozen again if they are far off and in each stage, and valid throughout.

use std::cell::Cell;

use serinus_core::domain::time::Timestamp;
use serinus_core::engine::judge::command::{Parsed, Verb};
use serinus_core::evidence::design::{Block, Thresholds};

use crate::scenarios::plans;
use crate::statistics::world::{Answer, World};

/// Starts a rollout of v2 with a latency metric.
fn world(stages: &[&str]) -> World {
    let mut world = World::new("m", 1);
    let spec = Parsed::Model(Box::new(plans::model("m", "v1")));
    world.command(Verb::Apply, None, Some(spec), None);
    let mut plan = plans::rollout("m", "r", "canary", &["v2"]);
    for line in stages.iter().chain(&["metric p latency guardrail margin=50%"]) {
        plans::line(&mut plan, &line.split_whitespace().collect::<Vec<_>>());
    }
    let spec = Parsed::Rollout(Box::new(plans::written(plan, "r")));
    world.command(Verb::Apply, Some("r"), Some(spec), None);
    world
}

/// Answers `requests`, twenty per second, until the rollout is over; returns its last thresholds.
///
/// `latency_ms` receives the version and the number of its answers so far.
fn answer(
    world: &mut World,
    requests: std::ops::Range<u64>,
    latency_ms: impl Fn(&str, u64) -> i64,
) -> Vec<Thresholds> {
    let (of_stable, of_candidate) = (Cell::new(0), Cell::new(0));
    let mut thresholds = Vec::new();
    for n in requests {
        if n.is_multiple_of(20) {
            world.wait_until(Timestamp(world.now.0 + 1000));
        }
        if !world.state().position.phase.is_open() {
            break;
        }
        if let Some(frozen) = world.rollout().design.thresholds.get("p") {
            thresholds.clone_from(frozen);
        }
        let id = format!("q{n}");
        world.case(&id, &id, |version| {
            let count = if version.as_str() == "v1" { &of_stable } else { &of_candidate };
            count.set(count.get() + 1);
            // A spread of a quarter, drawn independently.
            let luck =
                i64::try_from(xxhash_rust::xxh3::xxh3_64(id.as_bytes()) % 51).expect("small");
            let ms = latency_ms(version.as_str(), count.get());
            Answer::After(0.5, ms + ms * (luck - 25) / 100)
        });
    }
    thresholds
}

fn actions(world: &World) -> Vec<&'static str> {
    world.changes.iter().map(|c| c.action.word()).collect()
}

/// Returns the median of each set of thresholds, in order.
fn medians(thresholds: &[Thresholds]) -> Vec<f64> {
    thresholds.iter().map(|t| t.latency_ms[0]).collect()
}

#[test]
fn a_candidate_ten_times_slower_is_found_although_the_stable_version_began_cold() {
    let mut world = world(&["stage share=50% hold=10h"]);
    let thresholds = answer(&mut world, 0..20_000, |version, n| match version {
        "v1" if n <= 200 => 2_000,
        "v1" => 20,
        _ => 200,
    });
    assert_eq!(actions(&world), ["apply", "apply", "abort"], "{:?}", world.report);
    let reason = &world.changes[2].reason;
    assert!(reason.contains('p'), "{reason}");
    let medians = medians(&thresholds);
    assert!(medians[0] > 1_000.0 && medians.last().is_some_and(|m| *m < 30.0), "{medians:?}");
}

#[test]
fn a_candidate_as_fast_is_promoted_after_a_cold_start_of_both() {
    let mut world = world(&["stage share=50% hold=1m"]);
    answer(&mut world, 0..20_000, |_, n| if n <= 200 { 2_000 } else { 20 });
    assert_eq!(actions(&world), ["apply", "apply", "promote"], "{:?}", world.report);
}

#[test]
fn a_stage_has_thresholds_of_its_own_and_earlier_blocks_keep_theirs() {
    let mut world = world(&["stage share=20% hold=2m", "stage share=50% hold=10h"]);
    let before = answer(&mut world, 0..8_000, |_, _| 20).len();
    assert_eq!(actions(&world), ["apply", "apply", "advance"]);
    // Higher load: both are ten times slower, and the candidate even slower at the end.
    let blocks = answer(&mut world, 8_000..16_000, |_, _| 200);
    assert_eq!(actions(&world).len(), 3, "{:?}", world.report);
    assert!(blocks.len() > before, "{:?}", medians(&blocks));
    let (last, earlier) = blocks.split_last().expect("some");
    assert!(last.latency_ms[0] > 100.0 && matches!(last.block, Block::Open { .. }), "{last:?}");
    for it in earlier {
        let Block::Closed(counted) = &it.block else { panic!("only the last is open: {it:?}") };
        assert!(counted.values().all(|c| c.n > 0));
    }
    assert!(earlier[0].latency_ms[0] < 30.0, "{:?}", medians(&blocks));
    let slow = |version: &str, _| if version == "v1" { 200 } else { 700 };
    answer(&mut world, 16_000..22_000, slow);
    assert_eq!(actions(&world)[3..], ["abort"], "{:?}", world.report);
}

#[test]
fn thresholds_that_are_not_off_are_kept_until_ten_times_as_many_answers_came() {
    let mut world = world(&["stage share=50% hold=10h"]);
    assert_eq!(answer(&mut world, 0..3_000, |_, _| 20).len(), 1);
    assert_eq!(answer(&mut world, 3_000..7_000, |_, _| 20).len(), 2);
}
