//! The command line, one file a command family.

pub mod dispatch;
pub mod global;

pub mod error;
mod log;
pub(crate) mod output;
pub(crate) mod say;

pub(crate) mod context;
pub(crate) mod decoded;
pub(crate) mod evidence;
#[cfg(test)]
mod fixtures_for_tests;
pub(crate) mod specs;
pub(crate) mod state;

pub mod names;

pub(crate) mod dead;

pub mod ask;

pub mod apply;
pub mod diff;
pub mod explain;
pub mod history;
pub mod inspect;
pub mod list;
pub mod plan;
pub mod replay;
pub mod report;
pub mod requeue;
pub mod schema;
pub mod simulate;
pub mod status;
pub mod tail;
pub mod topics;
pub mod validate;
pub mod verbs;
pub mod watch;

pub mod demo;
pub mod run;
pub mod worker;
