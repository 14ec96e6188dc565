//! Requests the end offsets of label partitions from the brokers, on a separate thread.
//!
//! Silence does not prove that everything was read: a broker may be down or slow. Only the broker knows the end of a partition, and the
//! role's loop must not wait for its answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::settings::Settings;
use crate::kafka::labels::source::{self, LabelLane, ReadTo};
use crate::kafka::lanes::event_follower::Follower;
use crate::kafka::lanes::lane::LaneKey;
use crate::kafka::process::clock;
use serinus_core::domain::time::{Span, Timestamp};

/// Timeout of one call to a broker.
const CALL_WAIT: Duration = Duration::from_secs(3);
/// Pause before a probe is repeated.
const PAUSE: Duration = Duration::from_millis(100);
/// Time without an answer after which that is logged, and interval of the log line.
const LOG_AFTER: Span = Span::seconds(10);
/// Checks of the reader's position before the broker is asked what is left. Usually it is records that the reader is about to get.
const CHECKS_MIN: usize = 3;

/// A label partition, and how far its reader is.
struct Probe {
    key: LaneKey,
    topic: String,
    position: Arc<AtomicI64>,
}

/// The partition was read up to an offset.
struct Answer {
    key: LaneKey,
    read_to: ReadTo,
}

enum Request {
    Probe(Probe),
    Cancel(LaneKey),
}

/// The thread that sends the requests; dropping this ends it.
#[derive(Debug)]
pub struct LabelEnds {
    requests: Sender<Request>,
    answers: Receiver<Answer>,
}

impl LabelEnds {
    /// Starts the thread.
    pub fn start(settings: &Settings) -> Result<Self, ShellError> {
        let replay = PartitionReader::new(settings)?.with_timeout(CALL_WAIT);
        let (requests, received) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        thread::Builder::new()
            .name("label-ends".to_owned())
            .spawn(move || {
                let end = |x: &Probe| replay.end_offset(&x.topic, x.key.1);
                let is_read = |x: &Probe, range| replay.is_read(&x.topic, x.key.1, range);
                work(&received, &answer, end, is_read);
            })
            .map_err(|error| {
                ShellError::Missing(format!("failed to start the thread for label ends: {error}"))
            })?;
        Ok(Self { requests, answers })
    }

    /// Passes answers on to the partitions, and probes those that are due.
    pub fn update(
        &self,
        now: Timestamp,
        lanes: &mut BTreeMap<LaneKey, LabelLane>,
        follower: &Follower,
    ) -> Result<(), ShellError> {
        for Answer { key, read_to } in self.answers.try_iter() {
            if let Some(lane) = lanes.get_mut(&key) {
                lane.answered(read_to);
            }
        }
        for (key, lane) in lanes {
            let Some(view) = follower.model(&key.0) else { continue };
            if let Some(position) = lane.probe(now, source::probe_every(view)) {
                let topic = view.plan.topics.labels.clone();
                self.send(Request::Probe(Probe { key: key.clone(), topic, position }))?;
            }
        }
        Ok(())
    }

    /// Stops probing a partition.
    pub fn cancel(&self, key: LaneKey) -> Result<(), ShellError> {
        self.send(Request::Cancel(key))
    }

    fn send(&self, request: Request) -> Result<(), ShellError> {
        let ended = |_| ShellError::Missing("the thread for label ends has ended".to_owned());
        self.requests.send(request).map_err(ended)
    }
}

/// The pending probes: at most one for each partition.
#[derive(Default)]
struct Pending {
    new: VecDeque<OpenProbe>,
    unanswered: VecDeque<OpenProbe>,
}

/// A probe that is not answered yet.
struct OpenProbe {
    probe: Probe,
    since: Timestamp,
    /// The end of the partition, and when it was asked for.
    end: Option<ReadTo>,
    checks: usize,
    /// Whether a log line said that the answer is missing.
    is_logged: bool,
}

impl Pending {
    fn take(&mut self, request: Request) {
        let (Request::Probe(Probe { key, .. }) | Request::Cancel(key)) = &request;
        self.new.retain(|x| x.probe.key != *key);
        self.unanswered.retain(|x| x.probe.key != *key);
        if let Request::Probe(probe) = request {
            let since = clock::now();
            self.new.push_back(OpenProbe { probe, since, end: None, checks: 0, is_logged: false });
        }
    }

    /// Returns the next probe. A broker that is down delays only its own partitions.
    fn next(&mut self) -> Option<OpenProbe> {
        self.new.pop_front().or_else(|| self.unanswered.pop_front())
    }
}

impl OpenProbe {
    /// Returns how far the partition was read, once its reader has reached the end that the broker first named.
    ///
    /// While labels keep arriving, the reader passes that end at once. Otherwise the last label may be followed by transaction markers and
    /// aborted records, which no reader sees; then the broker is asked whether anything readable is left.
    fn check(
        &mut self,
        end: impl Fn(&Probe) -> Result<i64, ShellError>,
        is_read: impl Fn(&Probe, (i64, i64)) -> Result<bool, ShellError>,
    ) -> Result<Option<ReadTo>, ShellError> {
        let Self { probe, .. } = self;
        let end = if let Some(end) = self.end {
            end
        } else {
            // Read the clock first: a label that arrives while the broker answers may be missing from the answer.
            let at = clock::now();
            *self.end.insert(ReadTo { at, next: end(probe)? })
        };
        let next = probe.position.load(Ordering::Relaxed);
        if end.next <= next {
            return Ok(Some(end));
        }
        self.checks += 1;
        if self.checks < CHECKS_MIN || !is_read(probe, (next, end.next))? {
            return Ok(None);
        }
        Ok(Some(ReadTo { next, ..end }))
    }
}

/// Runs the requested probes until the sender is dropped.
fn work(
    requests: &Receiver<Request>,
    answers: &Sender<Answer>,
    end: impl Fn(&Probe) -> Result<i64, ShellError>,
    is_read: impl Fn(&Probe, (i64, i64)) -> Result<bool, ShellError>,
) {
    let mut pending = Pending::default();
    let mut logged_at = Timestamp::MIN;
    loop {
        let received = if !pending.new.is_empty() {
            requests.recv_timeout(Duration::ZERO)
        } else if !pending.unanswered.is_empty() {
            requests.recv_timeout(PAUSE)
        } else {
            requests.recv().map_err(RecvTimeoutError::from)
        };
        match received {
            Ok(first) => {
                pending.take(first);
                for request in requests.try_iter() {
                    pending.take(request);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(mut open) = pending.next() else { continue };
        let found = open.check(&end, &is_read);
        let Probe { key, topic, position } = &open.probe;
        let (partition, now) = (key.1, clock::now());
        let waited = now - open.since;
        match found {
            Ok(Some(read_to)) => {
                if open.is_logged {
                    info!(
                        topic,
                        partition,
                        waited_ms = waited.0,
                        "label partition confirmed as read"
                    );
                }
                if answers.send(Answer { key: key.clone(), read_to }).is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => debug!(topic, partition, %error, "end of a label partition unavailable"),
        }
        if waited >= LOG_AFTER && now - logged_at >= LOG_AFTER {
            (logged_at, open.is_logged) = (now, true);
            warn!(
                topic,
                partition,
                next = position.load(Ordering::Relaxed),
                end = open.end.map(|x| x.next),
                waited_ms = waited.0,
                "cannot confirm that all labels were read (broker unavailable, unread records, or open transaction); maturity is on hold"
            );
        }
        pending.unanswered.push_back(open);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::{Answer, Probe, Request, work};
    use crate::kafka::client::error::ShellError;
    use crate::kafka::lanes::lane::LaneKey;
    use serinus_core::domain::ids::ModelName;

    const WAIT: Duration = Duration::from_secs(20);

    fn key(partition: i32) -> LaneKey {
        (ModelName::new("m"), partition)
    }

    fn ask(partition: i32, next: i64) -> Request {
        let position = Arc::new(AtomicI64::new(next));
        Request::Probe(Probe { key: key(partition), topic: "labels".to_owned(), position })
    }

    fn answered(answer: &Answer) -> (i32, i64) {
        (answer.key.1, answer.read_to.next)
    }

    /// The broker of partition 0 is down until its reader is at offset 9; all other partitions end at 8.
    #[test]
    fn a_broker_that_is_down_is_asked_last_and_outdated_probes_are_dropped() {
        let (requests, received) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let (seen, probed) = mpsc::channel();
        let end = move |x: &Probe| {
            let next = x.position.load(Ordering::Relaxed);
            seen.send((x.key.1, next)).expect("the test receives");
            match (x.key.1, next) {
                (0, 9) => Ok(9),
                (0, _) => Err(ShellError::Missing("its broker is down".to_owned())),
                (_, _) => Ok(8),
            }
        };
        let is_read = |_: &Probe, _: (i64, i64)| Ok(false);
        for request in [ask(0, 5), ask(1, 8), ask(2, 9), ask(3, 1), Request::Cancel(key(3))] {
            requests.send(request).expect("the thread runs");
        }
        let working = thread::spawn(move || work(&received, &answer, end, is_read));
        let next = || probed.recv_timeout(WAIT).expect("a partition is probed");
        assert_eq!([next(), next(), next(), next()], [(0, 5), (1, 8), (2, 9), (0, 5)]);
        requests.send(ask(0, 6)).expect("the thread runs");
        requests.send(ask(0, 9)).expect("the thread runs");
        while next() != (0, 9) {}
        let answered_all: Vec<Answer> =
            (0..3).map(|_| answers.recv_timeout(WAIT).expect("it is answered")).collect();
        assert_eq!(answered_all.iter().map(answered).collect::<Vec<_>>(), [(1, 8), (2, 8), (0, 9)]);
        drop(requests);
        working.join().expect("the thread ends");
        assert_eq!(probed.try_iter().count(), 0, "answered and canceled probes are not repeated");
    }

    /// Labels keep arriving, so the current end is never reached, but the end that the broker named is passed soon.
    #[test]
    fn a_probe_is_answered_while_labels_keep_arriving() {
        let (requests, received) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let position = Arc::new(AtomicI64::new(5));
        let read = Arc::clone(&position);
        let end = move |x: &Probe| {
            let end = x.position.load(Ordering::Relaxed) + 3;
            // The labels are read while the broker answers.
            read.store(end + 1, Ordering::Relaxed);
            Ok(end)
        };
        let is_read = |_: &Probe, _: (i64, i64)| -> Result<bool, ShellError> {
            panic!("the rest need not be examined")
        };
        let working = thread::spawn(move || work(&received, &answer, end, is_read));
        for round in 0..3 {
            let position = Arc::clone(&position);
            let probe = Probe { key: key(0), topic: "labels".to_owned(), position };
            requests.send(Request::Probe(probe)).expect("the thread runs");
            let answer = answers.recv_timeout(WAIT).expect("it is answered");
            assert_eq!(answered(&answer), (0, 8 + 4 * round));
        }
        drop(requests);
        working.join().expect("the thread ends");
    }

    /// The last label is followed by transaction markers up to the end.
    #[test]
    fn transaction_markers_behind_the_last_label_are_no_reason_to_wait() {
        let (requests, received) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let is_read = |_: &Probe, range: (i64, i64)| Ok(range == (5, 7));
        let working = thread::spawn(move || work(&received, &answer, |_: &Probe| Ok(7), is_read));
        requests.send(ask(0, 5)).expect("the thread runs");
        let answer = answers.recv_timeout(WAIT).expect("it is answered");
        assert_eq!(answered(&answer), (0, 5));
        drop(requests);
        working.join().expect("the thread ends");
    }
}
