//! One assigned partition of commands: its producer, its judges, and the transaction in which they publish.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::message::Message;
use tracing::{debug_span, info, warn};

use crate::kafka::client::committed_offsets;
use crate::kafka::client::consumer_group::GroupMember;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::partition_counts::PartitionCounts;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_scan;
use crate::kafka::client::transaction::TransactionalProducer;
use crate::kafka::control::records;
use crate::kafka::lanes::dead_letters::{DeadLetter, DeadLetterWriter};
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::lanes::size_limit;
use crate::kafka::process::failpoints::{self, Failpoint, Role};
use crate::kafka::process::liveness::Heartbeat;
use crate::kafka::process::metrics::{MetricsRegistry, PendingCounts};
use crate::wire::command::CommandRecord;
use crate::wire::event::EventRecord;
use crate::wire::journal::{JudgeInput, JudgeStart, JudgeStep, PartialOffsets};
use crate::wire::placement;
use crate::wire::state::StateRecord;
use crate::wire::state_from_events;
use serinus_core::domain::ids::{ModelName, RolloutName};
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::counter::Counter;
use serinus_core::engine::judge::io::Effect;
use serinus_core::engine::judge::judge::Judge;
use serinus_core::engine::partial::Partial;
use serinus_core::plan::rollout::ModelPlan;

/// The suffix of the topic that journals the input of each judge step.
pub const JOURNAL: &str = "internal.judge-journal";
/// The role's name in logs, failpoints, and probes.
pub(crate) const ROLE: Role = "control";
/// Time for the brokers to abort transactions that other processes left open.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(45);
/// Gap, in records, up to which two ranges of partials are read as one.
const RUN_GAP_MAX: i64 = 200;
/// Metadata of the command offsets that we commit. An offset without it was set by another program.
pub(crate) const OURS: &str = "c1";
/// Model name for counts that concern no known model.
const NO_MODEL: &str = "-";

/// The judge of one model, and how far its partials were read.
pub(crate) struct ModelJudge {
    pub(crate) judge: Judge,
    pub(crate) plan: ModelPlan,
    pub(crate) partials: String,
    pub(crate) next: i64,
    pub(crate) is_touched: bool,
    held: BTreeMap<(RolloutName, i32), Held>,
}

/// The newest partial of a lane: its tick and turn, and its offset.
#[derive(Clone, Copy)]
struct Held {
    made: (Timestamp, u64),
    offset: i64,
}

impl ModelJudge {
    /// Wraps a judge that has read no partials.
    pub(crate) fn new(judge: Judge, plan: ModelPlan, partials: String) -> Self {
        Self { judge, plan, partials, next: 0, is_touched: false, held: BTreeMap::new() }
    }

    /// Records the offset of a partial that the judge received. The judge uses the newest of each lane.
    pub(crate) fn note(&mut self, partial: &Partial, offset: i64) {
        let new = Held { made: (partial.tick, partial.turn), offset };
        let held = self.held.entry((partial.rollout.clone(), partial.partition)).or_insert(new);
        if new.made >= held.made {
            *held = new;
        }
    }

    /// Returns the partials that the judge needs again after a restart.
    fn start(&mut self) -> JudgeStart {
        self.held.retain(|(rollout, _), _| self.judge.uses_partials_of(rollout));
        JudgeStart::new(self.judge.newest_tick(), self.held.values().map(|h| h.offset))
    }
}

/// One partition of the commands: its own producer, and the judges of the models that hash to it.
pub(crate) struct CommandShard {
    pub(crate) partition: i32,
    pub(crate) producer: TransactionalProducer,
    pub(crate) next: i64,
    pub(crate) is_touched: bool,
    pub(crate) judges: BTreeMap<ModelName, ModelJudge>,
    pub(crate) counts: PendingCounts,
}

/// Publishes the effects of one judge step, and journals the step.
pub(crate) fn publish(
    shard: &mut CommandShard,
    step: &JudgeStep,
    effects: &[Effect],
    partitions: &mut PartitionCounts,
    options: &RunOptions,
) -> Result<(), ShellError> {
    let model = ModelName::new(&step.model);
    let _span = debug_span!("turn", %model, partition = shard.partition).entered();
    let known = shard.judges.get(&model).map(|m| m.plan.format);
    for published in records::records(effects, known) {
        let topic = options.settings.topic(published.place.topic());
        send(shard, partitions, &topic, published.key.as_bytes(), &published.value)?;
    }
    for effect in effects {
        match effect {
            Effect::Event(change) => {
                info!(%model, sequence = change.sequence, reason = change.reason, "decided");
            }
            Effect::State(standing) => {
                if let Some(model_judge) = shard.judges.get_mut(&model) {
                    model_judge.plan = standing.model.plan.clone();
                }
            }
            Effect::Metrics(_) => {}
            Effect::Count(counter, n) => {
                shard.counts.add(&model, *counter, *n);
            }
        }
    }
    if let Some(model_judge) = shard.judges.get_mut(&model) {
        // The partials that it uses may have changed. Before it has read any, their topic may not exist.
        model_judge.is_touched |= model_judge.next > 0;
    }
    let topic = options.settings.topic(JOURNAL);
    failpoints::at(ROLE, Failpoint::BeforeJournal);
    send(shard, partitions, &topic, step.model.as_bytes(), &step.write())?;
    failpoints::at(ROLE, Failpoint::AfterJournal);
    Ok(())
}

fn send(
    shard: &mut CommandShard,
    partitions: &mut PartitionCounts,
    topic: &str,
    key: &[u8],
    value: &[u8],
) -> Result<(), ShellError> {
    let count = partitions.of(topic, &shard.producer)?.max(1);
    shard.producer.send(Outgoing {
        topic,
        partition: placement::partition(key, count),
        key: Some(key),
        value: Some(value),
        passthrough: &[],
        headers: &[],
        at: None,
    })
}

/// Commits the outputs of a shard together with its command and partial offsets.
pub(crate) fn commit(
    shard: &mut CommandShard,
    commands: &str,
    member: &GroupMember,
    board: &MetricsRegistry,
) -> Result<(), ShellError> {
    let _span = debug_span!("commit", partition = shard.partition).entered();
    let mut offsets = TopicPartitionList::new();
    if shard.is_touched {
        let ours = Some(OURS.to_owned());
        committed_offsets::add(&mut offsets, commands, shard.partition, shard.next, ours)?;
    }
    for model_judge in shard.judges.values_mut().filter(|s| s.is_touched) {
        let start = model_judge.start().to_metadata();
        committed_offsets::add(
            &mut offsets,
            &model_judge.partials,
            0,
            model_judge.next,
            Some(start),
        )?;
    }
    shard.producer.commit(&offsets, || member.metadata())?;
    shard.is_touched = false;
    shard.judges.values_mut().for_each(|f| f.is_touched = false);
    shard.counts.flush_to(board);
    Ok(())
}

/// The inputs that the journal shows as judged: the next command, and the next partial of each model.
#[derive(Default)]
pub(crate) struct ReplayedInputs {
    pub(crate) commands: i64,
    pub(crate) partials: BTreeMap<ModelName, i64>,
    is_read: bool,
}

impl ReplayedInputs {
    /// Returns whether the journal was read because the committed offsets were not sufficient.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Reads the position of the partials from the journal unless it was read before.
    pub(crate) fn read_if_not(
        &mut self,
        settings: &Settings,
        from: (&PartitionReader, &Heartbeat),
        partition: i32,
    ) -> Result<(), ShellError> {
        if !self.is_read {
            let commands = self.commands;
            *self = heard(settings, from, partition)?;
            self.commands = commands;
        }
        Ok(())
    }
}

/// Returns the ranges of offsets to read, each without its end. Ranges that are close are joined.
pub(crate) fn runs(wanted: &PartialOffsets, next: i64) -> Vec<(i64, i64)> {
    let offsets = match wanted {
        PartialOffsets::From(first) => return vec![(*first, next)],
        PartialOffsets::At(offsets) => offsets,
    };
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for offset in offsets {
        match runs.last_mut() {
            Some((_, end)) if *offset - *end < RUN_GAP_MAX => *end = offset + 1,
            Some(_) | None => runs.push((*offset, offset + 1)),
        }
    }
    runs
}

/// Reads the position of the judges from their journal, for offsets that are missing or withheld.
pub(crate) fn heard(
    settings: &Settings,
    (replay, heartbeat): (&PartitionReader, &Heartbeat),
    partition: i32,
) -> Result<ReplayedInputs, ShellError> {
    let journal = settings.topic(JOURNAL);
    replay.await_stable(&journal, SETTLE_MAX)?;
    let mut heard = ReplayedInputs { is_read: true, ..ReplayedInputs::default() };
    topic_scan::scan(settings, &journal, Some(heartbeat), |message| {
        let Some(Ok(step)) = message.payload().map(JudgeStep::read) else { return };
        match step.told {
            JudgeInput::Command { partition: it, offset, .. } if it == partition => {
                heard.commands = heard.commands.max(offset + 1);
            }
            JudgeInput::Partial { offset } => {
                let next = heard.partials.entry(ModelName::new(&step.model)).or_default();
                *next = (offset + 1).max(*next);
            }
            JudgeInput::Command { .. } | JudgeInput::Open { .. } | JudgeInput::Silence => {}
        }
    })?
    .or_missing(&journal)?;
    Ok(heard)
}

/// Returns the offset after the newest answered command, for a group without offsets and journal: an event answers
/// each command.
pub(crate) fn answered(
    settings: &Settings,
    (replay, heartbeat): (&PartitionReader, &Heartbeat),
    (commands, partition): (&str, i32),
    states: &BTreeMap<String, StateRecord>,
) -> Result<i64, ShellError> {
    let mut ids: BTreeSet<String> =
        states.values().flat_map(|s| s.memory.commands.iter().cloned()).collect();
    let events = settings.topic("rollout-events");
    topic_scan::scan(settings, &events, Some(heartbeat), |message| {
        let read = message.payload().map(EventRecord::read);
        if let Some(Ok(event)) = read {
            ids.extend(event.command_id);
        }
    })?
    .or_missing(&events)?;
    let mut next = 0;
    replay.range(commands, partition, 0, None, |message| {
        let read = message.payload().map(CommandRecord::read);
        if let Some(Ok(command)) = read
            && ids.contains(&command.id)
        {
            next = message.offset() + 1;
        }
    })?;
    Ok(next)
}

/// Rebuilds the state of models whose state record is lost from their events.
pub(crate) fn add_rebuilt(
    settings: &Settings,
    heartbeat: &Heartbeat,
    states: &mut BTreeMap<String, StateRecord>,
) -> Result<(), ShellError> {
    let topic = settings.topic("rollout-events");
    let mut events: BTreeMap<String, Vec<EventRecord>> = BTreeMap::new();
    topic_scan::scan(settings, &topic, Some(heartbeat), |message| {
        let read = message.payload().map(EventRecord::read);
        if let Some(Ok(event)) = read
            && !states.contains_key(&event.model)
        {
            events.entry(event.model.clone()).or_default().push(event);
        }
    })?
    .or_missing(&topic)?;
    for (model, mut events) in events {
        events.sort_by_key(|e| e.sequence);
        match state_from_events::state_from_events(&events) {
            Some(state) => {
                let sequence = state.sequence;
                warn!(model, sequence, "model state lost: rebuilt from its events");
                states.insert(model, state);
            }
            None => {
                warn!(model, "model state lost and no event holds its spec: apply the model again");
            }
        }
    }
    Ok(())
}

/// Sends an invalid command to the dead letters of the model that its key names, or counts it if no such model exists.
pub(crate) fn refuse(
    shard: &mut CommandShard,
    dead_letters: &mut DeadLetterWriter,
    dead: &DeadLetter,
) -> Result<(), ShellError> {
    let DeadLetter { partition, offset, reason, .. } = dead;
    warn!(partition, offset, reason = size_limit::cut(reason), "command unreadable");
    let key = dead.carried.key.as_deref().and_then(|k| std::str::from_utf8(k).ok());
    let model_judge = key.and_then(|k| shard.judges.get(&ModelName::new(k)));
    if let Some(model_judge) = model_judge {
        return dead_letters.send_to_dead_letters(
            &model_judge.plan,
            dead,
            &mut shard.producer,
            &mut shard.counts,
        );
    }
    shard.counts.add(&ModelName::new(NO_MODEL), Counter::CommandUnreadable, 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{RUN_GAP_MAX, runs};
    use crate::wire::journal::PartialOffsets;

    #[test]
    fn adjacent_partials_are_read_in_one_range() {
        let check = |wanted: PartialOffsets, expected: &[(i64, i64)]| {
            assert_eq!(runs(&wanted, 9_000), expected, "{wanted:?}");
        };
        check(PartialOffsets::At(vec![]), &[]);
        check(PartialOffsets::At(vec![7]), &[(7, 8)]);
        check(PartialOffsets::At(vec![7, 8, 20]), &[(7, 21)]);
        let far = 8 + RUN_GAP_MAX;
        check(PartialOffsets::At(vec![7, far - 1]), &[(7, far)]);
        check(PartialOffsets::At(vec![7, far]), &[(7, 8), (far, far + 1)]);
        check(PartialOffsets::From(3), &[(3, 9_000)]);
    }
}
