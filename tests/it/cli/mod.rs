//! Tests of the command line: `commands` runs every command, `names` resolves rollout names, `demo` runs the demo.

pub(crate) mod commands;
pub(crate) mod demo;
pub(crate) mod names;
