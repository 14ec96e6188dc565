//! Ownership of topics: two models, or two uses by one model, must not share a topic. Only label topics may be shared.

use std::collections::BTreeMap;
use std::fmt;

use crate::kafka::client::admin::{ModelNeeds, topics_of_app, topics_of_model};
use serinus_core::domain::ids::{ModelName, Version};
use serinus_core::engine::judge::command::Parsed;
use serinus_core::engine::judge::state::ModelState;
use serinus_core::plan::rollout::{ModelPlan, RolloutPlan};

/// The field of a model that names the topic of its labels.
const LABELS: &str = "labels";

/// A model with all versions that receive or will receive requests.
#[derive(Clone, Debug)]
pub struct TopicUser<'a> {
    /// The model's plan.
    pub plan: &'a ModelPlan,
    /// The versions.
    pub versions: Vec<Version>,
}

impl<'a> TopicUser<'a> {
    /// Returns a model with the versions of rollouts.
    pub fn new<'r>(
        plan: &'a ModelPlan,
        rollouts: impl IntoIterator<Item = &'r RolloutPlan>,
    ) -> Self {
        let mut user = Self { plan, versions: vec![plan.stable.clone()] };
        for rollout in rollouts {
            user.add(rollout.versions());
        }
        user
    }

    /// Returns a model in its current state: its stable version, and the versions of its last, current and queued rollouts.
    pub fn of_state(standing: &'a ModelState) -> Self {
        let rollouts = standing
            .rollout
            .iter()
            .map(|r| &r.written)
            .chain(standing.queue.iter().map(|q| &q.written));
        let mut user = Self::new(&standing.model.plan, rollouts.map(|written| &written.plan));
        let routing = &standing.position.routing;
        user.add([&routing.stable]);
        user.add(routing.slices.iter().map(|slice| &slice.version));
        user.add(routing.shadows.iter().map(|shadow| &shadow.version));
        user
    }

    /// Adds versions that are not in the list yet.
    pub fn add<'v>(&mut self, versions: impl IntoIterator<Item = &'v Version>) {
        for version in versions {
            if !self.versions.contains(version) {
                self.versions.push(version.clone());
            }
        }
    }
}

/// The use of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The model that uses it; `None` for the application itself.
    pub model: Option<ModelName>,
    /// The field of the spec that names the topic; `None` for topics that the application names.
    pub field: Option<&'static str>,
    /// The version that gets its requests from the topic, if any.
    pub version: Option<Version>,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.model, self.field, &self.version) {
            (Some(model), Some(field), Some(version)) => {
                write!(f, "`{field}` of version `{version}` of model `{model}`")
            }
            (Some(model), Some(field), None) => write!(f, "`{field}` of model `{model}`"),
            (Some(model), None, _) => write!(f, "a private topic of model `{model}`"),
            (None, ..) => f.write_str("a topic of the application itself"),
        }
    }
}

/// A topic with two conflicting uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The topic.
    pub topic: String,
    /// One use.
    pub one: Use,
    /// The other.
    pub other: Use,
}

/// How to resolve a conflict.
pub const HELP: &str = "give each its own; only `labels` may be shared";

impl Conflict {
    /// Returns a description of the conflict without `HELP`.
    pub fn problem(&self) -> String {
        let Self { topic, one, other } = self;
        format!("topic `{topic}` would be {one} and {other}")
    }

    /// Returns whether it concerns a model.
    pub fn concerns(&self, model: &ModelName) -> bool {
        [&self.one, &self.other].into_iter().any(|o| o.model.as_ref() == Some(model))
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {HELP}", self.problem())
    }
}

/// Returns why an applied document cannot use its topics, given the states of all models; `None` if it can.
pub fn refusal(
    app: &str,
    spec: Option<&Parsed>,
    standings: &BTreeMap<ModelName, ModelState>,
) -> Option<String> {
    let (model, plan, more) = match spec? {
        Parsed::Model(written) => (&written.plan.name, Some(&written.plan), Vec::new()),
        Parsed::Rollout(written) => (&written.plan.model, None, written.plan.versions()),
        Parsed::Invalid(_) => return None,
    };
    let own = standings.get(model).map(TopicUser::of_state);
    let mut own = match (own, plan) {
        (Some(own), Some(plan)) => TopicUser { plan, ..own },
        (Some(own), None) => own,
        (None, Some(plan)) => TopicUser::new(plan, []),
        // A rollout of an unknown model is refused elsewhere.
        (None, None) => return None,
    };
    let stable = &own.plan.stable;
    own.add([stable]);
    own.add(more);
    let others = standings.iter().filter(|(name, _)| *name != model);
    let mut users: Vec<TopicUser<'_>> = others.map(|(_, o)| TopicUser::of_state(o)).collect();
    users.push(own);
    let conflicts = conflicts(app, &users);
    let words: Vec<String> = conflicts
        .iter()
        .filter(|conflict| conflict.concerns(model))
        .map(ToString::to_string)
        .collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// Returns every conflict between the topics of an application and those of its models, and among the latter.
pub fn conflicts(app: &str, models: &[TopicUser<'_>]) -> Vec<Conflict> {
    let internal = format!("{app}.internal.");
    let mut uses: BTreeMap<String, Use> = BTreeMap::new();
    let of_app = Use { model: None, field: None, version: None };
    for it in topics_of_app(app) {
        uses.insert(it.name, of_app.clone());
    }
    let mut conflicts = Vec::new();
    for model in models {
        for (topic, new) in uses_of(app, model) {
            let known = uses.get(&topic);
            let is_shared = |u: &Use| u.field == Some(LABELS) && u.model != new.model;
            let other = match known {
                Some(known) if new.field == Some(LABELS) && is_shared(known) => None,
                Some(known) => Some(known.clone()),
                // The application reserves the whole prefix for future topics.
                None if new.field.is_some() && topic.starts_with(&internal) => Some(of_app.clone()),
                None => None,
            };
            match other {
                Some(one) => conflicts.push(Conflict { topic, one, other: new }),
                None => {
                    uses.entry(topic).or_insert(new);
                }
            }
        }
    }
    conflicts
}

fn uses_of(app: &str, user: &TopicUser<'_>) -> Vec<(String, Use)> {
    let TopicUser { plan, versions } = user;
    let topics = &plan.topics;
    let fields = [
        (&topics.requests, "requests"),
        (&topics.responses, "responses"),
        (&topics.served, "served"),
        (&topics.predictions, "predictions"),
        (&topics.labels, LABELS),
        (&topics.analysis, "analysis"),
        (&topics.dead_letters, "deadLetters"),
    ];
    let new = |field, version| Use { model: Some(plan.name.clone()), field, version };
    let mut found: Vec<(String, Use)> =
        fields.map(|(topic, field)| (topic.clone(), new(Some(field), None))).into();
    found.extend(versions.iter().map(|version| {
        (topics.of_version(version), new(Some("versionRequests"), Some(version.clone())))
    }));
    let named: Vec<String> = found.iter().map(|(topic, _)| topic.clone()).collect();
    let needs = ModelNeeds { versions, ..ModelNeeds::default() };
    let private = topics_of_model(app, plan, &needs).into_iter().map(|n| n.name);
    found.extend(
        private.filter(|topic| !named.contains(topic)).map(|topic| (topic, new(None, None))),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::{TopicUser, conflicts};
    use serinus_core::domain::ids::Version;
    use serinus_core::spec::plan::{Document, load};

    /// Reads models as `NAME STABLE {topics}: versions...`, and checks their conflicts.
    fn check(models: &[(&str, &str, &[&str])], expected: &[&str]) {
        let plans: Vec<_> = models
            .iter()
            .map(|(name, topics, versions)| {
                let text = format!(
                    "apiVersion: serinus/v1\nkind: Model\nmetadata: {{name: {name}}}\nspec: {{stable: v1, timeout: 1s, topics: {topics}}}\n"
                );
                match load("test", &text).expect("a valid spec").remove(0) {
                    Document::Model(plan, _) => (plan, *versions),
                    Document::Rollout(..) => panic!("it is a model"),
                }
            })
            .collect();
        let users: Vec<TopicUser<'_>> = plans
            .iter()
            .map(|(plan, versions)| {
                let mut user = TopicUser::new(plan, []);
                user.add(&versions.iter().map(|v| Version::new(*v)).collect::<Vec<_>>());
                user
            })
            .collect();
        let found: Vec<String> = conflicts("app", &users).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{models:?}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            let expected = format!("{expected}: give each its own; only `labels` may be shared");
            assert_eq!(*found, expected, "{models:?}");
        }
    }

    #[test]
    fn models_with_separate_topics_or_a_shared_label_topic_do_not_conflict() {
        check(&[("a", "{}", &["v2"]), ("b", "{}", &["v2", "v3"])], &[]);
        check(
            &[("a", "{labels: l}", &[]), ("b", "{labels: l}", &[]), ("c", "{labels: l}", &[])],
            &[],
        );
        check(&[("a", "{labels: b.labels}", &[]), ("b", "{}", &[])], &[]);
    }

    #[test]
    fn every_other_topic_that_two_models_name_is_a_conflict() {
        for field in ["requests", "responses", "served", "predictions", "analysis", "deadLetters"] {
            let topics = format!("{{{field}: x}}");
            let expected =
                format!("topic `x` would be `{field}` of model `a` and `{field}` of model `b`");
            check(&[("a", &topics, &[]), ("b", &topics, &[])], &[&expected]);
        }
        check(
            &[("a", "{served: x}", &[]), ("b", "{requests: x}", &[])],
            &["topic `x` would be `served` of model `a` and `requests` of model `b`"],
        );
        check(
            &[("a", "{}", &[]), ("b", "{labels: a.served}", &[])],
            &["topic `a.served` would be `served` of model `a` and `labels` of model `b`"],
        );
    }

    #[test]
    fn a_version_with_a_topic_that_is_in_use_is_a_conflict() {
        // The answers would become requests again, forever.
        for field in ["requests", "responses", "served", "predictions", "labels"] {
            let expected = format!(
                "topic `a.v2.requests` would be `{field}` of model `a` and `versionRequests` of version `v2` of model `a`"
            );
            check(&[("a", &format!("{{{field}: a.v2.requests}}"), &["v2"])], &[&expected]);
        }
        check(
            &[("a", "{}", &["b"]), ("a.b", "{}", &[])],
            &[
                "topic `a.b.requests` would be `versionRequests` of version `b` of model `a` and `requests` of model `a.b`",
            ],
        );
        check(
            &[("a", "{}", &["b.c"]), ("a.b", "{}", &["c"])],
            &[
                "topic `a.b.c.requests` would be `versionRequests` of version `b.c` of model `a` and `versionRequests` of version `c` of model `a.b`",
            ],
        );
        check(
            &[
                ("a", "{versionRequests: 'in.{version}'}", &[]),
                ("b", "{versionRequests: 'in.{version}'}", &[]),
            ],
            &[
                "topic `in.v1` would be `versionRequests` of version `v1` of model `a` and `versionRequests` of version `v1` of model `b`",
            ],
        );
    }

    #[test]
    fn a_model_cannot_use_the_topics_of_the_application() {
        let of_app = "a topic of the application itself";
        for topic in ["app.commands", "app.rollouts", "app.internal.slots", "app.internal.new"] {
            let expected = format!("topic `{topic}` would be {of_app} and `served` of model `a`");
            check(&[("a", &format!("{{served: {topic}}}"), &[])], &[&expected]);
        }
        check(
            &[("a", "{}", &[]), ("b", "{analysis: app.internal.a.labels}", &[])],
            &[
                "topic `app.internal.a.labels` would be a private topic of model `a` and `analysis` of model `b`",
            ],
        );
        check(
            &[("app", "{}", &["internal"])],
            &[
                "topic `app.internal.requests` would be a topic of the application itself and `versionRequests` of version `internal` of model `app`",
            ],
        );
    }
}
