//! The serving role: one lane for each partition of requests, and the copies that its lanes send to the versions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Message};
use tracing::warn;

use crate::kafka::client::error::ShellError;
use crate::kafka::lanes::dead_letters::DeadLetter;
use crate::kafka::lanes::decode;
use crate::kafka::lanes::event_follower::Follower;
use crate::kafka::lanes::internal_topics;
use crate::kafka::lanes::lane::{Lane, LaneKey, LaneOffsets, Recall};
use crate::kafka::lanes::partition_role::{
    self, Gauges, Input, LaneTopics, PartitionRole, RoleContext, Topics,
};
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::process::clock;
use crate::kafka::process::failpoints::Role;
use crate::kafka::process::metrics::{MetricsRegistry, PendingCounts};
use crate::kafka::process::shutdown::Shutdown;
use crate::kafka::serving::copies::Forwards;
use crate::kafka::serving::encode::Emitter;
use crate::kafka::serving::lane::{OPEN_CASES, ServingPartition};
use crate::kafka::serving::offset_recovery::Past;
use serinus_core::domain::ids::ModelName;
use serinus_core::domain::record::{Answer, Request};
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::counter::Counter;
use serinus_core::engine::serving::ServingEffect;
use serinus_core::plan::rollout::{ModelPlan, Source};

/// Interval at which every lane's offsets are committed even if nothing arrives. Kafka expires a group's offsets of topics that the
/// group does not subscribe to, and the lanes' second inputs are such topics; the default retention is 7 days, so an hour is ample.
const OFFSET_REFRESH_EVERY: Span = Span(3_600_000);

/// Serves until `stop` is requested.
pub fn serve(
    options: &RunOptions,
    stop: &Shutdown,
    metrics: &MetricsRegistry,
) -> Result<(), ShellError> {
    partition_role::run(options, stop, metrics, || {
        Ok(ServingRole {
            emitter: Emitter::default(),
            forwards: Forwards::new(options, metrics),
            refreshed_at: clock::now(),
        })
    })
}

/// A record of one of the two inputs.
enum Received {
    Request(Arc<Request>),
    /// An answer, with its offset.
    Answer(i64, Result<Answer, DeadLetter>),
}

struct ServingRole<'a> {
    emitter: Emitter,
    forwards: Forwards<'a>,
    /// When all offsets were last committed.
    refreshed_at: Timestamp,
}

impl ServingRole<'_> {
    /// Commits every lane's offsets now and then, even if nothing arrives.
    fn refresh_offsets(
        &mut self,
        cx: &mut RoleContext<'_>,
        lanes: &mut BTreeMap<LaneKey, ServingPartition>,
        now: Timestamp,
    ) -> Result<(), ShellError> {
        if now - self.refreshed_at < OFFSET_REFRESH_EVERY {
            return Ok(());
        }
        self.refreshed_at = now;
        for lane in lanes.values_mut() {
            lane.is_touched = true;
        }
        if lanes.is_empty() { Ok(()) } else { cx.producer.open() }
    }

    /// Sends copies that were too large for their topics to the dead letters.
    fn send_large_copies_to_dead_letters(
        &mut self,
        cx: &mut RoleContext<'_>,
    ) -> Result<(), ShellError> {
        for copy in self.forwards.take_too_large() {
            let Some(view) = cx.follower.model(&copy.model) else { continue };
            let plan = Arc::clone(&view.plan);
            self.emitter.send_copy_to_dead_letters(&plan, &copy, cx)?;
        }
        Ok(())
    }
}

impl PartitionRole for ServingRole<'_> {
    type Lane = ServingPartition;
    type Record = (LaneKey, Received);
    type Opening = ();

    const ROLE: Role = "serving";
    const LANE: &'static str = "serving";
    const BATCH_MAX: usize = 2000;
    const COLLECT: Duration = Duration::ZERO;
    const COMMIT_INTERVAL_MIN: Option<Duration> = None;
    const GAUGES: Gauges = Gauges {
        lanes: "serving_lanes",
        blocked: "serving_lanes_waiting",
        of_lanes: &[OPEN_CASES],
    };

    fn topics(&mut self, cx: &RoleContext<'_>) -> (Vec<String>, Topics) {
        let (mut names, mut topics) = (Vec::new(), Topics::new());
        for (name, view) in cx.follower.models() {
            let of = &view.plan.topics;
            let is_taken = [&of.requests, &of.responses].iter().any(|t| topics.contains_key(*t));
            if is_taken {
                // The judge refuses such a spec today. If an earlier build accepted it, only the first of the models is served.
                warn!(model = %name, requests = of.requests, responses = of.responses, "model not served: another model uses its topics");
                continue;
            }
            names.push(of.requests.clone());
            topics.insert(of.requests.clone(), (name.clone(), Input::First));
            topics.insert(of.responses.clone(), (name.clone(), Input::Second));
        }
        (names, topics)
    }

    fn limits(&mut self, cx: &RoleContext<'_>, written: &[String]) -> BTreeMap<String, usize> {
        self.forwards.limits(cx.follower.models().values(), written)
    }

    fn before_subscribe(&mut self, cx: &RoleContext<'_>) -> Result<(), ShellError> {
        self.forwards.follow(cx.follower.models().values(), &cx.producer)
    }

    fn decode(
        &self,
        follower: &Follower,
        message: &BorrowedMessage<'_>,
        (model, input): (&ModelName, Input),
    ) -> Option<Self::Record> {
        let plan = &follower.model(model)?.plan;
        let received = match input {
            Input::First => Received::Request(Arc::new(decode::request(message, plan))),
            Input::Second => Received::Answer(message.offset(), decode::answer(message)),
            Input::Source => return None,
        };
        Some(((model.clone(), message.partition()), received))
    }

    fn take(
        &mut self,
        counts: &mut PendingCounts,
        lanes: &mut BTreeMap<LaneKey, ServingPartition>,
        (key, received): Self::Record,
    ) {
        let Some(lane) = lanes.get_mut(&key) else { return };
        let (requests, responses) = lane.offsets();
        match received {
            Received::Request(request) if request.case.offset >= requests => {
                // The record key is the default unit and may be null; any other source of the unit must be there.
                if request.unit.is_none() && lane.plan.unit != Source::Key {
                    counts.add(&key.0, Counter::UnitAbsent, 1);
                }
                lane.backlog.requests.push_back(request);
            }
            Received::Answer(offset, answer) if offset >= responses => {
                lane.backlog.answers.push((offset, answer));
            }
            Received::Request(_) | Received::Answer(..) => {}
        }
    }

    fn emit(
        &mut self,
        cx: &mut RoleContext<'_>,
        plan: &ModelPlan,
        effects: &mut Vec<ServingEffect>,
    ) -> Result<(), ShellError> {
        self.emitter.emit(plan, effects, cx, &mut self.forwards)
    }

    fn after_turns(
        &mut self,
        cx: &mut RoleContext<'_>,
        lanes: &mut BTreeMap<LaneKey, ServingPartition>,
        now: Timestamp,
    ) -> Result<(), ShellError> {
        for ((_, partition), lane) in &mut *lanes {
            let is_full = !lane.backlog.requests.is_empty();
            if is_full != lane.is_paused {
                cx.member.pause(&lane.plan.topics.requests, *partition, is_full)?;
                lane.is_paused = is_full;
            }
        }
        self.refresh_offsets(cx, lanes, now)?;
        self.forwards.check_if_due();
        self.send_large_copies_to_dead_letters(cx)
    }

    fn before_commit(&mut self, cx: &mut RoleContext<'_>) -> Result<(), ShellError> {
        // The committed turns count on their copies, so deliver those first where their topics take them.
        self.forwards.flush();
        self.send_large_copies_to_dead_letters(cx)
    }

    fn fail(&mut self) {
        // Copies of turns that are committed must still be delivered.
        self.forwards.flush_last();
    }

    fn lane_topics(app: &str, plan: &ModelPlan) -> LaneTopics {
        let names = &plan.topics;
        let journal = internal_topics::serving_journal(app, &plan.name);
        LaneTopics {
            inputs: [names.requests.clone(), names.responses.clone()],
            partners: vec![names.responses.clone(), names.served.clone(), journal],
        }
    }

    fn restore(
        &mut self,
        cx: &RoleContext<'_>,
        (model, partition): &LaneKey,
        committed: LaneOffsets,
        (): &mut (),
    ) -> Result<Recall<(ServingPartition, LaneOffsets)>, ShellError> {
        let app = &cx.options.settings.app;
        let Some(view) = cx.follower.model(model) else {
            return Ok(Recall::Unknown(format!("model `{model}` is not known any more")));
        };
        let journal = ServingPartition::journal(app, model);
        let past = Past {
            view,
            partition: *partition,
            group: &format!("{app}.{}", Self::ROLE),
            journal: &journal,
            replay: &cx.replay,
        };
        let recalled = match past.recall(&committed)? {
            Recall::Known(recalled) => recalled,
            Recall::Unknown(why) => return Ok(Recall::Unknown(why)),
        };
        let record_bytes_max = cx.producer.record_bytes_max(&view.plan.topics.served);
        let lane = ServingPartition::restore(
            view,
            (*partition, record_bytes_max),
            (&committed, recalled),
            &journal,
            &cx.replay,
        )?;
        Ok(Recall::Known((lane, committed)))
    }
}
