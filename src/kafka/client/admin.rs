//! The topics of an application and its models: what they require, how existing ones differ, and creating missing ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::ReadError;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_reader::TopicReader;
use crate::kafka::client::topic_requirements::{
    KEEP_ALL, Mismatch, Requirement, Setting, Severity, unmet,
};
use crate::kafka::process::wait::Deadline;
use serinus_core::domain::ids::Version;
use serinus_core::domain::time::Span;
use serinus_core::plan::rollout::ModelPlan;

/// Retention of a new serving journal, in ms: 30 days. Replays need it for as long as a case is open, and a lane whose group offsets
/// have expired, which takes Kafka 7 days of standstill, needs its newest record.
const JOURNAL_MS: &str = "2592000000";
/// Retention beyond the longest open case, for clock differences and the duration of a restart.
const OPEN_SLACK: Span = Span::seconds(60);
/// Retention for cases that belong to no rollout; see the analyst's settings.
const KEPT_MIN: Span = Span::seconds(3_660);

/// The required partition count of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// Exactly this many: the topic is paired with another one.
    Exactly(i32),
    /// This many or more.
    AtLeast(i32),
}

impl Partitions {
    /// Returns the partition count of a new topic.
    pub fn count(self) -> i32 {
        match self {
            Self::Exactly(count) | Self::AtLeast(count) => count,
        }
    }

    fn holds(self, found: i32) -> bool {
        match self {
            Self::Exactly(count) => found == count,
            Self::AtLeast(count) => found >= count,
        }
    }
}

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(count) => count.fmt(f),
            Self::AtLeast(count) => write!(f, "{count} or more"),
        }
    }
}

/// A topic that must exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it must have.
    pub partitions: Partitions,
    /// Its settings.
    pub config: Vec<Setting>,
    /// Whether its partition count determines that of other topics.
    pub leads: bool,
    /// Whether partitions may be added: no record is placed by its key.
    pub grows: bool,
}

impl RequiredTopic {
    fn new(name: impl Into<String>, partitions: Partitions) -> Self {
        Self { name: name.into(), partitions, config: Vec::new(), leads: false, grows: false }
    }

    fn with(mut self, key: &'static str, value: &str, demand: Requirement) -> Self {
        self.config.push(Setting { key, value: value.to_owned(), demand });
        self
    }

    fn leading(self) -> Self {
        Self { leads: true, ..self }
    }

    fn growing(self) -> Self {
        Self { grows: true, ..self }
    }

    /// Written for others: retained forever if we create it, unchanged if it exists.
    fn kept(self) -> Self {
        self.with("retention.ms", KEEP_ALL, Requirement::Nothing)
    }

    /// Never compacted.
    fn log(self) -> Self {
        self.with("cleanup.policy", "delete", Requirement::Equal)
    }

    /// Shared with other programs: retained while a case may be open.
    fn open_for(self, open: Span) -> Self {
        self.with("retention.ms", KEEP_ALL, Requirement::AtLeast(open))
    }

    /// Retained for this span regardless of size.
    fn kept_for(self, kept: Span) -> Self {
        self.with("retention.ms", KEEP_ALL, Requirement::AtLeast(kept)).of_any_size()
    }

    /// Retained forever: no other topic holds the information.
    fn kept_forever(self) -> Self {
        self.with("retention.ms", KEEP_ALL, Requirement::Unlimited).of_any_size()
    }

    fn of_any_size(self) -> Self {
        self.with("retention.bytes", KEEP_ALL, Requirement::Unlimited)
    }

    /// Read by audits and by restarts without offsets: shorter retention causes a warning.
    fn kept_for_audits(self) -> Self {
        self.with("retention.ms", KEEP_ALL, Requirement::Preferred)
    }
}

/// Returns the topics of an application itself.
pub fn topics_of_app(app: &str) -> Vec<RequiredTopic> {
    let any = Partitions::AtLeast(1);
    let name = |suffix: &str| format!("{app}.{suffix}");
    vec![
        RequiredTopic::new(name("commands"), any).log().kept_for_audits(),
        RequiredTopic::new(name("rollouts"), Partitions::Exactly(1)).with(
            "cleanup.policy",
            "compact",
            Requirement::Equal,
        ),
        RequiredTopic::new(name("internal.slots"), Partitions::Exactly(1)).with(
            "cleanup.policy",
            "compact",
            Requirement::Equal,
        ),
        RequiredTopic::new(name("internal.judge-journal"), any).log().kept_for_audits(),
        RequiredTopic::new(name("rollout-events"), any).log().kept_forever(),
        RequiredTopic::new(name("rollout-metrics"), any).log().kept_for_audits(),
    ]
}

/// Inputs beyond a model's plan that its topics depend on.
#[derive(Clone, Debug, Default)]
pub struct ModelNeeds<'a> {
    /// The versions that are asked: the stable one and all candidates.
    pub versions: &'a [Version],
    /// Retention of predictions and labels that the longest rollout needs for its join.
    pub kept: Span,
    /// The cluster's topics with their partitions: what is there decides how many its partners get.
    pub found: BTreeMap<String, i32>,
}

/// Returns the topics of a model.
///
/// The partition count of an existing request or prediction topic overrides that of the plan.
pub fn topics_of_model(app: &str, plan: &ModelPlan, needs: &ModelNeeds<'_>) -> Vec<RequiredTopic> {
    let topics = &plan.topics;
    let there = |topic: &str| needs.found.get(topic).copied().filter(|t| *t > 0);
    let requests = there(&topics.requests).unwrap_or(plan.partitions);
    let predictions = there(&topics.predictions).unwrap_or(plan.partitions);
    let (home, joined) = (Partitions::Exactly(requests), Partitions::Exactly(predictions));
    let any = Partitions::AtLeast(1);
    let internal = |suffix: &str| format!("{app}.internal.{}.{suffix}", plan.name);
    let kept = needs.kept.max(KEPT_MIN);
    let open = plan.timeout.max(plan.shadow_timeout) + OPEN_SLACK;
    let long = |w: RequiredTopic| w.kept_for(kept);
    let mut wanted = vec![
        RequiredTopic::new(&topics.requests, Partitions::AtLeast(requests))
            .log()
            .open_for(open)
            .leading(),
        RequiredTopic::new(&topics.responses, Partitions::AtLeast(requests))
            .log()
            .open_for(open)
            .growing(),
        RequiredTopic::new(&topics.served, home).log().open_for(open).growing(),
        long(RequiredTopic::new(&topics.predictions, joined).log()).leading(),
        long(RequiredTopic::new(&topics.labels, Partitions::AtLeast(1))),
        RequiredTopic::new(&topics.analysis, joined).log().kept(),
        RequiredTopic::new(&topics.dead_letters, any).log().kept(),
        long(RequiredTopic::new(internal("labels"), joined).log()),
        RequiredTopic::new(internal("partials"), Partitions::Exactly(1)).log().kept_forever(),
        RequiredTopic::new(internal("journal"), home)
            .log()
            .with("retention.ms", JOURNAL_MS, Requirement::AtLeast(open))
            .of_any_size()
            .growing(),
        RequiredTopic::new(internal("analyst-journal"), joined).log().kept_for(kept),
    ];
    wanted.extend(
        needs
            .versions
            .iter()
            .map(|v| RequiredTopic::new(topics.of_version(v), any).log().open_for(open)),
    );
    // New topics of others get as many as the requests: labels and version topics carry the same traffic.
    for it in &mut wanted {
        let carries = it.name == topics.labels
            || needs.versions.iter().any(|version| it.name == topics.of_version(version));
        if carries && there(&it.name).is_none() {
            it.partitions = Partitions::AtLeast(requests);
        }
    }
    wanted
}

/// Merges the requirements of all models on the same topic.
///
/// # Errors
///
/// The words of what cannot be put together, which name the topic and both wishes.
pub fn merged(wanted: Vec<RequiredTopic>) -> Result<Vec<RequiredTopic>, String> {
    let mut merged: Vec<RequiredTopic> = Vec::new();
    for new in wanted {
        match merged.iter_mut().find(|known| known.name == new.name) {
            Some(known) => known.merge(&new)?,
            None => merged.push(new),
        }
    }
    Ok(merged)
}

impl RequiredTopic {
    /// Merges the requirements of another user of the same topic.
    fn merge(&mut self, other: &Self) -> Result<(), String> {
        let differ = |what: &str, one: &dyn fmt::Display, other: &dyn fmt::Display| {
            let name = &self.name;
            format!("topic `{name}` is wanted twice, with {what} {one} and with {what} {other}")
        };
        let partitions = match (self.partitions, other.partitions) {
            (Partitions::AtLeast(one), Partitions::AtLeast(other)) => {
                Partitions::AtLeast(one.max(other))
            }
            (one, other) if one == other => one,
            (one, other) => return Err(differ("partitions", &one, &other)),
        };
        let mut config = self.config.clone();
        for new in &other.config {
            let Some(known) = config.iter_mut().find(|known| known.key == new.key) else {
                config.push(new.clone());
                continue;
            };
            if known.value != new.value {
                return Err(differ(new.key, &known.value, &new.value));
            }
            known.demand = known.demand.clone().or_stricter(&new.demand);
        }
        (self.partitions, self.config) = (partitions, config);
        self.leads |= other.leads;
        self.grows &= other.grows;
        Ok(())
    }
}

/// A failure to inspect or create topics.
#[derive(Debug, Error)]
pub enum TopicError {
    /// The cluster could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The cluster does not do it.
    #[error("{what}")]
    Admin {
        /// What was wanted.
        what: String,
        /// What the client says.
        source: KafkaError,
    },
    /// The brokers refuse a topic.
    #[error("create topic `{topic}`: {code}")]
    Refused {
        /// The topic.
        topic: String,
        /// Why.
        code: RDKafkaErrorCode,
    },
    /// New topics are not seen in time.
    #[error("see new topics in the cluster: {}", .0.join(", "))]
    NotSeen(Vec<String>),
}

/// The settings of topics that are there.
pub type Found = BTreeMap<String, BTreeMap<String, String>>;

/// Compares the existing topics with the requirements.
pub fn check(
    settings: &Settings,
    wanted: &[RequiredTopic],
    wait: Duration,
) -> Result<Vec<Mismatch>, TopicError> {
    let partitions = TopicReader::new(settings, wait)?.topics()?;
    let there: BTreeSet<&str> =
        wanted.iter().map(|w| &*w.name).filter(|n| partitions.contains_key(*n)).collect();
    let there: Vec<&str> = there.into_iter().collect();
    let found = describe(settings, &there, wait)?;
    Ok(mismatches(wanted, &partitions, &found))
}

/// Compares topics with what must be, without asking anyone.
pub fn mismatches(
    wanted: &[RequiredTopic],
    partitions: &BTreeMap<String, i32>,
    found: &Found,
) -> Vec<Mismatch> {
    let mut wrong = Vec::new();
    for it in wanted {
        let differs = |setting: &str, found: String, wanted: String| Mismatch {
            topic: it.name.clone(),
            setting: setting.to_owned(),
            found,
            wanted,
            severity: Severity::Error,
        };
        let Some(count) = partitions.get(&it.name) else {
            let wanted = format!("{} partitions", it.partitions);
            wrong.push(differs("topic", "missing".to_owned(), wanted));
            continue;
        };
        if !it.partitions.holds(*count) {
            wrong.push(differs("partitions", count.to_string(), it.partitions.to_string()));
        }
        for setting in &it.config {
            let value = found.get(&it.name).and_then(|n| n.get(setting.key));
            // A broker may not return its settings; then there is nothing to compare.
            let Some(value) = value else { continue };
            if let Some((wanted, severity)) = unmet(setting, value) {
                let it = differs(setting.key, value.clone(), wanted);
                wrong.push(Mismatch { severity, ..it });
            }
        }
    }
    wrong
}

/// Creates the missing topics, waits until the metadata shows them, and returns their names.
pub fn create_missing(
    settings: &Settings,
    wanted: &[RequiredTopic],
    wait: Duration,
) -> Result<Vec<String>, TopicError> {
    let reader = TopicReader::new(settings, wait)?;
    let there = reader.topics()?;
    // The client cannot make one topic twice in one call: its wrapper reads freed or absent results then.
    let mut seen = BTreeSet::new();
    let missing: Vec<&RequiredTopic> = wanted
        .iter()
        .filter(|topic| !there.contains_key(&topic.name) && seen.insert(topic.name.as_str()))
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let new: Vec<NewTopic<'_>> = missing.iter().map(|m| new_topic(m)).collect();
    let failed = |source| TopicError::Admin { what: "create topics".to_owned(), source };
    let admin: AdminClient<LogContext> =
        settings.admin().create_with_context(LogContext).map_err(failed)?;
    let options = AdminOptions::new().request_timeout(Some(wait)).operation_timeout(Some(wait));
    let results = pollster::block_on(admin.create_topics(&new, &options)).map_err(failed)?;
    let mut made = Vec::new();
    for result in results {
        match result {
            Ok(topic) => made.push(topic),
            // Another instance did it first.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(TopicError::Refused { topic, code }),
        }
    }
    await_topics(&reader, &missing, wait)?;
    Ok(made)
}

/// Adds partitions to topics that have fewer than they must and may grow: to those that follow the partitions of the requests.
///
/// Returns their names once the cluster shows the new partitions.
pub fn grow(
    settings: &Settings,
    wanted: &[RequiredTopic],
    wait: Duration,
) -> Result<Vec<String>, TopicError> {
    let reader = TopicReader::new(settings, wait)?;
    let there = reader.topics()?;
    let is_short = |w: &&RequiredTopic| {
        w.grows && there.get(&w.name).is_some_and(|found| *found < w.partitions.count())
    };
    let mut seen = BTreeSet::new();
    let short: Vec<&RequiredTopic> =
        wanted.iter().filter(is_short).filter(|topic| seen.insert(topic.name.as_str())).collect();
    if short.is_empty() {
        return Ok(Vec::new());
    }
    let count = |w: &RequiredTopic| usize::try_from(w.partitions.count()).unwrap_or(0);
    let new: Vec<NewPartitions<'_>> =
        short.iter().map(|s| NewPartitions::new(&s.name, count(s))).collect();
    let failed = |source| TopicError::Admin { what: "add partitions".to_owned(), source };
    let admin: AdminClient<LogContext> =
        settings.admin().create_with_context(LogContext).map_err(failed)?;
    let options = AdminOptions::new().request_timeout(Some(wait)).operation_timeout(Some(wait));
    let results = pollster::block_on(admin.create_partitions(&new, &options)).map_err(failed)?;
    for result in results {
        match result {
            // Another instance did it first.
            Ok(_) | Err((_, RDKafkaErrorCode::InvalidPartitions)) => {}
            Err((topic, code)) => return Err(TopicError::Refused { topic, code }),
        }
    }
    await_topics(&reader, &short, wait)?;
    Ok(short.iter().map(|s| s.name.clone()).collect())
}

/// Waits until the cluster shows topics with all of their partitions.
fn await_topics(
    reader: &TopicReader,
    wanted: &[&RequiredTopic],
    wait: Duration,
) -> Result<(), TopicError> {
    let deadline = Deadline::after(wait);
    loop {
        let there = reader.topics()?;
        let is_unseen = |w: &&&RequiredTopic| match there.get(&w.name) {
            Some(count) if w.grows => *count < w.partitions.count(),
            Some(count) => *count == 0,
            None => true,
        };
        let unseen: Vec<String> = wanted.iter().filter(is_unseen).map(|i| i.name.clone()).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        if deadline.is_over() {
            return Err(TopicError::NotSeen(unseen));
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn new_topic(wanted: &RequiredTopic) -> NewTopic<'_> {
    // -1: the brokers' own default.
    let replication = TopicReplication::Fixed(-1);
    let topic = NewTopic::new(&wanted.name, wanted.partitions.count(), replication);
    wanted.config.iter().fold(topic, |topic, t| topic.set(t.key, &t.value))
}

fn describe(settings: &Settings, topics: &[&str], wait: Duration) -> Result<Found, TopicError> {
    if topics.is_empty() {
        return Ok(Found::new());
    }
    let failed = |source| TopicError::Admin { what: "describe topics".to_owned(), source };
    let admin: AdminClient<LogContext> =
        settings.admin().create_with_context(LogContext).map_err(failed)?;
    let options = AdminOptions::new().request_timeout(Some(wait));
    let resources: Vec<ResourceSpecifier<'_>> =
        topics.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
    let results =
        pollster::block_on(admin.describe_configs(&resources, &options)).map_err(failed)?;
    let mut found = Found::new();
    for result in results {
        let resource = result.map_err(|code| failed(KafkaError::AdminOp(code)))?;
        let OwnedResourceSpecifier::Topic(topic) = resource.specifier else { continue };
        let entries = resource.entries.into_iter();
        let values = entries.filter_map(|e| Some((e.name, e.value?))).collect();
        found.insert(topic, values);
    }
    Ok(found)
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
