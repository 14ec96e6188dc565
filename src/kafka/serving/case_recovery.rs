//! Reopens the cases of a serving lane if its journal no longer has their turns.
//!
//! The lane's outputs show which cases are open: a closed case has a record on the prediction log, a served one has its answer on the
//! served topic, and a routed one has copies on the versions' topics.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rdkafka::message::Message;
use tracing::{info, warn};

use crate::kafka::client::error::ShellError;
use crate::kafka::client::message;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::lanes::catalog::ModelView;
use crate::kafka::lanes::decode;
use crate::kafka::lanes::size_limit;
use crate::kafka::process::clock;
use crate::wire::prediction;
use crate::wire::traces;
use serinus_core::domain::record::Request;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::case_recovery::{Answered, Copied, Traces};
use serinus_core::engine::serving::{Forward, ServingEffect, ServingEvent, ServingLane};

/// Largest clock difference between instances and brokers; reading starts that much earlier.
const SLACK: Span = Span::seconds(60);
/// Slack for the times of copies: each has the time at which its process sent it, which is not before the turn that asked for it.
const COPY_SLACK: Span = Span::seconds(1);

/// A range of a lane's inputs whose turns are not in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The oldest request that may be open; nothing if only the copies can show it.
    pub first: Option<i64>,
    /// The next request for the lane's next turn.
    pub next: i64,
    /// The oldest open case was routed at this time or later.
    pub since: Timestamp,
    /// The first answer that may belong to an open case, if that is known.
    pub answers_from: Option<i64>,
    /// The next answer for the lane's next turn.
    pub answers_to: i64,
}

/// The cases that were reopened.
#[derive(Debug, Default)]
pub struct Reopened {
    /// The oldest open case.
    pub oldest: Option<i64>,
    /// The effects of the cases, for the lane's next turn.
    pub effects: Vec<ServingEffect>,
}

/// The lane's outputs for its cases.
#[derive(Default)]
struct Written {
    closed: BTreeSet<i64>,
    copies: BTreeMap<i64, BTreeMap<usize, Copied>>,
    /// By request id, in the order of the served topic: answers of cases that are not closed.
    answered: BTreeMap<String, VecDeque<Answered>>,
}

impl Written {
    fn read(
        view: &ModelView,
        partition: i32,
        since: Timestamp,
        replay: &PartitionReader,
    ) -> Result<Self, ShellError> {
        let mut written = Self::default();
        written.read_served(view, partition, since, replay)?;
        written.read_predictions(view, partition, since, replay)?;
        written.read_copies(view, partition, since, replay)?;
        Ok(written)
    }

    fn read_served(
        &mut self,
        view: &ModelView,
        partition: i32,
        since: Timestamp,
        replay: &PartitionReader,
    ) -> Result<(), ShellError> {
        replay.since(&view.plan.topics.served, partition, since, |message| {
            let pairs = message::pairs(message);
            let at = message::time(message);
            let read = traces::read_answered(&pairs, message.payload(), at);
            if let Some((id, answered)) = read {
                let id = size_limit::cut(id).to_owned();
                self.answered.entry(id).or_default().push_back(answered);
            }
        })
    }

    /// Reads which cases are closed, and drops their answers: an open case may have the same request id.
    fn read_predictions(
        &mut self,
        view: &ModelView,
        partition: i32,
        since: Timestamp,
        replay: &PartitionReader,
    ) -> Result<(), ShellError> {
        let topic = &view.plan.topics.predictions;
        for of in 0..replay.partitions(topic)? {
            replay.since(topic, of, since, |message| {
                let read = message.payload().map(prediction::decode);
                let Some(Ok((_, it))) = read else { return };
                if it.case.partition != partition {
                    return;
                }
                self.closed.insert(it.case.offset);
                if it.served_at >= since {
                    let id = size_limit::cut(it.request_id.as_str());
                    if let Some(answers) = self.answered.get_mut(id) {
                        answers.pop_front();
                    }
                }
            })?;
        }
        Ok(())
    }

    fn read_copies(
        &mut self,
        view: &ModelView,
        partition: i32,
        since: Timestamp,
        replay: &PartitionReader,
    ) -> Result<(), ShellError> {
        for topic in version_topics(view) {
            for of in 0..replay.partitions(&topic)? {
                replay.since(&topic, of, since, |message| {
                    let pairs = message::pairs(message);
                    let read = traces::read_copy(&pairs, message::time(message));
                    let Some((token, copy)) = read else { return };
                    if token.case.partition == partition {
                        let copies = self.copies.entry(token.case.offset).or_default();
                        copies.insert(token.ask, copy);
                    }
                })?;
            }
        }
        Ok(())
    }

    fn traces(&mut self, request: &Request) -> Traces {
        let id = size_limit::cut(request.id.as_str());
        Traces {
            copies: self.copies.remove(&request.case.offset).unwrap_or_default(),
            answered: self.answered.get_mut(id).and_then(VecDeque::pop_front),
        }
    }
}

/// Returns the copies that are missing from their version's topic. Copies are sent outside of the transaction, so a turn may be committed
/// although its process died before the copies were delivered.
///
/// # Errors
///
/// A topic cannot be read.
pub fn not_sent(
    view: &ModelView,
    partition: i32,
    mut forwards: Vec<Forward>,
    since: Timestamp,
    replay: &PartitionReader,
) -> Result<Vec<ServingEffect>, ShellError> {
    let now = clock::now();
    forwards.retain(|forward| forward.deadline > now);
    if forwards.is_empty() {
        return Ok(Vec::new());
    }
    let mut written = Written::default();
    written.read_copies(view, partition, since - COPY_SLACK, replay)?;
    forwards.retain(|forward| {
        let copies = written.copies.get(&forward.request.case.offset);
        let copy = copies.and_then(|copies| copies.get(&forward.ask));
        copy.is_none_or(|copy| copy.version != forward.version)
    });
    if !forwards.is_empty() {
        let (model, copies) = (&view.plan.name, forwards.len());
        info!(%model, partition, copies, "undelivered copies resent");
    }
    Ok(forwards.into_iter().map(ServingEffect::Forward).collect())
}

/// Reopens the open cases of a gap.
///
/// # Errors
///
/// `OpenTransaction` while an open transaction hides outputs: they decide whether a case is open.
pub fn reopen(
    view: &ModelView,
    (partition, machine): (i32, &mut ServingLane),
    gap: Gap,
    replay: &PartitionReader,
) -> Result<Reopened, ShellError> {
    let since = gap.since - SLACK;
    let mut written = Written::read(view, partition, since, replay)?;
    let of_copies = || written.copies.keys().find(|c| !written.closed.contains(*c)).copied();
    let Some(first) = gap.first.or_else(of_copies) else { return Ok(Reopened::default()) };
    let topics = &view.plan.topics;
    let mut requests: BTreeMap<i64, Arc<Request>> = BTreeMap::new();
    replay.range(&topics.requests, partition, first, Some(gap.next), |g| {
        requests.insert(g.offset(), Arc::new(decode::request(g, &view.plan)));
    })?;
    let is_open = |i: &&i64| (first..gap.next).contains(*i) && !written.closed.contains(*i);
    let gone = written.copies.keys().filter(is_open).filter(|i| !requests.contains_key(i)).count();
    let now = clock::now();
    let mut done = Reopened::default();
    let (mut again, mut asked) = (0_usize, 0_usize);
    for (offset, request) in requests {
        if written.closed.contains(&offset) {
            continue;
        }
        let traces = written.traces(&request);
        if traces.is_empty() {
            // No output shows that the request was routed or answered: route it now.
            asked += 1;
            let at = request.requested_at.max(gap.since).min(now);
            machine.handle(at, ServingEvent::Request(request), &mut done.effects);
        } else {
            again += 1;
            let routing = traces.revision().and_then(|r| view.history.get(&r));
            machine.reopen(&request, routing.unwrap_or(&view.routing), traces);
        }
    }
    let from = match gap.answers_from {
        Some(from) => from,
        None => replay.offset_at(&topics.responses, partition, since)?,
    };
    replay.range(&topics.responses, partition, from, Some(gap.answers_to), |a| {
        if let Ok(answer) = decode::answer(a)
            && answer.case.partition == partition
        {
            let at = message::time(a).min(now);
            machine.handle(at, ServingEvent::Answer(answer), &mut done.effects);
        }
    })?;
    // These events were counted when they first happened.
    done.effects.retain(|e| !matches!(e, ServingEffect::Count(_)));
    done.oldest = machine.oldest_open();
    let model = &view.plan.name;
    info!(%model, partition, again, asked, "journal incomplete: cases reopened from the lane's outputs");
    if gone > 0 {
        warn!(%model, partition, gone, "open requests were deleted before they were answered: the topic's retention is too short");
    }
    Ok(done)
}

/// Returns the topics of all versions that may have received copies.
fn version_topics(view: &ModelView) -> BTreeSet<String> {
    let routings = view.history.values().chain([&view.routing]);
    let versions = routings.flat_map(|r| {
        let slices = r.slices.iter().map(|s| &s.version);
        let shadows = r.shadows.iter().map(|s| &s.version);
        slices.chain(shadows).chain([&r.stable])
    });
    versions.map(|v| view.plan.topics.of_version(v)).collect()
}
