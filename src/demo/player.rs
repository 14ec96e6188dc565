//! Replays the month faster than real time: a request when a flight is scheduled to leave, a label when its delay is known.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::demo::flights::Flight;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::plain_producer::PlainProducer;
use crate::kafka::process::clock;
use crate::kafka::process::shutdown::Shutdown;
use crate::kafka::process::wait::Deadline;
use crate::wire::headers::CE_ID;
use crate::wire::placement;
use serinus_core::domain::record::Header;
use serinus_core::domain::time::Timestamp;
use serinus_core::plan::rollout::ModelTopics;

/// Maximum number of requests without an answer: on a slow machine the replay takes longer, and the queue does not grow.
const WAITING_MAX: u64 = 400;
/// Maximum lead of the replay over the newest evidence. It is less than the labels' maturity, so that no label counts as missing because
/// the analysts are behind.
const LEAD_MAX_MS: i64 = 12 * 3_600_000;
/// Timeout of a wait for evidence: during a long gap between flights there is none.
const EVIDENCE_WAIT: Duration = Duration::from_secs(10);
/// Time without a served answer after which the player gives up.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// One record to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    at: i64,
    is_label: bool,
    flight: usize,
}

/// Progress that the player and the screen share.
#[derive(Debug)]
pub struct Progress {
    /// Requests sent.
    pub sent: AtomicU64,
    /// Answers seen on the topic of served answers.
    pub served: AtomicU64,
    /// The month's time.
    pub now: AtomicI64,
    /// The time of the newest evidence, or `i64::MAX` if there will be no more.
    pub tick: AtomicI64,
    /// The latest end of this act.
    pub end: AtomicI64,
    /// Whether the act has no more records to send.
    pub is_over: AtomicBool,
}

/// The month on its way to the topics.
pub struct Player<'a> {
    flights: &'a [Flight],
    tape: Vec<Moment>,
    next: usize,
    is_sent: Vec<bool>,
    feeder: PlainProducer,
    topics: &'a ModelTopics,
    partitions: i32,
}

impl<'a> Player<'a> {
    /// Puts the month in the order in which it happened.
    pub fn new(
        flights: &'a [Flight],
        feeder: PlainProducer,
        topics: &'a ModelTopics,
        partitions: i32,
    ) -> Self {
        let requests = flights.iter().enumerate().map(|(flight, f)| Moment {
            at: f.scheduled,
            is_label: false,
            flight,
        });
        let labels = flights
            .iter()
            .enumerate()
            .filter_map(|(flight, f)| Some(Moment { at: f.label_at()?, is_label: true, flight }));
        let mut tape: Vec<Moment> = requests.chain(labels).collect();
        tape.sort_unstable();
        let is_sent = vec![false; flights.len()];
        Self { flights, tape, next: 0, is_sent, feeder, topics, partitions }
    }

    /// Plays from a time on until `progress.end`, `speed` times as fast as it happened.
    pub fn play(
        &mut self,
        from: i64,
        speed: f64,
        progress: &Progress,
        stop: &Shutdown,
    ) -> Result<(), ShellError> {
        self.skip_to(from)?;
        let mut began = clock::moment();
        let mut waited = Duration::ZERO;
        while let Some(moment) = self.tape.get(self.next).copied() {
            if stop.is_requested() || moment.at >= progress.end.load(Ordering::Acquire) {
                break;
            }
            let gone = Duration::from_millis(u64::try_from(moment.at - from).unwrap_or(0));
            let due = gone.div_f64(speed) + waited;
            let ahead = due.saturating_sub(began.elapsed());
            if ahead > Duration::from_millis(1) && stop.wait(ahead) {
                break;
            }
            let stalled =
                wait_for_answers(progress, stop)? + wait_for_evidence(moment.at, progress, stop);
            waited += stalled;
            self.send(moment, progress)?;
            progress.now.store(moment.at, Ordering::Release);
            self.next += 1;
            // A machine that cannot keep up plays on from here instead of rushing after.
            let behind = began.elapsed().saturating_sub(due + stalled);
            if behind > Duration::from_millis(200) {
                began += behind;
            }
        }
        self.feeder.flush()?;
        progress.is_over.store(true, Ordering::Release);
        Ok(())
    }

    /// Skips the flights up to a time, but sends the labels of those before.
    fn skip_to(&mut self, from: i64) -> Result<(), ShellError> {
        while let Some(moment) = self.tape.get(self.next).copied().filter(|t| t.at < from) {
            if moment.is_label {
                self.send_label(moment)?;
            }
            self.next += 1;
        }
        Ok(())
    }

    fn send(&mut self, moment: Moment, progress: &Progress) -> Result<(), ShellError> {
        if moment.is_label {
            return self.send_label(moment);
        }
        let flight = &self.flights[moment.flight];
        let id = flight.request_id.as_bytes();
        let key = flight.tail_number.as_deref().map_or(id, str::as_bytes);
        let event_id = Header { name: CE_ID.into(), value: Some(id.into()) };
        self.feeder.send(&Outgoing {
            topic: &self.topics.requests,
            partition: placement::partition(key, self.partitions),
            key: Some(key),
            value: Some(&flight.request_body()),
            passthrough: &[event_id],
            headers: &[],
            at: Some(Timestamp(moment.at)),
        })?;
        self.is_sent[moment.flight] = true;
        progress.sent.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn send_label(&mut self, moment: Moment) -> Result<(), ShellError> {
        let flight = &self.flights[moment.flight];
        let Some(body) = flight.label_body(moment.at).filter(|_| self.is_sent[moment.flight])
        else {
            return Ok(());
        };
        self.feeder.send(&Outgoing {
            topic: &self.topics.labels,
            // One after the other, as they came to be known.
            partition: 0,
            key: Some(flight.request_id.as_bytes()),
            value: Some(&body),
            passthrough: &[],
            headers: &[],
            at: Some(Timestamp(moment.at)),
        })
    }
}

/// Waits until few enough requests are unanswered; returns how long that took.
fn wait_for_answers(progress: &Progress, stop: &Shutdown) -> Result<Duration, ShellError> {
    let began = clock::moment();
    let waiting = || {
        let served = progress.served.load(Ordering::Acquire);
        progress.sent.load(Ordering::Acquire).saturating_sub(served)
    };
    let mut last = waiting();
    let mut deadline = Deadline::after(SILENCE_MAX);
    while waiting() > WAITING_MAX {
        if stop.wait(Duration::from_millis(2)) {
            break;
        }
        if waiting() != last {
            last = waiting();
            deadline = Deadline::after(SILENCE_MAX);
        }
        if deadline.is_over() {
            let words = format!("nothing was served for {} s", SILENCE_MAX.as_secs());
            return Err(ShellError::Missing(words));
        }
    }
    Ok(began.elapsed())
}

/// Waits until the evidence is not too far behind; returns how long that took.
fn wait_for_evidence(at: i64, progress: &Progress, stop: &Shutdown) -> Duration {
    let began = clock::moment();
    let deadline = Deadline::after(EVIDENCE_WAIT);
    let is_far = || at.saturating_sub(progress.tick.load(Ordering::Acquire)) > LEAD_MAX_MS;
    while is_far() && !deadline.is_over() && !stop.wait(Duration::from_millis(2)) {}
    began.elapsed()
}
