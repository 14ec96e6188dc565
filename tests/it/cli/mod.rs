//! The command line as its users meet it.

pub(crate) mod commands;
pub(crate) mod demo;
pub(crate) mod names;
