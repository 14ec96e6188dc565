//! The activity of each role, for the watchdog and for readiness probes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::kafka::process::clock;
use crate::kafka::process::failpoints::Role;

/// Time without a heartbeat after which a role is overdue.
pub const OVERDUE_AFTER: Duration = Duration::from_mins(1);
/// Time without a heartbeat after which a role cannot be expected to recover.
pub const HOPELESS_AFTER: Duration = Duration::from_mins(5);
/// The same during a call of the client. Each call has a timeout of at most 30 s; one that exceeds it three times never
/// returns.
pub const CALL_HOPELESS_AFTER: Duration = Duration::from_secs(90);

/// The current activity of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It begins.
    Starting,
    /// It waits for its first assignment.
    Joining,
    /// It reads the records from which the state of a partition is rebuilt.
    Restoring {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Number of offsets read so far.
        done: i64,
        /// Number of offsets to read, if known.
        total: Option<i64>,
    },
    /// Its loop is running.
    Running,
    /// It waits for a response of the brokers.
    Calling(&'static str),
    /// It failed and restarts after a pause.
    Pausing {
        /// The error.
        why: String,
    },
    /// It has ended.
    Ended,
}

impl Activity {
    /// Returns the activity of a role that begins to restore a partition.
    pub fn begin(topic: &str, partition: i32) -> Self {
        Self::Restoring { topic: topic.to_owned(), partition, done: 0, total: None }
    }

    /// Returns its name in the API.
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

    /// Returns a description for people.
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
    /// Time of its last heartbeat.
    pub seen: Instant,
    /// Time at which its readiness last changed.
    pub since: Instant,
    /// Number of starts, including the first.
    pub begins: u64,
    /// Whether its loop has run since the last start. Calls do not change that.
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

    /// Returns the heartbeat of a role.
    pub fn role(&self, role: Role) -> Heartbeat {
        Heartbeat { role, pulse: self.clone() }
    }
}

/// The handle with which a role reports its activity.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The role.
    pub role: Role,
    pulse: Liveness,
}

impl Heartbeat {
    /// Reports the current activity, which also counts as a sign of life.
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

/// The watchdog's verdict on a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a hanging role must be handled"]
pub enum Verdict {
    Alive,
    /// It has sent no heartbeat for `OVERDUE_AFTER`.
    Overdue,
    /// It cannot recover: the process must restart.
    Hopeless,
}

/// Judges a role by the age of its last heartbeat. Time before `awake_since`, while the process was suspended, does not
/// count.
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
        check(Activity::Calling("fence the previous owner"), false);
        check(Activity::Joining, false);
        check(restoring.clone(), false);
        check(Activity::Running, true);
        check(Activity::Calling("commit"), true);
        check(Activity::Running, true);
        // A partition was assigned: its requests wait until it is restored.
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
            // Right after the process wakes up no role can have sent a heartbeat.
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
