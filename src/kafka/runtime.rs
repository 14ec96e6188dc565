//! An instance: its roles on threads of their own, each started anew when the world breaks, until it is asked to stop.

use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use crate::kafka::analysis;
use crate::kafka::control;
use crate::kafka::counts::Board;
use crate::kafka::error::ShellError;
use crate::kafka::options::RunOptions;
use crate::kafka::serving;
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
                let board = &board;
                scope.spawn(move || {
                    // However the role ends, also by a panic, the others must not go on without it.
                    let _others = StopOthers(stop);
                    keep_running(name, role, options, stop, board)
                })
            })
            .collect();
        let mut result = Ok(());
        for it in threads {
            let ended = it.join().unwrap_or_else(|_| {
                Err(ShellError::Missing("a role of the instance crashed; see the log above".to_owned()))
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

fn keep_running(
    name: &'static str,
    role: Role,
    options: &RunOptions,
    stop: &Stop,
    board: &Board,
) -> Result<(), ShellError> {
    let mut pause = PAUSE_MIN;
    loop {
        match role(options, stop, board) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_fenced() => {
                return Err(ShellError::Fenced { instance: options.instance.clone() });
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(role = name, %error, cause, pause_ms = pause.as_millis(), "starting the role anew");
            }
        }
        if stop.wait(pause) {
            return Ok(());
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
