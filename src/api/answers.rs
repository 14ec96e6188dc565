//! The responses of the HTTP API: pure functions of the role states and the metrics.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use serde_json::{Value, json};

use crate::kafka::process::failpoints::Role;
use crate::kafka::process::liveness::{Activity, RoleStatus, Verdict, judge};
use crate::kafka::process::metrics::ValuesByModel;
use serinus_core::domain::ids::{ModelName, Version};
use serinus_core::engine::counter::Counter;

/// The states of an instance's roles.
pub type RoleStatuses = BTreeMap<Role, RoleStatus>;

/// Returns whether every role makes progress, and which do not.
pub fn livez(statuses: &RoleStatuses, now: Instant) -> (bool, Value) {
    let overdue: Vec<Value> = statuses
        .iter()
        .filter(|(_, status)| judge(status, now, status.seen) != Verdict::Alive)
        .map(|(role, status)| describe(role, status, now))
        .collect();
    (overdue.is_empty(), json!({ "live": overdue.is_empty(), "overdue": overdue }))
}

/// Returns whether every role is running and has restored its partitions, and the activity of each.
pub fn readyz(statuses: &RoleStatuses, now: Instant) -> (bool, Value) {
    let is_ready = !statuses.is_empty() && statuses.values().all(|v| v.is_ready);
    let roles: Vec<Value> =
        statuses.iter().map(|(role, status)| describe(role, status, now)).collect();
    (is_ready, json!({ "ready": is_ready, "roles": roles }))
}

fn describe(role: &str, status: &RoleStatus, now: Instant) -> Value {
    let ms = |since: Instant| {
        u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
    };
    let mut said = json!({
        "role": role,
        "ready": status.is_ready,
        "state": status.activity.word(),
        "doing": status.activity.words(),
        "since_ms": ms(status.since),
        "seen_ms": ms(status.seen),
        "begins": status.begins,
    });
    if let Activity::Restoring { topic, partition, done, total } = &status.activity {
        said["topic"] = json!(topic);
        said["partition"] = json!(partition);
        said["done"] = json!(done);
        said["total"] = json!(total);
    }
    said
}

/// The gauges with their help texts.
const LEVELS: [(&str, &str); 7] = [
    ("open_cases", "requests that are not closed yet"),
    ("serving_lanes", "partitions of requests that this instance serves"),
    ("serving_lanes_waiting", "assigned partitions of requests that are not served yet"),
    ("pending_cases", "predictions that wait for their labels"),
    ("analyst_lanes", "partitions of predictions that this instance joins"),
    ("analyst_lanes_waiting", "assigned partitions of predictions that are not joined yet"),
    (
        "cases_without_plan",
        "predictions that are in no evidence yet because the plan that routed them was not read",
    ),
];

/// Returns all counters, gauges, and role states in the text format of Prometheus, version 0.0.4.
///
/// The three kinds of lines need no library: names are ours, and a label's value is the name of a model or a role.
pub fn metrics(counts: &ValuesByModel, levels: &ValuesByModel, statuses: &RoleStatuses) -> String {
    let mut text = String::new();
    for counter in Counter::ALL {
        let (name, help) = counter.describe();
        let rows = rows_of(counts, name);
        family(&mut text, (&format!("serinus_{name}_total"), help, "counter"), "model", &rows);
    }
    for (name, help) in LEVELS {
        let rows = rows_of(levels, name);
        family(&mut text, (&format!("serinus_{name}"), help, "gauge"), "model", &rows);
    }
    let of_roles = |value: fn(&RoleStatus) -> u64| -> Vec<(String, u64)> {
        statuses.iter().map(|(role, status)| ((*role).to_owned(), value(status))).collect()
    };
    let ready = of_roles(|o| u64::from(o.is_ready));
    let help = "whether a role is running and has restored its partitions";
    family(&mut text, ("serinus_role_ready", help, "gauge"), "role", &ready);
    let begins = of_roles(|o| o.begins);
    let help = "number of starts of a role, including the first";
    family(&mut text, ("serinus_role_begins_total", help, "counter"), "role", &begins);
    text
}

/// Returns the number of rejected copies of requests by version, in the same format.
pub fn unsent(failed: &BTreeMap<(ModelName, Version), u64>) -> String {
    let mut text = String::new();
    if failed.is_empty() {
        return text;
    }
    let name = "serinus_forward_failed_total";
    let mut line = |s: String| {
        writeln!(text, "{s}").expect("a text takes what is written into it");
    };
    line(format!("# HELP {name} copies not sent because the version's topic rejected them"));
    line(format!("# TYPE {name} counter"));
    for ((model, version), n) in failed {
        let (model, version) = (escaped(model.as_str()), escaped(version.as_str()));
        line(format!("{name}{{model=\"{model}\",version=\"{version}\"}} {n}"));
    }
    text
}

/// Escapes the value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn rows_of(numbers: &ValuesByModel, wanted: &str) -> Vec<(String, u64)> {
    let is_wanted = |(key, _): &(&(_, &'static str), &u64)| key.1 == wanted;
    numbers.iter().filter(is_wanted).map(|((model, _), n)| (model.to_string(), *n)).collect()
}

fn family(
    text: &mut String,
    (name, help, kind): (&str, &str, &str),
    label: &str,
    rows: &[(String, u64)],
) {
    if rows.is_empty() {
        return;
    }
    let mut line = |s: String| {
        writeln!(text, "{s}").expect("a text takes what is written into it");
    };
    line(format!("# HELP {name} {help}"));
    line(format!("# TYPE {name} {kind}"));
    for (value, n) in rows {
        let value = escaped(value);
        line(format!("{name}{{{label}=\"{value}\"}} {n}"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{livez, metrics, readyz};
    use crate::kafka::process::liveness::Activity;
    use crate::kafka::process::metrics::MetricsRegistry;

    #[test]
    fn an_instance_is_ready_when_all_roles_are_and_says_how_far_a_restore_has_come() {
        let board = MetricsRegistry::default();
        let now = crate::kafka::process::clock::moment();
        assert!(!readyz(&board.liveness.read(), now).0, "nothing has begun");
        board.liveness.role("serving").report(Activity::Running);
        board.liveness.role("analysis").report(Activity::Restoring {
            topic: "m.predictions".to_owned(),
            partition: 3,
            done: 500,
            total: Some(2000),
        });
        let (is_ready, said) = readyz(&board.liveness.read(), now);
        assert!(!is_ready);
        assert_eq!(said["roles"][0]["doing"], "restoring from m.predictions[3]: 500 of 2000");
        assert_eq!(
            (&said["roles"][0]["done"], &said["roles"][0]["total"]),
            (&500.into(), &2000.into())
        );
        board.liveness.role("analysis").report(Activity::Running);
        assert!(readyz(&board.liveness.read(), now).0);
        let later = now + Duration::from_secs(90);
        let (is_live, said) = livez(&board.liveness.read(), later);
        assert!(!is_live);
        assert_eq!(said["overdue"][0]["role"], "analysis");
    }

    #[test]
    fn copies_that_were_not_sent_are_told_by_version() {
        let board = MetricsRegistry::default();
        assert_eq!(super::unsent(&board.failed_forwards()), "");
        board.add_failed_forwards(&"m".into(), &"v2".into(), 2);
        board.add_failed_forwards(&"m".into(), &"v2".into(), 3);
        insta::assert_snapshot!(super::unsent(&board.failed_forwards()), @r#"
        # HELP serinus_forward_failed_total copies not sent because the version's topic rejected them
        # TYPE serinus_forward_failed_total counter
        serinus_forward_failed_total{model="m",version="v2"} 5
        "#);
    }

    #[test]
    fn metrics_are_told_as_prometheus_reads_them() {
        let board = MetricsRegistry::default();
        board.add(&"a\"b".into(), "requests", 7);
        board.set_gauges(&["open_cases"], [(("m".into(), "open_cases"), 3)].into());
        board.liveness.role("serving").report(Activity::Running);
        insta::assert_snapshot!(metrics(&board.counters(), &board.gauges(), &board.liveness.read()), @r#"
        # HELP serinus_requests_total requests routed
        # TYPE serinus_requests_total counter
        serinus_requests_total{model="a\"b"} 7
        # HELP serinus_open_cases requests that are not closed yet
        # TYPE serinus_open_cases gauge
        serinus_open_cases{model="m"} 3
        # HELP serinus_role_ready whether a role is running and has restored its partitions
        # TYPE serinus_role_ready gauge
        serinus_role_ready{role="serving"} 1
        # HELP serinus_role_begins_total number of starts of a role, including the first
        # TYPE serinus_role_begins_total counter
        serinus_role_begins_total{role="serving"} 0
        "#);
    }
}
