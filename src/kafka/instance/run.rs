//! An instance: its roles on threads of their own, each started anew when the world breaks, until it is asked to stop.

use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::kafka::analysis;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::instance_lease::InstanceLease;
use crate::kafka::control;
use crate::kafka::instance::watchdog::{self, End, Signals};
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::process::clock;
use crate::kafka::process::failpoints;
use crate::kafka::process::liveness::{Activity, Heartbeat};
use crate::kafka::process::metrics::MetricsRegistry;
use crate::kafka::process::shutdown::Shutdown;
use crate::kafka::serving;

/// The first pause after something broke; it doubles up to the last.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often it is said that the same does not work.
const SAY_EVERY: Duration = Duration::from_secs(30);

type Name = failpoints::Role;
type Role = fn(&RunOptions, &Shutdown, &MetricsRegistry) -> Result<(), ShellError>;

/// Runs the instance until `stop` is requested; `board` shows what it counts and does, `end` ends the process where a role hangs.
///
/// # Errors
/// Another process took the slot, or the instance was set up so that it can never work.
pub fn run(
    options: &RunOptions,
    stop: &Shutdown,
    board: &MetricsRegistry,
    end: End,
) -> Result<(), ShellError> {
    let signals = Signals::default();
    let roles: [(Name, bool, Role); 3] = [
        ("serving", options.serving, serving::role::serve),
        ("analysis", options.analysis, analysis::role::analyse),
        ("control", options.control, control::role::control),
    ];
    let slot = options.is_static.then(|| InstanceLease::new(&options.instance));
    info!(app = options.settings.app, instance = options.instance, "starting");
    thread::scope(|scope| {
        scope.spawn(|| watchdog::watch(&board.liveness, stop, &signals, end));
        // However this ends, also by a panic, nothing is left to be watched.
        let _watchdog = Request(&signals.has_ended);
        if let Some(slot) = &slot {
            insist("taking the instance's name", None, stop, || slot.take(&options.settings))?;
        }
        let threads: Vec<_> = roles
            .into_iter()
            .filter(|(_, is_wanted, _)| *is_wanted)
            .map(|(name, _, role)| {
                let (beat, slot) = (board.liveness.role(name), slot.as_ref());
                let has_failed = &signals.has_failed;
                beat.report(Activity::Starting);
                scope.spawn(move || {
                    // However the role ends, also by a panic, the others must not go on without it.
                    let _others = Request(stop);
                    let failure = Request(has_failed);
                    let ended = insist(name, Some(&beat), stop, || {
                        if let Some(slot) = slot {
                            slot.check(&options.settings)?;
                        }
                        role(options, stop, board)
                    });
                    beat.report(Activity::Ended);
                    if ended.is_ok() {
                        std::mem::forget(failure);
                    }
                    ended
                })
            })
            .collect();
        let mut result = Ok(());
        for it in threads {
            let ended = it.join().unwrap_or_else(|_| {
                Err(ShellError::Missing(
                    "a role of the instance crashed; see the log above".to_owned(),
                ))
            });
            if result.is_ok() {
                result = ended;
            }
        }
        for ((model, name), n) in board.counters() {
            info!(%model, name, n, "counted");
        }
        info!("stopped");
        result
    })
}

/// Sets a flag when it is dropped.
struct Request<'a>(&'a Shutdown);

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// Does something again and again until it is done, with pauses, until it is asked to stop.
fn insist(
    what: &'static str,
    beat: Option<&Heartbeat>,
    stop: &Shutdown,
    run: impl Fn() -> Result<(), ShellError>,
) -> Result<(), ShellError> {
    let mut pause = PAUSE_MIN;
    let mut said_at: Option<Instant> = None;
    loop {
        let began = clock::moment();
        if let Some(beat) = beat {
            beat.report(Activity::Starting);
        }
        match run() {
            Ok(()) => return Ok(()),
            Err(error @ ShellError::Fenced { .. }) => {
                // Said at once: another role may hold the end up until the watchdog comes.
                warn!(what, %error, "leaving");
                return Err(error);
            }
            Err(error) => {
                // What has worked for so long breaks for the first time again.
                if began.elapsed() > PAUSE_MAX {
                    (pause, said_at) = (PAUSE_MIN, None);
                }
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                if let Some(beat) = beat {
                    let why = cause
                        .as_ref()
                        .map_or_else(|| error.to_string(), |t| format!("{error}: {t}"));
                    beat.report(Activity::Pausing { why });
                }
                // What stays broken is a warning now and then, not each time.
                let is_due = said_at.is_none_or(|s| s.elapsed() >= SAY_EVERY);
                let pause_ms = pause.as_millis();
                if is_due {
                    said_at = Some(clock::moment());
                    warn!(what, %error, cause, pause_ms, "beginning anew");
                } else {
                    info!(what, %error, cause, pause_ms, "beginning anew");
                }
            }
        }
        if stop.wait(pause) {
            return Ok(());
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
