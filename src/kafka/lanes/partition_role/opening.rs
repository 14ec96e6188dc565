//! Rebalances of a partition role: lanes are opened, restored, and released, always between two turns.

use tracing::info;

use crate::kafka::client::committed_offsets::Offsets;
use crate::kafka::client::consumer_group::{RebalanceEvent, read_from};
use crate::kafka::client::error::ShellError;
use crate::kafka::lanes::admission::LaneCheck;
use crate::kafka::lanes::lane::{Lane, LaneOffsets, Recall};
use crate::kafka::lanes::partition_role::{Input, PartitionRole, Session};
use crate::kafka::process::failpoints::{self, Failpoint};
use crate::kafka::process::liveness::Activity;
use serinus_core::domain::ids::ModelName;

impl<R: PartitionRole> Session<'_, R> {
    /// Acts on what the group assigned and revoked. Every record that was read is in a turn or in a backlog.
    pub(super) fn rebalance(&mut self, changes: Vec<RebalanceEvent>) -> Result<(), ShellError> {
        for change in changes {
            match change {
                RebalanceEvent::Revoked(partitions) => {
                    // Commit the work of the revoked partitions while they are still ours.
                    if self.cx.producer.is_open() {
                        self.commit()?;
                    }
                    failpoints::at(R::ROLE, Failpoint::BeforeRelease);
                    self.release(&partitions)?;
                    self.show_levels();
                    failpoints::at(R::ROLE, Failpoint::AfterRelease);
                }
                RebalanceEvent::Lost(_) => return Err(ShellError::Lost),
                RebalanceEvent::Assigned(partitions) => {
                    // The group waits for an answer even if nothing was assigned.
                    self.cx.member.accept(&[])?;
                    if !partitions.is_empty() {
                        // The previous owner may have followed events that we have not read yet.
                        self.cx.follower.catch_up()?;
                    }
                    self.open_all(partitions)?;
                    failpoints::at(R::ROLE, Failpoint::AfterRestore);
                }
            }
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[(String, i32)]) -> Result<(), ShellError> {
        let mut released: Vec<(String, i32)> = Vec::new();
        for (topic, partition) in partitions {
            let Some((model, input)) = self.topics.get(topic) else { continue };
            self.cx.blocked.remove(topic, *partition);
            match input {
                Input::Source => {
                    self.role.release_source(topic, *partition)?;
                    released.push((topic.clone(), *partition));
                }
                Input::First | Input::Second => {
                    if let Some(lane) = self.lanes.remove(&(model.clone(), *partition)) {
                        let [_, second] = lane.inputs(&self.cx.options.settings.app);
                        released.push((topic.clone(), *partition));
                        released.push((second.into_owned(), *partition));
                    }
                }
            }
        }
        let released: Vec<(&str, i32)> = released.iter().map(|(t, p)| (t.as_str(), *p)).collect();
        self.cx.member.release(&released)
    }

    pub(super) fn open_all(&mut self, partitions: Vec<(String, i32)>) -> Result<(), ShellError> {
        if !partitions.is_empty() && self.cx.producer.is_open() {
            // Our own open transaction would hide from us what others have committed.
            self.commit()?;
        }
        let mut opening = R::Opening::default();
        for (topic, partition) in partitions {
            match self.topics.get(&topic).cloned() {
                Some((model, Input::Source)) => {
                    self.role.open_source(&mut self.cx, (&topic, model, partition))?;
                }
                Some((model, Input::First | Input::Second)) => {
                    self.open_lane(&topic, model, partition, &mut opening)?;
                }
                None => {}
            }
            // Restoring the next one may take long.
            self.show_levels();
        }
        Ok(())
    }

    /// Restores the lane of a partition and begins to read it; a lane that cannot be opened is blocked and tried again later.
    fn open_lane(
        &mut self,
        topic: &str,
        model: ModelName,
        partition: i32,
        opening: &mut R::Opening,
    ) -> Result<(), ShellError> {
        let Self { cx, role, lanes, .. } = self;
        let settings = &cx.options.settings;
        let Some(view) = cx.follower.model(&model) else { return Ok(()) };
        cx.heartbeat.report(Activity::begin(topic, partition));
        let names = R::lane_topics(&settings.app, &view.plan);
        let [first, second] = &names.inputs;
        let key = (model, partition);
        let found = cx.member.committed(&[(first, partition), (second, partition)]);
        let committed = match found.map(Offsets::pair) {
            Ok((first, second, is_certain)) => LaneOffsets { first, second, is_certain },
            Err(why) => return cx.blocked.block_hidden(&key, topic, why),
        };
        let check = LaneCheck {
            group: format!("{}.{}", settings.app, R::ROLE),
            partition,
            inputs: [(first, committed.first.as_ref()), (second, committed.second.as_ref())],
            partners: names.partners.iter().map(String::as_str).collect(),
        };
        if let Some(why) = check.blocking_reason(&cx.producer, &cx.replay)? {
            cx.blocked.block(&key, topic, &why);
            return Ok(());
        }
        cx.replay.set_patient(!cx.blocked.contains(topic, partition));
        let (mut lane, committed) = match role.restore(cx, &key, committed, opening) {
            Ok(Recall::Known(restored)) => restored,
            Ok(Recall::Unknown(why)) => {
                cx.blocked.block_and_retry_slowly(&key, topic, &why);
                return Ok(());
            }
            Err(why) => return cx.blocked.block_hidden(&key, topic, why),
        };
        cx.blocked.remove(topic, partition);
        info!(model = %key.0, partition, cases = lane.cases(), "{} lane ready", R::LANE);
        let (next_first, next_second) = lane.offsets();
        cx.member.accept(&[
            (first, partition, read_from(committed.first.as_ref(), next_first)),
            (second, partition, read_from(committed.second.as_ref(), next_second)),
        ])?;
        if *lane.is_touched() {
            // Commit soon: the group's offsets are withheld, gone, or another program's.
            cx.producer.open()?;
        }
        lanes.insert(key, lane);
        Ok(())
    }
}
