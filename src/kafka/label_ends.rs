//! Asks the brokers whether partitions of labels are read to their ends, beside the loop that reads them.
//!
//! That nothing comes does not mean that nothing is there: a broker may be away, or slow. Only who asks it knows, and must not keep the loop
//! waiting for that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use tracing::{debug, warn};

use crate::domain::time::{Span, Timestamp};
use crate::kafka::admission::LaneKey;
use crate::kafka::clock;
use crate::kafka::error::ShellError;
use crate::kafka::follower::Follower;
use crate::kafka::label_lane::{self, LabelLane};
use crate::kafka::replay::Replay;
use crate::kafka::settings::Settings;

/// How long one call to a broker may take.
const CALL_WAIT: Duration = Duration::from_secs(3);
/// How long it rests before it asks somebody again.
const REST: Duration = Duration::from_millis(100);
/// How long an answer may be waited for before that is said, and how often it is said.
const SAY_AFTER: Span = Span::seconds(10);

/// A partition of labels, and the offset up to which it was read.
struct Question {
    key: LaneKey,
    topic: String,
    next: i64,
}

/// All that stood in a partition at a time was read by who read up to an offset.
struct Answer {
    key: LaneKey,
    next: i64,
    /// When the broker was asked, by the clock on the wall.
    asked_at: Timestamp,
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
        let replay = Replay::new(settings)?.waiting_at_most(CALL_WAIT);
        let is_read = move |it: &Question| replay.is_read(&it.topic, it.key.1, it.next);
        let (orders, ordered) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        thread::Builder::new()
            .name("label-ends".to_owned())
            .spawn(move || work(&ordered, &answer, is_read))
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
        for Answer { key, next, asked_at } in self.answers.try_iter() {
            if let (Some(lane), Some(view)) = (lanes.get_mut(&key), follower.model(&key.0)) {
                lane.answered(now, next, asked_at, label_lane::lease(view));
            }
        }
        for (key, lane) in lanes {
            let Some(view) = follower.model(&key.0) else { continue };
            if lane.must_ask(now, label_lane::lease(view)) {
                let topic = view.plan.topics.labels.clone();
                self.order(Order::Ask(Question { key: key.clone(), topic, next: lane.next }))?;
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
}

impl Agenda {
    fn take(&mut self, order: Order) {
        let (Order::Ask(Question { key, .. }) | Order::Forget(key)) = &order;
        self.new.retain(|it| it.question.key != *key);
        self.in_vain.retain(|it| it.question.key != *key);
        if let Order::Ask(question) = order {
            self.new.push_back(Open { question, since: clock::now() });
        }
    }

    /// Returns what to ask next: a broker that is away delays its own partitions only.
    fn next(&mut self) -> Option<Open> {
        self.new.pop_front().or_else(|| self.in_vain.pop_front())
    }
}

/// Asks what is ordered, until nobody orders any more.
fn work(
    orders: &Receiver<Order>,
    answers: &Sender<Answer>,
    is_read: impl Fn(&Question) -> Result<bool, ShellError>,
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
        let Some(open) = agenda.next() else { continue };
        let Question { key, topic, next } = &open.question;
        let (partition, next) = (key.1, *next);
        let asked_at = clock::now();
        match is_read(&open.question) {
            Ok(true) => {
                if answers.send(Answer { key: key.clone(), next, asked_at }).is_err() {
                    return;
                }
                continue;
            }
            Ok(false) => {}
            Err(error) => debug!(topic, partition, %error, "asked in vain for the end"),
        }
        let waited = asked_at - open.since;
        if waited >= SAY_AFTER && asked_at - said_at >= SAY_AFTER {
            said_at = asked_at;
            warn!(
                topic,
                partition,
                next,
                waited_ms = waited.0,
                "whether all labels were read is not known: the broker does not answer, or has more, or a transaction is open; cases wait"
            );
        }
        agenda.in_vain.push_back(open);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::{Answer, Order, Question, work};
    use crate::domain::ids::ModelName;
    use crate::kafka::admission::LaneKey;
    use crate::kafka::error::ShellError;

    const WAIT: Duration = Duration::from_secs(20);

    fn key(partition: i32) -> LaneKey {
        (ModelName::new("m"), partition)
    }

    fn ask(partition: i32, next: i64) -> Order {
        Order::Ask(Question { key: key(partition), topic: "labels".to_owned(), next })
    }

    fn answered(answer: &Answer) -> (i32, i64) {
        (answer.key.1, answer.next)
    }

    /// Partition 0 is away until a question about it names offset 9; all others are read.
    #[test]
    fn who_is_away_is_asked_again_after_all_others_and_what_is_out_of_date_is_not_asked() {
        let (orders, ordered) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let (tell, asked) = mpsc::channel();
        let is_read = move |it: &Question| {
            tell.send((it.key.1, it.next)).expect("the test listens");
            match (it.key.1, it.next) {
                (0, 9) | (1.., _) => Ok(true),
                (0, 5) => Err(ShellError::Missing("its broker is away".to_owned())),
                _ => Ok(false),
            }
        };
        for order in [ask(0, 5), ask(1, 7), ask(2, 8), ask(3, 1), Order::Forget(key(3))] {
            orders.send(order).expect("it is heard");
        }
        let working = thread::spawn(move || work(&ordered, &answer, is_read));
        let next = || asked.recv_timeout(WAIT).expect("somebody is asked");
        assert_eq!([next(), next(), next(), next()], [(0, 5), (1, 7), (2, 8), (0, 5)]);
        orders.send(ask(0, 6)).expect("it is heard");
        orders.send(ask(0, 9)).expect("it is heard");
        while next() != (0, 9) {}
        let heard: Vec<Answer> =
            (0..3).map(|_| answers.recv_timeout(WAIT).expect("it is answered")).collect();
        assert_eq!(heard.iter().map(answered).collect::<Vec<_>>(), [(1, 7), (2, 8), (0, 9)]);
        drop(orders);
        working.join().expect("it ends with the orders");
        assert_eq!(asked.try_iter().count(), 0, "what is answered or forgotten is asked no more");
    }
}
