//! One running instance: its roles and the watchdog over them.

pub mod run;
pub mod watchdog;
