//! Which settings of topics are mismatches, and what several models want of one topic.

use std::collections::BTreeMap;

use super::{Found, ModelNeeds, RequiredTopic, mismatches, topics_of_app, topics_of_model};
use crate::kafka::client::topic_requirements::{Requirement, split_by_severity};
use serinus_core::spec::plan::{Document, load};

fn check(partitions: i32, settings: &[(&str, &str)], wanted: &RequiredTopic, expected: &[&str]) {
    let partitions = BTreeMap::from([(wanted.name.clone(), partitions)]);
    let values =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let found = Found::from([(wanted.name.clone(), values)]);
    let wrong: Vec<String> = mismatches(std::slice::from_ref(wanted), &partitions, &found)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(wrong, expected);
}

#[test]
fn a_mismatch_names_topic_setting_found_and_wanted() {
    let [_, rollouts, _, _, events, _] = &topics_of_app("a")[..] else { panic!("six topics") };
    check(1, &[("cleanup.policy", "compact")], rollouts, &[]);
    check(
        3,
        &[("cleanup.policy", "delete")],
        rollouts,
        &[
            "topic `a.rollouts`: partitions is 3, wanted 1",
            "topic `a.rollouts`: cleanup.policy is delete, wanted compact",
        ],
    );
    check(3, &[("cleanup.policy", "delete"), ("retention.ms", "-1")], events, &[]);
    let none = mismatches(std::slice::from_ref(events), &BTreeMap::new(), &Found::new());
    assert_eq!(
        none[0].to_string(),
        "topic `a.rollout-events`: topic is missing, wanted 1 or more partitions"
    );
}

#[test]
fn retention_that_loses_what_is_still_needed_is_a_mismatch() {
    let wanted = topics_of_app("a");
    let find = |name: &str| wanted.iter().find(|w| w.name == name).expect("it is wanted");
    let defaults = [("cleanup.policy", "delete"), ("retention.ms", "604800000")];
    check(
        1,
        &[defaults[0], defaults[1], ("retention.bytes", "1073741824")],
        find("a.rollout-events"),
        &[
            "topic `a.rollout-events`: retention.ms is 604800000, wanted -1",
            "topic `a.rollout-events`: retention.bytes is 1073741824, wanted -1",
        ],
    );
    let commands = find("a.commands");
    let line = "topic `a.commands`: retention.ms is 604800000, wanted -1";
    check(1, &defaults, commands, &[line]);
    let found = Found::from([(
        commands.name.clone(),
        defaults.iter().map(|d| (d.0.to_owned(), d.1.to_owned())).collect(),
    )]);
    let there = BTreeMap::from([(commands.name.clone(), 1)]);
    let (stops, warns) =
        split_by_severity(mismatches(std::slice::from_ref(commands), &there, &found));
    assert_eq!((stops.len(), warns.len()), (0, 1), "commands of a week ago are no loss");
}

#[test]
fn what_a_model_needs_is_kept_as_long_as_its_cases_are_open() {
    let text = "{apiVersion: serinus/v1, kind: Model, metadata: {name: m}, \
                spec: {stable: v1, timeout: 30s, shadowTimeout: 2d}}";
    let documents = load("it", text).expect("the spec is right");
    let [Document::Model(plan, _)] = &documents[..] else { panic!("one model") };
    let needs =
        ModelNeeds { versions: std::slice::from_ref(&plan.stable), ..ModelNeeds::default() };
    let wanted = topics_of_model("a", plan, &needs);
    let settings = [("cleanup.policy", "delete"), ("retention.ms", "86400000")];
    for topic in ["m.requests", "m.v1.requests", "m.responses", "a.internal.m.journal"] {
        let it = wanted.iter().find(|w| w.name == topic).expect("it is wanted");
        let line = format!(
            "topic `{topic}`: retention.ms is 86400000, wanted -1, or 172860000 (2d1m) or more"
        );
        check(plan.partitions, &settings, it, &[&line]);
    }
    let compacted = [("cleanup.policy", "compact"), ("retention.ms", "-1")];
    let requests = wanted.iter().find(|w| w.name == "m.requests").expect("it is wanted");
    let line = "topic `m.requests`: cleanup.policy is compact, wanted delete";
    check(plan.partitions, &compacted, requests, &[line]);
}

#[test]
fn what_several_models_want_of_one_topic_is_put_together() {
    use super::{Partitions, Requirement, Span, merged};
    let labels = |partitions, kept| {
        let demand = Requirement::AtLeast(Span::seconds(kept));
        RequiredTopic::new("labels", Partitions::AtLeast(partitions)).with(
            "retention.ms",
            "-1",
            demand,
        )
    };
    let both = merged(vec![labels(4, 60), labels(8, 30)]).expect("they go together");
    assert_eq!(both, [labels(8, 60)]);
    let exactly = |count| RequiredTopic::new("labels", Partitions::Exactly(count));
    assert_eq!(
        merged(vec![exactly(4), exactly(8)]).expect_err("they do not"),
        "topic `labels` is wanted twice, with partitions 4 and with partitions 8"
    );
    let policy = |policy| exactly(4).with("cleanup.policy", policy, Requirement::Equal);
    assert_eq!(
        merged(vec![policy("compact"), policy("delete")]).expect_err("they do not"),
        "topic `labels` is wanted twice, with cleanup.policy compact and with cleanup.policy delete"
    );
}

#[test]
fn what_is_joined_must_be_kept_as_long_as_it_is_joined() {
    let labels = RequiredTopic::new("labels", super::Partitions::AtLeast(1)).with(
        "retention.ms",
        "-1",
        Requirement::AtLeast(super::Span::seconds(3600)),
    );
    check(2, &[("retention.ms", "-1")], &labels, &[]);
    check(2, &[("retention.ms", "3600000")], &labels, &[]);
    check(
        2,
        &[("retention.ms", "60000")],
        &labels,
        &["topic `labels`: retention.ms is 60000, wanted -1, or 3600000 (1h) or more"],
    );
}
