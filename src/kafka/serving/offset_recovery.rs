//! Where a serving lane resumes if the group has no offset of ours: offsets expire, and operators delete groups or set offsets.
//!
//! The journal holds the position of the lane. Without a journal, only the served topic shows whether the lane ever answered a request.

use std::collections::BTreeMap;

use rdkafka::message::Message;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::message;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::lanes::catalog::ModelView;
use crate::kafka::lanes::decode;
use crate::kafka::lanes::lane::{LaneOffsets, Recall};
use crate::kafka::lanes::size_limit;
use crate::wire::headers;
use crate::wire::journal::{ReplayStart, ServingTurn};
use crate::wire::prediction;
use serinus_core::domain::record::Request;
use serinus_core::domain::time::Timestamp;

/// Number of newest journal offsets that are read first: the newest turn is nearly always among them.
const TAIL: i64 = 4_000;

/// The position of a lane according to its journal alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// The number of the next turn.
    pub turn: u64,
    /// The time of the last turn.
    pub now: Timestamp,
    /// The next request; nothing if the topic was deleted and created again, so that its old offsets mean nothing.
    pub requests: Option<i64>,
    /// The next answer.
    pub responses: i64,
}

/// A partition to recover, and the group that reads it.
pub struct Past<'a> {
    /// The model.
    pub view: &'a ModelView,
    /// The partition.
    pub partition: i32,
    /// The group.
    pub group: &'a str,
    /// The journal.
    pub journal: &'a str,
    /// Reads the topics.
    pub replay: &'a PartitionReader,
}

impl Past<'_> {
    /// Returns where the lane resumes: nothing if the group's offsets are ours, else the end of its journal.
    pub fn recall(&self, committed: &LaneOffsets) -> Result<Recall<Option<Recalled>>, ShellError> {
        let set = match &committed.first {
            Some((_, metadata)) if ReplayStart::from_metadata(metadata).is_some() => {
                return Ok(Recall::Known(None));
            }
            Some((offset, _)) => Some(*offset),
            None => None,
        };
        self.replay.require_stable(self.journal, self.partition)?;
        let Some(newest) = self.newest_turn()? else { return self.without_journal(set) };
        let (topic, partition, group) = (self.requests(), self.partition, self.group);
        let (turn, now, responses) = (newest.turn.turn + 1, newest.now(), newest.responses);
        let mut recalled = Recalled { turn, now, requests: None, responses };
        if self.is_same_topic(&newest)? {
            let next = newest.requests;
            if set != Some(next) {
                warn!(
                    topic,
                    partition,
                    group,
                    set,
                    next,
                    "group offset gone or set by another program; resuming from the journal"
                );
            }
            recalled.requests = Some(next);
        } else {
            warn!(
                topic,
                partition, "topic deleted and created again; reading it from the beginning"
            );
        }
        Ok(Recall::Known(Some(recalled)))
    }

    fn requests(&self) -> &str {
        &self.view.plan.topics.requests
    }

    /// Returns the newest turn of the journal, and the newest request whose hash it has.
    fn newest_turn(&self) -> Result<Option<NewestTurn>, ShellError> {
        let (low, high) = self.replay.bounds(self.journal, self.partition)?;
        for from in [(high - TAIL).max(low), low] {
            let mut newest: Option<NewestTurn> = None;
            self.replay.range(self.journal, self.partition, from, None, |message| {
                let Some(Ok(turn)) = message.payload().map(ServingTurn::read) else { return };
                let last = turn.last.map(|t| (turn.requests - 1, t));
                let last = last.or_else(|| newest.as_ref().and_then(|n| n.last));
                newest = Some(NewestTurn { turn, last });
            })?;
            if newest.is_some() || from == low {
                return Ok(newest);
            }
        }
        Ok(None)
    }

    /// Returns whether the request topic is still the one that the journal refers to.
    fn is_same_topic(&self, newest: &NewestTurn) -> Result<bool, ShellError> {
        let (low, high) = self.replay.bounds(self.requests(), self.partition)?;
        if newest.requests > high {
            return Ok(false);
        }
        let Some((offset, hash)) = newest.last.filter(|n| n.0 >= low) else { return Ok(true) };
        let mut is_same = true;
        let plan = &self.view.plan;
        self.replay.range(
            self.requests(),
            self.partition,
            offset,
            Some(offset + 1),
            |message| {
                if message.offset() == offset {
                    is_same = hash_of(&decode::request(message, plan)) == hash;
                }
            },
        )?;
        Ok(is_same)
    }

    /// Starts a lane that never answered a request at the beginning, or at the offset that an operator set.
    fn without_journal(&self, set: Option<i64>) -> Result<Recall<Option<Recalled>>, ShellError> {
        // Without requests there are no answers.
        let has_requests = self.replay.bounds(self.requests(), self.partition)?.1 > 0;
        if !has_requests || !self.has_served()? {
            return Ok(Recall::Known(None));
        }
        let (twice, next) = self.served_from(set.unwrap_or(0))?;
        let (topic, partition, group) = (self.requests(), self.partition, self.group);
        let served = &self.view.plan.topics.served;
        let remedy = format!(
            "kafka-consumer-groups --group {group} --topic {topic}:{partition} --reset-offsets --to-offset {next} --execute \
             sets it behind the newest request that has an answer on `{served}`"
        );
        match set {
            Some(_) if twice == 0 => Ok(Recall::Known(None)),
            Some(offset) => Ok(Recall::Unknown(format!(
                "offset {offset} of group `{group}` was set by another program and is not used: {twice} requests from there on have an \
                 answer on `{served}` and would be answered twice; {remedy}"
            ))),
            None => Ok(Recall::Unknown(format!(
                "group `{group}` has no offset of `{topic}`, the journal `{}` is empty, and `{served}` shows that requests were answered, \
                 so nothing shows where to resume; {remedy}",
                self.journal
            ))),
        }
    }

    /// Returns whether any topic shows that requests of the partition were answered.
    fn has_served(&self) -> Result<bool, ShellError> {
        let topics = &self.view.plan.topics;
        let (low, _) = self.replay.bounds(&topics.served, self.partition)?;
        if low > 0 || self.replay.has_any(&topics.served, self.partition, |_| true)? {
            return Ok(true);
        }
        let is_ours = |bytes: &[u8]| {
            prediction::decode(bytes).is_ok_and(|(_, i)| i.case.partition == self.partition)
        };
        for of in 0..self.replay.partitions(&topics.predictions)? {
            if self.replay.has_any(&topics.predictions, of, is_ours)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the number of answered requests from an offset on, and the offset after the newest answered request.
    fn served_from(&self, offset: i64) -> Result<(usize, i64), ShellError> {
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        let topics = &self.view.plan.topics;
        self.replay.range(&topics.served, self.partition, 0, None, |message| {
            let pairs = message::pairs(message);
            let id = pairs.iter().find(|(name, _)| *name == headers::REQUEST_ID);
            let id = id.and_then(|(_, id)| std::str::from_utf8((*id)?).ok());
            if let Some(id) = id {
                *answers.entry(size_limit::cut(id).to_owned()).or_default() += 1;
            }
        })?;
        let (mut twice, mut next) = (0, 0);
        self.replay.range(self.requests(), self.partition, 0, None, |message| {
            let request = decode::request(message, &self.view.plan);
            let Some(left) = answers.get_mut(size_limit::cut(request.id.as_str())) else { return };
            if *left > 0 {
                *left -= 1;
                next = message.offset() + 1;
                twice += usize::from(message.offset() >= offset);
            }
        })?;
        Ok((twice, next))
    }
}

struct NewestTurn {
    turn: ServingTurn,
    /// The newest request whose hash the journal has, with the hash.
    last: Option<(i64, u64)>,
}

impl std::ops::Deref for NewestTurn {
    type Target = ServingTurn;

    fn deref(&self) -> &ServingTurn {
        &self.turn
    }
}

/// Returns a hash that identifies a request.
pub fn hash_of(request: &Request) -> u64 {
    let mut bytes = request.requested_at.0.to_be_bytes().to_vec();
    for part in [request.key.as_deref(), request.value.as_deref()] {
        bytes.push(u8::from(part.is_some()));
        bytes.extend(part.unwrap_or_default());
        bytes.push(0);
    }
    bytes.extend(request.id.as_str().as_bytes());
    xxh3_64(&bytes)
}
