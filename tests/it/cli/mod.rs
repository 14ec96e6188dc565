//! Tests of the command line: `commands` runs every command, `names` resolves rollout names, `demo` runs the demo; `records` are their records.

pub(crate) mod commands;
pub(crate) mod demo;
pub(crate) mod names;
pub(crate) mod records;
