//! One partition of the commands at its owner: its producer, its judges, and what they publish in one transaction.

use std::collections::BTreeMap;

use rdkafka::{Offset, TopicPartitionList};
use tracing::{info, warn};

use crate::domain::ids::ModelName;
use crate::engine::counter::Counter;
use crate::engine::judge::Judge;
use crate::engine::judge_io::Effect;
use crate::kafka::counts::{Board, Counts};
use crate::kafka::crash::{self, Point, Role};
use crate::kafka::emit::Emitter;
use crate::kafka::error::ShellError;
use crate::kafka::group::Member;
use crate::kafka::intake::Dead;
use crate::kafka::options::RunOptions;
use crate::kafka::outbox::{Outbox, Outgoing, PartitionCounts};
use crate::kafka::shrink;
use crate::kafka::verdicts;
use crate::strategy::stage::ModelPlan;
use crate::wire::journal::JudgeStep;
use crate::wire::placement;

/// The topic, after the application id, of what each step of the judges was told.
pub const JOURNAL: &str = "internal.judge-journal";
/// The role's name, where it is told from the others.
pub(super) const ROLE: Role = "control";
/// Under this name is counted what concerns no model that is known.
const NO_MODEL: &str = "-";

/// One model's judge, and how far its partials were read.
pub(super) struct Seat {
    pub(super) judge: Judge,
    pub(super) plan: ModelPlan,
    pub(super) partials: String,
    pub(super) next: i64,
    pub(super) is_touched: bool,
}

/// One partition of the commands: its own producer, and the judges of the models that hash to it.
pub(super) struct Bench {
    pub(super) partition: i32,
    pub(super) outbox: Outbox,
    pub(super) next: i64,
    pub(super) is_touched: bool,
    pub(super) seats: BTreeMap<ModelName, Seat>,
    /// Models whose first spec could not be taken in: only there to answer.
    pub(super) counts: BTreeMap<(ModelName, &'static str), u64>,
    pub(super) refused: Counts,
}

/// Publishes what a judge said in one step, and the step itself.
pub(super) fn publish(
    bench: &mut Bench,
    step: &JudgeStep,
    effects: &[Effect],
    partitions: &mut PartitionCounts,
    options: &RunOptions,
) -> Result<(), ShellError> {
    let model = ModelName::new(&step.model);
    let known = bench.seats.get(&model).map(|it| it.plan.format);
    for published in verdicts::records(effects, known) {
        let topic = options.settings.topic(published.place.topic());
        send(bench, partitions, &topic, published.key.as_bytes(), &published.value)?;
    }
    for effect in effects {
        match effect {
            Effect::Change(change) => {
                info!(%model, sequence = change.sequence, reason = change.reason, "decided");
            }
            Effect::State(standing) => {
                if let Some(seat) = bench.seats.get_mut(&model) {
                    seat.plan = standing.model.plan.clone();
                }
            }
            Effect::Report(_) => {}
            Effect::Count(counter, n) => {
                *bench.counts.entry((model.clone(), counter.describe().0)).or_default() += n;
            }
        }
    }
    let topic = options.settings.topic(JOURNAL);
    crash::at(ROLE, Point::BeforeJournal);
    send(bench, partitions, &topic, step.model.as_bytes(), &step.write())?;
    crash::at(ROLE, Point::AfterJournal);
    Ok(())
}

fn send(
    bench: &mut Bench,
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
        carried: &[],
        ours: &[],
        at: None,
    })
}

/// Commits a bench's outputs, with how far its commands and partials were read.
pub(super) fn commit(
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

/// Sends a command that nobody can carry out to the dead letters of the model that its key names; without one it is counted.
pub(super) fn refuse(
    bench: &mut Bench,
    emitter: &mut Emitter,
    dead: &Dead,
) -> Result<(), ShellError> {
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
