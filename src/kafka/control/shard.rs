//! One partition of the commands at its owner: its producer, its judges, and what they publish in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::message::Message;
use tracing::{info, warn};

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

/// The topic, after the application id, of what each step of the judges was told.
pub const JOURNAL: &str = "internal.judge-journal";
/// The role's name, where it is told from the others.
pub(crate) const ROLE: Role = "control";
/// How long it is waited until the brokers end what others have left open.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(45);
/// So many sums that nobody wants are read over before reading begins anew behind them.
const RUN_GAP_MAX: i64 = 200;
/// Stands beside our offsets of commands, so that one that somebody else has set is known.
pub(crate) const OURS: &str = "c1";
/// Under this name is counted what concerns no model that is known.
const NO_MODEL: &str = "-";

/// One model's judge, and how far its partials were read.
pub(crate) struct ModelJudge {
    pub(crate) judge: Judge,
    pub(crate) plan: ModelPlan,
    pub(crate) partials: String,
    pub(crate) next: i64,
    pub(crate) is_touched: bool,
    held: BTreeMap<(RolloutName, i32), Held>,
}

/// The newest sums of a lane: which, and where they stand.
#[derive(Clone, Copy)]
struct Held {
    made: (Timestamp, u64),
    offset: i64,
}

impl ModelJudge {
    /// Makes one whose judge has read no sums.
    pub(crate) fn new(judge: Judge, plan: ModelPlan, partials: String) -> Self {
        Self { judge, plan, partials, next: 0, is_touched: false, held: BTreeMap::new() }
    }

    /// Notes where sums stand that the judge was told of: it goes by the newest of each lane.
    pub(crate) fn note(&mut self, partial: &Partial, offset: i64) {
        let new = Held { made: (partial.tick, partial.turn), offset };
        let held = self.held.entry((partial.rollout.clone(), partial.partition)).or_insert(new);
        if new.made >= held.made {
            *held = new;
        }
    }

    /// Returns what the judge must be told again after a restart.
    fn start(&mut self) -> JudgeStart {
        self.held.retain(|(rollout, _), _| self.judge.uses_partials_of(rollout));
        JudgeStart::new(self.judge.newest_tick(), self.held.values().map(|h| h.offset))
    }
}

/// One partition of the commands: its own producer, and the judges of the models that hash to it.
pub(crate) struct CommandShard {
    pub(crate) partition: i32,
    pub(crate) outbox: TransactionalProducer,
    pub(crate) next: i64,
    pub(crate) is_touched: bool,
    pub(crate) seats: BTreeMap<ModelName, ModelJudge>,
    /// Models whose first spec could not be taken in: only there to answer.
    pub(crate) counts: BTreeMap<(ModelName, &'static str), u64>,
    pub(crate) refused: PendingCounts,
}

/// Publishes what a judge said in one step, and the step itself.
pub(crate) fn publish(
    bench: &mut CommandShard,
    step: &JudgeStep,
    effects: &[Effect],
    partitions: &mut PartitionCounts,
    options: &RunOptions,
) -> Result<(), ShellError> {
    let model = ModelName::new(&step.model);
    let known = bench.seats.get(&model).map(|m| m.plan.format);
    for published in records::records(effects, known) {
        let topic = options.settings.topic(published.place.topic());
        send(bench, partitions, &topic, published.key.as_bytes(), &published.value)?;
    }
    for effect in effects {
        match effect {
            Effect::Event(change) => {
                info!(%model, sequence = change.sequence, reason = change.reason, "decided");
            }
            Effect::State(standing) => {
                if let Some(seat) = bench.seats.get_mut(&model) {
                    seat.plan = standing.model.plan.clone();
                }
            }
            Effect::Metrics(_) => {}
            Effect::Count(counter, n) => {
                *bench.counts.entry((model.clone(), counter.describe().0)).or_default() += n;
            }
        }
    }
    if let Some(seat) = bench.seats.get_mut(&model) {
        // What it goes by may have changed; before it has read any sums, their topic may not be there.
        seat.is_touched |= seat.next > 0;
    }
    let topic = options.settings.topic(JOURNAL);
    failpoints::at(ROLE, Failpoint::BeforeJournal);
    send(bench, partitions, &topic, step.model.as_bytes(), &step.write())?;
    failpoints::at(ROLE, Failpoint::AfterJournal);
    Ok(())
}

fn send(
    bench: &mut CommandShard,
    partitions: &mut PartitionCounts,
    topic: &str,
    key: &[u8],
    value: &[u8],
) -> Result<(), ShellError> {
    let count = partitions.of(topic, &bench.outbox)?.max(1);
    bench.outbox.send(Outgoing {
        topic,
        partition: placement::partition(key, count),
        key: Some(key),
        value: Some(value),
        passthrough: &[],
        headers: &[],
        at: None,
    })
}

/// Commits a bench's outputs, with how far its commands and partials were read.
pub(crate) fn commit(
    bench: &mut CommandShard,
    commands: &str,
    member: &GroupMember,
    board: &MetricsRegistry,
) -> Result<(), ShellError> {
    let mut offsets = TopicPartitionList::new();
    if bench.is_touched {
        let ours = Some(OURS.to_owned());
        committed_offsets::add(&mut offsets, commands, bench.partition, bench.next, ours)?;
    }
    for seat in bench.seats.values_mut().filter(|s| s.is_touched) {
        let start = seat.start().to_metadata();
        committed_offsets::add(&mut offsets, &seat.partials, 0, seat.next, Some(start))?;
    }
    bench.outbox.commit(&offsets, || member.metadata())?;
    bench.is_touched = false;
    bench.seats.values_mut().for_each(|f| f.is_touched = false);
    bench.refused.flush_to(board);
    for ((model, name), n) in std::mem::take(&mut bench.counts) {
        board.add(&model, name, n);
    }
    Ok(())
}

/// How far judges have heard, by their journal: the next command, and of each model the next sums.
#[derive(Default)]
pub(crate) struct ReplayedInputs {
    pub(crate) commands: i64,
    pub(crate) partials: BTreeMap<ModelName, i64>,
    is_read: bool,
}

impl ReplayedInputs {
    /// Returns whether the journal was read, because the offsets did not say it.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Reads how far the sums were heard, where the journal was not read yet.
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

/// Returns the offsets to read, from one up to, but not with, another, in as few pieces as make sense.
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

/// Reads in the judges' journal what they have heard, where their offsets do not say all of it.
pub(crate) fn heard(
    settings: &Settings,
    (replay, beat): (&PartitionReader, &Heartbeat),
    partition: i32,
) -> Result<ReplayedInputs, ShellError> {
    let journal = settings.topic(JOURNAL);
    replay.await_stable(&journal, SETTLE_MAX)?;
    let mut heard = ReplayedInputs { is_read: true, ..ReplayedInputs::default() };
    topic_scan::scan(settings, &journal, Some(beat), |message| {
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

/// Returns the command after the newest one that was answered, where neither offsets nor a journal are left: an event answers each.
pub(crate) fn answered(
    settings: &Settings,
    (replay, beat): (&PartitionReader, &Heartbeat),
    (commands, partition): (&str, i32),
    states: &BTreeMap<String, StateRecord>,
) -> Result<i64, ShellError> {
    let mut ids: BTreeSet<String> =
        states.values().flat_map(|s| s.memory.commands.iter().cloned()).collect();
    let events = settings.topic("rollout-events");
    topic_scan::scan(settings, &events, Some(beat), |message| {
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

/// Adds the models whose state is gone, as their events give it.
pub(crate) fn add_rebuilt(
    settings: &Settings,
    beat: &Heartbeat,
    states: &mut BTreeMap<String, StateRecord>,
) -> Result<(), ShellError> {
    let topic = settings.topic("rollout-events");
    let mut events: BTreeMap<String, Vec<EventRecord>> = BTreeMap::new();
    topic_scan::scan(settings, &topic, Some(beat), |message| {
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
                warn!(model, sequence, "the state of a model is gone; its events count");
                states.insert(model, state);
            }
            None => {
                warn!(
                    model,
                    "the state of a model is gone, and its document is in no event; apply the model again"
                );
            }
        }
    }
    Ok(())
}

/// Sends a command that nobody can carry out to the dead letters of the model that its key names; without one it is counted.
pub(crate) fn refuse(
    bench: &mut CommandShard,
    dead_letters: &mut DeadLetterWriter,
    dead: &DeadLetter,
) -> Result<(), ShellError> {
    let DeadLetter { partition, offset, reason, .. } = dead;
    warn!(partition, offset, reason = size_limit::cut(reason), "a command cannot be read");
    let key = dead.carried.key.as_deref().and_then(|k| std::str::from_utf8(k).ok());
    let seat = key.and_then(|k| bench.seats.get(&ModelName::new(k)));
    if let Some(seat) = seat {
        return dead_letters.send_to_dead_letters(
            &seat.plan,
            dead,
            &mut bench.outbox,
            &mut bench.refused,
        );
    }
    bench.refused.add(&ModelName::new(NO_MODEL), Counter::CommandUnreadable, 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{RUN_GAP_MAX, runs};
    use crate::wire::journal::PartialOffsets;

    #[test]
    fn sums_that_stand_together_are_read_in_one_piece() {
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
