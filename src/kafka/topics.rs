//! The topics that an application and its models need: what they must be, what they are, and making the missing ones.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use crate::domain::ids::Version;
use crate::domain::time::Span;
use crate::kafka::deadline::Deadline;
use crate::kafka::reader::{ReadError, Reader};
use crate::kafka::settings::{LogContext, Settings};
use crate::strategy::stage::ModelPlan;

/// Everything that a topic keeps: records carry event time, which may be long ago, so that age would delete them at once.
const KEEP_ALL: &str = "-1";
/// A serving lane's journal is only read back as far as the oldest open case.
const JOURNAL_MS: &str = "86400000";

/// How many partitions a topic must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// This many: something else has as many and is paired with it.
    Exactly(i32),
    /// This many or more.
    AtLeast(i32),
}

impl Partitions {
    /// Returns how many a new topic gets.
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

/// What is asked of a setting of a topic that is already there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: a new topic gets our value, an old one may differ.
    Nothing,
    /// Our value.
    Same,
    /// No limit, or at least so long.
    AtLeast(Span),
}

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Kafka's name for it.
    pub key: &'static str,
    /// What a new topic gets.
    pub value: String,
    /// What is asked of one that is there.
    pub demand: Demand,
}

/// A topic that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// How many partitions it must have.
    pub partitions: Partitions,
    /// Its settings.
    pub config: Vec<Setting>,
    /// Whether how many partitions it has decides how many others get.
    pub leads: bool,
    /// Whether partitions may be added to it: nothing in it is placed by key.
    pub grows: bool,
}

impl Wanted {
    fn new(name: impl Into<String>, partitions: Partitions) -> Self {
        Self { name: name.into(), partitions, config: Vec::new(), leads: false, grows: false }
    }

    fn with(mut self, key: &'static str, value: &str, demand: Demand) -> Self {
        self.config.push(Setting { key, value: value.to_owned(), demand });
        self
    }

    fn leading(self) -> Self {
        Self { leads: true, ..self }
    }

    fn growing(self) -> Self {
        Self { grows: true, ..self }
    }

    /// What others write: kept for ever where we make it, left alone where it is there.
    fn kept(self) -> Self {
        self.with("retention.ms", KEEP_ALL, Demand::Nothing)
    }

    /// What we write and no key replaces.
    fn log(self) -> Self {
        self.with("cleanup.policy", "delete", Demand::Same)
    }
}

/// Returns the topics of an application itself.
pub fn wanted_for_app(app: &str) -> Vec<Wanted> {
    let any = Partitions::AtLeast(1);
    let name = |suffix: &str| format!("{app}.{suffix}");
    vec![
        Wanted::new(name("commands"), any).log().kept(),
        Wanted::new(name("rollouts"), Partitions::Exactly(1)).with(
            "cleanup.policy",
            "compact",
            Demand::Same,
        ),
        Wanted::new(name("internal.slots"), Partitions::Exactly(1)).with(
            "cleanup.policy",
            "compact",
            Demand::Same,
        ),
        Wanted::new(name("internal.judge-journal"), any).log().kept(),
        Wanted::new(name("rollout-events"), any).log().kept(),
        Wanted::new(name("rollout-metrics"), any).log().kept(),
    ]
}

/// What of a model's topics depends on more than its plan.
#[derive(Clone, Debug, Default)]
pub struct ModelNeeds<'a> {
    /// The versions that are asked: the stable one and all candidates.
    pub versions: &'a [Version],
    /// How long predictions and labels must be kept for the joins of the longest rollout.
    pub kept: Span,
    /// The cluster's topics with their partitions: what is there decides how many its partners get.
    pub found: BTreeMap<String, i32>,
}

/// Returns the topics of a model.
///
/// Where the request topic is there, its number of partitions counts, not the plan's; the same for the prediction log.
pub fn wanted_for_model(app: &str, plan: &ModelPlan, needs: &ModelNeeds<'_>) -> Vec<Wanted> {
    let topics = &plan.topics;
    let there = |topic: &str| needs.found.get(topic).copied().filter(|it| *it > 0);
    let requests = there(&topics.requests).unwrap_or(plan.partitions);
    let predictions = there(&topics.predictions).unwrap_or(plan.partitions);
    let (home, joined) = (Partitions::Exactly(requests), Partitions::Exactly(predictions));
    let any = Partitions::AtLeast(1);
    let internal = |suffix: &str| format!("{app}.internal.{}.{suffix}", plan.name);
    let long = |it: Wanted| it.with("retention.ms", KEEP_ALL, Demand::AtLeast(needs.kept));
    let mut wanted = vec![
        Wanted::new(&topics.requests, Partitions::AtLeast(requests)).kept().leading(),
        Wanted::new(&topics.responses, Partitions::AtLeast(requests)).kept().growing(),
        Wanted::new(&topics.served, home).log().kept().growing(),
        long(Wanted::new(&topics.predictions, joined).log()).leading(),
        long(Wanted::new(&topics.labels, Partitions::AtLeast(1))),
        Wanted::new(&topics.analysis, joined).log().kept(),
        Wanted::new(&topics.dead_letters, any).log().kept(),
        long(Wanted::new(internal("labels"), joined).log()),
        Wanted::new(internal("partials"), Partitions::Exactly(1)).log().kept(),
        Wanted::new(internal("journal"), home)
            .log()
            .with("retention.ms", JOURNAL_MS, Demand::Nothing)
            .growing(),
        Wanted::new(internal("analyst-journal"), joined).log().kept(),
    ];
    wanted.extend(
        needs.versions.iter().map(|it| Wanted::new(topics.of_version(it), any).log().kept()),
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

/// Something about a topic that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The topic.
    pub topic: String,
    /// What is wrong about it: `partitions`, a setting's name, or `topic` where it is missing.
    pub setting: String,
    /// What was found.
    pub found: String,
    /// What must be.
    pub wanted: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "topic `{}`: {} is {}, wanted {}",
            self.topic, self.setting, self.found, self.wanted
        )
    }
}

/// Why topics could not be looked at or made.
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

/// Compares what is there with what must be; empty where all is well.
pub fn check(
    settings: &Settings,
    wanted: &[Wanted],
    wait: Duration,
) -> Result<Vec<Mismatch>, TopicError> {
    let partitions = Reader::new(settings, wait)?.topics()?;
    let there: Vec<&str> =
        wanted.iter().map(|it| &*it.name).filter(|it| partitions.contains_key(*it)).collect();
    let found = describe(settings, &there, wait)?;
    Ok(mismatches(wanted, &partitions, &found))
}

/// Compares topics with what must be, without asking anyone.
pub fn mismatches(
    wanted: &[Wanted],
    partitions: &BTreeMap<String, i32>,
    found: &Found,
) -> Vec<Mismatch> {
    let mut wrong = Vec::new();
    for it in wanted {
        let mut differs = |setting: &str, found: String, wanted: String| {
            let (topic, setting) = (it.name.clone(), setting.to_owned());
            wrong.push(Mismatch { topic, setting, found, wanted });
        };
        let Some(count) = partitions.get(&it.name) else {
            differs("topic", "missing".to_owned(), format!("{} partitions", it.partitions));
            continue;
        };
        if !it.partitions.holds(*count) {
            differs("partitions", count.to_string(), it.partitions.to_string());
        }
        for setting in &it.config {
            let value = found.get(&it.name).and_then(|it| it.get(setting.key));
            // A broker that does not tell its settings cannot be held to them.
            let Some(value) = value else { continue };
            match &setting.demand {
                Demand::Nothing => {}
                Demand::Same if *value == setting.value => {}
                Demand::Same => differs(setting.key, value.clone(), setting.value.clone()),
                Demand::AtLeast(span) => {
                    let ms: i64 = value.parse().unwrap_or(0);
                    if ms >= 0 && ms < span.0 {
                        differs(
                            setting.key,
                            value.clone(),
                            format!("-1, or {} ({span}) or more", span.0),
                        );
                    }
                }
            }
        }
    }
    wrong
}

/// Makes the topics that are missing, waits until the cluster shows them, and returns their names.
pub fn create_missing(
    settings: &Settings,
    wanted: &[Wanted],
    wait: Duration,
) -> Result<Vec<String>, TopicError> {
    let reader = Reader::new(settings, wait)?;
    let there = reader.topics()?;
    let missing: Vec<&Wanted> = wanted.iter().filter(|it| !there.contains_key(&it.name)).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let new: Vec<NewTopic<'_>> = missing.iter().map(|it| new_topic(it)).collect();
    let failed = |source| TopicError::Admin { what: "create topics".to_owned(), source };
    let admin: AdminClient<LogContext> =
        settings.admin().create_with_context(LogContext).map_err(failed)?;
    let options = AdminOptions::new().request_timeout(Some(wait)).operation_timeout(Some(wait));
    let results = block_on(admin.create_topics(&new, &options)).map_err(failed)?;
    let mut made = Vec::new();
    for result in results {
        match result {
            Ok(topic) => made.push(topic),
            // Another instance was first.
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
    wanted: &[Wanted],
    wait: Duration,
) -> Result<Vec<String>, TopicError> {
    let reader = Reader::new(settings, wait)?;
    let there = reader.topics()?;
    let is_short = |it: &&Wanted| {
        it.grows && there.get(&it.name).is_some_and(|found| *found < it.partitions.count())
    };
    let short: Vec<&Wanted> = wanted.iter().filter(is_short).collect();
    if short.is_empty() {
        return Ok(Vec::new());
    }
    let count = |it: &Wanted| usize::try_from(it.partitions.count()).unwrap_or(0);
    let new: Vec<NewPartitions<'_>> =
        short.iter().map(|it| NewPartitions::new(&it.name, count(it))).collect();
    let failed = |source| TopicError::Admin { what: "add partitions".to_owned(), source };
    let admin: AdminClient<LogContext> =
        settings.admin().create_with_context(LogContext).map_err(failed)?;
    let options = AdminOptions::new().request_timeout(Some(wait)).operation_timeout(Some(wait));
    let results = block_on(admin.create_partitions(&new, &options)).map_err(failed)?;
    for result in results {
        match result {
            // Another instance was first.
            Ok(_) | Err((_, RDKafkaErrorCode::InvalidPartitions)) => {}
            Err((topic, code)) => return Err(TopicError::Refused { topic, code }),
        }
    }
    await_topics(&reader, &short, wait)?;
    Ok(short.iter().map(|it| it.name.clone()).collect())
}

/// Waits until the cluster shows topics with all of their partitions.
fn await_topics(reader: &Reader, wanted: &[&Wanted], wait: Duration) -> Result<(), TopicError> {
    let deadline = Deadline::after(wait);
    loop {
        let there = reader.topics()?;
        let is_unseen = |it: &&&Wanted| match there.get(&it.name) {
            Some(count) if it.grows => *count < it.partitions.count(),
            Some(count) => *count == 0,
            None => true,
        };
        let unseen: Vec<String> =
            wanted.iter().filter(is_unseen).map(|it| it.name.clone()).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        if deadline.is_over() {
            return Err(TopicError::NotSeen(unseen));
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn new_topic(wanted: &Wanted) -> NewTopic<'_> {
    // -1: the brokers' own default.
    let replication = TopicReplication::Fixed(-1);
    let topic = NewTopic::new(&wanted.name, wanted.partitions.count(), replication);
    wanted.config.iter().fold(topic, |topic, it| topic.set(it.key, &it.value))
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
        topics.iter().map(|it| ResourceSpecifier::Topic(it)).collect();
    let results = block_on(admin.describe_configs(&resources, &options)).map_err(failed)?;
    let mut found = Found::new();
    for result in results {
        let resource = result.map_err(|code| failed(KafkaError::AdminOp(code)))?;
        let OwnedResourceSpecifier::Topic(topic) = resource.specifier else { continue };
        let entries = resource.entries.into_iter();
        let values = entries.filter_map(|it| Some((it.name, it.value?))).collect();
        found.insert(topic, values);
    }
    Ok(found)
}

/// Waits for one answer of the admin client, whose own thread completes it.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(answer) => return answer,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Found, Wanted, mismatches, wanted_for_app};

    fn check(partitions: i32, settings: &[(&str, &str)], wanted: &Wanted, expected: &[&str]) {
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
        let [_, rollouts, _, _, events, _] = &wanted_for_app("a")[..] else { panic!("six topics") };
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
        check(3, &[("cleanup.policy", "delete"), ("retention.ms", "1000")], events, &[]);
        let none = mismatches(std::slice::from_ref(events), &BTreeMap::new(), &Found::new());
        assert_eq!(
            none[0].to_string(),
            "topic `a.rollout-events`: topic is missing, wanted 1 or more partitions"
        );
    }

    #[test]
    fn what_is_joined_must_be_kept_as_long_as_it_is_joined() {
        let labels = Wanted::new("labels", super::Partitions::AtLeast(1)).with(
            "retention.ms",
            "-1",
            super::Demand::AtLeast(super::Span::seconds(3600)),
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
}
