//! The control role: one judge per model, at the instance that owns the model's partition of commands.
//!
//! The transactional id of a judge belongs to its partition of commands, so that a new owner fences the previous one. A
//! judge reads state only after that. Commands, partials, and the judge's output are committed in one transaction.

mod partials;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::{BorrowedMessage, Message};
use tracing::{debug, info, info_span, warn};

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::committed_offsets::Committed;
use crate::kafka::client::consumer_group::{GroupMember, RebalanceEvent};
use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::partition_counts::PartitionCounts;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_scan;
use crate::kafka::client::transaction::{Sent, TransactionalProducer};
use crate::kafka::control::commands::{bounded, first_plan, missing_topics};
use crate::kafka::control::shard::{
    CommandShard, ModelJudge, OURS, ROLE, ReplayedInputs, SETTLE_MAX, add_rebuilt, answered,
    commit, heard, publish, refuse, runs,
};
use crate::kafka::control::topic_ownership;
use crate::kafka::lanes::dead_letters::{DeadLetter, DeadLetterWriter};
use crate::kafka::lanes::decode;
use crate::kafka::lanes::internal_topics::InternalTopics;
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::lanes::spec_document::{parse, parse_accepted};
use crate::kafka::process::clock;
use crate::kafka::process::failpoints::{self, Failpoint};
use crate::kafka::process::liveness::{Activity, Heartbeat};
use crate::kafka::process::metrics::{MetricsRegistry, PendingCounts};
use crate::kafka::process::shutdown::Shutdown;
use crate::wire::command::CommandRecord;
use crate::wire::journal::{JudgeInput, JudgeStart, JudgeStep, PartialOffsets};
use crate::wire::partial::PartialRecord;
use crate::wire::placement;
use crate::wire::state::StateRecord;
use serinus_core::domain::ids::ModelName;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::judge::command::{Command, Parsed, Verb};
use serinus_core::engine::judge::io::{Event, Settings as JudgeSettings};
use serinus_core::engine::judge::judge::Judge;
use serinus_core::engine::judge::state::ModelState;
use serinus_core::inference::input::Detail;
use serinus_core::plan::rollout::ModelPlan;

/// Maximum time for which one iteration of the loop waits for a command.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// Maximum number of commands, and of partials, in one iteration of the loop.
const BATCH_MAX: usize = 500;

/// Pause before withheld offsets are requested again.
const PAUSE: Duration = Duration::from_millis(500);
/// Maximum total size of a command's id and the names of its model and rollout.
const NAMES_BYTES_MAX: usize = 2000;

struct Session<'a> {
    options: &'a RunOptions,
    heartbeat: Heartbeat,
    member: GroupMember,
    feed: BaseConsumer<LogContext>,
    replay: PartitionReader,
    partitions: PartitionCounts,
    dead_letters: DeadLetterWriter,
    board: &'a MetricsRegistry,
    commands: String,
    shards: BTreeMap<i32, CommandShard>,
}

/// Runs the role until a stop is requested. After an error the caller restarts it from the committed offsets.
pub fn control(
    options: &RunOptions,
    stop: &Shutdown,
    board: &MetricsRegistry,
) -> Result<(), ShellError> {
    let _span = info_span!("role", name = ROLE).entered();
    let settings = &options.settings;
    let heartbeat = board.liveness.role(ROLE);
    let commands = settings.topic("commands");
    let slot = format!("{}.control.{}", settings.app, options.instance);
    let group = format!("{}.control", settings.app);
    let mut member =
        GroupMember::new(settings, &group, options.is_static.then_some(slot.as_str()))?;
    member.subscribe(vec![commands.clone()])?;
    let feed = settings
        .reader()
        .create_with_context(LogContext)
        .map_err(ShellError::kafka("set up the reader of partials"))?;
    let mut session = Session {
        replay: PartitionReader::new(settings)?.with_heartbeat(heartbeat.clone()),
        heartbeat,
        options,
        member,
        feed,
        partitions: PartitionCounts::default(),
        dead_letters: DeadLetterWriter::default(),
        board,
        commands,
        shards: BTreeMap::new(),
    };
    let Err(error) = session.run(stop) else { return Ok(()) };
    for (_, shard) in std::mem::take(&mut session.shards) {
        shard.producer.abandon();
    }
    Err(error)
}

impl Session<'_> {
    fn run(&mut self, stop: &Shutdown) -> Result<(), ShellError> {
        while !stop.is_requested() {
            self.heartbeat.report(self.member.activity());
            self.read_commands()?;
            self.read_partials()?;
            let now = clock::now();
            for shard in self.shards.values_mut() {
                let due: Vec<ModelName> = shard
                    .judges
                    .iter()
                    .filter(|(_, s)| s.judge.next_wake().is_some_and(|at| at <= now))
                    .map(|(model, _)| model.clone())
                    .collect();
                for model in due {
                    let mut out = Vec::new();
                    if let Some(model_judge) = shard.judges.get_mut(&model) {
                        model_judge.judge.tick(now, &mut out);
                    }
                    let input = step(&model, now, JudgeInput::Silence);
                    publish(shard, &input, &out, &mut self.partitions, self.options)?;
                }
                if shard.producer.is_due(true) {
                    commit(shard, &self.commands, &self.member, self.board)?;
                }
            }
        }
        self.commit_open()
    }

    fn read_commands(&mut self) -> Result<(), ShellError> {
        let mut wait = WAIT_MAX;
        for _ in 0..BATCH_MAX {
            let polled = self.member.poll(wait).map(|w| w.map(|i| receive(&i)));
            wait = Duration::ZERO;
            let is_drained = !matches!(polled, Some(Ok(_)));
            match polled {
                None => {}
                Some(Ok((partition, offset, record))) => self.command(partition, offset, record)?,
                Some(Err(error)) => {
                    if let Some(failure) = self.member.failure("read commands", error) {
                        return Err(failure);
                    }
                }
            }
            for change in self.member.rebalanced() {
                self.rebalance(change)?;
            }
            if is_drained {
                break;
            }
        }
        Ok(())
    }

    fn rebalance(&mut self, change: RebalanceEvent) -> Result<(), ShellError> {
        match change {
            RebalanceEvent::Revoked(partitions) => {
                for (_, partition) in &partitions {
                    if let Some(mut shard) = self.shards.remove(partition)
                        && shard.producer.is_open()
                    {
                        commit(&mut shard, &self.commands, &self.member, self.board)?;
                    }
                }
                let gone: Vec<(&str, i32)> =
                    partitions.iter().map(|(topic, p)| (topic.as_str(), *p)).collect();
                failpoints::at(ROLE, Failpoint::BeforeRelease);
                self.member.release(&gone)?;
                failpoints::at(ROLE, Failpoint::AfterRelease);
            }
            RebalanceEvent::Lost(_) => return Err(ShellError::Lost),
            RebalanceEvent::Assigned(partitions) => {
                // The group waits for this answer even if there is nothing to accept.
                self.member.accept(&[])?;
                for (topic, partition) in partitions {
                    // Our open transaction would hide the end of the journal from the next partition.
                    self.commit_open()?;
                    let (shard, from) = self.open_shard(partition)?;
                    self.member.accept(&[(&topic, partition, from)])?;
                    self.shards.insert(partition, shard);
                }
                failpoints::at(ROLE, Failpoint::AfterRestore);
            }
        }
        self.assign_feed()
    }

    /// Commits the open transaction of every partition.
    fn commit_open(&mut self) -> Result<(), ShellError> {
        for shard in self.shards.values_mut().filter(|shard| shard.producer.is_open()) {
            commit(shard, &self.commands, &self.member, self.board)?;
        }
        Ok(())
    }

    /// Fences the previous owner, then reads the state of the models, then the partials up to the last judged one.
    fn open_shard(&mut self, partition: i32) -> Result<(CommandShard, Offset), ShellError> {
        let settings = &self.options.settings;
        self.heartbeat.report(Activity::begin(&self.commands, partition));
        let producer = TransactionalProducer::fence(
            settings,
            &format!("{}.judge.{partition}", settings.app),
            self.heartbeat.clone(),
        )?;
        let count = self.partitions.of(&self.commands, &producer)?;
        // A judge of another partition may have left a transaction open on that topic.
        let rollouts = settings.topic("rollouts");
        self.replay.await_stable(&rollouts, SETTLE_MAX)?;
        let mut states = read_states(settings, &self.heartbeat)?;
        add_rebuilt(settings, &self.heartbeat, &mut states)?;
        let mut heard = self.heard(partition, &states)?;
        let next = heard.commands;
        let mut shard = CommandShard {
            partition,
            producer,
            next,
            // Commit at once, so that a withheld offset is the older one and cannot return.
            is_touched: heard.is_read() && next > 0,
            judges: BTreeMap::new(),
            counts: PendingCounts::default(),
        };
        for (model, state) in states {
            if placement::partition(model.as_bytes(), count) == partition {
                match state.model_state(parse_accepted) {
                    Ok(standing) => {
                        let model_judge = self.restore(&mut shard, standing, &mut heard)?;
                        let name = ModelName::from(model);
                        shard.judges.insert(name.clone(), model_judge);
                        self.begin(&mut shard, &name)?;
                    }
                    Err(error) => warn!(model, %error, "model state unreadable"),
                }
            }
        }
        info!(partition, models = shard.judges.len(), "judging");
        Ok((shard, if next == 0 { Offset::Beginning } else { Offset::Offset(next) }))
    }

    /// Returns the position in a partition of commands: from the group's offset; if that is withheld or not ours, from
    /// the judges' journal; without a journal, from the events.
    fn heard(
        &self,
        partition: i32,
        states: &BTreeMap<String, StateRecord>,
    ) -> Result<ReplayedInputs, ShellError> {
        let (settings, topic) = (&self.options.settings, self.commands.as_str());
        let (committed, is_certain) = self.committed(topic, partition)?;
        let ours = committed.as_ref().filter(|(_, metadata)| metadata == OURS).map(|m| m.0);
        let from = (&self.replay, &self.heartbeat);
        let mut heard = match ours {
            Some(_) if is_certain => ReplayedInputs::default(),
            Some(_) | None => heard(settings, from, partition)?,
        };
        if is_certain && ours.is_none() && heard.commands == 0 {
            heard.commands = answered(settings, from, (topic, partition), states)?;
        }
        heard.commands = heard.commands.max(ours.unwrap_or(0));
        let next = heard.commands;
        if let Some((offset, _)) = committed.filter(|c| is_certain && c.0 != next) {
            warn!(
                topic,
                partition,
                offset,
                next,
                "committed offset was set by another program: using the newest answered command"
            );
        }
        Ok(heard)
    }

    /// Reads the committed offset of a partition and whether it is certain. Waits while the broker withholds it.
    fn committed(&self, topic: &str, partition: i32) -> Result<(Committed, bool), ShellError> {
        loop {
            match self.member.committed(&[(topic, partition)]) {
                Ok(found) => {
                    let (committed, _, is_certain) = found.pair();
                    return Ok((committed, is_certain));
                }
                Err(why) if why.awaits_transaction() => {
                    debug!(%why, "judge waiting for committed offsets");
                    self.heartbeat.report(Activity::begin(topic, partition));
                    thread::park_timeout(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn restore(
        &mut self,
        shard: &mut CommandShard,
        standing: ModelState,
        heard: &mut ReplayedInputs,
    ) -> Result<ModelJudge, ShellError> {
        let plan = standing.model.plan.clone();
        let settings = self.judge_settings(&plan);
        let partials = InternalTopics::of(&self.options.settings.app, &plan.name).partials;
        let (committed, _) = self.committed(&partials, 0)?;
        let (mut next, metadata) = committed.unwrap_or_default();
        let start = JudgeStart::from_metadata(&metadata);
        if start.is_none() {
            // The offset is lost or was set by another program: only the journal shows what was judged.
            heard.read_if_not(
                &self.options.settings,
                (&self.replay, &self.heartbeat),
                shard.partition,
            )?;
            next = 0;
        }
        // The start covers partials before this offset up to its tick. Behind it, every partial counts.
        let named = start.as_ref().map_or(0, |_| next);
        let (mut wanted, judged) = match start {
            Some(start) => (start.partials, start.judged),
            // An earlier build committed the offset, or none was committed.
            None => (PartialOffsets::From(0), None),
        };
        if let Some(heard) = heard.partials.get(&plan.name).filter(|n| **n > next) {
            wanted = PartialOffsets::From(wanted.first().unwrap_or(next));
            next = *heard;
        }
        let mut model_judge =
            ModelJudge::new(Judge::restore(settings, standing), plan, partials.clone());
        model_judge.next = next;
        for (from, to) in runs(&wanted, next) {
            self.replay.range(&partials, 0, from, Some(to), |message| {
                let offset = message.offset();
                let is_wanted = match &wanted {
                    PartialOffsets::At(offsets) => offsets.binary_search(&offset).is_ok(),
                    PartialOffsets::From(_) => true,
                };
                let bytes = message.payload().filter(|_| is_wanted);
                let read = bytes.and_then(|i| PartialRecord::read(i).ok());
                if let Some(partial) = read.and_then(|p| p.partial().ok()) {
                    model_judge.note(&partial, offset);
                    if offset < named {
                        model_judge.judge.recall(partial);
                    } else {
                        model_judge.judge.recall_in_order(partial);
                    }
                }
            })?;
        }
        model_judge.judge.has_judged(judged);
        Ok(model_judge)
    }

    /// Opens the judge of a model and journals that.
    fn begin(&mut self, shard: &mut CommandShard, model: &ModelName) -> Result<(), ShellError> {
        let Some(model_judge) = shard.judges.get_mut(model) else { return Ok(()) };
        let now = clock::now();
        let predictions = &model_judge.plan.topics.predictions;
        let partitions = self.partitions.of(predictions, &shard.producer)?.max(1);
        model_judge.judge.open(now);
        let sequence = model_judge.judge.state().map_or(0, |s| s.sequence);
        let step = step(model, now, JudgeInput::Open { partitions, sequence });
        publish(shard, &step, &[], &mut self.partitions, self.options)
    }

    fn judge_settings(&self, plan: &ModelPlan) -> JudgeSettings {
        JudgeSettings {
            model: plan.name.clone(),
            labels_topic: InternalTopics::of(&self.options.settings.app, &plan.name).labels,
            detail: Detail::Full,
        }
    }

    fn command(
        &mut self,
        partition: i32,
        offset: i64,
        record: Result<CommandRecord, Box<DeadLetter>>,
    ) -> Result<(), ShellError> {
        let Some(shard) = self.shards.get_mut(&partition) else { return Ok(()) };
        if offset < shard.next {
            return Ok(());
        }
        shard.next = offset + 1;
        shard.is_touched = true;
        shard.producer.open()?;
        let record = match record {
            Ok(record) => record,
            Err(dead) => return refuse(shard, &mut self.dead_letters, &dead),
        };
        let count = self.partitions.of(&self.commands, &shard.producer)?;
        let home = placement::partition(record.model.as_bytes(), count);
        if home != partition {
            // A client with another partitioner wrote the command; forward it to the model's judge.
            let fit = shard.producer.offer(Outgoing {
                topic: &self.commands,
                partition: home,
                key: Some(record.model.as_bytes()),
                value: Some(&record.write()),
                passthrough: &[],
                headers: &[],
                at: None,
            })?;
            return match fit {
                Sent::Sent => Ok(()),
                Sent::TooLarge => {
                    let reason = "the command is too large to be placed by its model";
                    let dead = DeadLetter::left(&self.commands, (partition, offset), reason);
                    refuse(shard, &mut self.dead_letters, &dead)
                }
            };
        }
        let mut command = bounded(record, |document| parse(&document));
        let refused = if command.verb == Verb::Apply {
            self.unfit_topics(partition, &command)?
        } else {
            None
        };
        if let Some(words) = &refused {
            command.spec = Some(Parsed::Invalid(words.clone()));
        }
        self.carry_out(partition, command, JudgeInput::Command { partition, offset, refused })
    }

    /// Returns why a spec cannot use its topics: they belong to another model, or do not exist.
    fn unfit_topics(
        &mut self,
        partition: i32,
        command: &Command,
    ) -> Result<Option<String>, ShellError> {
        let settings = &self.options.settings;
        // These are the models of other instances. The state of ours may not be committed yet.
        let mut standings: BTreeMap<ModelName, ModelState> =
            read_states(settings, &self.heartbeat)?
                .into_iter()
                .filter_map(|(model, state)| {
                    Some((ModelName::from(model), state.model_state(parse).ok()?))
                })
                .collect();
        let judges = self.shards.values().flat_map(|shard| &shard.judges);
        standings.extend(judges.filter_map(|(model, model_judge)| {
            Some((model.clone(), model_judge.judge.state()?.clone()))
        }));
        let taken = topic_ownership::refusal(&settings.app, command.spec.as_ref(), &standings);
        match self.shards.get(&partition) {
            Some(shard) if taken.is_none() => missing_topics(command, shard, &mut self.partitions),
            Some(_) | None => Ok(taken),
        }
    }

    fn carry_out(
        &mut self,
        partition: i32,
        command: Command,
        input: JudgeInput,
    ) -> Result<(), ShellError> {
        let model = command.model.clone();
        let Some(mut shard) = self.shards.remove(&partition) else { return Ok(()) };
        if !shard.judges.contains_key(&model) {
            let plan = first_plan(&command);
            let settings = self.judge_settings(&plan);
            let partials = InternalTopics::of(&self.options.settings.app, &plan.name).partials;
            let judge = Judge::new(settings);
            shard.judges.insert(model.clone(), ModelJudge::new(judge, plan, partials));
            self.begin(&mut shard, &model)?;
        }
        let (now, mut out) = (clock::now(), Vec::new());
        if let Some(model_judge) = shard.judges.get_mut(&model) {
            model_judge.judge.handle(now, Event::Command(Box::new(command)), &mut out);
        }
        let step = step(&model, now, input);
        publish(&mut shard, &step, &out, &mut self.partitions, self.options)?;
        // A judge without a model is created again for the next command, with the topics of that time.
        if shard.judges.get(&model).is_some_and(|m| m.judge.state().is_none()) {
            shard.judges.remove(&model);
        }
        self.shards.insert(partition, shard);
        self.assign_feed()
    }
}

fn receive(message: &BorrowedMessage<'_>) -> (i32, i64, Result<CommandRecord, Box<DeadLetter>>) {
    let read = match message.payload() {
        Some(bytes) => CommandRecord::read(bytes).map_err(|p| p.to_string()),
        None => Err("the command has no value".to_owned()),
    };
    let names =
        |c: &CommandRecord| c.id.len() + c.model.len() + c.rollout.as_ref().map_or(0, String::len);
    let record = read.and_then(|r| {
        let is_sane = names(&r) <= NAMES_BYTES_MAX;
        is_sane.then_some(r).ok_or_else(|| "the command's names are too long".to_owned())
    });
    let record = record.map_err(|reason| Box::new(decode::dead(message, reason)));
    (message.partition(), message.offset(), record)
}

/// Reads the committed state of all models.
fn read_states(
    settings: &Settings,
    heartbeat: &Heartbeat,
) -> Result<BTreeMap<String, StateRecord>, ShellError> {
    let rollouts = settings.topic("rollouts");
    let mut states: BTreeMap<String, StateRecord> = BTreeMap::new();
    topic_scan::scan(settings, &rollouts, Some(heartbeat), |message| {
        match message.payload().map(StateRecord::read) {
            Some(Ok(state)) => {
                states.insert(state.model.clone(), state);
            }
            Some(Err(error)) => warn!(%error, "model state unreadable"),
            None => {}
        }
    })?
    .or_missing(&rollouts)?;
    Ok(states)
}

fn step(model: &ModelName, now: Timestamp, input: JudgeInput) -> JudgeStep {
    JudgeStep { model: model.to_string(), now: now.0, told: input }
}
