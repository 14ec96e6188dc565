//! The topics of all versions that are asked: which are there, which take copies, and what became of those that were not sent.

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
use crate::kafka::serving::copy_producer::{Courier, Failure, Handed};
use crate::kafka::serving::write_failures::{Notice, Notices};
use serinus_core::domain::ids::{CaseId, ModelName, Version};
use serinus_core::domain::time::Timestamp;
use serinus_core::plan::rollout::ModelPlan;

/// Errors of a topic that is not there any more, or has other partitions.
const GONE: [RDKafkaErrorCode; 3] = [
    RDKafkaErrorCode::UnknownTopic,
    RDKafkaErrorCode::UnknownTopicOrPartition,
    RDKafkaErrorCode::UnknownPartition,
];
/// Time after which a topic that is not there is looked up again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Interval of looking at deliveries where nothing is committed.
const TEND_EVERY: Duration = Duration::from_millis(200);
/// Interval of saying again that a topic takes no copies.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Bounds of how long a commit waits for copies that are on their way; see `wait_for`.
const WAIT_MIN: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_millis(250);
/// How long copies may take that are on their way when a session ends.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A version, and where it is asked.
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
    /// Why, for people.
    pub reason: String,
}

/// One version's topic.
struct Route {
    model: ModelName,
    version: Version,
    /// How many partitions the topic has, or when it was last found that it is not there.
    partitions: Option<Result<i32, Instant>>,
    courier: Option<Courier>,
    /// Whether the topic's limit is another than when its courier set out.
    is_outdated: bool,
    not_sent: u64,
    /// The last refusal of a copy for its size.
    too_large: Option<(Instant, String)>,
    trouble: Option<Trouble>,
}

/// Why a topic takes no copies, since when, and when that was last said.
struct Trouble {
    reason: String,
    since: Timestamp,
    said_at: Instant,
}

/// All topics of versions.
pub struct Forwards<'a> {
    options: &'a RunOptions,
    board: &'a MetricsRegistry,
    limits: Limits,
    routes: BTreeMap<String, Route>,
    notices: Notices,
    wait: Duration,
    looked_at: Option<Instant>,
    too_large: Vec<TooLarge>,
}

impl<'a> Forwards<'a> {
    /// Begins with no topics.
    pub fn new(options: &'a RunOptions, board: &'a MetricsRegistry) -> Self {
        Self {
            options,
            board,
            limits: Limits::default(),
            routes: BTreeMap::new(),
            notices: Notices::new(&options.settings),
            wait: WAIT_MAX,
            looked_at: None,
            too_large: Vec::new(),
        }
    }

    /// Asks for the limits of all topics of versions that are asked now, and of others, and returns those of the others.
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

    /// Sets out for every version that is asked now, so that the first copy need not wait for a connection.
    pub fn follow<'v>(
        &mut self,
        views: impl Iterator<Item = &'v ModelView> + Clone,
        outbox: &TransactionalProducer,
    ) -> Result<(), ShellError> {
        self.wait = wait_for(views.clone().map(|view| &*view.plan));
        for view in views {
            for version in asked(view) {
                let topic = view.plan.topics.of_version(version);
                let address = Address { plan: &view.plan, version, topic: &topic };
                if self.partitions(address, outbox)? > 0 {
                    self.courier(address)?;
                }
            }
        }
        Ok(())
    }

    /// Returns how many partitions a version's topic has; 0 while it is not there.
    ///
    /// # Errors
    ///
    /// When the brokers do not say.
    pub fn partitions(
        &mut self,
        address: Address<'_>,
        outbox: &TransactionalProducer,
    ) -> Result<i32, ShellError> {
        let route = route(&mut self.routes, address);
        match route.partitions {
            Some(Ok(count)) => return Ok(count),
            Some(Err(asked)) if asked.elapsed() < LOOK_EVERY => return Ok(0),
            Some(Err(_)) | None => {}
        }
        let count = outbox.partitions(address.topic)?;
        route.partitions = Some(if count > 0 { Ok(count) } else { Err(clock::moment()) });
        if count == 0 {
            // Whatever it has learnt of the topic that was there is over.
            route.courier = None;
        }
        Ok(count)
    }

    /// Hands a copy over that goes to a version's topic; one that is not sent is counted.
    pub fn hand(
        &mut self,
        address: Address<'_>,
        outgoing: &Outgoing<'_>,
        case: CaseId,
    ) -> Result<(), ShellError> {
        let wait = self.wait;
        let handed = self.courier(address)?.hand(outgoing, case, wait);
        match handed {
            Handed::Over => {}
            Handed::Refused(code) => {
                let length = |o: Option<&[u8]>| o.map_or(0, <[u8]>::len);
                let bytes = length(outgoing.key) + length(outgoing.value);
                self.fail(address.topic, &[Failure { case, bytes, code }]);
            }
        }
        Ok(())
    }

    /// Notes a copy that was not sent because its topic is not there.
    pub fn absent(&mut self, address: Address<'_>) {
        route(&mut self.routes, address).not_sent += 1;
    }

    /// Looks now and then what became of copies, also while nothing is committed.
    pub fn tend(&mut self) {
        if self.looked_at.is_none_or(|at| at.elapsed() >= TEND_EVERY) {
            self.look();
        }
    }

    /// Waits for what is on its way, unless its topic is slow; afterwards it is known what became of it.
    pub fn settle(&mut self) {
        let deadline = Deadline::after(self.wait);
        for route in self.routes.values_mut() {
            if let Some(courier) = &mut route.courier {
                courier.settle(deadline);
            }
        }
        self.look();
    }

    /// The same at the end of a session, where what is still on its way is lost.
    pub fn finish(&mut self) {
        let deadline = Deadline::after(LAST_WAIT);
        for courier in self.routes.values_mut().filter_map(|route| route.courier.as_mut()) {
            courier.settle(deadline);
        }
        self.look();
    }

    /// Returns the copies that were too large for their topics, since the last call.
    pub fn take_too_large(&mut self) -> Vec<TooLarge> {
        std::mem::take(&mut self.too_large)
    }

    /// Looks what became of copies, and says which topics take none.
    fn look(&mut self) {
        self.looked_at = Some(clock::moment());
        let mut failed = Vec::new();
        let mut found = Vec::new();
        for (topic, route) in &mut self.routes {
            let deliveries = route.courier.as_mut().map(Courier::look).unwrap_or_default();
            failed.push((topic.clone(), deliveries.failed));
            let is_absent = matches!(route.partitions, Some(Err(_))) && route.not_sent > 0;
            let absent = is_absent.then(|| "the topic is not there".to_owned());
            found.push((topic.clone(), absent.or(deliveries.trouble)));
        }
        for (topic, failures) in failed {
            self.fail(&topic, &failures);
        }
        for (topic, trouble) in found {
            self.say(&topic, trouble);
        }
    }

    /// Counts copies that were not sent, and finds out why.
    fn fail(&mut self, topic: &str, failures: &[Failure]) {
        let Some(route) = self.routes.get_mut(topic) else { return };
        route.not_sent += failures.len() as u64;
        if !failures.is_empty() {
            self.board.add_failed_forwards(&route.model, &route.version, failures.len() as u64);
        }
        for Failure { case, bytes, code } in failures {
            if *code == RDKafkaErrorCode::MessageSizeTooLarge {
                let is_known =
                    route.too_large.as_ref().is_some_and(|(at, _)| at.elapsed() < SAY_EVERY);
                if !is_known {
                    // It may have been changed since.
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
                    let said = format!("it refuses copies for their size: {limit}");
                    route.too_large = Some((clock::moment(), said));
                }
                self.too_large.push(TooLarge { model: route.model.clone(), case: *case, reason });
            } else if GONE.contains(code) {
                route.partitions = None;
            }
            // A producer that its client has given up for good is replaced.
            route.is_outdated |= *code == RDKafkaErrorCode::Fatal;
        }
    }

    /// Says when a topic begins or ceases to take no copies, and now and then in between.
    fn say(&mut self, topic: &str, found: Option<String>) {
        let Some(route) = self.routes.get_mut(topic) else { return };
        let too_large = route.too_large.as_ref().filter(|(at, _)| at.elapsed() < SAY_EVERY);
        let found = found.or_else(|| too_large.map(|(_, said)| said.clone()));
        let now = clock::now();
        let (model, version, not_sent) = (&route.model, &route.version, route.not_sent);
        let is_new = match (&found, &route.trouble) {
            (None, None) => return,
            (Some(found), Some(trouble))
                if trouble.reason == *found && trouble.said_at.elapsed() < SAY_EVERY =>
            {
                return;
            }
            (Some(_), Some(_)) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        let since = route.trouble.as_ref().map_or(now, |trouble| trouble.since);
        match &found {
            Some(reason) if is_new => {
                warn!(%model, %version, topic, reason, not_sent, "copies not sent; the version's topic cannot be written");
            }
            Some(reason) => info!(%model, %version, topic, reason, not_sent, "copies not sent"),
            None => {
                info!(%model, %version, topic, not_sent, "the version's topic can be written again");
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
        route.trouble = found.map(|reason| Trouble { reason, since, said_at: clock::moment() });
    }

    /// Returns the way to a version's topic, which sets out with the first copy.
    fn courier(&mut self, address: Address<'_>) -> Result<&mut Courier, ShellError> {
        let route = route(&mut self.routes, address);
        if route.is_outdated && route.courier.as_ref().is_some_and(Courier::is_clear) {
            (route.courier, route.is_outdated) = (None, false);
        }
        if route.courier.is_none() {
            let limit = self.limits.of(address.topic);
            let lifetime = address.plan.timeout.max(address.plan.shadow_timeout);
            route.courier = Some(Courier::new(&self.options.settings, limit, lifetime)?);
        }
        route
            .courier
            .as_mut()
            .ok_or_else(|| ShellError::Missing("the producer of copies is gone".to_owned()))
    }
}

/// Returns the versions of a model that are asked now.
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
        courier: None,
        is_outdated: false,
        not_sent: 0,
        too_large: None,
        trouble: None,
    })
}

/// Returns how long a commit waits for copies at most: a quarter of the shortest deadline, so that the first copy that hangs leaves
/// every model's answers the rest of theirs.
fn wait_for<'p>(plans: impl Iterator<Item = &'p ModelPlan>) -> Duration {
    let shortest = plans.map(|plan| plan.timeout.0).min();
    let quarter =
        shortest.map_or(WAIT_MAX, |ms| Duration::from_millis(u64::try_from(ms / 4).unwrap_or(0)));
    quarter.clamp(WAIT_MIN, WAIT_MAX)
}
