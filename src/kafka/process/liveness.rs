//! What each role of an instance is doing, for the watchdog and for whoever asks whether the instance is ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::kafka::process::clock;
use crate::kafka::process::failpoints::Role;

/// After how long without a sign of life a role is overdue.
pub const OVERDUE_AFTER: Duration = Duration::from_mins(1);
/// After how long nobody may believe any more that it comes round again.
pub const HOPELESS_AFTER: Duration = Duration::from_mins(5);
/// The same of a call of the client: each has a limit of 30 s at the most, and one that does not keep to it never comes back.
pub const CALL_HOPELESS_AFTER: Duration = Duration::from_secs(90);

/// What a role is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It begins.
    Starting,
    /// It waits for its group to give it partitions.
    Joining,
    /// It reads again what a partition must know: so many of the records so far, and how many there are where that is known.
    Restoring {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// How many offsets were read.
        done: i64,
        /// Of how many.
        total: Option<i64>,
    },
    /// It goes round and round, as it should.
    Running,
    /// It waits for an answer of the brokers.
    Calling(&'static str),
    /// Something broke, and it begins anew in a moment.
    Pausing {
        /// What broke.
        why: String,
    },
    /// It has ended.
    Ended,
}

impl Activity {
    /// Returns what a role does when it begins to restore a partition.
    pub fn begin(topic: &str, partition: i32) -> Self {
        Self::Restoring { topic: topic.to_owned(), partition, done: 0, total: None }
    }

    /// Returns the word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Joining => "joining",
            Self::Restoring { .. } => "restoring",
            Self::Running => "running",
            Self::Calling(_) => "calling",
            Self::Pausing { .. } => "pausing",
            Self::Ended => "ended",
        }
    }

    /// Says it in a few words.
    pub fn words(&self) -> String {
        match self {
            Self::Restoring { topic, partition, done, total: Some(total) } => {
                format!("restoring from {topic}[{partition}]: {done} of {total}")
            }
            Self::Restoring { topic, partition, done, total: None } => {
                format!("restoring from {topic}[{partition}]: {done}")
            }
            Self::Calling(what) => format!("waiting for the brokers: {what}"),
            Self::Pausing { why } => format!("pausing: {why}"),
            Self::Starting | Self::Joining | Self::Running | Self::Ended => self.word().to_owned(),
        }
    }
}

/// The state of one role.
#[derive(Clone, Debug)]
pub struct RoleStatus {
    /// What it is doing.
    pub activity: Activity,
    /// Its last sign of life.
    pub seen: Instant,
    /// When it last went from being ready to not being ready, or back.
    pub since: Instant,
    /// How often it began.
    pub begins: u64,
    /// Whether it has come round since it last began: calls are part of the work then.
    pub is_ready: bool,
}

/// The states of all roles of an instance.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Mutex<BTreeMap<Role, RoleStatus>>>);

impl Liveness {
    /// Returns the states of all roles.
    pub fn read(&self) -> BTreeMap<Role, RoleStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what a role gives its signs of life by.
    pub fn role(&self, role: Role) -> Heartbeat {
        Heartbeat { role, pulse: self.clone() }
    }
}

/// One role's signs of life.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The role.
    pub role: Role,
    pulse: Liveness,
}

impl Heartbeat {
    /// Says what the role is doing now.
    pub fn report(&self, activity: Activity) {
        let now = clock::moment();
        let mut all = self.pulse.0.lock().unwrap_or_else(PoisonError::into_inner);
        let vital = all.entry(self.role).or_insert_with(|| RoleStatus {
            activity: Activity::Starting,
            seen: now,
            since: now,
            begins: 0,
            is_ready: false,
        });
        let is_ready = match &activity {
            Activity::Running => true,
            Activity::Calling(_) => vital.is_ready,
            Activity::Starting
            | Activity::Joining
            | Activity::Restoring { .. }
            | Activity::Pausing { .. }
            | Activity::Ended => false,
        };
        vital.begins += u64::from(activity == Activity::Starting);
        if is_ready != vital.is_ready {
            vital.since = now;
        }
        (vital.activity, vital.seen, vital.is_ready) = (activity, now, is_ready);
    }
}

/// What the watchdog makes of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a role that hangs must be seen to"]
pub enum Verdict {
    /// It lives.
    Alive,
    /// It has not been heard of for long.
    Overdue,
    /// It will not come round again: the process must be started anew.
    Hopeless,
}

/// Judges a role by how long ago its last sign of life was; the time before `awake_since`, when the whole process slept, does not count.
pub fn judge(vital: &RoleStatus, now: Instant, awake_since: Instant) -> Verdict {
    let silent = now.saturating_duration_since(vital.seen.max(awake_since));
    let hopeless_after = match vital.activity {
        Activity::Calling(_) => CALL_HOPELESS_AFTER,
        Activity::Starting
        | Activity::Joining
        | Activity::Restoring { .. }
        | Activity::Running
        | Activity::Pausing { .. }
        | Activity::Ended => HOPELESS_AFTER,
    };
    if vital.activity == Activity::Ended || silent < OVERDUE_AFTER {
        Verdict::Alive
    } else if silent < hopeless_after {
        Verdict::Overdue
    } else {
        Verdict::Hopeless
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Activity, Liveness, Verdict, judge};

    #[test]
    fn a_role_is_ready_once_it_goes_round_and_until_it_begins_anew() {
        let pulse = Liveness::default();
        let beat = pulse.role("serving");
        let check = |activity: Activity, is_ready: bool| {
            beat.report(activity.clone());
            assert_eq!(pulse.read()["serving"].is_ready, is_ready, "{activity:?}");
        };
        let restoring =
            Activity::Restoring { topic: "t".to_owned(), partition: 0, done: 1, total: Some(2) };
        check(Activity::Starting, false);
        check(Activity::Calling("fence the slot"), false);
        check(Activity::Joining, false);
        check(restoring.clone(), false);
        check(Activity::Running, true);
        check(Activity::Calling("commit"), true);
        check(Activity::Running, true);
        // A partition came: until it is restored its requests wait.
        check(restoring, false);
        check(Activity::Running, true);
        check(Activity::Pausing { why: "the brokers are away".to_owned() }, false);
        check(Activity::Starting, false);
        assert_eq!(pulse.read()["serving"].begins, 2);
    }

    #[test]
    fn a_role_that_is_not_heard_of_is_overdue_and_then_hopeless() {
        let pulse = Liveness::default();
        let beat = pulse.role("serving");
        let check = |activity: Activity, seconds: u64, expected: Verdict| {
            beat.report(activity);
            let vital = &pulse.read()["serving"];
            let now = vital.seen + Duration::from_secs(seconds);
            assert_eq!(judge(vital, now, vital.seen), expected);
            // As soon as it wakes up nobody can have been heard of.
            assert_eq!(judge(vital, now, now), Verdict::Alive);
        };
        check(Activity::Running, 59, Verdict::Alive);
        check(Activity::Calling("commit"), 60, Verdict::Overdue);
        check(Activity::Calling("commit"), 89, Verdict::Overdue);
        check(Activity::Calling("commit"), 90, Verdict::Hopeless);
        check(Activity::Running, 299, Verdict::Overdue);
        check(Activity::Running, 300, Verdict::Hopeless);
        check(Activity::Ended, 10_000, Verdict::Alive);
    }
}
