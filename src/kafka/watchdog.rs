//! Sees to it that no call of the client holds an instance up for ever: says where a role hangs, and ends the process where it must.
//!
//! Ending it is always right: what is open is in no committed offset, and whoever starts next takes it up from there.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use crate::kafka::clock;
use crate::kafka::pulse::{Activity, Pulse, Verdict, judge};
use crate::kafka::stop::Stop;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it says the same.
const SAY_EVERY: Duration = Duration::from_secs(30);
/// How long the roles have to finish when the instance is asked to stop: less than the 25 s that are promised.
const FINISH_WITHIN: Duration = Duration::from_secs(20);

/// Watches the roles until all of them have ended; `has_ended` says so.
pub fn watch(pulse: &Pulse, stop: &Stop, has_ended: &Stop) {
    let mut said_at: Option<Instant> = None;
    let mut asked_at: Option<Instant> = None;
    while !has_ended.is_requested() {
        thread::park_timeout(LOOK_EVERY);
        let now = clock::moment();
        if stop.is_requested() {
            let asked_at = *asked_at.get_or_insert(now);
            if now.duration_since(asked_at) >= FINISH_WITHIN {
                leave(pulse, has_ended);
            }
        }
        let is_due = said_at.is_none_or(|it| now.duration_since(it) >= SAY_EVERY);
        for (role, vital) in pulse.read() {
            let silent_s = now.saturating_duration_since(vital.seen).as_secs();
            let doing = vital.activity.words();
            match judge(&vital, now) {
                Verdict::Alive => {}
                Verdict::Overdue if is_due => {
                    said_at = Some(now);
                    warn!(role, doing, silent_s, "a role does not come round");
                }
                Verdict::Overdue => {}
                Verdict::Hopeless => {
                    error!(
                        role,
                        doing, silent_s, "a role hangs; the process ends, to be started anew"
                    );
                    process::exit(1);
                }
            }
        }
    }
}

/// Ends a process whose roles do not finish in time.
fn leave(pulse: &Pulse, has_ended: &Stop) {
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
    if !has_ended.is_requested() {
        process::exit(0);
    }
}
