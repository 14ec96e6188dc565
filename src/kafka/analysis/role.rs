//! The analysis role: repartitions labels, joins them with predictions in one lane for each partition, and publishes partial evidence.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::message::{BorrowedMessage, Message};

use crate::kafka::analysis::inputs::{self, Arrival};
use crate::kafka::analysis::lane::{AnalystLane, PENDING_CASES, UNPLANNED};
use crate::kafka::analysis::missing_plans::PlanWait;
use crate::kafka::analysis::partials::Sums;
use crate::kafka::analysis::recovery::Lost;
use crate::kafka::analysis::rows::{plain, write_row};
use crate::kafka::analysis::snapshots::LaneStore;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_counts::PartitionCounts;
use crate::kafka::client::record_limits::Limits;
use crate::kafka::client::transaction::Sent;
use crate::kafka::labels::repartition::{LabelRepartition, SourceRecord};
use crate::kafka::lanes::dead_letters::DeadLetter;
use crate::kafka::lanes::event_follower::Follower;
use crate::kafka::lanes::internal_topics::{self, InternalTopics};
use crate::kafka::lanes::lane::{Lane, LaneKey, LaneOffsets, Recall};
use crate::kafka::lanes::partition_role::{
    self, Gauges, Input, LaneTopics, PartitionRole, RoleContext, Topics,
};
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::process::failpoints::Role;
use crate::kafka::process::metrics::{MetricsRegistry, PendingCounts};
use crate::kafka::process::shutdown::Shutdown;
use crate::wire::partial::PartialRecord;
use serinus_core::domain::ids::ModelName;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::io::{Effect, Input as LaneInput, Row};
use serinus_core::engine::counter::Counter;
use serinus_core::engine::partial::Partial;
use serinus_core::plan::rollout::ModelPlan;

/// Reason of a dead letter.
const ROW_TOO_LARGE: &str = "the analysis row of its case does not fit into one message";

/// Joins and publishes until `stop` is requested.
pub fn analyse(
    options: &RunOptions,
    stop: &Shutdown,
    metrics: &MetricsRegistry,
) -> Result<(), ShellError> {
    let settings = &options.settings;
    partition_role::run(options, stop, metrics, || {
        Ok(AnalysisRole {
            labels: LabelRepartition::start(settings)?,
            limits: Limits::default(),
            partitions: PartitionCounts::default(),
            plan_wait: PlanWait::default(),
            store: LaneStore::new(options.data_dir.as_deref(), &settings.app, metrics),
        })
    })
}

/// A consumed record, decoded.
enum Received {
    /// An input of a lane.
    Arrival(LaneKey, Arrival),
    /// A label that is still to be repartitioned.
    Label(SourceRecord),
}

struct AnalysisRole<'a> {
    labels: LabelRepartition,
    limits: Limits,
    partitions: PartitionCounts,
    plan_wait: PlanWait,
    store: LaneStore<'a>,
}

impl AnalysisRole<'_> {
    /// Writes a row; if it is too large, its request becomes a dead letter.
    fn write_row(
        &mut self,
        cx: &mut RoleContext<'_>,
        plan: &ModelPlan,
        row: &Row,
    ) -> Result<(), ShellError> {
        let count = self.partitions.of(&plan.topics.analysis, &cx.producer)?.max(1);
        if write_row(plan, row, count, &mut cx.producer)? == Sent::Sent {
            return Ok(());
        }
        cx.counts.add(&plan.name, Counter::TooLarge, 1);
        let case = row.joined.prediction.case;
        let place = (case.partition, case.offset);
        let dead = DeadLetter::left(&plan.topics.requests, place, ROW_TOO_LARGE);
        cx.send_to_dead_letters(plan, &dead)
    }

    fn count(&self, cx: &mut RoleContext<'_>, plan: &ModelPlan, counter: Counter, n: u64) {
        // A label without a prediction may belong to another model that shares the topic.
        let is_unclaimed =
            counter == Counter::LabelOrphaned && self.labels.is_shared(&plan.topics.labels);
        let counter = if is_unclaimed { Counter::LabelUnclaimed } else { counter };
        cx.counts.add(&plan.name, counter, n);
    }
}

fn write_partial(
    cx: &mut RoleContext<'_>,
    plan: &ModelPlan,
    partial: &Partial,
) -> Result<(), ShellError> {
    let record = PartialRecord::from(partial);
    let topic = internal_topics::partials(&cx.options.settings.app, &plan.name);
    cx.producer.send(plain(&topic, 0, record.key().as_bytes(), &record.write()))
}

impl PartitionRole for AnalysisRole<'_> {
    type Lane = AnalystLane;
    type Record = Received;
    type Opening = Sums;

    const ROLE: Role = "analysis";
    const LANE: &'static str = "analyst";
    const BATCH_MAX: usize = 5000;
    /// Analysis is not urgent, and every turn costs one journal record for each partition.
    const COLLECT: Duration = Duration::from_millis(100);
    /// Every commit costs the brokers one record in each partition that it touches.
    const COMMIT_INTERVAL_MIN: Option<Duration> = Some(Duration::from_millis(100));
    const GAUGES: Gauges = Gauges {
        lanes: "analyst_lanes",
        blocked: "analyst_lanes_waiting",
        of_lanes: &[PENDING_CASES, UNPLANNED],
    };

    fn topics(&mut self, cx: &RoleContext<'_>) -> (Vec<String>, Topics) {
        let (mut subscribed, mut topics) = (Vec::new(), Topics::new());
        for (name, view) in cx.follower.models() {
            let names = &view.plan.topics;
            subscribed.extend([names.predictions.clone(), names.labels.clone()]);
            let inputs = [
                (names.predictions.clone(), Input::First),
                (internal_topics::labels(&cx.options.settings.app, name), Input::Second),
                (names.labels.clone(), Input::Source),
            ];
            for (topic, input) in inputs {
                // Label topics may be shared; any other topic that is named twice belongs to the first model.
                topics.entry(topic).or_insert((name.clone(), input));
            }
        }
        self.labels.follow(&cx.follower);
        (subscribed, topics)
    }

    fn limits(&mut self, cx: &RoleContext<'_>, written: &[String]) -> BTreeMap<String, usize> {
        self.limits.read(&cx.options.settings, written.iter().cloned());
        self.limits.among(written)
    }

    fn after_subscribe(&mut self, cx: &RoleContext<'_>) -> Result<(), ShellError> {
        self.labels.join_readers(cx)
    }

    fn decode(
        &self,
        follower: &Follower,
        message: &BorrowedMessage<'_>,
        (model, input): (&ModelName, Input),
    ) -> Option<Received> {
        let key = || (model.clone(), message.partition());
        Some(match input {
            Input::First => Received::Arrival(key(), inputs::read_prediction(message)),
            Input::Second => Received::Arrival(key(), inputs::read_label(message)),
            Input::Source => Received::Label(self.labels.decode(follower, message)),
        })
    }

    fn take(
        &mut self,
        _: &mut PendingCounts,
        lanes: &mut BTreeMap<LaneKey, AnalystLane>,
        record: Received,
    ) {
        match record {
            Received::Arrival(key, arrival) => {
                let Some(lane) = lanes.get_mut(&key) else { return };
                let (predictions, labels) = lane.offsets();
                let next = match arrival.input {
                    LaneInput::Predictions => predictions,
                    LaneInput::Labels => labels,
                };
                if arrival.offset >= next {
                    lane.backlog.push(arrival);
                }
            }
            Received::Label(record) => self.labels.take(record),
        }
    }

    fn before_turns(&mut self, cx: &mut RoleContext<'_>, now: Timestamp) -> Result<(), ShellError> {
        self.labels.write(cx, now)
    }

    fn is_behind(&self, model: &ModelName) -> bool {
        self.labels.is_behind(model)
    }

    fn emit(
        &mut self,
        cx: &mut RoleContext<'_>,
        plan: &ModelPlan,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ShellError> {
        for effect in effects.drain(..) {
            match effect {
                Effect::Row(row) => self.write_row(cx, plan, &row)?,
                Effect::Partial(partial) => write_partial(cx, plan, &partial)?,
                // The record itself is a dead letter already, and counted as one.
                Effect::Refuse { .. } | Effect::Count(Counter::Refused, _) => {}
                Effect::Count(counter, n) => self.count(cx, plan, counter, n),
            }
        }
        Ok(())
    }

    fn after_turns(
        &mut self,
        _: &mut RoleContext<'_>,
        lanes: &mut BTreeMap<LaneKey, AnalystLane>,
        now: Timestamp,
    ) -> Result<(), ShellError> {
        self.plan_wait.warn(now, lanes);
        Ok(())
    }

    fn add_offsets(&self, offsets: &mut TopicPartitionList) -> Result<(), ShellError> {
        self.labels.add_offsets(offsets)
    }

    fn after_commit(&mut self) {
        self.labels.after_commit();
    }

    fn between_transactions(&mut self, lanes: &BTreeMap<LaneKey, AnalystLane>) {
        self.store.save_next(lanes);
    }

    fn stop(&mut self, lanes: &BTreeMap<LaneKey, AnalystLane>) {
        self.store.save_all(lanes);
    }

    fn lane_topics(app: &str, plan: &ModelPlan) -> LaneTopics {
        let own = InternalTopics::of(app, &plan.name);
        LaneTopics {
            inputs: [plan.topics.predictions.clone(), own.labels.clone()],
            partners: vec![own.labels, own.analyst_journal],
        }
    }

    fn restore(
        &mut self,
        cx: &RoleContext<'_>,
        key: &LaneKey,
        committed: LaneOffsets,
        sums: &mut Sums,
    ) -> Result<Recall<(AnalystLane, LaneOffsets)>, ShellError> {
        let (model, partition) = (&key.0, key.1);
        let settings = &cx.options.settings;
        let Some(view) = cx.follower.model(model) else {
            return Ok(Recall::Unknown(format!("model `{model}` is not known any more")));
        };
        let own = InternalTopics::of(&settings.app, model);
        let lost = Lost { plan: &view.plan, partition, topics: &own, replay: &cx.replay };
        let group = format!("{}.{}", settings.app, Self::ROLE);
        let resume = match lost.recall(&group, committed)? {
            Recall::Known(resume) => resume,
            Recall::Unknown(why) => return Ok(Recall::Unknown(why)),
        };
        let names = &view.plan.topics;
        let partitions = self.partitions.of(&names.predictions, &cx.producer)?;
        let sources = self.partitions.of(&names.labels, &cx.producer)?;
        let from = (&cx.heartbeat, &cx.replay);
        let published = sums.take(settings, from, &own.partials, key, &resume)?;
        let lane = AnalystLane::restore(
            view,
            (partition, partitions, sources),
            &resume,
            &own,
            published,
            (&cx.replay, &self.store),
        )?;
        Ok(Recall::Known((lane, resume.committed)))
    }

    fn open_source(
        &mut self,
        cx: &mut RoleContext<'_>,
        source: (&str, ModelName, i32),
    ) -> Result<(), ShellError> {
        self.labels.open(cx, source)
    }

    fn release_source(&mut self, topic: &str, partition: i32) -> Result<(), ShellError> {
        self.labels.release(topic, partition)
    }
}
