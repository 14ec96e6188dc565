//! The topics of all versions that get copies of requests: which exist, which accept records, and which copies failed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use tracing::{info, warn};

use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::record_limits::{self, Limits};
use crate::kafka::client::transaction::TransactionalProducer;
use crate::kafka::lanes::catalog::ModelView;
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::process::clock;
use crate::kafka::process::metrics::MetricsRegistry;
use crate::kafka::process::wait::Deadline;
use crate::kafka::serving::copy_producer::{Failure, Handed, TopicProducer};
use crate::kafka::serving::write_failures::{Notice, Notices};
use serinus_core::domain::ids::{CaseId, ModelName, Version};
use serinus_core::domain::time::Timestamp;
use serinus_core::plan::rollout::ModelPlan;

/// Errors of a topic that was deleted, or whose number of partitions changed.
const GONE: [RDKafkaErrorCode; 3] = [
    RDKafkaErrorCode::UnknownTopic,
    RDKafkaErrorCode::UnknownTopicOrPartition,
    RDKafkaErrorCode::UnknownPartition,
];
/// Interval of looking up a missing topic.
const LOOKUP_EVERY: Duration = Duration::from_secs(2);
/// Interval of checking deliveries while nothing is committed.
const CHECK_EVERY: Duration = Duration::from_millis(200);
/// Interval of repeating the log line about an unwritable topic.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Bounds of the time that a commit waits for copies in flight; see `commit_wait`.
const WAIT_MIN: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_millis(250);
/// Time for copies in flight when the role ends after a failure.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A version and its topic.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// The model.
    pub plan: &'a ModelPlan,
    /// The version.
    pub version: &'a Version,
    /// The topic.
    pub topic: &'a str,
}

/// A copy that was not sent because it is too large for its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The model.
    pub model: ModelName,
    /// The request.
    pub case: CaseId,
    /// Why the copy was refused.
    pub reason: String,
}

/// One version's topic.
struct Route {
    model: ModelName,
    version: Version,
    /// The number of partitions, or when the topic was last found missing.
    partitions: Option<Result<i32, Instant>>,
    producer: Option<TopicProducer>,
    /// Whether the producer must be replaced: the topic's limit changed, or the client gave up.
    is_outdated: bool,
    not_sent: u64,
    /// When a copy was last refused for its size, and the message.
    too_large: Option<(Instant, String)>,
    trouble: Option<Trouble>,
}

/// Why and since when a topic is unwritable, and when that was last logged.
struct Trouble {
    reason: String,
    since: Timestamp,
    logged_at: Instant,
}

/// All topics of versions.
pub struct Forwards<'a> {
    options: &'a RunOptions,
    board: &'a MetricsRegistry,
    limits: Limits,
    routes: BTreeMap<String, Route>,
    notices: Notices,
    wait: Duration,
    checked_at: Option<Instant>,
    too_large: Vec<TooLarge>,
}

impl<'a> Forwards<'a> {
    /// Starts with no topics.
    pub fn new(options: &'a RunOptions, board: &'a MetricsRegistry) -> Self {
        Self {
            options,
            board,
            limits: Limits::default(),
            routes: BTreeMap::new(),
            notices: Notices::new(&options.settings),
            wait: WAIT_MAX,
            checked_at: None,
            too_large: Vec::new(),
        }
    }

    /// Reads the record-size limits of the versions' topics and of `others`; returns those of `others`.
    pub fn limits<'v>(
        &mut self,
        views: impl Iterator<Item = &'v ModelView>,
        others: &[String],
    ) -> BTreeMap<String, usize> {
        let versions = views
            .flat_map(|view| asked(view).map(move |version| view.plan.topics.of_version(version)));
        self.limits.read(&self.options.settings, versions.chain(others.iter().cloned()));
        self.limits.among(others)
    }

    /// Connects to the topic of every version in routing, so that the first copy need not wait.
    pub fn follow<'v>(
        &mut self,
        views: impl Iterator<Item = &'v ModelView> + Clone,
        producer: &TransactionalProducer,
    ) -> Result<(), ShellError> {
        self.wait = commit_wait(views.clone().map(|view| &*view.plan));
        for view in views {
            for version in asked(view) {
                let topic = view.plan.topics.of_version(version);
                let address = Address { plan: &view.plan, version, topic: &topic };
                if self.partitions(address, producer)? > 0 {
                    self.producer(address)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the number of partitions of a version's topic; 0 while the topic is missing.
    ///
    /// # Errors
    ///
    /// The brokers do not answer.
    pub fn partitions(
        &mut self,
        address: Address<'_>,
        producer: &TransactionalProducer,
    ) -> Result<i32, ShellError> {
        let route = route(&mut self.routes, address);
        match route.partitions {
            Some(Ok(count)) => return Ok(count),
            Some(Err(asked)) if asked.elapsed() < LOOKUP_EVERY => return Ok(0),
            Some(Err(_)) | None => {}
        }
        let count = producer.partitions(address.topic)?;
        route.partitions = Some(if count > 0 { Ok(count) } else { Err(clock::moment()) });
        if count == 0 {
            // The producer holds state of the deleted topic.
            route.producer = None;
        }
        Ok(count)
    }

    /// Sends a copy to a version's topic; a copy that is not sent is counted.
    pub fn send(
        &mut self,
        address: Address<'_>,
        outgoing: &Outgoing<'_>,
        case: CaseId,
    ) -> Result<(), ShellError> {
        let wait = self.wait;
        let handed = self.producer(address)?.send(outgoing, case, wait);
        match handed {
            Handed::InFlight => {}
            Handed::Refused(code) => {
                let length = |o: Option<&[u8]>| o.map_or(0, <[u8]>::len);
                let bytes = length(outgoing.key) + length(outgoing.value);
                self.fail(address.topic, &[Failure { case, bytes, code }]);
            }
        }
        Ok(())
    }

    /// Counts a copy that was not sent because its topic is missing.
    pub fn absent(&mut self, address: Address<'_>) {
        route(&mut self.routes, address).not_sent += 1;
    }

    /// Checks the deliveries at intervals, even while nothing is committed.
    pub fn check_if_due(&mut self) {
        if self.checked_at.is_none_or(|at| at.elapsed() >= CHECK_EVERY) {
            self.check();
        }
    }

    /// Waits for copies in flight, except to slow topics, and checks all deliveries.
    pub fn flush(&mut self) {
        let deadline = Deadline::after(self.wait);
        for route in self.routes.values_mut() {
            if let Some(producer) = &mut route.producer {
                producer.flush(deadline);
            }
        }
        self.check();
    }

    /// Like `flush`, with a longer deadline, before the producers are dropped: copies still in flight are then lost.
    pub fn flush_last(&mut self) {
        let deadline = Deadline::after(LAST_WAIT);
        for producer in self.routes.values_mut().filter_map(|route| route.producer.as_mut()) {
            producer.flush(deadline);
        }
        self.check();
    }

    /// Returns the copies that were refused for their size since the last call.
    pub fn take_too_large(&mut self) -> Vec<TooLarge> {
        std::mem::take(&mut self.too_large)
    }

    /// Checks all deliveries, and reports topics that became unwritable or writable.
    fn check(&mut self) {
        self.checked_at = Some(clock::moment());
        let mut failed = Vec::new();
        let mut found = Vec::new();
        for (topic, route) in &mut self.routes {
            let deliveries =
                route.producer.as_mut().map(TopicProducer::deliveries).unwrap_or_default();
            failed.push((topic.clone(), deliveries.failed));
            let is_absent = matches!(route.partitions, Some(Err(_))) && route.not_sent > 0;
            let absent = is_absent.then(|| "the topic does not exist".to_owned());
            found.push((topic.clone(), absent.or(deliveries.trouble)));
        }
        for (topic, failures) in failed {
            self.fail(&topic, &failures);
        }
        for (topic, trouble) in found {
            self.report(&topic, trouble);
        }
    }

    /// Counts failed copies, and reacts to the causes.
    fn fail(&mut self, topic: &str, failures: &[Failure]) {
        let Some(route) = self.routes.get_mut(topic) else { return };
        route.not_sent += failures.len() as u64;
        if !failures.is_empty() {
            self.board.add_failed_forwards(&route.model, &route.version, failures.len() as u64);
        }
        for Failure { case, bytes, code } in failures {
            if *code == RDKafkaErrorCode::MessageSizeTooLarge {
                let is_known =
                    route.too_large.as_ref().is_some_and(|(at, _)| at.elapsed() < LOG_EVERY);
                if !is_known {
                    // The limit may have changed.
                    let before = self.limits.of(topic);
                    route.is_outdated |= self.limits.renew(&self.options.settings, topic) != before;
                }
                let client = self.options.settings.record_bytes_max();
                let limit = match self.limits.of(topic) {
                    Some(limit) if limit <= client || *bytes <= client => {
                        format!("{} of `{topic}` is {limit}", record_limits::SETTING)
                    }
                    Some(_) => format!("message.max.bytes of this program is {client}"),
                    None => format!("`{topic}` has a smaller {}", record_limits::SETTING),
                };
                let reason = format!(
                    "a copy of it for version {} does not fit into one message: it has {bytes} bytes, and {limit}",
                    route.version
                );
                if !is_known {
                    let message = format!("copies refused for their size: {limit}");
                    route.too_large = Some((clock::moment(), message));
                }
                self.too_large.push(TooLarge { model: route.model.clone(), case: *case, reason });
            } else if GONE.contains(code) {
                route.partitions = None;
            }
            // After a fatal error of the client only a new producer helps.
            route.is_outdated |= *code == RDKafkaErrorCode::Fatal;
        }
    }

    /// Reports when a topic becomes unwritable or writable, and repeats the report while it is unwritable.
    fn report(&mut self, topic: &str, found: Option<String>) {
        let Some(route) = self.routes.get_mut(topic) else { return };
        let too_large = route.too_large.as_ref().filter(|(at, _)| at.elapsed() < LOG_EVERY);
        let found = found.or_else(|| too_large.map(|(_, message)| message.clone()));
        let now = clock::now();
        let (model, version, not_sent) = (&route.model, &route.version, route.not_sent);
        let is_new = match (&found, &route.trouble) {
            (None, None) => return,
            (Some(found), Some(trouble))
                if trouble.reason == *found && trouble.logged_at.elapsed() < LOG_EVERY =>
            {
                return;
            }
            (Some(_), Some(_)) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        let since = route.trouble.as_ref().map_or(now, |trouble| trouble.since);
        match &found {
            Some(reason) if is_new => {
                warn!(%model, %version, topic, reason, not_sent, "version topic unwritable: copies not sent");
            }
            Some(reason) => {
                info!(%model, %version, topic, reason, not_sent, "version topic still unwritable");
            }
            None => {
                info!(%model, %version, topic, not_sent, "version topic writable again");
            }
        }
        self.notices.write(Notice {
            model: model.to_string(),
            version: version.to_string(),
            topic: topic.to_owned(),
            instance: self.options.instance.clone(),
            reason: found.clone(),
            not_sent,
            since: since.0,
            at: now.0,
        });
        route.trouble = found.map(|reason| Trouble { reason, since, logged_at: clock::moment() });
    }

    /// Returns the producer of a version's topic, and creates it for the first copy.
    fn producer(&mut self, address: Address<'_>) -> Result<&mut TopicProducer, ShellError> {
        let route = route(&mut self.routes, address);
        if route.is_outdated && route.producer.as_ref().is_some_and(TopicProducer::is_idle) {
            (route.producer, route.is_outdated) = (None, false);
        }
        if route.producer.is_none() {
            let limit = self.limits.of(address.topic);
            let lifetime = address.plan.timeout.max(address.plan.shadow_timeout);
            route.producer = Some(TopicProducer::new(&self.options.settings, limit, lifetime)?);
        }
        route
            .producer
            .as_mut()
            .ok_or_else(|| ShellError::Missing("the producer of copies is missing".to_owned()))
    }
}

/// Returns the versions of a model that get copies under the current routing.
fn asked(view: &ModelView) -> impl Iterator<Item = &Version> {
    let routing = &view.routing;
    let serving = routing.slices.iter().map(|slice| &slice.version);
    let copied = routing.shadows.iter().map(|shadow| &shadow.version);
    std::iter::once(&routing.stable).chain(serving).chain(copied)
}

fn route<'r>(routes: &'r mut BTreeMap<String, Route>, address: Address<'_>) -> &'r mut Route {
    routes.entry(address.topic.to_owned()).or_insert_with(|| Route {
        model: address.plan.name.clone(),
        version: address.version.clone(),
        partitions: None,
        producer: None,
        is_outdated: false,
        not_sent: 0,
        too_large: None,
        trouble: None,
    })
}

/// Returns the longest time that a commit waits for copies: a quarter of the shortest deadline, so that a hanging copy leaves every
/// model's answers the other three quarters.
fn commit_wait<'p>(plans: impl Iterator<Item = &'p ModelPlan>) -> Duration {
    let shortest = plans.map(|plan| plan.timeout.0).min();
    let quarter =
        shortest.map_or(WAIT_MAX, |ms| Duration::from_millis(u64::try_from(ms / 4).unwrap_or(0)));
    quarter.clamp(WAIT_MIN, WAIT_MAX)
}
