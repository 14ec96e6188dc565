//! From the serving machine's effects to records.

use hashbrown::HashMap;

use crate::domain::ids::ModelName;
use crate::domain::record::{Answer, Bytes};
use crate::domain::routing::Role;
use crate::engine::counter::Counter;
use crate::engine::serving::{Forward, Serve, ServingEffect};
use crate::kafka::counts::Counts;
use crate::kafka::error::ShellError;
use crate::kafka::intake::Dead;
use crate::kafka::outbox::{Outbox, Outgoing, PartitionCounts};
use crate::strategy::stage::ModelPlan;
use crate::wire::headers::{self, Token};
use crate::wire::placement;
use crate::wire::prediction;

/// Writes effects into the open transaction.
#[derive(Default)]
pub struct Emitter {
    partitions: PartitionCounts,
    version_topics: HashMap<(ModelName, String), String>,
}

impl Emitter {
    /// Writes what one lane asked for.
    pub fn emit(
        &mut self,
        plan: &ModelPlan,
        effects: &mut Vec<ServingEffect>,
        outbox: &mut Outbox,
        counts: &mut Counts,
    ) -> Result<(), ShellError> {
        for effect in effects.drain(..) {
            match effect {
                ServingEffect::Forward(forward) => self.forward(plan, &forward, outbox, counts)?,
                ServingEffect::Serve(serve) => serve_answer(plan, &serve, outbox)?,
                ServingEffect::Predict(it) => {
                    let id = it.request_id.as_str().as_bytes();
                    let count = self.partitions.of(&plan.topics.predictions, outbox);
                    let value = prediction::encode(plan.format, &plan.name, &it);
                    outbox.send(Outgoing {
                        topic: &plan.topics.predictions,
                        partition: placement::partition(id, count.max(1)),
                        key: Some(id),
                        value: Some(&value),
                        carried: &[],
                        ours: &[],
                        at: None,
                    })?;
                }
                ServingEffect::PassOn(answer) => self.pass_on(plan, &answer, outbox, counts)?,
                ServingEffect::Count(counter) => counts.add(&plan.name, counter, 1),
            }
        }
        Ok(())
    }

    /// Sends a record that cannot be used to the dead letters.
    pub fn bury(
        &mut self,
        plan: &ModelPlan,
        dead: &Dead,
        outbox: &mut Outbox,
        counts: &mut Counts,
    ) -> Result<(), ShellError> {
        counts.add(&plan.name, Counter::Refused, 1);
        let count = self.partitions.of(&plan.topics.dead_letters, outbox);
        let (partition, offset) = (dead.partition.to_string(), dead.offset.to_string());
        outbox.send(Outgoing {
            topic: &plan.topics.dead_letters,
            partition: dead.partition % count.max(1),
            key: dead.carried.key.as_deref(),
            value: dead.value.as_deref(),
            carried: &dead.carried.headers,
            ours: &[
                (headers::DEAD_REASON, &dead.reason),
                (headers::DEAD_TOPIC, &dead.topic),
                (headers::DEAD_PARTITION, &partition),
                (headers::DEAD_OFFSET, &offset),
            ],
            at: None,
        })
    }

    fn forward(
        &mut self,
        plan: &ModelPlan,
        forward: &Forward,
        outbox: &mut Outbox,
        counts: &mut Counts,
    ) -> Result<(), ShellError> {
        let request = &forward.request;
        let topic = self
            .version_topics
            .entry_ref(&(plan.name.clone(), forward.version.to_string()))
            .or_insert_with(|| plan.topics.of_version(&forward.version));
        let count = self.partitions.of(topic, outbox);
        if count == 0 {
            // Nobody can be asked: the deadline decides, as with any version that does not answer.
            counts.add(&plan.name, Counter::VersionAbsent, 1);
            return Ok(());
        }
        let partition = match &request.key {
            Some(key) => placement::partition(key, count),
            None => spread(request.case.partition, request.case.offset, count),
        };
        let token =
            Token { case: request.case, ask: forward.ask, awaited_until: forward.close_at }.to_string();
        let ours = [
            (headers::REQUEST_ID, request.id.as_str()),
            (headers::CASE, &token),
            (headers::VERSION, forward.version.as_str()),
            (headers::ROLE, headers::role_word(forward.role)),
            (headers::REPLY_TOPIC, &plan.topics.responses),
            (headers::REPLY_PARTITION, &request.case.partition.to_string()),
            (headers::DEADLINE, &forward.deadline.0.to_string()),
            (headers::REVISION, &forward.routing.revision.to_string()),
        ];
        outbox.send(Outgoing {
            topic,
            partition,
            key: request.key.as_deref(),
            value: request.value.as_deref(),
            carried: &request.headers,
            ours: &ours,
            at: None,
        })?;
        debug_assert!(forward.role == Role::Serve || forward.ask > 0, "the first ask is the arm's");
        Ok(())
    }

    /// Sends an answer to the partition that it belongs to, or to the dead letters where there is no such partition.
    fn pass_on(
        &mut self,
        plan: &ModelPlan,
        answer: &Answer,
        outbox: &mut Outbox,
        counts: &mut Counts,
    ) -> Result<(), ShellError> {
        let topic = &plan.topics.responses;
        let count = self.partitions.of(topic, outbox);
        if answer.case.partition >= count {
            counts.add(&plan.name, Counter::AnswerUnknown, 1);
            return Ok(());
        }
        outbox.send(Outgoing {
            topic,
            partition: answer.case.partition,
            key: answer.carried.key.as_deref(),
            value: answer.value.as_deref(),
            carried: &answer.carried.headers,
            ours: &[],
            at: None,
        })
    }
}

fn serve_answer(plan: &ModelPlan, serve: &Serve, outbox: &mut Outbox) -> Result<(), ShellError> {
    let request = &serve.request;
    let revision = serve.routing.revision.to_string();
    let mut ours = vec![
        (headers::REQUEST_ID, request.id.as_str()),
        (headers::REVISION, &revision),
        (headers::OUTCOME, headers::outcome_word(serve.outcome)),
    ];
    if let Some(version) = &serve.version {
        ours.push((headers::VERSION, version.as_str()));
    }
    if let Some(error) = &serve.error {
        ours.push((headers::ERROR, error));
    }
    let value: Option<&Bytes> = serve.value.as_ref();
    outbox.send(Outgoing {
        topic: &plan.topics.served,
        partition: request.case.partition,
        key: request.key.as_deref(),
        value: value.map(AsRef::as_ref),
        carried: &request.headers,
        ours: &ours,
        at: None,
    })
}

/// Spreads requests without a key over the workers' partitions, the same on every instance.
fn spread(partition: i32, offset: i64, count: i32) -> i32 {
    let sum = i64::from(partition).wrapping_add(offset);
    i32::try_from(sum.rem_euclid(i64::from(count))).unwrap_or(0)
}
