//! Asks the brokers where partitions of labels end, beside the loop that reads them.
//!
//! That nothing comes does not mean that nothing is there: a broker may be away, or slow. Only who asks it knows, and must not keep the loop
//! waiting for that.

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

/// How long one call to a broker may take.
const CALL_WAIT: Duration = Duration::from_secs(3);
/// How long it rests before it asks somebody again.
const REST: Duration = Duration::from_millis(100);
/// How long an answer may be waited for before that is said, and how often it is said.
const SAY_AFTER: Span = Span::seconds(10);
/// How often it is looked whether the reader has come to the end before it is asked what is left: records as a rule, on their way to it.
const LOOKS: usize = 3;

/// A partition of labels, and how far its reader is.
struct Question {
    key: LaneKey,
    topic: String,
    position: Arc<AtomicI64>,
}

/// The reader has read what stood in the partition.
struct Answer {
    key: LaneKey,
    read_to: ReadTo,
}

enum Order {
    Ask(Question),
    Forget(LaneKey),
}

/// The thread that asks; it ends with this.
#[derive(Debug)]
pub struct LabelEnds {
    orders: Sender<Order>,
    answers: Receiver<Answer>,
}

impl LabelEnds {
    /// Starts to ask.
    pub fn start(settings: &Settings) -> Result<Self, ShellError> {
        let replay = PartitionReader::new(settings)?.with_timeout(CALL_WAIT);
        let (orders, ordered) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        thread::Builder::new()
            .name("label-ends".to_owned())
            .spawn(move || {
                let end = |x: &Question| replay.end_offset(&x.topic, x.key.1);
                let is_read = |x: &Question, range| replay.is_read(&x.topic, x.key.1, range);
                work(&ordered, &answer, end, is_read);
            })
            .map_err(|error| ShellError::Missing(format!("no thread for label ends: {error}")))?;
        Ok(Self { orders, answers })
    }

    /// Tells the partitions what became known of their ends, and asks about those that need to know.
    pub fn look_after(
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
            if let Some(position) = lane.ask(now, source::ask_every(view)) {
                let topic = view.plan.topics.labels.clone();
                self.order(Order::Ask(Question { key: key.clone(), topic, position }))?;
            }
        }
        Ok(())
    }

    /// Asks about a partition no more.
    pub fn forget(&self, key: LaneKey) -> Result<(), ShellError> {
        self.order(Order::Forget(key))
    }

    fn order(&self, order: Order) -> Result<(), ShellError> {
        let ended = |_| ShellError::Missing("the thread that asks for label ends ended".to_owned());
        self.orders.send(order).map_err(ended)
    }
}

/// What is to be asked: at most one question for each partition.
#[derive(Default)]
struct Agenda {
    new: VecDeque<Open>,
    in_vain: VecDeque<Open>,
}

/// A question, and since when it waits.
struct Open {
    question: Question,
    since: Timestamp,
    /// The end of the partition, and when it was asked for.
    end: Option<ReadTo>,
    looks: usize,
    /// Whether it was said that an answer is waited for.
    is_said: bool,
}

impl Agenda {
    fn take(&mut self, order: Order) {
        let (Order::Ask(Question { key, .. }) | Order::Forget(key)) = &order;
        self.new.retain(|x| x.question.key != *key);
        self.in_vain.retain(|x| x.question.key != *key);
        if let Order::Ask(question) = order {
            let since = clock::now();
            self.new.push_back(Open { question, since, end: None, looks: 0, is_said: false });
        }
    }

    /// Returns what to ask next: a broker that is away delays its own partitions only.
    fn next(&mut self) -> Option<Open> {
        self.new.pop_front().or_else(|| self.in_vain.pop_front())
    }
}

impl Open {
    /// Returns up to where the partition was read, once its reader has come to the end as it was when it was first asked for.
    ///
    /// Where labels come all the time the reader passes that end at once. Behind the last label there may be marks of transactions and what
    /// was taken back, which no reader sees: then somebody must look.
    fn look(
        &mut self,
        end: impl Fn(&Question) -> Result<i64, ShellError>,
        is_read: impl Fn(&Question, (i64, i64)) -> Result<bool, ShellError>,
    ) -> Result<Option<ReadTo>, ShellError> {
        let Self { question, .. } = self;
        let end = if let Some(end) = self.end {
            end
        } else {
            // Before the question is asked: what comes while the broker answers may not be in the answer.
            let at = clock::now();
            *self.end.insert(ReadTo { at, next: end(question)? })
        };
        let next = question.position.load(Ordering::Relaxed);
        if end.next <= next {
            return Ok(Some(end));
        }
        self.looks += 1;
        if self.looks < LOOKS || !is_read(question, (next, end.next))? {
            return Ok(None);
        }
        Ok(Some(ReadTo { next, ..end }))
    }
}

/// Asks what is ordered, until nobody orders any more.
fn work(
    orders: &Receiver<Order>,
    answers: &Sender<Answer>,
    end: impl Fn(&Question) -> Result<i64, ShellError>,
    is_read: impl Fn(&Question, (i64, i64)) -> Result<bool, ShellError>,
) {
    let mut agenda = Agenda::default();
    let mut said_at = Timestamp::MIN;
    loop {
        let ordered = if !agenda.new.is_empty() {
            orders.recv_timeout(Duration::ZERO)
        } else if !agenda.in_vain.is_empty() {
            orders.recv_timeout(REST)
        } else {
            orders.recv().map_err(RecvTimeoutError::from)
        };
        match ordered {
            Ok(first) => {
                agenda.take(first);
                for order in orders.try_iter() {
                    agenda.take(order);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(mut open) = agenda.next() else { continue };
        let found = open.look(&end, &is_read);
        let Question { key, topic, position } = &open.question;
        let (partition, now) = (key.1, clock::now());
        let waited = now - open.since;
        match found {
            Ok(Some(read_to)) => {
                if open.is_said {
                    info!(topic, partition, waited_ms = waited.0, "all labels were read");
                }
                if answers.send(Answer { key: key.clone(), read_to }).is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => debug!(topic, partition, %error, "asked in vain for the end"),
        }
        if waited >= SAY_AFTER && now - said_at >= SAY_AFTER {
            (said_at, open.is_said) = (now, true);
            warn!(
                topic,
                partition,
                next = position.load(Ordering::Relaxed),
                end = open.end.map(|x| x.next),
                waited_ms = waited.0,
                "whether all labels were read is not known: the broker does not answer, or has more, or a transaction is open; cases wait"
            );
        }
        agenda.in_vain.push_back(open);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::{Answer, Order, Question, work};
    use crate::kafka::client::error::ShellError;
    use crate::kafka::lanes::lane::LaneKey;
    use serinus_core::domain::ids::ModelName;

    const WAIT: Duration = Duration::from_secs(20);

    fn key(partition: i32) -> LaneKey {
        (ModelName::new("m"), partition)
    }

    fn ask(partition: i32, next: i64) -> Order {
        let position = Arc::new(AtomicI64::new(next));
        Order::Ask(Question { key: key(partition), topic: "labels".to_owned(), position })
    }

    fn answered(answer: &Answer) -> (i32, i64) {
        (answer.key.1, answer.read_to.next)
    }

    /// The broker of partition 0 is away until a question about it says that it was read up to offset 9; all others end at 8.
    #[test]
    fn who_is_away_is_asked_again_after_all_others_and_what_is_out_of_date_is_not_asked() {
        let (orders, ordered) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let (tell, asked) = mpsc::channel();
        let end = move |x: &Question| {
            let next = x.position.load(Ordering::Relaxed);
            tell.send((x.key.1, next)).expect("the test listens");
            match (x.key.1, next) {
                (0, 9) => Ok(9),
                (0, _) => Err(ShellError::Missing("its broker is away".to_owned())),
                (_, _) => Ok(8),
            }
        };
        let is_read = |_: &Question, _: (i64, i64)| Ok(false);
        for order in [ask(0, 5), ask(1, 8), ask(2, 9), ask(3, 1), Order::Forget(key(3))] {
            orders.send(order).expect("it is heard");
        }
        let working = thread::spawn(move || work(&ordered, &answer, end, is_read));
        let next = || asked.recv_timeout(WAIT).expect("somebody is asked");
        assert_eq!([next(), next(), next(), next()], [(0, 5), (1, 8), (2, 9), (0, 5)]);
        orders.send(ask(0, 6)).expect("it is heard");
        orders.send(ask(0, 9)).expect("it is heard");
        while next() != (0, 9) {}
        let heard: Vec<Answer> =
            (0..3).map(|_| answers.recv_timeout(WAIT).expect("it is answered")).collect();
        assert_eq!(heard.iter().map(answered).collect::<Vec<_>>(), [(1, 8), (2, 8), (0, 9)]);
        drop(orders);
        working.join().expect("it ends with the orders");
        assert_eq!(asked.try_iter().count(), 0, "what is answered or forgotten is asked no more");
    }

    /// Labels come all the time, so that there is always more than was read: the end as it was when it was asked for is passed soon.
    #[test]
    fn a_steady_flow_of_labels_is_no_question_without_an_answer() {
        let (orders, ordered) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let position = Arc::new(AtomicI64::new(5));
        let read = Arc::clone(&position);
        let end = move |x: &Question| {
            let end = x.position.load(Ordering::Relaxed) + 3;
            // They are read while the broker answers the next question.
            read.store(end + 1, Ordering::Relaxed);
            Ok(end)
        };
        let is_read = |_: &Question, _: (i64, i64)| -> Result<bool, ShellError> {
            panic!("nobody need look what is left")
        };
        let working = thread::spawn(move || work(&ordered, &answer, end, is_read));
        for round in 0..3 {
            let position = Arc::clone(&position);
            let question = Question { key: key(0), topic: "labels".to_owned(), position };
            orders.send(Order::Ask(question)).expect("it is heard");
            let answer = answers.recv_timeout(WAIT).expect("it is answered");
            assert_eq!(answered(&answer), (0, 8 + 4 * round));
        }
        drop(orders);
        working.join().expect("it ends with the orders");
    }

    /// Behind the last label there are marks of transactions up to the end.
    #[test]
    fn what_no_reader_sees_is_no_reason_to_wait() {
        let (orders, ordered) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let is_read = |_: &Question, range: (i64, i64)| Ok(range == (5, 7));
        let working = thread::spawn(move || work(&ordered, &answer, |_: &Question| Ok(7), is_read));
        orders.send(ask(0, 5)).expect("it is heard");
        let answer = answers.recv_timeout(WAIT).expect("it is answered");
        assert_eq!(answered(&answer), (0, 5));
        drop(orders);
        working.join().expect("it ends with the orders");
    }
}
