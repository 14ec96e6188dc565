//! An instance: its roles on threads of their own, each started anew when the world breaks, until it is asked to stop.

use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use crate::kafka::analysis;
use crate::kafka::clock;
use crate::kafka::control;
use crate::kafka::counts::Board;
use crate::kafka::error::ShellError;
use crate::kafka::options::RunOptions;
use crate::kafka::serving;
use crate::kafka::slot::Slot;
use crate::kafka::stop::Stop;

/// The first pause after something broke; it doubles up to the last.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

type Role = fn(&RunOptions, &Stop, &Board) -> Result<(), ShellError>;

/// Runs the instance until `stop` is requested.
///
/// # Errors
/// Another process took the slot, or the instance was set up so that it can never work.
pub fn run(options: &RunOptions, stop: &Stop) -> Result<(), ShellError> {
    let board = Board::default();
    let slot = options.is_static.then(|| Slot::new(&options.instance));
    if let Some(slot) = &slot {
        insist("taking the instance's name", stop, || slot.take(&options.settings))?;
    }
    let roles: [(&'static str, bool, Role); 3] = [
        ("serving", options.serving, serving::serve),
        ("analysis", options.analysis, analysis::analyse),
        ("control", options.control, control::control),
    ];
    info!(app = options.settings.app, instance = options.instance, "starting");
    thread::scope(|scope| {
        let threads: Vec<_> = roles
            .into_iter()
            .filter(|(_, is_wanted, _)| *is_wanted)
            .map(|(name, _, role)| {
                let (board, slot) = (&board, slot.as_ref());
                scope.spawn(move || {
                    // However the role ends, also by a panic, the others must not go on without it.
                    let _others = StopOthers(stop);
                    insist(name, stop, || {
                        if let Some(slot) = slot {
                            slot.check(&options.settings)?;
                        }
                        role(options, stop, board)
                    })
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
        for ((model, name), n) in board.read() {
            info!(%model, name, n, "counted");
        }
        info!("stopped");
        result
    })
}

struct StopOthers<'a>(&'a Stop);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// Does something again and again until it is done, with pauses, until it is asked to stop.
fn insist(
    what: &'static str,
    stop: &Stop,
    run: impl Fn() -> Result<(), ShellError>,
) -> Result<(), ShellError> {
    let mut pause = PAUSE_MIN;
    loop {
        let began = clock::moment();
        match run() {
            Ok(()) => return Ok(()),
            Err(error @ ShellError::Fenced { .. }) => return Err(error),
            Err(error) => {
                // What has worked for so long breaks for the first time again.
                if began.elapsed() > PAUSE_MAX {
                    pause = PAUSE_MIN;
                }
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(what, %error, cause, pause_ms = pause.as_millis(), "beginning anew");
            }
        }
        if stop.wait(pause) {
            return Ok(());
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
