//! The partials of the models that are judged here: assigned, read, and given to their judges.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use crate::kafka::client::error::{ShellError, is_retriable_by_role};
use crate::kafka::control::role::{BATCH_MAX, Session, step};
use crate::kafka::control::shard::publish;
use crate::kafka::process::clock;
use crate::wire::journal::JudgeInput;
use crate::wire::partial::PartialRecord;
use serinus_core::engine::judge::io::Event;
use serinus_core::engine::partial::Partial;

impl Session<'_> {
    /// Assigns the partials of all models that are judged here, from the last judged offset on.
    pub(crate) fn assign_feed(&mut self) -> Result<(), ShellError> {
        let mut wanted = TopicPartitionList::new();
        for model_judge in self.shards.values().flat_map(|b| b.judges.values()) {
            if model_judge.judge.state().is_some() {
                wanted
                    .add_partition_offset(
                        &model_judge.partials,
                        0,
                        Offset::Offset(model_judge.next),
                    )
                    .map_err(ShellError::kafka("assign partials"))?;
            }
        }
        let assigned =
            self.feed.assignment().map_err(ShellError::kafka("list the assigned partials"))?;
        let is_same = assigned.count() == wanted.count()
            && wanted.elements().iter().all(|e| assigned.find_partition(e.topic(), 0).is_some());
        if is_same {
            return Ok(());
        }
        self.feed.assign(&wanted).map_err(ShellError::kafka("assign partials"))
    }

    pub(crate) fn read_partials(&mut self) -> Result<(), ShellError> {
        for _ in 0..BATCH_MAX {
            let (topic, offset, partial) = match self.feed.poll(Duration::ZERO) {
                None => break,
                Some(Err(KafkaError::PartitionEOF(_))) => continue,
                Some(Err(error)) => {
                    // While brokers are down this recurs at every poll.
                    if is_retriable_by_role(&error) {
                        debug!(%error, "reading partials: client retries");
                    } else {
                        warn!(%error, "failed to read partials");
                    }
                    break;
                }
                Some(Ok(message)) => {
                    let read = message.payload().and_then(|p| PartialRecord::read(p).ok());
                    let partial = read.and_then(|p| p.partial().ok());
                    (message.topic().to_owned(), message.offset(), partial)
                }
            };
            self.partial(&topic, offset, partial)?;
        }
        Ok(())
    }

    fn partial(
        &mut self,
        topic: &str,
        offset: i64,
        partial: Option<Partial>,
    ) -> Result<(), ShellError> {
        for shard in self.shards.values_mut() {
            let model_judge = shard.judges.iter_mut().find(|(_, s)| s.partials == topic);
            let Some((model, model_judge)) = model_judge else { continue };
            if offset < model_judge.next {
                return Ok(());
            }
            model_judge.next = offset + 1;
            model_judge.is_touched = true;
            let model = model.clone();
            let (now, mut out) = (clock::now(), Vec::new());
            if let Some(partial) = partial {
                model_judge.note(&partial, offset);
                model_judge.judge.handle(now, Event::Partial(Box::new(partial)), &mut out);
            }
            let step = step(&model, now, JudgeInput::Partial { offset });
            return publish(shard, &step, &out, &mut self.partitions, self.options);
        }
        Ok(())
    }
}
