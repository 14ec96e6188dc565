//! One instance: runs each role on a thread and restarts a role that fails, until a stop is requested.

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

/// First and last pause before a failed role restarts. The pause doubles in between.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Interval at which repeated failures are logged as a warning.
const LOG_EVERY: Duration = Duration::from_secs(30);

type Name = failpoints::Role;
type Role = fn(&RunOptions, &Shutdown, &MetricsRegistry) -> Result<(), ShellError>;

/// Runs the instance until `stop` is requested. `board` publishes its counters and activities; `end` exits the process if
/// a role hangs.
///
/// # Errors
/// Another process took over the instance name, or the configuration can never work.
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
        // However this scope ends, even by a panic, the watchdog must end with it.
        let _watchdog = Request(&signals.has_ended);
        if let Some(slot) = &slot {
            retry_with_backoff("take the instance name", None, stop, || {
                slot.take(&options.settings)
            })?;
        }
        let threads: Vec<_> = roles
            .into_iter()
            .filter(|(_, is_wanted, _)| *is_wanted)
            .map(|(name, _, role)| {
                let (heartbeat, slot) = (board.liveness.role(name), slot.as_ref());
                let has_failed = &signals.has_failed;
                heartbeat.report(Activity::Starting);
                scope.spawn(move || {
                    // However the role ends, even by a panic, the others must not run without it.
                    let _others = Request(stop);
                    let failure = Request(has_failed);
                    let ended = retry_with_backoff(name, Some(&heartbeat), stop, || {
                        if let Some(slot) = slot {
                            slot.check(&options.settings)?;
                        }
                        role(options, stop, board)
                    });
                    heartbeat.report(Activity::Ended);
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

/// Retries `run` with backoff until it succeeds, the instance is fenced, or a stop is requested.
fn retry_with_backoff(
    what: &'static str,
    heartbeat: Option<&Heartbeat>,
    stop: &Shutdown,
    run: impl Fn() -> Result<(), ShellError>,
) -> Result<(), ShellError> {
    let mut pause = PAUSE_MIN;
    let mut logged_at: Option<Instant> = None;
    loop {
        let began = clock::moment();
        if let Some(heartbeat) = heartbeat {
            heartbeat.report(Activity::Starting);
        }
        match run() {
            Ok(()) => return Ok(()),
            Err(error @ ShellError::Fenced { .. }) => {
                // Log at once: another role may delay the end until the watchdog exits the process.
                warn!(what, %error, "instance fenced: leaving");
                return Err(error);
            }
            Err(error) => {
                // It ran long enough to reset the backoff.
                if began.elapsed() > PAUSE_MAX {
                    (pause, logged_at) = (PAUSE_MIN, None);
                }
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                if let Some(heartbeat) = heartbeat {
                    let why = cause
                        .as_ref()
                        .map_or_else(|| error.to_string(), |t| format!("{error}: {t}"));
                    heartbeat.report(Activity::Pausing { why });
                }
                // A persistent failure is a warning every 30 s, not at every attempt.
                let is_due = logged_at.is_none_or(|s| s.elapsed() >= LOG_EVERY);
                let pause_ms = pause.as_millis();
                if is_due {
                    logged_at = Some(clock::moment());
                    warn!(what, %error, cause, pause_ms, "role restarting");
                } else {
                    info!(what, %error, cause, pause_ms, "role restarting");
                }
            }
        }
        if stop.wait(pause) {
            return Ok(());
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
