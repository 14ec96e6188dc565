//! Writes the effects of the serving machine: served answers, predictions, and copies of requests for the versions.

use hashbrown::HashMap;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::partition_counts::PartitionCounts;
use crate::kafka::client::transaction::Sent;
use crate::kafka::lanes::dead_letters::{DeadLetter, LeftOut};
use crate::kafka::lanes::partition_role::RoleContext;
use crate::kafka::lanes::size_limit;
use crate::kafka::serving::copies::{Address, Forwards, TooLarge};
use crate::wire::headers::{self, Token};
use crate::wire::placement;
use crate::wire::prediction;
use serinus_core::domain::case::{Outcome, Prediction};
use serinus_core::domain::ids::{CaseId, ModelName};
use serinus_core::domain::record::{Answer, Carried};
use serinus_core::domain::routing::Role;
use serinus_core::engine::counter::Counter;
use serinus_core::engine::serving::{Forward, Serve, ServingEffect};
use serinus_core::plan::rollout::ModelPlan;

/// Writes effects into the open transaction.
#[derive(Default)]
pub struct Emitter {
    partitions: PartitionCounts,
    version_topics: HashMap<(ModelName, String), String>,
}

impl Emitter {
    /// Writes the effects of one lane.
    pub fn emit(
        &mut self,
        plan: &ModelPlan,
        effects: &mut Vec<ServingEffect>,
        cx: &mut RoleContext<'_>,
        forwards: &mut Forwards<'_>,
    ) -> Result<(), ShellError> {
        for effect in effects.drain(..) {
            match effect {
                ServingEffect::Forward(forward) => {
                    self.forward(plan, &forward, cx, forwards)?;
                }
                ServingEffect::Serve(serve) => serve_answer(plan, &serve, cx)?,
                ServingEffect::Predict(prediction) => self.predict(plan, *prediction, cx)?,
                ServingEffect::PassOn(answer) => self.pass_on(plan, &answer, cx)?,
                ServingEffect::Count(counter) => cx.counts.add(&plan.name, counter, 1),
            }
        }
        Ok(())
    }

    /// Sends a copy that was too large for its version's topic to the dead letters. The case is answered at its deadline, as with any
    /// version that does not answer.
    pub fn send_copy_to_dead_letters(
        &mut self,
        plan: &ModelPlan,
        copy: &TooLarge,
        cx: &mut RoleContext<'_>,
    ) -> Result<(), ShellError> {
        cx.counts.add(&plan.name, Counter::TooLarge, 1);
        cx.send_to_dead_letters(plan, &lost(plan, copy.case, &copy.reason))
    }

    /// Writes the prediction of a case; if it is too large, without the answers' values, so that the case can still be joined.
    fn predict(
        &mut self,
        plan: &ModelPlan,
        mut prediction: Prediction,
        cx: &mut RoleContext<'_>,
    ) -> Result<(), ShellError> {
        let topic = &plan.topics.predictions;
        let count = self.partitions.of(topic, &cx.producer)?.max(1);
        let mut offer = |p: &Prediction| {
            let id = p.request_id.as_str().as_bytes();
            cx.producer.offer(Outgoing {
                topic,
                partition: placement::partition(id, count),
                key: Some(id),
                value: Some(&prediction::encode(plan.format, &plan.name, p)),
                passthrough: &[],
                headers: &[],
                at: None,
            })
        };
        if offer(&prediction)? == Sent::Sent {
            return Ok(());
        }
        cx.counts.add(&plan.name, Counter::TooLarge, 1);
        for leave_out in [size_limit::without_values, size_limit::without_texts] {
            leave_out(&mut prediction);
            if offer(&prediction)? == Sent::Sent {
                return Ok(());
            }
        }
        let reason = "the record of its case does not fit into one message";
        cx.send_to_dead_letters(plan, &lost(plan, prediction.case, reason))
    }

    fn forward(
        &mut self,
        plan: &ModelPlan,
        forward: &Forward,
        cx: &mut RoleContext<'_>,
        forwards: &mut Forwards<'_>,
    ) -> Result<(), ShellError> {
        let request = &forward.request;
        let topic = self
            .version_topics
            .entry_ref(&(plan.name.clone(), forward.version.to_string()))
            .or_insert_with(|| plan.topics.of_version(&forward.version));
        let address = Address { plan, version: &forward.version, topic };
        let count = forwards.partitions(address, &cx.producer)?;
        if count == 0 {
            // The version's topic does not exist: the case ends at its deadline, as with any version that does not answer.
            cx.counts.add(&plan.name, Counter::VersionAbsent, 1);
            forwards.absent(address);
            return Ok(());
        }
        let partition = match &request.key {
            Some(key) => placement::partition(key, count),
            None => spread(request.case.partition, request.case.offset, count),
        };
        let token = Token {
            case: request.case,
            ask: forward.ask,
            awaited_until: forward.close_at,
            model: Some(plan.name.clone()),
        };
        let token = token.to_string();
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
        debug_assert!(forward.role == Role::Serve || forward.ask > 0, "the first ask is the arm's");
        let outgoing = Outgoing {
            topic,
            partition,
            key: request.key.as_deref(),
            value: request.value.as_deref(),
            passthrough: &request.headers,
            headers: &ours,
            at: None,
        };
        forwards.send(address, &outgoing, request.case)
    }

    /// Sends an answer to the partition of its case, or to the dead letters if that is impossible.
    fn pass_on(
        &mut self,
        plan: &ModelPlan,
        answer: &Answer,
        cx: &mut RoleContext<'_>,
    ) -> Result<(), ShellError> {
        let topic = &plan.topics.responses;
        let count = self.partitions.of(topic, &cx.producer)?;
        let reason = if answer.case.partition >= count {
            cx.counts.add(&plan.name, Counter::AnswerUnknown, 1);
            format!(
                "the header serinus-case names partition {}, which is not there",
                answer.case.partition
            )
        } else {
            let fit = cx.producer.offer(Outgoing {
                topic,
                partition: answer.case.partition,
                key: answer.carried.key.as_deref(),
                value: answer.value.as_deref(),
                passthrough: &answer.carried.headers,
                headers: &[],
                at: None,
            })?;
            if fit == Sent::Sent {
                return Ok(());
            }
            cx.counts.add(&plan.name, Counter::TooLarge, 1);
            "it stands on a wrong partition, and is too large to be passed on".to_owned()
        };
        let (partition, offset) = answer.carried.stood_at;
        let dead = DeadLetter {
            topic: topic.as_str().into(),
            partition,
            offset,
            carried: Carried::clone(&answer.carried),
            value: answer.value.clone(),
            reason: reason.into(),
            left_out: LeftOut::Nothing,
        };
        cx.send_to_dead_letters(plan, &dead)
    }
}

/// Serves a request regardless of size: parts that do not fit are left out, and the error header names a dropped answer.
fn serve_answer(
    plan: &ModelPlan,
    serve: &Serve,
    cx: &mut RoleContext<'_>,
) -> Result<(), ShellError> {
    let request = &serve.request;
    let revision = serve.routing.revision.to_string();
    let mut offer = |id: &str, outcome, error: Option<&str>, key, value, carried| {
        let mut ours = vec![
            (headers::REQUEST_ID, id),
            (headers::REVISION, &revision),
            (headers::OUTCOME, headers::outcome_word(outcome)),
        ];
        ours.extend(serve.version.iter().map(|v| (headers::VERSION, v.as_str())));
        ours.extend(error.map(|e| (headers::ERROR, e)));
        cx.producer.offer(Outgoing {
            topic: &plan.topics.served,
            partition: request.case.partition,
            key,
            value,
            passthrough: carried,
            headers: &ours,
            at: None,
        })
    };
    let (id, key) = (request.id.as_str(), request.key.as_deref());
    let (value, error) = (serve.value.as_deref(), serve.error.as_deref());
    if offer(id, serve.outcome, error, key, value, &request.headers)? == Sent::Sent {
        return Ok(());
    }
    cx.counts.add(&plan.name, Counter::TooLarge, 1);
    let (outcome, error) = match (value, error) {
        (Some(value), _) => (
            Outcome::Error,
            Some(format!("the answer of {} bytes does not fit into one message", value.len())),
        ),
        (None, error) => (serve.outcome, error.map(|e| size_limit::cut(e).to_owned())),
    };
    let error = error.as_deref();
    let left = [
        (id, error, key, &request.headers[..]),
        (id, error, key, &[]),
        (size_limit::cut(id), error, None, &[]),
        // The topic accepts only tiny records.
        (size_limit::cut_short(id), error.map(size_limit::cut_short), None, &[]),
    ];
    for (id, error, key, carried) in left {
        if offer(id, outcome, error, key, None, carried)? == Sent::Sent {
            return Ok(());
        }
    }
    Err(ShellError::TooLarge { topic: plan.topics.served.clone() })
}

/// Makes a dead letter of a request with an output that does not fit into one message.
fn lost(plan: &ModelPlan, case: CaseId, reason: &str) -> DeadLetter {
    DeadLetter::left(&plan.topics.requests, (case.partition, case.offset), reason)
}

/// Spreads requests without a key over the workers' partitions, in the same way on every instance.
fn spread(partition: i32, offset: i64, count: i32) -> i32 {
    let sum = i64::from(partition).wrapping_add(offset);
    i32::try_from(sum.rem_euclid(i64::from(count))).unwrap_or(0)
}
