//! The command line, one file a command family.

pub mod args;
pub mod dispatch;

pub mod error;
mod log;
mod output;
mod say;

mod context;
mod specs;
mod state;

pub mod ask;

pub mod apply;
pub mod inspect;
pub mod list;
pub mod schema;
pub mod status;
pub mod tail;
pub mod topics;
pub mod validate;
pub mod verbs;
pub mod watch;

pub mod demo;
pub mod run;
pub mod worker;
