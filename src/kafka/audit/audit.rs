//! Recomputes what an application published from its inputs, and compares both byte for byte.
//!
//! The journals hold the steps of a judge and the turns of an analyst, each with its reading of the clock. The audit runs
//! the same state machines on the same inputs without any restart, so a change caused by a restart shows as a difference.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::message::{BorrowedMessage, Message};

use crate::kafka::analysis::inputs::Inputs;
use crate::kafka::analysis::lane::AnalystLane;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_scan::{self, Scanned};
use crate::kafka::control::commands::{bounded, first_plan};
use crate::kafka::control::records::{self, Place};
use crate::kafka::control::shard::JOURNAL;
use crate::kafka::lanes::catalog::ModelCatalog;
use crate::kafka::lanes::internal_topics::InternalTopics;
use crate::kafka::lanes::spec_document::parse;
use crate::wire::any::json_of;
use crate::wire::command::CommandRecord;
use crate::wire::event::EventRecord;
use crate::wire::journal::{AnalystTurn, JudgeInput, JudgeStep};
use crate::wire::partial::PartialRecord;
use serinus_core::domain::ids::ModelName;
use serinus_core::engine::analyst::io::Effect as LaneEffect;
use serinus_core::engine::judge::command::Parsed;
use serinus_core::engine::judge::io::{Effect, Event, Settings as JudgeSettings};
use serinus_core::engine::judge::judge::Judge;
use serinus_core::inference::input::Detail;
use serinus_core::plan::rollout::Format;

/// Maximum number of differences kept per model.
const DIFFERENCES_MAX: usize = 20;

/// The result of the audit of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// The number of compared records, by kind.
    pub checks: BTreeMap<&'static str, Tally>,
    /// The first records that differ from the recomputed ones.
    pub differences: Vec<Difference>,
    /// The parts that could not be recomputed, with reasons.
    pub unchecked: Vec<String>,
}

/// The number of compared records of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Published and recomputed records that are equal byte for byte.
    pub equal: usize,
    /// Records that differ, or that were only published or only recomputed.
    pub different: usize,
    /// Records published after the journals were read.
    pub newer: usize,
}

/// A record that differs from the recomputed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The topic.
    pub topic: String,
    /// The key, or the partition of a lane.
    pub key: String,
    /// The index among the records of this key, from 0.
    pub index: usize,
    /// The published record; `None` if it is missing.
    pub published: Option<String>,
    /// The recomputed record; `None` if the inputs do not produce it.
    pub recomputed: Option<String>,
}

impl Audit {
    /// Returns whether all published records were recomputed and are equal.
    pub fn is_clean(&self) -> bool {
        self.unchecked.is_empty() && self.checks.values().all(|c| c.different == 0)
    }

    /// Compares published records with recomputed ones; the first `before` were published before the journals were read.
    fn compare(
        &mut self,
        what: &'static str,
        (topic, key): (&str, &str),
        before: usize,
        published: &[Vec<u8>],
        recomputed: &[Vec<u8>],
    ) {
        let tally = self.checks.entry(what).or_default();
        for index in 0..published.len().max(recomputed.len()) {
            let (theirs, ours) = (published.get(index), recomputed.get(index));
            if theirs == ours {
                tally.equal += 1;
            } else if ours.is_none() && index >= before {
                tally.newer += 1;
            } else {
                tally.different += 1;
                if self.differences.len() < DIFFERENCES_MAX {
                    self.differences.push(Difference {
                        topic: topic.to_owned(),
                        key: key.to_owned(),
                        index,
                        published: theirs.map(|t| text(t)),
                        recomputed: ours.map(|o| text(o)),
                    });
                }
            }
        }
    }
}

/// Returns the sums of a record without the fields that depend on restarts. A restored lane has all plans at once, whereas a running
/// lane receives them turn by turn; this does not change which cases count.
fn sums_of(record: PartialRecord) -> Vec<u8> {
    PartialRecord { unplanned: 0, revision: 0, ..record }.write()
}

/// The records that the audits of all models of an application share, read once.
pub struct Archive {
    settings: Settings,
    replay: PartitionReader,
    steps: BTreeMap<ModelName, Vec<JudgeStep>>,
    commands: BTreeMap<(i32, i64), Vec<u8>>,
    events: BTreeMap<ModelName, Vec<EventRecord>>,
    before: BTreeMap<Kept, usize>,
    published: BTreeMap<Kept, Vec<Vec<u8>>>,
}

/// The records of one key of one model in one topic.
type Kept = (ModelName, Place, String);

/// The records that one judge published, by topic and key.
type Said = BTreeMap<(Place, String), Vec<Vec<u8>>>;

const PLACES: [Place; 3] = [Place::Events, Place::States, Place::Metrics];

impl Archive {
    /// Reads the judges' journal, the commands and all records that the judges published.
    ///
    /// Published records are counted before the journal is read. Each record is in the same transaction as its step, so a counted record
    /// without a step was written by another producer.
    pub fn read(settings: &Settings) -> Result<Self, ShellError> {
        let mut archive = Self {
            settings: settings.clone(),
            replay: PartitionReader::new(settings)?,
            steps: BTreeMap::new(),
            commands: BTreeMap::new(),
            events: BTreeMap::new(),
            before: BTreeMap::new(),
            published: BTreeMap::new(),
        };
        for place in PLACES {
            let before = &mut archive.before;
            read_published(settings, place, |kept, _| *before.entry(kept).or_default() += 1)?;
        }
        let steps = &mut archive.steps;
        read_all(settings, &settings.topic(JOURNAL), |message| {
            if let Some(Ok(step)) = message.payload().map(JudgeStep::read) {
                steps.entry(ModelName::new(&step.model)).or_default().push(step);
            }
        })?;
        let commands = &mut archive.commands;
        read_all(settings, &settings.topic("commands"), |message| {
            let value = message.payload().unwrap_or_default().to_vec();
            commands.insert((message.partition(), message.offset()), value);
        })?;
        for place in PLACES {
            let (events, published) = (&mut archive.events, &mut archive.published);
            read_published(settings, place, |kept, value| {
                if place == Place::Events
                    && let Ok(event) = EventRecord::read(value)
                {
                    events.entry(kept.0.clone()).or_default().push(event);
                }
                published.entry(kept).or_default().push(value.to_vec());
            })?;
        }
        Ok(archive)
    }

    /// Returns the models that occur in the records.
    pub fn models(&self) -> Vec<ModelName> {
        let mut models: Vec<ModelName> = self.events.keys().cloned().collect();
        models.extend(self.steps.keys().filter(|s| !self.events.contains_key(*s)).cloned());
        models
    }

    /// Audits one model: the sums of its lanes, then the records of its judge.
    pub fn audit(&self, model: &ModelName) -> Result<Audit, ShellError> {
        let mut audit = Audit::default();
        let topics = InternalTopics::of(&self.settings.app, model);
        let mut before = 0;
        read_all(&self.settings, &topics.partials, |_| before += 1)?;
        let turns = self.turns(&topics)?;
        let partials = self.partials(&topics)?;
        self.audit_lanes(model, &topics, &turns, (before, &partials), &mut audit)?;
        self.audit_judge(model, &partials, &mut audit);
        Ok(audit)
    }

    fn partials(&self, topics: &InternalTopics) -> Result<BTreeMap<i64, Vec<u8>>, ShellError> {
        let mut partials = BTreeMap::new();
        read_all(&self.settings, &topics.partials, |message| {
            partials.insert(message.offset(), message.payload().unwrap_or_default().to_vec());
        })?;
        Ok(partials)
    }

    fn turns(
        &self,
        topics: &InternalTopics,
    ) -> Result<BTreeMap<i32, Vec<AnalystTurn>>, ShellError> {
        let mut turns: BTreeMap<i32, Vec<AnalystTurn>> = BTreeMap::new();
        read_all(&self.settings, &topics.analyst_journal, |message| {
            if let Some(Ok(turn)) = message.payload().map(AnalystTurn::read) {
                turns.entry(message.partition()).or_default().push(turn);
            }
        })?;
        Ok(turns)
    }

    fn audit_lanes(
        &self,
        model: &ModelName,
        topics: &InternalTopics,
        turns: &BTreeMap<i32, Vec<AnalystTurn>>,
        (before, partials): (usize, &BTreeMap<i64, Vec<u8>>),
        audit: &mut Audit,
    ) -> Result<(), ShellError> {
        let mut published: BTreeMap<i32, (usize, Vec<Vec<u8>>)> = BTreeMap::new();
        for (index, value) in partials.values().enumerate() {
            if let Ok(partial) = PartialRecord::read(value) {
                let (old, all) = published.entry(partial.partition).or_default();
                *old += usize::from(index < before);
                all.push(sums_of(partial));
            }
        }
        let partitions = self.replay.partitions(&topics.analyst_journal)?;
        for partition in 0..partitions {
            let turns = turns.get(&partition).map_or(&[][..], |t| t);
            match self.lane(model, (partition, partitions), topics, turns)? {
                Ok(recomputed) => {
                    let (before, published) = published.remove(&partition).unwrap_or_default();
                    let key = (&*topics.partials, &*partition.to_string());
                    audit.compare("sums", key, before, &published, &recomputed);
                }
                Err(why) => {
                    audit.unchecked.push(format!("the sums of partition {partition}: {why}"));
                }
            }
        }
        Ok(())
    }

    /// Replays all turns of a lane; returns the recomputed sums, or why the replay is impossible.
    fn lane(
        &self,
        model: &ModelName,
        (partition, partitions): (i32, i32),
        topics: &InternalTopics,
        turns: &[AnalystTurn],
    ) -> Result<Result<Vec<Vec<u8>>, String>, ShellError> {
        let (Some(first), Some(last)) = (turns.first(), turns.last()) else {
            return Ok(Ok(Vec::new()));
        };
        if first.turn != 0 || turns.iter().any(|t| t.known.is_none()) {
            return Ok(Err("its journal does not reach back to the beginning".to_owned()));
        }
        let mut events = self.events.get(model).into_iter().flatten();
        let mut known = ModelCatalog::default();
        let mut lane: Option<(AnalystLane, Inputs)> = None;
        let (mut out, mut sums) = (Vec::new(), Vec::new());
        for turn in turns {
            while known.model(model).map_or(0, |m| m.version) < turn.known.unwrap_or(0) {
                let Some(event) = events.next() else {
                    return Ok(Err("events that it had followed are gone".to_owned()));
                };
                known.take(event.clone());
            }
            let Some(view) = known.model(model) else {
                return Ok(Err("the events do not say what the model is".to_owned()));
            };
            if lane.is_none() {
                let range = ((0, 0), (last.predictions, last.labels));
                let inputs = Inputs::read(&view.plan, partition, topics, range, &self.replay)?;
                lane = Some((AnalystLane::empty(view, partition, partitions), inputs));
            }
            if let Some((lane, inputs)) = &mut lane {
                lane.replay(turn, inputs, Some(view), &mut out);
            }
            sums.extend(out.drain(..).filter_map(|o| match o {
                LaneEffect::Partial(partial) => Some(sums_of(PartialRecord::from(&*partial))),
                LaneEffect::Row(_) | LaneEffect::Refuse { .. } | LaneEffect::Count(..) => None,
            }));
        }
        Ok(Ok(sums))
    }

    fn audit_judge(&self, model: &ModelName, partials: &BTreeMap<i64, Vec<u8>>, audit: &mut Audit) {
        let recomputed = match self.judge(model, partials) {
            Ok(recomputed) => recomputed,
            Err(why) => {
                audit.unchecked.push(format!("the decisions: {why}"));
                return;
            }
        };
        let kept = self.published.keys().filter(|p| p.0 == *model);
        let keys: BTreeSet<(Place, String)> =
            kept.map(|k| (k.1, k.2.clone())).chain(recomputed.keys().cloned()).collect();
        let none = Vec::new();
        for (place, key) in keys {
            let kept = (model.clone(), place, key.clone());
            let theirs = self.published.get(&kept).unwrap_or(&none);
            let before = self.before.get(&kept).copied().unwrap_or(0);
            let ours = recomputed.get(&(place, key.clone())).unwrap_or(&none);
            let topic = self.settings.topic(place.topic());
            match place {
                Place::Events => audit.compare("events", (&topic, &key), before, theirs, ours),
                Place::Metrics => audit.compare("evidence", (&topic, &key), before, theirs, ours),
                Place::States => {
                    // The topic keeps only the newest record: it must be among the recomputed ones.
                    let newest: Vec<Vec<u8>> = theirs.last().cloned().into_iter().collect();
                    let ours: Vec<Vec<u8>> = match newest.first() {
                        Some(it) if before == 0 || ours.contains(it) => newest.clone(),
                        Some(_) | None => ours.last().cloned().into_iter().collect(),
                    };
                    audit.compare("states", (&topic, &key), 1, &newest, &ours);
                }
            }
        }
    }

    /// Replays all steps of a model's judge; returns the recomputed records, or why the replay is impossible.
    fn judge(&self, model: &ModelName, partials: &BTreeMap<i64, Vec<u8>>) -> Result<Said, String> {
        let steps = self.steps.get(model).ok_or("there is no journal of its judge")?;
        let mut judge: Option<(Judge, Option<Format>)> = None;
        let mut published = Said::new();
        for step in steps {
            let mut out = Vec::new();
            if let JudgeInput::Open { sequence, .. } = step.told {
                let (known, _) = judge.get_or_insert_with(|| (self.new_judge(model), None));
                if known.state().map_or(0, |s| s.sequence) != sequence {
                    return Err(
                        "the journal of its judge does not reach back to the beginning".to_owned()
                    );
                }
                known.open(step.now());
                continue;
            }
            let (known, format) =
                judge.as_mut().ok_or("the journal of its judge has no beginning")?;
            self.replay_step(known, format, step, partials, &mut out)?;
            for it in records::records(&out, *format) {
                published.entry((it.place, it.key)).or_default().push(it.value);
            }
            if let Some(standing) = known.state() {
                *format = Some(standing.model.plan.format);
            } else {
                // A judge without a model is created again with the next command.
                judge = None;
            }
        }
        Ok(published)
    }

    /// Passes the input of one step to a judge.
    fn replay_step(
        &self,
        judge: &mut Judge,
        format: &mut Option<Format>,
        step: &JudgeStep,
        partials: &BTreeMap<i64, Vec<u8>>,
        out: &mut Vec<Effect>,
    ) -> Result<(), String> {
        match &step.told {
            JudgeInput::Open { .. } => {}
            JudgeInput::Command { partition, offset, refused } => {
                let bytes = self.commands.get(&(*partition, *offset));
                let record = bytes.and_then(|r| CommandRecord::read(r).ok());
                let record = record.ok_or("a command that it was given is gone")?;
                let mut command = bounded(record, |document| parse(&document));
                if let Some(words) = refused {
                    command.spec = Some(Parsed::Invalid(words.clone()));
                }
                format.get_or_insert(first_plan(&command).format);
                judge.handle(step.now(), Event::Command(Box::new(command)), out);
            }
            JudgeInput::Partial { offset } => {
                let bytes = partials.get(offset).ok_or("sums that it was given are gone")?;
                let read = PartialRecord::read(bytes).ok().and_then(|o| o.partial().ok());
                if let Some(partial) = read {
                    judge.handle(step.now(), Event::Partial(Box::new(partial)), out);
                }
            }
            JudgeInput::Silence => judge.tick(step.now(), out),
        }
        Ok(())
    }

    fn new_judge(&self, model: &ModelName) -> Judge {
        Judge::new(JudgeSettings {
            model: model.clone(),
            labels_topic: InternalTopics::of(&self.settings.app, model).labels,
            detail: Detail::Full,
        })
    }
}

/// Visits the records that the judges published in one topic.
fn read_published(
    settings: &Settings,
    place: Place,
    mut visit: impl FnMut(Kept, &[u8]),
) -> Result<(), ShellError> {
    read_all(settings, &settings.topic(place.topic()), |message| {
        let (Some(key), Some(value)) = (message.key(), message.payload()) else { return };
        let model = json_of(value).and_then(|v| Some(v["model"].as_str()?.to_owned()));
        if let Some(model) = model {
            let key = String::from_utf8_lossy(key).into_owned();
            visit((ModelName::from(model), place, key), value);
        }
    })
}

/// Returns a record's value as readable text.
fn text(value: &[u8]) -> String {
    json_of(value).map_or_else(|| format!("{} bytes", value.len()), |l| l.to_string())
}

/// Visits every record of a topic; a missing topic has none.
fn read_all(
    settings: &Settings,
    topic: &str,
    visit: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), ShellError> {
    match topic_scan::scan(settings, topic, None, visit)? {
        Scanned::ToItsEnd | Scanned::Missing => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Audit, Tally};

    #[test]
    fn records_are_compared_one_by_one_and_later_records_are_ignored() {
        // Two of the published records were there before the journals were read.
        let check = |published: &[&str], recomputed: &[&str], expected: (usize, usize, usize)| {
            let bytes =
                |all: &[&str]| all.iter().map(|s| s.as_bytes().to_vec()).collect::<Vec<_>>();
            let mut audit = Audit::default();
            audit.compare("events", ("t", "k"), 2, &bytes(published), &bytes(recomputed));
            let Tally { equal, different, newer } = audit.checks["events"];
            assert_eq!((equal, different, newer), expected, "{published:?} {recomputed:?}");
            assert_eq!(audit.differences.len(), different);
            assert_eq!(audit.is_clean(), different == 0);
        };
        check(&[], &[], (0, 0, 0));
        check(&["1", "2"], &["1", "2"], (2, 0, 0));
        check(&["1", "2", "3"], &["1", "2"], (2, 0, 1));
        check(&["1"], &["1", "2"], (1, 1, 0));
        check(&["1", "3"], &["1", "2"], (1, 1, 0));
        // The inputs do not produce the second record.
        check(&["1", "2"], &["1"], (1, 1, 0));
    }
}
