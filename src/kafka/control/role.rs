//! The control role: one judge a model, at the owner of its commands' partition.
//!
//! A judge's transactional id belongs to the commands' partition, so that a deposed judge is fenced. It reads state only after it has
//! fenced. Commands, partials, and what the judge says of them are committed together.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::committed_offsets::Committed;
use crate::kafka::client::consumer_group::{GroupMember, RebalanceEvent};
use crate::kafka::client::error::{ShellError, is_retriable_by_role};
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

/// How long the loop sleeps at the most when nothing happens.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// How many partials are judged in one transaction at the most.
const BATCH_MAX: usize = 500;

/// How long the judge waits before it asks again for what is held back.
const PAUSE: Duration = Duration::from_millis(500);
/// The most that a command's id and the names of its model and rollout may have together.
const NAMES_BYTES_MAX: usize = 2000;

struct Session<'a> {
    options: &'a RunOptions,
    beat: Heartbeat,
    member: GroupMember,
    feed: BaseConsumer<LogContext>,
    replay: PartitionReader,
    partitions: PartitionCounts,
    dead_letters: DeadLetterWriter,
    board: &'a MetricsRegistry,
    commands: String,
    benches: BTreeMap<i32, CommandShard>,
}

/// Judges until it is asked to stop; after anything goes wrong the caller starts anew, from the committed offsets.
pub fn control(
    options: &RunOptions,
    stop: &Shutdown,
    board: &MetricsRegistry,
) -> Result<(), ShellError> {
    let settings = &options.settings;
    let beat = board.liveness.role(ROLE);
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
        replay: PartitionReader::new(settings)?.with_heartbeat(beat.clone()),
        beat,
        options,
        member,
        feed,
        partitions: PartitionCounts::default(),
        dead_letters: DeadLetterWriter::default(),
        board,
        commands,
        benches: BTreeMap::new(),
    };
    let Err(error) = session.run(stop) else { return Ok(()) };
    for (_, bench) in std::mem::take(&mut session.benches) {
        bench.outbox.abandon();
    }
    Err(error)
}

impl Session<'_> {
    fn run(&mut self, stop: &Shutdown) -> Result<(), ShellError> {
        while !stop.is_requested() {
            self.beat.report(self.member.activity());
            self.read_commands()?;
            self.read_partials()?;
            let now = clock::now();
            for bench in self.benches.values_mut() {
                let due: Vec<ModelName> = bench
                    .seats
                    .iter()
                    .filter(|(_, s)| s.judge.next_wake().is_some_and(|at| at <= now))
                    .map(|(model, _)| model.clone())
                    .collect();
                for model in due {
                    let mut out = Vec::new();
                    if let Some(seat) = bench.seats.get_mut(&model) {
                        seat.judge.tick(now, &mut out);
                    }
                    let told = step(&model, now, JudgeInput::Silence);
                    publish(bench, &told, &out, &mut self.partitions, self.options)?;
                }
                if bench.outbox.is_due(true) {
                    commit(bench, &self.commands, &self.member, self.board)?;
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
                    if let Some(mut bench) = self.benches.remove(partition)
                        && bench.outbox.is_open()
                    {
                        commit(&mut bench, &self.commands, &self.member, self.board)?;
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
                // The group waits for an answer also where there is nothing to take.
                self.member.accept(&[])?;
                for (topic, partition) in partitions {
                    // Our own open transaction would hide the journal's end from the partition that is opened next.
                    self.commit_open()?;
                    let (bench, from) = self.open_bench(partition)?;
                    self.member.accept(&[(&topic, partition, from)])?;
                    self.benches.insert(partition, bench);
                }
                failpoints::at(ROLE, Failpoint::AfterRestore);
            }
        }
        self.assign_feed()
    }

    /// Commits what is open of any partition.
    fn commit_open(&mut self) -> Result<(), ShellError> {
        for bench in self.benches.values_mut().filter(|bench| bench.outbox.is_open()) {
            commit(bench, &self.commands, &self.member, self.board)?;
        }
        Ok(())
    }

    /// Fences, then reads where the models stand, then what the lanes said until the last judgement.
    fn open_bench(&mut self, partition: i32) -> Result<(CommandShard, Offset), ShellError> {
        let settings = &self.options.settings;
        self.beat.report(Activity::begin(&self.commands, partition));
        let outbox = TransactionalProducer::fence(
            settings,
            &format!("{}.judge.{partition}", settings.app),
            self.beat.clone(),
        )?;
        let count = self.partitions.of(&self.commands, &outbox)?;
        // A judge whose model is not among ours may have left a transaction open there.
        let rollouts = settings.topic("rollouts");
        self.replay.await_stable(&rollouts, SETTLE_MAX)?;
        let mut states = read_states(settings, &self.beat)?;
        add_rebuilt(settings, &self.beat, &mut states)?;
        let mut heard = self.heard(partition, &states)?;
        let next = heard.commands;
        let mut bench = CommandShard {
            partition,
            outbox,
            next,
            // What is held back is older then, and does not come back.
            is_touched: heard.is_read() && next > 0,
            seats: BTreeMap::new(),
            counts: BTreeMap::new(),
            refused: PendingCounts::default(),
        };
        for (model, state) in states {
            if placement::partition(model.as_bytes(), count) == partition {
                match state.model_state(parse_accepted) {
                    Ok(standing) => {
                        let seat = self.restore(&mut bench, standing, &mut heard)?;
                        let name = ModelName::from(model);
                        bench.seats.insert(name.clone(), seat);
                        self.begin(&mut bench, &name)?;
                    }
                    Err(error) => warn!(model, %error, "where a model stands cannot be read"),
                }
            }
        }
        info!(partition, models = bench.seats.len(), "judging");
        Ok((bench, if next == 0 { Offset::Beginning } else { Offset::Offset(next) }))
    }

    /// Returns how far the commands of a partition were heard: by the group's offset, and where that is not all or not ours, by the
    /// judges' journal, and without a journal by the events.
    fn heard(
        &self,
        partition: i32,
        states: &BTreeMap<String, StateRecord>,
    ) -> Result<ReplayedInputs, ShellError> {
        let (settings, topic) = (&self.options.settings, self.commands.as_str());
        let (committed, is_certain) = self.committed(topic, partition)?;
        let ours = committed.as_ref().filter(|(_, metadata)| metadata == OURS).map(|m| m.0);
        let from = (&self.replay, &self.beat);
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
                "the group's offset was set by another program; what was answered counts"
            );
        }
        Ok(heard)
    }

    /// Reads what the group has committed of a partition, and whether that is all; waits where it is held back.
    fn committed(&self, topic: &str, partition: i32) -> Result<(Committed, bool), ShellError> {
        loop {
            match self.member.committed(&[(topic, partition)]) {
                Ok(found) => {
                    let (committed, _, is_certain) = found.pair();
                    return Ok((committed, is_certain));
                }
                Err(why) if why.awaits_transaction() => {
                    debug!(%why, "the judge waits");
                    self.beat.report(Activity::begin(topic, partition));
                    thread::park_timeout(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn restore(
        &mut self,
        bench: &mut CommandShard,
        standing: ModelState,
        heard: &mut ReplayedInputs,
    ) -> Result<ModelJudge, ShellError> {
        let plan = standing.model.plan.clone();
        let settings = self.judge_settings(&plan, &bench.outbox)?;
        let partials = InternalTopics::of(&self.options.settings.app, &plan.name).partials;
        let (committed, _) = self.committed(&partials, 0)?;
        let (mut next, metadata) = committed.unwrap_or_default();
        let start = JudgeStart::from_metadata(&metadata);
        if start.is_none() {
            // Gone, or set by another program: only the journal says what was judged.
            heard.read_if_not(
                &self.options.settings,
                (&self.replay, &self.beat),
                bench.partition,
            )?;
            next = 0;
        }
        // What stands before this is known to be judged up to the tick that is named; after it each is one of all that came.
        let named = start.as_ref().map_or(0, |_| next);
        let (mut wanted, judged) = match start {
            Some(start) => (start.partials, start.judged),
            // Committed by an earlier build, or never.
            None => (PartialOffsets::From(0), None),
        };
        if let Some(heard) = heard.partials.get(&plan.name).filter(|n| **n > next) {
            wanted = PartialOffsets::From(wanted.first().unwrap_or(next));
            next = *heard;
        }
        let mut seat = ModelJudge::new(Judge::restore(settings, standing), plan, partials.clone());
        seat.next = next;
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
                    seat.note(&partial, offset);
                    if offset < named {
                        seat.judge.recall(partial);
                    } else {
                        seat.judge.recall_in_order(partial);
                    }
                }
            })?;
        }
        seat.judge.has_judged(judged);
        Ok(seat)
    }

    /// Lets a model's judge begin, and writes that down.
    fn begin(&mut self, bench: &mut CommandShard, model: &ModelName) -> Result<(), ShellError> {
        let Some(seat) = bench.seats.get_mut(model) else { return Ok(()) };
        let now = clock::now();
        let predictions = &seat.plan.topics.predictions;
        let partitions = self.partitions.of(predictions, &bench.outbox)?.max(1);
        seat.judge.open(now, partitions);
        let sequence = seat.judge.standing().map_or(0, |s| s.sequence);
        let step = step(model, now, JudgeInput::Open { partitions, sequence });
        publish(bench, &step, &[], &mut self.partitions, self.options)
    }

    fn judge_settings(
        &mut self,
        plan: &ModelPlan,
        outbox: &TransactionalProducer,
    ) -> Result<JudgeSettings, ShellError> {
        Ok(JudgeSettings {
            model: plan.name.clone(),
            partitions: self.partitions.of(&plan.topics.predictions, outbox)?.max(1),
            labels_topic: InternalTopics::of(&self.options.settings.app, &plan.name).labels,
            detail: Detail::Full,
        })
    }

    fn command(
        &mut self,
        partition: i32,
        offset: i64,
        record: Result<CommandRecord, Box<DeadLetter>>,
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
            Err(dead) => return refuse(bench, &mut self.dead_letters, &dead),
        };
        let count = self.partitions.of(&self.commands, &bench.outbox)?;
        let home = placement::partition(record.model.as_bytes(), count);
        if home != partition {
            // A stranger's client places keys in its own way; the model's judge sits elsewhere.
            let fit = bench.outbox.offer(Outgoing {
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
                    refuse(bench, &mut self.dead_letters, &dead)
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

    /// Returns why a spec cannot have its topics: they are somebody else's, or are not there.
    fn unfit_topics(
        &mut self,
        partition: i32,
        command: &Command,
    ) -> Result<Option<String>, ShellError> {
        let settings = &self.options.settings;
        // Of the models that are judged elsewhere; where ours stand may not be committed yet.
        let mut standings: BTreeMap<ModelName, ModelState> = read_states(settings, &self.beat)?
            .into_iter()
            .filter_map(|(model, state)| {
                Some((ModelName::from(model), state.model_state(parse).ok()?))
            })
            .collect();
        let seats = self.benches.values().flat_map(|bench| &bench.seats);
        standings.extend(
            seats.filter_map(|(model, seat)| Some((model.clone(), seat.judge.standing()?.clone()))),
        );
        let taken = topic_ownership::refusal(&settings.app, command.spec.as_ref(), &standings);
        match self.benches.get(&partition) {
            Some(bench) if taken.is_none() => missing_topics(command, bench, &mut self.partitions),
            Some(_) | None => Ok(taken),
        }
    }

    fn carry_out(
        &mut self,
        partition: i32,
        command: Command,
        told: JudgeInput,
    ) -> Result<(), ShellError> {
        let model = command.model.clone();
        let Some(mut bench) = self.benches.remove(&partition) else { return Ok(()) };
        if !bench.seats.contains_key(&model) {
            let plan = first_plan(&command);
            let settings = self.judge_settings(&plan, &bench.outbox)?;
            let partials = InternalTopics::of(&self.options.settings.app, &plan.name).partials;
            let judge = Judge::new(settings);
            bench.seats.insert(model.clone(), ModelJudge::new(judge, plan, partials));
            self.begin(&mut bench, &model)?;
        }
        let (now, mut out) = (clock::now(), Vec::new());
        if let Some(seat) = bench.seats.get_mut(&model) {
            seat.judge.handle(now, Event::Command(Box::new(command)), &mut out);
        }
        let step = step(&model, now, told);
        publish(&mut bench, &step, &out, &mut self.partitions, self.options)?;
        // A judge that still knows nothing is made anew with the next command, with the topics of then.
        if bench.seats.get(&model).is_some_and(|m| m.judge.standing().is_none()) {
            bench.seats.remove(&model);
        }
        self.benches.insert(partition, bench);
        self.assign_feed()
    }

    /// Reads the partials of all models that are judged here, from where the last judgement was committed.
    fn assign_feed(&mut self) -> Result<(), ShellError> {
        let mut wanted = TopicPartitionList::new();
        for seat in self.benches.values().flat_map(|b| b.seats.values()) {
            if seat.judge.standing().is_some() {
                wanted
                    .add_partition_offset(&seat.partials, 0, Offset::Offset(seat.next))
                    .map_err(ShellError::kafka("assign partials"))?;
            }
        }
        let assigned =
            self.feed.assignment().map_err(ShellError::kafka("list the assigned partials"))?;
        let is_same = assigned.count() == wanted.count()
            && wanted.elements().iter().all(|e| assigned.find_partition(e.topic(), 0).is_some());
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
                    // Said at every look while brokers are away.
                    if is_retriable_by_role(&error) {
                        debug!(%error, "partials: the client tries again");
                    } else {
                        warn!(%error, "partials cannot be read just now");
                    }
                    break;
                }
                Some(Ok(message)) => {
                    let read = message.payload().and_then(|p| PartialRecord::read(p).ok());
                    let partial = read.and_then(|p| p.partial().ok());
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
        partial: Option<serinus_core::engine::partial::Partial>,
    ) -> Result<(), ShellError> {
        for bench in self.benches.values_mut() {
            let seat = bench.seats.iter_mut().find(|(_, s)| s.partials == topic);
            let Some((model, seat)) = seat else { continue };
            if offset < seat.next {
                return Ok(());
            }
            seat.next = offset + 1;
            seat.is_touched = true;
            let model = model.clone();
            let (now, mut out) = (clock::now(), Vec::new());
            if let Some(partial) = partial {
                seat.note(&partial, offset);
                seat.judge.handle(now, Event::Partial(Box::new(partial)), &mut out);
            }
            let step = step(&model, now, JudgeInput::Partial { offset });
            return publish(bench, &step, &out, &mut self.partitions, self.options);
        }
        Ok(())
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

/// Reads where all models stand, as far as that is committed.
fn read_states(
    settings: &Settings,
    beat: &Heartbeat,
) -> Result<BTreeMap<String, StateRecord>, ShellError> {
    let rollouts = settings.topic("rollouts");
    let mut states: BTreeMap<String, StateRecord> = BTreeMap::new();
    topic_scan::scan(settings, &rollouts, Some(beat), |message| {
        match message.payload().map(StateRecord::read) {
            Some(Ok(state)) => {
                states.insert(state.model.clone(), state);
            }
            Some(Err(error)) => warn!(%error, "the state of a model cannot be read"),
            None => {}
        }
    })?
    .or_missing(&rollouts)?;
    Ok(states)
}

fn step(model: &ModelName, now: Timestamp, told: JudgeInput) -> JudgeStep {
    JudgeStep { model: model.to_string(), now: now.0, told }
}
