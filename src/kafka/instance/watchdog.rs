//! Sees to it that no call of the client holds an instance up for ever: says where a role hangs, and ends the process where it must.
//!
//! Ending it is always right: what is open is in no committed offset, and whoever starts next takes it up from there.

use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use crate::kafka::process::clock;
use crate::kafka::process::liveness::{Activity, Liveness, Verdict, judge};
use crate::kafka::process::shutdown::Shutdown;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Who looks so late slept, and everybody else did too.
const SLEPT: Duration = Duration::from_secs(10);
/// How often it says the same.
const SAY_EVERY: Duration = Duration::from_secs(30);
/// How long the roles have to finish when the instance is asked to stop: less than the 25 s that are promised.
const FINISH_WITHIN: Duration = Duration::from_secs(20);

/// Ends the process with an exit code, whatever its threads do.
pub type End = fn(u8);

/// What the watchdog is told by the instance.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// All roles have ended.
    pub has_ended: Shutdown,
    /// A role ended for another reason than that it was asked to.
    pub has_failed: Shutdown,
}

/// Watches the roles until all of them have ended.
pub fn watch(pulse: &Liveness, stop: &Shutdown, signals: &Signals, end: End) {
    watch_for(pulse, stop, signals, FINISH_WITHIN, end);
}

/// The same, for roles that have so long to finish.
fn watch_for(
    pulse: &Liveness,
    stop: &Shutdown,
    signals: &Signals,
    finish_within: Duration,
    end: impl Fn(u8),
) {
    let has_ended = &signals.has_ended;
    let mut said_at: Option<Instant> = None;
    let mut asked_at: Option<Instant> = None;
    let (mut looked_at, mut awake_since) = (clock::moment(), clock::moment());
    while !has_ended.is_requested() {
        thread::park_timeout(LOOK_EVERY);
        let now = clock::moment();
        if now.duration_since(looked_at) >= SLEPT {
            awake_since = now;
        }
        looked_at = now;
        if stop.is_requested() {
            let asked_at = *asked_at.get_or_insert(now);
            if now.duration_since(asked_at) >= finish_within {
                leave(pulse, signals, end);
                return;
            }
            // Whoever asked it to stop has its word that it ends in time and well, also where a role hangs.
            continue;
        }
        let is_due = said_at.is_none_or(|s| now.duration_since(s) >= SAY_EVERY);
        for (role, vital) in pulse.read() {
            let silent_s = now.saturating_duration_since(vital.seen).as_secs();
            let doing = vital.activity.words();
            match judge(&vital, now, awake_since) {
                Verdict::Overdue if is_due => {
                    said_at = Some(now);
                    warn!(role, doing, silent_s, "a role does not come round");
                }
                Verdict::Alive | Verdict::Overdue => {}
                Verdict::Hopeless => {
                    error!(
                        role,
                        doing, silent_s, "a role hangs; the process ends, to be started anew"
                    );
                    end(1);
                    return;
                }
            }
        }
    }
}

/// Ends a process whose roles do not finish in time.
fn leave(pulse: &Liveness, signals: &Signals, end: impl Fn(u8)) {
    for (role, vital) in pulse.read() {
        if vital.activity != Activity::Ended {
            let doing = vital.activity.words();
            warn!(
                role,
                doing,
                "a role did not finish in time; what it had open is taken up again from the committed offsets"
            );
        }
    }
    if !signals.has_ended.is_requested() {
        // Whoever watches the process must see that it did not end because it was asked to.
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

    /// The exit codes by which a process was ended that was asked to stop, and whose serving never comes back from a call.
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
