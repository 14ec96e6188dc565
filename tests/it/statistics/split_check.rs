//! The sample ratio check: losses that begin late, units that occur once, units that return, and one unit with most of the traffic.

use serinus_core::domain::time::Timestamp;
use serinus_core::engine::judge::command::{Parsed, Verb};
use serinus_core::inference::verdict::Health;

use crate::scenarios::plans;
use crate::statistics::world::{Answer, World};

/// One request: its unit, and whether the candidate would lose its answer.
struct Request {
    unit: String,
    is_lost: bool,
}

/// Sends a hundred requests per second through half a canary over `partitions`; returns the final checks.
fn health(partitions: i32, requests: impl Iterator<Item = Request>) -> Health {
    let mut world = World::new("m", partitions);
    let spec = Parsed::Model(Box::new(plans::model("m", "v1")));
    world.command(Verb::Apply, None, Some(spec), None);
    let mut plan = plans::rollout("m", "r", "canary", &["v2"]);
    for line in ["stage share=50% hold=10h", "metric p latency guardrail margin=50%"] {
        plans::line(&mut plan, &line.split_whitespace().collect::<Vec<_>>());
    }
    let spec = Parsed::Rollout(Box::new(plans::written(plan, "r")));
    world.command(Verb::Apply, Some("r"), Some(spec), None);
    for (n, request) in requests.enumerate() {
        if n.is_multiple_of(100) {
            world.wait_until(Timestamp(world.now.0 + 1000));
        }
        // The n-th id in a spread sequence, so that every partition gets ids.
        world.case(&format!("q{n}"), &request.unit, |version| {
            if request.is_lost && version.as_str() == "v2" {
                Answer::Nothing
            } else {
                Answer::Score(0.5)
            }
        });
    }
    world.wait_until(Timestamp(world.now.0 + 30_000));
    world.report.expect("ticks were judged").health
}

fn assert_units_are_lost(health: &Health) {
    let [assigned, answered, _] = &health.split.points;
    assert!(assigned.is_ok, "the assignment is as planned: {:?}", health.split);
    assert!(!answered.is_ok, "answers of v2 are missing: {:?}", health.split);
}

#[test]
fn answers_lost_from_the_1025th_request_on_are_found_where_units_come_once() {
    let requests = (0..50_000_u64).map(|n| Request {
        // Without a key the unit is the request id.
        unit: format!("q{n}"),
        is_lost: n >= 1_024 && n % 20 == 7,
    });
    assert_units_are_lost(&health(1, requests));
}

#[test]
fn answers_lost_late_are_found_over_several_partitions() {
    let requests = (0..50_000_u64)
        .map(|n| Request { unit: format!("order-{n}"), is_lost: n >= 8_000 && n % 20 == 7 });
    assert_units_are_lost(&health(4, requests));
}

#[test]
fn units_that_begin_late_and_are_lost_are_found_where_units_come_again() {
    // Three requests per user; after 1,024 users a third of them never get an answer from v2.
    let requests = (0..45_000_u64).map(|n| {
        let user = n / 150 * 50 + n % 50;
        Request { unit: format!("user-{user}"), is_lost: user >= 1_024 && user % 3 == 1 }
    });
    assert_units_are_lost(&health(1, requests));
}

#[test]
fn a_few_answers_lost_at_a_start_hold_nothing() {
    let requests = (0..20_000_u64)
        .map(|n| Request { unit: format!("q{n}"), is_lost: (200..300).contains(&n) });
    let health = health(1, requests);
    assert!(health.split.all.is_ok, "{:?}", health.split);
}

#[test]
fn a_right_split_holds_nothing_however_units_come() {
    // Once; three times; few users with many requests; and one user with a third of the other traffic.
    let units: [fn(u64) -> String; 4] = [
        |n| format!("q{n}"),
        |n| format!("user-{}", n / 150 * 50 + n % 50),
        |n| format!("user-{}", n % 37),
        |n| if n % 3 == 0 { "robot".to_owned() } else { format!("q{n}") },
    ];
    for unit in units {
        let requests = (0..12_000_u64).map(|n| Request { unit: unit(n), is_lost: false });
        let health = health(2, requests);
        assert!(health.split.all.is_ok, "{}: {:?}", unit(3), health.split);
        assert_eq!(health.mixed_units, 0);
    }
}
