//! The watchdog: logs which role hangs, and exits the process if a role cannot recover.
//!
//! Exiting is always safe: work that is not committed is repeated from the committed offsets after a restart.

use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use crate::kafka::process::clock;
use crate::kafka::process::liveness::{Activity, Liveness, Verdict, judge};
use crate::kafka::process::shutdown::Shutdown;

/// Interval between two checks.
const CHECK_EVERY: Duration = Duration::from_millis(500);
/// Delay of a check from which the whole process counts as suspended.
const SLEPT: Duration = Duration::from_secs(10);
/// Interval at which the same finding is logged.
const LOG_EVERY: Duration = Duration::from_secs(30);
/// Time for the roles to finish after a stop is requested: less than the documented 25 s.
const FINISH_WITHIN: Duration = Duration::from_secs(20);

/// Exits the process with this code, regardless of its threads.
pub type End = fn(u8);

/// Signals from the instance to the watchdog.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// All roles have ended.
    pub has_ended: Shutdown,
    /// A role ended without a request to stop.
    pub has_failed: Shutdown,
}

/// Watches the roles until all of them have ended.
pub fn watch(pulse: &Liveness, stop: &Shutdown, signals: &Signals, end: End) {
    watch_for(pulse, stop, signals, FINISH_WITHIN, end);
}

fn watch_for(
    pulse: &Liveness,
    stop: &Shutdown,
    signals: &Signals,
    finish_within: Duration,
    end: impl Fn(u8),
) {
    let has_ended = &signals.has_ended;
    let mut logged_at: Option<Instant> = None;
    let mut asked_at: Option<Instant> = None;
    let (mut checked_at, mut awake_since) = (clock::moment(), clock::moment());
    while !has_ended.is_requested() {
        thread::park_timeout(CHECK_EVERY);
        let now = clock::moment();
        if now.duration_since(checked_at) >= SLEPT {
            awake_since = now;
        }
        checked_at = now;
        if stop.is_requested() {
            let asked_at = *asked_at.get_or_insert(now);
            if now.duration_since(asked_at) >= finish_within {
                leave(pulse, signals, end);
                return;
            }
            // A requested stop must succeed in time, even if a role hangs.
            continue;
        }
        let is_due = logged_at.is_none_or(|s| now.duration_since(s) >= LOG_EVERY);
        for (role, vital) in pulse.read() {
            let silent_s = now.saturating_duration_since(vital.seen).as_secs();
            let doing = vital.activity.words();
            match judge(&vital, now, awake_since) {
                Verdict::Overdue if is_due => {
                    logged_at = Some(now);
                    warn!(role, doing, silent_s, "role is not making progress");
                }
                Verdict::Alive | Verdict::Overdue => {}
                Verdict::Hopeless => {
                    error!(
                        role,
                        doing,
                        silent_s,
                        "role hangs: exiting, so that a supervisor restarts the process"
                    );
                    end(1);
                    return;
                }
            }
        }
    }
}

/// Exits a process whose roles did not finish in time.
fn leave(pulse: &Liveness, signals: &Signals, end: impl Fn(u8)) {
    for (role, vital) in pulse.read() {
        if vital.activity != Activity::Ended {
            let doing = vital.activity.words();
            warn!(
                role,
                doing,
                "role did not stop in time: its open work is repeated from the committed offsets"
            );
        }
    }
    if !signals.has_ended.is_requested() {
        // The exit code must show if a role failed before the stop was requested.
        end(u8::from(signals.has_failed.is_requested()));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::{Signals, watch_for};
    use crate::kafka::process::liveness::{Activity, Liveness};
    use crate::kafka::process::shutdown::Shutdown;

    /// Returns the exit codes of a process that was asked to stop while its serving role hangs in a call.
    fn ended(signals: &Signals) -> Vec<u8> {
        let (pulse, stop) = (Liveness::default(), Shutdown::default());
        pulse.role("serving").report(Activity::Calling("commit"));
        stop.request();
        let codes = RefCell::new(Vec::new());
        watch_for(&pulse, &stop, signals, Duration::ZERO, |code| codes.borrow_mut().push(code));
        codes.into_inner()
    }

    #[test]
    fn who_was_asked_to_stop_ends_well_though_a_role_hangs_unless_one_failed() {
        let signals = Signals::default();
        assert_eq!(ended(&signals), [0]);
        signals.has_failed.request();
        assert_eq!(ended(&signals), [1]);
        // All roles have finished: the process ends by itself.
        signals.has_ended.request();
        assert_eq!(ended(&signals), Vec::<u8>::new());
    }
}
