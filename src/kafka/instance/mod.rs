//! One running instance: `run` starts and restarts the roles, `watchdog` exits the process if one hangs.

pub mod run;
pub mod watchdog;
