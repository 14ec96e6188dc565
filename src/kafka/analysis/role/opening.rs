//! Partitions that come and go: labels and lanes are opened, restored, and given up.

use tracing::info;

use crate::kafka::analysis::lane::{AnalystLane, Committed};
use crate::kafka::analysis::partials::Sums;
use crate::kafka::analysis::recovery::{Lost, Recall};
use crate::kafka::analysis::role::{Kind, ROLE, Session};
use crate::kafka::client::consumer_group::{RebalanceEvent, read_from};
use crate::kafka::client::error::ShellError;
use crate::kafka::labels::readers;
use crate::kafka::labels::source::LabelLane;
use crate::kafka::lanes::admission::LaneCheck;
use crate::kafka::lanes::internal_topics::InternalTopics;
use crate::kafka::process::clock;
use crate::kafka::process::failpoints::{self, Failpoint};
use crate::kafka::process::liveness::Activity;
use serinus_core::domain::ids::ModelName;

impl Session<'_> {
    pub(crate) fn rebalance(&mut self, changes: Vec<RebalanceEvent>) -> Result<(), ShellError> {
        for change in changes {
            match change {
                RebalanceEvent::Revoked(partitions) => {
                    // What was done for partitions that go away is committed while they are still ours.
                    if self.outbox.is_open() {
                        self.commit()?;
                    }
                    failpoints::at(ROLE, Failpoint::BeforeRelease);
                    self.give_up(&partitions)?;
                    self.show_levels();
                    failpoints::at(ROLE, Failpoint::AfterRelease);
                }
                RebalanceEvent::Lost(_) => return Err(ShellError::Lost),
                RebalanceEvent::Assigned(partitions) => {
                    // The group waits for an answer also where there is nothing to take.
                    self.member.accept(&[])?;
                    if !partitions.is_empty() {
                        // Whoever had a partition before may have known of rollouts that we have not heard of.
                        self.follower.catch_up()?;
                    }
                    self.open_all(partitions)?;
                    failpoints::at(ROLE, Failpoint::AfterRestore);
                }
            }
        }
        Ok(())
    }

    fn give_up(&mut self, partitions: &[(String, i32)]) -> Result<(), ShellError> {
        let mut all = Vec::new();
        for (topic, partition) in partitions {
            let Some((model, kind)) = self.topics.get(topic) else { continue };
            let key = (model.clone(), *partition);
            self.waiting.forget(topic, *partition);
            match kind {
                Kind::ForeignLabels => {
                    for model in self.readers.of(topic) {
                        let key = (model.clone(), *partition);
                        self.labels.remove(&key);
                        self.label_ends.forget(key)?;
                    }
                    all.push((topic.clone(), *partition));
                }
                Kind::Predictions | Kind::Labels => {
                    if let Some(lane) = self.lanes.remove(&key) {
                        let own = InternalTopics::of(&self.options.settings.app, &lane.plan.name);
                        all.push((topic.clone(), *partition));
                        all.push((own.labels, *partition));
                    }
                }
            }
        }
        let all: Vec<(&str, i32)> = all.iter().map(|(topic, i)| (topic.as_str(), *i)).collect();
        self.member.release(&all)
    }

    pub(crate) fn open_all(&mut self, partitions: Vec<(String, i32)>) -> Result<(), ShellError> {
        if !partitions.is_empty() && self.outbox.is_open() {
            // Our own open transaction would hide from us what others have committed.
            self.commit()?;
        }
        let mut sums = Sums::default();
        for (topic, partition) in partitions {
            self.open(&topic, partition, &mut sums)?;
            // The next may take its time.
            self.show_levels();
        }
        Ok(())
    }

    /// Restores what a partition needs and begins to read it; a lane that cannot be opened has to wait.
    fn open(&mut self, topic: &str, partition: i32, sums: &mut Sums) -> Result<(), ShellError> {
        match self.topics.get(topic).cloned() {
            Some((model, Kind::ForeignLabels)) => self.open_labels(topic, model, partition),
            Some((model, Kind::Predictions | Kind::Labels)) => {
                self.open_lane(topic, model, partition, sums)
            }
            None => Ok(()),
        }
    }

    fn open_labels(
        &mut self,
        topic: &str,
        model: ModelName,
        partition: i32,
    ) -> Result<(), ShellError> {
        let committed = match self.member.committed(&[(topic, partition)]) {
            // A label that is placed twice counts once.
            Ok(found) => found.pair().0,
            Err(why) => return self.waiting.hold_hidden(&(model, partition), topic, why),
        };
        self.waiting.forget(topic, partition);
        let (read, metadata) = committed.clone().unwrap_or_default();
        let models = self.readers.of(topic);
        let next = |model| if readers::has_read(&metadata, model) { read } else { 0 };
        let first = models.iter().map(next).min().unwrap_or(0);
        let unread = self.replay.end(topic, partition, first)?;
        let from = if first < read { None } else { committed.as_ref() };
        self.member.accept(&[(topic, partition, read_from(from, first))])?;
        for model in models {
            let lane = LabelLane::new(partition, next(model), unread, clock::now());
            self.labels.insert((model.clone(), partition), lane);
        }
        Ok(())
    }

    fn open_lane(
        &mut self,
        topic: &str,
        model: ModelName,
        partition: i32,
        sums: &mut Sums,
    ) -> Result<(), ShellError> {
        let Some(view) = self.follower.model(&model) else { return Ok(()) };
        self.beat.is(Activity::begin(topic, partition));
        let names = &view.plan.topics;
        let own = InternalTopics::of(&self.options.settings.app, &view.plan.name);
        let pair = [(names.predictions.as_str(), partition), (own.labels.as_str(), partition)];
        let key = (model, partition);
        let (predictions, labels, is_certain) = match self.member.committed(&pair) {
            Ok(found) => found.pair(),
            Err(why) => return self.waiting.hold_hidden(&key, topic, why),
        };
        let committed = Committed { predictions, labels, is_certain, is_forgotten: false };
        let candidate = LaneCheck {
            group: format!("{}.analysis", self.options.settings.app),
            partition,
            inputs: [
                (&names.predictions, committed.predictions.as_ref()),
                (&own.labels, committed.labels.as_ref()),
            ],
            partners: vec![&own.labels, &own.analyst_journal],
        };
        if let Some(why) = candidate.blocking_reason(&self.outbox, &self.replay)? {
            self.waiting.hold(&key, topic, &why);
            return Ok(());
        }
        self.replay.be_patient(!self.waiting.holds(topic, partition));
        let lost = Lost { plan: &view.plan, partition, topics: &own, replay: &self.replay };
        let committed = match lost.recall(&candidate.group, committed.clone()) {
            Ok(Recall::Known(committed)) => committed,
            Ok(Recall::Unknown(why)) => {
                self.waiting.hold_for_a_person(&key, topic, &why);
                return Ok(());
            }
            Err(why) => return self.waiting.hold_hidden(&key, topic, why),
        };
        let partitions = self.partitions.of(&names.predictions, &self.outbox)?;
        let sources = self.partitions.of(&names.labels, &self.outbox)?;
        let settings = &self.options.settings;
        let restored = sums
            .take(settings, (&self.beat, &self.replay), &own.partials, &key, &committed)
            .and_then(|partials| {
                AnalystLane::restore(
                    view,
                    (partition, partitions, sources),
                    &committed,
                    &own,
                    partials,
                    (&self.replay, &self.store),
                )
            });
        let lane = match restored {
            Err(why) => return self.waiting.hold_hidden(&key, topic, why),
            Ok(lane) => lane,
        };
        self.waiting.forget(topic, partition);
        info!(model = %key.0, partition, "analyst lane ready");
        let (predictions, labels) = lane.offsets();
        self.member.accept(&[
            (&names.predictions, partition, read_from(committed.predictions.as_ref(), predictions)),
            (&own.labels, partition, read_from(committed.labels.as_ref(), labels)),
        ])?;
        if lane.is_touched {
            // Offsets that are held back, gone or not ours are replaced.
            self.outbox.open()?;
        }
        self.lanes.insert(key, lane);
        Ok(())
    }
}
