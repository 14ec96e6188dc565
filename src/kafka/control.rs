//! The control role: one judge a model, at the owner of its commands' partition.
//!
//! A judge's transactional id belongs to the commands' partition, so that a deposed judge is fenced. It reads state only after it has
//! fenced. Commands, partials, and what the judge says of them are committed together.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use tracing::{info, warn};

use crate::domain::ids::ModelName;

use crate::engine::command::{Command, Parsed, Verb, Written};
use crate::engine::counter::Counter;
use crate::engine::judge::Judge;
use crate::engine::judge_io::{Effect, Event, Settings as JudgeSettings};
use crate::kafka::analyst_lane::LaneTopics;
use crate::kafka::clock;
use crate::kafka::counts::{Board, Counts};
use crate::kafka::emit::Emitter;
use crate::kafka::error::ShellError;
use crate::kafka::group::{Member, Rebalanced};
use crate::kafka::intake::Dead;
use crate::kafka::intake_command::{bounded, receive};
use crate::kafka::options::RunOptions;
use crate::kafka::outbox::{Fit, Outbox, Outgoing, PartitionCounts};
use crate::kafka::replay::Replay;
use crate::kafka::settings::LogContext;
use crate::kafka::shrink;
use crate::kafka::stop::Stop;
use crate::kafka::table;
use crate::spec::plan::{model_from_json, rollout_from_json};
use crate::strategy::look::Detail;
use crate::strategy::stage::{Format, ModelPlan};
use crate::wire::command::CommandRecord;
use crate::wire::event::EventRecord;
use crate::wire::metrics::MetricsRecord;
use crate::wire::partial::PartialRecord;
use crate::wire::placement;
use crate::wire::state::StateRecord;

/// How long the loop sleeps at the most when nothing happens.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// How many partials are judged in one transaction at the most.
const BATCH_MAX: usize = 500;

/// Under this name is counted what concerns no model that is known.
const NO_MODEL: &str = "-";

/// One model's judge, and how far its partials were read.
struct Seat {
    judge: Judge,
    plan: ModelPlan,
    partials: String,
    next: i64,
    is_touched: bool,
}

/// One partition of the commands: its own producer, and the judges of the models that hash to it.
struct Bench {
    partition: i32,
    outbox: Outbox,
    next: i64,
    is_touched: bool,
    seats: BTreeMap<ModelName, Seat>,
    /// Models whose first spec could not be taken in: only there to answer.
    counts: BTreeMap<(ModelName, &'static str), u64>,
    refused: Counts,
}

struct Session<'a> {
    options: &'a RunOptions,
    member: Member,
    feed: BaseConsumer<LogContext>,
    replay: Replay,
    partitions: PartitionCounts,
    emitter: Emitter,
    board: &'a Board,
    commands: String,
    benches: BTreeMap<i32, Bench>,
}

/// Judges until it is asked to stop; after anything goes wrong the caller starts anew, from the committed offsets.
pub fn control(options: &RunOptions, stop: &Stop, board: &Board) -> Result<(), ShellError> {
    let settings = &options.settings;
    let commands = settings.topic("commands");
    let slot = format!("{}.control.{}", settings.app, options.instance);
    let group = format!("{}.control", settings.app);
    let mut member = Member::new(settings, &group, options.is_static.then_some(slot.as_str()))?;
    member.subscribe(&BTreeMap::from([(commands.clone(), None)]))?;
    let feed = settings
        .reader()
        .create_with_context(LogContext)
        .map_err(ShellError::kafka("set up the reader of partials"))?;
    let mut session = Session {
        replay: Replay::new(settings)?,
        options,
        member,
        feed,
        partitions: PartitionCounts::default(),
        emitter: Emitter::default(),
        board,
        commands,
        benches: BTreeMap::new(),
    };
    let result = session.run(stop);
    if result.is_err() {
        for (_, bench) in std::mem::take(&mut session.benches) {
            bench.outbox.abandon();
        }
    }
    result
}

impl Session<'_> {
    fn run(&mut self, stop: &Stop) -> Result<(), ShellError> {
        while !stop.is_requested() {
            self.read_commands()?;
            self.read_partials()?;
            let now = clock::now();
            for bench in self.benches.values_mut() {
                let due: Vec<ModelName> = bench
                    .seats
                    .iter()
                    .filter(|(_, it)| it.judge.next_wake().is_some_and(|at| at <= now))
                    .map(|(model, _)| model.clone())
                    .collect();
                for model in due {
                    let mut out = Vec::new();
                    if let Some(seat) = bench.seats.get_mut(&model) {
                        seat.judge.tick(now, &mut out);
                    }
                    publish(bench, &model, out, &mut self.partitions, self.options)?;
                }
                if bench.outbox.is_due(true) {
                    commit(bench, &self.commands, &self.member, self.board)?;
                }
            }
        }
        for bench in self.benches.values_mut().filter(|it| it.outbox.is_open()) {
            commit(bench, &self.commands, &self.member, self.board)?;
        }
        Ok(())
    }

    fn read_commands(&mut self) -> Result<(), ShellError> {
        let mut wait = WAIT_MAX;
        for _ in 0..BATCH_MAX {
            let polled = self.member.poll(wait).map(|it| it.map(|it| receive(&it)));
            wait = Duration::ZERO;
            for change in self.member.rebalanced() {
                self.rebalance(change)?;
            }
            match polled {
                None => break,
                Some(Ok((partition, offset, record))) => self.command(partition, offset, record)?,
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                        warn!(%error, "the topic of commands is not there");
                        break;
                    }
                    _ => return Err(ShellError::Kafka { doing: "read commands", source: error }),
                },
            }
        }
        Ok(())
    }

    fn rebalance(&mut self, change: Rebalanced) -> Result<(), ShellError> {
        match change {
            Rebalanced::Revoked(partitions) => {
                for (_, partition) in partitions {
                    if let Some(mut bench) = self.benches.remove(&partition)
                        && bench.outbox.is_open()
                    {
                        commit(&mut bench, &self.commands, &self.member, self.board)?;
                    }
                }
            }
            Rebalanced::Assigned(partitions) => {
                for (_, partition) in partitions {
                    let bench = self.open_bench(partition)?;
                    self.benches.insert(partition, bench);
                }
            }
        }
        self.assign_feed()
    }

    /// Fences, then reads where the models stand, then what the lanes said until the last judgement.
    fn open_bench(&mut self, partition: i32) -> Result<Bench, ShellError> {
        let settings = &self.options.settings;
        let outbox = Outbox::fence(settings, &format!("{}.judge.{partition}", settings.app))?;
        let count = self.partitions.of(&self.commands, &outbox);
        let mut states: BTreeMap<String, StateRecord> = BTreeMap::new();
        table::scan(settings, &settings.topic("rollouts"), |message| {
            match message.payload().map(StateRecord::read) {
                Some(Ok(state)) => {
                    states.insert(state.model.clone(), state);
                }
                Some(Err(error)) => warn!(%error, "the state of a model cannot be read"),
                None => {}
            }
        })?;
        let next = self.member.committed(&[(&self.commands, partition)])?.pop().flatten();
        let mut bench = Bench {
            partition,
            outbox,
            next: next.map_or(0, |it| it.0),
            is_touched: false,
            seats: BTreeMap::new(),
            counts: BTreeMap::new(),
            refused: Counts::default(),
        };
        for (model, state) in states {
            if placement::partition(model.as_bytes(), count) == partition {
                match state.standing(parse) {
                    Ok(standing) => {
                        let seat = self.restore(&mut bench, standing)?;
                        bench.seats.insert(ModelName::from(model), seat);
                    }
                    Err(error) => warn!(model, %error, "where a model stands cannot be read"),
                }
            }
        }
        info!(partition, models = bench.seats.len(), "judging");
        Ok(bench)
    }

    fn restore(
        &mut self,
        bench: &mut Bench,
        standing: crate::engine::standing::Standing,
    ) -> Result<Seat, ShellError> {
        let plan = standing.model.plan.clone();
        let settings = self.judge_settings(&plan, &bench.outbox);
        let partials = LaneTopics::of(&self.options.settings.app, &plan).partials;
        let next = self.member.committed(&[(&partials, 0)])?.pop().flatten().map_or(0, |it| it.0);
        let mut judge = Judge::restore(settings, standing);
        self.replay.range(&partials, 0, 0, Some(next), |message| {
            let read = message.payload().and_then(|it| PartialRecord::read(it).ok());
            if let Some(partial) = read.and_then(|it| it.partial().ok()) {
                judge.recall(partial);
            }
        })?;
        Ok(Seat { judge, plan, partials, next, is_touched: false })
    }

    fn judge_settings(&mut self, plan: &ModelPlan, outbox: &Outbox) -> JudgeSettings {
        JudgeSettings {
            model: plan.name.clone(),
            partitions: self.partitions.of(&plan.topics.predictions, outbox).max(1),
            labels_topic: LaneTopics::of(&self.options.settings.app, plan).labels,
            detail: Detail::Full,
        }
    }

    fn command(
        &mut self,
        partition: i32,
        offset: i64,
        record: Result<CommandRecord, Box<Dead>>,
    ) -> Result<(), ShellError> {
        let Some(bench) = self.benches.get_mut(&partition) else { return Ok(()) };
        if offset < bench.next {
            return Ok(());
        }
        bench.next = offset + 1;
        bench.is_touched = true;
        bench.outbox.open()?;
        let record = match record {
            Ok(record) => record,
            Err(dead) => return refuse(bench, &mut self.emitter, &dead),
        };
        let count = self.partitions.of(&self.commands, &bench.outbox);
        let home = placement::partition(record.model.as_bytes(), count);
        if home != partition {
            // A stranger's client places keys in its own way; the model's judge sits elsewhere.
            let fit = bench.outbox.offer(Outgoing {
                topic: &self.commands,
                partition: home,
                key: Some(record.model.as_bytes()),
                value: Some(&record.write()),
                carried: &[],
                ours: &[],
                at: None,
            })?;
            return match fit {
                Fit::Sent => Ok(()),
                Fit::TooLarge => {
                    let reason = "the command is too large to be placed by its model";
                    let dead = Dead::left(&self.commands, (partition, offset), reason);
                    refuse(bench, &mut self.emitter, &dead)
                }
            };
        }
        let mut command = bounded(record, |document| parse(&document));
        if command.verb == Verb::Apply {
            refuse_missing_topics(&mut command, bench, &mut self.partitions);
        }
        self.carry_out(partition, command)
    }

    fn carry_out(&mut self, partition: i32, command: Command) -> Result<(), ShellError> {
        let model = command.model.clone();
        let Some(mut bench) = self.benches.remove(&partition) else { return Ok(()) };
        if !bench.seats.contains_key(&model) {
            // The first spec of a model makes its judge; anything else is answered by one that knows nothing.
            let plan = match &command.spec {
                Some(Parsed::Model(written)) => written.plan.clone(),
                Some(Parsed::Rollout(_) | Parsed::Invalid(_)) | None => unknown_model(&model),
            };
            let settings = self.judge_settings(&plan, &bench.outbox);
            let partials = LaneTopics::of(&self.options.settings.app, &plan).partials;
            let judge = Judge::new(settings);
            bench
                .seats
                .insert(model.clone(), Seat { judge, plan, partials, next: 0, is_touched: false });
        }
        let mut out = Vec::new();
        if let Some(seat) = bench.seats.get_mut(&model) {
            seat.judge.handle(clock::now(), Event::Command(Box::new(command)), &mut out);
        }
        publish(&mut bench, &model, out, &mut self.partitions, self.options)?;
        // A judge that still knows nothing is made anew with the next command, with the topics of then.
        if bench.seats.get(&model).is_some_and(|it| it.judge.standing().is_none()) {
            bench.seats.remove(&model);
        }
        self.benches.insert(partition, bench);
        self.assign_feed()
    }

    /// Reads the partials of all models that are judged here, from where the last judgement was committed.
    fn assign_feed(&mut self) -> Result<(), ShellError> {
        let mut wanted = TopicPartitionList::new();
        for seat in self.benches.values().flat_map(|it| it.seats.values()) {
            if seat.judge.standing().is_some() {
                wanted
                    .add_partition_offset(&seat.partials, 0, Offset::Offset(seat.next))
                    .map_err(ShellError::kafka("assign partials"))?;
            }
        }
        let assigned =
            self.feed.assignment().map_err(ShellError::kafka("list the assigned partials"))?;
        let is_same = assigned.count() == wanted.count()
            && wanted.elements().iter().all(|it| assigned.find_partition(it.topic(), 0).is_some());
        if is_same {
            return Ok(());
        }
        self.feed.assign(&wanted).map_err(ShellError::kafka("assign partials"))
    }

    fn read_partials(&mut self) -> Result<(), ShellError> {
        for _ in 0..BATCH_MAX {
            let (topic, offset, partial) = match self.feed.poll(Duration::ZERO) {
                None => break,
                Some(Err(KafkaError::PartitionEOF(_))) => continue,
                Some(Err(error)) => {
                    warn!(%error, "partials cannot be read just now");
                    break;
                }
                Some(Ok(message)) => {
                    let read = message.payload().and_then(|it| PartialRecord::read(it).ok());
                    let partial = read.and_then(|it| it.partial().ok());
                    (message.topic().to_owned(), message.offset(), partial)
                }
            };
            self.partial(&topic, offset, partial)?;
        }
        Ok(())
    }

    fn partial(
        &mut self,
        topic: &str,
        offset: i64,
        partial: Option<crate::engine::partial::Partial>,
    ) -> Result<(), ShellError> {
        for bench in self.benches.values_mut() {
            let seat = bench.seats.iter_mut().find(|(_, it)| it.partials == topic);
            let Some((model, seat)) = seat else { continue };
            if offset < seat.next {
                return Ok(());
            }
            seat.next = offset + 1;
            seat.is_touched = true;
            let model = model.clone();
            let mut out = Vec::new();
            if let Some(partial) = partial {
                seat.judge.handle(clock::now(), Event::Partial(Box::new(partial)), &mut out);
            }
            bench.outbox.open()?;
            return publish(bench, &model, out, &mut self.partitions, self.options);
        }
        Ok(())
    }
}

/// Sends a command that nobody can carry out to the dead letters of the model that its key names; without one it is counted.
fn refuse(bench: &mut Bench, emitter: &mut Emitter, dead: &Dead) -> Result<(), ShellError> {
    let Dead { partition, offset, reason, .. } = dead;
    warn!(partition, offset, reason = shrink::cut(reason), "a command cannot be read");
    let key = dead.carried.key.as_deref().and_then(|it| std::str::from_utf8(it).ok());
    let seat = key.and_then(|it| bench.seats.get(&ModelName::new(it)));
    if let Some(seat) = seat {
        return emitter.bury(&seat.plan, dead, &mut bench.outbox, &mut bench.refused);
    }
    bench.refused.add(&ModelName::new(NO_MODEL), Counter::CommandUnreadable, 1);
    Ok(())
}

/// A spec whose topics are not there is refused with words: nobody could be asked, and nothing could be joined.
fn refuse_missing_topics(command: &mut Command, bench: &Bench, partitions: &mut PartitionCounts) {
    let mut missing = Vec::new();
    let mut want = |topic: String| {
        if partitions.of(&topic, &bench.outbox) == 0 {
            missing.push(topic);
        }
    };
    match &command.spec {
        Some(Parsed::Model(written)) => {
            let topics = &written.plan.topics;
            want(topics.requests.clone());
            want(topics.responses.clone());
            want(topics.served.clone());
            want(topics.predictions.clone());
            want(topics.of_version(&written.plan.stable));
        }
        Some(Parsed::Rollout(written)) => {
            if let Some(seat) = bench.seats.get(&written.plan.model) {
                for version in written.plan.versions() {
                    want(seat.plan.topics.of_version(version));
                }
            }
        }
        Some(Parsed::Invalid(_)) | None => {}
    }
    if !missing.is_empty() {
        let words = format!(
            "topics are missing: {}; `serinus topics create` with this spec makes them",
            missing.join(", ")
        );
        command.spec = Some(Parsed::Invalid(words));
    }
}

fn publish(
    bench: &mut Bench,
    model: &ModelName,
    effects: Vec<Effect>,
    partitions: &mut PartitionCounts,
    options: &RunOptions,
) -> Result<(), ShellError> {
    let settings = &options.settings;
    // A model's first change comes with the state that says its format.
    let applied = effects.iter().find_map(|it| match it {
        Effect::State(standing) => Some(standing.model.plan.format),
        Effect::Change(_) | Effect::Report(_) | Effect::Count(..) => None,
    });
    let known = bench.seats.get(model).map(|it| it.plan.format);
    let format = applied.or(known).unwrap_or(Format::Json);
    for effect in effects {
        let (topic, key, value) = match effect {
            Effect::Change(change) => {
                let record = EventRecord::from(&*change);
                info!(%model, sequence = record.sequence, reason = record.reason, "decided");
                (settings.topic("rollout-events"), record.key().to_owned(), record.encode(format))
            }
            Effect::State(standing) => {
                let record = StateRecord::from(&*standing);
                if let Some(seat) = bench.seats.get_mut(model) {
                    seat.plan = standing.model.plan.clone();
                }
                (settings.topic("rollouts"), record.key().to_owned(), record.encode(format))
            }
            Effect::Report(report) => {
                let record = MetricsRecord::from(&*report);
                (settings.topic("rollout-metrics"), record.key().to_owned(), record.encode(format))
            }
            Effect::Count(counter, n) => {
                *bench.counts.entry((model.clone(), counter.describe().0)).or_default() += n;
                continue;
            }
        };
        let count = partitions.of(&topic, &bench.outbox).max(1);
        bench.outbox.send(Outgoing {
            topic: &topic,
            partition: placement::partition(key.as_bytes(), count),
            key: Some(key.as_bytes()),
            value: Some(&value),
            carried: &[],
            ours: &[],
            at: None,
        })?;
    }
    Ok(())
}

fn commit(
    bench: &mut Bench,
    commands: &str,
    member: &Member,
    board: &Board,
) -> Result<(), ShellError> {
    let mut offsets = TopicPartitionList::new();
    let mut add = |topic: &str, partition: i32, next: i64| {
        offsets
            .add_partition_offset(topic, partition, Offset::Offset(next))
            .map_err(ShellError::kafka("list offsets"))
    };
    if bench.is_touched {
        add(commands, bench.partition, bench.next)?;
    }
    for seat in bench.seats.values().filter(|it| it.is_touched) {
        add(&seat.partials, 0, seat.next)?;
    }
    bench.outbox.commit(&offsets, &member.metadata()?)?;
    bench.is_touched = false;
    bench.seats.values_mut().for_each(|it| it.is_touched = false);
    bench.refused.tell(board);
    for ((model, name), n) in std::mem::take(&mut bench.counts) {
        board.add(&model, name, n);
    }
    Ok(())
}

/// Reads a document of either kind.
pub fn parse(document: &Value) -> Parsed {
    let invalid = |error: crate::spec::error::SpecErrors| Parsed::Invalid(error.to_string());
    match document.get("kind").and_then(Value::as_str) {
        Some("Model") => model_from_json(document).map_or_else(invalid, |plan| {
            Parsed::Model(Box::new(Written { plan, document: document.clone() }))
        }),
        Some("Rollout") => rollout_from_json(document).map_or_else(invalid, |plan| {
            Parsed::Rollout(Box::new(Written { plan, document: document.clone() }))
        }),
        Some(other) => Parsed::Invalid(format!("`{other}` is neither a Model nor a Rollout")),
        None => Parsed::Invalid("the document has no kind".to_owned()),
    }
}

/// A plan for a model that was never applied: its names are the contract's.
fn unknown_model(model: &ModelName) -> ModelPlan {
    use crate::domain::ids::Version;
    use crate::domain::routing::OnFailure;
    use crate::domain::time::Span;
    use crate::strategy::stage::{LabelMap, ModelTopics, Source};
    ModelPlan {
        name: model.clone(),
        stable: Version::new(""),
        unit: Source::Key,
        request_id: None,
        segments: Vec::new(),
        timeout: Span::ZERO,
        shadow_timeout: Span::ZERO,
        on_failure: OnFailure::Error,
        default: None,
        labels: LabelMap { request_id: Source::Key, value: String::new(), observed_at: None },
        format: Format::Json,
        topics: ModelTopics::of(model),
        open_cases_max: 0,
        partitions: 1,
    }
}
